//! `FrozenBuffer`: memory that is sealed against writes, and that any number of processes read through a plain slice.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::file::{self, BufferKind, not_created};
use crate::error::{BadSegment, BufferError, Rejection, not_mapped};
use crate::layout::HEADER_LEN;
use crate::sys::frozen::FrozenMapping;
use crate::sys::passed::Passed;
use crate::sys::{Errno, memfd};

/// Bytes, 256 KiB, that are copied into a frozen buffer at a time.
const COPY_PART: usize = 256 << 10;

/// A block of memory that no process can write: neither this one, nor an earlier holder, nor a receiver. The
/// kernel enforces it by the seal `F_SEAL_WRITE` of fcntl(2), and every receiver checks the seal. So the bytes are a
/// plain slice: `FrozenBuffer` dereferences to `[u8]`.
///
/// Posting a frozen buffer clones the handle and not the memory: the sender keeps it, it can be posted to any number of
/// ports, and all of them share one copy of the bytes. It arrives in [`Message::frozen`](crate::Message::frozen).
/// Dropping the last handle in any process frees the memory.
///
/// A frozen buffer is made of bytes, of the contents of a file, or of a [`TransferBuffer`](crate::TransferBuffer) by
/// [`freeze`](crate::TransferBuffer::freeze). Its bytes start at a page, so they are aligned for any plain data
/// (`bytemuck::cast_slice`). A child made by `fork` can read the buffers that it inherited.
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
    memory: Arc<FrozenMemory>,
}

struct FrozenMemory {
    file: OwnedFd,
    mapping: FrozenMapping,
    /// Bytes of the buffer; the mapping may have more.
    len: usize,
}

impl FrozenBuffer {
    /// Copies `bytes` into a new frozen buffer.
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`]: no memory, no descriptor, or more bytes than the file size limit; see
    /// [`TransferBuffer::new`](crate::TransferBuffer::new).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BufferError> {
        let file = file::create(BufferKind::Frozen, bytes.len()).map_err(not_created)?;
        memfd::write(file.as_fd(), HEADER_LEN, bytes).map_err(not_created)?;
        Self::seal(file, bytes.len()).map_err(not_created)
    }

    /// Copies the contents of a regular file, from its beginning to its end, into a new frozen buffer. The cursor of
    /// the file does not move.
    ///
    /// # Errors
    /// [`BufferError::Unreadable`]: the file is not a regular one, or could not be read up to the end that it had when
    /// the call began. [`BufferError::ResourceExhausted`] as for [`from_bytes`](Self::from_bytes).
    pub fn from_file(file: &File) -> Result<Self, BufferError> {
        let metadata = file.metadata().map_err(BufferError::Unreadable)?;
        if !metadata.is_file() {
            return Err(BufferError::Unreadable(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        let read = |start, part: &mut [u8]| file.read_exact_at(part, start as u64).map_err(BufferError::Unreadable);
        Self::copy(len, read, not_created)
    }

    /// A new frozen buffer of `len` bytes. `read` fills a part of them, of which it gets the offset; `shortage` makes
    /// the error of a system call.
    pub(super) fn copy<Error>(
        len: usize,
        read: impl Fn(usize, &mut [u8]) -> Result<(), Error>,
        shortage: impl Fn(Errno) -> Error,
    ) -> Result<Self, Error> {
        let file = file::create(BufferKind::Frozen, len).map_err(&shortage)?;
        let mut part = vec![0; COPY_PART.min(len)];
        for start in (0..len).step_by(COPY_PART) {
            let part = &mut part[..COPY_PART.min(len - start)];
            read(start, part)?;
            memfd::write(file.as_fd(), HEADER_LEN + start, part).map_err(&shortage)?;
        }
        Self::seal(file, len).map_err(shortage)
    }

    /// Freezes a new file that has been filled and never been mapped.
    fn seal(file: OwnedFd, len: usize) -> Result<Self, Errno> {
        Self::freeze(file, len, len, || {}).map_err(|(errno, _)| errno)
    }

    /// Seals the file of a buffer of `len` bytes that has room for `capacity`. Just before, `unmap` drops the caller's
    /// mapping of the file. An error returns the file.
    pub(crate) fn freeze(
        file: OwnedFd,
        len: usize,
        capacity: usize,
        unmap: impl FnOnce(),
    ) -> Result<Self, (Errno, OwnedFd)> {
        match FrozenMapping::freeze(file.as_fd(), HEADER_LEN + capacity, unmap) {
            Ok(mapping) => Ok(Self::new(file, mapping, len)),
            Err(errno) => Err((errno, file)),
        }
    }

    /// Adopts a received buffer of `len` bytes.
    pub(crate) fn adopt(passed: &mut Passed, len: u64) -> Result<Self, Rejection<BadSegment>> {
        let (file, mapped_len) = passed.check(|file| file::adopt(file, BufferKind::Frozen, len))?;
        let mapping = FrozenMapping::new(file.as_fd(), mapped_len).map_err(not_mapped)?;
        Ok(Self::new(file, mapping, len as usize))
    }

    fn new(file: OwnedFd, mapping: FrozenMapping, len: usize) -> Self {
        Self { memory: Arc::new(FrozenMemory { file, mapping, len }) }
    }

    /// The file, for a post.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.memory.file.as_fd()
    }
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
