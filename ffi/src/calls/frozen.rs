//! Frozen buffers.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

use messageport::FrozenBuffer;

use crate::buffer::{Frozen, FrozenHandle};
use crate::code::Code;
use crate::failure::Failure;
use crate::guard::{free, guard};
use crate::handle::{Handle, Out};
use crate::input::bytes;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_from_bytes(
    data: *const c_void,
    len: usize,
    frozen: *mut *mut FrozenHandle,
) -> Code {
    guard(|| {
        // SAFETY: readable for its length; the caller of C upholds it.
        let data = unsafe { bytes(data, len, "data") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(frozen, "frozen") }?;
        out.give(Frozen(FrozenBuffer::from_bytes(data)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_from_file(descriptor: c_int, frozen: *mut *mut FrozenHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(frozen, "frozen") }?;
        if descriptor < 0 {
            return Err(Failure::bad_argument("descriptor is negative"));
        }
        // SAFETY: the descriptor stays the property of the caller of C: it is read from and never closed.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
        out.give(Frozen(FrozenBuffer::from_file(&file)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_free(frozen: *mut FrozenHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(frozen) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_clone(frozen: *const FrozenHandle, clone: *mut *mut FrozenHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let frozen = unsafe { Handle::get(frozen) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(clone, "clone") }?.give(Frozen(frozen.0.clone()));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_data(
    frozen: *const FrozenHandle,
    data: *mut *const c_void,
    len: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let bytes: &[u8] = &unsafe { Handle::get(frozen) }?.0;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_data = unsafe { Out::new(data, "data") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_len = unsafe { Out::new(len, "len") }?;
        out_data.set(bytes.as_ptr().cast());
        out_len.set(bytes.len());
        Ok(())
    })
}
