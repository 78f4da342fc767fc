//! Memory that the two processes share: words at offsets, and bytes that a word hands from one side to the other.
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

/// Bytes that processors fetch together.
pub(crate) const SPACING: usize = 128;

/// A mapping of memory that both processes have.
#[derive(Clone)]
pub(crate) struct SharedMemory {
    map: Rc<MmapRaw>,
}

impl SharedMemory {
    /// New memory, for both sides.
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

    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        let at = self.at(offset, size_of::<u64>());
        assert!(offset.is_multiple_of(size_of::<u64>()));
        // SAFETY: inside the mapping, which is page aligned and lives as long as `self`; both sides use it as a word of
        // this size, or as bytes while a word lets them.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    #[inline]
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, size_of::<u32>());
        assert!(offset.is_multiple_of(size_of::<u32>()));
        // SAFETY: as for `word`.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    /// Copies bytes in.
    ///
    /// # Safety
    /// The other side accesses none of them before it has seen a word that is stored later.
    #[inline]
    pub(crate) unsafe fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: inside the mapping, and nobody else's, says the caller.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }

    /// Copies bytes out.
    ///
    /// # Safety
    /// The other side writes none of them before it has seen a word that is stored later.
    #[inline]
    pub(crate) unsafe fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        // SAFETY: inside the mapping, and not written meanwhile, says the caller.
        unsafe { from.copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) }
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// As for [`read`](Self::read), while the slice lives.
    #[inline]
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: inside the mapping, and not written meanwhile, says the caller.
        unsafe { std::slice::from_raw_parts(self.at(offset, len), len) }
    }

    /// Adds all bytes up, so that every page is in memory.
    pub(crate) fn touch(&self) {
        // SAFETY: before the first turn nobody writes.
        let bytes = unsafe { self.slice(0, self.map.len()) };
        std::hint::black_box(sum(bytes));
    }
}

/// Calls `$body` with the size as a constant where it is a usual one, so that copies are as cheap as they can be; 0 is
/// any other size.
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
