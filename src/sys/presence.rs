//! Whether all memory of a file is there, counted inside the file, by calls that wait for no lock of the file.
//!
//! `st_blocks` of fstat(2) is no such count: it includes pages behind the end of the file (`FALLOC_FL_KEEP_SIZE` of
//! fallocate(2)).

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::MmapOptions;
use nix::libc;
use nix::sys::stat::fstat;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{SysconfVar, getpid, sysconf};

use super::{Errno, errno};

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
        Err(Errno::ENOSYS | Errno::EPERM) => stays_as_large(file, len),
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

/// As [`is_allocated`], by reading a byte of every page: a hole shows in that the file then has more memory. It is the
/// reader's, so the pages are read a few at a time.
///
/// mincore(2) does not serve: it reports allocated pages that nothing has written to as missing, and for a file that
/// this process may not write, all pages as present.
fn stays_as_large(file: BorrowedFd<'_>, len: u64) -> Result<bool, Errno> {
    /// Pages read between two looks at the size, 64: most that a hole can cost.
    const PART: usize = 64;
    let page = page_len();
    for start in (0..len).step_by(PART * page) {
        let pages = (len - start).div_ceil(page as u64).min(PART as u64) as usize;
        let before = fstat(file)?.st_blocks;
        let mut options = MmapOptions::new();
        let options = options.offset(start).len(pages * page);
        // SAFETY: nothing makes a reference to this memory, which other processes may change.
        let map = unsafe { options.map_copy_read_only(file.as_raw_fd()) }.map_err(errno)?;
        let each = (0..pages).map(|index| RemoteIoVec { base: map.as_ptr() as usize + index * page, len: 1 });
        // The kernel reads on behalf of this process, so that a shortage is an error and not a signal.
        let read = process_vm_readv(getpid(), &mut [IoSliceMut::new(&mut [0; PART])], &each.collect::<Vec<_>>());
        if read? < pages {
            return Err(Errno::ENOMEM);
        }
        if fstat(file)?.st_blocks > before {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes of a page of this processor.
fn page_len() -> usize {
    let len = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    len.and_then(|len| usize::try_from(len).ok()).unwrap_or(super::PAGE)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use nix::fcntl::{FallocateFlags, fallocate};
    use nix::unistd::ftruncate;

    use super::*;
    use crate::sys::memfd;

    /// The answers of all ways to count, which agree: the two of them, and the first that works.
    fn answer(file: &OwnedFd, len: u64) -> bool {
        let answer = is_allocated(file.as_fd(), len).expect("an answer");
        match count(file.as_fd(), len) {
            Ok(pages) => assert_eq!(pages >= len.div_ceil(page_len() as u64), answer),
            Err(Errno::ENOSYS | Errno::EPERM) => println!("skipped: no cachestat here"),
            Err(errno) => panic!("{errno}"),
        }
        // The last, since it fills holes.
        assert_eq!(stays_as_large(file.as_fd(), len), Ok(answer));
        answer
    }

    #[test]
    fn memory_counts_inside_the_file() {
        let page = page_len() as i64;
        for pages in [1, 2, 4095, 4096, 4097, 9000] {
            let file = || memfd::create(c"presence", (pages * page) as usize - 10, memfd::SEALED_SIZE).expect("a file");
            let (whole, sparse) = (file(), file());
            let len = (pages * page) as u64 - 10;
            fallocate(&whole, FallocateFlags::empty(), 0, len as i64).expect("memory");
            assert!(answer(&whole, len), "{pages} pages");
            assert!(!answer(&sparse, len), "{pages} pages that are not there");
            for missing in [0, pages / 2, pages - 1] {
                let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(&whole, punch, missing * page, page).expect("a hole");
                assert!(!answer(&whole, len), "page {missing} of {pages} is not there");
                fallocate(&whole, FallocateFlags::empty(), missing * page, page.min(len as i64 - missing * page))
                    .expect("memory");
                assert!(answer(&whole, len), "{pages} pages again");
            }
        }
    }

    #[test]
    fn memory_behind_the_end_does_not_count() {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let file = nix::sys::memfd::memfd_create(c"presence", flags).expect("a file");
        ftruncate(&file, 1 << 20).expect("a size");
        fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 1 << 20, 2 << 20).expect("memory");
        assert!(!answer(&file, 1 << 20));
    }
}
