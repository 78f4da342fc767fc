//! Structs that may have more fields in another version of the library. Their first field is their size for the caller.

use crate::code;
use crate::failure::Failure;
use crate::input::bytes;

/// Bytes in the longest struct of any version; a larger size is a mistake of the caller.
const MAX_SIZE: usize = 4096;

/// The bytes before the first field that is not the size.
const HEAD: usize = size_of::<usize>();

/// The size in the struct at a pointer, as its caller stored it.
///
/// # Safety
/// `pointer` leads to a `size_t`.
unsafe fn size_at<T>(pointer: *const T) -> Result<usize, Failure> {
    // SAFETY: the caller upholds that there is a `size_t`.
    let size = unsafe { pointer.cast::<usize>().read() };
    if (HEAD..=MAX_SIZE).contains(&size) { Ok(size) } else { Err(Failure::plain(code::BAD_OPTIONS)) }
}

/// A struct that the library fills in. Its size field stays as the caller stored it.
pub(crate) struct GrowingOut<T> {
    to: *mut T,
    size: usize,
}

impl<T: Copy> GrowingOut<T> {
    /// # Safety
    /// `pointer` is NULL or leads to a `size_t`, and is writable for as many bytes until the call of C returns.
    pub(crate) unsafe fn new(pointer: *mut T, name: &str) -> Result<Self, Failure> {
        if pointer.is_null() {
            return Err(Failure::null(name));
        }
        // SAFETY: not NULL; the caller upholds that there is a `size_t`.
        let size = unsafe { size_at(pointer) }?;
        Ok(Self { to: pointer, size })
    }

    /// Writes the fields that the caller's struct has. Fields that this version does not have become zero.
    pub(crate) fn set(self, value: T) {
        let known = self.size.min(size_of::<T>()) - HEAD;
        // SAFETY: inside the struct, whose size is at least `HEAD`.
        let to = unsafe { self.to.cast::<u8>().add(HEAD) };
        // SAFETY: inside `value`, which begins with a `size_t` as well.
        let from = unsafe { (&raw const value).cast::<u8>().add(HEAD) };
        // SAFETY: the caller of `new` upholds that the whole size is writable.
        unsafe { to.write_bytes(0, self.size - HEAD) };
        // SAFETY: `known` bytes are inside both structs.
        unsafe { to.copy_from_nonoverlapping(from, known) };
    }
}

/// A struct of options. In a shorter one the missing fields are zero; in a longer one the fields that this version does
/// not have must be zero. Zero is the default of every field.
pub(crate) trait Options: Copy {
    const DEFAULT: Self;
}

/// The options at a pointer; the default for NULL.
///
/// # Safety
/// `pointer` is NULL or leads to a `size_t`, and is readable for as many bytes.
pub(crate) unsafe fn options<T: Options>(pointer: *const T) -> Result<T, Failure> {
    let mut options = T::DEFAULT;
    if pointer.is_null() {
        return Ok(options);
    }
    // SAFETY: not NULL; the caller upholds that there is a `size_t`.
    let size = unsafe { size_at(pointer) }?;
    // SAFETY: the caller upholds that `size` bytes are readable.
    let given = unsafe { bytes(pointer.cast(), size, "options") }?;
    let (known, unknown) = given.split_at(size.min(size_of::<T>()));
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(Failure::plain(code::BAD_OPTIONS));
    }
    // SAFETY: `known` is at most as long as `T`, plain data of C for which all bytes are valid.
    unsafe { (&raw mut options).cast::<u8>().copy_from_nonoverlapping(known.as_ptr(), known.len()) };
    Ok(options)
}
