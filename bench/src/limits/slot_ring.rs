//! `bare-ring`: a ring of fixed-size slots with two indices on separate cache lines. Each side caches the other's index
//! and reloads it only when the ring seems full or empty. One direction, no wake-ups, no checks.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::shared::{SPACING, SharedMemory};
use crate::error::Result;
use crate::link::{Link, spin_until};
use crate::payload::Payload;
use crate::session::Session;

/// Offset of the sender's index: the number of messages written.
const WRITE: usize = 0;
/// Offset of the receiver's index: the number of messages read.
const READ: usize = SPACING;
/// Offset of the first slot.
const SLOTS: usize = 2 * SPACING;

/// One side of the ring. `N` is the message size, or 0 for a size that is known only at run time.
pub(crate) struct SlotRing<const N: usize> {
    shared: SharedMemory,
    /// Number of slots, a power of two.
    slots: u64,
    /// The index of this side.
    own: u64,
    /// The index of the other side when it was last loaded.
    other: u64,
    payload: Payload,
    received: Vec<u8>,
}

impl<const N: usize> SlotRing<N> {
    /// Opens one side of a ring whose slots hold about `capacity` bytes together, at least two messages.
    pub(crate) fn new(session: &Session, size: usize, capacity: usize) -> Result<Self> {
        let slots = (capacity / size).max(2).next_power_of_two();
        let shared = SharedMemory::new(session, SLOTS + slots * size)?;
        shared.touch();
        let (payload, received) = (Payload::new(size), vec![0; size]);
        Ok(Self { shared, slots: slots as u64, own: 0, other: 0, payload, received })
    }

    fn size(&self) -> usize {
        if N == 0 { self.payload.size() } else { N }
    }

    fn slot_offset(&self, index: u64) -> usize {
        SLOTS + (index & (self.slots - 1)) as usize * self.size()
    }
}

impl<const N: usize> Link for SlotRing<N> {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        if self.own - self.other == self.slots {
            let (read, own, slots) = (self.shared.word(READ), self.own, self.slots);
            self.other = spin_until(|| {
                // Acquire: pairs with the release store in `receive`, so that the receiver has finished reading the
                // slot.
                let seen = read.load(Ordering::Acquire);
                Ok((own - seen < slots).then_some(seen))
            })?;
        }
        let (offset, size) = (self.slot_offset(self.own), self.size());
        // SAFETY: the receiver reads only slots below the sender's index, which this slot is not yet.
        unsafe { self.shared.write(offset, &self.payload.stamped(stamp)[..size]) };
        self.own += 1;
        // Release: pairs with the acquire load in `receive`, which then sees the contents of the slot.
        self.shared.word(WRITE).store(self.own, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        if self.own == self.other {
            let (write, own) = (self.shared.word(WRITE), self.own);
            self.other = spin_until(|| {
                // Acquire: pairs with the release store in `send`, so that the contents of the slots are visible.
                let seen = write.load(Ordering::Acquire);
                Ok((seen != own).then_some(seen))
            })?;
        }
        let (offset, size) = (self.slot_offset(self.own), self.size());
        // SAFETY: the sender overwrites a slot only after it has loaded a receiver's index beyond it.
        unsafe { self.shared.read(offset, &mut self.received[..size]) };
        self.own += 1;
        // Release: pairs with the acquire load in `send`, which may then overwrite the slot.
        self.shared.word(READ).store(self.own, Ordering::Release);
        self.payload.stamp_of(&self.received[..size])
    }
}
