//! BufferLink that are handed over by a port.
#![allow(unsafe_code)]

use messageport::{ChannelOptions, Message, MessagePort, TransferBuffer};

use super::ports::{channel_with, post};
use crate::error::{Error, Result};
use crate::link::{Link, Side, Wait, expect};
use crate::payload::{MIN_SIZE, Payload};
use crate::session::Session;

/// What happens to a buffer on its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handover {
    /// It goes there and back, and on the next trip again. A stamp at each end is written and read.
    Pass,
    /// The same, and all of it is written before each hand-over, and read after it.
    Touch,
    /// The first side takes one from the port each time; the second reads its stamps, drops it, and answers without one.
    Recycled,
    /// The first side makes a new one each time; the second reads its stamps, drops it, and answers without one.
    Fresh,
    /// The same, and all of it is written and read.
    FreshTouch,
}

impl Handover {
    fn is_one_way(self) -> bool {
        matches!(self, Self::Recycled | Self::Fresh | Self::FreshTouch)
    }

    fn touches(self) -> bool {
        matches!(self, Self::Touch | Self::FreshTouch)
    }
}

/// BufferLink over a port.
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
        // Room for the buffer among those that are kept, whatever its size.
        let options = ChannelOptions::new().cached_bytes(4 * (size as u64 + (64 << 20)));
        let port = channel_with(session, &options, Wait::Spin)?;
        let side = session.side();
        let new = side == Side::First && !handover.is_one_way();
        let buffer = new.then(|| TransferBuffer::new(size)).transpose().map_err(Error::of("cannot make a buffer"))?;
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
            // SAFETY: the other process runs this library too, and we do not write.
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
            Handover::Recycled => self.port.buffer(self.size).map_err(Error::of("cannot take a buffer"))?,
            Handover::Fresh | Handover::FreshTouch => {
                TransferBuffer::new(self.size).map_err(Error::of("cannot make a buffer"))?
            }
            Handover::Pass | Handover::Touch => {
                self.buffer.take().ok_or_else(|| Error::failed("the buffer is not here"))?
            }
        };
        self.write(&buffer, stamp)?;
        self.port.post_message(&[], [buffer.into()]).map_err(Error::of("cannot post a buffer"))
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
