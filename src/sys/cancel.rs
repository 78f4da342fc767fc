//! Threads that pthread_cancel(3) ends: the C library unwinds their stacks from a system call, and frames of Rust must
//! not be unwound by that.

use std::ffi::c_int;
use std::marker::PhantomData;

// Not declared by `libc`.
unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old_state: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE` of pthread.h, in glibc and musl.
const DISABLE: c_int = 1;

/// Keeps a cancellation of the calling thread pending while it lives (pthread_setcancelstate(3)).
///
/// A pair of calls costs up to 70 ns. So the C library uses it around everything but the fast paths, and a fast path
/// uses it around its system calls.
pub struct Uncancelled {
    old_state: c_int,
    /// The state is that of a thread.
    not_send: PhantomData<*const ()>,
}

impl Uncancelled {
    /// Disables cancellation.
    #[inline]
    pub fn begin() -> Self {
        let mut old_state = 0;
        // SAFETY: the state is a valid one, and the call writes the old one to a local.
        unsafe { pthread_setcancelstate(DISABLE, &raw mut old_state) };
        Self { old_state, not_send: PhantomData }
    }
}

impl Drop for Uncancelled {
    #[inline]
    fn drop(&mut self) {
        let mut disabled = 0;
        // SAFETY: the state is the one that `begin` found, on the same thread. The call is no cancellation point.
        unsafe { pthread_setcancelstate(self.old_state, &raw mut disabled) };
    }
}
