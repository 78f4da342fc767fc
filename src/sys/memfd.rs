//! Sealed memory files: memfd_create(2), file seals of fcntl(2), and the checks on a file that came from elsewhere.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{FileStat, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Whence, ftruncate, lseek};

use super::{Errno, retry};

/// Newer than the `nix` flags: no execution, and sealed so (Linux 6.3).
const MFD_NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);

/// The size can never change again.
pub(crate) const SEALED_SIZE: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);
/// No seal can be added any more either, so nobody can later forbid us to write.
pub(crate) const SEALED: SealFlag = SEALED_SIZE.union(SealFlag::F_SEAL_SEAL);

/// Which file a descriptor stands for, whatever its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// Why a descriptor is not the sealed memory file it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadFile {
    /// Not a memory file at all.
    NotMemory,
    /// Seals are missing: its owner could still change its size and make us fault.
    Unsealed,
    /// Not on tmpfs: a huge-page file can raise SIGBUS when the pool is empty.
    NotTmpfs,
    /// Its size is another one than was said.
    WrongSize,
}

/// What is known of a memory file that passed [`check`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    pub(crate) id: FileId,
    pub(crate) len: u64,
    /// All of its memory is there: reading it can meet no shortage.
    pub(crate) allocated: bool,
    /// Sealed against writes, by every holder and for ever.
    pub(crate) frozen: bool,
}

/// A new memory file of `len` bytes, all zero and sparse, with `seals`: [`SEALED_SIZE`] or [`SEALED`].
pub(crate) fn create(name: &CStr, len: usize, seals: SealFlag) -> Result<OwnedFd, Errno> {
    let len = allowed_len(len)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = match memfd_create(name, flags | MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create(name, flags)?, // before Linux 6.3
        result => result?,
    };
    retry(|| ftruncate(&file, len))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// Forbids any further seal. Calling it again on a sealed file does nothing.
pub(crate) fn seal(file: BorrowedFd<'_>) -> Result<(), Errno> {
    match fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)) {
        Err(Errno::EPERM) => Ok(()), // sealed already
        result => result.map(drop),
    }
}

/// True if no memory has ever been allocated to the page at `offset` (lseek(2), which moves nothing that is used here: all
/// reading and writing is by mapping or by offset). To read it by a mapping would allocate it.
pub(crate) fn is_hole(file: BorrowedFd<'_>, offset: usize) -> bool {
    match lseek(file, offset as i64, Whence::SeekData) {
        Ok(data) => data >= offset as i64 + 4096,
        Err(errno) => errno == Errno::ENXIO, // holes to the end
    }
}

/// Writes at `offset` of a file that has the size for it, without a mapping.
pub(crate) fn write(file: BorrowedFd<'_>, mut offset: usize, mut from: &[u8]) -> Result<(), Errno> {
    while !from.is_empty() {
        let done = retry(|| pwrite(file, from, offset as i64))?;
        offset += done;
        from = &from[done..];
    }
    Ok(())
}

/// Reads at `offset` of a file that has the size for it, without a mapping.
pub(crate) fn read(file: BorrowedFd<'_>, mut offset: usize, mut into: &mut [u8]) -> Result<(), Errno> {
    while !into.is_empty() {
        let done = retry(|| pread(file, into, offset as i64))?;
        if done == 0 {
            return Err(Errno::EIO); // shorter than it was checked to be
        }
        offset += done;
        into = &mut into[done..];
    }
    Ok(())
}

/// Forbids every write and any further seal, for ever. `EBUSY`: somebody has the file mapped for writing. `EPERM`:
/// the last seal was set before.
pub(crate) fn freeze(file: BorrowedFd<'_>) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL)).map(drop)
}

/// True if no further seal can be added.
pub(crate) fn is_sealed(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS)?;
    Ok(SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SEAL))
}

/// Allocates the memory of the whole file now, so that a shortage is an error here and not a signal later.
pub(crate) fn allocate(file: BorrowedFd<'_>, len: usize) -> Result<(), Errno> {
    /// A signal undoes the call that it interrupts; parts of this size get through even under many signals.
    const PART: i64 = 1 << 20;
    let len = allowed_len(len)?;
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Err(Errno::EINTR) => {}
        result => return result,
    }
    let mut done = 0;
    while done < len {
        let part = PART.min(len - done);
        retry(|| fallocate(file, FallocateFlags::empty(), done, part))?;
        done += part;
    }
    Ok(())
}

/// Checks that `file` is a memory file, sealed as [`SEALED`] at least, and of exactly `len` bytes if given.
pub(crate) fn check(file: BorrowedFd<'_>, len: Option<u64>) -> Result<Result<Checked, BadFile>, Errno> {
    let seals = match fcntl(file, FcntlArg::F_GET_SEALS) {
        // EBADF: it only names a place in the file system (O_PATH).
        Err(Errno::EINVAL | Errno::EBADF) => return Ok(Err(BadFile::NotMemory)),
        result => SealFlag::from_bits_retain(result?),
    };
    if !seals.contains(SEALED) {
        return Ok(Err(BadFile::Unsealed));
    }
    let stat = fstat(file)?;
    // A file that has seals is on tmpfs or made of huge pages, and its blocks are as large as its pages. Where these are
    // large on tmpfs too, the file system has to be asked.
    if stat.st_blksize > 4096 && fstatfs(file)?.filesystem_type() != TMPFS_MAGIC {
        return Ok(Err(BadFile::NotTmpfs));
    }
    let actual = u64::try_from(stat.st_size).unwrap_or(0);
    if len.is_some_and(|len| len != actual) {
        return Ok(Err(BadFile::WrongSize));
    }
    Ok(Ok(Checked {
        id: FileId::of(&stat),
        len: actual,
        allocated: is_allocated(&stat),
        frozen: seals.contains(SealFlag::F_SEAL_WRITE),
    }))
}

/// A file without holes. Blocks are units of 512 bytes (stat(3type)), and what has been swapped out counts.
pub(crate) fn is_allocated(stat: &FileStat) -> bool {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) >= u64::try_from(stat.st_size).unwrap_or(u64::MAX)
}

/// The identity of the file behind a descriptor (fstat(2)).
pub(crate) fn id(file: BorrowedFd<'_>) -> Result<FileId, Errno> {
    fstat(file).map(|stat| FileId::of(&stat))
}

impl FileId {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// `len` as the kernel takes it, if the file size limit allows it: past RLIMIT_FSIZE the kernel would raise SIGXFSZ.
pub(crate) fn allowed_len(len: usize) -> Result<i64, Errno> {
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
    let wanted = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
    if len as u64 > limit { Err(Errno::EFBIG) } else { Ok(wanted) }
}
