//! Links, which send and receive messages between two processes, and the players that measure them.

mod players;

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

pub(crate) use players::histogram;
pub use players::{Alone, Gaps, Outcome, Player, RoundTrips, Stream, Turn, streamed, timed};

/// Longest time that a side waits for the other one in a single operation before it fails: 10 seconds.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// One of the two sides of a benchmark, each of them a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Takes the time: sends first in a round trip, or receives a stream.
    First,
    /// Answers a round trip, or sends a stream.
    Second,
}

/// One side of a bidirectional link for messages of one size.
pub trait Link {
    /// Sends the message with this stamp, after waiting for space if there is none.
    fn send(&mut self, stamp: u64) -> Result<()>;

    /// Waits for the next message, checks its contents and returns its stamp.
    fn receive(&mut self) -> Result<u64>;

    /// Sends one message for each stamp without pauses, in the way that suits a stream.
    #[inline]
    fn send_all(&mut self, stamps: std::ops::Range<u64>) -> Result<()> {
        stamps.into_iter().try_for_each(|stamp| self.send(stamp))
    }
}

/// The way in which a receiver waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// It spins and never sleeps.
    Spin,
    /// It sleeps without spinning first.
    Block,
    /// It spins for 20 us, then sleeps. This is the default of a port whose thread may run on several CPUs.
    Default,
    /// There is nothing to wait for.
    None,
}

impl Wait {
    /// Returns the name in tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Block => "block",
            Self::Default => "default",
            Self::None => "none",
        }
    }
}

/// Fails if the stamp of a received message is not the expected one.
#[inline]
pub fn expect(stamp: u64, expected: u64) -> Result<()> {
    if stamp == expected { Ok(()) } else { Err(out_of_order(stamp, expected)) }
}

#[cold]
fn out_of_order(stamp: u64, expected: u64) -> Error {
    Error::failed(format_args!("message {stamp} arrived instead of message {expected}"))
}

/// Spins, with a pause instruction per iteration, until `look` finds something. Fails after [`PEER_TIMEOUT`].
#[inline]
pub fn spin_until<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    // Calls of `look` between two readings of the clock, which is too slow to read each time.
    const POLLS_PER_CLOCK_READ: u32 = 1 << 16;
    let mut since = None;
    loop {
        for _ in 0..POLLS_PER_CLOCK_READ {
            if let Some(found) = look()? {
                return Ok(found);
            }
            spin_loop();
        }
        if since.get_or_insert_with(Instant::now).elapsed() > PEER_TIMEOUT {
            return Err(peer_silent());
        }
    }
}

#[cold]
pub(crate) fn peer_silent() -> Error {
    Error::failed(format_args!("the other process did not answer for {PEER_TIMEOUT:?}"))
}
