//! Memory that several processes read and write at the same time. A forked child inherits the mapping, and may access
//! it as every other holder may.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use memmap2::{Advice, MmapRaw};

#[cfg(feature = "named")]
use super::named::Named;
use super::{Errno, map};

/// A mapping whose bytes are accessed by atomic instructions only, in every process.
///
/// So accesses of one size are never a data race in the language's sense. Accesses of different sizes to the same bytes
/// are outside its memory model; the compiler emits one instruction for each and assumes nothing about the memory, so
/// each reads bytes that some holder wrote: possibly torn, never invented.
pub(crate) struct SharedMapping {
    start: NonNull<u8>,
    len: usize,
    /// Keeps the memory mapped.
    _backing: Backing,
}

/// The owner of a mapping, which unmaps it when it is dropped.
enum Backing {
    Sealed {
        _map: MmapRaw,
    },
    #[cfg(feature = "named")]
    Named {
        _named: Named,
    },
}

// SAFETY: `start` leads into memory that belongs to the process and not to a thread; `_backing`, which unmaps it once,
// is `Send`.
unsafe impl Send for SharedMapping {}
// SAFETY: every access to the memory through `&self` is atomic, and `_backing` is `Sync`.
unsafe impl Sync for SharedMapping {}

impl SharedMapping {
    /// Maps the first `len` bytes of `file`, whose size is sealed, readable and writable.
    pub(crate) fn new(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        let map = map(file, len)?;
        let _ = map.advise(Advice::HugePage); // a hint: fails where the system has none for shared memory
        let start = NonNull::new(map.as_mut_ptr()).ok_or(Errno::EFAULT)?;
        Ok(Self { start, len, _backing: Backing::Sealed { _map: map } })
    }

    /// The mapping of a named memory. Its size is not sealed: only the protocol between its holders keeps it.
    #[cfg(feature = "named")]
    pub(crate) fn named(named: Named) -> Result<Self, Errno> {
        let (start, len) = named.memory();
        let start = NonNull::new(start).ok_or(Errno::EFAULT)?;
        Ok(Self { start, len, _backing: Backing::Named { _named: named } })
    }

    /// The word at `offset`, which is a multiple of 4.
    pub(crate) fn u32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, size_of::<u32>()).cast();
        // SAFETY: `at` checked that the word is aligned and inside the mapping, which lives as long as `self`; every
        // access to this memory is atomic.
        unsafe { AtomicU32::from_ptr(at) }
    }

    /// The word at `offset`, which is a multiple of 8.
    pub(crate) fn u64(&self, offset: usize) -> &AtomicU64 {
        let at = self.at(offset, size_of::<u64>()).cast();
        // SAFETY: `at` checked that the word is aligned and inside the mapping, which lives as long as `self`; every
        // access to this memory is atomic.
        unsafe { AtomicU64::from_ptr(at) }
    }

    /// The address of `offset`, for callers in other languages.
    pub(crate) fn pointer(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "outside the mapping");
        // SAFETY: the assertion keeps the result inside the mapping or one past its end.
        unsafe { self.start.add(offset) }.as_ptr()
    }

    fn u8(&self, offset: usize) -> &AtomicU8 {
        let at = self.at(offset, 1);
        // SAFETY: `at` checked that the byte is inside the mapping, which lives as long as `self`; every access to this
        // memory is atomic.
        unsafe { AtomicU8::from_ptr(at) }
    }

    /// Copies out of shared memory, word by word.
    ///
    /// Relaxed: pairs with the stores of [`write`](Self::write) in any process, without ordering them. Holders order
    /// their accesses by a release store and an acquire load of a word of their choice.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        let (head, words, tail) = parts(offset, into.len());
        let (first, rest) = into.split_at_mut(head.len());
        let (middle, last) = rest.split_at_mut(words.len());
        for (at, byte) in head.zip(first) {
            *byte = self.u8(at).load(Ordering::Relaxed);
        }
        let shared = self.words(words);
        for (word, bytes) in shared.iter().zip(middle.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        for (at, byte) in tail.zip(last) {
            *byte = self.u8(at).load(Ordering::Relaxed);
        }
    }

    /// Copies into shared memory, word by word. Relaxed: pairs with the loads of [`read`](Self::read), for the reason
    /// given there.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        let (head, words, tail) = parts(offset, from.len());
        let (first, rest) = from.split_at(head.len());
        let (middle, last) = rest.split_at(words.len());
        for (at, byte) in head.zip(first) {
            self.u8(at).store(*byte, Ordering::Relaxed);
        }
        let shared = self.words(words);
        for (word, bytes) in shared.iter().zip(middle.chunks_exact(8)) {
            let mut whole = [0; 8];
            whole.copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        for (at, byte) in tail.zip(last) {
            self.u8(at).store(*byte, Ordering::Relaxed);
        }
    }

    /// The words of a range that starts and ends at multiples of 8.
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        if range.is_empty() {
            return &[]; // an empty range need not start at a multiple of 8
        }
        let start = self.aligned(range.start, range.len(), 8).cast();
        // SAFETY: `aligned` checked that the range is aligned and inside the mapping, which lives as long as `self`;
        // AtomicU64 has the size of a word, and every access to this memory is atomic.
        unsafe { std::slice::from_raw_parts(start, range.len() / 8) }
    }

    /// The address of a value of `size` bytes at `offset`, a multiple of `size`.
    fn at(&self, offset: usize, size: usize) -> *mut u8 {
        self.aligned(offset, size, size)
    }

    /// The address of `len` bytes at `offset`, a multiple of `align`.
    fn aligned(&self, offset: usize, len: usize, align: usize) -> *mut u8 {
        let inside = offset <= self.len && len <= self.len - offset;
        assert!(inside && offset.is_multiple_of(align), "outside the mapping or not aligned: {offset} + {len}");
        // SAFETY: the assertion keeps the result inside the mapping or one past its end.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

/// Splits the `len` bytes at `offset` into those before the first whole word, the whole words, and the rest.
fn parts(offset: usize, len: usize) -> (Range<usize>, Range<usize>, Range<usize>) {
    let end = offset + len;
    let first = offset.next_multiple_of(8).min(end);
    let last = first + (end - first) / 8 * 8;
    (offset..first, first..last, last..end)
}
