//! How two processes exchange messages, and what they play with that: round trips, streams, messages with gaps.

mod players;

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

pub(crate) use players::histogram;
pub use players::{Alone, Gaps, Outcome, Player, RoundTrips, Stream, Turn, streamed, timed};

/// A side that waits longer than this is alone.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One of the two processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Has the clock: it pings, or receives a stream.
    First,
    /// Answers, or sends a stream.
    Second,
}

/// One side of a way to send messages both ways.
pub trait Link {
    /// Sends the message with this stamp; waits for room if there is none.
    fn send(&mut self, stamp: u64) -> Result<()>;

    /// Waits for the next message, checks it and returns its stamp.
    fn receive(&mut self) -> Result<u64>;

    /// Sends messages with these stamps, as fast as it goes.
    #[inline]
    fn send_all(&mut self, stamps: std::ops::Range<u64>) -> Result<()> {
        stamps.into_iter().try_for_each(|stamp| self.send(stamp))
    }
}

/// How the receiver waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// It never sleeps.
    Spin,
    /// It sleeps at once.
    Block,
    /// It spins for 20 us, then sleeps: the default of a port on a machine with several CPUs.
    Default,
    /// It does not wait.
    None,
}

impl Wait {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Block => "block",
            Self::Default => "default",
            Self::None => "none",
        }
    }
}

/// Both stamps must be the same.
#[inline]
pub fn expect(stamp: u64, expected: u64) -> Result<()> {
    if stamp == expected { Ok(()) } else { Err(out_of_order(stamp, expected)) }
}

#[cold]
fn out_of_order(stamp: u64, expected: u64) -> Error {
    Error::failed(format_args!("message {stamp} arrived in the place of message {expected}"))
}

/// Spins, with PAUSE, until there is something.
#[inline]
pub fn spin_until<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    const LOOKS: u32 = 1 << 16;
    let mut since = None;
    loop {
        for _ in 0..LOOKS {
            if let Some(found) = look()? {
                return Ok(found);
            }
            spin_loop();
        }
        if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return Err(alone());
        }
    }
}

#[cold]
pub(crate) fn alone() -> Error {
    Error::failed(format_args!("the other process did not answer for {PATIENCE:?}"))
}
