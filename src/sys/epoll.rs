//! epoll(7), edge-triggered, and what ends its sleep besides lanes: eventfd(2) and timerfd_create(2).

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll as Set, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::Errno;

/// Most descriptors told at a time; the others are told next time.
const BATCH: usize = 64;

/// A set of descriptors that tells which of them became readable or hung up, once each time.
pub(crate) struct Epoll(Set);

impl Epoll {
    pub(crate) fn new() -> Result<Self, Errno> {
        Set::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Tells of `descriptor` as `key`, at once if it is readable.
    pub(crate) fn add(&self, descriptor: BorrowedFd<'_>, key: u64) -> Result<(), Errno> {
        self.0.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, key))
    }

    /// Tells of its end only, until [`unmute`](Self::unmute).
    pub(crate) fn mute(&self, descriptor: BorrowedFd<'_>, key: u64) {
        let _ = self.0.modify(descriptor, &mut EpollEvent::new(EpollFlags::EPOLLET, key)); // fails only if not added
    }

    /// Tells of it again, at once if it is readable.
    pub(crate) fn unmute(&self, descriptor: BorrowedFd<'_>, key: u64) {
        let _ = self.0.modify(descriptor, &mut EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, key));
    }

    pub(crate) fn delete(&self, descriptor: BorrowedFd<'_>) {
        let _ = self.0.delete(descriptor); // fails only if not added
    }

    /// Adds the keys of what became ready to `found`. Sleeps until there are some, a signal comes or `timeout` is over.
    pub(crate) fn wait(&self, found: &mut Vec<u64>, timeout: Duration) -> Result<(), Errno> {
        let mut events = [EpollEvent::empty(); BATCH];
        // Rounded up: a wait must not return before its deadline and then be repeated with zero.
        let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32;
        match self.0.wait(&mut events, EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)) {
            Ok(count) => found.extend(events[..count].iter().map(EpollEvent::data)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

/// Ends the sleep of an [`Epoll`] from any thread. It is never read: each write is an edge.
pub(crate) struct WakeUp(EventFd);

impl WakeUp {
    pub(crate) fn new() -> Result<Self, Errno> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Self)
    }

    pub(crate) fn ring(&self) {
        let _ = self.0.write(1); // a counter that is full, after 2^64 writes, could not be written
    }
}

impl AsFd for WakeUp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Ends the sleep of an [`Epoll`] after a time. It is never read: each expiry is an edge.
pub(crate) struct Alarm(TimerFd);

impl Alarm {
    pub(crate) fn new() -> Result<Self, Errno> {
        TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK).map(Self)
    }

    /// Instead of whatever was set before; `None` for never.
    pub(crate) fn set(&self, after: Option<Duration>) {
        // Zero would mean never. A time that is too far away for the kernel is never.
        let result = match after {
            Some(after) => {
                let after = TimeSpec::from_duration(after.clamp(Duration::from_nanos(1), Duration::from_secs(1 << 30)));
                self.0.set(Expiration::OneShot(after), TimerSetTimeFlags::empty())
            }
            None => self.0.unset(),
        };
        debug_assert!(result.is_ok());
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
