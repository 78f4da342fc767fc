//! What `crate::sync` is in the product, in loom's version, with a switch for the faults of the controls.

use std::cell::Cell;

pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
pub(crate) use std::sync::atomic::Ordering;

/// What a control breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// Commits and announcements are relaxed stores.
    NoRelease,
    /// Commits and announcements have no fence behind them.
    NoFenceAfterStore,
    /// The sleeper does not put a fence between its note and its last look.
    NoFenceInSleeper,
}

thread_local! {
    // loom runs all threads of a model on the thread that started it.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

/// Breaks the models that this thread runs from now on.
pub(crate) fn inject(fault: Fault) {
    FAULT.set(fault);
}

/// The fence of the sleeper's sequence.
pub(crate) fn fence(order: Ordering) {
    if FAULT.get() != Fault::NoFenceInSleeper {
        loom::sync::atomic::fence(order);
    }
}

/// In the product one sequentially consistent swap, after which the doorbell is loaded with sequential consistency.
///
/// loom treats sequentially consistent accesses as acquire and release only, so the fence is written out here. The
/// two forbid the same outcome, that sleeper and waker miss each other. With fences: the waker's fence is before or
/// after the sleeper's in the one order S of all fences; if before, the sleeper's look sees the commit; if after, the
/// waker's look sees the note. In the product the swap C and the waker's look D are in S themselves, C before D, and
/// the note N before the sleeper's fence F. If D does not see N, then D is before N in S, so C before F, and the look
/// behind F sees C.
pub(crate) fn store_and_fence(word: &AtomicU64, value: u64) {
    match FAULT.get() {
        Fault::NoRelease => word.store(value, Ordering::Relaxed),
        _ => word.store(value, Ordering::Release),
    }
    if FAULT.get() != Fault::NoFenceAfterStore {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// futex(2): the kernel compares the word under a lock that a waker takes too.
pub(crate) mod futex {
    use loom::sync::{Condvar, Mutex};

    use super::{AtomicU32, Ordering};

    loom::lazy_static! {
        // One queue for all words: a sleeper that is woken for another word looks again, as after any wake-up.
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub(crate) fn wait(word: &AtomicU32, expected: u32) {
        let guard = QUEUE.0.lock().unwrap();
        if word.load(Ordering::Acquire) == expected {
            drop(QUEUE.1.wait(guard).unwrap());
        }
    }

    pub(crate) fn wake(_word: &AtomicU32) {
        let _guard = QUEUE.0.lock().unwrap();
        QUEUE.1.notify_all();
    }
}
