//! `limit`: one word that both sides spin on, with a pause instruction, and store to in turns.
//!
//! A message of 8 bytes is the word itself. A larger message is copied to the cache lines behind the word before the
//! store and out of them after the load, so that 64 bytes take two lines.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::shared::SharedMemory;
use crate::error::Result;
use crate::link::{Link, spin_until};
use crate::payload::{MIN_SIZE, Payload};
use crate::session::Session;

/// Offset of a message of more than 8 bytes.
const BODY: usize = 64;

/// One side of the link. `N` is the message size, or 0 for a size that is known only at run time.
pub(crate) struct SpinWord<const N: usize> {
    shared: SharedMemory,
    /// The word as this side last stored or loaded it. Every store changes its value.
    word: u64,
    payload: Payload,
    received: Vec<u8>,
}

impl<const N: usize> SpinWord<N> {
    pub(crate) fn new(session: &Session, size: usize) -> Result<Self> {
        let shared = SharedMemory::new(session, BODY + size)?;
        Ok(Self { shared, word: 0, payload: Payload::new(size), received: vec![0; size] })
    }

    fn size(&self) -> usize {
        if N == 0 { self.payload.size() } else { N }
    }
}

impl<const N: usize> Link for SpinWord<N> {
    #[inline]
    fn send(&mut self, stamp: u64) -> Result<()> {
        let size = self.size();
        self.word = if size == MIN_SIZE {
            // The answer has the same stamp as the message, so the lowest bit tells them apart.
            stamp << 1 | (!self.word & 1)
        } else {
            // SAFETY: the other side waits for the store below and does not access the message before.
            unsafe { self.shared.write(BODY, &self.payload.stamped(stamp)[..size]) };
            self.word + 1
        };
        // Release: pairs with the acquire load in `receive` of the other process, which then sees the message.
        self.shared.word(0).store(self.word, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        let (word, last) = (self.shared.word(0), self.word);
        self.word = spin_until(|| {
            // Acquire: pairs with the release store in `send` of the other process, so that the message is visible.
            let seen = word.load(Ordering::Acquire);
            Ok((seen != last).then_some(seen))
        })?;
        let size = self.size();
        if size == MIN_SIZE {
            return Ok(self.word >> 1);
        }
        // SAFETY: the other side wrote the message before the store that the loop saw, and waits for this side's store.
        unsafe { self.shared.read(BODY, &mut self.received[..size]) };
        self.payload.stamp_of(&self.received[..size])
    }
}
