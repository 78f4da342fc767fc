//! Doorbells: how a sleeper and its waker do not miss each other.
//!
//! Each direction has two doorbells: `data`, on which its consumer sleeps, and `space`, on which its producer sleeps.
//! They are the only words that both sides write, and they are only ever swapped, so that no note is written over
//! unseen. The sleeper tells how it sleeps; the waker takes that note away and acts on what it took. A pair that is busy
//! never sleeps and makes no system call; a burst to a sleeper makes one.
//!
//! ```text
//! sleeper                                   waker
//! 1  doorbell := FUTEX or FD                1  commit the record (or the cursor)
//! 2  full fence                             2  full fence (1 and 2 are one swap)
//! 3  look at the ring once more             3  look at the doorbell
//! 4  nothing there: sleep                   4  not AWAKE: swap it to AWAKE, wake as the old value says
//! ```
//! Of the two looks (3) at least one sees what the other side did in 1, since a fence stands between on both sides:
//! either the sleeper does not sleep or the waker wakes it.
#![forbid(unsafe_code)]

use super::sync::{AtomicU32, Ordering, fence, futex};

/// Doorbell: nobody sleeps.
pub(crate) const AWAKE: u32 = 0;
/// Doorbell: wake by futex(2) on the doorbell itself.
pub(crate) const FUTEX: u32 = 1;
/// Doorbell: wake by a packet on the lane. Any unknown value means this too.
pub(crate) const FD: u32 = 2;

/// The sleeper's sequence: says how it sleeps, looks once more, and goes to sleep if there is still nothing.
#[inline]
pub(crate) fn sleep(doorbell: &AtomicU32, how: u32, ready: impl FnOnce() -> bool, go_to_sleep: impl FnOnce()) {
    arm(doorbell, how);
    if !ready() {
        go_to_sleep();
    }
    disarm(doorbell);
}

/// Takes the sleeper's note back: nobody sleeps any more.
#[inline]
pub(crate) fn disarm(doorbell: &AtomicU32) {
    // Relaxed: whoever swaps the doorbell acts on its old value, and waking somebody who is awake is harmless.
    doorbell.swap(AWAKE, Ordering::Relaxed);
}

/// Steps 1 and 2 of the sleeper alone, for one that will sleep in somebody else's `poll`.
#[inline]
pub(crate) fn arm(doorbell: &AtomicU32, how: u32) {
    // With the SeqCst load in `ring_if_asleep`: that load is after this swap, or before it and then the waker's
    // commit, which is before that load, is before our look.
    doorbell.swap(how, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// The waker's steps 3 and 4; the caller has just committed with a full fence. `knock` sends a packet on the lane and
/// says whether the sleeper will find one.
#[inline]
pub(crate) fn ring_if_asleep(doorbell: &AtomicU32, knock: impl FnOnce() -> bool) {
    if doorbell.load(Ordering::SeqCst) != AWAKE {
        ring(doorbell, knock);
    }
}

/// The waker's step 4.
#[cold]
pub(crate) fn ring(doorbell: &AtomicU32, knock: impl FnOnce() -> bool) {
    // AcqRel: of two wakers one takes the note, and it sees what the sleeper did before it left it.
    match doorbell.swap(AWAKE, Ordering::AcqRel) {
        AWAKE => {}
        FUTEX => futex::wake(doorbell),
        how => {
            if !knock() {
                // Nobody was woken: the note goes back, unless the sleeper has left another one meanwhile.
                let _ = doorbell.compare_exchange(AWAKE, how, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}
