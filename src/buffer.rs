//! `TransferBuffer`: a block of memory that moves between processes by handle and is never copied.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytemuck::Zeroable;

use crate::error::{BadSegment, BufferError, exhausted};
use crate::layout::{BUFFER_MAGIC, BufferConstants, HEADER_LEN, VERSION};
use crate::segment::NotAdopted;
use crate::sys::mapping::Mapping;
use crate::sys::{Errno, memfd};

/// Longest buffer, 1 TiB: a sparse file can claim any size, and one that no address space holds is refused for good.
const MAX_LEN: u64 = 1 << 40;

/// A block of memory that can be posted: the native `ArrayBuffer` of a transfer list.
///
/// Posting it hands the memory itself to the receiver, whatever its size: no byte is copied, and the receiver maps the
/// same physical pages. The sender's handle is *detached* by that: its length reads 0 and every access fails. (With
/// [`post_message`](crate::MessagePort::post_message) the handle is gone altogether.) A received buffer can be posted
/// on, over any port, any number of times. Dropping the last handle frees the memory.
///
/// A new buffer is filled with zeroes. All of its memory is allocated by [`new`](Self::new), so that a shortage is an
/// error there and never a signal later.
///
/// The protocol gives a buffer one holder at a time, but a process that once held it and kept its descriptor against
/// the rules can still see and alter the pages. So the safe ways to its bytes are copies, [`read_at`](Self::read_at)
/// and [`write_at`](Self::write_at); the slices are `unsafe`.
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
    /// `None` once detached. Shared only while it is lent to a post, which may detach it too.
    memory: RefCell<Option<Arc<Memory>>>,
}

pub(crate) struct Memory {
    pub(crate) file: OwnedFd,
    mapping: Mapping,
    pub(crate) len: usize,
    /// Lent to a post, and transferred by it.
    gone: AtomicBool,
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
        Self { memory: RefCell::new(Some(Arc::new(memory))) }
    }

    /// Lends the buffer to a post: a second handle, to be transferred or dropped, and the memory, to be marked as gone in
    /// the first case. `None` if the buffer cannot be transferred.
    #[cfg(feature = "serde")]
    pub(crate) fn lend(&self) -> Option<(Self, Arc<Memory>)> {
        let memory = self.memory.try_borrow().ok()?;
        let memory = memory.as_ref().filter(|memory| memory.is_usable())?;
        Some((Self { memory: RefCell::new(Some(Arc::clone(memory))) }, Arc::clone(memory)))
    }

    /// Bytes in the buffer; 0 for one that was transferred away, as with `ArrayBuffer.byteLength`.
    pub fn len(&self) -> usize {
        self.memory.borrow().as_ref().filter(|memory| !memory.is_gone()).map_or(0, |memory| memory.len)
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
        self.with(offset, into.len(), |memory| memory.mapping.read(HEADER_LEN + offset, into))
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        self.with(offset, from.len(), |memory| memory.mapping.write(HEADER_LEN + offset, from))
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
            Ok(Some(memory)) if memory.is_usable() => unsafe { memory.mapping.slice(HEADER_LEN, memory.len) },
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
            // A buffer that is lent is nobody's to write.
            Some(memory) if memory.is_usable() => Arc::get_mut(memory).map_or(&mut [], |memory| {
                let len = memory.len;
                // SAFETY: nobody else reads or writes, says the caller.
                unsafe { memory.mapping.slice_mut(HEADER_LEN, len) }
            }),
            _ => &mut [],
        }
    }

    /// The memory, for the one operation that posts it.
    pub(crate) fn memory(&self) -> &RefCell<Option<Arc<Memory>>> {
        &self.memory
    }

    fn with(&self, offset: usize, len: usize, access: impl FnOnce(&Memory)) -> Result<(), BufferError> {
        let memory = self.memory.borrow();
        let memory = memory.as_ref().filter(|memory| !memory.is_gone()).ok_or(BufferError::Detached)?;
        if !memory.is_here() {
            return Err(BufferError::Forked);
        }
        if offset > memory.len || len > memory.len - offset {
            return Err(BufferError::OutOfRange { offset, len, buffer_len: memory.len });
        }
        access(memory);
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
        if len as u64 > MAX_LEN {
            return Err(Errno::EFBIG);
        }
        let file_len = HEADER_LEN + len;
        let file = memfd::create(c"messageport-buffer", file_len)?;
        memfd::allocate(file.as_fd(), file_len)?;
        let mapping = Mapping::new(file.as_fd(), file_len)?;
        mapping.advise_huge();
        let mut constants = BufferConstants::zeroed();
        constants.magic = BUFFER_MAGIC;
        constants.version = VERSION;
        constants.header_len = HEADER_LEN as u32;
        constants.len = len as u64;
        mapping.write(0, bytemuck::bytes_of(&constants));
        Ok(Self { file, mapping, len, gone: AtomicBool::new(false) })
    }

    /// Forbids further seals: from the first post on, no holder can take writing away from a later one.
    pub(crate) fn seal(&self) -> Result<(), Errno> {
        memfd::seal(self.file.as_fd())
    }

    /// Takes over a buffer of `len` bytes that came from elsewhere, after the same checks as for a segment.
    pub(crate) fn adopt(file: OwnedFd, len: u64) -> Result<Self, NotAdopted> {
        let bad = |bad: BadSegment| NotAdopted::Bad(bad);
        if len > MAX_LEN {
            return Err(bad(BadSegment::WrongSize));
        }
        let file_len = len + HEADER_LEN as u64;
        memfd::check(file.as_fd(), Some(file_len)).map_err(NotAdopted::Exhausted)?.map_err(|file| bad(file.into()))?;
        let mapped_len = file_len as usize;
        let mapping = Mapping::new(file.as_fd(), mapped_len).map_err(|errno| match errno {
            Errno::EPERM | Errno::EACCES => bad(BadSegment::ReadOnly),
            errno => NotAdopted::Exhausted(errno),
        })?;
        mapping.advise_huge();
        let mut constants = BufferConstants::zeroed();
        mapping.read(0, bytemuck::bytes_of_mut(&mut constants));
        if constants.magic != BUFFER_MAGIC {
            return Err(bad(BadSegment::NotASegment));
        }
        if constants.version != VERSION {
            return Err(bad(BadSegment::Version { found: constants.version, expected: VERSION }));
        }
        if constants.len != len || constants.header_len != HEADER_LEN as u32 {
            return Err(bad(BadSegment::BadConstants));
        }
        Ok(Self { file, mapping, len: mapped_len - HEADER_LEN, gone: AtomicBool::new(false) })
    }

    /// A post to which it was lent has transferred it.
    #[cfg(feature = "serde")]
    pub(crate) fn set_gone(&self) {
        // Release, with the acquire in `is_gone`: the buffer may have gone to another thread.
        self.gone.store(true, Ordering::Release);
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// False once transferred, and in a child that inherited the buffer by `fork`.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_gone() && self.is_here()
    }

    /// False in a child that inherited the buffer by `fork`.
    fn is_here(&self) -> bool {
        self.mapping.home().is_here()
    }
}
