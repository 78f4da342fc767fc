//! Sealed memory files (memfd_create(2), `F_ADD_SEALS` of fcntl(2)), and the checks on a received file.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{FileStat, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::ftruncate;

use super::available::available;
use super::standard::above_standard;
use super::{Errno, PAGE, retry};

/// The flag of memfd_create(2) that forbids executing the file, for ever (since Linux 6.3); `nix` does not define it.
const MFD_NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);

/// The seals that fix the size of the file for ever.
pub(crate) const SEALED_SIZE: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);
/// [`SEALED_SIZE`] and the seal against further seals, so that no holder can forbid the others to write.
pub(crate) const SEALED: SealFlag = SEALED_SIZE.union(SealFlag::F_SEAL_SEAL);

/// The identity of the file that a descriptor refers to, whatever its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// Why a descriptor is not a sealed memory file of the expected size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadFile {
    /// Not a memory file.
    NotMemory,
    /// Seals are missing: a holder could change its size, so that accesses of this process fault.
    Unsealed,
    /// Not on tmpfs: accesses to a file of huge pages can raise SIGBUS when their pool is empty.
    NotTmpfs,
    /// Its size differs from the expected size.
    WrongSize,
}

/// The properties of a memory file that passed [`check`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    pub(crate) id: FileId,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// Sealed against writes by any holder, for ever.
    pub(crate) frozen: bool,
}

/// A new memory file of `len` bytes, all zero and sparse, with `seals`: [`SEALED_SIZE`] or [`SEALED`]
/// (memfd_create(2), ftruncate(2)).
pub(crate) fn create(name: &CStr, len: usize, seals: SealFlag) -> Result<OwnedFd, Errno> {
    let len = allowed_len(len)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = match memfd_create(name, flags | MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create(name, flags)?, // before Linux 6.3
        result => result?,
    };
    let file = above_standard(file)?;
    retry(|| ftruncate(&file, len))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// The name that [`create`] gave to the file, in whatever process, as `/proc/self/fd` shows it (readlink(2)). The
/// process that made the file chose it. `None`: it cannot be found out.
pub(crate) fn name(file: BorrowedFd<'_>) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    let name = link.to_string_lossy();
    Some(name.strip_prefix("/memfd:")?.strip_suffix(" (deleted)")?.to_owned())
}

/// Adds the seal against further seals, unless the file has it. Only a file that has it can be in the hands of a peer,
/// and adding a seal, even in vain, would wait for the inode lock.
pub(crate) fn seal(file: BorrowedFd<'_>) -> Result<(), Errno> {
    if is_sealed(file)? {
        return Ok(());
    }
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).map(drop)
}

/// Writes `from` at `offset`, inside a file that no peer has, without a mapping (pwrite(2)).
pub(crate) fn write(file: BorrowedFd<'_>, mut offset: usize, mut from: &[u8]) -> Result<(), Errno> {
    while !from.is_empty() {
        let done = retry(|| pwrite(file, from, offset as i64))?;
        offset += done;
        from = &from[done..];
    }
    Ok(())
}

/// Reads `into.len()` bytes at `offset`, inside the file, without a mapping (pread(2)). The call takes no inode lock
/// and allocates no memory: a hole reads as zeroes.
pub(crate) fn read(file: BorrowedFd<'_>, mut offset: usize, mut into: &mut [u8]) -> Result<(), Errno> {
    while !into.is_empty() {
        let done = retry(|| pread(file, into, offset as i64))?;
        if done == 0 {
            return Err(Errno::EIO); // the file is shorter than its checked size
        }
        offset += done;
        into = &mut into[done..];
    }
    Ok(())
}

/// Forbids every write and any further seal to a file that no peer has, for ever. `EBUSY`: the file is mapped for
/// writing. `EPERM`: it has the seal against further seals.
pub(crate) fn freeze(file: BorrowedFd<'_>) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL)).map(drop)
}

/// True if the file has the seal against further seals (`F_GET_SEALS`).
pub(crate) fn is_sealed(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS)?;
    Ok(SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SEAL))
}

/// Allocates the memory of the whole file (fallocate(2)), so that a shortage is an error here and not a signal later.
///
/// In a memory cgroup the kernel kills a process that allocates too much, and gives no error. So `ENOMEM` also stands
/// for more than the system and the cgroups leave, as long as that can be seen: before every step of a large file.
pub(crate) fn allocate(file: BorrowedFd<'_>, len: usize) -> Result<(), Errno> {
    /// Bytes allocated at a time, 64 MiB, between two looks.
    const STEP: i64 = 64 << 20;
    let len = allowed_len(len)?;
    for done in (0..len).step_by(STEP as usize) {
        look_for((len - done) as u64)?;
        allocate_step(file, done, STEP.min(len - done))?;
    }
    Ok(())
}

/// `ENOMEM` if a large file of `len` bytes exceeds what the system and the memory cgroups of the process leave, as far
/// as that can be seen.
pub(crate) fn look_for(len: u64) -> Result<(), Errno> {
    /// Bytes, 16 MiB, from which on the cost of a look does not count beside that of the allocation.
    const LARGE: u64 = 16 << 20;
    // Page tables and the kernel's index of the file take one byte in a hundred or less.
    if len >= LARGE && available() < len.saturating_add(len / 64) { Err(Errno::ENOMEM) } else { Ok(()) }
}

fn allocate_step(file: BorrowedFd<'_>, start: i64, len: i64) -> Result<(), Errno> {
    /// Bytes allocated at a time, 1 MiB, once a signal has interrupted the call, which undoes its work; a call of this
    /// length completes even under frequent signals.
    const PART: i64 = 1 << 20;
    match fallocate(file, FallocateFlags::empty(), start, len) {
        Err(Errno::EINTR) => {}
        result => return result,
    }
    let mut done = 0;
    while done < len {
        let part = PART.min(len - done);
        retry(|| fallocate(file, FallocateFlags::empty(), start + done, part))?;
        done += part;
    }
    Ok(())
}

/// Checks that `file` is a memory file with the seals of [`SEALED`], on tmpfs, and if given of exactly `len` bytes
/// (fcntl(2), fstat(2), fstatfs(2)).
pub(crate) fn check(file: BorrowedFd<'_>, len: Option<u64>) -> Result<Result<Checked, BadFile>, Errno> {
    let seals = match fcntl(file, FcntlArg::F_GET_SEALS) {
        // EBADF: a descriptor that only names a path (`O_PATH` of open(2)).
        Err(Errno::EINVAL | Errno::EBADF) => return Ok(Err(BadFile::NotMemory)),
        result => SealFlag::from_bits_retain(result?),
    };
    if !seals.contains(SEALED) {
        return Ok(Err(BadFile::Unsealed));
    }
    let stat = fstat(file)?;
    // A file with seals is on tmpfs or made of huge pages, and its block size is its page size. On tmpfs that may be
    // large too, and then only fstatfs(2) distinguishes the two.
    if stat.st_blksize > PAGE as libc::blksize_t && fstatfs(file)?.filesystem_type() != TMPFS_MAGIC {
        return Ok(Err(BadFile::NotTmpfs));
    }
    let actual = u64::try_from(stat.st_size).unwrap_or(0);
    if len.is_some_and(|len| len != actual) {
        return Ok(Err(BadFile::WrongSize));
    }
    Ok(Ok(Checked { id: FileId::of(&stat), len: actual, frozen: seals.contains(SealFlag::F_SEAL_WRITE) }))
}

/// The identity of the file behind a descriptor (fstat(2)).
pub(crate) fn id(file: BorrowedFd<'_>) -> Result<FileId, Errno> {
    fstat(file).map(|stat| FileId::of(&stat))
}

impl FileId {
    /// The identity in the result of fstat(2).
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// `len` as the kernel expects it; `EFBIG` if it exceeds the file size limit, at which the kernel would raise SIGXFSZ
/// (`RLIMIT_FSIZE` of getrlimit(2)). In a sandbox that refuses to tell the limit, there is none.
pub(crate) fn allowed_len(len: usize) -> Result<i64, Errno> {
    let limit = getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(limit, _)| limit);
    let wanted = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
    if len as u64 > limit { Err(Errno::EFBIG) } else { Ok(wanted) }
}
