//! Many ways into one receiver: waited for in `epoll` by hand, or in an event loop.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use messageport::{EventLoop, Message, MessagePort};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::{Error, Result};
use crate::link::{Outcome, PATIENCE, Player, Side, Turn, alone, expect};
use crate::payload::Payload;
use crate::ports::stream;

/// Most events that one look reports.
const EVENTS: usize = 256;

/// Ways of messages that can be waited for in `epoll`.
pub(crate) trait Fan {
    type Way: AsFd;

    fn ways(&self) -> &[Self::Way];

    /// Sends; waits for room if there is none.
    fn send(way: &Self::Way, data: &[u8]) -> Result<()>;

    /// Takes a message if there is one.
    fn receive(way: &Self::Way, message: &mut Message) -> Result<bool>;
}

/// The second side sends over one way after the other, the first receives from all of them.
pub(crate) struct FanIn<F> {
    fan: F,
    epoll: Epoll,
    payload: Payload,
    message: Message,
    sent: Sent,
    /// The messages that have arrived so far, of each way and of all.
    counts: Vec<u64>,
    taken: Rc<Taken>,
}

/// What the second side has sent so far, over one way after the other. The stamps count the messages of each way.
#[derive(Default)]
struct Sent(u64);

impl Sent {
    fn next<W>(&mut self, ways: &[W], mut send: impl FnMut(&W, u64) -> Result<()>) -> Result<()> {
        let (way, earlier) = (self.0 as usize % ways.len(), self.0 / ways.len() as u64);
        self.0 += 1;
        send(&ways[way], earlier + 1)
    }
}

/// What the first side has received so far.
#[derive(Default)]
struct Taken {
    count: Cell<u64>,
    /// When the first message of this turn came.
    begin: Cell<Option<Instant>>,
}

impl Taken {
    #[inline]
    fn one_more(&self) {
        self.count.set(self.count.get() + 1);
        if self.begin.get().is_none() {
            self.begin.set(Some(Instant::now()));
        }
    }

    /// Receives what a turn sends, and times it. Emptying a way may take messages that were meant to be timed with those
    /// that were not: all of them count, from the first on.
    fn all(&self, turn: &Turn, mut receive: impl FnMut() -> Result<()>) -> Result<Outcome> {
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
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::of("cannot make an epoll"))?;
        if side == Side::First {
            for (index, way) in fan.ways().iter().enumerate() {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
                epoll.add(way, event).map_err(Error::of("cannot wait for a port"))?;
            }
        }
        let counts = vec![0; fan.ways().len()];
        let (payload, message) = (Payload::new(size), Message::new());
        Ok(Self { fan, epoll, payload, message, sent: Sent::default(), counts, taken: Rc::default() })
    }

    /// Empties one way.
    fn drain(&mut self, way: usize) -> Result<()> {
        while F::receive(&self.fan.ways()[way], &mut self.message)? {
            self.counts[way] += 1;
            expect(self.payload.stamp_of(&self.message.data)?, self.counts[way])?;
            self.taken.one_more();
        }
        Ok(())
    }

    /// Waits until some ways are ready, and empties them. So before every wait each one that was ready has been found
    /// empty.
    fn receive(&mut self) -> Result<()> {
        let patience = EpollTimeout::try_from(PATIENCE).map_err(Error::of("no such timeout"))?;
        let mut events = [EpollEvent::empty(); EVENTS];
        let ready = match self.epoll.wait(&mut events, patience) {
            Err(nix::errno::Errno::EINTR) => return Ok(()),
            result => result.map_err(Error::of("cannot wait"))?,
        };
        if ready == 0 {
            return Err(alone());
        }
        events[..ready].iter().try_for_each(|event| self.drain(event.data() as usize))
    }
}

impl<F: Fan> Player for FanIn<F> {
    fn play(&mut self, turn: &Turn, _: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        match turn.side {
            Side::First => {
                let taken = Rc::clone(&self.taken);
                taken.all(turn, || self.receive())
            }
            Side::Second => {
                let Self { sent, fan, payload, .. } = self;
                let mut send = || sent.next(fan.ways(), |way, stamp| F::send(way, payload.stamped(stamp)));
                (0..turn.warm_up + turn.count).try_for_each(|_| send()).map(|()| Outcome::default())
            }
        }
    }
}

/// Ports in an event loop, each with a handler. The second side sends as for [`FanIn`].
pub(crate) struct Looped {
    side: Side,
    payload: Payload,
    /// On the second side.
    ports: Vec<MessagePort>,
    sent: Sent,
    /// On the first side.
    events: EventLoop,
    taken: Rc<Taken>,
    wrong: Rc<Cell<Option<Error>>>,
}

impl Looped {
    pub(crate) fn new(ports: Vec<MessagePort>, spin: Duration, size: usize, side: Side) -> Result<Self> {
        let refuse = Error::of("cannot make an event loop");
        let events = EventLoop::new().map_err(&refuse)?;
        events.set_spin(spin);
        let (taken, wrong) = (Rc::<Taken>::default(), Rc::new(Cell::new(None)));
        let mut looped = Self { side, payload: Payload::new(size), ports, sent: Sent::default(), events, taken, wrong };
        if side == Side::First {
            for port in std::mem::take(&mut looped.ports) {
                let port = looped.events.add(port).map_err(Error::of("cannot add a port to the event loop"))?;
                let (taken, wrong, payload) = (Rc::clone(&looped.taken), Rc::clone(&looped.wrong), Payload::new(size));
                let mut count = 0;
                port.set_onmessage(move |_, event| {
                    count += 1;
                    taken.one_more();
                    if let Err(error) = payload.stamp_of(&event.data).and_then(|stamp| expect(stamp, count)) {
                        wrong.set(Some(error));
                    }
                });
            }
        }
        Ok(looped)
    }
}

impl Player for Looped {
    fn play(&mut self, turn: &Turn, _: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        let Self { side, payload, ports, sent, events, taken, wrong } = self;
        match side {
            Side::First => taken.all(turn, || {
                let happened = events.run_once_timeout(PATIENCE).map_err(Error::of("the event loop failed"))?;
                match wrong.take() {
                    Some(error) => Err(error),
                    None if happened == 0 => Err(Error::failed("the other process is gone, or has not sent for long")),
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
