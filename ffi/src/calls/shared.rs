//! Shared buffers.

use std::ffi::c_void;

use messageport::SharedBuffer;

use crate::buffer::{Shared, SharedHandle};
use crate::code::Code;
use crate::guard::{free, guard};
use crate::handle::{Handle, Out};
use crate::input::{bytes, bytes_mut};

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
