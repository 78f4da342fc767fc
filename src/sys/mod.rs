//! System calls and raw memory: the lowest room, and the only one that depends on the operating system.
//!
//! `unsafe` is confined to this room, to the few lines of [`crate::queue::direction`] that turn positions into
//! addresses, and to the public functions that return slices of shared memory.
#![allow(unsafe_code)]

mod available;
pub(crate) mod cancel;
pub(crate) mod clock;
pub(crate) mod closer;
pub(crate) mod cpu;
pub(crate) mod epoll;
pub(crate) mod exclusive;
pub(crate) mod fork;
pub(crate) mod frozen;
pub(crate) mod futex;
pub(crate) mod lane_socket;
pub(crate) mod mapping;
pub(crate) mod memfd;
#[cfg(feature = "named")]
pub(crate) mod named;
pub(crate) mod named_socket;
mod on_signal;
pub(crate) mod passed;
pub(crate) mod presence;
pub(crate) mod process;
#[cfg(feature = "tokio")]
pub(crate) mod readiness;
pub(crate) mod shared;
pub(crate) mod socket;
#[cfg(feature = "serde")]
pub(crate) mod stack;
mod standard;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw, RemapOptions};
use nix::libc;

pub(crate) use nix::errno::Errno;

/// Bytes of a page, 4096: the unit in which headers and buffers are laid out. Processors with larger pages map more.
pub(crate) const PAGE: usize = 4096;

/// Repeats a system call while a signal interrupts it, so that no caller sees `EINTR`.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            result => return result,
        }
    }
}

/// The error of the standard library for an errno.
pub(crate) fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// True for an error that reports a want of memory, descriptors or space, which can pass.
pub fn is_shortage(error: &io::Error) -> bool {
    use Errno::{EFBIG, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, ETOOMANYREFS};
    let is = |errno: &Errno| error.raw_os_error() == Some(*errno as i32);
    [EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC, ETOOMANYREFS, EFBIG].iter().any(is)
}

/// The errno of an error of the standard library; `EINVAL` if it comes from no system call.
fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EINVAL as i32))
}

/// Maps the first `len` bytes of `file`, shared, readable and writable (mmap(2)).
fn map(file: BorrowedFd<'_>, len: usize) -> Result<MmapRaw, Errno> {
    MmapOptions::new().len(len).map_raw(file.as_raw_fd()).map_err(errno)
}

/// As [`map`], for a sparse file: after `mlockall(MCL_FUTURE)` too, memory is allocated when it is touched, and locked
/// then (mlock2(2)).
fn map_sparse(file: BorrowedFd<'_>, len: usize) -> Result<MmapRaw, Errno> {
    /// Bytes, 1 MiB, up to which a mapping may be populated at once.
    const SMALL: usize = 1 << 20;
    if len <= SMALL || !populates()? {
        return map(file, len);
    }
    let mut map = map(file, PAGE)?;
    // SAFETY: the range is exactly this mapping; the call changes no byte of it.
    Errno::result(unsafe { libc::mlock2(map.as_mut_ptr().cast(), map.len(), libc::MLOCK_ONFAULT) })?;
    // What is added to a mapping is locked as the mapping is.
    // SAFETY: `len` bytes are inside the file, as for `map`, and no address in the mapping has been handed out.
    unsafe { map.remap(len, RemapOptions::new().may_move(true)) }.map_err(errno)?;
    Ok(map)
}

/// True if the kernel populates mappings as they are made, which it does after `mlockall(MCL_FUTURE)` (mincore(2)).
fn populates() -> Result<bool, Errno> {
    let probe: MmapRaw = MmapOptions::new().len(PAGE).map_anon().map_err(errno)?.into();
    let mut answer = 0;
    // SAFETY: the range is exactly this mapping, which is one page, and the answer has a byte for it.
    Errno::result(unsafe { libc::mincore(probe.as_mut_ptr().cast(), probe.len(), &raw mut answer) })?;
    Ok(answer & 1 == 1)
}

/// A timeout in milliseconds for poll(2) and epoll_wait(2), at most `i32::MAX`. Rounded up: a wait that returned just
/// before its deadline would be repeated with zero until the deadline has passed.
fn millis(timeout: Duration) -> i32 {
    timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32
}
