//! Ports, by each of the calls that there are to send and to receive.
#![allow(unsafe_code)]

use std::ops::Range;
use std::time::Duration;

use messageport::{ChannelOptions, Message, MessagePort, PostErrorKind, TransferBuffer};

use crate::error::{Error, Result};
use crate::link::{Link, Side, spin_until};
use crate::payload::{MIN_SIZE, Payload};
use crate::session::Session;
use crate::suite::Wait;

/// Longer than any wait of one that spins.
pub(crate) const FOREVER: Duration = Duration::from_secs(3600);
/// What a port does by itself where its thread has several CPUs to run on; ours is pinned to one.
const DEFAULT_SPIN: Duration = Duration::from_micros(20);

/// Bytes of memory that a stream goes through: the default of a channel, and 16 messages at least.
pub(crate) fn capacity(size: usize) -> usize {
    (16 * (size + 8)).next_power_of_two().max(64 << 10)
}

/// An end of a new channel.
pub(crate) fn channel(session: &Session, size: usize, wait: Wait) -> Result<MessagePort> {
    channel_with(session, &ChannelOptions::new().capacity(capacity(size)), wait)
}

fn channel_with(session: &Session, options: &ChannelOptions, wait: Wait) -> Result<MessagePort> {
    let port = session.channel(options)?;
    match wait {
        Wait::Spin => port.set_spin(FOREVER),
        Wait::Block => port.set_spin(Duration::ZERO),
        Wait::Default => port.set_spin(DEFAULT_SPIN),
        Wait::None => {}
    }
    Ok(port)
}

#[inline]
fn post(port: &MessagePort, data: &[u8]) -> Result<()> {
    port.post_message(data, []).map_err(Error::of("cannot post"))
}

/// For streams: waits for space, so that the queue does not grow.
#[inline]
pub(crate) fn stream(port: &MessagePort, data: &[u8]) -> Result<()> {
    port.post_message_wait(data, [], None).map_err(Error::of("cannot post"))
}

/// `recv_into`: one message after the other into the same memory.
pub(crate) struct Port {
    port: MessagePort,
    payload: Payload,
    message: Message,
}

impl Port {
    pub(crate) fn new(session: &Session, size: usize, wait: Wait) -> Result<Self> {
        let port = channel(session, size, wait)?;
        Ok(Self { port, payload: Payload::new(size), message: Message::new() })
    }
}

impl Link for Port {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        post(&self.port, self.payload.stamped(stamp))
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        self.port.recv_into(&mut self.message).map_err(Error::of("cannot receive"))?;
        self.payload.stamp_of(&self.message.data)
    }

    #[inline]
    fn send_all(&mut self, mut stamps: Range<u64>) -> Result<()> {
        stamps.try_for_each(|stamp| stream(&self.port, self.payload.stamped(stamp)))
    }
}

/// Messages in one call.
const BATCH: usize = 16;

/// `post_messages`, sixteen at a time, and `recv_into`.
pub(crate) struct Batches {
    port: Port,
    payloads: Vec<Payload>,
}

impl Batches {
    pub(crate) fn new(session: &Session, size: usize) -> Result<Self> {
        let payloads = (0..BATCH).map(|_| Payload::new(size)).collect();
        Ok(Self { port: Port::new(session, size, Wait::Spin)?, payloads })
    }
}

impl Link for Batches {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        self.port.send(stamp)
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        self.port.receive()
    }

    #[inline]
    fn send_all(&mut self, stamps: Range<u64>) -> Result<()> {
        let mut next = stamps.start;
        while next < stamps.end {
            let count = BATCH.min((stamps.end - next) as usize);
            let mut messages: [&[u8]; BATCH] = [&[]; BATCH];
            for (place, (payload, stamp)) in messages.iter_mut().zip(self.payloads.iter_mut().zip(next..)) {
                *place = payload.stamped(stamp);
            }
            let posted = self.port.port.post_messages_wait(&messages[..count], None);
            posted.map_err(Error::of("cannot post"))?;
            next += count as u64;
        }
        Ok(())
    }
}

/// `recv`: every message is new memory.
pub(crate) struct Owned(pub(crate) Port);

impl Link for Owned {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        self.0.send(stamp)
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        let message = self.0.port.recv().map_err(Error::of("cannot receive"))?;
        self.0.payload.stamp_of(&message.data)
    }

    #[inline]
    fn send_all(&mut self, stamps: Range<u64>) -> Result<()> {
        self.0.send_all(stamps)
    }
}

/// `recv_ref`: messages are read where they lie.
pub(crate) struct InPlace(pub(crate) Port);

impl Link for InPlace {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        self.0.send(stamp)
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        let message = self.0.port.recv_ref().map_err(Error::of("cannot receive"))?;
        // SAFETY: the other process runs this library too.
        self.0.payload.stamp_of(unsafe { message.as_slice() })
    }

    #[inline]
    fn send_all(&mut self, stamps: Range<u64>) -> Result<()> {
        self.0.send_all(stamps)
    }
}

/// `reserve` and `recv_ref`: messages are written and read where they lie.
pub(crate) struct Reserved(InPlace);

impl Reserved {
    pub(crate) fn new(session: &Session, size: usize) -> Result<Self> {
        // There is no reservation that waits: one that finds no space is tried again, and the queue must not grow.
        let options = ChannelOptions::new().capacity(capacity(size)).max_capacity(capacity(size));
        let port = channel_with(session, &options, Wait::Spin)?;
        Ok(Self(InPlace(Port { port, payload: Payload::new(size), message: Message::new() })))
    }
}

impl Link for Reserved {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        let Port { port, payload, .. } = &mut self.0.0;
        let mut reservation = spin_until(|| match port.reserve(payload.size()) {
            Ok(reservation) => Ok(Some(reservation)),
            Err(PostErrorKind::Full(_)) => Ok(None),
            Err(error) => Err(Error::failed(format_args!("cannot reserve: {error:#}"))),
        })?;
        reservation.write_at(0, payload.stamped(stamp)).map_err(Error::of("cannot write"))?;
        reservation.commit().map_err(Error::of("cannot post"))
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        self.0.receive()
    }
}

/// What happens to a buffer on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Travel {
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

impl Travel {
    fn is_one_way(self) -> bool {
        matches!(self, Self::Recycled | Self::Fresh | Self::FreshTouch)
    }

    fn touches(self) -> bool {
        matches!(self, Self::Touch | Self::FreshTouch)
    }
}

/// Buffers over a port.
pub(crate) struct Buffers {
    port: MessagePort,
    side: Side,
    travel: Travel,
    size: usize,
    payload: Payload,
    buffer: Option<TransferBuffer>,
    message: Message,
}

impl Buffers {
    pub(crate) fn new(session: &Session, size: usize, travel: Travel) -> Result<Self> {
        // Room for the buffer among those that are kept, whatever its size.
        let options = ChannelOptions::new().cached_bytes(4 * (size as u64 + (64 << 20)));
        let port = channel_with(session, &options, Wait::Spin)?;
        let side = session.side();
        let new = side == Side::First && !travel.is_one_way();
        let buffer = new.then(|| TransferBuffer::new(size)).transpose().map_err(Error::of("cannot make a buffer"))?;
        let payload = Payload::new(if travel.touches() { size } else { MIN_SIZE });
        Ok(Self { port, side, travel, size, payload, buffer, message: Message::new() })
    }

    fn write(&mut self, buffer: &TransferBuffer, stamp: u64) -> Result<()> {
        let refuse = Error::of("cannot write the buffer");
        if !self.travel.touches() {
            buffer.write_at(self.size - MIN_SIZE, &stamp.to_ne_bytes()).map_err(&refuse)?;
        }
        buffer.write_at(0, self.payload.stamped(stamp)).map_err(refuse)
    }

    fn read(&self, buffer: &TransferBuffer) -> Result<u64> {
        if self.travel.touches() {
            // SAFETY: the other process runs this library too, and we do not write.
            return self.payload.stamp_of(unsafe { buffer.as_slice() });
        }
        let stamp = |at: usize| {
            let mut stamp = [0; MIN_SIZE];
            buffer.read_at(at, &mut stamp).map_err(Error::of("cannot read the buffer"))?;
            Ok(u64::from_ne_bytes(stamp))
        };
        let first = stamp(0)?;
        crate::link::expect(stamp(self.size - MIN_SIZE)?, first)?;
        Ok(first)
    }
}

impl Link for Buffers {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let buffer = match self.travel {
            travel if travel.is_one_way() && self.side == Side::Second => {
                return post(&self.port, &stamp.to_ne_bytes());
            }
            Travel::Recycled => self.port.buffer(self.size).map_err(Error::of("cannot take a buffer"))?,
            Travel::Fresh | Travel::FreshTouch => {
                TransferBuffer::new(self.size).map_err(Error::of("cannot make a buffer"))?
            }
            Travel::Pass | Travel::Touch => {
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
        if !self.travel.is_one_way() {
            self.buffer = Some(buffer);
        }
        Ok(stamp)
    }
}

/// A port that goes there and back over another one.
pub(crate) struct Transfer {
    carrier: Port,
    /// Who has it, has it here.
    traveller: Option<MessagePort>,
    /// Its peer, which stays with the first side.
    _peer: Option<MessagePort>,
}

impl Transfer {
    pub(crate) fn new(session: &Session, wait: Wait) -> Result<Self> {
        let carrier = Port::new(session, MIN_SIZE, wait)?;
        let pair = (session.side() == Side::First).then(messageport::MessageChannel::new).transpose();
        let (traveller, peer) = match pair.map_err(Error::of("cannot make a channel"))? {
            Some(channel) => (Some(channel.port1), Some(channel.port2)),
            None => (None, None),
        };
        Ok(Self { carrier, traveller, _peer: peer })
    }
}

impl Link for Transfer {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let traveller = self.traveller.take().ok_or_else(|| Error::failed("the port is not here"))?;
        let Port { port, payload, .. } = &mut self.carrier;
        port.post_message(payload.stamped(stamp), [traveller.into()]).map_err(Error::of("cannot post a port"))
    }

    fn receive(&mut self) -> Result<u64> {
        let stamp = self.carrier.receive()?;
        self.traveller = self.carrier.message.ports.pop();
        Ok(stamp)
    }
}

/// A stream over many ports into one receiver, which waits for them in `epoll`.
pub(crate) struct Ports(pub(crate) Vec<MessagePort>);

impl Ports {
    pub(crate) fn new(session: &Session, count: u64, size: usize) -> Result<Self> {
        (0..count).map(|_| channel(session, size, Wait::Block)).collect::<Result<_>>().map(Self)
    }
}

impl crate::fan::Fan for Ports {
    type Way = MessagePort;

    fn ways(&self) -> &[MessagePort] {
        &self.0
    }

    fn send(port: &MessagePort, data: &[u8]) -> Result<()> {
        stream(port, data)
    }

    fn receive(port: &MessagePort, message: &mut Message) -> Result<bool> {
        match port.try_recv_into(message) {
            Ok(()) => Ok(true),
            Err(messageport::TryRecvError::Empty) => Ok(false),
            Err(error) => Err(Error::failed(format_args!("cannot receive: {error:#}"))),
        }
    }
}
