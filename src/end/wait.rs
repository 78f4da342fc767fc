//! Waiting: spin, then sleep on the futex, then sleep on the lane.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::lane::{Drained, Lane};
use super::spurious::SpuriousWakes;
use crate::queue::doorbell::{FD, FUTEX, sleep};
use crate::queue::sync::{AtomicU32, futex};
use crate::sys::cpu;
use crate::violation::Violation;

/// A sleep on the futex lasts at most 10 ms; then the lane is checked, since a peer that died rings no doorbell.
const FUTEX_SLICE: Duration = Duration::from_millis(10);
/// A sleep on the lane lasts at most 1 s, in case the peer could not send a wake-up for want of memory.
const LANE_SLICE: Duration = Duration::from_secs(1);
/// After 3 futex slices a consumer sleeps on the lane instead, which wakes slower and needs no periodic check.
const FUTEX_SLICES: u32 = 3;

/// How long an operation waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    /// Not at all.
    Now,
    At(Instant),
    Never,
}

impl Deadline {
    /// A timeout that overflows `Instant` means no deadline.
    pub(crate) fn after(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Never, Self::At)
    }

    #[inline]
    pub(crate) fn waits(self) -> bool {
        !matches!(self, Self::Now)
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// The time that is left.
    pub(crate) fn left(self) -> Duration {
        match self {
            Self::Now => Duration::ZERO,
            Self::At(deadline) => deadline.saturating_duration_since(Instant::now()),
            Self::Never => Duration::MAX,
        }
    }

    /// The instant, unless it is now or never.
    pub(crate) fn instant(self) -> Option<Instant> {
        match self {
            Self::At(deadline) => Some(deadline),
            Self::Now | Self::Never => None,
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Ready,
    TimedOut,
    /// The peer's end of the lane is gone: the ring now holds all there will be.
    HungUp,
}

/// One wait of one half of a port.
pub(crate) struct Waiter<'a> {
    pub(crate) doorbell: &'a AtomicU32,
    pub(crate) lane: &'a Lane,
    pub(crate) spin: &'a Spin,
    pub(crate) deadline: Deadline,
}

impl Waiter<'_> {
    /// Waits until `ready`.
    ///
    /// `drain` empties the lane, which a consumer does before it sleeps on it. A producer has none and stays with the
    /// futex: the lane's packets may belong to its other half.
    pub(crate) fn wait(
        &self,
        ready: impl Fn() -> bool,
        drain: Option<&dyn Fn() -> Result<Drained, Violation>>,
    ) -> Result<Outcome, Violation> {
        if self.spin.run(&ready, self.deadline.instant(), Spin::LANE_INTERVAL, || self.lane.hung_up()) {
            return Ok(Outcome::Ready);
        }
        let begun = Instant::now();
        let mut slices = 0;
        let mut spurious = if drain.is_some() { SpuriousWakes::CONSUMER } else { SpuriousWakes::PRODUCER };
        loop {
            let left = self.deadline.left();
            if left.is_zero() {
                return Ok(if ready() { Outcome::Ready } else { Outcome::TimedOut });
            }
            let start = Instant::now();
            let interrupted = Cell::new(false);
            match drain {
                Some(drain) if slices >= FUTEX_SLICES && drain()? == Drained::Empty => {
                    // Futex slices follow, whatever ends this sleep: a hostile peer can send any number of wake-ups.
                    slices = 0;
                    sleep(self.doorbell, FD, &ready, || interrupted.set(self.lane.sleep(left.min(LANE_SLICE))));
                }
                _ => {
                    slices = FUTEX_SLICES.min(slices + 1); // a peer decides how many there are
                    sleep(self.doorbell, FUTEX, &ready, || {
                        interrupted.set(futex::wait(self.doorbell, FUTEX, left.min(FUTEX_SLICE)));
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
                continue; // a signal is not a wake-up by the peer
            }
            if start.elapsed() >= FUTEX_SLICE / 2 {
                spurious.reset();
            } else if let Some(nap) = spurious.add(1) {
                std::thread::sleep(nap.min(left.saturating_sub(start.elapsed())));
            }
        }
    }
}

/// How long to spin before sleeping: at most the budget, and less while spinning does not help.
pub(crate) struct Spin {
    /// `None` is the default budget, which a thread that may run on one CPU only does not use.
    budget: Cell<Option<Duration>>,
    /// The length of the next spin.
    next: Cell<Duration>,
    /// The preemptions of this thread when they were last counted.
    preemptions: Cell<Option<u64>>,
    /// Waits that are still to sleep at once, since the CPU is wanted by others.
    crowded: Cell<u32>,
}

impl Spin {
    /// The default budget is 20 us, about the cost of a sleep and a wake-up.
    const DEFAULT: Duration = Duration::from_micros(20);
    /// A budget is at most 2^30 s, so that it can be added to an instant.
    const LONGEST: Duration = Duration::from_secs(1 << 30);
    /// A spin checks the lane every millisecond.
    const LANE_INTERVAL: Duration = Duration::from_millis(1);
    /// A spin reads the clock once in 32 polls.
    const POLLS_PER_CLOCK: u32 = 32;
    /// A spin and a sleep that ended within 3 budgets came soon enough for a full spin next time.
    const SOON: u32 = 3;
    /// A caller that waits polls 32 times in its fast path, about half a microsecond.
    const BRIEF_POLLS: u32 = 32;
    /// After a preemption, 16 waits with the default budget sleep at once: other threads want the CPU, the peer perhaps
    /// among them, so a spin keeps it from what it waits for.
    const CROWDED_WAITS: u32 = 16;
    /// A receiver lets messages gather for 128 pauses, 1 or 2 us.
    const GATHER_PAUSES: u32 = 128;

    pub(crate) fn new() -> Self {
        Self {
            budget: Cell::new(None),
            next: Cell::new(Self::DEFAULT),
            preemptions: Cell::new(None),
            crowded: Cell::new(0),
        }
    }

    /// Lets the messages of a stream gather for a microsecond or two, unless the budget is zero.
    pub(crate) fn gather(&self) {
        if self.budget().is_zero() {
            return;
        }
        for _ in 0..Self::GATHER_PAUSES {
            std::hint::spin_loop();
        }
    }

    /// Polls briefly, unless the budget is zero. Returns the first word that is not 0, or 0.
    #[inline]
    pub(crate) fn briefly(&self, poll: impl Fn() -> u64) -> u64 {
        if self.budget().is_zero() {
            return 0;
        }
        for _ in 0..Self::BRIEF_POLLS {
            std::hint::spin_loop();
            let word = poll();
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
        self.next.set(budget);
    }

    /// Notes that a spin and a sleep have ended with success after this time. If that was soon, the next spin has the
    /// full budget again: otherwise, after one message that came late, a stream with one every 10 us would be slept
    /// through for good.
    fn note_sleep(&self, slept: Duration) {
        let budget = self.budget();
        if slept < budget.saturating_mul(Self::SOON) {
            self.next.set(budget);
        }
    }

    /// True if this wait is one of those that sleep at once.
    fn is_crowded(&self) -> bool {
        let left = self.crowded.get();
        self.crowded.set(left.saturating_sub(1));
        left > 0
    }

    /// Looks, after a spin in vain, whether the thread has lost its CPU since the last look. A budget that was set is
    /// used anyway.
    fn look_for_crowd(&self) {
        if self.budget.get().is_none() {
            let count = Some(cpu::preemptions());
            let before = self.preemptions.replace(count);
            if before.is_some() && before != count {
                self.crowded.set(Self::CROWDED_WAITS);
            }
        }
    }

    /// Spins until `ready`. False if the budget or the deadline is over first, or `ended` returns true, which is called
    /// every `interval`: so the death of a peer is seen however long the budget.
    pub(crate) fn run(
        &self,
        ready: impl Fn() -> bool,
        deadline: Option<Instant>,
        interval: Duration,
        mut ended: impl FnMut() -> bool,
    ) -> bool {
        let budget = self.budget();
        if budget.is_zero() || self.is_crowded() {
            return false;
        }
        let mut until: Option<Instant> = None;
        let mut checked: Option<Instant> = None;
        loop {
            for _ in 0..Self::POLLS_PER_CLOCK {
                if ready() {
                    if until.is_some() {
                        self.next.set(budget.min(self.next.get().saturating_mul(2)));
                    }
                    return true;
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            let until = *until.get_or_insert_with(|| now + self.next.get().min(Self::LONGEST));
            if now.duration_since(*checked.get_or_insert(now)) >= interval {
                checked = Some(now);
                if ended() {
                    return false;
                }
            }
            if now >= until || deadline.is_some_and(|deadline| now >= deadline) {
                self.next.set((self.next.get() / 2).max(budget / 16));
                self.look_for_crowd();
                return false;
            }
        }
    }
}
