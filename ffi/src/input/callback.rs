//! The user data of functions of C, which is destroyed exactly once.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `msgport_destroy`.
pub type Destroy = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// User data. Dropping it calls the destructor.
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
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy
            // Relaxed: the only store, in `Owner::give_back`, is made by the thread that drops.
            && self.is_owned.load(Ordering::Relaxed)
        {
            // SAFETY: the caller of C passed this destructor for this data, and a value is dropped once.
            unsafe { destroy(self.data) };
        }
    }
}
