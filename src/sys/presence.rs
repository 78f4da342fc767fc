//! Whether all memory of a file is there, counted inside the file, by calls that wait for no lock of the file.
//!
//! `st_blocks` of fstat(2) is no such count: it includes pages behind the end of the file (`FALLOC_FL_KEEP_SIZE` of
//! fallocate(2)).

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::{AccessFlags, SysconfVar, faccessat, geteuid, sysconf};

use super::{Errno, memfd, retry};

/// Number of cachestat(2), which `libc` does not define. New system calls count on equally on all processors.
const SYS_CACHESTAT: libc::c_long = libc::SYS_close_range + 15;

/// `struct cachestat_range`.
#[repr(C)]
struct Range {
    start: u64,
    len: u64,
}

/// `struct cachestat`.
#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// True if each page of the first `len` bytes of a file on tmpfs has memory, be it swapped out.
///
/// The answer lasts if the file is sealed against writes. Any holder of another file can give memory back at any time.
pub(crate) fn is_allocated(file: BorrowedFd<'_>, len: u64) -> Result<bool, Errno> {
    // A sparse file is refused by this count already, however long it is.
    let blocks = u64::try_from(fstat(file)?.st_blocks).unwrap_or(0);
    if blocks.saturating_mul(512) < len {
        return Ok(false);
    }
    match count(file, len) {
        Ok(pages) => Ok(pages >= len.div_ceil(page_len() as u64)),
        // ENOSYS: before Linux 6.5. EPERM: the file belongs to another user, who permits no writes; or a filter of
        // system calls.
        Err(Errno::ENOSYS | Errno::EPERM) => is_in_core(file, len),
        Err(errno) => Err(errno),
    }
}

/// Pages that the first `len` bytes have, not 0, those swapped out included (cachestat(2)).
fn count(file: BorrowedFd<'_>, len: u64) -> Result<u64, Errno> {
    let range = Range { start: 0, len };
    let mut counts = Counts::default();
    // SAFETY: both pointers lead to structures of the layout that the call expects, which live through the call; it
    // writes to the second only.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut counts, 0) };
    Errno::result(result)?;
    Ok(counts.cached.saturating_add(counts.evicted))
}

/// As [`is_allocated`], page by page (mincore(2)). A page that is not in core is read first, which brings it back if it
/// was swapped out, and allocates nothing for a hole.
fn is_in_core(file: BorrowedFd<'_>, len: u64) -> Result<bool, Errno> {
    /// Pages of which one call asks, 4096, a byte for each on the stack.
    const PART: usize = 4096;
    if !is_answered(file)? {
        return Ok(false);
    }
    let page = page_len();
    let span = Span::of(file, usize::try_from(len).map_err(|_| Errno::EFBIG)?)?;
    let mut answers = [0; PART];
    for start in (0..span.len.get()).step_by(PART * page) {
        let pages = (span.len.get() - start).div_ceil(page).min(PART);
        span.in_core(start, &mut answers[..pages])?;
        for index in (0..pages).filter(|index| answers[*index] & 1 == 0) {
            let (at, mut answer) = (start + index * page, [0]);
            memfd::read(file, at, &mut [0])?;
            span.in_core(at, &mut answer)?;
            if answer[0] & 1 == 0 {
                return Ok(false);
            }
        }
    }
    is_answered(file)
}

/// True if mincore(2) answers for this file: this process may write it, or owns it. For any other file it reports every
/// page as resident.
fn is_answered(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let flags = AtFlags::AT_EMPTY_PATH | AtFlags::AT_EACCESS;
    let is_ours = fstat(file)?.st_uid == geteuid().as_raw();
    Ok(is_ours || faccessat(file, c"", AccessFlags::W_OK, flags).is_ok())
}

/// Addresses of a file at which nothing can be read or written, to ask about its pages. `mlockall` allocates nothing for
/// them.
struct Span {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

impl Span {
    fn of(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        let len = NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
        // SAFETY: the kernel chooses addresses at which nothing is mapped, and no reference to this memory is made.
        let start = unsafe { mmap(None, len, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE, file, 0) }?;
        Ok(Self { start, len })
    }

    /// Sets the lowest bit of each answer, one for each page from `offset` on, if the page is in core.
    fn in_core(&self, offset: usize, answers: &mut [u8]) -> Result<(), Errno> {
        let len = answers.len() * page_len();
        assert!(offset.is_multiple_of(page_len()) && len <= self.len.get().next_multiple_of(page_len()) - offset);
        let start = self.start.as_ptr().wrapping_byte_add(offset);
        // SAFETY: the pages are inside the mapping, as asserted, and `answers` has a byte for each of them.
        retry(|| Errno::result(unsafe { libc::mincore(start, len, answers.as_mut_ptr().cast()) })).map(drop)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's alone, and nothing uses it after the drop.
        let _ = unsafe { munmap(self.start, self.len.get()) }; // fails only for arguments that are no mapping
    }
}

/// Bytes of a page of this processor.
fn page_len() -> usize {
    let len = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    len.and_then(|len| usize::try_from(len).ok()).unwrap_or(super::PAGE)
}
