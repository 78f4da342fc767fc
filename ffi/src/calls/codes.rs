//! The version, and the descriptions of codes.

use std::ffi::{c_char, c_int};

use crate::code::{self, Code};
use crate::failure::Failure;

#[unsafe(no_mangle)]
pub extern "C" fn msgport_version() -> u32 {
    const fn number(text: &str) -> u32 {
        let (bytes, mut value, mut index) = (text.as_bytes(), 0, 0);
        while index < bytes.len() {
            value = value * 10 + (bytes[index] - b'0') as u32;
            index += 1;
        }
        value
    }
    const VERSION: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    VERSION
}

#[unsafe(no_mangle)]
pub extern "C" fn msgport_code_name(code: Code) -> *const c_char {
    code::name(code).as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn msgport_code_text(code: Code) -> *const c_char {
    code::text(code).as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_describe(code: Code, text: *mut c_char, size: usize) -> usize {
    Failure::with_description(code, |description| {
        if !text.is_null() && size > 0 {
            // Whole characters only.
            let len = description.floor_char_boundary(size - 1);
            // SAFETY: `len` is less than `size`, the bytes that the caller of C has at `text`.
            unsafe { text.copy_from_nonoverlapping(description.as_ptr().cast(), len) };
            // SAFETY: still inside the `size` bytes.
            let end = unsafe { text.add(len) };
            // SAFETY: the byte behind the text, the last of the `size` bytes at most.
            unsafe { end.write(0) };
        }
        description.len()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn msgport_os_error() -> c_int {
    Failure::last_os_error()
}

#[unsafe(no_mangle)]
pub extern "C" fn msgport_failed_item(code: Code) -> usize {
    Failure::last_item(code).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::msgport_describe;
    use crate::code::{INTERNAL, OK};
    use crate::guard::guard;

    #[test]
    fn a_panic_becomes_a_code_with_its_message() {
        assert_eq!(guard(|| panic!("a planted mistake, number {}", 1)), INTERNAL);
        let mut text = [0_u8; 100];
        // SAFETY: the buffer has the given size.
        let len = unsafe { msgport_describe(INTERNAL, text.as_mut_ptr().cast(), text.len()) };
        assert_eq!(std::str::from_utf8(&text[..len]), Ok("a planted mistake, number 1"));
        assert_eq!(guard(|| Ok(())), OK);
    }
}
