//! Passing a descriptor to a child process, and this process's descriptors and their limit.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::dir::Dir;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, fstat, stat};

use super::socket::is_seqpacket;
use super::standard::Held;
use super::{Errno, io_error};

/// The descriptor that a command passes to the children it starts. In this process and in every other child the
/// descriptor stays close-on-exec. Dropping this ends it: later children get nothing.
pub(crate) struct Inherited {
    armed: Arc<AtomicBool>,
    /// So that all streams are open, and no pipe of the standard library gets the number of one.
    _held: Held,
}

impl Inherited {
    /// Makes every child that `command` starts inherit `descriptor` under its present number, for as long as the result
    /// lives, and sets `variable` in the child's environment to the number and the identity of the descriptor. The
    /// caller keeps `descriptor` open meanwhile.
    ///
    /// The child also has all standard streams: those that are close-on-exec in this process, and `/dev/null` in place
    /// of those that are closed, here too while the result lives. Descriptors of the child would otherwise get their
    /// numbers.
    pub(crate) fn by(command: &mut Command, variable: &str, descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let number = descriptor.as_raw_fd();
        let armed = Arc::new(AtomicBool::new(true));
        let in_child = Arc::clone(&armed);
        let held = Held::new()?;
        let inherit = move || {
            // Relaxed: pairs with the store in `drop`. A spawn on another thread, which would have to be ordered with
            // it, is a mistake of the caller that costs the child its port.
            if in_child.load(Ordering::Relaxed) {
                (0..3).try_for_each(keep_on_exec)?;
                keep_on_exec(number)?;
            }
            Ok(())
        };
        let identity = fstat(descriptor).map_err(io_error)?.st_ino;
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; the closure makes fcntl(2) calls, and
        // neither allocates nor takes a lock.
        unsafe { command.pre_exec(inherit) };
        command.env(variable, format!("{number}:{identity}"));
        Ok(Self { armed, _held: held })
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        self.armed.store(false, Ordering::Relaxed); // relaxed: pairs with the load in the child
    }
}

/// Starts `command` as a child that [inherits](Inherited) `descriptor`, and leaves the command as it was.
pub(crate) fn spawn_inheriting(command: &mut Command, variable: &str, descriptor: BorrowedFd<'_>) -> io::Result<Child> {
    let previous = command.get_envs().find(|(name, _)| *name == variable).map(|(_, value)| value.map(OsString::from));
    let result = Inherited::by(command, variable, descriptor).and_then(|_armed| command.spawn());
    match previous {
        Some(Some(value)) => command.env(variable, value),
        _ => command.env_remove(variable),
    };
    result
}

/// The flags of a number (`F_GETFD` of fcntl(2)). `EBADF`: it is not open.
fn flags_of(number: RawFd) -> Result<FdFlag, Errno> {
    // SAFETY: the borrow is used for one system call only, which fails if the number is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(descriptor, FcntlArg::F_GETFD).map(FdFlag::from_bits_retain)
}

/// Lets the program that this process turns into inherit a number (`F_SETFD` of fcntl(2)).
fn keep_on_exec(number: RawFd) -> Result<(), Errno> {
    // SAFETY: the borrow is used for one system call only, which fails if the number is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}

/// True once [`take_inherited`] has found the number of a descriptor: there is one, and it has one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why no descriptor was inherited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotInherited {
    /// None was passed, or it was taken before.
    Missing,
    /// The number that was passed is not open, or refers to something else, as in a grandchild to which the variable
    /// came down.
    Lost(RawFd),
}

/// Takes the descriptor that an [`Inherited`] passed, or a program that set `variable` to the bare number, and makes
/// it close-on-exec.
pub(crate) fn take_inherited(variable: &str) -> Result<OwnedFd, NotInherited> {
    let value = std::env::var(variable).unwrap_or_default();
    let (number, identity) = value.split_once(':').map_or((&*value, None), |(number, rest)| (number, Some(rest)));
    let number: Option<RawFd> = number.parse().ok().filter(|&number| number > 2);
    let number = number.ok_or(NotInherited::Missing)?;
    // Relaxed: pairs with the swap below; no data depends on it.
    if TAKEN.load(Ordering::Relaxed) {
        return Err(NotInherited::Missing);
    }
    let lost = |_| NotInherited::Lost(number);
    let flags = flags_of(number).map_err(lost)?;
    // SAFETY: the borrow is used for system calls only, which fail if the number is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let found = fstat(descriptor).map_err(lost)?.st_ino.to_string();
    let is_other = flags.contains(FdFlag::FD_CLOEXEC) || identity.is_some_and(|identity| identity != found);
    if is_other || !is_seqpacket(descriptor) {
        return Err(NotInherited::Lost(number)); // the number has been reused
    }
    // Relaxed: pairs with this swap in other threads, of which exactly one reads false; no data depends on it.
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(NotInherited::Missing);
    }
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(lost)?;
    if only_thread() {
        // SAFETY: this is the only thread of the process, so no other reads the environment at the same time.
        unsafe { std::env::remove_var(variable) };
    }
    // SAFETY: the parent opened this descriptor for the one call that takes it, and `TAKEN` lets only one call get
    // here.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A copy of a socket that the service manager passed to this process, closed on exec as the original then is too: the
/// one with this name, or else the first (`LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` of sd_listen_fds(3)).
pub(crate) fn activated_socket(name: Option<&str>) -> Result<Option<OwnedFd>, Errno> {
    let number = |variable| std::env::var(variable).ok().and_then(|value| value.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None); // passed to another process
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    let index = match name {
        None => Some(0),
        Some(name) => std::env::var("LISTEN_FDNAMES").ok().and_then(|names| names.split(':').position(|it| it == name)),
    };
    let Some(index) = index.and_then(|index| u32::try_from(index).ok()).filter(|index| *index < count) else {
        return Ok(None);
    };
    let number = RawFd::try_from(index).ok().and_then(|index| index.checked_add(3)).ok_or(Errno::EBADF)?;
    // SAFETY: the borrow is used for system calls only, which fail if the number is not open.
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(passed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let copy = fcntl(passed, FcntlArg::F_DUPFD_CLOEXEC(number))?;
    // SAFETY: fcntl has just created this descriptor for this call, so nothing else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// True if this process has one thread (proc_pid_task(5)).
fn only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// The soft limit of open descriptors (`RLIMIT_NOFILE` of getrlimit(2)).
pub(crate) fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
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
