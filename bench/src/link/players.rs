//! What two processes play over a link: round trips, streams, messages with gaps.

use std::hint::spin_loop;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::{Link, Side, expect};
use crate::error::Result;
use crate::system::machine;

/// What is played in one turn, on both sides alike.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The side that plays.
    pub side: Side,
    /// Untimed operations before the timed ones.
    pub warm_up: u64,
    /// Timed operations.
    pub count: u64,
    /// Of the first message; every later one has one more.
    pub stamp: u64,
}

impl Turn {
    fn all(self) -> u64 {
        self.warm_up + self.count
    }
}

/// What one turn took, on the side that has the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Nanoseconds of all timed operations together.
    pub nanos: f64,
    /// Of these, what the process had of its CPU, if it was looked at.
    pub cpu: Option<f64>,
}

/// What a process does in its turns.
pub trait Player {
    /// Plays a turn; with a histogram, every operation is timed on its own.
    fn play(&mut self, turn: &Turn, single: Option<&mut Histogram<u64>>) -> Result<Outcome>;
}

impl Player for Box<dyn Player> {
    fn play(&mut self, turn: &Turn, single: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        (**self).play(turn, single)
    }
}

/// A histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// Runs `operation` so often, and times all of it.
#[inline]
pub fn timed(
    turn: &Turn,
    single: Option<&mut Histogram<u64>>,
    mut operation: impl FnMut() -> Result<()>,
) -> Result<Outcome> {
    for _ in 0..turn.warm_up {
        operation()?;
    }
    let begin = Instant::now();
    if let Some(single) = single {
        let mut last = begin;
        for _ in 0..turn.count {
            operation()?;
            let now = Instant::now();
            single.saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
    } else {
        for _ in 0..turn.count {
            operation()?;
        }
    }
    Ok(Outcome { nanos: begin.elapsed().as_nanos() as f64, cpu: None })
}

/// The first side sends and waits for the answer.
pub struct RoundTrips<L>(pub L);

impl<L: Link> Player for RoundTrips<L> {
    fn play(&mut self, turn: &Turn, single: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        let link = &mut self.0;
        let mut stamp = turn.stamp;
        match turn.side {
            Side::First => timed(turn, single, || {
                link.send(stamp)?;
                expect(link.receive()?, stamp)?;
                stamp += 1;
                Ok(())
            }),
            Side::Second => timed(turn, single, || {
                expect(link.receive()?, stamp)?;
                link.send(stamp)?;
                stamp += 1;
                Ok(())
            }),
        }
    }
}

/// The second side sends without a pause, the first receives.
pub struct Stream<L>(pub L);

impl<L: Link> Player for Stream<L> {
    fn play(&mut self, turn: &Turn, _: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        let link = &mut self.0;
        match turn.side {
            Side::First => streamed(turn, |stamp| expect(link.receive()?, stamp)),
            Side::Second => link.send_all(turn.stamp..turn.stamp + turn.all()).map(|()| Outcome::default()),
        }
    }
}

/// Receives all messages of a turn, and times it from the first on. So nothing is counted that was sent while nobody
/// received, however much the way between holds.
#[inline]
pub fn streamed(turn: &Turn, mut receive: impl FnMut(u64) -> Result<()>) -> Result<Outcome> {
    receive(turn.stamp)?;
    let begin = Instant::now();
    let mut rest = turn.stamp + 1..turn.stamp + turn.all();
    rest.try_for_each(&mut receive)?;
    let nanos = begin.elapsed().as_nanos() as f64 / (turn.all() - 1).max(1) as f64;
    Ok(Outcome { nanos: nanos * turn.count as f64, cpu: None })
}

/// The second side sends a message, in which it writes the time, every so many nanoseconds; the first receives it and
/// takes the time again. Its CPU time is looked at too.
pub struct Gaps<L> {
    /// The way of the messages.
    pub link: L,
    /// Nanoseconds from message to message.
    pub gap: u64,
}

impl<L: Link> Player for Gaps<L> {
    fn play(&mut self, turn: &Turn, mut single: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        if turn.side == Side::Second {
            let mut next = machine::now() + self.gap;
            for _ in 0..turn.all() {
                while machine::now() < next {
                    spin_loop();
                }
                self.link.send(machine::now())?;
                // Not to be caught up with: a late message delays the later ones.
                next = machine::now() + self.gap;
            }
            return Ok(Outcome::default());
        }
        for _ in 0..turn.warm_up {
            self.link.receive()?;
        }
        let (cpu, begin, mut sum) = (machine::cpu_time(), machine::now(), 0);
        for _ in 0..turn.count {
            let sent = self.link.receive()?;
            let late = machine::now().saturating_sub(sent);
            sum += late;
            if let Some(single) = &mut single {
                single.saturating_record(late);
            }
        }
        let (cpu, wall) = (machine::cpu_time() - cpu, machine::now() - begin);
        Ok(Outcome { nanos: sum as f64, cpu: Some(cpu as f64 / wall as f64) })
    }
}

/// Something that the first side does alone.
pub struct Alone<F>(pub F);

impl<F: FnMut() -> Result<()>> Player for Alone<F> {
    fn play(&mut self, turn: &Turn, single: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        match turn.side {
            Side::First => timed(turn, single, &mut self.0),
            Side::Second => Ok(Outcome::default()),
        }
    }
}
