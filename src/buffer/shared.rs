//! `SharedBuffer`: memory that several processes read and write at the same time.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::file::{self, BufferKind, not_created, offset_in_file};
use crate::error::{BadSegment, BufferError, Rejection, not_mapped};
use crate::layout::HEADER_LEN;
use crate::sys::passed::Passed;
use crate::sys::shared::SharedMapping;

/// A block of memory that several holders read and write at the same time: the native `SharedArrayBuffer`.
///
/// Posting a shared buffer clones the handle and not the memory: sender and receiver then share the bytes. It arrives
/// in [`Message::shared`](crate::Message::shared). Dropping the last handle in any process frees the memory.
///
/// There are two ways to access the bytes, and both are safe whatever other holders do at the same time.
/// - [`atomic_u32`](Self::atomic_u32) and [`atomic_u64`](Self::atomic_u64) return words in place, by which the holders
///   agree which of them uses which part when.
/// - [`read_at`](Self::read_at), [`write_at`](Self::write_at) and the methods of [`BufferBytes`](crate::BufferBytes)
///   copy. A copy that overlaps with another one may read or leave a mixture of both. Its order against other accesses
///   is that of relaxed atomics: publish a copy with a release store, and read it after an acquire load.
///
/// A new buffer is filled with zeroes. [`new`](Self::new) allocates all of its memory, a received buffer is refused
/// unless all of its memory is there, and its size can never change. Every holder can return memory of the buffer to
/// the system, which this library never does: the next access to a returned page allocates it again, and may kill the
/// process if the system, or its memory cgroup, has none left.
///
/// A child made by `fork` shares the buffers that it inherited. Processes without a port between them can share a
/// buffer by name: [`create_named`](Self::create_named).
///
/// ```
/// # use std::sync::atomic::Ordering;
/// # use messageport::{MessageChannel, SharedBuffer};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = MessageChannel::new()?;
/// let buffer = SharedBuffer::new(4096)?;
/// channel.port1.post_message(b"ours", [buffer.clone().into()])?;
///
/// let theirs = channel.port2.recv()?.shared.remove(0);
/// theirs.write_at(8, b"some data")?;
/// theirs.atomic_u64(0)?.store(1, Ordering::Release); // "the data is there"
///
/// assert_eq!(buffer.atomic_u64(0)?.load(Ordering::Acquire), 1);
/// let mut data = [0; 9];
/// buffer.read_at(8, &mut data)?;
/// assert_eq!(&data, b"some data");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedBuffer {
    memory: Arc<SharedMemory>,
}

struct SharedMemory {
    /// `None` for a buffer with a name: the size of its file is not sealed, so receivers would reject it.
    file: Option<OwnedFd>,
    mapping: SharedMapping,
    /// Bytes of the buffer, behind the header.
    len: usize,
}

impl SharedBuffer {
    /// A new buffer of `len` bytes, all zero; 0 is allowed.
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`]: no memory, no descriptor, or `len` exceeds 1 TiB or the file size limit; see
    /// [`TransferBuffer::new`](crate::TransferBuffer::new).
    pub fn new(len: usize) -> Result<Self, BufferError> {
        let file = file::create(BufferKind::Shared, len).map_err(not_created)?;
        let mapping = SharedMapping::new(file.as_fd(), HEADER_LEN + len).map_err(not_created)?;
        Ok(Self::from_mapping(Some(file), mapping, len))
    }

    /// Adopts a received buffer of `len` bytes.
    pub(crate) fn adopt(passed: &mut Passed, len: u64) -> Result<Self, Rejection<BadSegment>> {
        let (file, mapped_len) = passed.check(|file| file::adopt(file, BufferKind::Shared, len))?;
        let mapping = SharedMapping::new(file.as_fd(), mapped_len).map_err(not_mapped)?;
        Ok(Self::from_mapping(Some(file), mapping, len as usize))
    }

    /// The buffer of a mapping. `file` is `None` for a named one.
    pub(super) fn from_mapping(file: Option<OwnedFd>, mapping: SharedMapping, len: usize) -> Self {
        Self { memory: Arc::new(SharedMemory { file, mapping, len }) }
    }

    /// The file, for a post. `None` for a buffer with a name, which cannot be posted.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.memory.file.as_ref().map(AsFd::as_fd)
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        self.memory.len
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The 32-bit word at `offset`, a multiple of 4, in place.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`], [`BufferError::Misaligned`].
    pub fn atomic_u32(&self, offset: usize) -> Result<&AtomicU32, BufferError> {
        Ok(self.memory.mapping.u32(self.word(offset, size_of::<u32>())?))
    }

    /// The 64-bit word at `offset`, a multiple of 8, in place.
    ///
    /// # Errors
    /// Those of [`atomic_u32`](Self::atomic_u32).
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, BufferError> {
        Ok(self.memory.mapping.u64(self.word(offset, size_of::<u64>())?))
    }

    /// The address of the bytes, for callers in other languages. It is valid while a clone of the buffer lives. Other
    /// holders write to the bytes at the same time, so only atomic accesses are ordered.
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.mapping.pointer(HEADER_LEN)
    }

    /// The offset in the file of the word of `size` bytes at `offset`.
    fn word(&self, offset: usize, size: usize) -> Result<usize, BufferError> {
        if !offset.is_multiple_of(size) {
            return Err(BufferError::Misaligned { offset, align: size });
        }
        offset_in_file(offset, size, self.len())
    }

    /// Copies the bytes at `offset` out, as many as `into` has.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`]: nothing was copied.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        self.memory.mapping.read(offset_in_file(offset, into.len(), self.len())?, into);
        Ok(())
    }

    /// Copies `from` in, at `offset`.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`]: nothing was copied.
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        self.memory.mapping.write(offset_in_file(offset, from.len(), self.len())?, from);
        Ok(())
    }
}

impl fmt::Debug for SharedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}
