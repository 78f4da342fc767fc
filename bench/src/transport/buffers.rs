//! Links that hand over buffers.
#![allow(unsafe_code)]

use messageport::{ChannelOptions, Message, MessagePort, TransferBuffer};

use super::ports::{channel_with, post};
use crate::error::{Error, Result};
use crate::link::{Link, Side, Wait, expect};
use crate::payload::{MIN_SIZE, Payload};
use crate::session::Session;

/// The way in which buffers are handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handover {
    /// One buffer goes there and back on every round trip. The sender writes a stamp at its start and at its end, the
    /// receiver reads both.
    Pass,
    /// One buffer goes there and back on every round trip. The sender writes all of it, the receiver reads all of it.
    Touch,
    /// The first side takes a recycled buffer from the port and stamps it. The second side reads the stamps, drops the
    /// buffer, and answers with a message.
    Recycled,
    /// The first side creates a buffer and stamps it. The second side reads the stamps, drops the buffer, and answers
    /// with a message.
    Fresh,
    /// The first side creates a buffer and writes all of it. The second side reads all of it, drops the buffer, and
    /// answers with a message.
    FreshTouch,
}

impl Handover {
    /// Returns true if the answer carries no buffer.
    fn is_one_way(self) -> bool {
        matches!(self, Self::Recycled | Self::Fresh | Self::FreshTouch)
    }

    /// Returns true if every byte is written and read.
    fn touches(self) -> bool {
        matches!(self, Self::Touch | Self::FreshTouch)
    }
}

/// Hands over buffers of `size` bytes in messages of a port.
pub(crate) struct BufferLink {
    port: MessagePort,
    side: Side,
    handover: Handover,
    size: usize,
    payload: Payload,
    buffer: Option<TransferBuffer>,
    message: Message,
}

impl BufferLink {
    pub(crate) fn new(session: &Session, size: usize, handover: Handover) -> Result<Self> {
        // The cache must have space for the buffer, however large it is.
        let options = ChannelOptions::new().cached_bytes(4 * (size as u64 + (64 << 20)));
        let port = channel_with(session, &options, Wait::Spin)?;
        let side = session.side();
        let new = side == Side::First && !handover.is_one_way();
        let buffer = new.then(|| TransferBuffer::new(size)).transpose().map_err(Error::of("cannot create a buffer"))?;
        let payload = Payload::new(if handover.touches() { size } else { MIN_SIZE });
        Ok(Self { port, side, handover, size, payload, buffer, message: Message::new() })
    }

    fn write(&mut self, buffer: &TransferBuffer, stamp: u64) -> Result<()> {
        let failed = Error::of("cannot write the buffer");
        if !self.handover.touches() {
            buffer.write_at(self.size - MIN_SIZE, &stamp.to_ne_bytes()).map_err(&failed)?;
        }
        buffer.write_at(0, self.payload.stamped(stamp)).map_err(failed)
    }

    fn read(&self, buffer: &TransferBuffer) -> Result<u64> {
        if self.handover.touches() {
            // SAFETY: the other process runs the same code, and a side writes only to a buffer that it holds and does
            // not read at that time.
            return self.payload.stamp_of(unsafe { buffer.as_slice() });
        }
        let stamp = |at: usize| {
            let mut stamp = [0; MIN_SIZE];
            buffer.read_at(at, &mut stamp).map_err(Error::of("cannot read the buffer"))?;
            Ok(u64::from_ne_bytes(stamp))
        };
        let first = stamp(0)?;
        expect(stamp(self.size - MIN_SIZE)?, first)?;
        Ok(first)
    }
}

impl Link for BufferLink {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let buffer = match self.handover {
            handover if handover.is_one_way() && self.side == Side::Second => {
                return post(&self.port, &stamp.to_ne_bytes());
            }
            Handover::Recycled => self.port.buffer(self.size).map_err(Error::of("cannot get a recycled buffer"))?,
            Handover::Fresh | Handover::FreshTouch => {
                TransferBuffer::new(self.size).map_err(Error::of("cannot create a buffer"))?
            }
            Handover::Pass | Handover::Touch => {
                self.buffer.take().ok_or_else(|| Error::failed("this side does not hold the buffer"))?
            }
        };
        self.write(&buffer, stamp)?;
        self.port.post_message(&[], [buffer.into()]).map_err(Error::of("cannot transfer a buffer"))
    }

    fn receive(&mut self) -> Result<u64> {
        self.port.recv_into(&mut self.message).map_err(Error::of("cannot receive a buffer"))?;
        let Some(buffer) = self.message.buffers.pop() else {
            return Payload::new(MIN_SIZE).stamp_of(&self.message.data);
        };
        let stamp = self.read(&buffer)?;
        if !self.handover.is_one_way() {
            self.buffer = Some(buffer);
        }
        Ok(stamp)
    }
}
