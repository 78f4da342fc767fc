//! Bytes and texts.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use crate::code;
use crate::failure::Failure;

/// Bytes in the longest object that Rust allows; more is a mistake of the caller.
const MAX: usize = isize::MAX as usize;

/// Bytes to read. NULL is allowed if `len` is 0.
///
/// # Safety
/// `data` is readable for `len` bytes, which do not change during `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: usize, name: &str) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || len > MAX {
        return Err(bad_bytes(data, name));
    }
    // SAFETY: not NULL and at most `MAX` bytes; the caller upholds that they are readable and do not change.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// Bytes to write. NULL is allowed if `len` is 0.
///
/// # Safety
/// `data` is writable for `len` bytes, which nothing else accesses during `'a`.
pub(crate) unsafe fn bytes_mut<'a>(data: *mut c_void, len: usize, name: &str) -> Result<&'a mut [u8], Failure> {
    if len == 0 {
        return Ok(&mut []);
    }
    if data.is_null() || len > MAX {
        return Err(bad_bytes(data, name));
    }
    // SAFETY: not NULL and at most `MAX` bytes; the caller upholds that they are writable and exclusive.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), len) })
}

#[cold]
fn bad_bytes(data: *const c_void, name: &str) -> Failure {
    if data.is_null() { Failure::null(name) } else { Failure::bad_argument("a length is more than PTRDIFF_MAX") }
}

/// A text that ends with NUL.
///
/// # Safety
/// `text` is NULL or such a text, which does not change during `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a CStr, Failure> {
    if text.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: not NULL; the caller upholds that it ends with NUL and does not change.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// The name of a listener or of a shared buffer: UTF-8 that ends with NUL.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn name<'a>(name: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: the same condition, which the caller upholds.
    let name = unsafe { text(name, "name") }?;
    name.to_str().map_err(|_| Failure::plain(code::BAD_NAME))
}

/// A duplicate, closed on exec, of a descriptor that the caller keeps.
///
/// # Safety
/// A descriptor that is open stays open until this returns.
pub(crate) unsafe fn copy_of(descriptor: c_int, name: &str) -> Result<OwnedFd, Failure> {
    if descriptor < 0 {
        return Err(Failure::bad_argument(&format!("{name} is not a descriptor")));
    }
    // SAFETY: not negative, and used for one system call, which fails if the number is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned().map_err(|error| Failure::of_system(&error, &error))
}

/// The texts of a list that ends with NULL.
///
/// # Safety
/// `list` leads to texts that end with NUL, and behind the last of them to NULL. None of it changes during `'a`.
pub(crate) unsafe fn list_of_texts<'a>(list: *const *const c_char) -> Vec<&'a OsStr> {
    let mut texts = Vec::new();
    for index in 0.. {
        // SAFETY: `index` is at most that of the NULL, where the loop ends.
        let place = unsafe { list.add(index) };
        // SAFETY: inside the list; the caller upholds that it is readable.
        let pointer = unsafe { place.read() };
        // SAFETY: a text or the NULL at the end; the caller upholds it.
        let Ok(text) = (unsafe { text(pointer, "") }) else { break };
        texts.push(OsStr::from_bytes(text.to_bytes()));
    }
    texts
}
