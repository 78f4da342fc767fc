//! Named shared memory (shm_overview(7)), by the `shared_memory` crate.
//!
//! The crate creates the memory exclusively with mode 0600, maps it, and removes the name when its owner is dropped. It
//! does not allocate the memory, check who owns it, or detect forks; those are done here, through descriptors that are
//! closed again at once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::geteuid;
use shared_memory::{Shmem, ShmemConf, ShmemError};

use super::fork::Home;
use super::memfd::{self, FileId, allowed_len};
use super::presence::is_allocated;
use super::standard::{Held, above_standard};
use super::{Errno, errno, retry};

/// A mapping of named memory. Its creator's process also removes the name when it is dropped.
pub(crate) struct Named {
    shmem: Mutex<SendShmem>,
    id: FileId,
    home: Home,
}

/// A [`Shmem`], which is not `Send` because it contains a raw pointer.
struct SendShmem(Shmem);

// SAFETY: the mapping and the descriptor of a `Shmem` belong to the process, and the crate keeps nothing that belongs
// to a thread.
unsafe impl Send for SendShmem {}

/// The properties of a name's memory before it is mapped.
pub(crate) struct Look {
    /// Bytes of the memory.
    pub(crate) len: u64,
    /// This user owns it, and no other user can open it.
    pub(crate) is_ours: bool,
    /// It is not empty, and all of it is allocated.
    pub(crate) allocated: bool,
    id: FileId,
}

/// Examines the memory of a name (shm_open(3), fstat(2)). `ENOENT`: there is none. `EACCES`: it belongs to another
/// user.
pub(crate) fn look(name: &str) -> Result<Look, Errno> {
    let file = open(name)?;
    let stat = fstat(&file)?;
    let len = stat.st_size.try_into().unwrap_or(0);
    let private = stat.st_mode & 0o077 == 0;
    Ok(Look {
        len,
        is_ours: stat.st_uid == geteuid().as_raw() && private,
        allocated: len > 0 && is_allocated(file.as_fd(), len)?,
        id: FileId::of(&stat),
    })
}

/// The identity of the memory of a name.
fn id(name: &str) -> Result<FileId, Errno> {
    memfd::id(open(name)?.as_fd())
}

fn open(name: &str) -> Result<OwnedFd, Errno> {
    above_standard(retry(|| shm_open(name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()))?)
}

impl Named {
    /// New memory of `len` bytes, all zero and allocated. `EEXIST`: the name is taken.
    pub(crate) fn create(name: &str, len: usize) -> Result<Self, Errno> {
        allowed_len(len)?; // beyond the file size limit the kernel would raise SIGXFSZ
        memfd::look_for(len as u64)?; // after `mlockall` the mapping allocates all of it
        let home = Home::here()?;
        let _held = Held::new().map_err(errno)?; // the crate keeps its descriptor
        let shmem = ShmemConf::new().os_id(name).size(len).create().map_err(errno_of)?;
        // From here on an early return drops `shmem`, which removes the name.
        let file = open(name)?;
        memfd::allocate(file.as_fd(), len)?;
        Ok(Self { id: memfd::id(file.as_fd())?, shmem: Mutex::new(SendShmem(shmem)), home })
    }

    /// Maps the memory that [`look`] examined. `ESTALE`: the name now refers to other memory.
    pub(crate) fn open(name: &str, seen: &Look) -> Result<Self, Errno> {
        let home = Home::here()?;
        let _held = Held::new().map_err(errno)?; // the crate keeps its descriptor
        let shmem = ShmemConf::new().os_id(name).open().map_err(errno_of)?;
        // The crate shows no descriptor. The name referred to the same file before and after the call, so that file is
        // mapped.
        let id = id(name)?;
        if id != seen.id || shmem.len() as u64 != seen.len {
            return Err(Errno::ESTALE);
        }
        Ok(Self { shmem: Mutex::new(SendShmem(shmem)), id, home })
    }

    /// The address and the length of the mapping.
    pub(crate) fn memory(&self) -> (*mut u8, usize) {
        let shmem = self.shmem.lock().unwrap_or_else(PoisonError::into_inner);
        (shmem.0.as_ptr(), shmem.0.len())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let shmem = &mut self.shmem.get_mut().unwrap_or_else(PoisonError::into_inner).0;
        // In a forked child the name belongs to the parent; and the name may have been removed and reused for other
        // memory.
        let is_ours = self.home.is_here() && id(shmem.get_os_id()).is_ok_and(|id| id == self.id);
        if !is_ours {
            shmem.set_owner(false);
        }
    }
}

/// True if the system has named memory: a directory `/dev/shm` (shm_overview(7)).
pub(crate) fn exist() -> bool {
    Path::new("/dev/shm").is_dir()
}

/// Removes a name (shm_unlink(3)). Its memory lives on while a process has it mapped.
pub(crate) fn remove(name: &str) -> Result<(), Errno> {
    shm_unlink(name)
}

fn errno_of(error: ShmemError) -> Errno {
    match error {
        ShmemError::MappingIdExists => Errno::EEXIST,
        ShmemError::MapCreateFailed(errno) | ShmemError::MapOpenFailed(errno) | ShmemError::UnknownOsError(errno) => {
            Errno::from_raw(errno as i32)
        }
        _ => Errno::EINVAL, // errors about link files, which are not used, and about a size of zero
    }
}
