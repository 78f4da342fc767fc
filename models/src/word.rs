//! The atomics of the shared memory: loom's, with the faults of the controls, and with a watch over who owns a word.

use loom::cell::UnsafeCell;
use loom::sync::atomic as loom_atomic;

use crate::faults::{Fault, has, leaves_header};
use crate::queue::sync::Ordering;

/// What a word of 8 bytes is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// In the ring: header or payload.
    Ring,
    ReadCursor,
}

/// A word of 8 bytes.
pub(crate) struct AtomicU64 {
    value: loom_atomic::AtomicU64,
    role: Role,
    /// Stands for the word as payload, of which loom demands that no store is concurrent with a read.
    ///
    /// A load of the value alone would not do: loom never runs a load later than a store behind it in the same thread,
    /// as a processor may. So it would let a consumer give space back without a release, and never show the payload
    /// that the producer has meanwhile written over what is still being read.
    ///
    /// Only payload reads are watched. Loads of a header are meant to be concurrent with its commit.
    owner: UnsafeCell<()>,
}

impl AtomicU64 {
    pub(crate) fn new(role: Role) -> Self {
        Self { value: loom_atomic::AtomicU64::new(0), role, owner: UnsafeCell::new(()) }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.value.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.owner.with_mut(|_| ());
        let fault = match self.role {
            Role::Ring if value == 0 && leaves_header() => return,
            Role::Ring => Fault::CommitNotReleased,
            Role::ReadCursor => Fault::CursorNotReleased,
        };
        self.value.store(value, if has(fault) { Ordering::Relaxed } else { order });
    }

    /// Reads the word as a part of a payload.
    pub(crate) fn payload(&self) -> u64 {
        self.owner.with(|_| ());
        // Relaxed, as the product's copy: a reader that is not ordered behind the writer sees old words.
        self.value.load(Ordering::Relaxed)
    }

    /// Writes it so.
    pub(crate) fn set_payload(&self, value: u64) {
        self.owner.with_mut(|_| ());
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
            let old = self.0.load(Ordering::Acquire);
            self.0.store(value, Ordering::Release);
            return old;
        }
        self.0.swap(value, order)
    }

    pub(crate) fn compare_exchange(&self, old: u32, new: u32, ok: Ordering, not: Ordering) -> Result<u32, u32> {
        if has(Fault::NoteNotPutBack) {
            return Ok(old);
        }
        self.0.compare_exchange(old, new, ok, not)
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
