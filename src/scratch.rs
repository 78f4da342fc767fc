//! Memory that a thread uses again for the data of its next message.
#![forbid(unsafe_code)]

use std::cell::Cell;

/// More is not kept.
const KEPT: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Memory of this thread, empty.
#[inline]
pub(crate) fn take() -> Vec<u8> {
    // A thread that is ending may have no such place any more.
    SCRATCH.try_with(Cell::take).unwrap_or_default()
}

/// Keeps memory for the next time.
#[inline]
pub(crate) fn keep(mut scratch: Vec<u8>) {
    if scratch.capacity() <= KEPT {
        scratch.clear();
        let _ = SCRATCH.try_with(|place| place.set(scratch));
    }
}
