//! `TransferBuffer`: a block of memory that moves between processes by handle and is never copied.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use bytemuck::Pod;

use crate::buffer_file::{self, Kind, place};
use crate::cursor::{Buffer, BufferCursor, whole};
use crate::error::{BufferError, FreezeError, FreezeErrorKind, exhausted};
use crate::frozen::FrozenBuffer;
use crate::layout::HEADER_LEN;
use crate::segment::NotAdopted;
use crate::sys::mapping::Mapping;
use crate::sys::{Errno, memfd};

/// A block of memory that can be posted: the native `ArrayBuffer` of a transfer list.
///
/// Posting it hands the memory itself to the receiver, whatever its size: no byte is copied, and the receiver maps the
/// same physical pages. The sender's handle is *detached* by that: its length reads 0 and every access fails. (With
/// [`post_message`](crate::MessagePort::post_message) the handle is gone altogether.) A received buffer can be posted
/// on, over any port, any number of times. Dropping the last handle frees the memory.
///
/// It is transferred whole. A part of it cannot leave on its own: the kernel hands over and seals files, not parts of
/// them, so both sides would go on holding all of it. Where several receivers each need a part, give each a buffer of
/// its own; or [`freeze`](Self::freeze) it, post it to all of them, and say in the messages which part is whose.
///
/// A new buffer is filled with zeroes. All of its memory is allocated by [`new`](Self::new), so that a shortage is an
/// error there and never a signal later.
///
/// The protocol gives a buffer one holder at a time, but a process that once held it and kept its descriptor against
/// the rules can still see and alter the pages. So the safe ways to its bytes are copies: [`read_at`](Self::read_at),
/// [`write_at`](Self::write_at) and what is built on them, for plain data and as a stream. The slices are `unsafe`,
/// or safe in a [frozen](Self::freeze) buffer.
///
/// ```
/// # use messageport::{MessageChannel, TransferBuffer};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = MessageChannel::new()?;
/// let buffer = TransferBuffer::new(1 << 20)?;
/// buffer.write_at(0, b"a megabyte of pixels")?;
/// channel.port1.post_message(b"frame 1", [buffer.into()])?;
///
/// let message = channel.port2.recv()?;
/// let mut start = [0; 9];
/// message.buffers[0].read_at(2, &mut start)?;
/// assert_eq!(&start, b"megabyte ");
/// # Ok(()) }
/// ```
pub struct TransferBuffer {
    /// `None` once detached.
    memory: RefCell<Option<Memory>>,
}

pub(crate) struct Memory {
    pub(crate) file: OwnedFd,
    mapping: Mapping,
    pub(crate) len: usize,
}

impl TransferBuffer {
    /// A new buffer of `len` bytes, all zero; 0 is allowed.
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`]: no memory, no descriptor, or `len` is over 1 TiB or the file size limit.
    pub fn new(len: usize) -> Result<Self, BufferError> {
        Memory::create(len).map(Self::from_memory).map_err(|errno| BufferError::ResourceExhausted(exhausted(errno)))
    }

    pub(crate) fn from_memory(memory: Memory) -> Self {
        Self { memory: RefCell::new(Some(memory)) }
    }

    /// Bytes in the buffer; 0 for one that was transferred away, as with `ArrayBuffer.byteLength`.
    pub fn len(&self) -> usize {
        self.memory.borrow().as_ref().map_or(0, |memory| memory.len)
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`], [`Detached`](BufferError::Detached), [`Forked`](BufferError::Forked); nothing was
    /// copied.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        self.with(offset, into.len(), |memory, place| memory.mapping.read(place, into))
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        self.with(offset, from.len(), |memory, place| memory.mapping.write(place, from))
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
        BufferCursor::new(Buffer::Transfer(self))
    }

    /// Makes the buffer one that nobody can write any more, whose bytes are a plain slice; none is copied.
    ///
    /// # Errors
    /// [`FreezeErrorKind::Received`]: it came over a port, and whoever had it before may have kept a way to its
    /// memory. The buffer is in the error, as it was.
    pub fn freeze(self) -> Result<FrozenBuffer, FreezeError> {
        let Some(memory) = self.memory.take() else {
            return Err(FreezeError { kind: FreezeErrorKind::Detached, buffer: self });
        };
        memory.freeze().map_err(|(kind, memory)| FreezeError { kind, buffer: Self { memory: RefCell::new(memory) } })
    }

    /// The bytes in place. Empty if the buffer is detached or inherited by `fork`.
    ///
    /// # Safety
    /// While the slice lives, no other process writes to the buffer's memory (every one that held it before gave it
    /// up when it posted it, as the protocol demands), and nothing in this process transfers or writes it.
    #[allow(unsafe_code)]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: a shared borrow is never turned into `None` while the slice lives: the caller does not transfer.
        let memory = unsafe { self.memory.try_borrow_unguarded() };
        match memory {
            // SAFETY: nobody writes, says the caller.
            Ok(Some(memory)) if memory.is_here() => unsafe { memory.mapping.slice(HEADER_LEN, memory.len) },
            _ => &[],
        }
    }

    /// The bytes in place, writable. Empty if the buffer is detached or inherited by `fork`.
    ///
    /// # Safety
    /// While the slice lives, no other process reads or writes the buffer's memory; see [`as_slice`](Self::as_slice).
    #[allow(unsafe_code)]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        match self.memory.get_mut() {
            Some(memory) if memory.is_here() => {
                let len = memory.len;
                // SAFETY: nobody else reads or writes, says the caller.
                unsafe { memory.mapping.slice_mut(HEADER_LEN, len) }
            }
            _ => &mut [],
        }
    }

    /// The memory, for the one operation that posts it.
    pub(crate) fn memory(&self) -> &RefCell<Option<Memory>> {
        &self.memory
    }

    fn with(&self, offset: usize, len: usize, access: impl FnOnce(&Memory, usize)) -> Result<(), BufferError> {
        let memory = self.memory.borrow();
        let memory = memory.as_ref().ok_or(BufferError::Detached)?;
        if !memory.is_here() {
            return Err(BufferError::Forked);
        }
        access(memory, place(offset, len, memory.len)?);
        Ok(())
    }
}

impl fmt::Debug for TransferBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Memory {
    fn create(len: usize) -> Result<Self, Errno> {
        let file = buffer_file::create(Kind::Transfer, len)?;
        Self::map(file, len).map_err(|(errno, _)| errno)
    }

    /// Takes over a buffer of `len` bytes that came from elsewhere.
    pub(crate) fn adopt(file: OwnedFd, len: u64) -> Result<Self, NotAdopted> {
        let mapped_len = buffer_file::adopt(file.as_fd(), Kind::Transfer, len)?;
        Self::map(file, mapped_len - HEADER_LEN).map_err(|(errno, _)| buffer_file::not_mapped(errno))
    }

    fn map(file: OwnedFd, len: usize) -> Result<Self, (Errno, OwnedFd)> {
        match Mapping::new(file.as_fd(), HEADER_LEN + len) {
            Ok(mapping) => {
                mapping.advise_huge();
                Ok(Self { file, mapping, len })
            }
            Err(errno) => Err((errno, file)),
        }
    }

    /// Freezes the memory, or gives it back; `None` if it could not even be mapped again as it was.
    fn freeze(self) -> Result<FrozenBuffer, (FreezeErrorKind, Option<Self>)> {
        if !self.is_here() {
            return Err((FreezeErrorKind::Forked, Some(self)));
        }
        let kind = |errno| match errno {
            Errno::EPERM => FreezeErrorKind::Received,
            Errno::EBUSY => FreezeErrorKind::InUse,
            errno => FreezeErrorKind::ResourceExhausted(exhausted(errno)),
        };
        match memfd::is_sealed(self.file.as_fd()) {
            Ok(false) => {}
            Ok(true) => return Err((FreezeErrorKind::Received, Some(self))),
            Err(errno) => return Err((kind(errno), Some(self))),
        }
        let Self { file, mapping, len } = self;
        mapping.write(0, bytemuck::bytes_of(&Kind::Frozen.header(len)));
        let mut mapping = Some(mapping);
        let (errno, file) = match FrozenBuffer::freeze(file, len, || drop(mapping.take())) {
            Ok(frozen) => return Ok(frozen),
            Err(failed) => failed,
        };
        let memory = match mapping {
            Some(mapping) => Ok(Self { file, mapping, len }),
            None => Self::map(file, len),
        };
        if let Ok(memory) = &memory {
            memory.mapping.write(0, bytemuck::bytes_of(&Kind::Transfer.header(len)));
        }
        Err((kind(errno), memory.ok()))
    }

    /// False in a child that inherited the buffer by `fork`.
    pub(crate) fn is_here(&self) -> bool {
        self.mapping.home().is_here()
    }
}
