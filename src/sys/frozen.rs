//! Memory that is sealed against writes: the one kind of shared memory that is a plain slice.

use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{Advice, Mmap, MmapOptions};

use super::memfd::{self, BadFile};
use super::{Errno, errno, retry};

/// A mapping of a file that is sealed against writes and against changes of its size. A forked child inherits it and
/// may read it.
pub(crate) struct FrozenMapping {
    map: Mmap,
}

impl FrozenMapping {
    /// Maps a sealed file of `len` bytes. `EPERM`: the file is not sealed, or its size differs.
    pub(crate) fn new(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        Self { map: map_private(file, len)? }.checked(file)
    }

    /// Seals and maps a file of `len` bytes. Calls `unmap` once only the seal itself can fail; it must drop the
    /// caller's mapping, because the kernel adds no such seal while the file is mapped for writing (`EBUSY`).
    pub(crate) fn freeze(file: BorrowedFd<'_>, len: usize, unmap: impl FnOnce()) -> Result<Self, Errno> {
        let frozen = Self { map: map_private(file, len)? };
        unmap();
        retry(|| memfd::freeze(file))?;
        frozen.checked(file)
    }

    /// Checks the invariant that `Deref` relies on. Seals are permanent, so it holds for ever once it holds.
    fn checked(self, file: BorrowedFd<'_>) -> Result<Self, Errno> {
        match memfd::check(file, Some(self.map.len() as u64))? {
            Ok(checked) if checked.frozen => Ok(self),
            Ok(_) | Err(BadFile::NotMemory | BadFile::Unsealed | BadFile::NotTmpfs | BadFile::WrongSize) => {
                Err(Errno::EPERM)
            }
        }
    }
}

/// Maps `file` for reading, privately (mmap(2)).
///
/// Kernels before Linux 6.7 refuse to map a file that is sealed against writes as shared, even for reading. While
/// nothing writes to a private mapping, and nothing can, its pages are those of the file.
fn map_private(file: BorrowedFd<'_>, len: usize) -> Result<Mmap, Errno> {
    // SAFETY: a `Mmap` derefs to a slice, so the file must neither change nor shrink while the slice is used. Only
    // `FrozenMapping` hands the slice out, after `checked` has found both seals.
    let map = unsafe { MmapOptions::new().len(len).map_copy_read_only(file.as_raw_fd()) }.map_err(errno)?;
    let _ = map.advise(Advice::HugePage); // a hint: fails where the system has none for shared memory
    Ok(map)
}

impl Deref for FrozenMapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
