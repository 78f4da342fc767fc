//! Functions of C with the data that they are called with, which is given back to C exactly once.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `msgport_destroy`.
pub type Destroy = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// User data. Dropping it calls the destructor.
pub(crate) struct User {
    data: *mut c_void,
    destroy: Destroy,
    /// False: it is still the caller's.
    ours: Arc<AtomicBool>,
}

// SAFETY: for tasks that go to another thread, which the header asks the caller to make the data fit for.
unsafe impl Send for User {}

impl User {
    pub(crate) fn new(data: *mut c_void, destroy: Destroy) -> Self {
        Self { data, destroy, ours: Arc::new(AtomicBool::new(true)) }
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data
    }

    /// What can still give it back to the caller untouched.
    pub(crate) fn owner(&self) -> Owner {
        Owner(Arc::clone(&self.ours))
    }
}

pub(crate) struct Owner(Arc<AtomicBool>);

impl Owner {
    pub(crate) fn give_back(&self) {
        // Relaxed: told to this very thread, which drops the data next.
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy
            && self.ours.load(Ordering::Relaxed)
        {
            // SAFETY: the caller gave us this function for this data, and this is the one call.
            unsafe { destroy(self.data) };
        }
    }
}
