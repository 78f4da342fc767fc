//! Shared memory of the two processes: atomic words at offsets, and bytes whose ownership the words pass between sides.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

use crate::error::{Error, Result};
use crate::payload::sum;
use crate::session::Session;

/// Distance in bytes between words that different sides write: two cache lines, which processors prefetch in pairs.
pub(crate) const SPACING: usize = 128;

/// A mapping of memory that both processes share.
#[derive(Clone)]
pub(crate) struct SharedMemory {
    map: Rc<MmapRaw>,
}

impl SharedMemory {
    /// Creates shared memory of `len` bytes. Both sides must call it.
    pub(crate) fn new(session: &Session, len: usize) -> Result<Self> {
        let [file] = session.descriptors(|| {
            let file = memfd_create(c"messageport-bench", MFdFlags::MFD_CLOEXEC)?;
            ftruncate(&file, len as i64)?;
            let copy: OwnedFd = file.try_clone().map_err(|_| nix::errno::Errno::EMFILE)?;
            Ok(([file], [copy]))
        })?;
        let map = MmapOptions::new().len(len).map_raw(&file).map_err(Error::of("cannot map the shared memory"))?;
        Ok(Self { map: Rc::new(map) })
    }

    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.map.len() && len <= self.map.len() - offset, "outside the shared memory");
        self.map.as_mut_ptr().wrapping_add(offset)
    }

    /// Returns the 64-bit word at `offset`, which must be a multiple of 8.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        let at = self.at(offset, size_of::<u64>());
        assert!(offset.is_multiple_of(size_of::<u64>()));
        // SAFETY: `at` checked that the word lies in the mapping, which is page aligned and lives as long as `self`.
        // Both sides access it only as a word of this size, except for `touch`, which reads it before the first turn.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    /// Returns the 32-bit word at `offset`, which must be a multiple of 4.
    #[inline]
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, size_of::<u32>());
        assert!(offset.is_multiple_of(size_of::<u32>()));
        // SAFETY: `at` checked that the word lies in the mapping, which is page aligned and lives as long as `self`.
        // Both sides access it only as a word of this size, except for `touch`, which reads it before the first turn.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    /// Copies `from` into the memory.
    ///
    /// # Safety
    /// The other side must access none of these bytes before it has loaded a word that this side stores later.
    #[inline]
    pub(crate) unsafe fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: `at` checked the bounds, and the caller guarantees that the other side does not access the bytes.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }

    /// Copies bytes of the memory into `into`.
    ///
    /// # Safety
    /// The other side must write none of these bytes before it has loaded a word that this side stores later.
    #[inline]
    pub(crate) unsafe fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        // SAFETY: `at` checked the bounds, and the caller guarantees that the other side does not write the bytes.
        unsafe { from.copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) }
    }

    /// Returns bytes of the memory in place.
    ///
    /// # Safety
    /// The other side must write none of these bytes before it has loaded a word that this side stores after the last
    /// use of the slice.
    #[inline]
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: `at` checked the bounds, and the caller guarantees that the other side does not write the bytes.
        unsafe { std::slice::from_raw_parts(self.at(offset, len), len) }
    }

    /// Reads all bytes, so that every page is resident. Must be called before the first turn.
    pub(crate) fn touch(&self) {
        // SAFETY: neither side writes before the first turn.
        let bytes = unsafe { self.slice(0, self.map.len()) };
        std::hint::black_box(sum(bytes));
    }
}

/// Evaluates `$body` with the constant `$N`, which is the size if it is 8, 64 or 1024, so that the compiler can inline
/// the copies, and 0 for any other size.
macro_rules! with_size {
    ($size:expr, $N:ident => $body:expr) => {
        match $size {
            8 => {
                const $N: usize = 8;
                $body
            }
            64 => {
                const $N: usize = 64;
                $body
            }
            1024 => {
                const $N: usize = 1024;
                $body
            }
            _ => {
                const $N: usize = 0;
                $body
            }
        }
    };
}
pub(crate) use with_size;
