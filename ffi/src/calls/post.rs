//! Posting.

use std::ffi::c_void;

use messageport::{Queued, TransferRef};

use crate::code::Code;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::{Deadline, GrowingOut, Timeout, bytes};
use crate::port::{End, PortHandle};
use crate::transfer::{Item, with_list};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_post_message(
    port: *mut PortHandle,
    data: *const c_void,
    len: usize,
    items: *const Item,
    count: usize,
    timeout: i64,
) -> Code {
    guard(|| {
        let handle = port;
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(handle) }?;
        // SAFETY: readable for its length; the caller of C upholds it.
        let data = unsafe { bytes(data, len, "data") }?;
        if count == 0 && timeout == 0 {
            return port.end().post_plain(data);
        }
        let timeout = Timeout::of(timeout);
        let port: *const PortHandle = handle;
        let mut post = |list: &[TransferRef<'_>]| {
            // SAFETY: a live handle; the caller of C upholds it. The list may contain it, and `with_list` has settled
            // it.
            unsafe { Handle::get(port) }?.end().post(data, list, timeout)
        };
        // SAFETY: `count` items with live handles; the caller of C upholds it. No reference to `port` is used again.
        unsafe { with_list(items, count, &mut post) }
    })
}

/// `msgport_bytes`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiBytes {
    pub data: *const c_void,
    pub len: usize,
}

/// Messages that one call of the Rust library posts: their slices fit an array on the stack.
const RUN: usize = 64;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_post_messages(
    port: *mut PortHandle,
    messages: *const FfiBytes,
    count: usize,
    timeout: i64,
    posted: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(posted, "posted") }?;
        let mut done = 0;
        // SAFETY: `count` messages, readable for their lengths; the caller of C upholds it.
        let result = unsafe { post_all(port.end(), messages, count, Timeout::of(timeout), &mut done) };
        out.set(done);
        result
    })
}

/// # Safety
/// `messages` leads to `count` messages, readable for their lengths.
unsafe fn post_all(
    end: &End,
    messages: *const FfiBytes,
    count: usize,
    timeout: Timeout,
    done: &mut usize,
) -> Result<(), Failure> {
    if count > isize::MAX as usize / size_of::<FfiBytes>() {
        return Err(Failure::bad_argument("more messages than memory can hold"));
    }
    // SAFETY: `count` structs, at most PTRDIFF_MAX bytes; the caller upholds that they are readable.
    let messages = unsafe { bytes(messages.cast(), count * size_of::<FfiBytes>(), "messages") }?;
    let messages: &[FfiBytes] = match count {
        0 => &[],
        // SAFETY: the same memory, as the `count` structs that it contains.
        _ => unsafe { std::slice::from_raw_parts(messages.as_ptr().cast(), count) },
    };
    let deadline = Deadline::of(timeout);
    for run in messages.chunks(RUN) {
        let mut list: [&[u8]; RUN] = [&[]; RUN];
        for (place, message) in list.iter_mut().zip(run) {
            // SAFETY: the caller upholds that it is readable for its length.
            *place = unsafe { bytes(message.data, message.len, "the data of a message") }?;
        }
        let (posted, result) = end.post_messages(&list[..run.len()], deadline.left());
        *done += posted;
        result?;
    }
    Ok(())
}

/// `msgport_queued`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiQueued {
    pub size: usize,
    pub bytes: usize,
    pub capacity: usize,
    pub high_water: usize,
    pub max_message_len: usize,
    pub max_inline_len: usize,
    pub transferred: usize,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_queued(port: *mut PortHandle, queued: *mut FfiQueued) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let end = unsafe { Handle::get(port) }?.end();
        // SAFETY: NULL or a struct of the size that it contains; the caller of C upholds it.
        let out = unsafe { GrowingOut::new(queued, "queued") }?;
        let Queued { bytes, capacity, high_water, transferred, .. } = end.queued()?;
        let (max_message_len, max_inline_len) = (end.max_message_len()?, end.max_inline_len()?);
        out.set(FfiQueued { size: 0, bytes, capacity, high_water, max_message_len, max_inline_len, transferred });
        Ok(())
    })
}
