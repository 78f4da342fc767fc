//! Doorbells: how a sleeper and its waker do not miss each other.
//!
//! Each direction has two doorbells: `data`, on which its consumer sleeps, and `space`, on which its producer sleeps.
//! They are the only words that both sides write, and they are only ever swapped, so no note is overwritten unread. The
//! sleeper notes how it sleeps; the waker takes the note away and acts on it. A busy pair never sleeps and makes no
//! system call; a burst to a sleeper makes one.
//!
//! ```text
//! sleeper                                   waker
//! 1  doorbell := FUTEX or FD                1  commit the record (or the cursor)
//! 2  full fence                             2  full fence (1 and 2 are one swap)
//! 3  poll the ring once more                3  read the doorbell
//! 4  nothing there: sleep                   4  not AWAKE: swap it to AWAKE, wake as the old value says
//! ```
//! A fence stands between 1 and 3 on both sides, so at least one of the two reads (3) sees what the other side wrote in
//! 1: either the sleeper does not sleep or the waker wakes it.
#![forbid(unsafe_code)]

use super::sync::{AtomicU32, Ordering, fence, futex};

/// Doorbell: no half sleeps on it.
pub(crate) const AWAKE: u32 = 0;
/// Doorbell: the sleeper waits in futex(2) on the doorbell itself.
pub(crate) const FUTEX: u32 = 1;
/// Doorbell: the sleeper waits for a packet on the lane. Any unknown value means this too.
pub(crate) const FD: u32 = 2;

/// The sleeper's sequence: notes how it sleeps, checks once more, and sleeps if it is still not `ready`.
#[inline]
pub(crate) fn sleep(doorbell: &AtomicU32, how: u32, ready: impl FnOnce() -> bool, go_to_sleep: impl FnOnce()) {
    arm(doorbell, how);
    if !ready() {
        go_to_sleep();
    }
    disarm(doorbell);
}

/// Takes the sleeper's note back.
#[inline]
pub(crate) fn disarm(doorbell: &AtomicU32) {
    // Relaxed: a waker that has swapped the doorbell before acts on the old note, and to wake a half that is awake is
    // harmless.
    doorbell.swap(AWAKE, Ordering::Relaxed);
}

/// Steps 1 and 2 of the sleeper alone, for a caller that sleeps in its own poll(2).
#[inline]
pub(crate) fn arm(doorbell: &AtomicU32, how: u32) {
    // SeqCst: pairs with the load in `ring_if_asleep`. If that load comes before this swap, so does the waker's commit,
    // and step 3 sees it.
    doorbell.swap(how, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// Wakes the sleeper on this side's own doorbell if it waits in futex(2). A note for a packet stays: an event loop or a
/// task may have left it, which goes on to wait. The caller has changed what the sleeper checks, with a full fence.
pub(crate) fn interrupt(doorbell: &AtomicU32) {
    // AcqRel: as in `ring`.
    if doorbell.compare_exchange(FUTEX, AWAKE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        futex::wake(doorbell);
    }
}

/// The waker's steps 3 and 4, after a commit with a full fence. `knock` sends a packet on the lane, and returns whether
/// the lane holds one.
#[inline]
pub(crate) fn ring_if_asleep(doorbell: &AtomicU32, knock: impl FnOnce() -> bool) {
    // SeqCst: pairs with the swap in `arm`.
    if doorbell.load(Ordering::SeqCst) != AWAKE {
        ring(doorbell, knock);
    }
}

/// The waker's step 4.
#[cold]
pub(crate) fn ring(doorbell: &AtomicU32, knock: impl FnOnce() -> bool) {
    // AcqRel: pairs with the swap in `arm`. Of two wakers one takes the note, and sees what the sleeper did before.
    match doorbell.swap(AWAKE, Ordering::AcqRel) {
        AWAKE => {}
        FUTEX => futex::wake(doorbell),
        how => {
            if !knock() {
                // The sleeper was not woken: the note goes back, unless the sleeper has left another one meanwhile.
                // AcqRel: as above.
                let _ = doorbell.compare_exchange(AWAKE, how, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}
