//! Memory that several processes write by agreement. A forked child inherits the mapping: it may do what every other
//! process may that has the buffer.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::Errno;
use super::named::Named;

/// Memory that is accessed by atomic instructions only, by whatever process.
///
/// So accesses of one size never race in the language's sense. Those of different sizes to the same bytes are outside
/// of its model; the compiler makes one instruction of each, knows nothing of the memory, and so each reads bytes
/// that somebody wrote: torn perhaps, never invented.
pub(crate) struct SharedMapping {
    start: NonNull<u8>,
    len: usize,
    /// Unmaps it.
    _hold: Hold,
}

enum Hold {
    Sealed { _map: MmapRaw },
    Named { _named: Named },
}

// SAFETY: the memory belongs to the mapping, not to a thread, and is unmapped once, by `hold`, which is `Send`.
unsafe impl Send for SharedMapping {}
// SAFETY: what is done through `&self` to the memory is done by atomics; `hold` is `Sync`.
unsafe impl Sync for SharedMapping {}

impl SharedMapping {
    /// Maps the first `len` bytes of `file`, whose size is sealed, readable and writable.
    pub(crate) fn new(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        let failed = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EINVAL as i32));
        let map = MmapOptions::new().len(len).map_raw(file.as_raw_fd()).map_err(failed)?;
        let _ = map.advise(Advice::HugePage);
        let start = NonNull::new(map.as_mut_ptr()).ok_or(Errno::EFAULT)?;
        Ok(Self { start, len, _hold: Hold::Sealed { _map: map } })
    }

    /// The memory of a name. Its size is not sealed: nothing but the agreement of those who have it keeps it there.
    pub(crate) fn named(named: Named) -> Result<Self, Errno> {
        let (start, len) = named.memory();
        Ok(Self { start: NonNull::new(start).ok_or(Errno::EFAULT)?, len, _hold: Hold::Named { _named: named } })
    }

    /// The word at `offset`, which is a multiple of 4.
    pub(crate) fn u32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, size_of::<u32>()).cast();
        // SAFETY: inside the mapping and aligned, both checked by `at`; nothing but atomics accesses the memory.
        unsafe { AtomicU32::from_ptr(at) }
    }

    /// The word at `offset`, which is a multiple of 8.
    pub(crate) fn u64(&self, offset: usize) -> &AtomicU64 {
        let at = self.at(offset, size_of::<u64>()).cast();
        // SAFETY: as in `u32`.
        unsafe { AtomicU64::from_ptr(at) }
    }

    /// The address of `offset`, for callers that come by pointers.
    pub(crate) fn pointer(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "outside the mapping");
        // SAFETY: inside the mapping, or one past its end.
        unsafe { self.start.add(offset) }.as_ptr()
    }

    fn u8(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: as in `u32`.
        unsafe { AtomicU8::from_ptr(self.at(offset, 1)) }
    }

    /// Copies out, word by word. Relaxed: who wrote what when is agreed on by other means.
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

    /// Copies in; the mirror of [`read`](Self::read).
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

    /// The whole words of a range that starts and ends at multiples of 8.
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        if range.is_empty() {
            return &[]; // where no whole word is, there is no multiple of 8 either
        }
        // SAFETY: inside the mapping and aligned, both checked; AtomicU64 has the size of a word, may be aliased, and
        // nothing but atomics accesses the memory.
        unsafe { std::slice::from_raw_parts(self.aligned(range.start, range.len(), 8).cast(), range.len() / 8) }
    }

    /// The address of a value of `size` bytes at `offset`, which is aligned for it.
    fn at(&self, offset: usize, size: usize) -> *mut u8 {
        self.aligned(offset, size, size)
    }

    fn aligned(&self, offset: usize, len: usize, align: usize) -> *mut u8 {
        let inside = offset <= self.len && len <= self.len - offset;
        assert!(inside && offset.is_multiple_of(align), "outside the mapping or not aligned: {offset} + {len}");
        // SAFETY: checked: inside the mapping, which starts at a page, or one past its end.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

/// `len` bytes from `offset` on: those before the first whole word, the whole words, and the rest.
fn parts(offset: usize, len: usize) -> (Range<usize>, Range<usize>, Range<usize>) {
    let end = offset + len;
    let first = offset.next_multiple_of(8).min(end);
    let last = first + (end - first) / 8 * 8;
    (offset..first, first..last, last..end)
}
