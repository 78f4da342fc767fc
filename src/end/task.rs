//! The tasks that wait for the halves of a port, and how they hear of a wake-up that the other half has read.
//!
//! The halves share one lane, and either may find a packet there that is for the other. Threads sleep on the doorbell's
//! futex and are woken by it; tasks leave their waker here.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use super::lane::Doorbell;

/// By the doorbell on which the half sleeps: `Data` is the receiving half, `Space` the sending one.
#[derive(Default)]
pub(crate) struct Tasks {
    receiver: Half,
    sender: Half,
}

#[derive(Default)]
struct Half {
    waker: Mutex<Option<Waker>>,
    /// Packets that an honest peer may still send: one each time the doorbell was armed. Relaxed, as below: counts.
    asked: AtomicU32,
    /// Packets that this half has read and nobody had asked for.
    unasked: AtomicU32,
}

impl Tasks {
    fn half(&self, doorbell: Doorbell) -> &Half {
        match doorbell {
            Doorbell::Data => &self.receiver,
            Doorbell::Space => &self.sender,
        }
    }

    /// The half that reads the lane, `reader`, has found a wake-up for `doorbell`.
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
        // Not under the lock: it may run the task.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(feature = "tokio")]
impl Tasks {
    /// The task to be woken for a half. Whoever leaves it looks once more before it sleeps.
    pub(crate) fn leave(&self, doorbell: Doorbell, waker: &Waker) {
        let mut place = self.half(doorbell).waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *place {
            Some(old) => old.clone_from(waker),
            None => *place = Some(waker.clone()),
        }
    }

    /// Takes the task away again.
    pub(crate) fn forget(&self, doorbell: Doorbell) {
        let waker = self.half(doorbell).waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(waker); // not under the lock: it may drop the task
    }

    /// The doorbell is armed, and so one packet will be welcome.
    pub(crate) fn ask(&self, doorbell: Doorbell) {
        self.half(doorbell).asked.fetch_add(1, Ordering::Relaxed);
    }

    /// How many unasked packets this half has read since it was last asked here.
    pub(crate) fn take_unasked(&self, reader: Doorbell) -> u32 {
        self.half(reader).unasked.swap(0, Ordering::Relaxed)
    }
}
