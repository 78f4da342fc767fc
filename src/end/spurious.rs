//! The policy against spurious wake-ups: a few in a row are tolerated, then the waiter naps.
//!
//! A hostile peer can wake a sleeper as often as it likes, and an honest one that frees space bit by bit wakes a
//! producer that needs more. Either way the waiter must not spin.
#![forbid(unsafe_code)]

use std::time::Duration;

/// The first nap lasts 2 ms, the next 4 ms, every later one 8 ms. Nothing wakes the napper.
const NAPS: [Duration; 3] = [Duration::from_millis(2), Duration::from_millis(4), Duration::from_millis(8)];

/// The spurious wake-ups of one waiter since it last found something.
#[derive(Debug)]
pub(crate) struct SpuriousWakes {
    count: u32,
    tolerated: u32,
}

impl SpuriousWakes {
    /// For a consumer: 4 in a row are tolerated.
    pub(crate) const CONSUMER: Self = Self { count: 0, tolerated: 4 };
    /// For a producer: 64 in a row are tolerated, since each message that the peer reads wakes it, and it may need the
    /// space of many.
    pub(crate) const PRODUCER: Self = Self { count: 0, tolerated: 64 };

    /// For a consumer that is a task: 8 in a row are tolerated. An honest peer wakes it without a message where an
    /// earlier holder of the port, or the port's sending half, had armed the doorbell.
    #[cfg(feature = "tokio")]
    pub(crate) const CONSUMER_TASK: Self = Self { count: 0, tolerated: 8 };

    /// Counts `wakes` more. Returns how long to nap if they are too many.
    pub(crate) fn add(&mut self, wakes: u32) -> Option<Duration> {
        self.count = self.count.saturating_add(wakes);
        let excess = self.count.checked_sub(self.tolerated + 1)? as usize;
        (wakes > 0).then(|| NAPS[excess.min(NAPS.len() - 1)])
    }

    /// The waiter has found something, or slept undisturbed.
    pub(crate) fn reset(&mut self) {
        self.count = 0;
    }
}
