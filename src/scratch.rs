//! Memory that a thread reuses for the data of its next message.
#![forbid(unsafe_code)]

use std::cell::Cell;

/// Most bytes, 64 KiB, that a thread keeps; larger memory is freed.
const KEPT: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The memory that this thread has kept, empty.
#[inline]
pub(crate) fn take() -> Vec<u8> {
    // Fails in a thread that is ending and has dropped its thread-local variables.
    SCRATCH.try_with(Cell::take).unwrap_or_default()
}

/// Keeps memory for the next [`take`] of this thread.
#[inline]
pub(crate) fn keep(mut scratch: Vec<u8>) {
    if scratch.capacity() <= KEPT {
        scratch.clear();
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
    }
}
