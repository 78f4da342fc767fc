//! `memcpy`: messages are copied into slots of shared memory by one side and read there by the other; two counters.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::shared::{SPACING, SharedMemory};
use crate::error::Result;
use crate::link::{Link, spin_until};
use crate::payload::Payload;
use crate::session::Session;

const SENT: usize = 0;
const READ: usize = SPACING;
const SLOTS: usize = 4096;

pub(crate) struct Memcpy {
    shared: SharedMemory,
    slots: u64,
    /// Our own counter.
    own: u64,
    payload: Payload,
}

impl Memcpy {
    /// A flow through so many bytes of memory.
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
        // Acquire, with the release in `receive`: the slot has been read.
        spin_until(|| Ok((own - read.load(Ordering::Acquire) < slots).then_some(())))?;
        // SAFETY: the receiver reads no slot at or behind our counter.
        unsafe { self.shared.write(self.slot_offset(), self.payload.stamped(stamp)) };
        self.own += 1;
        // Release, with the acquire in `receive`: the slot is written.
        self.shared.word(SENT).store(self.own, Ordering::Release);
        Ok(())
    }

    fn receive(&mut self) -> Result<u64> {
        let (sent, own) = (self.shared.word(SENT), self.own);
        // Acquire, with the release in `send`: the slot is written.
        spin_until(|| Ok((sent.load(Ordering::Acquire) != own).then_some(())))?;
        // SAFETY: the sender writes no slot before it has seen our counter behind it.
        let stamp = self.payload.stamp_of(unsafe { self.shared.slice(self.slot_offset(), self.payload.size()) })?;
        self.own += 1;
        // Release, with the acquire in `send`: the slot has been read.
        self.shared.word(READ).store(self.own, Ordering::Release);
        Ok(stamp)
    }
}
