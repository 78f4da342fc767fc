//! Detecting `fork` by one page that the kernel wipes in the child (`MADV_WIPEONFORK` of madvise(2)). Where a sandbox
//! refuses that advice, a handler of pthread_atfork(3) wipes the page; a child made by a raw clone(2) or fork(2) system
//! call, past the C library, is then not detected.
//!
//! The page holds the number of this process in its line of forks. A port keeps the number under which it was made. In
//! a forked child the page reads zero until the child makes a port of its own, and then a greater number, so the number
//! of an inherited port never matches.
//!
//! A child has only the thread that called `fork`. A lock that another thread held is never released in the child, so a
//! call or a drop must find out that it is in a child before it takes a lock that two threads can share. What such a
//! lock protects may be half changed; the child does not drop it, because the thread that holds the lock also holds or
//! borrows the object, for ever.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;

use super::{Errno, errno};

/// The first word of the page that the kernel wipes in a forked child; null until the page is mapped. It stays mapped
/// for as long as the process lives. No lock guards it, since a child takes it too.
static WIPED: AtomicPtr<u32> = AtomicPtr::new(std::ptr::null_mut());
/// Number of the newest process in this line of forks. A child inherits the value, so its own number is greater.
static NEWEST: AtomicU32 = AtomicU32::new(0);

/// The process to which a port belongs.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    page: &'static AtomicU32,
    number: u32,
}

impl Home {
    /// The calling process.
    pub fn here() -> Result<Self, Errno> {
        let page = wiped_word()?;
        // All accesses here are relaxed: the word and the counter are numbers, and no other data depends on them. A
        // thread that reads zero although another thread has stored a number fails the exchange and reads that number.
        if page.load(Ordering::Relaxed) == 0 {
            let number = NEWEST.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = page.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(Self { page, number: page.load(Ordering::Relaxed) })
    }

    /// False in a child that inherited the port by `fork`.
    #[inline]
    pub fn is_here(self) -> bool {
        // Relaxed: pairs with nothing. The number was stored before this `Home` existed, and only `fork` changes it.
        self.page.load(Ordering::Relaxed) == self.number
    }
}

/// The number of this process: the first word of the page.
fn wiped_word() -> Result<&'static AtomicU32, Errno> {
    // Acquire: pairs with the exchange below in another thread, which has mapped the page before.
    let mut word = WIPED.load(Ordering::Acquire);
    if word.is_null() {
        let page = map_wiped_page()?;
        let mapped = page.as_mut_ptr().cast();
        // AcqRel: pairs with the load above and with this exchange. A thread that fails it unmaps its own page.
        match WIPED.compare_exchange(word, mapped, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                std::mem::forget(page);
                word = mapped;
            }
            Err(first) => word = first,
        }
    }
    // SAFETY: `word` is the start of a page of which `WIPED` holds the only address, so nothing unmaps it; this
    // function is the only access to its memory, always as this AtomicU32.
    Ok(unsafe { AtomicU32::from_ptr(word) })
}

fn map_wiped_page() -> Result<MmapRaw, Errno> {
    let map: MmapRaw = MmapOptions::new().len(super::PAGE).map_anon().map_err(errno)?.into();
    // SAFETY: the range is exactly this mapping, which is private and anonymous; the advice changes no byte of it in
    // this process.
    let advised = unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_WIPEONFORK) };
    if advised != 0 {
        // SAFETY: the handler makes two atomic accesses, which are allowed in a forked child, and lives as long as the
        // process, since it is a function.
        let error = unsafe { libc::pthread_atfork(None, None, Some(wipe)) };
        if error != 0 {
            return Err(Errno::from_raw(error));
        }
    }
    Ok(map)
}

/// Wipes the page, in a child. Wiping it twice, or a page that the kernel has wiped, changes nothing.
extern "C" fn wipe() {
    // Relaxed: the child has one thread, and `fork` orders the accesses of its parent before its own.
    let word = WIPED.load(Ordering::Relaxed);
    if !word.is_null() {
        // SAFETY: as in `wiped_word`.
        unsafe { AtomicU32::from_ptr(word) }.store(0, Ordering::Relaxed);
    }
}
