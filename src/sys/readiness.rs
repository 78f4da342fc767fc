//! A descriptor that a tokio runtime watches edge-triggered (`EPOLLET` of epoll(7)).

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::fork::Home;
use super::io_error;

/// A type with one descriptor, which stays open, under the same number, for as long as the value lives.
pub(crate) trait OneDescriptor: AsFd {}

impl<T: OneDescriptor + ?Sized> OneDescriptor for std::sync::Arc<T> {}

/// The registration of `T`'s descriptor with a runtime, which reports when the descriptor becomes readable.
pub(crate) struct Readiness<T> {
    // The order matters: the registration ends before the descriptor is closed.
    registration: Registration,
    owner: T,
}

/// A registration. A forked child forgets it: the epoll set is that of its parent, and a thread that does not exist in
/// the child may hold the locks of the runtime.
struct Registration {
    number: ManuallyDrop<AsyncFd<Number>>,
    home: Home,
}

/// The number of a descriptor that `Readiness` owns.
struct Number(RawFd);

impl AsRawFd for Number {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.home.is_here() {
            // SAFETY: `number` is dropped here only, and not used afterwards, since `self` is being dropped.
            unsafe { ManuallyDrop::drop(&mut self.number) };
        }
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
        let number = Number(owner.as_fd().as_raw_fd());
        let register = || {
            let home = Home::here().map_err(io_error)?;
            // SAFETY: the descriptor must stay open and the same during the registration. `OneDescriptor` promises both
            // for as long as `owner` lives, and the owner outlives the registration.
            let number = unsafe { AsyncFd::register_with_interest(number, Interest::READABLE) }?;
            Ok(Registration { number: ManuallyDrop::new(number), home })
        };
        match register() {
            Ok(registration) => Ok(Self { registration, owner }),
            Err(error) => Err((owner, error)),
        }
    }

    /// Takes the edge since the last call. `Pending`: there was none, and the next one wakes the waker of the latest
    /// call. So a caller checks its condition after this call, not before.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<Edge>> {
        let mut guard = ready!(self.registration.number.poll_read_ready(context))?;
        let closed = guard.ready().is_read_closed();
        guard.clear_ready();
        Poll::Ready(Ok(if closed { Edge::Closed } else { Edge::Readable }))
    }

    /// The owner of the descriptor.
    pub(crate) fn get_ref(&self) -> &T {
        &self.owner
    }

    /// Does what [`poll`](Self::poll) does, for an owner that is not `Sync`.
    pub(crate) fn poll_mut(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Edge>> {
        self.poll(context)
    }

    /// The owner of the descriptor.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        &mut self.owner
    }

    /// Ends the registration.
    pub(crate) fn into_inner(self) -> T {
        self.owner
    }
}
