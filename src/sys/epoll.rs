//! epoll(7), and two descriptors that end its sleep: eventfd(2) and timerfd_create(2).

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll as Set, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::standard::above_standard;
use super::{Errno, millis};

/// Most descriptors, 64, that one [`Epoll::wait`] reports; the kernel reports the others at the next wait.
const BATCH: usize = 64;

/// What a descriptor is ready for, or watched for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Readiness {
    /// It can be read, or accepts a connection, or its other side has hung up.
    pub readable: bool,
    /// It can be written, or its other side has hung up.
    pub writable: bool,
}

impl Readiness {
    /// Nothing: only a hang-up or an error is reported.
    pub(crate) const NONE: Self = Self { readable: false, writable: false };
    /// Readable.
    pub const READABLE: Self = Self { readable: true, writable: false };
    /// Writable.
    pub const WRITABLE: Self = Self { readable: false, writable: true };
    /// Readable or writable.
    pub const BOTH: Self = Self { readable: true, writable: true };

    /// Without what `interest` does not contain.
    pub(crate) fn masked(self, interest: Self) -> Self {
        Self { readable: self.readable && interest.readable, writable: self.writable && interest.writable }
    }

    fn flags(self) -> EpollFlags {
        let flag = |set, flag| if set { flag } else { EpollFlags::empty() };
        flag(self.readable, EpollFlags::EPOLLIN) | flag(self.writable, EpollFlags::EPOLLOUT)
    }

    fn of(flags: EpollFlags) -> Self {
        let has = |flag| flags.intersects(flag | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        Self { readable: has(EpollFlags::EPOLLIN), writable: has(EpollFlags::EPOLLOUT) }
    }
}

/// A set of descriptors, each with a key, that reports which of them became readable or were hung up.
pub(crate) struct Epoll(Set);

impl Epoll {
    /// A new set, closed on exec (epoll_create1(2)).
    pub(crate) fn new() -> Result<Self, Errno> {
        let Set(descriptor) = Set::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self(Set(above_standard(descriptor)?)))
    }

    /// Adds `descriptor` edge-triggered (epoll_ctl(2)): reports `key` once each time it becomes readable, and at the
    /// next wait if it is readable already.
    pub(crate) fn add(&self, descriptor: BorrowedFd<'_>, key: u64) -> Result<(), Errno> {
        self.0.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, key))
    }

    /// Adds `descriptor` level-triggered: reports `key` at every wait while it is readable.
    pub(crate) fn add_level(&self, descriptor: BorrowedFd<'_>, key: u64) -> Result<(), Errno> {
        self.0.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, key))
    }

    /// Adds `descriptor` level-triggered, for whatever of `interest` it is ready for.
    pub(crate) fn add_watch(&self, descriptor: BorrowedFd<'_>, interest: Readiness, key: u64) -> Result<(), Errno> {
        self.0.add(descriptor, EpollEvent::new(interest.flags(), key))
    }

    /// Changes what a descriptor is reported for.
    pub(crate) fn change_watch(&self, descriptor: BorrowedFd<'_>, interest: Readiness, key: u64) {
        let _ = self.0.modify(descriptor, &mut EpollEvent::new(interest.flags(), key)); // fails only if not added
    }

    /// Limits the reports of an edge-triggered descriptor to its hang-up, until [`unmute`](Self::unmute).
    pub(crate) fn mute(&self, descriptor: BorrowedFd<'_>, key: u64) {
        let _ = self.0.modify(descriptor, &mut EpollEvent::new(EpollFlags::EPOLLET, key)); // fails only if not added
    }

    /// Ends [`mute`](Self::mute): reports `key` at the next wait if the descriptor is readable.
    pub(crate) fn unmute(&self, descriptor: BorrowedFd<'_>, key: u64) {
        let _ = self.0.modify(descriptor, &mut EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, key));
    }

    /// Removes `descriptor`.
    pub(crate) fn delete(&self, descriptor: BorrowedFd<'_>) {
        let _ = self.0.delete(descriptor); // fails only if not added
    }

    /// Appends the keys of ready descriptors to `found` (epoll_wait(2)). Sleeps until a descriptor is ready, a signal
    /// arrives or `timeout` is over. True if a signal ended the sleep.
    pub(crate) fn wait(&self, found: &mut Vec<u64>, timeout: Duration) -> Result<bool, Errno> {
        self.wait_with(timeout, |key, _| found.push(key))
    }

    /// As [`wait`](Self::wait), with what each descriptor is ready for.
    pub(crate) fn wait_with(&self, timeout: Duration, mut found: impl FnMut(u64, Readiness)) -> Result<bool, Errno> {
        let mut events = [EpollEvent::empty(); BATCH];
        match self.0.wait(&mut events, EpollTimeout::try_from(millis(timeout)).unwrap_or(EpollTimeout::MAX)) {
            Ok(count) => events[..count].iter().for_each(|event| found(event.data(), Readiness::of(event.events()))),
            Err(Errno::EINTR) => return Ok(true),
            Err(errno) => return Err(errno),
        }
        Ok(false)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

/// Ends the sleep of an [`Epoll`] or a poll(2) from any thread (eventfd(2)). In an [`Epoll`] every write is an edge,
/// and nothing reads the counter; in a poll(2) the descriptor stays readable until [`silence`](Self::silence).
pub(crate) struct WakeUp(EventFd);

impl WakeUp {
    /// A new eventfd, closed on exec and non-blocking.
    pub(crate) fn new() -> Result<Self, Errno> {
        let made = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let moved = above_standard(made.into())?;
        // SAFETY: the descriptor is that of the eventfd above, or a duplicate of it.
        Ok(Self(unsafe { EventFd::from_owned_fd(moved) }))
    }

    /// Wakes the sleeper. Async-signal-safe (signal-safety(7)).
    pub(crate) fn ring(&self) {
        let _ = self.0.write(1); // fails only once the counter is full, after 2^64 - 1 writes
    }

    /// Makes the descriptor unreadable again.
    pub(crate) fn silence(&self) {
        let _ = self.0.read(); // fails only if it is unreadable already
    }
}

impl AsFd for WakeUp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Ends the sleep of an [`Epoll`] after a time (timerfd_create(2)). Nothing reads its counter: every expiry is an edge.
pub(crate) struct Alarm(TimerFd);

impl Alarm {
    /// A new timer that is not set, closed on exec and non-blocking.
    pub(crate) fn new() -> Result<Self, Errno> {
        let made = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let moved = above_standard(made.into())?;
        // SAFETY: the descriptor is that of the timer above, or a duplicate of it.
        Ok(Self(unsafe { TimerFd::from_owned_fd(moved) }))
    }

    /// Sets the timer to expire once, `after` from now, in place of an earlier setting; `None` stops it
    /// (timerfd_settime(2)).
    pub(crate) fn set(&self, after: Option<Duration>) {
        let result = match after {
            Some(after) => {
                // At least 1 ns, because zero would stop the timer; at most 2^30 s, about 34 years, which the kernel
                // accepts.
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
