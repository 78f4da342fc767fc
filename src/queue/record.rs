//! The header of a record: one word that commits it, and the checks a consumer makes on what it finds there.
#![forbid(unsafe_code)]

use crate::violation::Violation;

/// Bytes of a header.
pub(crate) const HEADER: usize = 8;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Fills the end of the ring; the next record starts at its beginning.
    Pad = 1,
    /// A message of plain data.
    Data = 2,
    /// A message with a transfer list: data, then capsules.
    Carrier = 3,
    /// The queue goes on in a larger ring, whose descriptor waits on the lane. The last record in its ring.
    Next = 4,
    /// The queue goes on in the first ring. The last record in its ring.
    Back = 5,
    /// The owner of a recycled buffer does not keep it any more; the payload is its slot.
    Forget = 6,
    /// A message with one buffer, which the receiver has: data, then a word that says which.
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
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) len: u32,
    pub(crate) handles: u8,
    pub(crate) sequence: u16,
}

/// Bytes of the payload of a `Forget` record.
pub(crate) const FORGET_LEN: usize = 8;

impl Header {
    #[inline]
    pub(crate) fn encode(self) -> u64 {
        u64::from(self.len)
            | u64::from(self.kind as u8) << 32
            | u64::from(self.handles) << 40
            | u64::from(self.sequence) << 48
    }

    /// The payload's length, if this is the header of a record of this kind, without descriptors, with this number.
    #[inline]
    pub(crate) fn len_of(kind: Kind, word: u64, sequence: u16) -> Option<usize> {
        // What is left beside the length must be nothing.
        let len = word ^ Self { kind, len: 0, handles: 0, sequence }.encode();
        (len >> 32 == 0).then_some(len as usize)
    }

    #[inline]
    pub(crate) fn decode(word: u64) -> Result<Self, Violation> {
        let kind = match (word >> 32) as u8 {
            1 => Kind::Pad,
            2 => Kind::Data,
            3 => Kind::Carrier,
            4 => Kind::Next,
            5 => Kind::Back,
            6 => Kind::Forget,
            7 => Kind::Buffer,
            _ => return Err(Violation::UnknownKind),
        };
        Ok(Self { kind, len: word as u32, handles: (word >> 40) as u8, sequence: (word >> 48) as u16 })
    }
}

/// Bytes that a record with `len` bytes of payload takes in the ring.
#[inline]
pub(crate) const fn record_len(len: usize) -> u64 {
    ((len + HEADER + 7) & !7) as u64
}

/// The longest payload in a ring of `capacity`: a record is at most 7/16 of the ring, so that an empty queue takes
/// any message: pad (shorter than the record), record and the next header are less than 14/16, and the consumer
/// holds back less than 2/16 (see [`crate::ring`]).
pub(crate) const fn max_payload(capacity: usize) -> usize {
    capacity / 16 * 7 - HEADER
}
