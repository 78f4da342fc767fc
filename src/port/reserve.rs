//! `Reservation`: a message that is written where it will lie.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::fmt;
use std::io;

use super::post::{IfFull, Need, Peer};
use super::{MessagePort, SendHalf};
use crate::buffer::memory::Hold;
use crate::end::State;
use crate::error::{BufferError, PostDataError, exhausted};
use crate::queue::record::RecordKind;
use crate::queue::ring::{Claim, Producer};

impl MessagePort {
    /// Reserves space for a message of `len` bytes, to write it in place. The receiver sees nothing before
    /// [`commit`](Reservation::commit); a reservation that is dropped leaves no trace.
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message) without a transfer list. A port has one reservation at a time:
    /// another one, or a post, returns [`Borrowed`](PostDataError::Borrowed).
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>, PostDataError> {
        self.sender.reserve(len)
    }
}

impl SendHalf {
    /// See [`MessagePort::reserve`].
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>, PostDataError> {
        let mut producer = self.usable_producer()?;
        self.check_len(len)?;
        self.find_peer()?;
        let room = if len > self.longest_in_ring() {
            // The commit claims this room again, and finds it: nothing else posts while the reservation is open.
            self.find_room(&mut producer, Need::body(len), IfFull::Grow)?;
            Room::Buffer(self.hold(len, &[]).map_err(|errno| PostDataError::ResourceExhausted(exhausted(errno)))?)
        } else {
            Room::Ring(self.find_room(&mut producer, Need::in_ring(len), IfFull::Grow)?)
        };
        Ok(Reservation { half: self, producer, room, len, written: 0 })
    }
}

/// Space for one message, to be written in place; see [`MessagePort::reserve`](crate::MessagePort::reserve).
///
/// Bytes that were never written are earlier data of this channel, or zero.
#[must_use = "nothing is posted before `commit`"]
pub struct Reservation<'a> {
    half: &'a SendHalf,
    producer: RefMut<'a, Producer>,
    room: Room,
    len: usize,
    /// The position of `io::Write`.
    written: usize,
}

/// Where the message is written.
enum Room {
    Ring(Claim),
    Buffer(Hold),
}

impl Reservation<'_> {
    /// Bytes reserved.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no bytes are reserved: the message has no data.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `from` to `offset`.
    ///
    /// # Errors
    /// [`OutOfRange`](BufferError::OutOfRange): nothing was written. [`Forked`](BufferError::Forked): this is a child
    /// that inherited the reservation.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        if !self.half.end.home().is_here() {
            return Err(BufferError::Forked);
        }
        if offset > self.len || from.len() > self.len - offset {
            return Err(BufferError::OutOfRange { offset, len: from.len(), buffer_len: self.len });
        }
        match &self.room {
            Room::Ring(claim) => self.producer.write(*claim, offset, from),
            Room::Buffer(hold) => hold.memory.write(offset, from),
        }
        Ok(())
    }

    /// The reserved bytes in place, for a caller that writes through pointers. Valid until the reservation is committed
    /// or dropped. A child that inherited the reservation by `fork` must not use it: nothing is mapped there.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        match &self.room {
            Room::Ring(claim) => self.producer.direction().pointer(claim.payload(), self.len).as_ptr(),
            Room::Buffer(hold) => hold.memory.pointer(self.len).as_ptr(),
        }
    }

    /// Posts the message.
    ///
    /// # Errors
    /// The port was closed, or its peer is gone, since the reservation was made; or this is a forked child. A message
    /// longer than [`max_inline_len`](crate::MessagePort::max_inline_len) may need a descriptor to be sent: then also
    /// [`Full`](PostDataError::Full), because of too many of them, and
    /// [`ResourceExhausted`](PostDataError::ResourceExhausted).
    pub fn commit(self) -> Result<(), PostDataError> {
        let len = self.len;
        self.commit_len(len)
    }

    /// Posts only the first `len` bytes.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit), and [`TooLarge`](PostDataError::TooLarge) for more than was reserved.
    pub fn commit_len(self, len: usize) -> Result<(), PostDataError> {
        if !self.half.end.home().is_here() {
            return Err(PostDataError::Forked);
        }
        if len > self.len {
            return Err(PostDataError::TooLarge { len, max: self.len });
        }
        let _posting = self.half.end.posting();
        if self.half.end.state() == State::Closed {
            return Err(PostDataError::PortClosed);
        }
        let Self { half, mut producer, room, .. } = self;
        match room {
            Room::Ring(claim) => {
                if half.find_peer()? == Peer::Receives {
                    half.finish_post(&mut producer, claim, len, RecordKind::Data, 0);
                }
                Ok(())
            }
            Room::Buffer(mut hold) => {
                hold.len = len;
                half.post_body(&mut producer, hold)
            }
        }
    }
}

/// Writes one part behind the other, from the beginning. A full reservation takes no more: `write` returns 0.
impl io::Write for Reservation<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let count = from.len().min(self.len - self.written);
        self.write_at(self.written, &from[..count])?;
        self.written += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("len", &self.len).finish_non_exhaustive()
    }
}
