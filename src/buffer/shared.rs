//! `SharedBuffer`: memory that several processes read and write at the same time.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use bytemuck::Pod;

use super::cursor::{Buffer, BufferCursor, whole};
use super::file::{self, Kind, place};
use crate::error::{BadSegment, BufferError, Rejection, exhausted, not_mapped};
use crate::layout::HEADER_LEN;
use crate::sys::Errno;
use crate::sys::shared::SharedMapping;

/// A block of memory that several holders read and write at the same time: the native `SharedArrayBuffer`.
///
/// Posting one clones the handle and not the memory: sender and receiver have the same bytes from then on. It arrives
/// in [`Message::shared`](crate::Message::shared). The last handle to go frees the memory.
///
/// Two ways lead to the bytes, and both are safe whatever others do at the same time.
/// [`atomic_u32`](Self::atomic_u32) and [`atomic_u64`](Self::atomic_u64) give the words in place, with which holders
/// tell each other who may use which part when. [`read_at`](Self::read_at), [`write_at`](Self::write_at) and what is
/// built on them copy; a copy that overlaps with another one may be a mixture of both, and its order against other
/// accesses is that of relaxed atomics: publish with a release store, and look with an acquire load.
///
/// A new buffer is filled with zeroes. All of its memory is allocated by [`new`](Self::new), and its size can never
/// change, so touching it raises no signal. A child made by `fork` shares what it inherited. Processes that have no
/// port between them can share one by a name: [`create_named`](Self::create_named).
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
    memory: Arc<Memory>,
}

struct Memory {
    /// `None` for one with a name, whose size is not sealed: it is not for others to take in.
    file: Option<OwnedFd>,
    mapping: SharedMapping,
    len: usize,
}

impl SharedBuffer {
    /// A new buffer of `len` bytes, all zero; 0 is allowed.
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`]: no memory, no descriptor, or `len` is over 1 TiB or the file size limit.
    pub fn new(len: usize) -> Result<Self, BufferError> {
        let out_of = |errno: Errno| BufferError::ResourceExhausted(exhausted(errno));
        let file = file::create(Kind::Shared, len).map_err(out_of)?;
        let file_len = file::file_len(len).map_err(out_of)?;
        let mapping = SharedMapping::new(file.as_fd(), file_len).map_err(out_of)?;
        Ok(Self { memory: Arc::new(Memory { file: Some(file), mapping, len }) })
    }

    /// Takes over a buffer of `len` bytes that came from elsewhere.
    pub(crate) fn adopt(file: OwnedFd, len: u64) -> Result<Self, Rejection<BadSegment>> {
        let mapped_len = file::adopt(file.as_fd(), Kind::Shared, len)?;
        let mapping = SharedMapping::new(file.as_fd(), mapped_len).map_err(not_mapped)?;
        Ok(Self { memory: Arc::new(Memory { file: Some(file), mapping, len: len as usize }) })
    }

    /// The memory of a name.
    pub(crate) fn from_named(mapping: SharedMapping, len: usize) -> Self {
        Self { memory: Arc::new(Memory { file: None, mapping, len }) }
    }

    /// The file, for a post.
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

    /// The word at `offset`, a multiple of 4, in place.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`], [`BufferError::Misaligned`].
    pub fn atomic_u32(&self, offset: usize) -> Result<&AtomicU32, BufferError> {
        Ok(self.memory.mapping.u32(self.word(offset, size_of::<u32>())?))
    }

    /// The word at `offset`, a multiple of 8, in place.
    ///
    /// # Errors
    /// As for [`atomic_u32`](Self::atomic_u32).
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, BufferError> {
        Ok(self.memory.mapping.u64(self.word(offset, size_of::<u64>())?))
    }

    /// The bytes in place, for callers in other languages; valid as long as a clone of the buffer. Others write to them at
    /// the same time: only atomic accesses are in order.
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.mapping.pointer(HEADER_LEN)
    }

    fn word(&self, offset: usize, size: usize) -> Result<usize, BufferError> {
        if !offset.is_multiple_of(size) {
            return Err(BufferError::Misaligned { offset, align: size });
        }
        place(offset, size, self.len())
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`]: nothing was copied.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        self.memory.mapping.read(place(offset, into.len(), self.len())?, into);
        Ok(())
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        self.memory.mapping.write(place(offset, from.len(), self.len())?, from);
        Ok(())
    }

    /// Copies all bytes out; `into` is as long as the buffer.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at); another length is [`BufferError::OutOfRange`].
    pub fn copy_to_slice(&self, into: &mut [u8]) -> Result<(), BufferError> {
        whole(into.len(), self.len())?;
        self.read_at(0, into)
    }

    /// Copies all bytes in; `from` is as long as the buffer.
    ///
    /// # Errors
    /// As for [`copy_to_slice`](Self::copy_to_slice).
    pub fn copy_from_slice(&self, from: &[u8]) -> Result<(), BufferError> {
        whole(from.len(), self.len())?;
        self.write_at(0, from)
    }

    /// A copy of all bytes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn to_vec(&self) -> Result<Vec<u8>, BufferError> {
        let mut bytes = vec![0; self.len()];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// A value of plain data, copied out from `offset` on, which needs no alignment.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn read_value<T: Pod>(&self, offset: usize) -> Result<T, BufferError> {
        let mut value = T::zeroed();
        self.read_at(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Copies a value of plain data in, from `offset` on, which needs no alignment.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn write_value<T: Pod>(&self, offset: usize, value: &T) -> Result<(), BufferError> {
        self.write_at(offset, bytemuck::bytes_of(value))
    }

    /// Copies values of plain data out, as many as `into` has, from `offset` on, which counts bytes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn read_values<T: Pod>(&self, offset: usize, into: &mut [T]) -> Result<(), BufferError> {
        self.read_at(offset, bytemuck::cast_slice_mut(into))
    }

    /// Copies values of plain data in, from `offset` on, which counts bytes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn write_values<T: Pod>(&self, offset: usize, from: &[T]) -> Result<(), BufferError> {
        self.write_at(offset, bytemuck::cast_slice(from))
    }

    /// The buffer as a stream of bytes, from its beginning.
    pub fn cursor(&self) -> BufferCursor<'_> {
        BufferCursor::new(Buffer::Shared(self))
    }
}

impl fmt::Debug for SharedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}
