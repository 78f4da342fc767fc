//! Timers, in the order of their times, and those of the same time in the order of their creation.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Identifies a timer; see [`EventLoop::clear_timeout`](crate::EventLoop::clear_timeout).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimerId(u64);

pub(crate) struct Timers<T> {
    waiting: BTreeMap<(Instant, u64), T>,
    /// When each timer is due, by its number.
    due: HashMap<u64, Instant>,
    next: u64,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: BTreeMap::new(), due: HashMap::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, after: Duration, what: T) -> TimerId {
        let now = Instant::now();
        // A delay that overflows `Instant` is some decades.
        let at = now.checked_add(after).unwrap_or_else(|| now + Duration::from_secs(1 << 30));
        let number = self.next;
        self.next += 1;
        self.insert(number, at, what);
        TimerId(number)
    }

    fn insert(&mut self, number: u64, at: Instant, what: T) {
        self.waiting.insert((at, number), what);
        self.due.insert(number, at);
    }

    /// Sets a timer again that was taken at `now`: `period` after it was due, or after `now` if that is over.
    pub(crate) fn repeat(&mut self, (due, number): (Instant, u64), period: Duration, now: Instant, what: T) {
        let next = |from: Instant| from.checked_add(period).unwrap_or(from + Duration::from_secs(1 << 30));
        let at = if next(due) > now { next(due) } else { next(now) };
        self.insert(number, at, what);
    }

    pub(crate) fn remove(&mut self, id: TimerId) -> Option<T> {
        let at = self.due.remove(&id.0)?;
        self.waiting.remove(&(at, id.0))
    }

    /// When the first timer is due.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// The number that the next timer will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// Removes and returns the first timer that is due at `now` and has a number below `end`, with its time and number.
    pub(crate) fn take_due(&mut self, now: Instant, end: u64) -> Option<((Instant, u64), T)> {
        let key = self.waiting.keys().take_while(|(at, _)| *at <= now).find(|(_, number)| *number < end).copied()?;
        self.due.remove(&key.1);
        Some((key, self.waiting.remove(&key)?))
    }

    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.due.clear();
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}
