//! The closer: threads on which close(2) may wait.
//!
//! A descriptor that came from a peer can be of a kind whose closing waits: a socket that lingers, a file whose file
//! system flushes it first. Whatever may be such a descriptor is closed here, so that no call of the user waits for it.
//! A thread starts when work waits and every other thread is at work, and ends when no work waits. So what is slow to
//! close delays nothing else, up to [`MAX_THREADS`].

use std::collections::VecDeque;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};

use super::fork::Home;

/// At most 16 threads.
const MAX_THREADS: usize = 16;
/// From 256 pieces of work that wait, a peer may add no more; see [`is_overdue`].
const OVERDUE: usize = 256;
/// Bytes of a thread's stack, 64 KiB: a few system calls need far less.
const STACK: usize = 64 << 10;

type Work = Box<dyn FnOnce() + Send>;

/// The closer of this process, or that of the process which this one was forked from. A closer is never freed: a forked
/// child cannot know in which state it inherited the parent's.
static CLOSER: AtomicPtr<Closer> = AtomicPtr::new(null_mut());

struct Closer {
    home: Home,
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that are at work. The others are about to look for some.
    working: usize,
}

impl State {
    /// True if work waits that only a further thread takes without delay. That thread is counted already.
    fn needs_thread(&mut self) -> bool {
        let needed = !self.waiting.is_empty() && self.working == self.threads && self.threads < MAX_THREADS;
        self.threads += usize::from(needed);
        needed
    }
}

/// Does `work`, which may close descriptors of any kind, where no caller waits for it. If no thread can be started,
/// that is here.
pub(crate) fn elsewhere(work: impl FnOnce() + Send + 'static) {
    match Closer::here() {
        Some(closer) => closer.add(Box::new(work)),
        None => work(),
    }
}

/// As [`elsewhere`], and waits for the end of `work`, at most `timeout`. False if `work` has not ended by then; it goes
/// on.
pub(crate) fn elsewhere_within(timeout: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    let (done, end) = mpsc::channel();
    elsewhere(move || {
        work();
        let _ = done.send(()); // fails if the caller has given up
    });
    end.recv_timeout(timeout).is_ok()
}

/// True while so much waits to be closed that a peer which adds to it ends its channel. Otherwise a peer could keep
/// any number of descriptors open here.
pub(crate) fn is_overdue() -> bool {
    Closer::here().is_some_and(|closer| closer.state().waiting.len() >= OVERDUE)
}

impl Closer {
    /// The closer of this process. `None` for want of memory.
    fn here() -> Option<&'static Self> {
        loop {
            // Acquire: pairs with the release in the exchange below.
            let found = CLOSER.load(Ordering::Acquire);
            // SAFETY: the pointer is null or was made by `Box::leak`, and what it points at is never freed.
            if let Some(closer) = unsafe { found.as_ref() }
                && closer.home.is_here()
            {
                return Some(closer);
            }
            // The first one of this process. That of a parent stays untouched: a thread of the parent may have held
            // its lock at the fork.
            let state = State { waiting: VecDeque::new(), threads: 0, working: 0 };
            let new = Box::into_raw(Box::new(Self { home: Home::here().ok()?, state: Mutex::new(state) }));
            // Release: pairs with the acquire load above.
            if CLOSER.compare_exchange(found, new, Ordering::Release, Ordering::Relaxed).is_err() {
                // SAFETY: `into_raw` made the pointer above, and the failed exchange has given it to nobody.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, work: Work) {
        let mut state = self.state();
        if state.waiting.try_reserve(1).is_err() {
            drop(state);
            return work();
        }
        state.waiting.push_back(work);
        if !state.needs_thread() {
            return;
        }
        drop(state);
        if self.start().is_err() {
            let mut state = self.state();
            state.threads -= 1;
            if state.threads == 0 {
                let waiting = std::mem::take(&mut state.waiting);
                drop(state);
                waiting.into_iter().for_each(|work| work());
            }
        }
    }

    /// Starts a thread that handles no signals: it inherits the mask of its maker.
    fn start(&'static self) -> std::io::Result<()> {
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let thread = thread::Builder::new().name("messageport".to_owned()).stack_size(STACK);
        let started = thread.spawn(|| self.run());
        let _ = mask.thread_set_mask(); // a mask that was in force is valid
        started.map(drop)
    }

    /// Works until nothing waits.
    fn run(&'static self) {
        loop {
            let mut state = self.state();
            let Some(work) = state.waiting.pop_front() else {
                state.threads -= 1;
                return;
            };
            state.working += 1;
            let needs_thread = state.needs_thread();
            drop(state);
            if needs_thread && self.start().is_err() {
                self.state().threads -= 1; // not the last one, which is this
            }
            work();
            self.state().working -= 1;
        }
    }
}
