//! The one way out of every function: a code, and never a panic nor the cancellation of the thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use messageport::Uncancelled;

use crate::code::{Code, OK};
use crate::failure::Failure;
use crate::handle::{Handle, Object};

/// Runs the body of a function of the header.
///
/// The system calls of the library are cancellation points (pthreads(7)), so a cancellation of the thread stays pending
/// until the function returns.
#[inline]
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> Code {
    let _uncancelled = Uncancelled::begin();
    // A panic may leave the handles of this call half changed; after `MSGPORT_INTERNAL` the caller may only free them.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => OK,
        Ok(Err(failure)) => failure.code(),
        Err(panic) => Failure::of_panic(panic).code(),
    }
}

/// As [`guard`], for a function with a fast path. `brief` tries that: it returns false if it has done nothing and
/// `body` is to run, and it makes no call that is a cancellation point.
#[inline]
pub(crate) fn guard_after(
    brief: impl FnOnce() -> Result<bool, Failure>,
    body: impl FnOnce() -> Result<(), Failure>,
) -> Code {
    match catch_unwind(AssertUnwindSafe(brief)) {
        Ok(Ok(true)) => OK,
        Ok(Ok(false)) => guard(body),
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
