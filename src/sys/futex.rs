//! futex(2) on words in shared memory, without `FUTEX_PRIVATE_FLAG`, since the two sides may be two processes.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use nix::libc;

use super::Errno;

/// Sleeps while `word` holds `expected`, at most for `timeout` (`FUTEX_WAIT`). May return early, after a wake-up, after
/// a signal, or spuriously, so the caller checks its condition again. Returns true if a signal ended the sleep.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> bool {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: `word` is an aligned u32 and `timeout` a valid timespec; the two references keep both mapped during the
    // call, and the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const timeout) };
    result < 0 && Errno::last() == Errno::EINTR
}

/// Wakes every thread that sleeps on `word` (`FUTEX_WAKE`): at most one in normal use, since a doorbell has one
/// sleeper.
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE uses the address as a name and accesses no memory; the reference keeps the address valid.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
