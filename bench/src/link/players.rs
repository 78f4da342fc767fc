//! The players: round trips, streams, messages with gaps, and operations of one side alone.

use std::hint::spin_loop;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::{Link, Side, expect};
use crate::error::Result;
use crate::system::machine;

/// One turn of a subject, which both sides play.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The side of the process that plays it.
    pub side: Side,
    /// Number of untimed operations before the timed ones.
    pub warm_up: u64,
    /// Number of timed operations.
    pub count: u64,
    /// Stamp of the first message. Stamps increase by one from message to message.
    pub stamp: u64,
}

impl Turn {
    fn all(self) -> u64 {
        self.warm_up + self.count
    }
}

/// The measurement of one turn, from the first side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Total duration of the timed operations in nanoseconds.
    pub nanos: f64,
    /// CPU time of the process as a share of the elapsed time, where it was measured.
    pub cpu: Option<f64>,
}

/// One side of a subject that is open for measurement.
pub trait Player {
    /// Plays a turn. With a histogram, every operation is timed individually and recorded in nanoseconds.
    fn play(&mut self, turn: &Turn, latencies: Option<&mut Histogram<u64>>) -> Result<Outcome>;
}

impl Player for Box<dyn Player> {
    fn play(&mut self, turn: &Turn, latencies: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        (**self).play(turn, latencies)
    }
}

/// Returns an empty histogram for durations from 1 ns to 60 s with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// Runs `operation` as often as the turn requires and measures the duration of the timed part.
#[inline]
pub fn timed(
    turn: &Turn,
    latencies: Option<&mut Histogram<u64>>,
    mut operation: impl FnMut() -> Result<()>,
) -> Result<Outcome> {
    for _ in 0..turn.warm_up {
        operation()?;
    }
    let begin = Instant::now();
    if let Some(latencies) = latencies {
        let mut last = begin;
        for _ in 0..turn.count {
            operation()?;
            let now = Instant::now();
            latencies.saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
    } else {
        for _ in 0..turn.count {
            operation()?;
        }
    }
    Ok(Outcome { nanos: begin.elapsed().as_nanos() as f64, cpu: None })
}

/// Plays round trips: the first side sends and waits for the answer.
pub struct RoundTrips<L>(pub L);

impl<L: Link> Player for RoundTrips<L> {
    fn play(&mut self, turn: &Turn, latencies: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        let link = &mut self.0;
        let mut stamp = turn.stamp;
        match turn.side {
            Side::First => timed(turn, latencies, || {
                link.send(stamp)?;
                expect(link.receive()?, stamp)?;
                stamp += 1;
                Ok(())
            }),
            Side::Second => timed(turn, latencies, || {
                expect(link.receive()?, stamp)?;
                link.send(stamp)?;
                stamp += 1;
                Ok(())
            }),
        }
    }
}

/// Plays a stream: the second side sends without pauses, the first receives.
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

/// Receives all messages of a turn and measures the time from the first receipt to the last, so that messages which
/// were queued before the receiver was ready do not make a stream look faster than it is.
#[inline]
pub fn streamed(turn: &Turn, mut receive: impl FnMut(u64) -> Result<()>) -> Result<Outcome> {
    receive(turn.stamp)?;
    let begin = Instant::now();
    let mut rest = turn.stamp + 1..turn.stamp + turn.all();
    rest.try_for_each(&mut receive)?;
    let nanos = begin.elapsed().as_nanos() as f64 / (turn.all() - 1).max(1) as f64;
    Ok(Outcome { nanos: nanos * turn.count as f64, cpu: None })
}

/// Plays messages with gaps: the second side sends a message with the current time as its stamp after each gap; the
/// first side measures the delay to its receipt, and its own CPU time.
pub struct Gaps<L> {
    /// The link that carries the messages.
    pub link: L,
    /// Time between two messages in nanoseconds.
    pub gap: u64,
}

impl<L: Link> Player for Gaps<L> {
    fn play(&mut self, turn: &Turn, mut latencies: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        if turn.side == Side::Second {
            let mut next = machine::now() + self.gap;
            for _ in 0..turn.all() {
                while machine::now() < next {
                    spin_loop();
                }
                self.link.send(machine::now())?;
                // A late message delays all later ones; otherwise they would follow without a gap.
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
            if let Some(latencies) = &mut latencies {
                latencies.saturating_record(late);
            }
        }
        let (cpu, wall) = (machine::cpu_time() - cpu, machine::now() - begin);
        Ok(Outcome { nanos: sum as f64, cpu: Some(cpu as f64 / wall as f64) })
    }
}

/// Plays an operation that the first side performs alone.
pub struct Alone<F>(pub F);

impl<F: FnMut() -> Result<()>> Player for Alone<F> {
    fn play(&mut self, turn: &Turn, latencies: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        match turn.side {
            Side::First => timed(turn, latencies, &mut self.0),
            Side::Second => Ok(Outcome::default()),
        }
    }
}
