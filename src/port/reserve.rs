//! `Reservation`: a message that is written where it will lie.
#![forbid(unsafe_code)]

use super::post::{Data, IfFull, Peer};
use super::{MessagePort, SendHalf};
use crate::buffer::TransferBuffer;
use crate::capsule::Counts;
use crate::end::State;
use crate::error::{PostErrorKind, exhausted};
use crate::queue::record::Kind;
use crate::queue::ring::{Producer, Slot};
use std::cell::RefMut;
use std::fmt;
use std::io;
use std::ptr::NonNull;

impl MessagePort {
    /// Reserves space for a message of `len` bytes, to write it in place. Nothing is visible before
    /// [`commit`](Reservation::commit); dropping the reservation leaves no trace.
    ///
    /// # Errors
    /// As for [`post_message`](Self::post_message) without a transfer list. One reservation is open at a time: another
    /// one, or a post, is [`Borrowed`](PostErrorKind::Borrowed).
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>, PostErrorKind> {
        self.sender.reserve(len)
    }
}

impl SendHalf {
    /// See [`MessagePort::reserve`].
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>, PostErrorKind> {
        let mut producer = self.open()?;
        self.may_be_posted(len)?;
        self.find_peer()?;
        let room = if len > self.max_inline_len() {
            // Found again by the commit: while the reservation is open nobody else takes it.
            let counts = Counts { buffers: 1, body: true, ..Counts::default() };
            self.find_room(&mut producer, counts.payload_len(0), IfFull::Grow)?;
            let hold = self.hold(len, &[]).map_err(|errno| PostErrorKind::ResourceExhausted(exhausted(errno)))?;
            Room::Buffer(TransferBuffer::from_hold(hold))
        } else {
            Room::Ring(self.find_room(&mut producer, len, IfFull::Grow)?)
        };
        Ok(Reservation::new(self, producer, room, len))
    }
}

/// Space for one message, to be written in place; see [`MessagePort::reserve`](crate::MessagePort::reserve).
///
/// What was never written is whatever was in the queue before: earlier data of this channel, or zero.
#[must_use = "nothing is posted before `commit`"]
pub struct Reservation<'a> {
    half: &'a SendHalf,
    producer: RefMut<'a, Producer>,
    room: Room,
    len: usize,
    /// How far `io::Write` has come.
    written: usize,
}

/// Where the message is being written.
pub(crate) enum Room {
    Ring(Slot),
    Buffer(TransferBuffer),
}

impl<'a> Reservation<'a> {
    pub(crate) fn new(half: &'a SendHalf, producer: RefMut<'a, Producer>, room: Room, len: usize) -> Self {
        Self { half, producer, room, len, written: 0 }
    }
}

impl Reservation<'_> {
    /// Bytes reserved.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no bytes are reserved: a message of no data.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `from` to `offset`.
    ///
    /// # Errors
    /// [`TooLarge`](PostErrorKind::TooLarge): not inside the reservation; nothing was written.
    /// [`Forked`](PostErrorKind::Forked): in a child that inherited the reservation.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> Result<(), PostErrorKind> {
        if !self.half.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        let len = offset.saturating_add(from.len());
        if len > self.len {
            return Err(PostErrorKind::TooLarge { len, max: self.len });
        }
        match &self.room {
            Room::Ring(slot) => self.producer.write(*slot, offset, from),
            // The buffer is ours alone, and as long as the reservation.
            Room::Buffer(buffer) => buffer.write_at(offset, from).map_err(|_| PostErrorKind::PortClosed)?,
        }
        Ok(())
    }

    /// The reserved bytes in place, for a caller that writes through pointers. Valid until the reservation is committed
    /// or dropped; not to be touched in a child that inherited it by `fork`, where nothing is mapped there.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        match &self.room {
            Room::Ring(slot) => self.producer.direction().pointer(slot.payload(), self.len).as_ptr(),
            // There is one as long as the reservation is this process's.
            Room::Buffer(buffer) => buffer.pointer().map_or(std::ptr::dangling_mut(), NonNull::as_ptr),
        }
    }

    /// Posts the message.
    ///
    /// # Errors
    /// The port was closed, or its peer is gone, since the reservation was made; or this is a forked child. More than
    /// [`max_inline_len`](crate::MessagePort::max_inline_len) may need a descriptor to be sent: then also
    /// [`Full`](PostErrorKind::Full) because of too many of them, and
    /// [`ResourceExhausted`](PostErrorKind::ResourceExhausted).
    pub fn commit(self) -> Result<(), PostErrorKind> {
        let len = self.len;
        self.commit_len(len)
    }

    /// Posts only the first `len` bytes.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit), and [`TooLarge`](PostErrorKind::TooLarge) for more than was reserved.
    pub fn commit_len(self, len: usize) -> Result<(), PostErrorKind> {
        if !self.half.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        if len > self.len {
            return Err(PostErrorKind::TooLarge { len, max: self.len });
        }
        let _posting = self.half.end.posting();
        if self.half.end.state() == State::Closed {
            return Err(PostErrorKind::PortClosed);
        }
        let Self { half, mut producer, room, .. } = self;
        match room {
            Room::Ring(slot) if half.find_peer()? == Peer::Receives => {
                producer.commit(slot, len, Kind::Data, 0);
                half.end.wake_peer_consumer();
                Ok(())
            }
            Room::Ring(_) => Ok(()),
            Room::Buffer(buffer) => match buffer.into_hold(len) {
                Some(hold) => half.post_carrier(producer, Data::InBuffer(hold), &[], IfFull::Grow),
                None => Err(PostErrorKind::PortClosed),
            },
        }
    }
}

/// Writes one part after the other, from the beginning; a full reservation takes no more.
impl io::Write for Reservation<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let count = from.len().min(self.len - self.written);
        self.write_at(self.written, &from[..count]).map_err(io::Error::other)?;
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
