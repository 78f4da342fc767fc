//! The tasks that wait for the halves of a port, and the wake-ups that one half reads for the other.
//!
//! The halves share one lane, and either may read a packet that is for the other. A thread sleeps on the doorbell's
//! futex and is woken there; a task leaves its waker here.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use super::lane::Half;

/// The tasks of both halves.
#[derive(Default)]
pub(crate) struct Tasks {
    receiver: Sleeper,
    sender: Sleeper,
}

#[derive(Default)]
struct Sleeper {
    waker: Mutex<Option<Waker>>,
    /// Packets that an honest peer may still send: one for each arming of the doorbell. Relaxed throughout: a count,
    /// which publishes nothing.
    allowed: AtomicU32,
    /// Packets that this half has read beyond those. Relaxed throughout: a count.
    excess: AtomicU32,
}

impl Tasks {
    fn of(&self, half: Half) -> &Sleeper {
        match half {
            Half::Receiver => &self.receiver,
            Half::Sender => &self.sender,
        }
    }

    /// Takes note of a wake-up for `half` that half `reader` has read, and wakes the other half's task.
    pub(crate) fn on_wake_up(&self, half: Half, reader: Half) {
        let allowed = &self.of(half).allowed;
        if allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).is_err() {
            self.of(reader).excess.fetch_add(1, Ordering::Relaxed);
        }
        if half != reader {
            self.wake(half);
        }
    }

    /// Wakes the task of a half, if one waits.
    pub(crate) fn wake(&self, half: Half) {
        let waker = self.of(half).waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Not under the lock: waking may run the task.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(feature = "tokio")]
impl Tasks {
    /// Leaves the task to wake for a half. The half checks once more for what it waits for, and then sleeps.
    pub(crate) fn leave(&self, half: Half, waker: &Waker) {
        let mut slot = self.of(half).waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Some(old) => old.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Removes the task.
    pub(crate) fn forget(&self, half: Half) {
        let waker = self.of(half).waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(waker); // not under the lock: dropping it may drop the task
    }

    /// Allows the peer one packet more, since the doorbell is armed.
    pub(crate) fn allow(&self, half: Half) {
        self.of(half).allowed.fetch_add(1, Ordering::Relaxed);
    }

    /// Packets beyond those allowed that this half has read since the last call.
    pub(crate) fn take_excess(&self, reader: Half) -> u32 {
        self.of(reader).excess.swap(0, Ordering::Relaxed)
    }
}
