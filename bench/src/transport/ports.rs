//! PortFan, by each of the calls that there are to send and to receive.
#![allow(unsafe_code)]

use std::ops::Range;
use std::time::Duration;

use messageport::{ChannelOptions, Message, MessagePort, PostErrorKind};

use crate::error::{Error, Result};
use crate::link::{Link, Side, Wait, spin_until};
use crate::payload::{MIN_SIZE, Payload};
use crate::session::Session;

/// Longer than any wait of one that spins.
pub(crate) const FOREVER: Duration = Duration::from_secs(3600);
/// What a port does by itself where its thread has several CPUs to run on; ours is pinned to one.
pub(crate) const DEFAULT_SPIN: Duration = Duration::from_micros(20);

/// Bytes of memory that a stream goes through: the default of a channel, and 16 messages at least.
pub(crate) fn capacity(size: usize) -> usize {
    (16 * (size + 8)).next_power_of_two().max(64 << 10)
}

/// An end of a new channel.
pub(crate) fn channel(session: &Session, size: usize, wait: Wait) -> Result<MessagePort> {
    channel_with(session, &ChannelOptions::new().capacity(capacity(size)), wait)
}

pub(super) fn channel_with(session: &Session, options: &ChannelOptions, wait: Wait) -> Result<MessagePort> {
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
pub(super) fn post(port: &MessagePort, data: &[u8]) -> Result<()> {
    port.post_message(data, []).map_err(Error::of("cannot post"))
}

/// For streams: waits for space, so that the queue does not grow.
#[inline]
pub(crate) fn stream(port: &MessagePort, data: &[u8]) -> Result<()> {
    port.post_message_wait(data, [], None).map_err(Error::of("cannot post"))
}

/// `recv_into`: one message after the other into the same memory.
pub(crate) struct PortLink {
    port: MessagePort,
    payload: Payload,
    message: Message,
}

impl PortLink {
    pub(crate) fn new(session: &Session, size: usize, wait: Wait) -> Result<Self> {
        let port = channel(session, size, wait)?;
        Ok(Self { port, payload: Payload::new(size), message: Message::new() })
    }
}

impl Link for PortLink {
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
pub(crate) struct BatchLink {
    port: PortLink,
    payloads: Vec<Payload>,
}

impl BatchLink {
    pub(crate) fn new(session: &Session, size: usize) -> Result<Self> {
        let payloads = (0..BATCH).map(|_| Payload::new(size)).collect();
        Ok(Self { port: PortLink::new(session, size, Wait::Spin)?, payloads })
    }
}

impl Link for BatchLink {
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
pub(crate) struct OwnedLink(pub(crate) PortLink);

impl Link for OwnedLink {
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
pub(crate) struct InPlaceLink(pub(crate) PortLink);

impl Link for InPlaceLink {
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
pub(crate) struct ReservedLink(InPlaceLink);

impl ReservedLink {
    pub(crate) fn new(session: &Session, size: usize) -> Result<Self> {
        // There is no reservation that waits: one that finds no space is tried again, and the queue must not grow.
        let options = ChannelOptions::new().capacity(capacity(size)).max_capacity(capacity(size));
        let port = channel_with(session, &options, Wait::Spin)?;
        Ok(Self(InPlaceLink(PortLink { port, payload: Payload::new(size), message: Message::new() })))
    }
}

impl Link for ReservedLink {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        let PortLink { port, payload, .. } = &mut self.0.0;
        let mut reservation = spin_until(|| match port.reserve(payload.size()) {
            Ok(reservation) => Ok(Some(reservation)),
            Err(PostErrorKind::Full(_)) => Ok(None),
            Err(error) => Err(Error::failed(format_args!("cannot reserve: {error}"))),
        })?;
        reservation.write_at(0, payload.stamped(stamp)).map_err(Error::of("cannot write"))?;
        reservation.commit().map_err(Error::of("cannot post"))
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        self.0.receive()
    }
}

/// A port that goes there and back over another one.
pub(crate) struct TransferLink {
    carrier: PortLink,
    /// Who has it, has it here.
    traveller: Option<MessagePort>,
    /// Its peer, which stays with the first side.
    _peer: Option<MessagePort>,
}

impl TransferLink {
    pub(crate) fn new(session: &Session, wait: Wait) -> Result<Self> {
        let carrier = PortLink::new(session, MIN_SIZE, wait)?;
        let pair = (session.side() == Side::First).then(messageport::MessageChannel::new).transpose();
        let (traveller, peer) = match pair.map_err(Error::of("cannot make a channel"))? {
            Some(channel) => (Some(channel.port1), Some(channel.port2)),
            None => (None, None),
        };
        Ok(Self { carrier, traveller, _peer: peer })
    }
}

impl Link for TransferLink {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let traveller = self.traveller.take().ok_or_else(|| Error::failed("the port is not here"))?;
        let PortLink { port, payload, .. } = &mut self.carrier;
        port.post_message(payload.stamped(stamp), [traveller.into()]).map_err(Error::of("cannot post a port"))
    }

    fn receive(&mut self) -> Result<u64> {
        let stamp = self.carrier.receive()?;
        self.traveller = self.carrier.message.ports.pop();
        Ok(stamp)
    }
}
