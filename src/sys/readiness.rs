//! A descriptor that a tokio runtime watches edge-triggered (`EPOLLET` of epoll(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A type with one descriptor, which stays open, under the same number, for as long as the value lives.
pub(crate) trait OneDescriptor: AsFd {}

impl<T: OneDescriptor + ?Sized> OneDescriptor for std::sync::Arc<T> {}

/// The registration of `T`'s descriptor with a runtime, which reports when the descriptor becomes readable.
pub(crate) struct Readiness<T>(AsyncFd<Watched<T>>);

struct Watched<T> {
    number: RawFd,
    owner: T,
}

impl<T> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.number
    }
}

/// An event since the last call of [`Readiness::poll`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Edge {
    /// The descriptor became readable.
    Readable,
    /// The other side has closed. Every later call returns this too.
    Closed,
}

impl<T: OneDescriptor> Readiness<T> {
    /// Registers with the current runtime, which must drive I/O. An error returns `owner`.
    pub(crate) fn new(owner: T) -> Result<Self, (T, io::Error)> {
        let watched = Watched { number: owner.as_fd().as_raw_fd(), owner };
        // SAFETY: the descriptor must stay open and the same during the registration. `OneDescriptor` promises both for
        // as long as `owner` lives, and `owner` lives in the registration.
        let registered = unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) };
        registered.map(Self).map_err(|failed| {
            let (watched, error) = failed.into_parts();
            (watched.owner, error)
        })
    }

    /// Takes the edge since the last call. `Pending`: there was none, and the next one wakes the waker of the latest
    /// call. So a caller checks its condition after this call, not before.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<Edge>> {
        let mut guard = ready!(self.0.poll_read_ready(context))?;
        let closed = guard.ready().is_read_closed();
        guard.clear_ready();
        Poll::Ready(Ok(if closed { Edge::Closed } else { Edge::Readable }))
    }

    /// The owner of the descriptor.
    pub(crate) fn get_ref(&self) -> &T {
        &self.0.get_ref().owner
    }

    /// Does what [`poll`](Self::poll) does, for an owner that is not `Sync`.
    pub(crate) fn poll_mut(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Edge>> {
        self.poll(context)
    }

    /// The owner of the descriptor.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        &mut self.0.get_mut().owner
    }

    /// Ends the registration.
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().owner
    }
}
