//! One direction of a channel as ring and wait see it: words and bytes at positions, no addresses.

use std::sync::Arc;

use crate::layout::{self, DirectionLines};
use crate::sync::{AtomicU32, AtomicU64};
use crate::sys::mapping::Mapping;

/// The shared memory of one direction. Clones are views on the same memory.
#[derive(Clone)]
pub(crate) struct Direction {
    mapping: Arc<Mapping>,
    lines: usize,
    ring: usize,
    /// Capacity - 1; the capacity is a power of two.
    mask: u64,
}

impl Direction {
    /// Direction `index` of a mapped segment with rings of `capacity` bytes.
    pub(crate) fn new(mapping: Arc<Mapping>, index: usize, capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self {
            mapping,
            lines: layout::direction_lines(index),
            ring: layout::ring(index, capacity),
            mask: capacity as u64 - 1,
        }
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// Bytes from `position` to the end of the ring.
    #[inline]
    pub(crate) fn until_end(&self, position: u64) -> u64 {
        self.capacity() - (position & self.mask)
    }

    /// The word at `position`, a multiple of 8: a record's header.
    #[inline]
    pub(crate) fn header(&self, position: u64) -> &AtomicU64 {
        self.mapping.u64(self.offset(position))
    }

    /// Copies payload in. Record payloads start at multiples of 8 and never wrap.
    #[inline]
    pub(crate) fn write(&self, position: u64, from: &[u8]) {
        if position.is_multiple_of(8) {
            self.mapping.write_record(self.offset(position), from);
        } else {
            self.mapping.write(self.offset(position), from);
        }
    }

    /// Copies payload out.
    #[inline]
    pub(crate) fn read(&self, position: u64, into: &mut [u8]) {
        self.mapping.read(self.offset(position), into);
    }

    /// Copies payload out to the end of `into`.
    #[inline]
    pub(crate) fn read_to_vec(&self, position: u64, len: usize, into: &mut Vec<u8>) {
        self.mapping.read_to_vec(self.offset(position), len, into);
    }

    /// The payload in place.
    ///
    /// # Safety
    /// Nobody writes to it while the slice lives: the record has not been released, and the peer keeps to the protocol.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn slice(&self, position: u64, len: usize) -> &[u8] {
        // SAFETY: the caller's promise.
        unsafe { self.mapping.slice(self.offset(position), len) }
    }

    #[inline]
    pub(crate) fn read_cursor(&self) -> &AtomicU64 {
        self.mapping.u64(self.lines + std::mem::offset_of!(DirectionLines, read_cursor))
    }

    /// The doorbell of the consumer.
    #[inline]
    pub(crate) fn data(&self) -> &AtomicU32 {
        self.mapping.u32(self.lines + std::mem::offset_of!(DirectionLines, data))
    }

    /// The doorbell of the producer.
    #[inline]
    pub(crate) fn space(&self) -> &AtomicU32 {
        self.mapping.u32(self.lines + std::mem::offset_of!(DirectionLines, space))
    }

    /// On the line of `data`, which a producer looks at after every post anyway.
    #[inline]
    pub(crate) fn consumer_state(&self) -> &AtomicU32 {
        self.mapping.u32(self.lines + std::mem::offset_of!(DirectionLines, consumer_state))
    }

    #[inline]
    pub(crate) fn producer_state(&self) -> &AtomicU32 {
        self.mapping.u32(self.lines + std::mem::offset_of!(DirectionLines, producer_state))
    }

    #[inline]
    fn offset(&self, position: u64) -> usize {
        self.ring + (position & self.mask) as usize
    }
}
