//! Shared buffers.

use std::ffi::{c_char, c_void};

use messageport::SharedBuffer;

use crate::buffer::{Shared, SharedHandle};
use crate::code::Code;
use crate::guard::{free, guard};
use crate::handle::{Handle, Out};
use crate::input::{bytes, bytes_mut, name as name_of};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_new(len: usize, shared: *mut *mut SharedHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(shared, "shared") }?;
        out.give(Shared(SharedBuffer::new(len)?));
        Ok(())
    })
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
        out.give(Shared(SharedBuffer::create_named(name, len)?));
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
        out.give(Shared(SharedBuffer::open_named(name, min_len)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_remove_name(name: *const c_char) -> Code {
    guard(|| {
        // SAFETY: NULL or a text that ends with NUL; the caller of C upholds it.
        let name = unsafe { name_of(name) }?;
        Ok(SharedBuffer::remove_name(name)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_free(shared: *mut SharedHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(shared) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_clone(shared: *const SharedHandle, clone: *mut *mut SharedHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let shared = unsafe { Handle::get(shared) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(clone, "clone") }?.give(Shared(shared.0.clone()));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_data(
    shared: *const SharedHandle,
    data: *mut *mut c_void,
    len: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let shared = &unsafe { Handle::get(shared) }?.0;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_data = unsafe { Out::new(data, "data") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_len = unsafe { Out::new(len, "len") }?;
        out_data.set(shared.as_ptr().cast());
        out_len.set(shared.len());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_read_at(
    shared: *const SharedHandle,
    offset: usize,
    into: *mut c_void,
    len: usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let shared = &unsafe { Handle::get(shared) }?.0;
        // SAFETY: writable for its length; the caller of C upholds it. Uninitialised bytes are only written.
        let into = unsafe { bytes_mut(into, len, "into") }?;
        Ok(shared.read_at(offset, into)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_write_at(
    shared: *const SharedHandle,
    offset: usize,
    from: *const c_void,
    len: usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let shared = &unsafe { Handle::get(shared) }?.0;
        // SAFETY: readable for its length; the caller of C upholds it.
        let from = unsafe { bytes(from, len, "from") }?;
        Ok(shared.write_at(offset, from)?)
    })
}
