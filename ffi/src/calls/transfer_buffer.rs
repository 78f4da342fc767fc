//! Buffers that move.

use std::ffi::c_void;

use messageport::TransferBuffer;

use crate::buffer::{BufferHandle, Frozen, FrozenHandle};
use crate::code::Code;
use crate::guard::{free, guard};
use crate::handle::{Handle, Out};
use crate::input::{bytes, bytes_mut};
use crate::port::PortHandle;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_new(len: usize, buffer: *mut *mut BufferHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(buffer, "buffer") }?;
        out.give(TransferBuffer::new(len)?.into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_free(buffer: *mut BufferHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(buffer) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_len(buffer: *mut BufferHandle, len: *mut usize) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let count = unsafe { Handle::get(buffer) }?.get().map_or(0, TransferBuffer::len);
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(len, "len") }?.set(count);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_read_at(
    buffer: *mut BufferHandle,
    offset: usize,
    into: *mut c_void,
    len: usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let buffer = unsafe { Handle::get(buffer) }?;
        // SAFETY: writable for its length; the caller of C upholds it. Uninitialised bytes are only written.
        let into = unsafe { bytes_mut(into, len, "into") }?;
        Ok(buffer.get()?.read_at(offset, into)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_write_at(
    buffer: *mut BufferHandle,
    offset: usize,
    from: *const c_void,
    len: usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let buffer = unsafe { Handle::get(buffer) }?;
        // SAFETY: readable for its length; the caller of C upholds it.
        let from = unsafe { bytes(from, len, "from") }?;
        Ok(buffer.get()?.write_at(offset, from)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_data(
    buffer: *mut BufferHandle,
    data: *mut *mut c_void,
    len: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let buffer = unsafe { Handle::get_mut(buffer) }?.get_mut()?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_data = unsafe { Out::new(data, "data") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_len = unsafe { Out::new(len, "len") }?;
        // Fails for a buffer that is detached or forked, whose slice would be empty.
        buffer.read_at(0, &mut [])?;
        // SAFETY: the slice is dropped at once and nothing is read through it. What C does with the address is under
        // the conditions in the header.
        let bytes = unsafe { buffer.as_mut_slice() };
        out_data.set(bytes.as_mut_ptr().cast());
        out_len.set(bytes.len());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_freeze(buffer: *mut BufferHandle, frozen: *mut *mut FrozenHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let buffer = unsafe { Handle::get_mut(buffer) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(frozen, "frozen") }?;
        out.give(Frozen(buffer.freeze()?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_buffer(
    port: *mut PortHandle,
    len: usize,
    buffer: *mut *mut BufferHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(buffer, "buffer") }?;
        out.give(port.end().buffer(len)?.into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_release_buffers(port: *mut PortHandle, count: *mut usize) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(count, "count") }?;
        out.set(port.end().release_buffers()?);
        Ok(())
    })
}
