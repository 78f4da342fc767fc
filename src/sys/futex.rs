//! futex(2) on words in shared memory (no `FUTEX_PRIVATE_FLAG`: the two sides may be two processes).

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use nix::libc;

use super::Errno;

/// Sleeps while `word` holds `expected`, at most for `timeout`. Returns early on a wake-up, a signal, or for no
/// reason at all: the caller looks again. True if it was a signal.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> bool {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: `word` is an aligned u32 that stays mapped during the call, `timeout` a valid timespec; the kernel
    // reads both and writes neither.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const timeout) };
    result < 0 && Errno::last() == Errno::EINTR
}

/// Wakes every thread that sleeps on `word`: one in normal use, since a doorbell has one sleeper.
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: as in `wait`; FUTEX_WAKE uses the address only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
