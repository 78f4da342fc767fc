//! The bare limits: an atomic word that both sides spin on, and a futex, in a mapping that the two
//! processes share. The only unsafe code of the tool.
#![allow(unsafe_code)]

use std::hint::spin_loop;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::failure::Failure;
use crate::links::Link;

/// The largest message.
pub(crate) const MAX_SIZE: usize = 64 << 10;

/// A side that waits longer than this is alone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A region has a control word, and behind it the rest of the message. So a message of up to 64 bytes is
/// in the one cache line that the word is in, and the limit is the tightest there is.
const REGION: usize = MAX_SIZE + 4096;
const REGIONS: usize = 3;
const BODY: usize = 8;

/// Memory shared by the two processes of the benchmark.
pub(crate) struct Shared(MmapRaw);

impl Shared {
    pub(crate) fn create() -> Result<(Self, OwnedFd), Failure> {
        let refuse = Failure::of("cannot make shared memory");
        let file = memfd_create(c"messageport-bench", MFdFlags::MFD_CLOEXEC).map_err(&refuse)?;
        nix::unistd::ftruncate(&file, (REGIONS * REGION) as i64).map_err(refuse)?;
        Ok((Self::map(&file)?, file))
    }

    pub(crate) fn map(file: &impl AsRawFd) -> Result<Self, Failure> {
        let map = MmapOptions::new().len(REGIONS * REGION).map_raw(file);
        map.map(Self).map_err(Failure::of("cannot map the shared memory"))
    }

    fn region(&self, index: usize) -> Region<'_> {
        assert!(index < REGIONS);
        Region { base: self.0.as_mut_ptr().wrapping_add(index * REGION), shared: PhantomData }
    }
}

#[derive(Clone, Copy)]
struct Region<'a> {
    base: *mut u8,
    shared: PhantomData<&'a Shared>,
}

impl<'a> Region<'a> {
    fn word64(self) -> &'a AtomicU64 {
        // SAFETY: `base` is page aligned and within a mapping that lives for 'a; both processes access
        // this word as an `AtomicU64` only.
        unsafe { AtomicU64::from_ptr(self.base.cast()) }
    }

    fn word32(self) -> &'a AtomicU32 {
        // SAFETY: as for `word64`; a region is used with words of one size only.
        unsafe { AtomicU32::from_ptr(self.base.cast()) }
    }

    /// Copies `body` in.
    ///
    /// # Safety
    /// No other process may access the body until the control word has handed it over.
    unsafe fn write(self, body: &[u8]) {
        assert!(body.len() <= REGION - BODY);
        let to = self.base.wrapping_add(BODY);
        // SAFETY: within the region by the assertion, and nobody else's by this function's contract.
        unsafe { to.copy_from_nonoverlapping(body.as_ptr(), body.len()) }
    }

    /// Copies the body out.
    ///
    /// # Safety
    /// No other process may write the body until the control word has handed it back.
    unsafe fn read(self, body: &mut [u8]) {
        assert!(body.len() <= REGION - BODY);
        let from = self.base.wrapping_add(BODY);
        // SAFETY: within the region by the assertion, and not written by this function's contract.
        unsafe { from.copy_to_nonoverlapping(body.as_mut_ptr(), body.len()) }
    }
}

/// `limit`: one word that both sides store to in turn. The word is the stamp; what the message has beyond
/// it is copied in before the store, and out after it is seen.
pub(crate) struct Line<'a> {
    region: Region<'a>,
    word: &'a AtomicU64,
    body: Vec<u8>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(shared: &'a Shared, size: usize) -> Self {
        let region = shared.region(0);
        Self { region, word: region.word64(), body: vec![0; size - BODY] }
    }
}

impl Link for Line<'_> {
    fn send(&mut self, stamp: u64) -> Result<(), Failure> {
        if !self.body.is_empty() {
            // SAFETY: the turn is ours since `receive` saw the word, until the store below.
            unsafe { self.region.write(&self.body) };
        }
        // Pairs with the load in `receive` of the other process: it sees the body.
        self.word.store(stamp, Ordering::Release);
        Ok(())
    }

    fn receive(&mut self, stamp: u64) -> Result<(), Failure> {
        spin_until(|| self.word.load(Ordering::Acquire) == stamp)?;
        if !self.body.is_empty() {
            // SAFETY: the other side wrote it before the store just seen, and waits for ours.
            unsafe { self.region.read(&mut self.body) };
        }
        Ok(())
    }
}

fn spin_until(seen: impl Fn() -> bool) -> Result<(), Failure> {
    const SPINS_BETWEEN_LOOKS: u32 = 1 << 16;
    let mut since = None;
    loop {
        for _ in 0..SPINS_BETWEEN_LOOKS {
            if seen() {
                return Ok(());
            }
            spin_loop();
        }
        if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return Err(alone());
        }
    }
}

/// `futex`: a word a direction, a wake-up after every store, a sleep before every message.
pub(crate) struct Futex<'a> {
    outgoing: Region<'a>,
    incoming: Region<'a>,
    body: Vec<u8>,
}

impl<'a> Futex<'a> {
    pub(crate) fn new(shared: &'a Shared, size: usize, first: bool) -> Self {
        let (outgoing, incoming) = if first { (1, 2) } else { (2, 1) };
        Self { outgoing: shared.region(outgoing), incoming: shared.region(incoming), body: vec![0; size - BODY] }
    }
}

impl Link for Futex<'_> {
    fn send(&mut self, stamp: u64) -> Result<(), Failure> {
        // SAFETY: the other side has answered our last message, or this is the first: it reads no more
        // until the store below.
        unsafe { self.outgoing.write(&self.body) };
        let word = self.outgoing.word32();
        // Pairs with the load in `receive` of the other process: it sees the body.
        word.store(stamp as u32, Ordering::Release);
        futex_wake(word);
        Ok(())
    }

    fn receive(&mut self, stamp: u64) -> Result<(), Failure> {
        let word = self.incoming.word32();
        loop {
            let seen = word.load(Ordering::Acquire);
            if seen == stamp as u32 {
                break;
            }
            if !futex_wait(word, seen) {
                return Err(alone());
            }
        }
        // SAFETY: the other side wrote it before the store just seen, and waits for our message.
        unsafe { self.incoming.read(&mut self.body) };
        Ok(())
    }
}

/// Sleeps while the word holds `seen`; false if nothing happened for too long.
fn futex_wait(word: &AtomicU32, seen: u32) -> bool {
    let patience = libc::timespec { tv_sec: PATIENCE.as_secs() as libc::time_t, tv_nsec: 0 };
    // SAFETY: the kernel only reads the word and the time, which both outlive the call.
    let slept = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, &raw const patience) };
    slept == 0 || nix::errno::Errno::last() != nix::errno::Errno::ETIMEDOUT
}

fn futex_wake(word: &AtomicU32) {
    // SAFETY: the kernel uses the word's address only, to find who waits there.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

fn alone() -> Failure {
    Failure::failed(format_args!("the other process did not answer for {PATIENCE:?}"))
}
