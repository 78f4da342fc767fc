//! Posting, and transfer lists.

use std::ffi::c_void;

use messageport::{PostErrorKind, TransferRef};

use crate::buffer::BufferHandle;
use crate::code::Code;
use crate::end::NotMovable;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::{Timeout, bytes};
use crate::port::PortHandle;

/// `MSGPORT_ITEM_PORT`.
pub const ITEM_PORT: u32 = 1;
/// `MSGPORT_ITEM_BUFFER`.
pub const ITEM_BUFFER: u32 = 2;

/// `msgport_item`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Item {
    pub kind: u32,
    pub reserved: u32,
    pub of: ItemOf,
}

/// The union in `msgport_item`: `kind` says which it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub union ItemOf {
    pub port: *mut PortHandle,
    pub buffer: *mut BufferHandle,
}

/// The list behind a pointer of C, as far as it makes sense at all.
///
/// # Safety
/// `items` leads to `count` items; the handles in them live for `'a`, and nobody else uses them.
unsafe fn transfer_list<'a>(items: *const Item, count: usize) -> Result<Vec<TransferRef<'a>>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if items.is_null() {
        return Err(Failure::null("items"));
    }
    // Far more than any message can carry: a length that went wrong.
    if count > usize::from(u16::MAX) {
        return Err(Failure::bad_argument("more than 65535 items"));
    }
    // SAFETY: not NULL, and so many items, says the caller.
    let items = unsafe { std::slice::from_raw_parts(items, count) };
    // SAFETY: handles that live, says the caller.
    items.iter().enumerate().map(|(index, item)| unsafe { thing(index, item) }).collect()
}

/// # Safety
/// The handle in the item lives for `'a`, and nobody else uses it.
unsafe fn thing<'a>(index: usize, item: &Item) -> Result<TransferRef<'a>, Failure> {
    if item.reserved != 0 {
        return Err(Failure::bad_item(index, "its reserved field is not 0"));
    }
    let not_a_handle = |_| Failure::bad_item(index, "not a handle of that kind");
    match item.kind {
        ITEM_PORT => {
            // SAFETY: all members of the union are pointers.
            let pointer = unsafe { item.of.port };
            // SAFETY: NULL, or a handle that lives, says the caller.
            let port = unsafe { Handle::get(pointer) }.map_err(not_a_handle)?;
            port.end().as_item().map_err(|not| match not {
                NotMovable::Half => Failure::bad_item(index, "a half of a port"),
                NotMovable::Gone => PostErrorKind::Unusable { index }.into(),
            })
        }
        ITEM_BUFFER => {
            // SAFETY: all members of the union are pointers.
            let pointer = unsafe { item.of.buffer };
            // SAFETY: NULL, or a handle that lives, says the caller.
            Ok(TransferRef::Buffer(&unsafe { Handle::get(pointer) }.map_err(not_a_handle)?.buffer))
        }
        _ => Err(Failure::bad_item(index, "unknown kind")),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_post(
    port: *mut PortHandle,
    data: *const c_void,
    len: usize,
    items: *const Item,
    count: usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: readable, says the header.
        let data = unsafe { bytes(data, len, "data") }?;
        if count == 0 {
            return port.end().post(data, &[]);
        }
        // SAFETY: so many items, says the header.
        let list = unsafe { transfer_list(items, count) }?;
        port.end().post(data, &list)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_post_wait(
    port: *mut PortHandle,
    data: *const c_void,
    len: usize,
    items: *const Item,
    count: usize,
    timeout: i64,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: readable, says the header.
        let data = unsafe { bytes(data, len, "data") }?;
        // SAFETY: so many items, says the header.
        let list = unsafe { transfer_list(items, count) }?;
        port.end().post_wait(data, &list, Timeout::of_nanoseconds(timeout))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_max_message_len(port: *mut PortHandle, len: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let out = Out::new(len, "len")?;
        let max = port.end().max_message_len()?;
        // SAFETY: writable, says the header.
        unsafe { out.set(max) };
        Ok(())
    })
}
