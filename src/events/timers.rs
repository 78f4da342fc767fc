//! Timers, in the order of their times, and those of the same time in the order of their creation.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Identifies a timer; see [`EventLoop::clear_timeout`](crate::EventLoop::clear_timeout).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimerId(Instant, u64);

pub(crate) struct Timers<T> {
    waiting: BTreeMap<TimerId, T>,
    next: u64,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, after: Duration, what: T) -> TimerId {
        let now = Instant::now();
        // A delay that overflows `Instant` is some decades.
        let at = now.checked_add(after).unwrap_or_else(|| now + Duration::from_secs(1 << 30));
        let id = TimerId(at, self.next);
        self.next += 1;
        self.waiting.insert(id, what);
        id
    }

    pub(crate) fn remove(&mut self, id: TimerId) -> Option<T> {
        self.waiting.remove(&id)
    }

    /// When the first timer is due.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(id, _)| id.0)
    }

    /// The number that the next timer will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// Removes and returns the first timer that is due at `now` and has a number below `end`.
    pub(crate) fn take_due(&mut self, now: Instant, end: u64) -> Option<T> {
        let due = self.waiting.keys().take_while(|id| id.0 <= now).find(|id| id.1 < end).copied()?;
        self.waiting.remove(&due)
    }

    pub(crate) fn take_all(&mut self) -> Vec<T> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}
