//! Shared buffers with a name, for processes that have no port between them.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;

use bytemuck::Zeroable;

use super::file::{check_header, file_len, header};
use super::shared::SharedBuffer;
use crate::error::{BadSegment, exhausted, with_cause};
use crate::layout::{BufferConstants, HEADER_LEN, NAMED_MAGIC};
use crate::sys::named::Named;
use crate::sys::shared::SharedMapping;
use crate::sys::{Errno, named};

/// Longest name, in bytes: as a file's name, with what is put before it.
const MAX_NAME: usize = 240;

impl SharedBuffer {
    /// A new buffer of `len` bytes, all zero, that other processes of this user can [open](Self::open_named) by its
    /// name.
    ///
    /// The name lies in `/dev/shm`, with mode 0600; nobody had it before, and no other user can open it. It is
    /// removed when the last clone of the buffer that this call returned is dropped, or by
    /// [`remove_name`](Self::remove_name); those who have the buffer open then keep it. A process that is killed
    /// leaves its names behind.
    ///
    /// A named buffer is weaker than one that came over a port: the size of its file cannot be sealed. A process of
    /// the same user that cuts the file, which no process does that uses this library, makes everybody who touches
    /// the memory then die by SIGBUS. So it cannot be posted; send its name.
    ///
    /// # Errors
    /// [`NamedBufferError::BadName`], [`Exists`](NamedBufferError::Exists),
    /// [`ResourceExhausted`](NamedBufferError::ResourceExhausted): among other things `/dev/shm` has no room.
    pub fn create_named(name: &str, len: usize) -> Result<Self, NamedBufferError> {
        let path = path(name)?;
        let file_len = file_len(len).map_err(failed)?;
        let mapping = Named::create(&path, file_len).and_then(SharedMapping::named).map_err(failed)?;
        mapping.write(0, bytemuck::bytes_of(&header(0, len)));
        // Release, with the acquire in `open_named`: whoever sees the magic word finds the rest.
        mapping.u64(0).store(NAMED_MAGIC, Ordering::Release);
        Ok(Self::from_named(mapping, len))
    }

    /// The buffer of a name, which has at least `min_len` bytes.
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
        if seen.len == 0 || !seen.allocated {
            return Err(NamedBufferError::Unfinished);
        }
        let len = seen.len.checked_sub(HEADER_LEN as u64).ok_or(NamedBufferError::NotABuffer(BadSegment::WrongSize))?;
        let mapping = Named::open(&path, &seen).and_then(SharedMapping::named).map_err(failed)?;
        // Acquire, with the release in `create_named`.
        if mapping.u64(0).load(Ordering::Acquire) == 0 {
            return Err(NamedBufferError::Unfinished);
        }
        let mut found = BufferConstants::zeroed();
        mapping.read(0, bytemuck::bytes_of_mut(&mut found));
        check_header(&found, NAMED_MAGIC, len).map_err(NamedBufferError::NotABuffer)?;
        let len = len as usize;
        if len < min_len {
            return Err(NamedBufferError::TooSmall { len, min_len });
        }
        Ok(Self::from_named(mapping, len))
    }

    /// Removes a name, that of a process that was killed for instance; whoever has the buffer open keeps it.
    ///
    /// # Errors
    /// [`NamedBufferError::BadName`], [`Missing`](NamedBufferError::Missing), [`NotOurs`](NamedBufferError::NotOurs).
    pub fn remove_name(name: &str) -> Result<(), NamedBufferError> {
        named::remove(&path(name)?).map_err(failed)
    }
}

/// The name as shm_open(3) takes it.
fn path(name: &str) -> Result<String, NamedBufferError> {
    let fits = (1..=MAX_NAME).contains(&name.len());
    if !fits || name.contains(['/', '\0']) {
        return Err(NamedBufferError::BadName);
    }
    Ok(format!("/messageport.{name}"))
}

fn failed(errno: Errno) -> NamedBufferError {
    match errno {
        Errno::EEXIST => NamedBufferError::Exists,
        Errno::ENOENT => NamedBufferError::Missing,
        Errno::EACCES | Errno::EPERM => NamedBufferError::NotOurs,
        Errno::ESTALE => NamedBufferError::Unfinished,
        errno => NamedBufferError::ResourceExhausted(exhausted(errno)),
    }
}

/// A [`SharedBuffer`] with a name could not be made, opened or removed.
#[derive(Debug)]
#[non_exhaustive]
pub enum NamedBufferError {
    /// Empty, longer than 240 bytes, or with a slash or a zero in it.
    BadName,
    /// There is a buffer of this name, or something else.
    Exists,
    /// There is none.
    Missing,
    /// The name belongs to another user, or others than this user may open it.
    NotOurs,
    /// Its maker is at work on it, or was killed while it was.
    Unfinished,
    /// It is something else.
    NotABuffer(BadSegment),
    /// It has fewer bytes than asked for.
    TooSmall {
        /// Bytes that it has.
        len: usize,
        /// Bytes asked for.
        min_len: usize,
    },
    /// The system has no memory, descriptors or the like to give.
    ResourceExhausted(io::Error),
}

impl fmt::Display for NamedBufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str("the name is empty, too long, or has a slash or a zero in it"),
            Self::Exists => f.write_str("the name is taken"),
            Self::Missing => f.write_str("there is no buffer of this name"),
            Self::NotOurs => f.write_str("the name is not this user's alone"),
            Self::Unfinished => f.write_str("the buffer has not been finished by its maker"),
            Self::NotABuffer(bad) => with_cause(f, &"not a buffer", bad),
            Self::TooSmall { len, min_len } => write!(f, "the buffer has {len} bytes, not {min_len}"),
            Self::ResourceExhausted(error) => with_cause(f, &"cannot make or open the buffer", error),
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
            NamedBufferError::Missing => io::ErrorKind::NotFound,
            NamedBufferError::NotOurs => io::ErrorKind::PermissionDenied,
            NamedBufferError::Unfinished => io::ErrorKind::WouldBlock,
            NamedBufferError::NotABuffer(_) => io::ErrorKind::InvalidData,
            NamedBufferError::ResourceExhausted(error) => return error,
        };
        Self::new(kind, error)
    }
}
