//! Many sources with one receiver, which waits with `epoll` or in an event loop.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use messageport::{EventLoop, Message, MessagePort, TryRecvError};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, SockType, recv, send};

use super::ports::{channel, stream};
use super::sockets::{ready, socket};
use crate::error::{Error, Result};
use crate::link::{Outcome, PEER_TIMEOUT, Player, Side, Turn, Wait, expect, peer_silent, spin_until};
use crate::payload::Payload;
use crate::session::Session;

/// Largest number of events that one `epoll_wait` reports.
const EVENTS: usize = 256;

/// Many sources of messages whose receiver can wait with `epoll`.
pub(crate) trait Fan {
    /// One end of a source. It is readable when it has a message.
    type Source: AsFd;

    /// Returns the ends of this side.
    fn sources(&self) -> &[Self::Source];

    /// Sends a message, after waiting for space if there is none.
    fn send(source: &Self::Source, data: &[u8]) -> Result<()>;

    /// Receives a message and returns true, or returns false if there is none.
    fn receive(source: &Self::Source, message: &mut Message) -> Result<bool>;
}

/// Plays a stream over many sources: the second side sends over each source in turn, the first receives from all of
/// them with `epoll`.
pub(crate) struct FanIn<F> {
    fan: F,
    epoll: Epoll,
    payload: Payload,
    message: Message,
    sent: Sent,
    /// Number of messages received so far from each source.
    counts: Vec<u64>,
    received: Rc<Received>,
}

/// Number of messages that the second side has sent so far, over each source in turn. Stamps count the messages of a
/// source from 1.
#[derive(Default)]
struct Sent(u64);

impl Sent {
    fn next<W>(&mut self, sources: &[W], mut send: impl FnMut(&W, u64) -> Result<()>) -> Result<()> {
        let (source, earlier) = (self.0 as usize % sources.len(), self.0 / sources.len() as u64);
        self.0 += 1;
        send(&sources[source], earlier + 1)
    }
}

/// The messages that the first side has received so far.
#[derive(Default)]
struct Received {
    count: Cell<u64>,
    /// The time of the first receipt in this turn.
    begin: Cell<Option<Instant>>,
}

impl Received {
    #[inline]
    fn count_message(&self) {
        self.count.set(self.count.get() + 1);
        if self.begin.get().is_none() {
            self.begin.set(Some(Instant::now()));
        }
    }

    /// Receives the messages of a turn and measures the time from the first receipt to the last. All messages count,
    /// even those of the warm-up, because emptying a source can return untimed and timed messages together.
    fn turn(&self, turn: &Turn, mut receive: impl FnMut() -> Result<()>) -> Result<Outcome> {
        let all = turn.warm_up + turn.count;
        let end = self.count.get() + all;
        self.begin.set(None);
        while self.count.get() < end {
            receive()?;
        }
        let nanos = self.begin.get().map_or(0, |begin| begin.elapsed().as_nanos()) as f64;
        Ok(Outcome { nanos: nanos / all as f64 * turn.count as f64, cpu: None })
    }
}

impl<F: Fan> FanIn<F> {
    pub(crate) fn new(fan: F, size: usize, side: Side) -> Result<Self> {
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::of("cannot create an epoll instance"))?;
        if side == Side::First {
            for (index, source) in fan.sources().iter().enumerate() {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
                epoll.add(source, event).map_err(Error::of("cannot add a source to epoll"))?;
            }
        }
        let counts = vec![0; fan.sources().len()];
        let (payload, message) = (Payload::new(size), Message::new());
        Ok(Self { fan, epoll, payload, message, sent: Sent::default(), counts, received: Rc::default() })
    }

    /// Receives from a source until it is empty.
    fn drain(&mut self, source: usize) -> Result<()> {
        while F::receive(&self.fan.sources()[source], &mut self.message)? {
            self.counts[source] += 1;
            expect(self.payload.stamp_of(&self.message.data)?, self.counts[source])?;
            self.received.count_message();
        }
        Ok(())
    }

    /// Waits until some sources are readable and empties each of them, so that every source that was readable is empty
    /// before the next wait.
    fn receive(&mut self) -> Result<()> {
        let timeout = EpollTimeout::try_from(PEER_TIMEOUT).map_err(Error::of("no such timeout"))?;
        let mut events = [EpollEvent::empty(); EVENTS];
        let ready = match self.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => return Ok(()),
            result => result.map_err(Error::of("cannot wait with epoll"))?,
        };
        if ready == 0 {
            return Err(peer_silent());
        }
        events[..ready].iter().try_for_each(|event| self.drain(event.data() as usize))
    }
}

impl<F: Fan> Player for FanIn<F> {
    fn play(&mut self, turn: &Turn, _: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        match turn.side {
            Side::First => {
                let received = Rc::clone(&self.received);
                received.turn(turn, || self.receive())
            }
            Side::Second => {
                let Self { sent, fan, payload, .. } = self;
                let mut send = || sent.next(fan.sources(), |source, stamp| F::send(source, payload.stamped(stamp)));
                (0..turn.warm_up + turn.count).try_for_each(|_| send()).map(|()| Outcome::default())
            }
        }
    }
}

/// Plays a stream over many ports: the second side sends over each port in turn, the first receives from all of them
/// with handlers in an event loop.
pub(crate) struct LoopFanIn {
    side: Side,
    payload: Payload,
    /// The ports of the second side. Those of the first side are in its event loop.
    ports: Vec<MessagePort>,
    sent: Sent,
    /// The event loop of the first side.
    events: EventLoop,
    received: Rc<Received>,
    /// The error of a handler.
    wrong: Rc<Cell<Option<Error>>>,
}

impl LoopFanIn {
    pub(crate) fn new(ports: Vec<MessagePort>, spin: Duration, size: usize, side: Side) -> Result<Self> {
        let failed = Error::of("cannot create an event loop");
        let events = EventLoop::new().map_err(&failed)?;
        events.set_spin(spin);
        let (received, wrong) = (Rc::<Received>::default(), Rc::new(Cell::new(None)));
        let mut looped =
            Self { side, payload: Payload::new(size), ports, sent: Sent::default(), events, received, wrong };
        if side == Side::First {
            for port in std::mem::take(&mut looped.ports) {
                let port = looped.events.add(port).map_err(Error::of("cannot add a port to the event loop"))?;
                let (received, wrong, payload) =
                    (Rc::clone(&looped.received), Rc::clone(&looped.wrong), Payload::new(size));
                let mut count = 0;
                port.set_onmessage(move |_, event| {
                    count += 1;
                    received.count_message();
                    if let Err(error) = payload.stamp_of(&event.data).and_then(|stamp| expect(stamp, count)) {
                        wrong.set(Some(error));
                    }
                });
            }
        }
        Ok(looped)
    }
}

impl Player for LoopFanIn {
    fn play(&mut self, turn: &Turn, _: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        let Self { side, payload, ports, sent, events, received, wrong } = self;
        match side {
            Side::First => received.turn(turn, || {
                let happened = events.run_once_timeout(PEER_TIMEOUT).map_err(Error::of("the event loop failed"))?;
                match wrong.take() {
                    Some(error) => Err(error),
                    None if happened == 0 => {
                        Err(Error::failed("the other process has gone, or sent nothing for too long"))
                    }
                    None => Ok(()),
                }
            }),
            Side::Second => {
                let mut send = || sent.next(ports, |port, stamp| stream(port, payload.stamped(stamp)));
                (0..turn.warm_up + turn.count).try_for_each(|_| send()).map(|()| Outcome::default())
            }
        }
    }
}

/// Many ports, one of each channel, as a fan: messages are received with `try_recv_into`.
pub(crate) struct PortFan(pub(crate) Vec<MessagePort>);

impl PortFan {
    pub(crate) fn new(session: &Session, count: u64, size: usize) -> Result<Self> {
        (0..count).map(|_| channel(session, size, Wait::Block)).collect::<Result<_>>().map(Self)
    }
}

impl Fan for PortFan {
    type Source = MessagePort;

    fn sources(&self) -> &[MessagePort] {
        &self.0
    }

    fn send(port: &MessagePort, data: &[u8]) -> Result<()> {
        stream(port, data)
    }

    fn receive(port: &MessagePort, message: &mut Message) -> Result<bool> {
        match port.try_recv_into(message) {
            Ok(()) => Ok(true),
            Err(TryRecvError::Empty) => Ok(false),
            Err(error) => Err(Error::failed(format_args!("cannot receive: {error}"))),
        }
    }
}

/// Many Unix sockets, one of each pair, as a fan: packets are received with `recv`.
pub(crate) struct SocketFan(Vec<OwnedFd>);

impl SocketFan {
    pub(crate) fn new(session: &Session, count: u64) -> Result<Self> {
        (0..count).map(|_| socket(session, SockType::SeqPacket)).collect::<Result<_>>().map(Self)
    }
}

impl Fan for SocketFan {
    type Source = OwnedFd;

    fn sources(&self) -> &[OwnedFd] {
        &self.0
    }

    fn send(source: &OwnedFd, data: &[u8]) -> Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL;
        spin_until(|| ready(send(source.as_raw_fd(), data, flags), flags)).map(drop)
    }

    fn receive(source: &OwnedFd, message: &mut Message) -> Result<bool> {
        message.data.resize(message.data.capacity().max(64), 0);
        match recv(source.as_raw_fd(), &mut message.data, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => {
                message.data.truncate(len);
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(error) => Err(Error::failed(format_args!("a socket failed: {error}"))),
        }
    }
}
