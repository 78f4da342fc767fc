//! A shared mapping behind checked accessors, and the one way in which bytes are copied to and from it.
//!
//! Another process may write to these pages at any time. So there are no references to plain data here, only copies
//! (and atomics, in [`crate::direction`]); the two functions that do hand out slices are `unsafe`.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::Errno;
use super::fork::Home;

/// Up to this many bytes are copied word by word with atomic accesses; longer runs by `memcpy`.
const WORDWISE: usize = 128;

pub(crate) struct Mapping {
    map: ManuallyDrop<MmapRaw>,
    home: Home,
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, readable and writable, not inherited by forked children.
    pub(crate) fn new(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        let home = Home::here()?;
        let failed = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EINVAL as i32));
        let map = MmapOptions::new().len(len).map_raw(file.as_raw_fd()).map_err(failed)?;
        map.advise(Advice::DontFork).map_err(failed)?;
        Ok(Self { map: ManuallyDrop::new(map), home })
    }

    /// The process that mapped it. Elsewhere (in a forked child) nothing but dropping is allowed.
    #[inline]
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Asks for huge pages; where the system has none for shared memory this does nothing.
    pub(crate) fn advise_huge(&self) {
        let _ = self.map.advise(Advice::HugePage);
    }

    /// Copies out of shared memory.
    #[inline]
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        // SAFETY: `at` checked the source; `into` is private and of the same length.
        unsafe { copy_out(from.as_ptr(), into.as_mut_ptr(), into.len()) };
    }

    /// Copies into shared memory.
    #[inline]
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: `at` checked the destination; `from` is private and of the same length.
        unsafe { copy_in(from.as_ptr(), to.as_ptr(), from.len()) };
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// Nobody, in any process, writes to them while the slice lives.
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        let start = self.at(offset, len);
        // SAFETY: bounds checked by `at`; the absence of writers is the caller's promise.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// The bytes in place, writable.
    ///
    /// # Safety
    /// Nobody else, in any process, reads or writes them while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        let start = self.at(offset, len);
        // SAFETY: bounds checked by `at`; the caller's promise makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// Copies out of shared memory, to the end of `into`.
    pub(crate) fn read_to_vec(&self, offset: usize, len: usize, into: &mut Vec<u8>) {
        let from = self.at(offset, len);
        into.reserve(len);
        let to = into.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: `at` checked the source; `reserve` made room for `len` private bytes.
        unsafe { copy_out(from.as_ptr(), to, len) };
        // SAFETY: the `len` bytes behind the old length have just been written.
        unsafe { into.set_len(into.len() + len) };
    }

    /// The word at `offset`, a multiple of 4, which is only ever accessed atomically.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        let word = self.at(offset, size_of::<u32>()).cast();
        assert!(word.is_aligned(), "a word at {offset}");
        // SAFETY: aligned and inside the mapping, which lives as long as `self`.
        unsafe { AtomicU32::from_ptr(word.as_ptr()) }
    }

    /// The address of `offset`, with `len` bytes behind it inside the mapping. It stays valid as long as `self`.
    #[inline]
    pub(crate) fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset <= self.len() && len <= self.len() - offset, "outside the mapping: {offset} + {len}");
        // SAFETY: a mapping does not start at address zero.
        let start = unsafe { NonNull::new_unchecked(self.map.as_mut_ptr()) };
        // SAFETY: checked above: the result is inside the mapping or one past its end.
        unsafe { start.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child the pages were never mapped (MADV_DONTFORK), and something else may be at the address.
        if self.home.is_here() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

/// Has the processor fetch the cache line of a word that will be written, while it goes on.
#[inline]
pub(crate) fn fetch_for_writing(word: &AtomicU32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which changes nothing. Processors without it do nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) word.as_ptr(), options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}

/// Copies from shared to private memory. A peer that writes at the same time breaks the protocol and spoils only what
/// it sent: the bytes are taken as they come and not interpreted. Short runs, most messages, go word by word with
/// atomic loads, which is faster than calling `memcpy`; longer ones by `memcpy`, which the compiler cannot look into.
///
/// # Safety
/// `from` is readable shared memory and `to` writable private memory, both for `len` bytes.
#[inline]
pub(crate) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    let done = each_word(from, len, |at| {
        // SAFETY: inside the `len` bytes.
        let from = unsafe { from.add(at) };
        // SAFETY: aligned, says `each_word`, and mapped.
        let word = unsafe { AtomicU64::from_ptr(from.cast_mut().cast()) }.load(Ordering::Relaxed);
        // SAFETY: inside the `len` bytes.
        let to = unsafe { to.add(at) };
        // SAFETY: eight writable bytes of private memory.
        unsafe { to.cast::<u64>().write_unaligned(word) };
    });
    if done < len {
        // SAFETY: inside the `len` bytes.
        let from = unsafe { from.add(done) };
        // SAFETY: inside the `len` bytes.
        let to = unsafe { to.add(done) };
        // SAFETY: the rest of the `len` bytes; private and shared memory do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len - done) };
    }
}

/// Copies from private to shared memory; the mirror of [`copy_out`]. What a peer does to these bytes meanwhile only
/// changes what that peer will read.
///
/// # Safety
/// `from` is readable private memory and `to` writable shared memory, both for `len` bytes.
#[inline]
pub(crate) unsafe fn copy_in(from: *const u8, to: *mut u8, len: usize) {
    let done = each_word(to, len, |at| {
        // SAFETY: inside the `len` bytes.
        let from = unsafe { from.add(at) };
        // SAFETY: eight readable bytes of private memory.
        let word = unsafe { from.cast::<u64>().read_unaligned() };
        // SAFETY: inside the `len` bytes.
        let to = unsafe { to.add(at) };
        // SAFETY: aligned, says `each_word`, and mapped.
        unsafe { AtomicU64::from_ptr(to.cast()) }.store(word, Ordering::Relaxed);
    });
    if done < len {
        // SAFETY: inside the `len` bytes.
        let from = unsafe { from.add(done) };
        // SAFETY: inside the `len` bytes.
        let to = unsafe { to.add(done) };
        // SAFETY: the rest of the `len` bytes; private and shared memory do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len - done) };
    }
}

/// Calls `word` for each whole word of a short run at `shared`, if that is aligned, and says where the rest begins. A
/// loop over one word at a time is made into one over many, and costs a message of one word more than the rest of its way.
#[inline(always)]
fn each_word(shared: *const u8, len: usize, word: impl Fn(usize)) -> usize {
    if len > WORDWISE || !shared.cast::<u64>().is_aligned() {
        return 0;
    }
    let mut at = 0;
    while len - at >= 32 {
        word(at);
        word(at + 8);
        word(at + 16);
        word(at + 24);
        at += 32;
    }
    if len & 16 != 0 {
        word(at);
        word(at + 8);
        at += 16;
    }
    if len & 8 != 0 {
        word(at);
        at += 8;
    }
    at
}
