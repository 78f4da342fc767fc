//! What C passes in: bytes, texts, times, and structs of options that may grow.

use std::ffi::{CStr, c_char, c_void};
use std::time::{Duration, Instant};

use crate::code;
use crate::failure::Failure;

/// `MSGPORT_FOREVER` is any negative time.
#[derive(Clone, Copy)]
pub(crate) enum Timeout {
    /// Only look.
    None,
    For(Duration),
    Forever,
}

impl Timeout {
    pub(crate) fn of_nanoseconds(timeout: i64) -> Self {
        match u64::try_from(timeout) {
            Ok(0) => Self::None,
            Ok(nanoseconds) => Self::For(Duration::from_nanos(nanoseconds)),
            Err(_) => Self::Forever,
        }
    }

    /// `None`: as long as it takes.
    pub(crate) fn until_forever(self) -> Option<Duration> {
        match self {
            Self::None => Some(Duration::ZERO),
            Self::For(time) => Some(time),
            Self::Forever => None,
        }
    }
}

/// A timeout that covers several calls.
pub(crate) enum Deadline {
    /// None of them waits, or each for as long as it takes.
    Same(i64),
    Until(Instant),
}

impl Deadline {
    pub(crate) fn of_nanoseconds(timeout: i64) -> Self {
        match Timeout::of_nanoseconds(timeout) {
            // A time too far away to be told is no deadline.
            Timeout::For(time) => Instant::now().checked_add(time).map_or(Self::Same(-1), Self::Until),
            _ => Self::Same(timeout),
        }
    }

    pub(crate) fn left(&self) -> Timeout {
        match self {
            Self::Same(timeout) => Timeout::of_nanoseconds(*timeout),
            Self::Until(deadline) => Timeout::For(deadline.saturating_duration_since(Instant::now())),
        }
    }
}

/// Bytes to be read. NULL is allowed for none.
///
/// # Safety
/// `data` is readable for `len` bytes, and nobody writes to them for `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: usize, name: &str) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || len > MAX {
        return Err(bad_bytes(data, name));
    }
    // SAFETY: not NULL, readable and unchanging, says the caller; `len` is not over `MAX`.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// Bytes to be written. NULL is allowed for none.
///
/// # Safety
/// `data` is writable for `len` bytes that have a value, and nobody else touches them for `'a`.
pub(crate) unsafe fn bytes_mut<'a>(data: *mut c_void, len: usize, name: &str) -> Result<&'a mut [u8], Failure> {
    if len == 0 {
        return Ok(&mut []);
    }
    if data.is_null() || len > MAX {
        return Err(bad_bytes(data, name));
    }
    // SAFETY: not NULL, writable and ours, says the caller; `len` is not over `MAX`.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), len) })
}

#[cold]
fn bad_bytes(data: *const c_void, name: &str) -> Failure {
    if data.is_null() { Failure::null(name) } else { Failure::bad_argument("a length is more than PTRDIFF_MAX") }
}

/// No memory is longer.
const MAX: usize = isize::MAX as usize;

/// A text that ends with zero.
///
/// # Safety
/// `text` is NULL or such a text, and does not change for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a CStr, Failure> {
    if text.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: not NULL, a text that ends with zero, says the caller.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// A struct that the library fills in. Its first field says how long it is for the caller, and stays.
pub(crate) struct Answer<T> {
    to: *mut T,
    size: usize,
}

impl<T: Copy> Answer<T> {
    /// # Safety
    /// `pointer` is NULL or leads to a `size_t`.
    pub(crate) unsafe fn new(pointer: *mut T, name: &str) -> Result<Self, Failure> {
        if pointer.is_null() {
            return Err(Failure::null(name));
        }
        // SAFETY: there is a `size_t`, says the caller.
        let size = unsafe { pointer.cast::<usize>().read() };
        if !(size_of::<usize>()..=4096).contains(&size) {
            return Err(Failure::plain(code::BAD_OPTIONS));
        }
        Ok(Self { to: pointer, size })
    }

    /// Fills in what there is room for. Room that is not known here becomes zero.
    ///
    /// # Safety
    /// The struct is writable, as long as its size says.
    pub(crate) unsafe fn set(self, value: T) {
        const HEAD: usize = size_of::<usize>();
        let known = self.size.min(size_of::<T>()) - HEAD;
        // SAFETY: inside the struct, says the caller.
        let to = unsafe { self.to.cast::<u8>().add(HEAD) };
        // SAFETY: inside `value`.
        let from = unsafe { (&raw const value).cast::<u8>().add(HEAD) };
        // SAFETY: writable for the whole size, says the caller.
        unsafe { to.write_bytes(0, self.size - HEAD) };
        // SAFETY: not longer than either of the two.
        unsafe { to.copy_from_nonoverlapping(from, known) };
    }
}

/// A struct of options: its first field says how long it is for the caller. One that is shorter than ours lacks fields,
/// which are zero then; one that is longer has fields that we do not know, which must be zero. Zero is the default of
/// every field.
pub(crate) trait Options: Copy {
    const DEFAULT: Self;
}

/// # Safety
/// `pointer` is NULL or leads to a `size_t`, and to as many bytes as that says.
pub(crate) unsafe fn options<T: Options>(pointer: *const T) -> Result<T, Failure> {
    let mut options = T::DEFAULT;
    if pointer.is_null() {
        return Ok(options);
    }
    // SAFETY: there is a `size_t`, says the caller.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size < size_of::<usize>() || size > 4096 {
        return Err(Failure::plain(code::BAD_OPTIONS));
    }
    // SAFETY: as many bytes as `size` says, says the caller.
    let given = unsafe { bytes(pointer.cast(), size, "options") }?;
    let (known, unknown) = given.split_at(size.min(size_of::<T>()));
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(Failure::plain(code::BAD_OPTIONS));
    }
    // SAFETY: `known` is not longer than `T`, which is plain data of C for which all bytes are valid.
    unsafe { (&raw mut options).cast::<u8>().copy_from_nonoverlapping(known.as_ptr(), known.len()) };
    Ok(options)
}
