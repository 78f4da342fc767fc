//! Random numbers that a seed repeats (splitmix64).

use std::cell::Cell;

pub(crate) struct Random(Cell<u64>);

impl Random {
    /// Seeded from `MESSAGEPORT_HOSTILE_SEED`, else from the clock. Prints the seed, which a failing test shows.
    pub(crate) fn new(what: &str) -> Self {
        let by_clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
        let given = std::env::var("MESSAGEPORT_HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(by_clock);
        println!("{what}: MESSAGEPORT_HOSTILE_SEED={seed}");
        Self(Cell::new(seed))
    }

    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// Another sequence, seeded from this one.
    pub(crate) fn fork(&self) -> Self {
        Self::from_seed(self.word())
    }

    pub(crate) fn word(&self) -> u64 {
        let next = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `limit - 1`.
    pub(crate) fn below(&self, limit: usize) -> usize {
        (self.word() % limit as u64) as usize
    }

    pub(crate) fn one_in(&self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
