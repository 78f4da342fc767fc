//! Shared buffers with a name, for processes that have no port between them.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use bytemuck::Zeroable;

use super::file::{check_header, file_len, header};
use super::shared::SharedBuffer;
use crate::error::{BadSegment, exhausted, with_cause};
use crate::layout::{BufferConstants, HEADER_LEN, NAMED_MAGIC};
use crate::sys::named::Named;
use crate::sys::shared::SharedMapping;
use crate::sys::{Errno, named};

/// Most bytes of a name, 240: with the prefix `messageport.` it is the name of a file, which has at most 255.
const MAX_NAME: usize = 240;

/// Offset of the magic word, which is written last, when the rest of the header is complete.
const MAGIC_OFFSET: usize = offset_of!(BufferConstants, preamble.magic);

impl SharedBuffer {
    /// A new buffer of `len` bytes, all zero, which other processes of this user can [open](Self::open_named) by its
    /// name.
    ///
    /// The name is created in `/dev/shm` with mode 0600: it did not exist before, and no other user can open it. It is
    /// removed when the last clone of the returned buffer is dropped, or by [`remove_name`](Self::remove_name);
    /// processes that have the buffer open keep it. A process that is killed leaves its names behind.
    ///
    /// A named buffer is weaker than one that came over a port, because the size of its file cannot be sealed. If a
    /// process of the same user truncates the file, which this library never does, every process that accesses the
    /// memory then dies by SIGBUS. So a named buffer cannot be posted; post its name.
    ///
    /// # Errors
    /// [`NamedBufferError::BadName`], [`Exists`](NamedBufferError::Exists),
    /// [`NoSharedMemory`](NamedBufferError::NoSharedMemory),
    /// [`ResourceExhausted`](NamedBufferError::ResourceExhausted), for example because `/dev/shm` is full, or because a
    /// sandbox refuses a system call.
    pub fn create_named(name: &str, len: usize) -> Result<Self, NamedBufferError> {
        let path = path(name)?;
        let file_len = file_len(len).map_err(not_created)?;
        let mapping = Named::create(&path, file_len).and_then(SharedMapping::named).map_err(not_created)?;
        mapping.write(0, bytemuck::bytes_of(&header(0, len)));
        // Release: pairs with the acquire load in `open_named`, so that a process that reads the magic word finds the
        // rest of the header.
        mapping.u64(MAGIC_OFFSET).store(NAMED_MAGIC, Ordering::Release);
        Ok(Self::from_mapping(None, mapping, len))
    }

    /// Opens the buffer of a name, which must have at least `min_len` bytes.
    ///
    /// # Errors
    /// [`NamedBufferError::BadName`], [`Missing`](NamedBufferError::Missing), [`NotOurs`](NamedBufferError::NotOurs),
    /// [`Unfinished`](NamedBufferError::Unfinished), [`NotABuffer`](NamedBufferError::NotABuffer),
    /// [`TooSmall`](NamedBufferError::TooSmall), [`ResourceExhausted`](NamedBufferError::ResourceExhausted).
    pub fn open_named(name: &str, min_len: usize) -> Result<Self, NamedBufferError> {
        let path = path(name)?;
        let seen = named::look(&path).map_err(failed)?;
        if !seen.is_ours {
            return Err(NamedBufferError::NotOurs);
        }
        if !seen.allocated {
            return Err(NamedBufferError::Unfinished);
        }
        let len = seen.len.checked_sub(HEADER_LEN as u64).ok_or(NamedBufferError::NotABuffer(BadSegment::WrongSize))?;
        let mapping = Named::open(&path, &seen).and_then(SharedMapping::named).map_err(failed)?;
        // Acquire: pairs with the release store in `create_named`.
        if mapping.u64(MAGIC_OFFSET).load(Ordering::Acquire) == 0 {
            return Err(NamedBufferError::Unfinished);
        }
        let mut found = BufferConstants::zeroed();
        mapping.read(0, bytemuck::bytes_of_mut(&mut found));
        check_header(&found, NAMED_MAGIC, len).map_err(NamedBufferError::NotABuffer)?;
        let len = len as usize;
        if len < min_len {
            return Err(NamedBufferError::TooSmall { len, min_len });
        }
        Ok(Self::from_mapping(None, mapping, len))
    }

    /// Removes a name, for example that of a process that was killed. Processes that have the buffer open keep it.
    ///
    /// # Errors
    /// [`NamedBufferError::BadName`], [`Missing`](NamedBufferError::Missing), [`NotOurs`](NamedBufferError::NotOurs).
    pub fn remove_name(name: &str) -> Result<(), NamedBufferError> {
        named::remove(&path(name)?).map_err(failed)
    }
}

/// The name of the file for shm_open(3).
fn path(name: &str) -> Result<String, NamedBufferError> {
    let fits = (1..=MAX_NAME).contains(&name.len());
    if !fits || name.contains(['/', '\0']) {
        return Err(NamedBufferError::BadName);
    }
    Ok(format!("/messageport.{name}"))
}

/// Why a name was not created. A new name has no other owner: a refusal is the system's.
fn not_created(errno: Errno) -> NamedBufferError {
    match errno {
        Errno::EEXIST => NamedBufferError::Exists,
        Errno::ENOENT => NamedBufferError::NoSharedMemory,
        errno => NamedBufferError::ResourceExhausted(exhausted(errno)),
    }
}

/// Why a name was not opened or removed.
fn failed(errno: Errno) -> NamedBufferError {
    match errno {
        Errno::ENOENT if !named::exist() => NamedBufferError::NoSharedMemory,
        Errno::ENOENT => NamedBufferError::Missing,
        Errno::EACCES | Errno::EPERM => NamedBufferError::NotOurs,
        Errno::ESTALE => NamedBufferError::Unfinished,
        errno => NamedBufferError::ResourceExhausted(exhausted(errno)),
    }
}

/// A named [`SharedBuffer`] could not be created or opened, or its name not be removed.
#[derive(Debug)]
#[non_exhaustive]
pub enum NamedBufferError {
    /// The name is empty, longer than 240 bytes, or contains a slash or a zero byte.
    BadName,
    /// The name is taken, by a buffer or by other memory.
    Exists,
    /// There is no memory of this name.
    Missing,
    /// The system has no named shared memory: no file system is mounted at `/dev/shm`.
    NoSharedMemory,
    /// The name belongs to another user, or other users may open it.
    NotOurs,
    /// Its creator has not finished it yet, or was killed before it did.
    Unfinished,
    /// The memory of this name is not a buffer.
    NotABuffer(BadSegment),
    /// The buffer has fewer bytes than required.
    TooSmall {
        /// Bytes of the buffer.
        len: usize,
        /// Bytes required.
        min_len: usize,
    },
    /// A system call failed, for want of memory or descriptors for example.
    ResourceExhausted(io::Error),
}

impl fmt::Display for NamedBufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str("the name is empty, too long, or contains a slash or a zero byte"),
            Self::Exists => f.write_str("the name is taken"),
            Self::Missing => f.write_str("there is no buffer of this name"),
            Self::NoSharedMemory => f.write_str("there is no /dev/shm, where named memory lies"),
            Self::NotOurs => f.write_str("the name belongs to another user, or other users may open it"),
            Self::Unfinished => f.write_str("the buffer has not been finished by its creator"),
            Self::NotABuffer(bad) => with_cause(f, &"not a buffer", bad),
            Self::TooSmall { len, min_len } => write!(f, "the buffer has {len} bytes, not {min_len}"),
            Self::ResourceExhausted(error) => with_cause(f, &"cannot create or open the buffer", error),
        }
    }
}

impl std::error::Error for NamedBufferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotABuffer(bad) => Some(bad),
            Self::ResourceExhausted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<NamedBufferError> for io::Error {
    fn from(error: NamedBufferError) -> Self {
        let kind = match error {
            NamedBufferError::BadName | NamedBufferError::TooSmall { .. } => io::ErrorKind::InvalidInput,
            NamedBufferError::Exists => io::ErrorKind::AlreadyExists,
            NamedBufferError::Missing | NamedBufferError::NoSharedMemory => io::ErrorKind::NotFound,
            NamedBufferError::NotOurs => io::ErrorKind::PermissionDenied,
            NamedBufferError::Unfinished => io::ErrorKind::WouldBlock,
            NamedBufferError::NotABuffer(_) => io::ErrorKind::InvalidData,
            NamedBufferError::ResourceExhausted(error) => return error,
        };
        Self::new(kind, error)
    }
}
