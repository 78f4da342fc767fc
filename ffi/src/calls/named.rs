//! Shared buffers with a name. A build without the feature `named` has the same functions, which fail.

use std::ffi::{c_char, c_int};

use crate::buffer::{Shared, SharedHandle};
use crate::code::Code;
use crate::guard::guard;
use crate::handle::Out;
use crate::input::name as name_of;

#[unsafe(no_mangle)]
pub extern "C" fn msgport_has_named_buffers() -> c_int {
    c_int::from(cfg!(feature = "named"))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_create_named(
    name: *const c_char,
    len: usize,
    shared: *mut *mut SharedHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a text that ends with NUL; the caller of C upholds it.
        let name = unsafe { name_of(name) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(shared, "shared") }?;
        out.give(Shared(backend::create(name, len)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_open_named(
    name: *const c_char,
    min_len: usize,
    shared: *mut *mut SharedHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a text that ends with NUL; the caller of C upholds it.
        let name = unsafe { name_of(name) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(shared, "shared") }?;
        out.give(Shared(backend::open(name, min_len)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_remove_name(name: *const c_char) -> Code {
    guard(|| {
        // SAFETY: NULL or a text that ends with NUL; the caller of C upholds it.
        let name = unsafe { name_of(name) }?;
        backend::remove(name)
    })
}

#[cfg(feature = "named")]
mod backend {
    use messageport::SharedBuffer;

    use crate::failure::Failure;

    pub(super) fn create(name: &str, len: usize) -> Result<SharedBuffer, Failure> {
        Ok(SharedBuffer::create_named(name, len)?)
    }

    pub(super) fn open(name: &str, min_len: usize) -> Result<SharedBuffer, Failure> {
        Ok(SharedBuffer::open_named(name, min_len)?)
    }

    pub(super) fn remove(name: &str) -> Result<(), Failure> {
        Ok(SharedBuffer::remove_name(name)?)
    }
}

#[cfg(not(feature = "named"))]
mod backend {
    use messageport::SharedBuffer;

    use crate::code;
    use crate::failure::Failure;

    pub(super) fn create(_name: &str, _len: usize) -> Result<SharedBuffer, Failure> {
        Err(Failure::plain(code::LEFT_OUT))
    }

    pub(super) fn open(_name: &str, _min_len: usize) -> Result<SharedBuffer, Failure> {
        Err(Failure::plain(code::LEFT_OUT))
    }

    pub(super) fn remove(_name: &str) -> Result<(), Failure> {
        Err(Failure::plain(code::LEFT_OUT))
    }
}

#[cfg(all(test, not(feature = "named")))]
mod tests {
    use std::ptr::null_mut;

    use super::*;
    use crate::code::{LEFT_OUT, NULL_ARGUMENT};

    #[test]
    fn a_build_without_named_buffers_says_so() {
        assert_eq!(msgport_has_named_buffers(), 0);
        let (name, mut shared) = (c"messageport-left-out".as_ptr(), null_mut());
        // SAFETY: a text, and a place for the result.
        assert_eq!(unsafe { msgport_shared_create_named(name, 1, &raw mut shared) }, LEFT_OUT);
        // SAFETY: a text, and a place for the result.
        assert_eq!(unsafe { msgport_shared_open_named(name, 1, &raw mut shared) }, LEFT_OUT);
        // SAFETY: a text.
        assert_eq!(unsafe { msgport_shared_remove_name(name) }, LEFT_OUT);
        assert!(shared.is_null());
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { msgport_shared_remove_name(null_mut()) }, NULL_ARGUMENT);
    }
}
