//! A value that a shared reference does not reach.

use std::any::Any;
use std::fmt;

/// A value that its owner reaches by value or `&mut` only. It is `Sync` although the value may not be, so an error that
/// contains it can be shared between threads.
#[derive(Default)]
pub struct Exclusive<T: ?Sized>(T);

// SAFETY: the only way from a shared `Exclusive` to its value is `downcast_ref`, which reads the value's vtable and
// returns a reference to a `Sync` type. `Debug` does not read the value. So several threads that share an `Exclusive`
// never use the value at a time, and the last of them may drop it, since it is `Send`.
unsafe impl<T: ?Sized + Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The value, to be used in place.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl Exclusive<Box<dyn Any + Send>> {
    /// The value, if it is a `T`, as in [`downcast_ref`](trait@std::any::Any#method.downcast_ref).
    pub fn downcast_ref<T: Any + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl<T: ?Sized> fmt::Debug for Exclusive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusive").finish_non_exhaustive()
    }
}
