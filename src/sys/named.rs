//! Shared memory with a name (shm_overview(7)), by the `shared_memory` crate.
//!
//! The crate creates exclusively with mode 0600, maps, and removes the name when its owner is dropped. It does not
//! allocate the memory, tell whose it is, or know of forks, so this is done here, over a descriptor of our own that
//! lives as long as it takes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::geteuid;
use shared_memory::{Shmem, ShmemConf, ShmemError};

use super::fork::Home;
use super::memfd::{self, FileId, allowed_len, is_allocated};
use super::{Errno, retry};

/// A mapping of named memory, and perhaps the duty to remove the name.
pub(crate) struct Named {
    shmem: Mutex<Held>,
    id: FileId,
    home: Home,
}

struct Held(Shmem);

// SAFETY: a mapping and a descriptor belong to the process; the crate keeps nothing that belongs to a thread.
unsafe impl Send for Held {}

/// What is known of a name before its memory is mapped.
pub(crate) struct Look {
    pub(crate) len: u64,
    /// It is this user's, and nobody else may open it.
    pub(crate) is_ours: bool,
    /// All of its memory is there.
    pub(crate) allocated: bool,
    id: FileId,
}

/// Looks at a name. `ENOENT`: there is none. `EACCES`: it is another user's.
pub(crate) fn look(name: &str) -> Result<Look, Errno> {
    let stat = fstat(file(name)?)?;
    let private = stat.st_mode & 0o077 == 0;
    Ok(Look {
        len: stat.st_size.try_into().unwrap_or(0),
        is_ours: stat.st_uid == geteuid().as_raw() && private,
        allocated: is_allocated(&stat),
        id: FileId::of(&stat),
    })
}

fn file(name: &str) -> Result<OwnedFd, Errno> {
    retry(|| shm_open(name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()))
}

impl Named {
    /// New memory of `len` bytes, all zero and all there. `EEXIST`: the name is taken.
    pub(crate) fn create(name: &str, len: usize) -> Result<Self, Errno> {
        allowed_len(len)?; // past the file size limit the kernel would raise SIGXFSZ
        let home = Home::here()?;
        let shmem = ShmemConf::new().os_id(name).size(len).create().map_err(errno)?;
        // From here on dropping `shmem` removes the name.
        let file = file(name)?;
        memfd::allocate(file.as_fd(), len)?;
        Ok(Self { id: memfd::id(file.as_fd())?, shmem: Mutex::new(Held(shmem)), home })
    }

    /// The memory that was looked at. `ESTALE`: the name has come to stand for something else.
    pub(crate) fn open(name: &str, seen: &Look) -> Result<Self, Errno> {
        let home = Home::here()?;
        let shmem = ShmemConf::new().os_id(name).open().map_err(errno)?;
        // The crate shows no descriptor. The name stood for the same file before and after: that is what was mapped.
        let id = look(name)?.id;
        if id != seen.id || shmem.len() as u64 != seen.len {
            return Err(Errno::ESTALE);
        }
        Ok(Self { shmem: Mutex::new(Held(shmem)), id, home })
    }

    /// Where the memory is mapped, and how much.
    pub(crate) fn memory(&self) -> (*mut u8, usize) {
        let shmem = self.shmem.lock().unwrap_or_else(PoisonError::into_inner);
        (shmem.0.as_ptr(), shmem.0.len())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let shmem = &mut self.shmem.get_mut().unwrap_or_else(PoisonError::into_inner).0;
        // In a forked child the name is the parent's; and it may have been removed and given to other memory.
        let is_ours = self.home.is_here() && look(shmem.get_os_id()).is_ok_and(|seen| seen.id == self.id);
        if !is_ours {
            shmem.set_owner(false);
        }
    }
}

/// Removes a name; the memory lives on with those who have it open.
pub(crate) fn remove(name: &str) -> Result<(), Errno> {
    shm_unlink(name)
}

fn errno(error: ShmemError) -> Errno {
    match error {
        ShmemError::MappingIdExists => Errno::EEXIST,
        ShmemError::MapCreateFailed(errno) | ShmemError::MapOpenFailed(errno) | ShmemError::UnknownOsError(errno) => {
            Errno::from_raw(errno as i32)
        }
        _ => Errno::EINVAL, // about link files, which are not used, and a size of zero
    }
}
