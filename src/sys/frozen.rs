//! Memory that nobody writes any more: the one kind of shared memory that is a plain slice.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{Advice, Mmap, MmapOptions};

use super::memfd::{self, BadFile};
use super::{Errno, retry};

/// A mapping of a file that is sealed against writes and changes of its size. A forked child inherits it, and may
/// read it as every other process may.
pub(crate) struct FrozenMapping {
    map: Mmap,
}

impl FrozenMapping {
    /// Maps a file of `len` bytes that has been sealed. `EPERM`: it has not.
    pub(crate) fn new(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        Self { map: map(file, len)? }.checked(file)
    }

    /// Seals a file of `len` bytes. `unmap` is called when only the seal itself can fail, and lets go of the caller's
    /// mapping: the kernel sets no such seal while anybody can write (`EBUSY`).
    pub(crate) fn freeze(file: BorrowedFd<'_>, len: usize, unmap: impl FnOnce()) -> Result<Self, Errno> {
        let frozen = Self { map: map(file, len)? };
        unmap();
        retry(|| memfd::freeze(file))?;
        frozen.checked(file)
    }

    /// The condition of `Deref`, which holds for ever if it holds now.
    fn checked(self, file: BorrowedFd<'_>) -> Result<Self, Errno> {
        match memfd::check(file, Some(self.map.len() as u64))? {
            Ok(checked) if checked.frozen => Ok(self),
            Ok(_) | Err(BadFile::NotMemory | BadFile::Unsealed | BadFile::NotTmpfs | BadFile::WrongSize) => {
                Err(Errno::EPERM)
            }
        }
    }
}

/// Maps `file` for reading.
///
/// Privately: kernels before Linux 6.7 do not map a file that is sealed against writes as shared, even if only to be
/// read. As long as nobody writes, and nobody can, the pages are those of the file.
fn map(file: BorrowedFd<'_>, len: usize) -> Result<Mmap, Errno> {
    // SAFETY: the bytes are read through `FrozenMapping` only, which exists if the file can neither change nor
    // shrink.
    let map = unsafe { MmapOptions::new().len(len).map_copy_read_only(file.as_raw_fd()) };
    let map = map.map_err(|error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EINVAL as i32)))?;
    let _ = map.advise(Advice::HugePage); // where the system has none for shared memory this does nothing
    Ok(map)
}

impl Deref for FrozenMapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
