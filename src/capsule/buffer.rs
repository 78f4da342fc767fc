//! A buffer of any kind while it travels.
#![forbid(unsafe_code)]

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
    /// Bytes of its memory.
    pub(super) capacity: u64,
    /// Its slot, if it has one.
    slot: u32,
    /// How it travels: `Way`.
    way: u32,
}

/// How a buffer travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// By its descriptor, and is not kept.
    Alone,
    /// By its descriptor, and is kept in a slot from now on.
    New(usize),
    /// From the owner to a peer that has it already.
    Known(usize),
    /// Back to its owner.
    Back(usize),
}

pub(super) const ALONE: u32 = 0;
pub(super) const NEW: u32 = 1;
pub(super) const KNOWN: u32 = 2;
pub(super) const BACK: u32 = 3;

impl Way {
    /// Whether the descriptor comes along.
    pub(crate) fn has_handle(self) -> bool {
        matches!(self, Self::Alone | Self::New(_))
    }
}

impl BufferCapsule {
    /// Whether a descriptor comes along; with a capsule that means nothing too.
    pub(super) fn has_handle(&self) -> bool {
        self.way().is_none_or(Way::has_handle)
    }

    fn way(&self) -> Option<Way> {
        let slot = self.slot as usize;
        match self.way {
            ALONE if slot == 0 => Some(Way::Alone),
            NEW => Some(Way::New(slot)),
            KNOWN => Some(Way::Known(slot)),
            BACK => Some(Way::Back(slot)),
            _ => None,
        }
    }
}

/// The last word of the payload of a `Kind::Buffer` record, behind the data, which is padded to 8 bytes.
///
/// ```text
/// bits 0..48   bytes of the buffer
/// bits 48..56  its slot
/// bits 56..60  how it travels: `KNOWN` or `BACK`
/// bits 60..64  bytes of padding
/// ```
/// What other lists take 48 bytes for: with little data the message stays on one cache line.
#[derive(Clone, Copy)]
pub(crate) struct KnownCapsule(u64);

impl KnownCapsule {
    /// Bytes of the payload.
    #[inline]
    pub(crate) fn payload_len(data_len: usize) -> usize {
        data_len.next_multiple_of(8) + size_of::<Self>()
    }

    /// `None` if the buffer does not travel by a number.
    #[inline]
    pub(crate) fn of(len: usize, way: Way, data_len: usize) -> Option<Self> {
        let (way, slot) = match way {
            Way::Known(slot) => (KNOWN, slot),
            Way::Back(slot) => (BACK, slot),
            Way::Alone | Way::New(_) => return None,
        };
        let padding = data_len.next_multiple_of(8) - data_len;
        // No file is as long as 48 bits can say.
        Some(Self(len as u64 | (slot as u64) << 48 | u64::from(way) << 56 | (padding as u64) << 60))
    }

    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        self.0.to_ne_bytes()
    }

    /// Checks what a peer has put into the `last` bytes of a payload of `payload_len`.
    #[inline]
    pub(crate) fn parse(last: [u8; 8], payload_len: usize) -> Option<Known> {
        let word = u64::from_ne_bytes(last);
        let (len, slot, padding) = (word & ((1 << 48) - 1), (word >> 48) as usize & 0xff, (word >> 60) as usize);
        let data_len = payload_len.checked_sub(size_of::<Self>() + padding)?;
        let way = match (word >> 56) as u32 & 0xf {
            KNOWN => Way::Known(slot),
            BACK => Way::Back(slot),
            _ => return None,
        };
        (Self::payload_len(data_len) == payload_len).then_some(Known { data_len, len, way })
    }
}

/// A [`KnownCapsule`] that has come.
pub(crate) struct Known {
    pub(crate) data_len: usize,
    /// Of the buffer, as the peer says.
    len: u64,
    way: Way,
}

impl Known {
    /// The buffer. `None` if there is no such.
    #[inline]
    pub(crate) fn take(&self, end: &End) -> Option<TransferBuffer> {
        known_buffer(self.way, self.len, end).map(TransferBuffer::from_hold)
    }
}

/// A frozen or a shared buffer in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct MemoryCapsule {
    pub(super) len: u64,
}

/// Hands a buffer's capsule to `put`.
pub(crate) fn write_buffer(put: &mut impl FnMut(&[u8]), memory: &Memory, len: usize, way: Way) {
    let (way, slot) = match way {
        Way::Alone => (ALONE, 0),
        Way::New(slot) => (NEW, slot),
        Way::Known(slot) => (KNOWN, slot),
        Way::Back(slot) => (BACK, slot),
    };
    let capsule = BufferCapsule { len: len as u64, capacity: memory.capacity as u64, slot: slot as u32, way };
    put(bytemuck::bytes_of(&capsule));
}

/// Hands the capsule of a frozen or shared buffer of `len` bytes to `put`.
pub(crate) fn write_memory(put: &mut impl FnMut(&[u8]), len: usize) {
    put(bytemuck::bytes_of(&MemoryCapsule { len: len as u64 }));
}

/// The hold of a receiver at `end` on a buffer, whose `memory` is that of the descriptor that came along.
pub(super) fn adopt_buffer(
    capsule: &BufferCapsule,
    memory: Option<Memory>,
    end: Option<&End>,
) -> Result<Hold, BadTransfer> {
    let way = capsule.way().ok_or(BadTransfer::Capsule)?;
    let none = BadTransfer::NoSuchBuffer;
    let (memory, role) = match (way, memory, end) {
        (Way::Alone, Some(memory), _) => (Arc::new(memory), Role::Traveller),
        (Way::New(slot), Some(memory), Some(end)) => {
            let memory = Arc::new(memory);
            if !end.buffers().cache().insert(slot, Arc::clone(&memory)) {
                return Err(none);
            }
            (memory, Role::Guest)
        }
        (way, _, Some(end)) => return known_buffer(way, capsule.len, end).ok_or(none),
        _ => return Err(none),
    };
    let len = usize::try_from(capsule.len).ok().filter(|len| *len <= memory.capacity).ok_or(none)?;
    Ok(Hold::new(memory, len, role))
}

/// The same for one that is here already.
#[inline(always)] // a hold is not moved about then
pub(super) fn known_buffer(way: Way, len: u64, end: &End) -> Option<Hold> {
    let (memory, role) = match way {
        Way::Known(slot) => (end.buffers().cache().take(slot, len)?, Role::Guest),
        Way::Back(slot) => (end.buffers().pool().returned(slot, len)?, Role::Owner),
        Way::Alone | Way::New(_) => return None,
    };
    // The length is below the capacity, says the slot.
    Some(Hold::new(memory, len as usize, role))
}
