//! What `crate::sync` is in the product, in loom's version.

pub(crate) use std::sync::atomic::Ordering;

use crate::faults::{Fault, has};
use crate::word::Role;
pub(crate) use crate::word::{AtomicU32, AtomicU64};

/// The fence of the sleeper's sequence.
pub(crate) fn fence(order: Ordering) {
    if !has(Fault::NoFenceInSleeper) {
        loom::sync::atomic::fence(order);
    }
}

/// In the product one sequentially consistent swap, after which the doorbell is loaded with sequential consistency.
/// loom treats sequentially consistent accesses as acquire and release only, so the fence is written out here.
///
/// The two forbid the same outcome, that sleeper and waker miss each other. Let C be the store of this word and D the
/// waker's load of the doorbell, in this order in the waker; N the sleeper's swap of the doorbell, F its fence and L its
/// last look at this word, in this order in the sleeper. Suppose that D does not see N, and L does not see C.
///
/// - Here, with a fence G between C and D: one of G and F comes first in the one order S of such fences. If G, then L,
///   which is behind F, sees C, which is before G. If F, then D sees N in the same way.
/// - In the product C, D, N and F are in S themselves. C is before D and N before F, by the order in their threads. D
///   reads what N replaced, and both are sequentially consistent: D is before N. L reads what C replaced, F is before L
///   in its thread, and C is sequentially consistent: F is before C. Together C, D, N, F, C: a circle, which S is not.
///
/// For other words than this one the fence is stronger than the swap: it also orders what the waker wrote before. No
/// wake-up depends on that: a consumer's last look is at the header that C is, or at that of the pad, which then is C; a
/// producer's is at the cursor that C is; and `End::announce_close`, which writes states, has a fence of its own.
pub(crate) fn store_and_fence(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
    let fault = match word.role() {
        Role::Ring => Fault::NoFenceAfterCommit,
        Role::ReadCursor => Fault::NoFenceAfterAnnouncement,
    };
    if !has(fault) {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// futex(2): the kernel compares the word under a lock that a waker takes too.
pub(crate) mod futex {
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    use super::{AtomicU32, Ordering};
    use crate::check::note;

    loom::lazy_static! {
        // One queue for all words: a sleeper that is woken for another word looks again, as after any wake-up. With it
        // the number of sleeps whose time is still to run out.
        static ref QUEUE: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
    }

    /// Sleeps until woken. A time that ran out would hide a lost wake-up, so that it does is asked for:
    /// [`let_time_run_out`]. Never ended by a signal.
    pub(crate) fn wait(word: &AtomicU32, expected: u32, _timeout: Duration) -> bool {
        let mut run_out = QUEUE.0.lock().unwrap();
        // Relaxed: the lock is all that orders it.
        if word.load(Ordering::Relaxed) != expected {
            return false;
        }
        if *run_out > 0 {
            // To be overtaken here is to have slept.
            *run_out -= 1;
            return false;
        }
        note(|seen| seen.futex_sleeps += 1);
        drop(QUEUE.1.wait(run_out).unwrap());
        false
    }

    pub(crate) fn wake(_word: &AtomicU32) {
        let _guard = QUEUE.0.lock().unwrap();
        QUEUE.1.notify_all();
    }

    /// The time of the next `sleeps` sleeps runs out before anyone wakes them.
    pub(crate) fn let_time_run_out(sleeps: u32) {
        *QUEUE.0.lock().unwrap() = sleeps;
    }
}
