//! The layout of shared memory: segments, grown rings and buffers. It is a wire format between processes.
//!
//! ```text
//! segment
//! 0                 constants: copied once by the process that adopts the segment, never read again
//! 128               lines of direction 0, A to B
//! 640               lines of direction 1, B to A
//! 2048              words of cancelled calls
//! 4096              first ring of direction 0
//! 4096 + capacity   first ring of direction 1
//!
//! lines of a direction
//! 0                 read cursor
//! 128               data doorbell, consumer's state
//! 256               space doorbell, producer's state, the cursor that its sleeper waits for
//! 384               reserved
//!
//! grown ring, in a file of its own       buffer
//! 0      constants                       0      constants
//! 4096   ring                            4096   bytes
//! ```
//! Each of the lines of a direction has 128 bytes, the range that processors fetch together: two words on different
//! lines are written by different sides without slowing each other down.
#![forbid(unsafe_code)]

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::sys::PAGE;
use crate::sys::socket::MAX_DESCRIPTORS;

/// Magic word of a segment: `msgport` and a zero byte.
pub(crate) const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"msgport\0");
/// Magic word of a grown ring: `msgpring`.
pub(crate) const RING_MAGIC: u64 = u64::from_le_bytes(*b"msgpring");
/// Magic word of a transfer buffer: `msgpbuf` and a zero byte.
pub(crate) const BUFFER_MAGIC: u64 = u64::from_le_bytes(*b"msgpbuf\0");
/// Magic word of a frozen buffer: `msgpfrz` and a zero byte.
pub(crate) const FROZEN_MAGIC: u64 = u64::from_le_bytes(*b"msgpfrz\0");
/// Magic word of a shared buffer: `msgpshr` and a zero byte.
pub(crate) const SHARED_MAGIC: u64 = u64::from_le_bytes(*b"msgpshr\0");
/// Magic word of a shared buffer with a name: `msgpnam` and a zero byte.
pub(crate) const NAMED_MAGIC: u64 = u64::from_le_bytes(*b"msgpnam\0");
/// Version of all formats of this crate: segment, record, lane, capsule and greeting. Every change to one of them
/// raises it; two versions do not understand each other.
pub(crate) const VERSION: u32 = 1;

/// Bytes, 4096, before the first ring of a segment, the ring of a grown ring's file, and the bytes of a buffer.
pub(crate) const HEADER_LEN: usize = PAGE;
/// Bytes, 128, of a pair of cache lines, which processors fetch together; words that are written by different sides lie
/// this far apart.
pub(crate) const LINE_PAIR: usize = 128;

/// Offset, 2048, in the segment of the words of cancelled calls, of 4 bytes each.
pub(crate) const CANCELLATIONS: usize = 2048;
/// The first 512 entries of a client's table of calls have a word in the segment.
pub(crate) const CANCELLABLE_CALLS: usize = (HEADER_LEN - CANCELLATIONS) / 4;

/// Smallest capacity of a first ring: 4 KiB.
pub(crate) const MIN_CAPACITY: usize = 4096;
/// Default capacity of a first ring: 64 KiB.
pub(crate) const DEFAULT_CAPACITY: usize = 64 << 10;
/// Largest capacity of a first ring: 64 MiB. A segment with a larger one is not adopted, since the process that touches
/// a sparse segment pays for its memory.
pub(crate) const MAX_CAPACITY: usize = 64 << 20;
/// Default limit of the bytes that all rings of a direction have together: 64 MiB.
pub(crate) const DEFAULT_MAX_CAPACITY: usize = 64 << 20;
/// Largest limit of the bytes that all rings of a direction have together: 1 GiB.
pub(crate) const LARGEST_MAX_CAPACITY: usize = 1 << 30;

/// Default limit of the recycled buffers that a direction keeps: 8.
pub(crate) const DEFAULT_CACHED_BUFFERS: usize = 8;
/// Largest limit of the recycled buffers that a direction keeps: 64.
pub(crate) const MAX_CACHED_BUFFERS: usize = 64;
/// Default limit of the bytes in the recycled buffers of a direction: 256 MiB.
pub(crate) const DEFAULT_CACHED_BYTES: u64 = 256 << 20;
/// Largest limit of the bytes in the recycled buffers of a direction: 1 TiB.
pub(crate) const MAX_CACHED_BYTES: u64 = 1 << 40;
/// Default and largest limit of the bytes of data in a message: 1 GiB.
pub(crate) const MAX_MESSAGE_LEN: usize = 1 << 30;

/// A post that waits lets the queue grow into a ring of at most 1 MiB, which holds enough for the two sides to run in
/// turns and stays in a processor's cache.
pub(crate) const STREAM_CAPACITY: usize = 1 << 20;

/// The most bytes that the rings of a direction have together if the present one has `capacity` bytes and the first
/// one `first`: each ring has at least twice the bytes of the previous one.
pub(crate) const fn chain_len(capacity: usize, first: usize) -> usize {
    2 * capacity - first
}

/// The largest ring of a direction whose first ring has `first` bytes, so that all its rings together have at most
/// `max_capacity`; the first one if that allows no other.
pub(crate) const fn largest_capacity(first: usize, max_capacity: usize) -> usize {
    let half = (max_capacity + first) / 2;
    if half <= first { first } else { 1 << half.ilog2() }
}

/// The first 16 bytes of every segment, grown ring and buffer.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Preamble {
    /// The kind of memory: one of the magic words above.
    pub(crate) magic: u64,
    /// [`VERSION`] of the creator.
    pub(crate) version: u32,
    /// [`HEADER_LEN`] of the creator.
    pub(crate) header_len: u32,
}

/// Why a preamble is not the expected one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadPreamble {
    /// Another magic word.
    Magic,
    /// Another version of the format: that of the file.
    Version(u32),
    /// Another length of the header.
    HeaderLen,
}

impl Preamble {
    /// The preamble of new memory of this kind.
    pub(crate) fn new(magic: u64) -> Self {
        Self { magic, version: VERSION, header_len: HEADER_LEN as u32 }
    }

    /// Checks the preamble of received memory, of which `magic` is expected.
    pub(crate) fn check(&self, magic: u64) -> Result<(), BadPreamble> {
        if self.magic != magic {
            Err(BadPreamble::Magic)
        } else if self.version != VERSION {
            Err(BadPreamble::Version(self.version))
        } else if self.header_len != HEADER_LEN as u32 {
            Err(BadPreamble::HeaderLen)
        } else {
            Ok(())
        }
    }
}

/// Start of a segment, and of a greeting, which asks for a segment with these limits.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct SegmentConstants {
    pub(crate) preamble: Preamble,
    /// Bytes of each of the two first rings.
    pub(crate) capacity: u64,
    /// Most bytes of all rings of a direction together.
    pub(crate) max_capacity: u64,
    /// Most descriptors in one message.
    pub(crate) max_handles: u32,
    /// Most recycled buffers that a direction keeps.
    pub(crate) max_cached_buffers: u32,
    /// Most bytes in the recycled buffers of a direction.
    pub(crate) max_cached_bytes: u64,
    /// Most bytes of data in one message.
    pub(crate) max_message_len: u64,
    /// Zero; not read.
    pub(crate) reserved: [u64; 9],
}

impl SegmentConstants {
    /// The constants of memory or of a packet of this kind, for a channel with these limits.
    pub(crate) fn new(magic: u64, limits: &Limits) -> Self {
        Self {
            preamble: Preamble::new(magic),
            capacity: limits.capacity as u64,
            max_capacity: limits.max_capacity as u64,
            max_handles: limits.max_handles as u32,
            max_cached_buffers: limits.cached_buffers as u32,
            max_cached_bytes: limits.cached_bytes,
            max_message_len: limits.max_message_len as u64,
            reserved: [0; 9],
        }
    }

    /// The limits, not checked.
    pub(crate) fn limits(&self) -> Limits {
        let number = |found: u64| usize::try_from(found).unwrap_or(usize::MAX);
        Limits {
            capacity: number(self.capacity),
            max_capacity: number(self.max_capacity),
            max_handles: self.max_handles as usize,
            max_message_len: number(self.max_message_len),
            cached_buffers: self.max_cached_buffers as usize,
            cached_bytes: self.max_cached_bytes,
        }
    }
}

/// Start of a grown ring.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct RingConstants {
    pub(crate) preamble: Preamble,
    /// Bytes of the ring.
    pub(crate) capacity: u64,
    /// Zero; not read.
    pub(crate) reserved: [u64; 13],
}

/// Start of a buffer.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct BufferConstants {
    pub(crate) preamble: Preamble,
    /// Bytes of the buffer, behind the header.
    pub(crate) len: u64,
    /// The receiver's note to the owner of a recycled buffer: one of the values in [`crate::buffer::memory`].
    pub(crate) note: u32,
    /// Zero; not read.
    pub(crate) reserved: [u32; 25],
}

/// The lines of one direction. Only one side writes each word, except the doorbells.
#[repr(C)]
pub(crate) struct DirectionLines {
    /// Written by the consumer, which has freed all records before this position.
    pub(crate) read_cursor: u64,
    _read_line: [u8; LINE_PAIR - 8],
    /// The doorbell on which the consumer sleeps.
    pub(crate) data: u32,
    /// Written by the end of the consumer.
    pub(crate) consumer_state: u32,
    _data_line: [u8; LINE_PAIR - 8],
    /// The doorbell on which the producer sleeps.
    pub(crate) space: u32,
    /// Written by the end of the producer.
    pub(crate) producer_state: u32,
    /// Written by the producer before it sleeps: the read cursor at which it is to be woken.
    pub(crate) wanted: u64,
    _space_line: [u8; LINE_PAIR - 16],
    _reserved: [u8; LINE_PAIR],
}

// The wire format: a change that moves a field does not compile.
const _: () = {
    assert!(size_of::<Preamble>() == 16);
    assert!(offset_of!(Preamble, magic) == 0);
    assert!(offset_of!(Preamble, version) == 8);
    assert!(offset_of!(Preamble, header_len) == 12);

    assert!(size_of::<SegmentConstants>() == 128);
    assert!(offset_of!(SegmentConstants, preamble) == 0);
    assert!(offset_of!(SegmentConstants, capacity) == 16);
    assert!(offset_of!(SegmentConstants, max_capacity) == 24);
    assert!(offset_of!(SegmentConstants, max_handles) == 32);
    assert!(offset_of!(SegmentConstants, max_cached_buffers) == 36);
    assert!(offset_of!(SegmentConstants, max_cached_bytes) == 40);
    assert!(offset_of!(SegmentConstants, max_message_len) == 48);
    assert!(offset_of!(SegmentConstants, reserved) == 56);

    assert!(size_of::<RingConstants>() == 128);
    assert!(offset_of!(RingConstants, preamble) == 0);
    assert!(offset_of!(RingConstants, capacity) == 16);
    assert!(offset_of!(RingConstants, reserved) == 24);

    assert!(size_of::<BufferConstants>() == 128);
    assert!(offset_of!(BufferConstants, preamble) == 0);
    assert!(offset_of!(BufferConstants, len) == 16);
    assert!(offset_of!(BufferConstants, note) == 24);
    assert!(offset_of!(BufferConstants, reserved) == 28);

    assert!(size_of::<DirectionLines>() == 512);
    assert!(offset_of!(DirectionLines, read_cursor) == 0);
    assert!(offset_of!(DirectionLines, _read_line) == 8);
    assert!(offset_of!(DirectionLines, data) == 128);
    assert!(offset_of!(DirectionLines, consumer_state) == 132);
    assert!(offset_of!(DirectionLines, _data_line) == 136);
    assert!(offset_of!(DirectionLines, space) == 256);
    assert!(offset_of!(DirectionLines, producer_state) == 260);
    assert!(offset_of!(DirectionLines, wanted) == 264);
    assert!(offset_of!(DirectionLines, _space_line) == 272);
    assert!(offset_of!(DirectionLines, _reserved) == 384);

    assert!(HEADER_LEN == 4096);
    assert!(direction_lines(0) == 128 && direction_lines(1) == 640 && direction_lines(2) <= CANCELLATIONS);
    assert!(CANCELLATIONS.is_multiple_of(LINE_PAIR) && CANCELLABLE_CALLS == 512);
    assert!(ring(0, MIN_CAPACITY) == 4096 && ring(1, MIN_CAPACITY) == 8192);
    assert!(MIN_CAPACITY.is_power_of_two() && MAX_CAPACITY.is_power_of_two());
};

/// Offset in the segment of the lines of direction `index` (0 or 1).
pub(crate) const fn direction_lines(index: usize) -> usize {
    LINE_PAIR + index * size_of::<DirectionLines>()
}

/// Offset in the segment of the first ring of direction `index` (0 or 1).
pub(crate) const fn ring(index: usize, capacity: usize) -> usize {
    HEADER_LEN + index * capacity
}

/// Bytes of a segment whose first rings have `capacity` bytes.
pub(crate) const fn segment_len(capacity: usize) -> usize {
    ring(2, capacity)
}

/// The limits of a channel, which its creator sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of each of the two first rings, a power of two.
    pub(crate) capacity: usize,
    /// Most bytes of all rings of a direction together.
    pub(crate) max_capacity: usize,
    /// Most descriptors in a message.
    pub(crate) max_handles: usize,
    /// Most bytes of data in a message.
    pub(crate) max_message_len: usize,
    /// Most recycled buffers that a direction keeps.
    pub(crate) cached_buffers: usize,
    /// Most bytes in the recycled buffers of a direction.
    pub(crate) cached_bytes: u64,
}

/// The field of [`Limits`] that is out of range.
pub(crate) enum Excess {
    Capacity,
    MaxCapacity,
    Handles,
    MessageLen,
    CachedBuffers,
    CachedBytes,
}

impl Limits {
    /// The first field that is out of range, in the options of a new channel or the constants of a received segment.
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
