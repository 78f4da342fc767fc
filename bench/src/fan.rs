//! Many ways into one receiver.

use std::os::fd::AsFd;
use std::time::Instant;

use hdrhistogram::Histogram;
use messageport::Message;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::{Error, Result};
use crate::link::{Outcome, PATIENCE, Player, Side, Turn, alone, expect};
use crate::payload::Payload;

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
    /// The messages so far, of each way.
    counts: Vec<u64>,
    /// The next way to send over.
    next: usize,
    /// Messages taken so far.
    taken: u64,
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
        Ok(Self { fan, epoll, payload: Payload::new(size), message: Message::new(), counts, next: 0, taken: 0 })
    }

    fn send(&mut self) -> Result<()> {
        let way = self.next;
        self.next = (way + 1) % self.counts.len();
        self.counts[way] += 1;
        F::send(&self.fan.ways()[way], self.payload.stamped(self.counts[way]))
    }

    /// Empties one way.
    fn drain(&mut self, way: usize) -> Result<()> {
        while F::receive(&self.fan.ways()[way], &mut self.message)? {
            self.counts[way] += 1;
            expect(self.payload.stamp_of(&self.message.data)?, self.counts[way])?;
            self.taken += 1;
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
            // Emptying a way may take messages that were meant to be timed with those that were not: all of them count,
            // from the first on.
            Side::First => {
                let (all, end) = (turn.warm_up + turn.count, self.taken + turn.warm_up + turn.count);
                let mut begin = None;
                while self.taken < end {
                    self.receive()?;
                    begin.get_or_insert_with(Instant::now);
                }
                let nanos = begin.map_or(0, |begin| begin.elapsed().as_nanos()) as f64;
                Ok(Outcome { nanos: nanos / all as f64 * turn.count as f64, cpu: None })
            }
            Side::Second => (0..turn.warm_up + turn.count).try_for_each(|_| self.send()).map(|()| Outcome::default()),
        }
    }
}
