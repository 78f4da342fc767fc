//! The one way out of every function: a code, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::code::{Code, OK};
use crate::failure::Failure;

/// Runs the body of a function of the header.
#[inline]
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> Code {
    // What a panic may have left half done is a handle of the caller's, which `MSGPORT_INTERNAL` tells it to free.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => OK,
        Ok(Err(failure)) => failure.code(),
        Err(panic) => Failure::of_panic(panic).code(),
    }
}

#[cfg(test)]
mod tests {
    use super::guard;
    use crate::code::{INTERNAL, OK, msgport_describe};

    #[test]
    fn a_panic_becomes_a_code_with_its_message() {
        assert_eq!(guard(|| panic!("a planted mistake, number {}", 1)), INTERNAL);
        let mut text = [0_u8; 100];
        // SAFETY: the buffer is as long as is said.
        let len = unsafe { msgport_describe(INTERNAL, text.as_mut_ptr().cast(), text.len()) };
        assert_eq!(std::str::from_utf8(&text[..len]), Ok("a planted mistake, number 1"));
        assert_eq!(guard(|| Ok(())), OK);
    }

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
