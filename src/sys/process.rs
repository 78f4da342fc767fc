//! Passing a descriptor to a child process, and this process's descriptors and their limit.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::dir::Dir;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, stat};

use super::Errno;
use super::socket::is_seqpacket;

/// Starts `command` as a child that inherits `descriptor` under its present number, and sets `variable` in the child's
/// environment to that number. In this process and in every other child the descriptor stays close-on-exec.
pub(crate) fn spawn_inheriting(
    command: &mut Command,
    variable: &str,
    descriptor: BorrowedFd<'_>,
) -> std::io::Result<Child> {
    let number = descriptor.as_raw_fd();
    let armed = Arc::new(AtomicBool::new(true));
    let in_child = Arc::clone(&armed);
    let inherit = move || {
        // Relaxed: pairs with the store below. The exclusive borrow of `command` orders all its spawns and that store.
        if in_child.load(Ordering::Relaxed) {
            // SAFETY: the number is open: the caller of `spawn_inheriting` lends the descriptor until the spawn is
            // over, and afterwards `armed` is false.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; the closure makes one fcntl(2) call, and
    // neither allocates nor takes a lock.
    unsafe { command.pre_exec(inherit) };
    let previous = command.get_envs().find(|(name, _)| *name == variable).map(|(_, value)| value.map(OsString::from));
    let result = command.env(variable, number.to_string()).spawn();
    armed.store(false, Ordering::Relaxed); // relaxed: pairs with the load above
    match previous {
        Some(Some(value)) => command.env(variable, value),
        _ => command.env_remove(variable),
    };
    result
}

/// True once [`take_inherited`] has found the number of a descriptor: there is one, and it has one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why no descriptor was inherited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotInherited {
    /// None was passed, or it was taken before.
    Missing,
    /// The number that was passed is not open, or refers to something else.
    Lost(RawFd),
}

/// Takes the descriptor that [`spawn_inheriting`] passed and makes it close-on-exec.
pub(crate) fn take_inherited(variable: &str) -> Result<OwnedFd, NotInherited> {
    let value = std::env::var(variable).ok();
    let number: Option<RawFd> = value.and_then(|value| value.parse().ok()).filter(|&number| number > 2);
    let number = number.ok_or(NotInherited::Missing)?;
    // Relaxed: pairs with this swap in other threads, of which exactly one reads false; no data depends on it.
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(NotInherited::Missing);
    }
    // SAFETY: the borrow is used for system calls only, which fail if the number is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl(descriptor, FcntlArg::F_GETFD).map_err(|_| NotInherited::Lost(number))?;
    if FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) || !is_seqpacket(descriptor) {
        return Err(NotInherited::Lost(number)); // the number has been reused
    }
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|_| NotInherited::Lost(number))?;
    if only_thread() {
        // SAFETY: this is the only thread of the process, so no other reads the environment at the same time.
        unsafe { std::env::remove_var(variable) };
    }
    // SAFETY: the parent opened this descriptor for the one call that takes it, and `TAKEN` lets only one call get
    // here.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// True if this process has one thread (proc_pid_task(5)).
fn only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// True if this process may open `count` more descriptors, or if that cannot be found out: compares the numbers of its
/// open descriptors (proc_pid_fd(5)) with the soft limit (`RLIMIT_NOFILE` of getrlimit(2)).
pub(crate) fn has_room_for(count: usize) -> bool {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return true };
    // The size of the directory is the number of entries (since Linux 6.2, before that 0).
    let open = stat("/proc/self/fd").map_or(0, |directory| u64::try_from(directory.st_size).unwrap_or(0));
    if open > 0 && open + count as u64 <= limit {
        return true;
    }
    let listing = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = match Dir::open("/proc/self/fd", listing, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::EMFILE) => return false,
        Err(_) => return true,
    };
    let own = directory.as_raw_fd();
    let mut used = 0;
    for entry in directory.iter() {
        let Ok(entry) = entry else { return true };
        // Neither `.` and `..`, nor the listing itself, nor a number from before the limit was lowered.
        let number: Option<RawFd> = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
        used += u64::from(number.is_some_and(|number| number != own && (number as u64) < limit));
    }
    used + count as u64 <= limit
}

/// Raises the soft limit of open descriptors to `wanted`, at most to the hard limit (`RLIMIT_NOFILE` of setrlimit(2)).
/// Returns the soft limit afterwards.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = wanted.min(hard);
    if raised <= soft {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, raised, hard)?;
    Ok(raised)
}
