//! Links over ports, one for each way to post and to receive.
#![allow(unsafe_code)]

use std::ops::Range;
use std::time::Duration;

use messageport::{ChannelOptions, Message, MessagePort, PostDataError};

use crate::error::{Error, Result};
use crate::link::{Link, Side, Wait, spin_until};
use crate::payload::{MIN_SIZE, Payload};
use crate::session::Session;

/// Spin time of a port that must never sleep: one hour, longer than any wait in a benchmark.
pub(crate) const FOREVER: Duration = Duration::from_secs(3600);
/// The default spin time of a port whose thread may run on several CPUs. The benchmarks set it explicitly, because
/// their threads are pinned to one CPU.
pub(crate) const DEFAULT_SPIN: Duration = Duration::from_micros(20);

/// Returns the capacity in bytes of the queues that are compared in a stream: the default of a channel, or space for 16
/// messages if that is more.
pub(crate) fn capacity(size: usize) -> usize {
    (16 * (size + 8)).next_power_of_two().max(64 << 10)
}

/// Creates a channel and returns one of its ports on each side.
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

/// Posts a message of a stream. Waits for space, so that the queue does not grow.
#[inline]
pub(crate) fn stream(port: &MessagePort, data: &[u8]) -> Result<()> {
    port.post_message_wait(data, []).map_err(Error::of("cannot post"))
}

/// Receives with `recv_into`: every message into the same memory.
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

    /// With the default options, and the default spin time.
    pub(crate) fn with_defaults(session: &Session, size: usize) -> Result<Self> {
        let port = session.channel(&ChannelOptions::new())?;
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

/// Number of messages that one call posts.
const BATCH: usize = 16;

/// Posts streams with `post_messages_wait`, [`BATCH`] messages per call, and receives with `recv_into`.
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
            let posted = self.port.port.post_messages_wait(&messages[..count]);
            posted.map_err(Error::of("cannot post"))?;
            next += count as u64;
        }
        Ok(())
    }
}

/// Receives with `recv`: every message into new memory.
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

/// Receives with `recv_ref`: every message is read in place.
pub(crate) struct InPlaceLink(pub(crate) PortLink);

impl Link for InPlaceLink {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        self.0.send(stamp)
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        let message = self.0.port.recv_ref().map_err(Error::of("cannot receive"))?;
        // SAFETY: the other process runs the same code, which does not write to a message after posting it.
        self.0.payload.stamp_of(unsafe { message.as_slice() })
    }

    #[inline]
    fn send_all(&mut self, stamps: Range<u64>) -> Result<()> {
        self.0.send_all(stamps)
    }
}

/// Posts with `reserve` and receives with `recv_ref`: every message is written and read in place.
pub(crate) struct ReservedLink(InPlaceLink);

impl ReservedLink {
    pub(crate) fn new(session: &Session, size: usize) -> Result<Self> {
        // `reserve` does not wait for space, so `send` retries it. The queue must not grow in the meantime.
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
            Err(PostDataError::Full(_)) => Ok(None),
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

/// Transfers a port there and back over another one.
pub(crate) struct TransferLink {
    carrier: PortLink,
    /// The port that is transferred, on the side that holds it.
    traveller: Option<MessagePort>,
    /// The port entangled with it, which the first side keeps.
    _peer: Option<MessagePort>,
}

impl TransferLink {
    pub(crate) fn new(session: &Session, wait: Wait) -> Result<Self> {
        let carrier = PortLink::new(session, MIN_SIZE, wait)?;
        let pair = (session.side() == Side::First).then(messageport::MessageChannel::new).transpose();
        let (traveller, peer) = match pair.map_err(Error::of("cannot create a channel"))? {
            Some(channel) => (Some(channel.port1), Some(channel.port2)),
            None => (None, None),
        };
        Ok(Self { carrier, traveller, _peer: peer })
    }
}

impl Link for TransferLink {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let traveller = self.traveller.take().ok_or_else(|| Error::failed("this side does not hold the port"))?;
        let PortLink { port, payload, .. } = &mut self.carrier;
        port.post_message(payload.stamped(stamp), [traveller.into()]).map_err(Error::of("cannot transfer a port"))
    }

    fn receive(&mut self) -> Result<u64> {
        let stamp = self.carrier.receive()?;
        self.traveller = self.carrier.message.ports.pop();
        Ok(stamp)
    }
}
