//! Handing a descriptor to a child process, and finding it there.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Errno;
use super::socket::is_seqpacket;

/// Starts `command` with `descriptor` inherited under its present number, which `variable` in the child's
/// environment tells. In this process and in every other child the descriptor stays close-on-exec.
pub(crate) fn spawn_inheriting(
    command: &mut Command,
    variable: &str,
    descriptor: BorrowedFd<'_>,
) -> std::io::Result<Child> {
    let number = descriptor.as_raw_fd();
    let armed = Arc::new(AtomicBool::new(true));
    let in_child = Arc::clone(&armed);
    let inherit = move || {
        if in_child.load(Ordering::Relaxed) {
            // SAFETY: the number is open: the caller of `spawn_inheriting` lends it until the spawn is over, and
            // afterwards `armed` is false.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the forked child before exec; it makes one fcntl call and neither allocates nor
    // takes a lock.
    unsafe { command.pre_exec(inherit) };
    let previous = command.get_envs().find(|(name, _)| *name == variable).map(|(_, value)| value.map(OsString::from));
    let result = command.env(variable, number.to_string()).spawn();
    armed.store(false, Ordering::Relaxed);
    match previous {
        Some(Some(value)) => command.env(variable, value),
        _ => command.env_remove(variable),
    };
    result
}

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over the descriptor that [`spawn_inheriting`] left, once; closed on exec from here on.
pub(crate) fn take_inherited(variable: &str) -> Option<OwnedFd> {
    let number: RawFd = std::env::var(variable).ok()?.parse().ok().filter(|&number| number > 2)?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: used for two fcntl calls; a number that is not open makes the first fail.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = FdFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFD).ok()?);
    if flags.contains(FdFlag::FD_CLOEXEC) || !is_seqpacket(descriptor) {
        return None; // something else under an old number
    }
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    if only_thread() {
        // SAFETY: the process has one thread, this one, so nobody reads the environment at the same time.
        unsafe { std::env::remove_var(variable) };
    }
    // SAFETY: the parent left this descriptor for the one call that reads `variable`; `TAKEN` makes it one.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

fn only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Raises the soft limit of open descriptors (setrlimit(2)) to `wanted`, or as far as the hard limit lets it. Returns what
/// it is then.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = wanted.min(hard);
    if raised <= soft {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, raised, hard)?;
    Ok(raised)
}

/// Makes an errno into the standard library's error.
pub(crate) fn io_error(errno: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno as i32)
}
