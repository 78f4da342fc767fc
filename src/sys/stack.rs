//! The stack of the calling thread (pthread_getattr_np(3)).

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use nix::libc;

use super::Errno;

thread_local! {
    /// The addresses of this thread's stack; empty until they are queried.
    static STACK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Approximately the address of the innermost frame. Stacks grow towards lower addresses.
#[inline]
pub(crate) fn pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// Bytes of the calling thread's stack that are free below `address`. `None` if they are unknown: `address` is not on
/// that stack, as in a coroutine, or the system cannot find its bounds.
pub(crate) fn free_below(address: usize) -> Option<usize> {
    let (start, end) = STACK.get();
    let mut stack = start..end;
    if stack.is_empty() {
        stack = bounds().ok()?;
        STACK.set((stack.start, stack.end));
    }
    stack.contains(&address).then(|| address - stack.start)
}

/// The addresses of the calling thread's stack. For the main thread glibc reads `/proc/self/maps` and the limit
/// `RLIMIT_STACK`, which fails where they are out of reach.
fn bounds() -> Result<Range<usize>, Errno> {
    let check = |code| if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) };
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the call has no conditions.
    let thread = unsafe { libc::pthread_self() };
    // SAFETY: this thread runs, and the call writes to `attributes` only.
    check(unsafe { libc::pthread_getattr_np(thread, attributes.as_mut_ptr()) })?;
    let (mut start, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: the call before has initialised `attributes`; `start` and `len` are writable.
    let result = check(unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut len) });
    // SAFETY: initialised above and not used afterwards.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    result.map(|()| start.addr()..start.addr().saturating_add(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_stack_is_that_of_the_thread() {
        for kib in [64, 128, 512, 8192_usize] {
            let len = kib << 10;
            let body = || {
                let here = pointer();
                [0, 1000, 30_000].map(|deeper| free_below(here - deeper).unwrap())
            };
            let thread = std::thread::Builder::new().stack_size(len).spawn(body);
            let free = thread.unwrap().join().unwrap();
            // The system may give a thread a larger stack, which it has kept from another one.
            assert!(free[0] >= len / 2, "{free:?} of {len}");
            assert_eq!(free, [free[0], free[0] - 1000, free[0] - 30_000]);
        }
    }

    #[test]
    fn another_stack_is_unknown() {
        let elsewhere = Box::new(0);
        assert_eq!(free_below(std::ptr::from_ref(&*elsewhere).addr()), None);
    }
}
