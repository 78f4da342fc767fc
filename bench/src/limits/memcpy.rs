//! `memcpy`: the sender copies messages into slots of shared memory, the receiver reads them there. Each side has a
//! counter.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::shared::{SPACING, SharedMemory};
use crate::error::Result;
use crate::link::{Link, spin_until};
use crate::payload::Payload;
use crate::session::Session;

/// Offset of the sender's counter: the number of messages written.
const SENT: usize = 0;
/// Offset of the receiver's counter: the number of messages read.
const READ: usize = SPACING;
/// Offset of the first slot.
const SLOTS: usize = 4096;

pub(crate) struct Memcpy {
    shared: SharedMemory,
    slots: u64,
    /// The value of this side's counter.
    own: u64,
    payload: Payload,
}

impl Memcpy {
    /// Opens one side of a link whose slots hold about `capacity` bytes together, at least two messages.
    pub(crate) fn new(session: &Session, size: usize, capacity: usize) -> Result<Self> {
        let slots = (capacity / size).max(2);
        let shared = SharedMemory::new(session, SLOTS + slots * size)?;
        shared.touch();
        Ok(Self { shared, slots: slots as u64, own: 0, payload: Payload::new(size) })
    }

    fn slot_offset(&self) -> usize {
        SLOTS + (self.own % self.slots) as usize * self.payload.size()
    }
}

impl Link for Memcpy {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let (read, own, slots) = (self.shared.word(READ), self.own, self.slots);
        // Acquire: pairs with the release store in `receive`, so that the receiver has finished reading the slot.
        spin_until(|| Ok((own - read.load(Ordering::Acquire) < slots).then_some(())))?;
        // SAFETY: the receiver reads only slots below the sender's counter, which this slot is not yet.
        unsafe { self.shared.write(self.slot_offset(), self.payload.stamped(stamp)) };
        self.own += 1;
        // Release: pairs with the acquire load in `receive`, which then sees the contents of the slot.
        self.shared.word(SENT).store(self.own, Ordering::Release);
        Ok(())
    }

    fn receive(&mut self) -> Result<u64> {
        let (sent, own) = (self.shared.word(SENT), self.own);
        // Acquire: pairs with the release store in `send`, so that the contents of the slot are visible.
        spin_until(|| Ok((sent.load(Ordering::Acquire) != own).then_some(())))?;
        // SAFETY: the sender overwrites a slot only after it has loaded a receiver's counter beyond it.
        let stamp = self.payload.stamp_of(unsafe { self.shared.slice(self.slot_offset(), self.payload.size()) })?;
        self.own += 1;
        // Release: pairs with the acquire load in `send`, which may then overwrite the slot.
        self.shared.word(READ).store(self.own, Ordering::Release);
        Ok(stamp)
    }
}
