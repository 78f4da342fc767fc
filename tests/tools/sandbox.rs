//! Sandboxes: filters of system calls (seccomp(2)), which a process cannot take off again.

use nix::errno::Errno;
use nix::libc;

/// Puts a filter on the calling thread, and on all that it starts.
pub(crate) fn install(filter: &[libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    #[allow(unsafe_code)]
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    #[allow(unsafe_code)]
    // SAFETY: the kernel copies the program, which has the length that it states.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }).map(drop)
}
