//! One direction of a channel as ring and wait see it: words and bytes at positions, no addresses.
//!
//! A position counts bytes since the channel was made; its place in the ring is found by masking, so that no position,
//! wherever it comes from, leads outside. That is checked once, when the direction is made, and not at each access.
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use super::record::max_payload;
use super::sync::{AtomicU32, AtomicU64, Ordering};
use crate::layout::{self, DirectionLines};
use crate::sys::mapping::{Mapping, copy_in, copy_out};

/// The shared memory of one direction: its lines, and one of its rings. Clones are views on the same memory.
#[derive(Clone)]
pub(crate) struct Direction {
    /// `DirectionLines`, aligned to a line.
    lines: NonNull<u8>,
    /// `mask + 1` bytes, aligned to a page.
    ring: NonNull<u8>,
    /// Capacity - 1; the capacity is a power of two.
    mask: u64,
    /// Capacity of the first ring, of which a record is a part in whatever ring it lies.
    first_capacity: usize,
    /// Most bytes of data in one record.
    max_data_len: usize,
    /// Keeps the lines mapped, and the first ring.
    mapping_of_lines: Arc<Mapping>,
    /// Keeps the ring mapped if it is another one.
    grown: Option<Arc<GrownRing>>,
}

/// A larger ring in a memory file of its own, behind a header page.
pub(crate) struct GrownRing {
    pub(crate) file: OwnedFd,
    pub(crate) mapping: Mapping,
    pub(crate) capacity: usize,
}

// SAFETY: the pointers lead into memory that the mappings keep in place; it is accessed by atomics and by copies only.
unsafe impl Send for Direction {}
// SAFETY: as above.
unsafe impl Sync for Direction {}

impl Direction {
    /// Direction `index` of a mapped segment with rings of `capacity` bytes.
    pub(crate) fn new(mapping: Arc<Mapping>, index: usize, capacity: usize, max_message_len: usize) -> Self {
        assert!(capacity.is_power_of_two() && capacity >= layout::MIN_CAPACITY);
        Self {
            lines: mapping.at(layout::direction_lines(index), size_of::<DirectionLines>()),
            ring: mapping.at(layout::ring(index, capacity), capacity),
            mask: capacity as u64 - 1,
            first_capacity: capacity,
            max_data_len: max_message_len.min(max_payload(capacity)),
            mapping_of_lines: mapping,
            grown: None,
        }
    }

    /// The same direction in another ring.
    pub(crate) fn in_ring(&self, grown: GrownRing) -> Self {
        assert!(grown.capacity.is_power_of_two() && grown.capacity >= layout::MIN_CAPACITY);
        Self {
            lines: self.lines,
            ring: grown.mapping.at(layout::HEADER_LEN, grown.capacity),
            mask: grown.capacity as u64 - 1,
            first_capacity: self.first_capacity,
            max_data_len: self.max_data_len,
            mapping_of_lines: Arc::clone(&self.mapping_of_lines),
            grown: Some(Arc::new(grown)),
        }
    }

    /// The ring, if it is not the first one.
    #[inline]
    pub(crate) fn grown(&self) -> Option<&GrownRing> {
        self.grown.as_deref()
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// Capacity of the first ring.
    #[inline]
    pub(crate) fn first_capacity(&self) -> usize {
        self.first_capacity
    }

    /// True if the ring is not the first one.
    #[inline]
    pub(crate) fn is_grown(&self) -> bool {
        self.grown.is_some()
    }

    /// Most bytes of data in one record: what fits, and what the channel allows.
    #[inline]
    pub(crate) fn max_data_len(&self) -> usize {
        self.max_data_len
    }

    /// Bytes from `position` to the end of the ring.
    #[inline]
    pub(crate) fn until_end(&self, position: u64) -> u64 {
        self.capacity() - (position & self.mask)
    }

    /// The word at `position`, a multiple of 8: a record's header.
    #[inline]
    pub(crate) fn header(&self, position: u64) -> &AtomicU64 {
        let offset = position & self.mask & !7;
        // SAFETY: a multiple of 8 below the capacity, so a whole word inside the ring.
        let word = unsafe { self.ring.add(offset as usize) };
        // SAFETY: aligned, mapped as long as `self`, and only ever accessed atomically or by copies.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    /// Writes payload of eight bytes, at a multiple of 8.
    #[inline]
    pub(crate) fn write_word(&self, position: u64, word: u64) {
        // Relaxed, like all payload: published by the commit.
        self.header(position).store(word, Ordering::Relaxed);
    }

    /// Reads payload of eight bytes, at a multiple of 8.
    #[inline]
    pub(crate) fn read_word(&self, position: u64) -> u64 {
        // Relaxed, like all payload: acquired with the header.
        self.header(position).load(Ordering::Relaxed)
    }

    /// Copies payload in. A payload never wraps.
    #[inline(always)]
    pub(crate) fn write(&self, position: u64, from: &[u8]) {
        let to = self.bytes(position, from.len());
        // SAFETY: `bytes` checked the destination; `from` is private and of the same length.
        unsafe { copy_in(from.as_ptr(), to.as_ptr(), from.len()) };
    }

    /// Copies payload out.
    #[inline]
    pub(crate) fn read(&self, position: u64, into: &mut [u8]) {
        let from = self.bytes(position, into.len());
        // SAFETY: `bytes` checked the source; `into` is private and of the same length.
        unsafe { copy_out(from.as_ptr(), into.as_mut_ptr(), into.len()) };
    }

    /// Copies payload out to the end of `into`.
    #[inline]
    pub(crate) fn read_to_vec(&self, position: u64, len: usize, into: &mut Vec<u8>) {
        let from = self.bytes(position, len);
        into.reserve(len);
        let to = into.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: `bytes` checked the source; `reserve` made room for `len` private bytes.
        unsafe { copy_out(from.as_ptr(), to, len) };
        // SAFETY: the `len` bytes behind the old length have just been written.
        unsafe { into.set_len(into.len() + len) };
    }

    /// The payload in place.
    ///
    /// # Safety
    /// Nobody writes to it while the slice lives: the record has not been released, and the peer keeps to the protocol.
    pub(crate) unsafe fn slice(&self, position: u64, len: usize) -> &[u8] {
        let start = self.bytes(position, len);
        // SAFETY: `bytes` checked the bounds; the absence of writers is the caller's promise.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// The address of a payload, for whoever writes it in place.
    pub(crate) fn pointer(&self, position: u64, len: usize) -> NonNull<u8> {
        self.bytes(position, len)
    }

    #[inline]
    pub(crate) fn read_cursor(&self) -> &AtomicU64 {
        // The first word of the lines.
        const { assert!(offset_of!(DirectionLines, read_cursor) == 0) };
        // SAFETY: aligned, mapped as long as `self`, and only ever accessed atomically.
        unsafe { AtomicU64::from_ptr(self.lines.as_ptr().cast()) }
    }

    /// The doorbell of the consumer.
    #[inline]
    pub(crate) fn data(&self) -> &AtomicU32 {
        self.word(offset_of!(DirectionLines, data))
    }

    /// The doorbell of the producer.
    #[inline]
    pub(crate) fn space(&self) -> &AtomicU32 {
        self.word(offset_of!(DirectionLines, space))
    }

    /// On the line of `data`, which a producer looks at after every post anyway.
    #[inline]
    pub(crate) fn consumer_state(&self) -> &AtomicU32 {
        self.word(offset_of!(DirectionLines, consumer_state))
    }

    /// On the line of `space`, which a consumer looks at after every message anyway.
    #[inline]
    pub(crate) fn producer_state(&self) -> &AtomicU32 {
        self.word(offset_of!(DirectionLines, producer_state))
    }

    /// A word of the lines, by one of the offsets above.
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the offset of a field is inside the struct.
        let word = unsafe { self.lines.add(offset) };
        // SAFETY: aligned, mapped as long as `self`, and only ever accessed atomically.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// The address of `len` bytes at `position`, all inside the ring.
    #[inline]
    fn bytes(&self, position: u64, len: usize) -> NonNull<u8> {
        assert!(len as u64 <= self.until_end(position), "payload outside the ring");
        // SAFETY: masked, so inside the ring, with `len` bytes behind it.
        unsafe { self.ring.add((position & self.mask) as usize) }
    }
}
