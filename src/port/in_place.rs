//! `MessageRef`: a message that is read where it lies, in the shared memory of the queue.

use std::cell::RefMut;
use std::fmt;
use std::io;

use super::message::Message;
use super::{Receiving, RecvHalf};
use crate::buffer::TransferBuffer;
use crate::buffer::bytes::zeroes;
use crate::capsule::discard::discard;
use crate::end::State;
use crate::error::BufferError;
use crate::queue::ring::Record;
use crate::sys::cancel::Uncancelled;

/// A message in place, in the shared memory of the queue; see [`MessagePort::recv_ref`](crate::MessagePort::recv_ref).
///
/// A peer that breaks the protocol can still write to these bytes. So the safe ways to read them are copies: `read_at`,
/// `to_vec`, and [`io::Read`], which reads from the beginning on.
pub struct MessageRef<'a> {
    half: &'a RecvHalf,
    receiving: RefMut<'a, Receiving>,
    record: Record,
    len: usize,
    /// The position of `io::Read`.
    read: usize,
    /// `None` for plain data.
    more: Option<Box<More>>,
}

/// What a message has that is not plain data.
struct More {
    /// The data, if it did not fit the ring.
    body: Option<TransferBuffer>,
    transferred: Message,
}

impl<'a> MessageRef<'a> {
    /// A message of plain data.
    #[inline]
    pub(crate) fn of_data(half: &'a RecvHalf, receiving: RefMut<'a, Receiving>, record: Record) -> Self {
        Self { half, receiving, record, len: record.len, read: 0, more: None }
    }

    /// A message of the first `len` bytes of the record, or of the buffer that has the data instead, and of what came
    /// with it.
    pub(crate) fn with_things(
        half: &'a RecvHalf,
        receiving: RefMut<'a, Receiving>,
        record: Record,
        len: usize,
        body: Option<TransferBuffer>,
        transferred: Message,
    ) -> Self {
        let len = body.as_ref().map_or(len, TransferBuffer::len);
        Self { half, receiving, record, len, read: 0, more: Some(Box::new(More { body, transferred })) }
    }

    /// Takes out what was on the transfer list, as a message without `data`: empty if there was no list, or if it was
    /// taken before. What is not taken is closed or freed with the guard.
    pub fn take_transferred(&mut self) -> Message {
        self.more.as_mut().map_or_else(Message::new, |more| std::mem::take(&mut more.transferred))
    }

    /// True if dropping the guard closes and frees nothing.
    #[doc(hidden)]
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.more.is_none()
    }

    /// The data, if it did not fit the ring.
    fn body(&self) -> Option<&TransferBuffer> {
        self.more.as_ref()?.body.as_ref()
    }

    /// Bytes of data.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is no data.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies data out, from `offset` on.
    ///
    /// # Errors
    /// [`OutOfRange`](BufferError::OutOfRange): nothing was copied. [`Forked`](BufferError::Forked): this is a child
    /// that inherited the guard.
    #[inline]
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        if !self.half.end.home().is_here() {
            return Err(BufferError::Forked);
        }
        if offset > self.len || into.len() > self.len - offset {
            return Err(BufferError::OutOfRange { offset, len: into.len(), buffer_len: self.len });
        }
        match self.body() {
            Some(body) => body.read_at(offset, into),
            None => {
                self.receiving.consumer.read(self.record, offset, into);
                Ok(())
            }
        }
    }

    /// A copy of all the data.
    ///
    /// # Errors
    /// [`Forked`](BufferError::Forked), [`ResourceExhausted`](BufferError::ResourceExhausted).
    pub fn to_vec(&self) -> Result<Vec<u8>, BufferError> {
        let mut data = zeroes(self.len)?;
        self.read_at(0, &mut data)?;
        Ok(data)
    }

    /// The data in place. Empty in a child that inherited the guard by `fork`.
    ///
    /// # Safety
    /// While the slice lives the peer must not write to a message that it has posted: it must keep to the protocol, as
    /// this library does.
    #[allow(unsafe_code)]
    #[inline]
    pub unsafe fn as_slice(&self) -> &[u8] {
        if !self.half.end.home().is_here() {
            return &[];
        }
        if let Some(body) = self.body() {
            // SAFETY: the caller promises that the peer does not write, and this guard is the only holder of the
            // buffer.
            return unsafe { body.as_slice() };
        }
        // SAFETY: the guard releases the record when it is dropped, and the caller promises that the peer does not
        // write.
        unsafe { self.receiving.consumer.direction().slice(self.record.payload(), self.len) }
    }
}

/// Reads from the beginning of the message on; each read goes on where the last one ended.
impl io::Read for MessageRef<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.len - self.read);
        self.read_at(self.read, &mut into[..count])?;
        self.read += count;
        Ok(count)
    }
}

impl Drop for MessageRef<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.half.end.home().is_here() {
            return;
        }
        self.half.release(&mut self.receiving, self.record);
        if self.half.end.state() == State::Closed && !self.half.end.is_dispatched() {
            // Closed meanwhile: the rest of the queue was left to this guard.
            let _uncancelled = Uncancelled::begin();
            discard(&self.half.end, &mut self.receiving.consumer);
        }
    }
}

impl fmt::Debug for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageRef").field("len", &self.len).finish_non_exhaustive()
    }
}
