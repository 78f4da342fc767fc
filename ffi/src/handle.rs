//! Handles: what C holds by pointer, and the one way from such a pointer to a value and back.

use std::cell::Cell;
use std::ptr::NonNull;

use crate::code;
use crate::failure::Failure;

/// A type whose values C holds by pointer.
pub trait Kind {
    /// What it is called where its pointer is NULL.
    const NAME: &'static str;
    /// Tells it from the other kinds. Any number but 0.
    const TAG: u64;
}

/// What a handle's pointer leads to.
#[repr(C)]
pub struct Handle<T> {
    /// `T::TAG`: finds a handle of another kind, in an item of a transfer list for example. It cannot find one that was
    /// freed for certain, and nothing can.
    tag: Cell<u64>,
    value: T,
}

impl<T: Kind> Handle<T> {
    /// Hands a value to C.
    pub(crate) fn give(value: T) -> *mut Self {
        Box::into_raw(Box::new(Self { tag: Cell::new(T::TAG), value }))
    }

    /// The value behind a pointer of C.
    ///
    /// # Safety
    /// The pointer is NULL or leads to a handle of some kind that lives for `'a`, and nobody holds its `get_mut`.
    #[inline]
    pub(crate) unsafe fn get<'a>(pointer: *const Self) -> Result<&'a T, Failure> {
        // SAFETY: NULL, or alive for 'a, says the caller.
        let handle = unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(T::NAME))?;
        if handle.tag.get() == T::TAG { Ok(&handle.value) } else { Err(Failure::plain(code::BAD_HANDLE)) }
    }

    /// The value behind a pointer of C, to be changed.
    ///
    /// # Safety
    /// As for [`get`](Self::get), and nobody else uses the handle for `'a`.
    #[inline]
    pub(crate) unsafe fn get_mut<'a>(pointer: *mut Self) -> Result<&'a mut T, Failure> {
        // SAFETY: what `get` asks for; the shared reference ends here.
        unsafe { Self::get(pointer) }?;
        // SAFETY: not NULL, and nobody else uses it, says the caller.
        let handle = unsafe { &mut *pointer };
        Ok(&mut handle.value)
    }

    /// Takes the value back from C. NULL is nobody.
    ///
    /// # Safety
    /// As for [`get_mut`](Self::get_mut), and the pointer is not used again.
    pub(crate) unsafe fn take(pointer: *mut Self) -> Option<T> {
        // SAFETY: what `get` asks for.
        unsafe { Self::get(pointer) }.ok()?;
        // SAFETY: it came from `give`, as its tag shows, and this is the last use.
        let handle = unsafe { Box::from_raw(pointer) };
        handle.tag.set(0);
        Some(handle.value)
    }
}

/// Where a result goes: checked first, written last.
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    #[inline]
    pub(crate) fn new(pointer: *mut T, name: &str) -> Result<Self, Failure> {
        NonNull::new(pointer).map(Self).ok_or_else(|| Failure::null(name))
    }

    /// # Safety
    /// The pointer that this was made of is writable.
    #[inline]
    pub(crate) unsafe fn set(self, value: T) {
        // SAFETY: writable, says the caller; what was there is plain data.
        unsafe { self.0.write(value) };
    }
}
