//! One direction of a channel: its words and bytes by position, without addresses.
//!
//! A position counts bytes since the channel was created. Masking gives its offset in the ring, so no position, not
//! even one from a hostile peer, leads outside. The bounds of the ring are checked once, when the direction is created,
//! and the bounds of a payload at each access.
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use super::record::max_payload;
use super::sync::{AtomicU32, AtomicU64, Ordering};
use crate::layout::{self, DirectionLines};
use crate::sys::mapping::{Mapping, copy_in, copy_out, copy_to_vec};

/// The shared memory of one direction: its lines and one of its rings. Clones share the memory.
#[derive(Clone)]
pub(crate) struct Direction {
    /// The start of the [`DirectionLines`], a multiple of 128 bytes from the start of a page.
    lines: NonNull<u8>,
    /// The start of the ring, `mask + 1` bytes at the start of a page.
    ring: NonNull<u8>,
    /// The capacity, a power of two, less 1.
    mask: u64,
    /// Capacity of the first ring.
    first_capacity: usize,
    /// Most bytes of data in one message.
    max_message_len: usize,
    /// Most bytes of data in one record of this ring.
    max_data_len: usize,
    /// Keeps the lines and the first ring mapped.
    mapping_of_lines: Arc<Mapping>,
    /// Keeps the ring mapped if it is not the first one.
    grown: Option<Arc<GrownRing>>,
}

/// A larger ring, in a memory file of its own behind a header of one page.
pub(crate) struct GrownRing {
    pub(crate) file: OwnedFd,
    pub(crate) mapping: Mapping,
    /// Bytes of the ring, a power of two.
    pub(crate) capacity: usize,
}

// SAFETY: the pointers lead into memory that belongs to the process and not to a thread, and that `mapping_of_lines`
// and `grown` keep mapped.
unsafe impl Send for Direction {}
// SAFETY: every access to the memory through `&self` is atomic or a copy of bytes that the ring's protocol gives to one
// side at a time.
unsafe impl Sync for Direction {}

impl Direction {
    /// Direction `index` (0 or 1) of a mapped segment whose first rings have `capacity` bytes.
    pub(crate) fn new(mapping: Arc<Mapping>, index: usize, capacity: usize, max_message_len: usize) -> Self {
        assert!(capacity.is_power_of_two() && capacity >= layout::MIN_CAPACITY);
        Self {
            lines: mapping.at(layout::direction_lines(index), size_of::<DirectionLines>()),
            ring: mapping.at(layout::ring(index, capacity), capacity),
            mask: capacity as u64 - 1,
            first_capacity: capacity,
            max_message_len,
            max_data_len: max_message_len.min(max_payload(capacity)),
            mapping_of_lines: mapping,
            grown: None,
        }
    }

    /// This direction with `grown` as its ring.
    pub(crate) fn in_ring(&self, grown: GrownRing) -> Self {
        assert!(grown.capacity.is_power_of_two() && grown.capacity >= layout::MIN_CAPACITY);
        Self {
            lines: self.lines,
            ring: grown.mapping.at(layout::HEADER_LEN, grown.capacity),
            mask: grown.capacity as u64 - 1,
            first_capacity: self.first_capacity,
            max_message_len: self.max_message_len,
            max_data_len: self.max_message_len.min(max_payload(grown.capacity)),
            mapping_of_lines: Arc::clone(&self.mapping_of_lines),
            grown: Some(Arc::new(grown)),
        }
    }

    /// The ring, if it is not the first one.
    #[inline]
    pub(crate) fn grown(&self) -> Option<&GrownRing> {
        self.grown.as_deref()
    }

    /// Bytes of the ring.
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

    /// Most bytes of data in one record: the smaller of the ring's limit and the channel's.
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
        // SAFETY: the mask leaves a multiple of 8 below the capacity, so a whole word of the ring begins there.
        let word = unsafe { self.ring.add(offset as usize) };
        // SAFETY: the word is aligned, since the ring starts at a page, and mapped as long as `self`; both sides access
        // headers atomically, and payload by copies.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    /// Writes eight bytes of payload at `position`, a multiple of 8.
    #[inline]
    pub(crate) fn write_word(&self, position: u64, word: u64) {
        // Relaxed: pairs with the load in `read_word`; the release store of the record's header publishes it.
        self.header(position).store(word, Ordering::Relaxed);
    }

    /// Reads eight bytes of payload at `position`, a multiple of 8.
    #[inline]
    pub(crate) fn read_word(&self, position: u64) -> u64 {
        // Relaxed: pairs with the store in `write_word`; the acquire load of the record's header comes before it.
        self.header(position).load(Ordering::Relaxed)
    }

    /// Copies payload into the ring. A payload never wraps.
    #[inline(always)]
    pub(crate) fn write(&self, position: u64, from: &[u8]) {
        let to = self.bytes(position, from.len());
        // SAFETY: `bytes` checked that the destination is inside the ring; `from` is private and of the same length.
        unsafe { copy_in(from.as_ptr(), to.as_ptr(), from.len()) };
    }

    /// Copies payload out of the ring.
    #[inline]
    pub(crate) fn read(&self, position: u64, into: &mut [u8]) {
        let from = self.bytes(position, into.len());
        // SAFETY: `bytes` checked that the source is inside the ring; `into` is private and of the same length.
        unsafe { copy_out(from.as_ptr(), into.as_mut_ptr(), into.len()) };
    }

    /// Copies payload out of the ring, to the end of `into`.
    #[inline]
    pub(crate) fn read_to_vec(&self, position: u64, len: usize, into: &mut Vec<u8>) {
        let from = self.bytes(position, len);
        // SAFETY: `bytes` checked that the source is inside the ring.
        unsafe { copy_to_vec(from.as_ptr(), len, into) };
    }

    /// The payload in place.
    ///
    /// # Safety
    /// Nothing writes to it while the slice lives: the consumer has not released the record, and the peer adheres to
    /// the protocol.
    pub(crate) unsafe fn slice(&self, position: u64, len: usize) -> &[u8] {
        let start = self.bytes(position, len);
        // SAFETY: `bytes` checked that the payload is inside the ring, which is mapped as long as `self`; the caller
        // promises that nothing writes to it.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// The address of a payload, for callers that write it in place.
    pub(crate) fn pointer(&self, position: u64, len: usize) -> NonNull<u8> {
        self.bytes(position, len)
    }

    /// The read cursor that the consumer has published.
    #[inline]
    pub(crate) fn read_cursor(&self) -> &AtomicU64 {
        const { assert!(offset_of!(DirectionLines, read_cursor) == 0) };
        // SAFETY: the first word of the lines is aligned, and mapped as long as `self`; both sides access it atomically
        // only.
        unsafe { AtomicU64::from_ptr(self.lines.as_ptr().cast()) }
    }

    /// The doorbell on which the consumer sleeps.
    #[inline]
    pub(crate) fn data_doorbell(&self) -> &AtomicU32 {
        self.word(offset_of!(DirectionLines, data))
    }

    /// The doorbell on which the producer sleeps.
    #[inline]
    pub(crate) fn space_doorbell(&self) -> &AtomicU32 {
        self.word(offset_of!(DirectionLines, space))
    }

    /// The read cursor at which a sleeping producer is to be woken. It lies on the line of `space`.
    #[inline]
    pub(crate) fn wanted(&self) -> &AtomicU64 {
        const { assert!(offset_of!(DirectionLines, wanted).is_multiple_of(8)) };
        // SAFETY: the offset of a field is inside the struct.
        let word = unsafe { self.lines.add(offset_of!(DirectionLines, wanted)) };
        // SAFETY: the field is aligned, since the struct is, and mapped as long as `self`; both sides access it
        // atomically only.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    /// The state of the consumer's end. It lies on the line of `data`, which a producer loads after every post.
    #[inline]
    pub(crate) fn consumer_state(&self) -> &AtomicU32 {
        self.word(offset_of!(DirectionLines, consumer_state))
    }

    /// The state of the producer's end. It lies on the line of `space`, which a consumer loads after every message.
    #[inline]
    pub(crate) fn producer_state(&self) -> &AtomicU32 {
        self.word(offset_of!(DirectionLines, producer_state))
    }

    /// A word of the lines. `offset` is that of a `u32` field of [`DirectionLines`].
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the callers above pass the offset of a field, which is inside the struct.
        let word = unsafe { self.lines.add(offset) };
        // SAFETY: the field is aligned, since the struct is, and mapped as long as `self`; both sides access it
        // atomically only.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// The address of `len` bytes at `position`, all inside the ring.
    #[inline]
    fn bytes(&self, position: u64, len: usize) -> NonNull<u8> {
        assert!(len as u64 <= self.until_end(position), "payload outside the ring");
        // SAFETY: the mask leaves an offset inside the ring, and the assertion `len` bytes from there to its end.
        unsafe { self.ring.add((position & self.mask) as usize) }
    }
}
