//! How deeply a value may be nested: its encoding and its decoding use a part of the stack that is left.

use crate::sys::stack;

/// A value uses at most 512 KiB of stack, however much the thread has. So what one thread has decoded can be dropped by
/// another one with a usual stack.
const MAX_STACK: usize = 512 << 10;
/// A value uses at most 16 KiB of a stack whose bounds are unknown.
const MAX_UNKNOWN_STACK: usize = 16 << 10;
/// A value that uses at most 4 KiB of stack, as almost every value does, is shallow: it costs no query for the bounds
/// of the stack.
const SHALLOW: usize = 4 << 10;

/// The stack that the encoding or the decoding of one value may use: [`MAX_STACK`] bytes, and at most half of
/// what the thread has left. The other half is for a frame larger than usual, for dropping the value, which is as
/// recursive, and for whatever else the caller does with it.
pub(super) struct Depth {
    /// The address of the stack at the beginning.
    start: usize,
    /// The lowest address that may be used.
    end: usize,
}

impl Depth {
    #[inline]
    pub(super) fn new() -> Self {
        let start = stack::pointer();
        Self { start, end: start.saturating_sub(SHALLOW) }
    }

    /// True while the caller uses little stack.
    #[inline]
    pub(super) fn is_shallow(&self) -> bool {
        stack::pointer() >= self.start.saturating_sub(SHALLOW)
    }

    /// True if the caller uses more stack than it may.
    #[inline]
    pub(super) fn is_exceeded(&mut self) -> bool {
        stack::pointer() < self.end && self.is_exceeded_indeed()
    }

    #[cold]
    fn is_exceeded_indeed(&mut self) -> bool {
        let allowed = stack::free_below(self.start).map_or(MAX_UNKNOWN_STACK, |free| MAX_STACK.min(free / 2));
        self.end = self.start.saturating_sub(allowed);
        stack::pointer() < self.end
    }
}
