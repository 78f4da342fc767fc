//! The atomics, the fence and the futex of the library's `queue/sync.rs`, made of loom's.

pub(crate) use std::sync::atomic::Ordering;

use crate::faults::{Fault, has};
use crate::word::WordRole;
pub(crate) use crate::word::{AtomicU32, AtomicU64};

/// The fence of the sleeper's sequence.
pub(crate) fn fence(order: Ordering) {
    if !has(Fault::NoFenceInSleeper) {
        loom::sync::atomic::fence(order);
    }
}

/// A release store and a fence. In the library this is one sequentially consistent swap, after which the doorbell is
/// loaded with sequential consistency; loom treats sequentially consistent accesses as acquire and release only, so
/// here the fence is explicit.
///
/// Both forms forbid the same outcome, that sleeper and waker miss each other. Let C be the store of this word and D
/// the waker's load of the doorbell, in this order in the waker; N the sleeper's swap of the doorbell, F its fence and
/// L its last load of this word, in this order in the sleeper. Suppose that D does not see N, and L does not see C.
///
/// - Here, with a fence G between C and D: one of G and F comes first in the one order S of such fences. If G, then L,
///   which is behind F, sees C, which is before G. If F, then D sees N in the same way.
/// - In the library C, D, N and F are in S themselves. C is before D and N before F, by the order in their threads. D
///   reads what N replaced, and both are sequentially consistent: D is before N. L reads what C replaced, F is before L
///   in its thread, and C is sequentially consistent: F is before C. Together C, D, N, F, C: a circle, which S cannot
///   have.
///
/// For other words than this one the fence is stronger than the swap: it also orders what the waker wrote before. No
/// wake-up depends on that. A consumer's last poll loads the header that C stores, which is the pad's if there is a
/// pad; a producer's last check loads the cursor that C stores; and `End::announce_close`, which stores states, has its
/// own fence.
pub(crate) fn store_and_fence(word: &AtomicU64, value: u64) {
    // Release: pairs with the acquire load of the word, as in the library.
    word.store(value, Ordering::Release);
    let fault = match word.role() {
        WordRole::Ring => Fault::NoFenceAfterCommit,
        WordRole::ReadCursor | WordRole::Wanted => Fault::NoFenceAfterAnnouncement,
    };
    if !has(fault) {
        // SeqCst: pairs with the fence in `doorbell::arm`.
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// futex(2): the kernel compares the word under a lock, which a waker takes too.
pub(crate) mod futex {
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    use super::{AtomicU32, Ordering};
    use crate::check::note;

    loom::lazy_static! {
        // One queue for all words: a sleeper that is woken for another word checks again, as after any wake-up. The
        // mutex holds the number of sleeps that still time out.
        static ref QUEUE: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
    }

    /// Sleeps until woken. No signal ends the sleep. A timeout would hide a lost wake-up, so a sleep times out only
    /// after [`let_time_run_out`].
    pub(crate) fn wait(word: &AtomicU32, expected: u32, _timeout: Duration) -> bool {
        let mut timeouts = QUEUE.0.lock().unwrap();
        // Relaxed: ordered by the lock alone.
        if word.load(Ordering::Relaxed) != expected {
            return false;
        }
        if *timeouts > 0 {
            // Other threads run between this sleep and the next check, which is all that a sleep means to them.
            *timeouts -= 1;
            return false;
        }
        note(|tally| tally.futex_sleeps += 1);
        drop(QUEUE.1.wait(timeouts).unwrap());
        false
    }

    pub(crate) fn wake(_word: &AtomicU32) {
        let _guard = QUEUE.0.lock().unwrap();
        QUEUE.1.notify_all();
    }

    /// Lets the next `sleeps` sleeps time out before they are woken.
    pub(crate) fn let_time_run_out(sleeps: u32) {
        *QUEUE.0.lock().unwrap() = sleeps;
    }
}
