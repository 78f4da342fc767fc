//! The atomics that ring, doorbell and wait are written with. The models in `models/` put loom's in their place.
#![forbid(unsafe_code)]

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

pub(crate) use crate::sys::futex;

/// Stores `value` with release, followed by a full fence, in one sequentially consistent swap, which costs a quarter of
/// a store and a fence (x86: `xchg` against `mov` and `mfence`). Every load that must come after the fence is
/// sequentially consistent too, so swap and load stand in the one order of all such accesses.
#[inline]
pub(crate) fn store_and_fence(word: &AtomicU64, value: u64) {
    // SeqCst: pairs with the SeqCst swap and fence in `doorbell::arm`, and, as a release, with the acquire load of the
    // word.
    word.swap(value, Ordering::SeqCst);
}
