//! Ending a wait from another thread.
//!
//! An interrupt is a flag that the next check of a waiting half takes. The flag is set first; then the half is woken in
//! whichever way it sleeps: in futex(2) by its doorbell, in poll(2) by a bell, an eventfd beside the lane. The
//! doorbell's sequence (`queue/doorbell.rs`) keeps a half from falling asleep past a flag. A half that does not wait is
//! not disturbed: its next wait takes the flag.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::End;
use super::lane::Half;
use crate::queue::doorbell;
use crate::sys::Errno;
use crate::sys::epoll::WakeUp;
use crate::sys::fork::Home;

/// Flag of an interrupt that either half takes.
pub(crate) const WHOLE: u8 = 1 << 2;

/// Flag of an interrupt that one half takes.
pub(crate) const fn flag_of(half: Half) -> u8 {
    1 << half as u8
}

/// The interrupts of an end, or of a set.
#[derive(Default)]
pub(crate) struct Interrupts {
    /// `WHOLE` and `flag_of` the halves. SeqCst: in one order with the doorbells, as the ring of a waker is.
    wanted: AtomicU8,
    /// `flag_of` the halves whose waits a signal ends. Relaxed: a setting, which orders nothing.
    signals: AtomicU8,
    /// For the receiving and the sending half: what wakes it in poll(2). Made with the first interrupter.
    bells: [OnceLock<WakeUp>; 2],
}

impl Interrupts {
    /// True if the next check of `half` is to end its wait.
    #[inline]
    pub(crate) fn is_wanted(&self, half: Half) -> bool {
        self.wanted.load(Ordering::SeqCst) & (WHOLE | flag_of(half)) != 0
    }

    /// Takes an interrupt of `half`, if there is one.
    pub(crate) fn take(&self, half: Half) -> bool {
        let mine = WHOLE | flag_of(half);
        self.is_wanted(half) && self.wanted.fetch_and(!mine, Ordering::SeqCst) & mine != 0
    }

    /// What wakes `half` in poll(2), if there is an interrupter.
    pub(crate) fn bell(&self, half: Half) -> Option<&WakeUp> {
        self.bells[half as usize].get()
    }

    /// Sets whether a signal ends a wait of `half`.
    pub(crate) fn set_by_signal(&self, half: Half, ends: bool) {
        if ends {
            self.signals.fetch_or(flag_of(half), Ordering::Relaxed);
        } else {
            self.signals.fetch_and(!flag_of(half), Ordering::Relaxed);
        }
    }

    /// True if a signal ends a wait of `half`.
    pub(crate) fn by_signal(&self, half: Half) -> bool {
        self.signals.load(Ordering::Relaxed) & flag_of(half) != 0
    }

    /// Makes the bells of the halves that `flags` reach.
    pub(crate) fn prepare(&self, flags: u8) -> Result<(), Errno> {
        for half in [Half::Receiver, Half::Sender] {
            let bell = &self.bells[half as usize];
            if flags & (WHOLE | flag_of(half)) != 0 && bell.get().is_none() {
                let _ = bell.set(WakeUp::new()?); // another thread may have set one
            }
        }
        Ok(())
    }

    fn interrupt(&self, flags: u8) {
        self.wanted.fetch_or(flags, Ordering::SeqCst);
        for half in [Half::Receiver, Half::Sender] {
            if flags & (WHOLE | flag_of(half)) != 0
                && let Some(bell) = self.bell(half)
            {
                bell.ring();
            }
        }
    }
}

/// Ends a wait of another thread, which then returns `Interrupted`: a receive, a post that waits for space, a wait for
/// an answer, a wait for the end of the peer, a wait of a set.
///
/// [`MessagePort::interrupter`](crate::MessagePort::interrupter),
/// [`SendHalf::interrupter`](crate::SendHalf::interrupter), [`RecvHalf::interrupter`](crate::RecvHalf::interrupter),
/// [`Client::interrupter`](crate::Client::interrupter), [`Server::interrupter`](crate::Server::interrupter) and
/// [`PortSet::interrupter`](crate::PortSet::interrupter) make one. An event loop has a
/// [`LoopHandle`](crate::LoopHandle) instead.
///
/// An interrupt ends one wait: the one that is under way or, if no thread waits, the next one. So it does not get lost
/// between a thread's decision to wait and the wait. Several interrupts before that count as one. A call that need not
/// wait, since there is a message, space or the end of the peer, succeeds or reports the end, and leaves the interrupt
/// for the next wait. Calls that never wait, such as [`try_recv`](crate::MessagePort::try_recv), ignore it.
///
/// Nothing is lost by an interrupt: no message, and nothing of what was to be posted. The next call goes on.
///
/// An interrupter keeps nothing alive. Once the port is closed, transferred or dropped, and in a forked child, it does
/// nothing.
#[derive(Clone)]
pub struct Interrupter {
    interrupts: Arc<Interrupts>,
    flags: u8,
    /// Dangling for a set.
    end: Weak<End>,
    home: Home,
}

impl Interrupter {
    /// Of the waits that take one of `flags` from `interrupts`.
    pub(crate) fn new(interrupts: &Arc<Interrupts>, flags: u8, end: Weak<End>) -> Result<Self, Errno> {
        let home = Home::here()?;
        interrupts.prepare(flags)?;
        Ok(Self { interrupts: Arc::clone(interrupts), flags, end, home })
    }

    /// Ends the present wait or, if no thread waits, the next one.
    ///
    /// Async-signal-safe (signal-safety(7)) as long as the port or the set is not dropped at the same time by another
    /// thread: a handler of `SIGINT` may call it.
    pub fn interrupt(&self) {
        if !self.home.is_here() {
            return;
        }
        self.interrupts.interrupt(self.flags);
        if let Some(end) = self.end.upgrade() {
            end.wake_interrupted(self.flags);
        }
    }
}

impl fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupter").finish_non_exhaustive()
    }
}

impl End {
    /// Wakes the halves that `flags` reach from futex(2). An end that lives on elsewhere is not touched.
    fn wake_interrupted(&self, flags: u8) {
        if !matches!(self.state(), super::State::Open | super::State::PeerClosed | super::State::PeerDied) {
            return;
        }
        if flags & (WHOLE | flag_of(Half::Receiver)) != 0 {
            doorbell::interrupt(self.incoming().data_doorbell());
        }
        if flags & (WHOLE | flag_of(Half::Sender)) != 0 {
            doorbell::interrupt(self.outgoing().space_doorbell());
        }
    }
}

// Other threads interrupt.
const _: fn() = || {
    fn is_for_all_threads<T: Send + Sync + Clone + 'static>() {}
    is_for_all_threads::<Interrupter>();
};
