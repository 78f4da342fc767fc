//! The atomics that ring and wait are written with: the standard's, or loom's when their models are checked.

#[cfg(messageport_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(not(messageport_loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

pub(crate) use std::sync::atomic::Ordering;

#[cfg(messageport_loom)]
pub(crate) use crate::model::futex;
#[cfg(not(messageport_loom))]
pub(crate) use crate::sys::futex;

/// Stores `value` with release, followed by a full fence.
///
/// The product does both in one sequentially consistent swap, which is the cheaper instruction (x86: `xchg` 5 ns,
/// store and `mfence` 19 ns). Every load that must come after the fence is sequentially consistent too, so swap and
/// load stand in the one order of all such accesses. loom treats a sequentially consistent swap as acquire-release
/// only; there the fence is written out, which orders at least as little as the swap does.
#[inline]
pub(crate) fn store_and_fence(word: &AtomicU64, value: u64) {
    #[cfg(not(messageport_loom))]
    word.swap(value, Ordering::SeqCst);
    #[cfg(messageport_loom)]
    {
        word.store(value, Ordering::Release);
        fence(Ordering::SeqCst);
    }
}
