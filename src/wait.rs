//! Waiting: spin, then sleep on a doorbell, then sleep on the lane.
//!
//! Each direction has two doorbells: `data`, on which its consumer sleeps, and `space`, on which its producer sleeps.
//! They are the only words that both sides write. The sleeper tells how it sleeps; the waker takes that note away and
//! acts on what it took. A pair that is busy never sleeps and makes no system call; a burst to a sleeper makes one.
//!
//! ```text
//! sleeper                                   waker
//! 1  doorbell := FUTEX or FD                1  commit the record (or the cursor)
//! 2  full fence                             2  full fence (1 and 2 are one swap)
//! 3  look at the ring once more             3  look at the doorbell
//! 4  nothing there: sleep                   4  not AWAKE: swap it to AWAKE, wake as the old value says
//! ```
//! Of the two looks (3) at least one sees what the other side did in 1, since a fence stands between on both sides:
//! either the sleeper does not sleep or the waker wakes it.

use crate::sync::{AtomicU32, Ordering, fence, futex};

/// Doorbell: nobody sleeps.
pub(crate) const AWAKE: u32 = 0;
/// Doorbell: wake by futex(2) on the doorbell itself.
pub(crate) const FUTEX: u32 = 1;
/// Doorbell: wake by a packet on the lane. Any unknown value means this too.
pub(crate) const FD: u32 = 2;

/// The sleeper's sequence: says how it sleeps, looks once more, and goes to sleep if there is still nothing.
#[inline]
pub(crate) fn sleep(doorbell: &AtomicU32, how: u32, ready: impl FnOnce() -> bool, go_to_sleep: impl FnOnce()) {
    arm(doorbell, how);
    if !ready() {
        go_to_sleep();
    }
    // Relaxed: whoever swaps the doorbell acts on its old value, and waking somebody who is awake is harmless.
    doorbell.store(AWAKE, Ordering::Relaxed);
}

/// Steps 1 and 2 of the sleeper alone, for one that will sleep in somebody else's `poll`.
#[inline]
pub(crate) fn arm(doorbell: &AtomicU32, how: u32) {
    // With the SeqCst load in `ring_if_asleep`: that load is after this store, or before it and then the waker's
    // commit, which is before that load, is before our look.
    doorbell.store(how, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// The waker's steps 3 and 4; the caller has just committed with a full fence. `knock` sends a packet on the lane and
/// says whether the sleeper will find one.
#[inline]
pub(crate) fn ring_if_asleep(doorbell: &AtomicU32, knock: impl FnOnce() -> bool) {
    if doorbell.load(Ordering::SeqCst) != AWAKE {
        ring(doorbell, knock);
    }
}

/// The waker's step 4.
#[cold]
pub(crate) fn ring(doorbell: &AtomicU32, knock: impl FnOnce() -> bool) {
    // AcqRel: of two wakers one takes the note, and it sees what the sleeper did before it left it.
    match doorbell.swap(AWAKE, Ordering::AcqRel) {
        AWAKE => {}
        FUTEX => futex::wake(doorbell),
        how => {
            if !knock() {
                // Nobody was woken: the note goes back, unless the sleeper has left another one meanwhile.
                let _ = doorbell.compare_exchange(AWAKE, how, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(not(messageport_loom))]
pub(crate) use blocking::{Outcome, Spin, Waiter};

#[cfg(not(messageport_loom))]
mod blocking {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    use super::{FD, FUTEX, sleep};
    use crate::error::Violation;
    use crate::lane::{Drained, Lane};
    use crate::sync::{AtomicU32, futex};
    use crate::sys::cpu;

    /// Longest sleep on the futex before the lane is looked at: a peer that died rings no doorbell.
    const SLICE: Duration = Duration::from_millis(10);
    /// After so many slices a consumer sleeps on the lane instead: slower to wake, but nothing to look after.
    const SLICES: u32 = 3;

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
            if self.spin.run(&ready, self.deadline) {
                return Ok(Outcome::Ready);
            }
            let mut slices = 0;
            loop {
                let left = match self.deadline {
                    Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                    None => Duration::MAX,
                };
                if left.is_zero() {
                    return Ok(if ready() { Outcome::Ready } else { Outcome::TimedOut });
                }
                match drain {
                    Some(drain) if slices >= SLICES && drain()? == Drained::Empty => {
                        // Whatever ends this sleep, a wake-up that turns out to be none (a hostile peer can send as
                        // many as it likes) is followed by futex slices.
                        slices = 0;
                        sleep(self.doorbell, FD, &ready, || self.lane.sleep(left));
                    }
                    _ => {
                        slices += 1;
                        sleep(self.doorbell, FUTEX, &ready, || futex::wait(self.doorbell, FUTEX, left.min(SLICE)));
                    }
                }
                cpu::forget_affinity();
                if ready() {
                    return Ok(Outcome::Ready);
                }
                if self.lane.hung_up() {
                    return Ok(Outcome::HungUp);
                }
            }
        }
    }

    /// How long to spin before sleeping: at most the budget, less while spinning has not helped.
    pub(crate) struct Spin {
        budget: Cell<Duration>,
        now: Cell<Duration>,
    }

    impl Spin {
        /// About what a sleep and a wake-up cost.
        const DEFAULT: Duration = Duration::from_micros(20);
        /// Looks between two readings of the clock.
        const LOOKS: u32 = 32;

        pub(crate) fn new() -> Self {
            Self { budget: Cell::new(Self::DEFAULT), now: Cell::new(Self::DEFAULT) }
        }

        pub(crate) fn set_budget(&self, budget: Duration) {
            self.budget.set(budget);
            self.now.set(budget);
        }

        /// True if `ready` came true in time.
        fn run(&self, ready: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
            let budget = self.budget.get();
            if budget.is_zero() || !cpu::may_spin() {
                return false;
            }
            let mut until: Option<Instant> = None;
            loop {
                for _ in 0..Self::LOOKS {
                    if ready() {
                        if until.is_some() {
                            self.now.set(budget.min(self.now.get() * 2));
                        }
                        return true;
                    }
                    std::hint::spin_loop();
                }
                let now = Instant::now();
                let until = *until.get_or_insert_with(|| now.checked_add(self.now.get()).unwrap_or(now));
                if now >= until || deadline.is_some_and(|deadline| now >= deadline) {
                    self.now.set((self.now.get() / 2).max(budget / 16));
                    return false;
                }
            }
        }
    }
}
