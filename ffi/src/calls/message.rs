//! Received messages.

use std::ffi::c_void;

use crate::code::Code;
use crate::guard::{free, guard};
use crate::handle::{Handle, Out};
use crate::transfer::{Item, Message, MessageHandle};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_new(message: *mut *mut MessageHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(message, "message") }?.give(Message::default());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_free(message: *mut MessageHandle) {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        if !unsafe { Handle::get(message) }?.is_lent() {
            // SAFETY: a live handle; the caller of C upholds that this is its last use.
            unsafe { free(message) };
        }
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_clear(message: *mut MessageHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        unsafe { Handle::get_mut(message) }?.clear();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_data(
    message: *const MessageHandle,
    data: *mut *const c_void,
    len: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let (address, count) = unsafe { Handle::get(message) }?.data();
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_data = unsafe { Out::new(data, "data") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_len = unsafe { Out::new(len, "len") }?;
        out_data.set(address);
        out_len.set(count);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_count(message: *const MessageHandle, kind: u32, count: *mut usize) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let message = unsafe { Handle::get(message) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(count, "count") }?;
        out.set(message.count(kind)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_take(
    message: *mut MessageHandle,
    kind: u32,
    index: usize,
    item: *mut Item,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let message = unsafe { Handle::get_mut(message) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(item, "item") }?;
        out.set(message.take(kind, index)?.into());
        Ok(())
    })
}
