//! A buffer of any kind while it travels.
#![forbid(unsafe_code)]

use std::mem::offset_of;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::buffer::TransferBuffer;
use crate::buffer::memory::{Hold, Memory, Role};
use crate::end::End;
use crate::error::BadTransfer;

/// A buffer in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct BufferCapsule {
    pub(super) len: u64,
    /// Bytes of the buffer's memory; 0 for `Way::Copied`.
    pub(super) capacity: u64,
    /// The slot of `Way::First`, `Way::Again` and `Way::Back`, else 0.
    slot: u32,
    /// `ONCE`, `FIRST`, `AGAIN`, `BACK` or `COPIED`.
    way: u32,
}

/// A frozen or a shared buffer in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct MemoryCapsule {
    pub(super) len: u64,
}

const _: () = {
    assert!(size_of::<BufferCapsule>() == 24);
    assert!(offset_of!(BufferCapsule, len) == 0 && offset_of!(BufferCapsule, capacity) == 8);
    assert!(offset_of!(BufferCapsule, slot) == 16 && offset_of!(BufferCapsule, way) == 20);
    assert!(size_of::<MemoryCapsule>() == 8);
};

/// How a buffer travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// By its descriptor; the receiver does not keep it.
    Once,
    /// By its descriptor; from now on both sides keep it in this slot.
    First(usize),
    /// By its slot, from the owner to a peer that keeps it.
    Again(usize),
    /// By its slot, back to the owner.
    Back(usize),
    /// By its bytes, which are in the record.
    Copied,
}

/// `BufferCapsule::way` of [`Way::Once`].
const ONCE: u32 = 0;
/// `BufferCapsule::way` of [`Way::First`].
const FIRST: u32 = 1;
/// `BufferCapsule::way` of [`Way::Again`].
const AGAIN: u32 = 2;
/// `BufferCapsule::way` of [`Way::Back`].
const BACK: u32 = 3;
/// `BufferCapsule::way` of [`Way::Copied`].
const COPIED: u32 = 4;

impl Way {
    /// True if the descriptor comes along.
    pub(crate) fn has_handle(self) -> bool {
        matches!(self, Self::Once | Self::First(_))
    }
}

impl BufferCapsule {
    /// True if a descriptor comes along, also for a capsule that is invalid otherwise.
    pub(super) fn has_handle(&self) -> bool {
        self.way().is_none_or(Way::has_handle)
    }

    /// Bytes of a buffer that is copied, as the peer claims.
    pub(super) fn copied_len(&self) -> Option<u64> {
        (self.way() == Some(Way::Copied)).then_some(self.len)
    }

    fn way(&self) -> Option<Way> {
        let slot = self.slot as usize;
        match self.way {
            ONCE if slot == 0 => Some(Way::Once),
            FIRST => Some(Way::First(slot)),
            AGAIN => Some(Way::Again(slot)),
            BACK => Some(Way::Back(slot)),
            COPIED if (slot, self.capacity) == (0, 0) => Some(Way::Copied),
            _ => None,
        }
    }
}

/// The last word of the payload of a `RecordKind::Buffer` record, behind the data, which is padded to 8 bytes.
///
/// ```text
/// bits 0..48   bytes of the buffer
/// bits 48..56  its slot
/// bits 56..60  how it travels: `AGAIN` or `BACK`
/// bits 60..64  bytes of padding
/// ```
/// A carrier's table takes 48 bytes for such a buffer; with this word a message of little data stays on one cache line.
pub(crate) struct LoneCapsule;

/// A [`LoneCapsule`] that has been received and checked.
pub(crate) struct LoneArrival {
    pub(crate) data_len: usize,
    /// Bytes of the buffer, as the peer claims.
    len: u64,
    way: Way,
}

impl LoneCapsule {
    /// The capsule has 8 bytes.
    pub(crate) const LEN: usize = 8;

    /// Bytes of the record's payload.
    #[inline]
    pub(crate) fn payload_len(data_len: usize) -> usize {
        data_len.next_multiple_of(8) + Self::LEN
    }

    /// Encodes a buffer of `len` bytes. `None` if it does not travel by its slot.
    #[inline]
    pub(crate) fn encode(len: usize, way: Way, data_len: usize) -> Option<[u8; Self::LEN]> {
        let (way, slot) = match way {
            Way::Again(slot) => (AGAIN, slot),
            Way::Back(slot) => (BACK, slot),
            Way::Once | Way::First(_) | Way::Copied => return None,
        };
        let padding = data_len.next_multiple_of(8) - data_len;
        // No file is longer than 2^48 bytes, and a slot is below 2^8.
        let word = len as u64 | (slot as u64) << 48 | u64::from(way) << 56 | (padding as u64) << 60;
        Some(word.to_ne_bytes())
    }

    /// Decodes and checks the `last` bytes of a payload of `payload_len`.
    #[inline]
    pub(crate) fn decode(last: [u8; Self::LEN], payload_len: usize) -> Option<LoneArrival> {
        let word = u64::from_ne_bytes(last);
        let (len, slot, padding) = (word & ((1 << 48) - 1), (word >> 48) as usize & 0xff, (word >> 60) as usize);
        let data_len = payload_len.checked_sub(Self::LEN + padding)?;
        let way = match (word >> 56) as u32 & 0xf {
            AGAIN => Way::Again(slot),
            BACK => Way::Back(slot),
            _ => return None,
        };
        (Self::payload_len(data_len) == payload_len).then_some(LoneArrival { data_len, len, way })
    }
}

impl LoneArrival {
    /// The buffer. `None` if the slot is empty, or the buffer is not with the peer.
    #[inline]
    pub(crate) fn take(&self, end: &End) -> Option<TransferBuffer> {
        kept_buffer(self.way, self.len, end).map(TransferBuffer::from_hold)
    }
}

/// Encodes a buffer: hands its capsule to `put`.
pub(crate) fn write_buffer(put: &mut impl FnMut(&[u8]), memory: &Memory, len: usize, way: Way) {
    let capacity = memory.capacity as u64;
    let (way, slot, capacity) = match way {
        Way::Once => (ONCE, 0, capacity),
        Way::First(slot) => (FIRST, slot, capacity),
        Way::Again(slot) => (AGAIN, slot, capacity),
        Way::Back(slot) => (BACK, slot, capacity),
        Way::Copied => (COPIED, 0, 0),
    };
    let capsule = BufferCapsule { len: len as u64, capacity, slot: slot as u32, way };
    put(bytemuck::bytes_of(&capsule));
}

/// Encodes a frozen or shared buffer of `len` bytes: hands its capsule to `put`.
pub(crate) fn write_memory(put: &mut impl FnMut(&[u8]), len: usize) {
    put(bytemuck::bytes_of(&MemoryCapsule { len: len as u64 }));
}

/// Decodes a buffer for a receiver at `end`. `memory` is that of the descriptor or the copy, if one came along.
pub(super) fn adopt_buffer(
    capsule: &BufferCapsule,
    memory: Option<Memory>,
    end: Option<&End>,
) -> Result<Hold, BadTransfer> {
    let way = capsule.way().ok_or(BadTransfer::Capsule)?;
    let none = BadTransfer::NoSuchBuffer;
    let (memory, role) = match (way, memory, end) {
        (Way::Once, Some(memory), _) => (Arc::new(memory), Role::Traveller),
        (Way::Copied, Some(memory), _) => (Arc::new(memory), Role::New),
        (Way::First(slot), Some(memory), Some(end)) => {
            let memory = Arc::new(memory);
            if !end.buffers().cache().insert(slot, Arc::clone(&memory)) {
                return Err(none);
            }
            (memory, Role::Guest)
        }
        (way, _, Some(end)) => return kept_buffer(way, capsule.len, end).ok_or(none),
        _ => return Err(none),
    };
    let len = usize::try_from(capsule.len).ok().filter(|len| *len <= memory.capacity).ok_or(none)?;
    Ok(Hold::new(memory, len, role))
}

/// Decodes a buffer that travelled by its slot.
#[inline(always)] // so that the hold is built in place
pub(super) fn kept_buffer(way: Way, len: u64, end: &End) -> Option<Hold> {
    let (memory, role) = match way {
        Way::Again(slot) => (end.buffers().cache().take(slot, len)?, Role::Guest),
        Way::Back(slot) => (end.buffers().pool().returned(slot, len)?, Role::Owner),
        Way::Once | Way::First(_) | Way::Copied => return None,
    };
    // Cache and pool have checked the length against the capacity.
    Some(Hold::new(memory, len as usize, role))
}
