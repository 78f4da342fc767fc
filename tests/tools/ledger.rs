//! What this process holds of the system.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::PATIENCE;

/// Held by every test that counts what its process holds: the tests of one program run at the same time.
static ALONE: Mutex<()> = Mutex::new(());

pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Descriptors, by number, with what each stands for, and mappings of the library's memory files.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Ledger {
    descriptors: BTreeMap<String, String>,
    mappings: usize,
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
        }
    }

    /// Everything that was taken since has been given back; what other threads do last may take a moment.
    #[track_caller]
    pub(crate) fn assert_restored(&self, context: &str) {
        let start = Instant::now();
        loop {
            let now = Self::now();
            if now == *self {
                return;
            }
            if start.elapsed() > PATIENCE / 10 {
                assert_eq!(now, *self, "{context}: holds more or less (left) than before (right)");
            }
            std::thread::yield_now();
        }
    }
}

/// The number of open descriptors; cheaper than a ledger.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count() - 1
}
