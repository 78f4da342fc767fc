//! The shared memory of one direction, with a check of the stores to it.

use std::ops::Range;
use std::sync::Arc;

use super::sync::{AtomicU32, AtomicU64, Ordering, WordRole, take_stored};

/// A view of the memory of one direction, in one of its rings. Clones are views of the same memory.
#[derive(Clone)]
pub(crate) struct Direction {
    lines: Arc<Lines>,
    ring: Arc<Vec<AtomicU64>>,
    first_capacity: usize,
    grown: bool,
}

struct Lines {
    read_cursor: AtomicU64,
    data: AtomicU32,
    space: AtomicU32,
    wanted: AtomicU64,
}

fn ring(capacity: usize) -> Arc<Vec<AtomicU64>> {
    let capacity = capacity as u64;
    let offsets = (0..capacity).step_by(8);
    Arc::new(offsets.map(|offset| AtomicU64::new(WordRole::Ring { capacity, offset })).collect())
}

impl Direction {
    pub(crate) fn new(capacity: usize) -> Self {
        let lines = Lines {
            read_cursor: AtomicU64::new(WordRole::ReadCursor),
            data: AtomicU32::new(),
            space: AtomicU32::new(),
            wanted: AtomicU64::new(WordRole::ReadCursor),
        };
        Self { lines: Arc::new(lines), ring: ring(capacity), first_capacity: capacity, grown: false }
    }

    /// The same direction in a new ring of twice the size.
    pub(crate) fn in_next_ring(&self) -> Self {
        let ring = ring(2 * self.ring.len() * 8);
        Self { lines: Arc::clone(&self.lines), ring, first_capacity: self.first_capacity, grown: true }
    }

    pub(crate) fn is_grown(&self) -> bool {
        self.grown
    }

    /// Asserts that every store to this ring since the last call was to a word at `positions`.
    pub(crate) fn assert_stored_only_in(&self, positions: Range<u64>, whose: &str) {
        let capacity = self.capacity();
        let allowed = positions.end.saturating_sub(positions.start).min(capacity);
        for offset in take_stored(capacity) {
            let behind = offset.wrapping_sub(positions.start) & (capacity - 1);
            assert!(behind < allowed, "the word at {offset} is not {whose}: {positions:?}");
        }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.ring.len() as u64 * 8
    }

    pub(crate) fn first_capacity(&self) -> usize {
        self.first_capacity
    }

    pub(crate) fn max_data_len(&self) -> usize {
        1000
    }

    pub(crate) fn until_end(&self, position: u64) -> u64 {
        self.capacity() - position % self.capacity()
    }

    pub(crate) fn header(&self, position: u64) -> &AtomicU64 {
        assert!(position.is_multiple_of(8), "a header at {position}");
        &self.ring[(position % self.capacity() / 8) as usize]
    }

    pub(crate) fn write_word(&self, position: u64, word: u64) {
        self.header(position).store(word, Ordering::Relaxed);
    }

    pub(crate) fn read_word(&self, position: u64) -> u64 {
        self.header(position).get()
    }

    pub(crate) fn write(&self, position: u64, from: &[u8]) {
        assert!(from.len() as u64 <= self.until_end(position), "payload outside the ring");
        let words = (position & !7..position + from.len() as u64).step_by(8);
        words.for_each(|at| self.header(at).store(0xAA, Ordering::Relaxed));
    }

    pub(crate) fn read(&self, position: u64, into: &mut [u8]) {
        assert!(into.len() as u64 <= self.until_end(position), "payload outside the ring");
    }

    pub(crate) fn read_to_vec(&self, position: u64, len: usize, into: &mut Vec<u8>) {
        assert!(len as u64 <= self.until_end(position), "payload outside the ring");
        into.resize(into.len() + len, 0);
    }

    pub(crate) fn read_cursor(&self) -> &AtomicU64 {
        &self.lines.read_cursor
    }

    pub(crate) fn data_doorbell(&self) -> &AtomicU32 {
        &self.lines.data
    }

    pub(crate) fn wanted(&self) -> &AtomicU64 {
        &self.lines.wanted
    }

    pub(crate) fn space_doorbell(&self) -> &AtomicU32 {
        &self.lines.space
    }
}
