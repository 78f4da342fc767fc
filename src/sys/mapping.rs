//! A shared mapping behind checked accessors: the only place that holds a raw pointer into shared memory.
//!
//! Another process may write to these pages at any time. So no reference to plain data leaves this module, only
//! atomics and copies; the two functions that do hand out slices are `unsafe`.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
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
        let failed = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc_einval()));
        let map = MmapOptions::new().len(len).map_raw(file.as_raw_fd()).map_err(failed)?;
        map.advise(Advice::DontFork).map_err(failed)?;
        Ok(Self { map: ManuallyDrop::new(map), home })
    }

    /// The process that mapped it. Elsewhere (in a forked child) nothing but dropping is allowed.
    #[inline]
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Asks for huge pages; where the system has none for shared memory this does nothing.
    pub(crate) fn advise_huge(&self) {
        let _ = self.map.advise(Advice::HugePage);
    }

    /// The aligned 8-byte word at `offset`.
    #[inline]
    pub(crate) fn u64(&self, offset: usize) -> &AtomicU64 {
        let pointer = self.at(offset, 8).cast::<u64>();
        assert!(pointer.is_aligned(), "unaligned word at {offset}");
        // SAFETY: `at` checked the bounds, the line above the alignment; the pages stay mapped as long as `self`,
        // and all accesses to control words, ours and the peer's, are atomic accesses of this size.
        unsafe { AtomicU64::from_ptr(pointer) }
    }

    /// The aligned 4-byte word at `offset`.
    #[inline]
    pub(crate) fn u32(&self, offset: usize) -> &AtomicU32 {
        let pointer = self.at(offset, 4).cast::<u32>();
        assert!(pointer.is_aligned(), "unaligned word at {offset}");
        // SAFETY: as in `u64`.
        unsafe { AtomicU32::from_ptr(pointer) }
    }

    /// Copies out of shared memory. `offset` is a multiple of 8 and the mapping goes on to the next multiple of 8
    /// behind the last byte.
    #[inline]
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        if into.len() <= WORDWISE && offset.is_multiple_of(8) {
            for (index, part) in into.chunks_mut(8).enumerate() {
                let word = self.u64(offset + index * 8).load(Ordering::Relaxed).to_ne_bytes();
                part.copy_from_slice(&word[..part.len()]);
            }
            return;
        }
        let from = self.at(offset, into.len());
        // SAFETY: `at` checked the source, `into` is ours alone, so they do not overlap. A peer that writes at the
        // same time breaks the protocol and spoils its own bytes: they are copied as they come and not interpreted.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
    }

    /// Copies `len` bytes out of shared memory to the end of `into`.
    #[inline]
    pub(crate) fn read_to_vec(&self, offset: usize, len: usize, into: &mut Vec<u8>) {
        if len <= WORDWISE {
            let mut buffer = [0; WORDWISE];
            self.read(offset, &mut buffer[..len]);
            return into.extend_from_slice(&buffer[..len]);
        }
        into.reserve(len);
        let from = self.at(offset, len);
        let to = into.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: `at` checked the source, `reserve` made room for `len` bytes at the destination, which is private.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
        // SAFETY: the `len` bytes behind the old length have just been written.
        unsafe { into.set_len(into.len() + len) };
    }

    /// Copies into shared memory. `offset` is a multiple of 8; up to 7 bytes behind the last one are zeroed.
    #[inline]
    pub(crate) fn write_record(&self, offset: usize, from: &[u8]) {
        if from.len() > WORDWISE {
            return self.write(offset, from);
        }
        for (index, part) in from.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.u64(offset + index * 8).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Copies into shared memory, to any offset.
    #[inline]
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: `at` checked the destination; `from` is private memory, so they do not overlap. What a peer does
        // to these bytes meanwhile only changes what that peer will read.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// Nobody, in any process, writes to them while the slice lives.
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        let start = self.at(offset, len);
        // SAFETY: bounds checked by `at`; the absence of writers is the caller's promise.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// The bytes in place, writable.
    ///
    /// # Safety
    /// Nobody else, in any process, reads or writes them while the slice lives.
    pub(crate) unsafe fn slice_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let start = self.at(offset, len);
        // SAFETY: bounds checked by `at`; `&mut self` and the caller's promise make it exclusive.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// The address of `offset`, with `len` bytes behind it inside the mapping.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len() && len <= self.len() - offset, "outside the mapping: {offset} + {len}");
        // SAFETY: the line above: the result is inside the mapping or one past its end.
        unsafe { self.map.as_mut_ptr().add(offset) }
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

const fn libc_einval() -> i32 {
    Errno::EINVAL as i32
}
