//! The header of a record: one word that commits it, and the checks a consumer makes on what it finds there.
#![forbid(unsafe_code)]

use crate::violation::Violation;

/// A header has 8 bytes.
pub(crate) const RECORD_HEADER_LEN: usize = 8;

/// The kind of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// Fills the end of the ring; the next record starts at its beginning.
    Pad = 1,
    /// A message of plain data.
    Data = 2,
    /// A message with a transfer list: data, then capsules.
    Carrier = 3,
    /// A link: the queue goes on in a larger ring, whose descriptor waits on the lane. The last record in its ring.
    Next = 4,
    /// A link: the queue goes on in the first ring. The last record in its ring.
    Back = 5,
    /// The owner of a recycled buffer no longer keeps it; the payload is its slot.
    Forget = 6,
    /// A message with one buffer, which the receiver keeps already: data, then a word that names the buffer.
    Buffer = 7,
}

/// A decoded header. Encoded it is never zero: zero means that nothing has been committed here yet.
///
/// ```text
/// bits 0..32   bytes of payload
/// bits 32..40  kind
/// bits 40..48  descriptors that wait on the lane for this record
/// bits 48..64  low bits of the sequence number
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    pub(crate) len: u32,
    pub(crate) handles: u8,
    pub(crate) sequence: u16,
}

impl RecordHeader {
    #[inline]
    pub(crate) fn encode(self) -> u64 {
        u64::from(self.len)
            | u64::from(self.kind as u8) << 32
            | u64::from(self.handles) << 40
            | u64::from(self.sequence) << 48
    }

    /// The length of the payload, if `word` is the header of a record of this kind and number, without descriptors.
    #[inline]
    pub(crate) fn len_of(kind: RecordKind, word: u64, sequence: u16) -> Option<usize> {
        // Every other field must match, so only the length is left.
        let len = word ^ Self { kind, len: 0, handles: 0, sequence }.encode();
        (len >> 32 == 0).then_some(len as usize)
    }

    #[inline]
    pub(crate) fn decode(word: u64) -> Result<Self, Violation> {
        let kind = match (word >> 32) as u8 {
            1 => RecordKind::Pad,
            2 => RecordKind::Data,
            3 => RecordKind::Carrier,
            4 => RecordKind::Next,
            5 => RecordKind::Back,
            6 => RecordKind::Forget,
            7 => RecordKind::Buffer,
            _ => return Err(Violation::UnknownKind),
        };
        Ok(Self { kind, len: word as u32, handles: (word >> 40) as u8, sequence: (word >> 48) as u16 })
    }
}

/// The payload of a `Forget` record, a slot, has 8 bytes.
pub(crate) const FORGET_LEN: usize = 8;

/// Bytes that a record with `len` bytes of payload takes in the ring.
#[inline]
pub(crate) const fn record_len(len: usize) -> u64 {
    ((len + RECORD_HEADER_LEN + 7) & !7) as u64
}

/// The longest payload in a ring of `capacity` bytes. A record takes at most 7/16 of the ring, so that an empty queue
/// has room for any message: pad (shorter than the record), record and the next header take less than 14/16, and the
/// consumer holds back less than 2/16 (see [`Consumer::release`](super::ring::Consumer::release)).
pub(crate) const fn max_payload(capacity: usize) -> usize {
    capacity / 16 * 7 - RECORD_HEADER_LEN
}

/// The capacity of the smallest ring, of 16 bytes or more, that can have a payload of `len` bytes.
pub(crate) const fn capacity_for(len: usize) -> usize {
    let capacity = ((len + RECORD_HEADER_LEN).div_ceil(7) * 16).next_power_of_two();
    debug_assert!(capacity < 16 || max_payload(capacity) >= len);
    capacity
}
