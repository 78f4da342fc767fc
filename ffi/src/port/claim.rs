//! The claim of a thread on an event loop and its ports, which are used by one thread at a time.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use messageport::Home;

use crate::code;
use crate::failure::Failure;

thread_local! {
    /// Its address identifies the thread.
    static HERE: u8 = const { 0 };
}

/// Shared by a loop and its ports. Calls on them nest, inside the handlers of the loop.
#[derive(Clone)]
pub(crate) struct Claims(Arc<State>);

struct State {
    /// The thread that has the claim, 0 without one.
    holder: AtomicUsize,
    /// Calls of the holder that have not returned.
    depth: Cell<usize>,
    /// The process that made the loop.
    home: Home,
}

// SAFETY: only the holder uses `depth`, and a holder is one thread.
unsafe impl Sync for State {}

impl Claims {
    pub(crate) fn new() -> Result<Self, Failure> {
        let home = Home::here().map_err(|errno| Failure::exhausted(&errno.into()))?;
        Ok(Self(Arc::new(State { holder: AtomicUsize::new(0), depth: Cell::new(0), home })))
    }

    /// Claims the loop for a call of this thread. Fails while another thread is in a call.
    pub(crate) fn enter(&self) -> Result<Claim, Failure> {
        let here = HERE.with(|here| std::ptr::from_ref(here).addr());
        // Relaxed: only this thread stores its own address.
        if self.0.holder.load(Ordering::Relaxed) != here {
            // Acquire: pairs with the release in `Claim::drop`, of the thread that used the loop before. Relaxed for a
            // failure, after which nothing is read.
            if self.0.holder.compare_exchange(0, here, Ordering::Acquire, Ordering::Relaxed).is_err() {
                return Err(Failure::plain(if self.0.home.is_here() { code::RUNNING } else { code::FORKED }));
            }
        }
        self.0.depth.set(self.0.depth.get() + 1);
        Ok(Claim(Arc::clone(&self.0), PhantomData))
    }
}

/// A claim of this thread, which it does not leave: the pointer makes it not `Send`.
pub(crate) struct Claim(Arc<State>, PhantomData<*const ()>);

impl Drop for Claim {
    fn drop(&mut self) {
        let depth = self.0.depth.get() - 1;
        self.0.depth.set(depth);
        if depth == 0 {
            // Release: pairs with the acquire in `Claims::enter`.
            self.0.holder.store(0, Ordering::Release);
        }
    }
}
