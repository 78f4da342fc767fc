//! `limit`: one word on a cache line that both sides spin on, with PAUSE, and store to in turn.
//!
//! A message of 8 bytes is the word. Of a larger one the whole is copied in behind the word before the store, and out
//! after it was seen: 64 bytes lie on two lines.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::shared::SharedMemory;
use crate::error::Result;
use crate::link::{Link, spin_until};
use crate::payload::{MIN_SIZE, Payload};
use crate::session::Session;

/// Where the message is.
const BODY: usize = 64;

/// `N` is the size, or 0 for a size that is not known to the compiler.
pub(crate) struct SpinWord<const N: usize> {
    shared: SharedMemory,
    /// As last stored or seen. A word never has the same value twice in a row.
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
            // A stamp goes there and back: one bit says which.
            stamp << 1 | (!self.word & 1)
        } else {
            // SAFETY: the turn is ours since `receive` saw the word, until the store below.
            unsafe { self.shared.write(BODY, &self.payload.stamped(stamp)[..size]) };
            self.word + 1
        };
        // Release, with the acquire in `receive` of the other process: it sees the body.
        self.shared.word(0).store(self.word, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        let (word, last) = (self.shared.word(0), self.word);
        self.word = spin_until(|| {
            let seen = word.load(Ordering::Acquire);
            Ok((seen != last).then_some(seen))
        })?;
        let size = self.size();
        if size == MIN_SIZE {
            return Ok(self.word >> 1);
        }
        // SAFETY: the other side wrote it before the store just seen, and waits for ours.
        unsafe { self.shared.read(BODY, &mut self.received[..size]) };
        self.payload.stamp_of(&self.received[..size])
    }
}
