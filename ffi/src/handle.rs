//! Handles, which C holds by pointer: the only way from a pointer of C to a value of Rust and back.

use std::cell::Cell;
use std::ptr::NonNull;

use crate::code;
use crate::failure::Failure;

/// A type whose values C holds by pointer.
pub trait Object {
    /// The name of the argument in failures: "port is NULL". Its first eight bytes distinguish the type.
    const NAME: &'static str;
}

/// A number for each type of handle: the first bytes of its name.
const fn tag(name: &str) -> u64 {
    let (bytes, mut tag, mut index) = (name.as_bytes(), [0; 8], 0);
    while index < bytes.len() && index < tag.len() {
        tag[index] = bytes[index];
        index += 1;
    }
    u64::from_le_bytes(tag)
}

/// The target of a handle's pointer.
#[repr(C)]
pub struct Handle<T> {
    /// `tag(T::NAME)` while the handle lives, 0 once it is freed. Detects a handle of another type, in an item of a
    /// transfer list for example. The use of a freed handle cannot be detected reliably.
    tag: Cell<u64>,
    value: T,
}

impl<T: Object> Handle<T> {
    const TAG: u64 = tag(T::NAME);

    /// Gives a value to C.
    pub(crate) fn give(value: T) -> *mut Self {
        Box::into_raw(Box::new(Self { tag: Cell::new(Self::TAG), value }))
    }

    /// The value behind a pointer of C.
    ///
    /// # Safety
    /// The pointer is NULL or leads to a handle of any type that lives for `'a`, without a reference from
    /// [`get_mut`](Self::get_mut).
    #[inline]
    pub(crate) unsafe fn get<'a>(pointer: *const Self) -> Result<&'a T, Failure> {
        // SAFETY: NULL, or alive for 'a; the caller of this function upholds it.
        let handle = unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(T::NAME))?;
        if handle.tag.get() == Self::TAG { Ok(&handle.value) } else { Err(Failure::plain(code::BAD_HANDLE)) }
    }

    /// The value behind a pointer of C, for a call that changes it.
    ///
    /// # Safety
    /// As for [`get`](Self::get), and no other reference to the handle exists during `'a`.
    #[inline]
    pub(crate) unsafe fn get_mut<'a>(pointer: *mut Self) -> Result<&'a mut T, Failure> {
        // SAFETY: the conditions of `get`, which the caller upholds; the shared reference ends here.
        unsafe { Self::get(pointer) }?;
        // SAFETY: not NULL, or `get` had failed; the caller upholds that there is no other reference.
        let handle = unsafe { &mut *pointer };
        Ok(&mut handle.value)
    }

    /// As [`get_mut`](Self::get_mut), with `None` for NULL.
    ///
    /// # Safety
    /// As for [`get_mut`](Self::get_mut).
    pub(crate) unsafe fn get_optional<'a>(pointer: *mut Self) -> Result<Option<&'a mut T>, Failure> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: the same conditions, which the caller upholds.
        unsafe { Self::get_mut(pointer) }.map(Some)
    }

    /// Takes the value back from C. `None` for NULL and for a handle of another type.
    ///
    /// # Safety
    /// As for [`get_mut`](Self::get_mut), and the pointer is not used again.
    pub(crate) unsafe fn take(pointer: *mut Self) -> Option<T> {
        // SAFETY: the conditions of `get`, which the caller upholds.
        unsafe { Self::get(pointer) }.ok()?;
        // SAFETY: the tag shows that `give` made it; the caller upholds that this is its last use.
        let handle = unsafe { Box::from_raw(pointer) };
        handle.tag.set(0);
        Some(handle.value)
    }
}

/// A place for a result: checked before the call does anything, written once it has succeeded.
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// # Safety
    /// `pointer` is NULL or writable until the call of C returns.
    #[inline]
    pub(crate) unsafe fn new(pointer: *mut T, name: &str) -> Result<Self, Failure> {
        NonNull::new(pointer).map(Self).ok_or_else(|| Failure::null(name))
    }

    /// A place that C does not need filled: `None` for NULL.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    #[inline]
    pub(crate) unsafe fn optional(pointer: *mut T) -> Option<Self> {
        NonNull::new(pointer).map(Self)
    }

    #[inline]
    pub(crate) fn set(self, value: T) {
        // SAFETY: the caller of `new` or `optional` upholds that it is writable; the old value is plain data.
        unsafe { self.0.write(value) };
    }
}

impl<T: Object> Out<*mut Handle<T>> {
    /// Gives C a new handle of this value.
    pub(crate) fn give(self, value: T) {
        self.set(Handle::give(value));
    }
}
