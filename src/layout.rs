//! What lies where in the shared memory of a channel and of a buffer: a wire format between processes.
//!
//! ```text
//! 0      constants: copied once by whoever adopts the segment, never read again
//! 128    direction 0, A to B: | read cursor | data doorbell | space doorbell | reserved |  a line each
//! 640    direction 1, B to A: | read cursor | data doorbell | space doorbell | reserved |
//! 4096   ring of direction 0
//! 4096 + capacity   ring of direction 1
//! ```
//! A queue that grows goes on in a ring in a file of its own, behind a page of constants.
//!
//! Lines are 128 bytes: the pair of cache lines that today's processors fetch together.

use crate::sys::socket::MAX_DESCRIPTORS;
use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

/// First word of every segment.
pub(crate) const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"msgport\0");
/// First word of every ring that a queue grew into.
pub(crate) const RING_MAGIC: u64 = u64::from_le_bytes(*b"msgpring");
/// First word of every buffer, by its kind: one that moves, one that is frozen, one that is shared, one that is
/// shared by name.
pub(crate) const BUFFER_MAGIC: u64 = u64::from_le_bytes(*b"msgpbuf\0");
pub(crate) const FROZEN_MAGIC: u64 = u64::from_le_bytes(*b"msgpfrz\0");
pub(crate) const SHARED_MAGIC: u64 = u64::from_le_bytes(*b"msgpshr\0");
pub(crate) const NAMED_MAGIC: u64 = u64::from_le_bytes(*b"msgpnam\0");
/// Version of all formats in this crate: segment, record, lane, capsule, greeting. Any change to one raises it.
pub(crate) const VERSION: u32 = 1;

/// Bytes before the first ring of a segment, and before the data of a buffer.
pub(crate) const HEADER_LEN: usize = 4096;
/// Bytes per line.
pub(crate) const LINE: usize = 128;

/// Smallest, default and largest capacity of a direction's first ring, in bytes; a power of two.
pub(crate) const MIN_CAPACITY: usize = 4096;
pub(crate) const DEFAULT_CAPACITY: usize = 64 << 10;
/// Also the most that an adopter accepts: whoever touches a sparse segment pays for it.
pub(crate) const MAX_CAPACITY: usize = 64 << 20;
/// What a direction's rings hold together, by default and at most.
pub(crate) const DEFAULT_MAX_CAPACITY: usize = 64 << 20;
pub(crate) const LARGEST_MAX_CAPACITY: usize = 1 << 30;

/// Recycled buffers of a direction, by default and at most, and their bytes by default.
pub(crate) const DEFAULT_CACHED_BUFFERS: usize = 8;
pub(crate) const MAX_CACHED_BUFFERS: usize = 64;
pub(crate) const DEFAULT_CACHED_BYTES: u64 = 256 << 20;
pub(crate) const MAX_CACHED_BYTES: u64 = 1 << 40;
/// Data of one message, by default and at most.
pub(crate) const MAX_MESSAGE_LEN: usize = 1 << 30;

/// The capacity of the ring that follows one of `capacity`, if a direction whose first ring has `first` may hold it:
/// each ring is twice the one before, so together they are twice the last one, less the first.
pub(crate) const fn next_capacity(capacity: usize, first: usize, max_capacity: usize) -> Option<usize> {
    let next = 2 * capacity;
    if 2 * next - first <= max_capacity { Some(next) } else { None }
}

/// Start of a segment.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct SegmentConstants {
    pub(crate) magic: u64,
    pub(crate) version: u32,
    pub(crate) header_len: u32,
    /// Bytes of each of the two rings.
    pub(crate) capacity: u64,
    /// Bytes that the rings of a direction may have together.
    pub(crate) max_capacity: u64,
    /// Most descriptors in one message.
    pub(crate) max_handles: u32,
    /// Recycled buffers that each direction may keep, and their bytes.
    pub(crate) max_cached_buffers: u32,
    pub(crate) max_cached_bytes: u64,
    /// Most bytes of data in one message.
    pub(crate) max_message_len: u64,
    pub(crate) reserved: [u64; 9],
}

/// Start of a ring that a queue grew into.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct RingConstants {
    pub(crate) magic: u64,
    pub(crate) version: u32,
    pub(crate) header_len: u32,
    /// Bytes of the ring.
    pub(crate) capacity: u64,
    pub(crate) reserved: [u64; 13],
}

/// The lines of one direction. Each word is written by one side only, except the doorbells.
#[repr(C)]
pub(crate) struct DirectionLines {
    /// Written by the consumer: it has freed everything before this position.
    pub(crate) read_cursor: u64,
    _read_line: [u8; LINE - 8],
    /// Doorbell of the sleeping consumer.
    pub(crate) data: u32,
    /// Written by the consumer's side.
    pub(crate) consumer_state: u32,
    _data_line: [u8; LINE - 8],
    /// Doorbell of the sleeping producer.
    pub(crate) space: u32,
    /// Written by the producer's side.
    pub(crate) producer_state: u32,
    _space_line: [u8; LINE - 8],
    _reserved: [u8; LINE],
}

/// Start of a buffer.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct BufferConstants {
    pub(crate) magic: u64,
    pub(crate) version: u32,
    pub(crate) header_len: u32,
    /// Bytes of data behind the header.
    pub(crate) len: u64,
    /// The note of a receiver to the owner; see `buffer`.
    pub(crate) note: u32,
    pub(crate) reserved: [u32; 25],
}

const _: () = {
    assert!(size_of::<SegmentConstants>() == LINE);
    assert!(size_of::<BufferConstants>() == LINE);
    assert!(size_of::<RingConstants>() == LINE);
    assert!(size_of::<DirectionLines>() == 4 * LINE);
    assert!(offset_of!(DirectionLines, data) == LINE);
    assert!(offset_of!(DirectionLines, space) == 2 * LINE);
    assert!(direction_lines(2) <= HEADER_LEN);
    assert!(MIN_CAPACITY.is_power_of_two() && MAX_CAPACITY.is_power_of_two());
};

/// Where the lines of direction `index` (0 or 1) start.
pub(crate) const fn direction_lines(index: usize) -> usize {
    LINE + index * size_of::<DirectionLines>()
}

/// Where the ring of direction `index` (0 or 1) starts.
pub(crate) const fn ring(index: usize, capacity: usize) -> usize {
    HEADER_LEN + index * capacity
}

/// Bytes of a segment with rings of `capacity`.
pub(crate) const fn segment_len(capacity: usize) -> usize {
    ring(2, capacity)
}

/// What a channel's maker decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of each of the first rings.
    pub(crate) capacity: usize,
    /// Bytes that the rings of a direction may have together.
    pub(crate) max_capacity: usize,
    /// Most descriptors in a message.
    pub(crate) max_handles: usize,
    /// Most bytes of data in a message.
    pub(crate) max_message_len: usize,
    /// Recycled buffers that each direction may keep, and their bytes.
    pub(crate) cached_buffers: usize,
    pub(crate) cached_bytes: u64,
}

/// A limit that no channel has.
pub(crate) enum Excess {
    Capacity,
    MaxCapacity,
    Handles,
    MessageLen,
    CachedBuffers,
    CachedBytes,
}

impl Limits {
    /// The first that is out of range: for whoever makes a channel, and for whoever adopts one.
    pub(crate) fn check(&self) -> Option<Excess> {
        if !self.capacity.is_power_of_two() || !(MIN_CAPACITY..=MAX_CAPACITY).contains(&self.capacity) {
            Some(Excess::Capacity)
        } else if !(self.capacity..=LARGEST_MAX_CAPACITY).contains(&self.max_capacity) {
            Some(Excess::MaxCapacity)
        } else if self.max_handles > MAX_DESCRIPTORS {
            Some(Excess::Handles)
        } else if self.max_message_len > MAX_MESSAGE_LEN {
            Some(Excess::MessageLen)
        } else if self.cached_buffers > MAX_CACHED_BUFFERS {
            Some(Excess::CachedBuffers)
        } else if self.cached_bytes > MAX_CACHED_BYTES {
            Some(Excess::CachedBytes)
        } else {
            None
        }
    }
}
