//! The shared memory of one direction, in loom's atomics, with rings as small as possible.

use std::sync::Arc;

use crate::queue::record::max_payload;
use crate::queue::sync::{AtomicU32, AtomicU64};
use crate::word::WordRole;

/// A view of the memory of one direction, in one of its rings. Clones are views of the same memory.
#[derive(Clone)]
pub(crate) struct Direction {
    lines: Arc<Lines>,
    ring: Arc<Vec<AtomicU64>>,
    /// Capacity of the first ring, in bytes.
    first_capacity: usize,
    grown: bool,
}

struct Lines {
    read_cursor: AtomicU64,
    data: AtomicU32,
    consumer_state: AtomicU32,
    space: AtomicU32,
    producer_state: AtomicU32,
    wanted: AtomicU64,
}

fn ring(capacity: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..capacity / 8).map(|_| AtomicU64::new(WordRole::Ring)).collect())
}

impl Direction {
    pub(crate) fn new(capacity: usize) -> Self {
        let lines = Arc::new(Lines {
            read_cursor: AtomicU64::new(WordRole::ReadCursor),
            data: AtomicU32::new(0),
            consumer_state: AtomicU32::new(0),
            space: AtomicU32::new(0),
            producer_state: AtomicU32::new(0),
            wanted: AtomicU64::new(WordRole::Wanted),
        });
        Self { lines, ring: ring(capacity), first_capacity: capacity, grown: false }
    }

    /// The same direction in a new ring of twice the size.
    pub(crate) fn in_next_ring(&self) -> Self {
        let capacity = 2 * self.ring.len() * 8;
        Self { lines: Arc::clone(&self.lines), ring: ring(capacity), first_capacity: self.first_capacity, grown: true }
    }

    pub(crate) fn is_grown(&self) -> bool {
        self.grown
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.ring.len() as u64 * 8
    }

    pub(crate) fn first_capacity(&self) -> usize {
        self.first_capacity
    }

    pub(crate) fn max_data_len(&self) -> usize {
        max_payload(self.ring.len() * 8)
    }

    pub(crate) fn until_end(&self, position: u64) -> u64 {
        self.capacity() - position % self.capacity()
    }

    pub(crate) fn header(&self, position: u64) -> &AtomicU64 {
        &self.ring[(position % self.capacity() / 8) as usize]
    }

    pub(crate) fn write_word(&self, position: u64, word: u64) {
        self.header(position).write_payload(word);
    }

    pub(crate) fn read_word(&self, position: u64) -> u64 {
        self.header(position).read_payload()
    }

    /// Copies payload in. The models post whole words only.
    pub(crate) fn write(&self, position: u64, from: &[u8]) {
        let (words, rest) = from.as_chunks::<8>();
        assert!(rest.is_empty() && from.len() as u64 <= self.until_end(position), "not a payload of the models");
        for (word, at) in words.iter().zip((position..).step_by(8)) {
            self.header(at).write_payload(u64::from_ne_bytes(*word));
        }
    }

    pub(crate) fn read(&self, position: u64, into: &mut [u8]) {
        assert!(into.len() as u64 <= self.until_end(position), "payload outside the ring");
        for (word, at) in into.as_chunks_mut::<8>().0.iter_mut().zip((position..).step_by(8)) {
            *word = self.header(at).read_payload().to_ne_bytes();
        }
    }

    pub(crate) fn read_to_vec(&self, position: u64, len: usize, into: &mut Vec<u8>) {
        let start = into.len();
        into.resize(start + len, 0);
        self.read(position, &mut into[start..]);
    }

    pub(crate) fn read_cursor(&self) -> &AtomicU64 {
        &self.lines.read_cursor
    }

    pub(crate) fn data_doorbell(&self) -> &AtomicU32 {
        &self.lines.data
    }

    pub(crate) fn space_doorbell(&self) -> &AtomicU32 {
        &self.lines.space
    }

    pub(crate) fn wanted(&self) -> &AtomicU64 {
        &self.lines.wanted
    }

    pub(crate) fn consumer_state(&self) -> &AtomicU32 {
        &self.lines.consumer_state
    }

    pub(crate) fn producer_state(&self) -> &AtomicU32 {
        &self.lines.producer_state
    }
}
