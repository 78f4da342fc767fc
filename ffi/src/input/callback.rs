//! The user data of functions of C, which is destroyed exactly once.

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `msgport_destroy`.
pub type Destroy = Option<unsafe extern "C" fn(user: *mut c_void)>;

type Destructor = (unsafe extern "C" fn(user: *mut c_void), *mut c_void);

thread_local! {
    /// The destructors that wait for the end of the [`Deferral`] of this thread. `None` without one.
    static DEFERRED: RefCell<Option<Vec<Destructor>>> = const { RefCell::new(None) };
}

/// Defers the destructors of all user data that this thread drops until the deferral itself is dropped.
///
/// A destructor may free any handle, the port or loop of the call that drops its data included. A function that drops
/// user data while it uses a handle therefore begins a deferral before it follows the pointer of that handle: values
/// are dropped in the reverse order of their declarations, so the destructors run after the last use of the handle. No
/// handler runs during a deferral.
#[must_use]
pub(crate) struct Deferral {
    /// The list of the deferral in which this one began.
    outer: Option<Vec<Destructor>>,
}

impl Deferral {
    pub(crate) fn begin() -> Self {
        // In a thread that is ending there is no list, and nothing is deferred.
        let outer = DEFERRED.try_with(|deferred| deferred.replace(Some(Vec::new())));
        Self { outer: outer.ok().flatten() }
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        let mine = DEFERRED.try_with(|deferred| deferred.replace(self.outer.take())).ok().flatten();
        for (destroy, data) in mine.unwrap_or_default() {
            // SAFETY: `User::drop` put it here instead of calling it: the destructor of this data, called once.
            unsafe { destroy(data) };
        }
    }
}

/// User data. Dropping it calls the destructor, at once or at the end of the [`Deferral`].
pub(crate) struct User {
    data: *mut c_void,
    destroy: Destroy,
    /// False once the data belongs to the caller again.
    is_owned: Arc<AtomicBool>,
}

// SAFETY: a task and its data may run and be destroyed on another thread; the caller of `msgport_remote_post_task`
// upholds that the data allows it. Handlers and timers stay on the thread of their loop.
unsafe impl Send for User {}

impl User {
    pub(crate) fn new(data: *mut c_void, destroy: Destroy) -> Self {
        Self { data, destroy, is_owned: Arc::new(AtomicBool::new(true)) }
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data
    }

    /// A way to give the data back to the caller, undestroyed, from outside the closure that owns it.
    pub(crate) fn owner(&self) -> Owner {
        Owner(Arc::clone(&self.is_owned))
    }
}

pub(crate) struct Owner(Arc<AtomicBool>);

impl Owner {
    pub(crate) fn give_back(&self) {
        // Relaxed: read by `User::drop` on this thread, which drops the user data next.
        self.0.store(false, Ordering::Relaxed);
    }

    /// Ends [`give_back`](Self::give_back).
    pub(crate) fn take_over(&self) {
        // Relaxed: as in `give_back`.
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy
            // Relaxed: the stores, in `Owner`, are made by the thread that drops, or before the data goes elsewhere.
            && self.is_owned.load(Ordering::Relaxed)
        {
            let is_deferred = DEFERRED.try_with(|deferred| {
                deferred.borrow_mut().as_mut().map(|list| list.push((destroy, self.data))).is_some()
            });
            if !is_deferred.unwrap_or(false) {
                // SAFETY: the caller of C passed this destructor for this data, and a value is dropped once.
                unsafe { destroy(self.data) };
            }
        }
    }
}
