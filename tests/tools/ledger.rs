//! The ledger: the descriptors and mappings of this process before and after a test.
#![allow(dead_code)] // each test program uses a part

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::PATIENCE;

/// A lock for every test that counts descriptors: the tests of one program run at the same time in one process.
/// Taking it waits for the closer's threads, which may be at work for the test before.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let start = Instant::now();
    while closers() > 0 && start.elapsed() < PATIENCE / 10 {
        std::thread::yield_now();
    }
    alone
}

/// The number of threads that close descriptors which came from a peer.
fn closers() -> usize {
    let threads = fs::read_dir("/proc/self/task").expect("/proc/self/task").flatten();
    threads
        .filter(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "messageport\n"))
        .count()
}

#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Ledger {
    /// Descriptors by number, with their links in `/proc`.
    descriptors: BTreeMap<String, String>,
    /// Mappings of the library's memory files.
    mappings: usize,
}

impl Ledger {
    pub(crate) fn now() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("/proc/self/fd").flatten().filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?.display().to_string();
            // Without the descriptor that lists the directory.
            (!link.starts_with("/proc/")).then(|| (entry.file_name().display().to_string(), link))
        });
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
        Self {
            descriptors: descriptors.collect(),
            mappings: maps.lines().filter(|line| line.contains("/memfd:messageport")).count(),
        }
    }

    /// Asserts that this process holds what it held at the time of the ledger. Other threads get a moment to let go.
    #[track_caller]
    pub(crate) fn assert_restored(&self, context: &str) {
        let start = Instant::now();
        loop {
            let now = Self::now();
            if now == *self {
                return;
            }
            if start.elapsed() > PATIENCE / 10 {
                assert_eq!(now, *self, "{context}: the process holds more or less (left) than before (right)");
            }
            std::thread::yield_now();
        }
    }
}

/// The number of open descriptors; cheaper than a ledger.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count() - 1
}

/// Asserts that the process has `count` descriptors open as soon as whatever is slow to close has been closed.
#[track_caller]
pub(crate) fn assert_descriptors(count: usize, context: &str) {
    let start = Instant::now();
    while descriptors() != count && start.elapsed() < PATIENCE / 10 {
        std::thread::yield_now();
    }
    assert_eq!(descriptors(), count, "{context}: open descriptors (left) and those expected (right)");
}
