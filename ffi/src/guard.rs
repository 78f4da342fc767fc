//! The one way out of every function: a code, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::code::{Code, OK};
use crate::failure::Failure;
use crate::handle::{Handle, Object};

/// Runs the body of a function of the header.
#[inline]
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> Code {
    // A panic may leave the handles of this call half changed; after `MSGPORT_INTERNAL` the caller may only free them.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => OK,
        Ok(Err(failure)) => failure.code(),
        Err(panic) => Failure::of_panic(panic).code(),
    }
}

/// The body of every function whose name ends in `_free`. NULL is allowed.
///
/// # Safety
/// `handle` is NULL or a live handle of any type, and this is its last use.
pub(crate) unsafe fn free<T: Object>(handle: *mut Handle<T>) {
    guard(|| {
        // SAFETY: the conditions of `take`, which the caller upholds.
        drop(unsafe { Handle::take(handle) });
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use super::guard;
    use crate::code::INTERNAL;

    #[test]
    fn a_panic_that_panics_when_it_is_dropped_is_kept() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(guard(|| std::panic::panic_any(Bomb)), INTERNAL);
    }
}
