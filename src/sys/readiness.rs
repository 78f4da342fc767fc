//! A descriptor that a tokio runtime watches, by edges: `EPOLLET` of epoll(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Something with one descriptor, which stays open and the same for as long as it lives.
pub(crate) trait OneDescriptor: AsFd {}

impl<T: OneDescriptor + ?Sized> OneDescriptor for std::sync::Arc<T> {}

/// Watches whether the descriptor of `T` becomes readable.
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

/// What has happened since the last call of [`Readiness::poll`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Edge {
    /// Something came that may be read.
    Readable,
    /// Nothing will come any more. This stays.
    Closed,
}

impl<T: OneDescriptor> Readiness<T> {
    /// Registers with the runtime that the caller runs in, which must drive I/O; gives `owner` back on a shortage.
    pub(crate) fn new(owner: T) -> Result<Self, (T, io::Error)> {
        let watched = Watched { number: owner.as_fd().as_raw_fd(), owner };
        // SAFETY: the number is that of a descriptor of `owner`, which keeps it open and the same (`OneDescriptor`) and
        // lives in the registration.
        let registered = unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) };
        registered.map(Self).map_err(|failed| {
            let (watched, error) = failed.into_parts();
            (watched.owner, error)
        })
    }

    /// Whether there was an edge, which is then forgotten. `Pending`: the next one wakes the waker, the last that was
    /// given. So look at what is waited for after this and not before.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<Edge>> {
        let mut guard = ready!(self.0.poll_read_ready(context))?;
        let closed = guard.ready().is_read_closed();
        guard.clear_ready();
        Poll::Ready(Ok(if closed { Edge::Closed } else { Edge::Readable }))
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.0.get_ref().owner
    }

    /// As [`poll`](Self::poll), for an owner that must not be shared between threads.
    pub(crate) fn poll_mut(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Edge>> {
        self.poll(context)
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        &mut self.0.get_mut().owner
    }

    /// Watches no more.
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().owner
    }
}
