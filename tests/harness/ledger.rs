//! The ledger: what a process holds of the system before and after a test.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use super::ports::PATIENCE;

/// What this process holds.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Ledger {
    /// By number, with what each stands for.
    descriptors: BTreeMap<String, String>,
    /// Mappings of the library's memory files.
    mappings: usize,
    threads: usize,
}

impl Ledger {
    pub(crate) fn now() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("/proc/self/fd").flatten().filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?.display().to_string();
            // Not the descriptor that lists the directory.
            (!link.starts_with("/proc/")).then(|| (entry.file_name().display().to_string(), link))
        });
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
        Self {
            descriptors: descriptors.collect(),
            mappings: maps.lines().filter(|line| line.contains("/memfd:messageport")).count(),
            threads: fs::read_dir("/proc/self/task").expect("/proc/self/task").count(),
        }
    }

    /// Everything that was taken since has been given back.
    #[track_caller]
    pub(crate) fn assert_restored(&self) {
        let start = Instant::now();
        let mut after = Self::now();
        // A thread that has been joined leaves the list a moment later.
        while after.threads != self.threads && start.elapsed() < PATIENCE / 4 {
            std::thread::yield_now();
            after = Self::now();
        }
        assert_eq!(after, *self, "the test holds more or less (left) than before it (right)");
    }
}
