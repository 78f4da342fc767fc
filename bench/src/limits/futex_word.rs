//! `futex`: one word per direction, a wake-up after every store, a sleep before every message.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;

use super::shared::{SPACING, SharedMemory};
use crate::error::Result;
use crate::link::{Link, PEER_TIMEOUT, Side, peer_silent};
use crate::payload::Payload;
use crate::session::Session;

pub(crate) struct FutexWord {
    shared: SharedMemory,
    outgoing: usize,
    incoming: usize,
    payload: Payload,
    received: Vec<u8>,
}

impl FutexWord {
    pub(crate) fn new(session: &Session, size: usize) -> Result<Self> {
        let region = SPACING + size.next_multiple_of(SPACING);
        let shared = SharedMemory::new(session, 2 * region)?;
        let (outgoing, incoming) = if session.side() == Side::First { (0, region) } else { (region, 0) };
        Ok(Self { shared, outgoing, incoming, payload: Payload::new(size), received: vec![0; size] })
    }
}

impl Link for FutexWord {
    /// Sends a message. Each direction holds one, so this works only for round trips.
    fn send(&mut self, stamp: u64) -> Result<()> {
        // SAFETY: the other side has answered the previous message or not received any yet, so it does not read the
        // bytes before the store below.
        unsafe { self.shared.write(self.outgoing + SPACING, self.payload.stamped(stamp)) };
        let word = self.shared.word32(self.outgoing);
        // Release: pairs with the acquire load in `receive` of the other process, which then sees the message.
        word.store(1, Ordering::Release);
        wake(word);
        Ok(())
    }

    fn receive(&mut self) -> Result<u64> {
        let word = self.shared.word32(self.incoming);
        // Acquire: pairs with the release store in `send` of the other process, so that the message is visible.
        while word.load(Ordering::Acquire) == 0 {
            if !wait(word) {
                return Err(peer_silent());
            }
        }
        // SAFETY: the other side wrote the message before the store that the loop saw, and writes the next one only
        // after it has received this side's next message.
        unsafe { self.shared.read(self.incoming + SPACING, &mut self.received) };
        // Relaxed: the other side stores to the word again only after it has received this side's next message, whose
        // release store orders this one.
        word.store(0, Ordering::Relaxed);
        self.payload.stamp_of(&self.received)
    }
}

/// Sleeps while the word is zero. Returns false after [`PEER_TIMEOUT`], true otherwise and after spurious wake-ups.
fn wait(word: &AtomicU32) -> bool {
    let timeout = libc::timespec { tv_sec: PEER_TIMEOUT.as_secs() as _, tv_nsec: 0 };
    // SAFETY: the kernel only reads the word and the timeout, which outlive the call.
    let slept = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, &raw const timeout) };
    slept == 0 || Errno::last() != Errno::ETIMEDOUT
}

/// Wakes the process that sleeps on the word.
fn wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE uses only the address of the word, to find its sleepers.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
