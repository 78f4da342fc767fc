//! Buffers: memory that is handed over or shared by a handle. Only a small one may be copied to move it.
//!
//! This file has `TransferBuffer`, which one holder at a time may write; [`frozen`] and [`shared`] have the buffers
//! with many holders, and [`bytes`] the copying methods that transfer and shared buffers have in common. [`memory`] and
//! [`pool`] are the other side of a transfer buffer: its memory, and the memories that both ends of a channel keep to
//! use them again.

pub(crate) mod bytes;
pub(crate) mod cursor;
pub(crate) mod frozen;
pub(crate) mod shared;
#[cfg(feature = "named")]
pub(crate) mod named;
pub(crate) mod pool;
pub(crate) mod memory;
pub(crate) mod file;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;

use self::file::{not_created, offset_in_file};
use self::frozen::FrozenBuffer;
use self::memory::{Hold, Memory, Role};
use crate::error::{BufferError, Refusal, with_cause};
use crate::layout::HEADER_LEN;

/// A block of memory that can be posted: the native `ArrayBuffer` of a transfer list.
///
/// Posting a buffer hands the memory itself to the receiver, whatever its size: no byte is copied, and the receiver
/// maps the same physical pages. The sender's handle is *detached*: its length is 0 and every access fails.
/// ([`post_message`](crate::MessagePort::post_message) takes the handle, so there it is gone altogether.) A received
/// buffer can be posted on, over any port, any number of times. Dropping the last handle frees the memory.
///
/// There are exceptions, in a post that does not wait: a buffer of at most 4 KiB that is not
/// [recycled](crate::MessagePort::buffer), and a buffer within [`max_inline_len`](crate::MessagePort::max_inline_len)
/// when the system takes no further descriptors in unread messages. Their bytes travel in the message, and the receiver
/// has a new buffer with a copy. So the number of such buffers in unread messages is limited by
/// [`max_capacity`](crate::ChannelOptions::max_capacity), and not by the system's limits of descriptors.
///
/// A buffer is transferred whole, because the kernel passes and seals files and not parts of them: both sides would
/// keep all of it. If several receivers each need a part, give each a buffer of its own; or [`freeze`](Self::freeze)
/// the buffer, post it to all of them, and state in the messages which part is for which receiver.
///
/// A new buffer is filled with zeroes. [`new`](Self::new) allocates all of its memory, so that a shortage is an error
/// there, and a received buffer is refused unless all of its memory is there.
///
/// The protocol gives a buffer one holder at a time, but a former holder that kept its descriptor against the protocol
/// can still read and write the pages, and can return them to the system. The next access to a returned page allocates
/// it again. If the system, or the memory cgroup of the process, has no memory left then, that access may kill the
/// process. So the safe ways to access the bytes are copies: [`read_at`](Self::read_at), [`write_at`](Self::write_at)
/// and the methods of [`BufferBytes`](crate::BufferBytes), for plain data and as a stream. Slices are `unsafe`. The
/// bytes of a [frozen](Self::freeze) buffer are a plain slice, and no process can change or return its memory.
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
    /// A new buffer of `len` bytes, all zero; 0 is allowed. [`MessagePort::buffer`](crate::MessagePort::buffer) may
    /// return one that costs less.
    ///
    /// From 16 MiB on, `len` is compared with the memory that the system has available and that the memory cgroups of
    /// the process leave, as far as they can be read; the comparison is repeated every 64 MiB. A smaller buffer, or one
    /// that is allocated while other programs take the same memory, can still exhaust a cgroup, and then the kernel
    /// kills a process.
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`]: no memory, no descriptor, or `len` exceeds 1 TiB or the file size limit.
    pub fn new(len: usize) -> Result<Self, BufferError> {
        let memory = Memory::create(len).map_err(not_created)?;
        Ok(Self::from_hold(Hold::new(Arc::new(memory), len, Role::New)))
    }

    /// The handle of a hold.
    #[inline]
    pub(crate) fn from_hold(hold: Hold) -> Self {
        Self { hold: RefCell::new(Some(hold)) }
    }

    /// Copies all bytes out, to the end of `into`; none if the buffer is detached or inherited by `fork`.
    pub(crate) fn append_to(&self, into: &mut Vec<u8>) {
        if let Some(hold) = self.hold.borrow().as_ref().filter(|hold| hold.is_usable()) {
            hold.memory.read_to_vec(hold.len, into);
        }
    }

    /// Lends the buffer to a post: a second handle, to be transferred or dropped, and another hold on the memory, to be
    /// marked as gone if the handle was transferred. `None` if the buffer cannot be transferred.
    #[cfg(feature = "serde")]
    pub(crate) fn lend(&self) -> Option<(Self, Hold)> {
        let mut hold = self.hold.try_borrow_mut().ok()?;
        let hold = hold.as_mut().filter(|hold| hold.is_usable())?;
        Some((Self::from_hold(hold.share()), hold.share()))
    }

    /// Bytes in the buffer; 0 for a detached one, as with `ArrayBuffer.byteLength`.
    pub fn len(&self) -> usize {
        self.hold.borrow().as_ref().filter(|hold| !hold.is_gone()).map_or(0, |hold| hold.len)
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes at `offset` out, as many as `into` has.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`], [`Detached`](BufferError::Detached), [`Forked`](BufferError::Forked); nothing was
    /// copied.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        self.with(offset, into.len(), |memory, at| memory.mapping.read(at, into))
    }

    /// Copies `from` in, at `offset`.
    ///
    /// # Errors
    /// Those of [`read_at`](Self::read_at).
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        self.with(offset, from.len(), |memory, at| memory.mapping.write(at, from))
    }

    /// Seals the buffer so that no process can write it any more, and its bytes are a plain slice. No byte is copied,
    /// with one exception: after a post that failed, the frozen buffer may be a copy. Making it takes one more
    /// descriptor and, until the old memory is freed, as much memory again.
    ///
    /// # Errors
    /// [`FreezeErrorKind::Received`]: the buffer came over a port, and a former holder may have kept access to its
    /// memory; a buffer that came as a copy can be frozen. The other kinds are listed at [`FreezeErrorKind`]. The
    /// buffer is in the error, unchanged.
    pub fn freeze(self) -> Result<FrozenBuffer, FreezeError> {
        let fail = |kind, buffer| Err(FreezeError::new(kind, buffer));
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
    /// While the slice lives, no other process writes to the buffer's memory or returns it to the system (the protocol
    /// demands that a process gives a buffer up when it posts it), and nothing in this process transfers or writes the
    /// buffer.
    #[allow(unsafe_code)]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: only a transfer changes the cell through a shared reference, and the caller promises that nothing
        // transfers the buffer while the slice lives.
        let hold = unsafe { self.hold.try_borrow_unguarded() };
        match hold {
            // SAFETY: the caller promises that nothing writes to the memory while the slice lives.
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
            // A buffer that is lent to a post has several holds, none of which may write.
            Some(hold) if hold.is_usable() && hold.is_sole() => {
                // SAFETY: the caller promises that no other process accesses the memory while the slice lives, and the
                // exclusive borrow of the only hold keeps this process from it.
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

    /// Calls `access` with the memory and the offset in it of the `len` bytes at `offset`, which are inside the buffer.
    fn with(&self, offset: usize, len: usize, access: impl FnOnce(&Memory, usize)) -> Result<(), BufferError> {
        let hold = self.hold.borrow();
        let hold = hold.as_ref().filter(|hold| !hold.is_gone()).ok_or(BufferError::Detached)?;
        if !hold.memory.is_here() {
            return Err(BufferError::Forked);
        }
        access(&hold.memory, offset_in_file(offset, len, hold.len)?);
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
    /// The buffer has been transferred.
    Detached,
    /// The buffer was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// The buffer came over a port, and a former holder may have kept access to its memory.
    Received,
    /// Its memory is mapped for writing elsewhere, against the protocol, or the buffer is lent to a post.
    InUse,
    /// A system call failed, for want of memory for example.
    ResourceExhausted(io::Error),
}

impl fmt::Display for FreezeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detached => BufferError::Detached.fmt(f),
            Self::Forked => BufferError::Forked.fmt(f),
            Self::Received => f.write_str("the buffer was received: only a new one can be frozen"),
            Self::InUse => f.write_str("the buffer is in use elsewhere"),
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

/// [`TransferBuffer::freeze`] failed: it gives back the buffer, unchanged. The buffer is detached only after an error
/// of the seal itself, `InUse` for example, and only if this process could not map its memory again.
pub type FreezeError = Refusal<FreezeErrorKind, TransferBuffer>;
