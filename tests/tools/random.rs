//! Random numbers that can be had again by their seed (splitmix64).

pub(crate) struct Random(u64);

impl Random {
    /// Seeded by `MESSAGEPORT_HOSTILE_SEED`, else by the clock. The seed is printed, which a failing test shows.
    pub(crate) fn new(what: &str) -> Self {
        let by_clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
        let given = std::env::var("MESSAGEPORT_HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(by_clock);
        println!("{what}: MESSAGEPORT_HOSTILE_SEED={seed}");
        Self(seed)
    }

    /// Another sequence, decided by this one.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.word())
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `limit - 1`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.word() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
