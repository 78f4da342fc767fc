//! Waiting: spin, then sleep on the futex, then sleep on the lane.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::lane::{Drained, Lane};
use crate::queue::doorbell::{FD, FUTEX, sleep};
use crate::queue::sync::{AtomicU32, futex};
use crate::sys::cpu;
use crate::violation::Violation;

/// Longest sleep on the futex before the lane is looked at: a peer that died rings no doorbell.
const SLICE: Duration = Duration::from_millis(10);
/// Longest sleep on the lane, in case a wake-up could not be sent for want of memory.
const LANE_SLICE: Duration = Duration::from_secs(1);
/// After so many slices a consumer sleeps on the lane instead: slower to wake, but nothing to look after.
const SLICES: u32 = 3;

/// So many wake-ups in a row that came early and for nothing are believed: more of them for a producer, whom each
/// message that is read wakes, though it may need the space of many.
const EARLY: [u32; 2] = [4, 64];
/// Then the sleep is one that nobody can end, for this time, doubled up to three times.
const NAP: Duration = Duration::from_millis(1);

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Ready,
    TimedOut,
    /// The peer's end of the lane is gone. What is in the ring now is all there will be.
    HungUp,
}

/// One wait of one half of a port.
pub(crate) struct Waiter<'a> {
    pub(crate) doorbell: &'a AtomicU32,
    pub(crate) lane: &'a Lane,
    pub(crate) spin: &'a Spin,
    pub(crate) deadline: Option<Instant>,
}

impl Waiter<'_> {
    /// Waits until `ready`, by spinning and on the futex.
    ///
    /// `drain` is what a consumer does to the lane before it may sleep on it; a producer, whose other half may
    /// own the lane's packets, has none and stays with the futex.
    pub(crate) fn wait(
        &self,
        ready: impl Fn() -> bool,
        drain: Option<&dyn Fn() -> Result<Drained, Violation>>,
    ) -> Result<Outcome, Violation> {
        if self.spin.run(&ready, self.deadline, Spin::LANE_INTERVAL, || self.lane.hung_up()) {
            return Ok(Outcome::Ready);
        }
        let begun = Instant::now();
        let mut slices = 0;
        let mut early = 0;
        let believed = EARLY[usize::from(drain.is_none())];
        loop {
            let left = match self.deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                return Ok(if ready() { Outcome::Ready } else { Outcome::TimedOut });
            }
            let start = Instant::now();
            let interrupted = Cell::new(false);
            match drain {
                Some(drain) if slices >= SLICES && drain()? == Drained::Empty => {
                    // Whatever ends this sleep, a wake-up that turns out to be none (a hostile peer can send as
                    // many as it likes) is followed by futex slices.
                    slices = 0;
                    sleep(self.doorbell, FD, &ready, || interrupted.set(self.lane.sleep(left.min(LANE_SLICE))));
                }
                _ => {
                    slices += 1;
                    sleep(self.doorbell, FUTEX, &ready, || {
                        interrupted.set(futex::wait(self.doorbell, FUTEX, left.min(SLICE)));
                    });
                }
            }
            cpu::forget_affinity();
            if ready() {
                self.spin.note_sleep(begun.elapsed());
                return Ok(Outcome::Ready);
            }
            if self.lane.hung_up() {
                return Ok(Outcome::HungUp);
            }
            if interrupted.get() {
                continue; // a signal is nobody's wake-up
            }
            early = if start.elapsed() < SLICE / 2 { early + 1 } else { 0 };
            if early > believed {
                // A hostile peer, or one that frees very little at a time for a producer that wants much.
                let nap = NAP * (1 << (early - believed).min(3));
                std::thread::sleep(nap.min(left.saturating_sub(start.elapsed())));
            }
        }
    }
}

/// How long to spin before sleeping: at most the budget, less while spinning has not helped.
pub(crate) struct Spin {
    /// `None`: the default, which a thread with one CPU to run on does not use.
    budget: Cell<Option<Duration>>,
    now: Cell<Duration>,
}

impl Spin {
    /// About what a sleep and a wake-up cost.
    const DEFAULT: Duration = Duration::from_micros(20);
    /// Any budget beyond this is this.
    const LONGEST: Duration = Duration::from_secs(1 << 30);
    /// Time between two looks at the lane.
    const LANE_INTERVAL: Duration = Duration::from_millis(1);
    /// Looks between two readings of the clock.
    const LOOKS: u32 = 32;
    /// Budgets that a sleep and the wake-up from it take together if what was waited for came within one.
    const SOON: u32 = 3;
    /// Pauses while messages gather.
    const GATHER: u32 = 128;

    pub(crate) fn new() -> Self {
        Self { budget: Cell::new(None), now: Cell::new(Self::DEFAULT) }
    }

    /// Lets a stream of messages gather, for a microsecond or two, where spinning is allowed at all.
    pub(crate) fn gather(&self) {
        if self.budget().is_zero() {
            return;
        }
        for _ in 0..Self::GATHER {
            std::hint::spin_loop();
        }
    }

    /// A few looks for what comes at once, where spinning is allowed at all; the first that is not 0, or 0.
    #[inline]
    pub(crate) fn briefly(&self, look: impl Fn() -> u64) -> u64 {
        if self.budget().is_zero() {
            return 0;
        }
        for _ in 0..Self::LOOKS {
            std::hint::spin_loop();
            let word = look();
            if word != 0 {
                return word;
            }
        }
        0
    }

    fn budget(&self) -> Duration {
        match self.budget.get() {
            Some(budget) => budget,
            None if cpu::may_spin() => Self::DEFAULT,
            None => Duration::ZERO,
        }
    }

    pub(crate) fn set_budget(&self, budget: Duration) {
        self.budget.set(Some(budget));
        self.now.set(budget);
    }

    /// A sleep ended well, this time after the spin before it. If that was soon, spinning longer is worth another try: what
    /// comes every 10 us would otherwise be slept through for good after one that came late.
    fn note_sleep(&self, slept: Duration) {
        let budget = self.budget();
        if slept < budget.saturating_mul(Self::SOON) {
            self.now.set(budget);
        }
    }

    /// True if `ready` came true in time. `ended`, which is looked at every `interval`, ends the spin too: a peer that
    /// died is seen, however long the budget.
    pub(crate) fn run(
        &self,
        ready: impl Fn() -> bool,
        deadline: Option<Instant>,
        interval: Duration,
        mut ended: impl FnMut() -> bool,
    ) -> bool {
        let budget = self.budget();
        if budget.is_zero() {
            return false;
        }
        let mut until: Option<Instant> = None;
        let mut looked: Option<Instant> = None;
        loop {
            for _ in 0..Self::LOOKS {
                if ready() {
                    if until.is_some() {
                        self.now.set(budget.min(self.now.get().saturating_mul(2)));
                    }
                    return true;
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            let until = *until.get_or_insert_with(|| now + self.now.get().min(Self::LONGEST));
            if now.duration_since(*looked.get_or_insert(now)) >= interval {
                looked = Some(now);
                if ended() {
                    return false;
                }
            }
            if now >= until || deadline.is_some_and(|deadline| now >= deadline) {
                self.now.set((self.now.get() / 2).max(budget / 16));
                return false;
            }
        }
    }
}
