//! Which standard streams were open when the program started.
//!
//! Before `main`, the standard library opens `/dev/null` in place of those that are closed, so that `listen NAME >&-`
//! would swallow everything and succeed.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

static INPUT_CLOSED: AtomicBool = AtomicBool::new(false);
static OUTPUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Fails if standard output was closed.
pub(crate) fn check_output() -> Result<(), Failure> {
    check(&OUTPUT_CLOSED, "cannot write to standard output: it is closed")
}

/// Fails if standard input was closed.
pub(crate) fn check_input() -> Result<(), Failure> {
    check(&INPUT_CLOSED, "cannot read standard input: it is closed")
}

fn check(closed: &AtomicBool, message: &str) -> Result<(), Failure> {
    // Relaxed: pairs with the stores in `look`, which are made before the first thread of the program runs `main`.
    if closed.load(Ordering::Relaxed) { Err(Failure::refused(message)) } else { Ok(()) }
}

extern "C" fn look() {
    for (number, closed) in [(0, &INPUT_CLOSED), (1, &OUTPUT_CLOSED)] {
        #[allow(unsafe_code)]
        // SAFETY: the number is used for one system call only, which fails if it is not open.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        let is_open = nix::fcntl::fcntl(stream, nix::fcntl::FcntlArg::F_GETFD).is_ok();
        closed.store(!is_open, Ordering::Relaxed); // relaxed: pairs with the load in `check`
    }
}

/// The dynamic loader, or the start-up code of a static program, calls this before the standard library starts.
#[used]
#[allow(unsafe_code)]
// SAFETY: the section holds pointers to functions of the C calling convention, and this is one.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;
