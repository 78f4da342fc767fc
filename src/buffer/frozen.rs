//! `FrozenBuffer`: memory that nobody can write any more, read by any number of processes through a plain slice.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::file::{self, Kind};
use crate::error::{BadSegment, BufferError, Rejection, exhausted, not_mapped};
use crate::layout::HEADER_LEN;
use crate::sys::frozen::FrozenMapping;
use crate::sys::{Errno, memfd};

/// Bytes of a file that are copied at a time.
const PART: usize = 256 << 10;

/// A block of memory that nobody can write any more: not this process, not one that had it before, nor one that gets
/// it. The kernel holds it so (the seal `F_SEAL_WRITE` of fcntl(2)), and whoever receives one makes sure of it. So
/// its bytes are a plain slice: `FrozenBuffer` derefs to `[u8]`.
///
/// Posting one clones the handle and not the memory: the sender keeps reading, the same buffer may be posted to any
/// number of ports, and there is one copy of the bytes in memory for all of them. It arrives in
/// [`Message::frozen`](crate::Message::frozen). The last handle to go frees the memory.
///
/// It is made of bytes, of a file's contents, or of a [`TransferBuffer`](crate::TransferBuffer) that has been filled:
/// [`freeze`](crate::TransferBuffer::freeze). The bytes start at a page, so they can be seen as any plain data
/// (`bytemuck::cast_slice`). A child made by `fork` can go on reading what it inherited.
///
/// ```
/// # use messageport::{FrozenBuffer, MessageChannel};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = FrozenBuffer::from_bytes(b"weights")?;
/// let workers = [MessageChannel::new()?, MessageChannel::new()?];
/// for worker in &workers {
///     worker.port1.post_message(b"the model", [model.clone().into()])?;
/// }
/// for worker in &workers {
///     let message = worker.port2.recv()?;
///     assert_eq!(&message.frozen[0][..], b"weights");
/// }
/// assert!(model.starts_with(b"weigh"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FrozenBuffer {
    memory: Arc<Memory>,
}

struct Memory {
    file: OwnedFd,
    mapping: FrozenMapping,
    len: usize,
}

impl FrozenBuffer {
    /// A copy of `bytes`, frozen.
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`]: no memory, no descriptor, or more bytes than the file size limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BufferError> {
        let file = file::create(Kind::Frozen, bytes.len()).map_err(out_of)?;
        memfd::write(file.as_fd(), HEADER_LEN, bytes).map_err(out_of)?;
        Self::freeze(file, bytes.len(), bytes.len(), || {}).map_err(|(errno, _)| out_of(errno))
    }

    /// A copy of a regular file's contents, from its beginning to its end, frozen. The file's cursor stays where it
    /// is.
    ///
    /// # Errors
    /// [`BufferError::Unreadable`]: not a regular file, or it could not be read to the end that it had when the call
    /// began. [`BufferError::ResourceExhausted`] as for [`from_bytes`](Self::from_bytes).
    pub fn from_file(file: &File) -> Result<Self, BufferError> {
        let metadata = file.metadata().map_err(BufferError::Unreadable)?;
        if !metadata.is_file() {
            return Err(BufferError::Unreadable(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        let memory = file::create(Kind::Frozen, len).map_err(out_of)?;
        let mut part = vec![0; PART.min(len)];
        for start in (0..len).step_by(PART) {
            let part = &mut part[..PART.min(len - start)];
            file.read_exact_at(part, start as u64).map_err(BufferError::Unreadable)?;
            memfd::write(memory.as_fd(), HEADER_LEN + start, part).map_err(out_of)?;
        }
        Self::freeze(memory, len, len, || {}).map_err(|(errno, _)| out_of(errno))
    }

    /// Seals the file of a buffer of `len` bytes, with room for `capacity`. `unmap` lets go of the caller's mapping of it,
    /// just before. The file comes back if it fails.
    pub(crate) fn freeze(
        file: OwnedFd,
        len: usize,
        capacity: usize,
        unmap: impl FnOnce(),
    ) -> Result<Self, (Errno, OwnedFd)> {
        match FrozenMapping::freeze(file.as_fd(), HEADER_LEN + capacity, unmap) {
            Ok(mapping) => Ok(Self { memory: Arc::new(Memory { file, mapping, len }) }),
            Err(errno) => Err((errno, file)),
        }
    }

    /// Takes over a buffer of `len` bytes that came from elsewhere.
    pub(crate) fn adopt(file: OwnedFd, len: u64) -> Result<Self, Rejection<BadSegment>> {
        let mapped_len = file::adopt(file.as_fd(), Kind::Frozen, len)?;
        let mapping = FrozenMapping::new(file.as_fd(), mapped_len).map_err(not_mapped)?;
        Ok(Self { memory: Arc::new(Memory { file, mapping, len: len as usize }) })
    }

    /// The file, for a post.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.memory.file.as_fd()
    }
}

fn out_of(errno: Errno) -> BufferError {
    BufferError::ResourceExhausted(exhausted(errno))
}

impl Deref for FrozenBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory.mapping[HEADER_LEN..][..self.memory.len]
    }
}

impl AsRef<[u8]> for FrozenBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for FrozenBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}
