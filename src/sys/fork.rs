//! Noticing a `fork`: one page that the kernel wipes in the child (madvise(2), `MADV_WIPEONFORK`).
//!
//! The page holds the number of this process in its line of forks. A port remembers the number it was made
//! under; in a forked child the page reads zero until the child makes a port of its own, so an inherited port
//! never matches.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;

use super::Errno;

static PAGE: OnceLock<MmapRaw> = OnceLock::new();
/// Number of the newest process in this line of forks; inherited by children, so theirs is always greater.
static NEWEST: AtomicU32 = AtomicU32::new(0);

/// The process that a port belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Home {
    page: &'static AtomicU32,
    number: u32,
}

impl Home {
    /// The calling process.
    pub(crate) fn here() -> Result<Self, Errno> {
        let page = page()?;
        if page.load(Ordering::Relaxed) == 0 {
            let number = NEWEST.fetch_add(1, Ordering::Relaxed) + 1;
            // A lost race means another thread has numbered this process already. Relaxed: a number, no data.
            let _ = page.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(Self { page, number: page.load(Ordering::Relaxed) })
    }

    /// False in a child that inherited the port by `fork`.
    #[inline]
    pub(crate) fn is_here(self) -> bool {
        self.page.load(Ordering::Relaxed) == self.number
    }
}

fn page() -> Result<&'static AtomicU32, Errno> {
    let map = match PAGE.get() {
        Some(map) => map,
        None => {
            let map = wiped_page()?;
            PAGE.get_or_init(|| map)
        }
    };
    // SAFETY: the mapping is page-aligned, one page long, zero-filled, never unmapped (a static), and nothing but
    // this AtomicU32 ever accesses it.
    Ok(unsafe { AtomicU32::from_ptr(map.as_mut_ptr().cast()) })
}

fn wiped_page() -> Result<MmapRaw, Errno> {
    let failed = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let map: MmapRaw = MmapOptions::new().len(4096).map_anon().map_err(failed)?.into();
    // SAFETY: the range is exactly this mapping, private and anonymous, and the advice changes nothing here.
    Errno::result(unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_WIPEONFORK) })?;
    Ok(map)
}
