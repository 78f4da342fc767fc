//! Removing the files of listeners when a signal ends the process.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::libc;

use super::Errno;
use super::fork::Home;

/// The signals by which users and service managers end a program, and which end a program that has no handler for them.
const ENDING: [libc::c_int; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// Files to remove, in this order.
struct Files {
    paths: [CString; 2],
    /// A forked child leaves the files of its parent alone.
    home: Home,
}

/// A place for files. Places are never freed, since a signal handler may be reading any of them, but used again.
struct Place {
    /// Null while the place is free. The swap that puts null here takes the files, so that exactly one of a drop and a
    /// signal handler owns them.
    files: AtomicPtr<Files>,
    next: *mut Place,
}

/// The newest place.
static PLACES: AtomicPtr<Place> = AtomicPtr::new(null_mut());

/// Files that a signal removes, until this is dropped.
pub(crate) struct OnSignal {
    place: &'static Place,
}

// SAFETY: `files` is atomic, and `next` is not changed once other threads can see the place.
unsafe impl Sync for Place {}

impl OnSignal {
    /// Has the files removed when one of the signals [`ENDING`] ends this process. A signal that the program ignores or
    /// has a handler for is left to the program.
    pub(crate) fn remove(paths: [&Path; 2]) -> Result<Self, Errno> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
        let [first, second] = paths;
        let files = Files { paths: [text(first)?, text(second)?], home: Home::here()? };
        ENDING.into_iter().try_for_each(handle)?;
        Ok(Self { place: Place::take(Box::into_raw(Box::new(files))) })
    }

    /// Ends the request. False if a signal handler has removed the files: others may have made new ones since.
    pub(crate) fn cancel(&self) -> bool {
        // AcqRel: pairs with the exchanges in `Place::take` and the swap in `remove_files`.
        let files = self.place.files.swap(null_mut(), Ordering::AcqRel);
        if files.is_null() {
            return false;
        }
        // SAFETY: `remove` made the pointer from a box, and the swap made this thread its only owner.
        drop(unsafe { Box::from_raw(files) });
        true
    }
}

impl Drop for OnSignal {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Place {
    /// Puts files into a free place.
    fn take(files: *mut Files) -> &'static Self {
        // Acquire: pairs with the exchange below, which published the place.
        let mut place = PLACES.load(Ordering::Acquire);
        // SAFETY: a place is never freed.
        while let Some(found) = unsafe { place.as_ref() } {
            // Release: pairs with the swaps that take the files out.
            if found.files.compare_exchange(null_mut(), files, Ordering::Release, Ordering::Relaxed).is_ok() {
                return found;
            }
            place = found.next;
        }
        let mut next = PLACES.load(Ordering::Acquire);
        loop {
            let new = Box::into_raw(Box::new(Self { files: AtomicPtr::new(files), next }));
            // Release: pairs with the acquire loads of `PLACES`.
            match PLACES.compare_exchange(next, new, Ordering::Release, Ordering::Acquire) {
                // SAFETY: `new` is a place, which is never freed from here on.
                Ok(_) => return unsafe { &*new },
                Err(newer) => {
                    // SAFETY: the failed exchange has published the place to no thread.
                    drop(unsafe { Box::from_raw(new) });
                    next = newer;
                }
            }
        }
    }
}

/// Installs the handler for a signal that has its default action (sigaction(2)).
fn handle(signal: libc::c_int) -> Result<(), Errno> {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the call changes nothing, and fills in the structure.
    Errno::result(unsafe { libc::sigaction(signal, std::ptr::null(), present.as_mut_ptr()) })?;
    // SAFETY: the structure is plain data, zeroed and then filled in.
    let mut action = unsafe { present.assume_init() };
    if action.sa_sigaction != libc::SIG_DFL {
        return Ok(());
    }
    action.sa_sigaction = remove_and_end as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = 0;
    // SAFETY: the handler makes async-signal-safe calls only; see there.
    Errno::result(unsafe { libc::sigaction(signal, &raw const action, null_mut()) }).map(drop)
}

/// The handler: removes the files, and has the signal end the process as if there were no handler. It accesses atomics
/// and memory that is never freed, and makes the calls unlink(2), signal(2) and raise(3), which are async-signal-safe.
extern "C" fn remove_and_end(signal: libc::c_int) {
    remove_files();
    // SAFETY: the default action is valid for every signal that has a handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // The signal is blocked while its handler runs, and ends the process at the return.
    // SAFETY: `signal` is the number of a signal.
    unsafe { libc::raise(signal) };
}

fn remove_files() {
    // Acquire: pairs with the exchange in `Place::take`.
    let mut place = PLACES.load(Ordering::Acquire);
    // SAFETY: a place is never freed.
    while let Some(found) = unsafe { place.as_ref() } {
        // Acquire: pairs with the exchange in `Place::take`.
        let files = found.files.swap(null_mut(), Ordering::AcqRel);
        // SAFETY: the swap made this thread the only owner of the files, which it does not free.
        if let Some(files) = unsafe { files.as_ref() }
            && files.home.is_here()
        {
            files.paths.iter().for_each(|path| unlink(path));
        }
        place = found.next;
    }
}

fn unlink(path: &CStr) {
    // SAFETY: the path ends with a zero byte.
    unsafe { libc::unlink(path.as_ptr()) };
}
