//! `TransferBuffer`: a block of memory that moves between processes by handle and is never copied.

pub(crate) mod frozen;
pub(crate) mod shared;
pub(crate) mod named;
pub(crate) mod cursor;
pub(crate) mod pool;
pub(crate) mod memory;
pub(crate) mod file;

use self::memory::{Hold, Memory, Role};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytemuck::Pod;

use self::cursor::{Buffer, BufferCursor, whole};
use self::file::place;
use self::frozen::FrozenBuffer;
use crate::error::{BufferError, exhausted, with_cause};
use crate::layout::HEADER_LEN;

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
    hold: RefCell<Option<Hold>>,
}

impl TransferBuffer {
    /// A new buffer of `len` bytes, all zero; 0 is allowed. [`MessagePort::buffer`](crate::MessagePort::buffer) may have
    /// one that costs less.
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`]: no memory, no descriptor, or `len` is over 1 TiB or the file size limit.
    pub fn new(len: usize) -> Result<Self, BufferError> {
        let memory = Memory::create(len).map_err(|errno| BufferError::ResourceExhausted(exhausted(errno)))?;
        Ok(Self::from_hold(Hold::new(Arc::new(memory), len, Role::New)))
    }

    #[inline]
    pub(crate) fn from_hold(hold: Hold) -> Self {
        Self { hold: RefCell::new(Some(hold)) }
    }

    /// Copies all bytes out, to the end of `into`.
    pub(crate) fn append_to(&self, into: &mut Vec<u8>) {
        if let Some(hold) = self.hold.borrow().as_ref().filter(|hold| hold.is_usable()) {
            hold.memory.read_to_vec(hold.len, into);
        }
    }

    /// Lends the buffer to a post: a second handle, to be transferred or dropped, and another hold on its memory, to be
    /// marked as gone in the first case. `None` if the buffer cannot be transferred.
    #[cfg(feature = "serde")]
    pub(crate) fn lend(&self) -> Option<(Self, Hold)> {
        let mut hold = self.hold.try_borrow_mut().ok()?;
        let hold = hold.as_mut().filter(|hold| hold.is_usable())?;
        Some((Self::from_hold(hold.share()), hold.share()))
    }

    /// Bytes in the buffer; 0 for one that was transferred away, as with `ArrayBuffer.byteLength`.
    pub fn len(&self) -> usize {
        self.hold.borrow().as_ref().filter(|hold| !hold.is_gone()).map_or(0, |hold| hold.len)
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
        let fail = |kind, buffer| Err(FreezeError { kind, buffer });
        let Some(hold) = self.hold.take() else { return fail(FreezeErrorKind::Detached, self) };
        if hold.role != Role::New {
            return fail(FreezeErrorKind::Received, Self { hold: RefCell::new(Some(hold)) });
        }
        if !hold.is_sole() {
            return fail(FreezeErrorKind::InUse, Self { hold: RefCell::new(Some(hold)) });
        }
        let (memory, len) = (Arc::clone(&hold.memory), hold.len);
        drop(hold);
        let back = |memory| Self::from_hold(Hold::new(Arc::new(memory), len, Role::New));
        match Arc::try_unwrap(memory).map(|memory| memory.freeze(len)) {
            Ok(Ok(frozen)) => Ok(frozen),
            Ok(Err((kind, memory))) => fail(kind, memory.map_or(Self { hold: RefCell::new(None) }, back)),
            Err(memory) => fail(FreezeErrorKind::InUse, Self::from_hold(Hold::new(memory, len, Role::New))),
        }
    }

    /// The bytes in place. Empty if the buffer is detached or inherited by `fork`.
    ///
    /// # Safety
    /// While the slice lives, no other process writes to the buffer's memory (every one that held it before gave it
    /// up when it posted it, as the protocol demands), and nothing in this process transfers or writes it.
    #[allow(unsafe_code)]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: a shared borrow is never turned into `None` while the slice lives: the caller does not transfer.
        let hold = unsafe { self.hold.try_borrow_unguarded() };
        match hold {
            // SAFETY: nobody writes, says the caller.
            Ok(Some(hold)) if hold.is_usable() => unsafe { hold.memory.mapping.slice(HEADER_LEN, hold.len) },
            _ => &[],
        }
    }

    /// The bytes in place, writable. Empty if the buffer is detached or inherited by `fork`.
    ///
    /// # Safety
    /// While the slice lives, no other process reads or writes the buffer's memory; see [`as_slice`](Self::as_slice).
    #[allow(unsafe_code)]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        match self.hold.get_mut() {
            // A buffer that is lent is nobody's to write.
            Some(hold) if hold.is_usable() && hold.is_sole() => {
                // SAFETY: nobody else reads or writes, says the caller.
                unsafe { hold.memory.mapping.slice_mut(HEADER_LEN, hold.len) }
            }
            _ => &mut [],
        }
    }

    /// The hold on the memory, for the one operation that posts it.
    #[inline]
    pub(crate) fn hold(&self) -> &RefCell<Option<Hold>> {
        &self.hold
    }

    fn with(&self, offset: usize, len: usize, access: impl FnOnce(&Memory, usize)) -> Result<(), BufferError> {
        let hold = self.hold.borrow();
        let hold = hold.as_ref().filter(|hold| !hold.is_gone()).ok_or(BufferError::Detached)?;
        if !hold.memory.is_here() {
            return Err(BufferError::Forked);
        }
        access(&hold.memory, place(offset, len, hold.len)?);
        Ok(())
    }
}

impl fmt::Debug for TransferBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Why a buffer was not frozen.
#[derive(Debug)]
#[non_exhaustive]
pub enum FreezeErrorKind {
    /// It has been transferred away.
    Detached,
    /// It was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// It came over a port: whoever had it before may have kept a way to its memory.
    Received,
    /// Somebody else, who broke the rules to get at it, has its memory mapped for writing.
    InUse,
    /// The system has no memory or the like to give.
    ResourceExhausted(io::Error),
}

impl fmt::Display for FreezeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detached => BufferError::Detached.fmt(f),
            Self::Forked => BufferError::Forked.fmt(f),
            Self::Received => f.write_str("the buffer was received: only a new one can be frozen"),
            Self::InUse => f.write_str("somebody else has the buffer mapped for writing"),
            Self::ResourceExhausted(error) => with_cause(f, &"cannot freeze the buffer", error),
        }
    }
}

impl std::error::Error for FreezeErrorKind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ResourceExhausted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<FreezeErrorKind> for io::Error {
    fn from(error: FreezeErrorKind) -> Self {
        let kind = match error {
            FreezeErrorKind::Detached | FreezeErrorKind::Received => io::ErrorKind::InvalidInput,
            FreezeErrorKind::Forked => io::ErrorKind::Unsupported,
            FreezeErrorKind::InUse => io::ErrorKind::ResourceBusy,
            FreezeErrorKind::ResourceExhausted(error) => return error,
        };
        Self::new(kind, error)
    }
}

/// [`TransferBuffer::freeze`] failed: why, and the buffer back.
#[derive(Debug)]
pub struct FreezeError {
    /// Why.
    pub kind: FreezeErrorKind,
    /// The buffer, as it was. After `InUse` only, and only if this process may not map its memory again, it is
    /// detached.
    pub buffer: TransferBuffer,
}

impl fmt::Display for FreezeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for FreezeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

/// The buffer is dropped.
impl From<FreezeError> for io::Error {
    fn from(error: FreezeError) -> Self {
        error.kind.into()
    }
}
