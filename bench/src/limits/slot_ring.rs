//! `bare-ring`: a fixed number of fixed-size slots, two indices on lines of their own, each side with a copy of the
//! other's that it refreshes when it must. One direction, no wake-up, no checks.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::shared::{SPACING, SharedMemory};
use crate::error::Result;
use crate::link::{Link, spin_until};
use crate::payload::Payload;
use crate::session::Session;

const WRITE: usize = 0;
const READ: usize = SPACING;
const SLOTS: usize = 2 * SPACING;

/// `N` is the size, or 0 for a size that is not known to the compiler.
pub(crate) struct SlotRing<const N: usize> {
    shared: SharedMemory,
    /// A power of two.
    slots: u64,
    /// Our own index, and the other's as last seen.
    own: u64,
    other: u64,
    payload: Payload,
    received: Vec<u8>,
}

impl<const N: usize> SlotRing<N> {
    /// A ring whose slots take so many bytes together.
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
                // Acquire, with the release in `receive`: the slot has been read.
                let seen = read.load(Ordering::Acquire);
                Ok((own - seen < slots).then_some(seen))
            })?;
        }
        let (offset, size) = (self.slot_offset(self.own), self.size());
        // SAFETY: the receiver reads no slot at or behind our index.
        unsafe { self.shared.write(offset, &self.payload.stamped(stamp)[..size]) };
        self.own += 1;
        // Release, with the acquire in `receive`: the slot is written.
        self.shared.word(WRITE).store(self.own, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        if self.own == self.other {
            let (write, own) = (self.shared.word(WRITE), self.own);
            self.other = spin_until(|| {
                // Acquire, with the release in `send`: the slot is written.
                let seen = write.load(Ordering::Acquire);
                Ok((seen != own).then_some(seen))
            })?;
        }
        let (offset, size) = (self.slot_offset(self.own), self.size());
        // SAFETY: the sender writes no slot before it has seen our index behind it.
        unsafe { self.shared.read(offset, &mut self.received[..size]) };
        self.own += 1;
        // Release, with the acquire in `send`: the slot has been read.
        self.shared.word(READ).store(self.own, Ordering::Release);
        self.payload.stamp_of(&self.received[..size])
    }
}
