//! A shared mapping behind checked accessors, and the two functions that copy bytes to and from shared memory.
//!
//! Another process may write to these pages at any time. So this module hands out no references to plain data, only
//! copies and atomics, except by two functions that return slices and are `unsafe`.

use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use memmap2::{Advice, MmapRaw};

use super::fork::Home;
use super::{Errno, errno, map, map_sparse};

/// Longest run in bytes, 128, that is copied word by word with atomic accesses; longer runs are copied by `memcpy`.
const WORDWISE: usize = 128;

/// A mapping of a sealed file, readable and writable, which forked children do not inherit.
pub(crate) struct Mapping {
    map: ManuallyDrop<MmapRaw>,
    home: Home,
}

impl Mapping {
    /// Maps the first `len` bytes of `file` (mmap(2), `MADV_DONTFORK` of madvise(2)).
    pub(crate) fn new(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        Self::with(file, len, map)
    }

    /// As [`new`](Self::new), for a sparse file: only the memory that is touched is allocated, under `mlockall` too.
    pub(crate) fn sparse(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        Self::with(file, len, map_sparse)
    }

    fn with(
        file: BorrowedFd<'_>,
        len: usize,
        map: impl Fn(BorrowedFd<'_>, usize) -> Result<MmapRaw, Errno>,
    ) -> Result<Self, Errno> {
        let home = Home::here()?;
        let map = map(file, len)?;
        map.advise(Advice::DontFork).map_err(errno)?;
        Ok(Self { map: ManuallyDrop::new(map), home })
    }

    /// The process that mapped the file. In any other, a forked child, only dropping is allowed.
    #[inline]
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// Bytes of the mapping.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Requests huge pages (`MADV_HUGEPAGE` of madvise(2)).
    pub(crate) fn advise_huge(&self) {
        let _ = self.map.advise(Advice::HugePage); // a hint: fails where the system has none for shared memory
    }

    /// Copies out of shared memory.
    #[inline]
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        // SAFETY: `at` checked that the source is inside the mapping; `into` is private and of the same length.
        unsafe { copy_out(from.as_ptr(), into.as_mut_ptr(), into.len()) };
    }

    /// Copies into shared memory.
    #[inline]
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: `at` checked that the destination is inside the mapping; `from` is private and of the same length.
        unsafe { copy_in(from.as_ptr(), to.as_ptr(), from.len()) };
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// No thread of any process writes to them while the slice lives.
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        let start = self.at(offset, len);
        // SAFETY: `at` checked that the bytes are inside the mapping, which lives as long as `self`; the caller
        // promises that nothing writes to them.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// The bytes in place, writable.
    ///
    /// # Safety
    /// No other access to them, in any process, while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        let start = self.at(offset, len);
        // SAFETY: `at` checked that the bytes are inside the mapping, which lives as long as `self`; the caller
        // promises exclusive access.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// Copies out of shared memory, to the end of `into`.
    pub(crate) fn read_to_vec(&self, offset: usize, len: usize, into: &mut Vec<u8>) {
        let from = self.at(offset, len);
        // SAFETY: `at` checked that the source is inside the mapping.
        unsafe { copy_to_vec(from.as_ptr(), len, into) };
    }

    /// The word at `offset`, a multiple of 4. All accesses to it must be atomic.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        let word = self.at(offset, size_of::<u32>()).cast();
        assert!(word.is_aligned(), "a word at {offset}");
        // SAFETY: the word is aligned, as asserted, and inside the mapping, which lives as long as `self`; callers of
        // this function access it atomically only, and copies of headers happen before others can access it.
        unsafe { AtomicU32::from_ptr(word.as_ptr()) }
    }

    /// The address of the `len` bytes at `offset`, all inside the mapping. It is valid as long as `self`.
    #[inline]
    pub(crate) fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset <= self.len() && len <= self.len() - offset, "outside the mapping: {offset} + {len}");
        // SAFETY: the kernel places no mapping at address zero unless requested.
        let start = unsafe { NonNull::new_unchecked(self.map.as_mut_ptr()) };
        // SAFETY: the assertion keeps the result inside the mapping or one past its end.
        unsafe { start.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A forked child does not have these pages (`MADV_DONTFORK`), and may have mapped others at the address.
        if self.home.is_here() {
            // SAFETY: `map` is dropped here only, and not used afterwards, since `self` is being dropped.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

/// Prefetches the cache line of a word that will be written.
#[inline]
pub(crate) fn fetch_for_writing(word: &AtomicU32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is a hint: it accesses no memory in the sense of the language, and processors without it
    // do nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) word.as_ptr(), options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}

/// Copies from shared to private memory. A peer that writes at the same time breaks the protocol and spoils only what
/// it sent: the bytes are copied as they are and not interpreted.
///
/// What the caller finds in `to` is what it checks and what it uses, so the compiler must not load the shared bytes a
/// second time. It cannot repeat an atomic load, nor a plain one behind a fence.
///
/// # Safety
/// `from` is readable shared memory and `to` writable private memory, both for `len` bytes.
#[inline]
pub(crate) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller promises both runs.
    unsafe { copy_run_out(from, to, len) };
    // No instruction. Pairs with nothing: it binds the compiler, which inlines the `memcpy` of a known length.
    compiler_fence(Ordering::SeqCst);
}

/// Copies for [`copy_out`]. Short runs, which most messages are, are copied word by word with atomic loads, which is
/// faster than a call of `memcpy`. Longer runs, the last few bytes, and runs that are not aligned, as a hostile peer
/// can make them, are copied by `memcpy`, which works at any address and which the compiler cannot repeat if the length
/// is not known to it.
///
/// Relaxed: pairs with the stores of [`copy_in`] in the peer. The commit word or cursor that the caller has acquired
/// orders them.
///
/// # Safety
/// As for [`copy_out`].
#[inline]
unsafe fn copy_run_out(from: *const u8, to: *mut u8, len: usize) {
    let done = each_word(from, len, |at| {
        // SAFETY: `each_word` passes offsets of whole words inside the `len` bytes.
        let from = unsafe { from.add(at) };
        // SAFETY: `each_word` passes offsets of aligned words, and the caller promises that `from` is readable.
        let word = unsafe { AtomicU64::from_ptr(from.cast_mut().cast()) }.load(Ordering::Relaxed);
        // SAFETY: `each_word` passes offsets of whole words inside the `len` bytes.
        let to = unsafe { to.add(at) };
        // SAFETY: the caller promises that these eight bytes are private and writable.
        unsafe { to.cast::<u64>().write_unaligned(word) };
    });
    if done < len {
        // SAFETY: `done` is less than `len`.
        let from = unsafe { from.add(done) };
        // SAFETY: `done` is less than `len`.
        let to = unsafe { to.add(done) };
        // SAFETY: the caller promises `len` bytes at both, and private memory does not overlap with shared memory.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len - done) };
    }
}

/// Copies from private to shared memory; the mirror of [`copy_out`]. A peer that writes to these bytes at the same time
/// spoils only what it will read.
///
/// Relaxed: pairs with the loads of [`copy_out`] in the peer. The commit word or cursor that the caller releases
/// afterwards orders them.
///
/// # Safety
/// `from` is readable private memory and `to` writable shared memory, both for `len` bytes.
#[inline]
pub(crate) unsafe fn copy_in(from: *const u8, to: *mut u8, len: usize) {
    let done = each_word(to, len, |at| {
        // SAFETY: `each_word` passes offsets of whole words inside the `len` bytes.
        let from = unsafe { from.add(at) };
        // SAFETY: the caller promises that these eight bytes are private and readable.
        let word = unsafe { from.cast::<u64>().read_unaligned() };
        // SAFETY: `each_word` passes offsets of whole words inside the `len` bytes.
        let to = unsafe { to.add(at) };
        // SAFETY: `each_word` passes offsets of aligned words, and the caller promises that `to` is writable.
        unsafe { AtomicU64::from_ptr(to.cast()) }.store(word, Ordering::Relaxed);
    });
    if done < len {
        // SAFETY: `done` is less than `len`.
        let from = unsafe { from.add(done) };
        // SAFETY: `done` is less than `len`.
        let to = unsafe { to.add(done) };
        // SAFETY: the caller promises `len` bytes at both, and private memory does not overlap with shared memory.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len - done) };
    }
}

/// Copies from shared memory to the end of `into`. Needs no fence as in [`copy_out`]: no caller knows the length when
/// it is compiled.
///
/// # Safety
/// `from` is readable shared memory for `len` bytes.
#[inline]
pub(crate) unsafe fn copy_to_vec(from: *const u8, len: usize, into: &mut Vec<u8>) {
    into.reserve(len);
    let to = into.spare_capacity_mut().as_mut_ptr().cast();
    // SAFETY: the caller promises the source; `reserve` has made room for `len` private bytes.
    unsafe { copy_run_out(from, to, len) };
    // SAFETY: `copy_run_out` has written the `len` bytes behind the old length.
    unsafe { into.set_len(into.len() + len) };
}

/// Calls `word` with the offset of each whole word of a short run, if `shared` is aligned, and returns the offset of
/// the rest. The body handles four words per turn: the compiler would turn a loop over single words into one over many,
/// which costs a message of one word more than the rest of its way.
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::memfd;

    #[test]
    fn runs_of_every_length_and_alignment_are_copied() {
        let file = memfd::create(c"mapping", 4096, memfd::SEALED).expect("a file");
        let mapping = Mapping::new(file.as_fd(), 4096).expect("a mapping");
        let bytes: Vec<u8> = (0..=255).collect();
        for start in 0..17 {
            for len in 0..200 {
                mapping.write(start, &[0xff; 256]);
                mapping.write(start, &bytes[..len]);
                let (mut array, mut vec) = ([0; 200], vec![7]);
                mapping.read(start, &mut array[..len]);
                mapping.read_to_vec(start, len + 1, &mut vec);
                assert_eq!(array[..len], bytes[..len], "{len} bytes at {start}");
                assert_eq!((vec[0], &vec[1..=len], vec[len + 1]), (7, &bytes[..len], 0xff), "{len} bytes at {start}");
            }
        }
    }
}
