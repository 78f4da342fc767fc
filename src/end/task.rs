//! The tasks that wait for the halves of a port, and the wake-ups that one half reads for the other.
//!
//! The halves share one lane, and either may read a packet that is for the other. A thread sleeps on the doorbell's futex
//! and is woken there; a task leaves its waker here.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use super::lane::Doorbell;

/// The tasks of both halves. A half is named by the doorbell on which it sleeps: `Data` is the receiving half, `Space` the
/// sending half.
#[derive(Default)]
pub(crate) struct Tasks {
    receiver: Half,
    sender: Half,
}

#[derive(Default)]
struct Half {
    waker: Mutex<Option<Waker>>,
    /// Packets that an honest peer may still send: one for each arming of the doorbell. Relaxed throughout: a count, which
    /// publishes nothing.
    asked: AtomicU32,
    /// Packets that this half has read beyond those. Relaxed throughout: a count.
    unasked: AtomicU32,
}

impl Tasks {
    fn half(&self, doorbell: Doorbell) -> &Half {
        match doorbell {
            Doorbell::Data => &self.receiver,
            Doorbell::Space => &self.sender,
        }
    }

    /// Takes note of a wake-up for `doorbell` that half `reader` has read, and wakes the other half's task.
    pub(crate) fn heard(&self, doorbell: Doorbell, reader: Doorbell) {
        let asked = &self.half(doorbell).asked;
        if asked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).is_err() {
            self.half(reader).unasked.fetch_add(1, Ordering::Relaxed);
        }
        if doorbell != reader {
            self.wake(doorbell);
        }
    }

    /// Wakes the task of a half, if one waits.
    pub(crate) fn wake(&self, doorbell: Doorbell) {
        let waker = self.half(doorbell).waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Not under the lock: waking may run the task.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(feature = "tokio")]
impl Tasks {
    /// Leaves the task to wake for a half. The half checks once more for what it waits for, and then sleeps.
    pub(crate) fn leave(&self, doorbell: Doorbell, waker: &Waker) {
        let mut slot = self.half(doorbell).waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Some(old) => old.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Removes the task.
    pub(crate) fn forget(&self, doorbell: Doorbell) {
        let waker = self.half(doorbell).waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(waker); // not under the lock: dropping it may drop the task
    }

    /// Allows the peer one packet more, since the doorbell is armed.
    pub(crate) fn ask(&self, doorbell: Doorbell) {
        self.half(doorbell).asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Packets beyond those allowed that this half has read since the last call.
    pub(crate) fn take_unasked(&self, reader: Doorbell) -> u32 {
        self.half(reader).unasked.swap(0, Ordering::Relaxed)
    }
}
