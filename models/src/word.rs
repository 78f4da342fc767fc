//! The atomics of the shared memory: loom's, with the faults of the controls, and with a check of payload accesses.

use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic as loom_atomic;

use crate::faults::{Fault, has, skips_zero};

/// What a word of 8 bytes stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WordRole {
    /// Header or payload in a ring.
    Ring,
    ReadCursor,
    /// The cursor that a sleeping producer waits for.
    Wanted,
}

/// A word of 8 bytes.
pub(crate) struct AtomicU64 {
    value: loom_atomic::AtomicU64,
    role: WordRole,
    /// Stands for the word as payload, so that loom fails if a store is concurrent with a read.
    ///
    /// The load of the value alone does not show that. loom never runs a load later than a store behind it in the same
    /// thread, which a processor may do. It would therefore let a consumer give space back without a release, and never
    /// show the payload that the producer has since written over what is still being read.
    ///
    /// Only payload reads are checked: a poll of a header may be concurrent with its commit.
    payload: UnsafeCell<()>,
}

impl AtomicU64 {
    pub(crate) fn new(role: WordRole) -> Self {
        Self { value: loom_atomic::AtomicU64::new(0), role, payload: UnsafeCell::new(()) }
    }

    pub(crate) fn role(&self) -> WordRole {
        self.role
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.value.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.payload.with_mut(|_| ());
        let fault = match self.role {
            WordRole::Ring if value == 0 && skips_zero() => return,
            WordRole::Ring => Fault::CommitNotReleased,
            WordRole::ReadCursor => Fault::CursorNotReleased,
            WordRole::Wanted => {
                let wanted = if has(Fault::WantsTooMuch) { u64::MAX } else { value };
                return self.value.store(wanted, order);
            }
        };
        self.value.store(value, if has(fault) { Ordering::Relaxed } else { order });
    }

    /// Reads the word as payload.
    pub(crate) fn read_payload(&self) -> u64 {
        self.payload.with(|_| ());
        // Relaxed, like the library's copy: a reader that is not ordered behind the writer gets old words.
        self.value.load(Ordering::Relaxed)
    }

    /// Writes the word as payload.
    pub(crate) fn write_payload(&self, value: u64) {
        self.payload.with_mut(|_| ());
        // Relaxed, like the library's copy: the commit publishes it.
        self.value.store(value, Ordering::Relaxed);
    }
}

/// A doorbell, or the state of an end.
pub(crate) struct AtomicU32(loom_atomic::AtomicU32);

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> Self {
        Self(loom_atomic::AtomicU32::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: u32, order: Ordering) {
        self.0.store(value, order);
    }

    pub(crate) fn swap(&self, value: u32, order: Ordering) -> u32 {
        if has(Fault::NoteNotSwapped) {
            // The orderings of a swap, so that only its atomicity is missing.
            let old = self.0.load(Ordering::Acquire);
            self.0.store(value, Ordering::Release);
            return old;
        }
        self.0.swap(value, order)
    }

    pub(crate) fn compare_exchange(
        &self,
        old: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        if has(Fault::NoteNotPutBack) {
            return Ok(old);
        }
        self.0.compare_exchange(old, new, success, failure)
    }

    pub(crate) fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        update: impl FnMut(u32) -> Option<u32>,
    ) -> Result<u32, u32> {
        self.0.fetch_update(set, fetch, update)
    }
}
