//! Posting, and transfer lists.

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

use messageport::{PostErrorKind, Queued, TransferRef};
use nix::libc;

use crate::buffer::BufferHandle;
use crate::code::Code;
use crate::end::NotMovable;
use crate::failure::Failure;
use crate::frozen::FrozenHandle;
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::{Answer, Timeout, bytes};
use crate::port::PortHandle;
use crate::shared::SharedHandle;

/// `MSGPORT_ITEM_PORT`.
pub const ITEM_PORT: u32 = 1;
/// `MSGPORT_ITEM_BUFFER`.
pub const ITEM_BUFFER: u32 = 2;

/// `MSGPORT_ITEM_FROZEN`.
pub const ITEM_FROZEN: u32 = 3;
/// `MSGPORT_ITEM_SHARED`.
pub const ITEM_SHARED: u32 = 4;
/// `MSGPORT_ITEM_DESCRIPTOR`.
pub const ITEM_DESCRIPTOR: u32 = 5;

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
    pub frozen: *const FrozenHandle,
    pub shared: *const SharedHandle,
    pub descriptor: c_int,
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
    let of = item.of;
    match item.kind {
        ITEM_PORT => {
            // SAFETY: `kind` says that it is this one, and its handle lives, says the caller.
            let port = unsafe { Handle::get(of.port) }.map_err(not_a_handle)?;
            port.end().as_item().map_err(|not| match not {
                NotMovable::Half => Failure::bad_item(index, "a half of a port"),
                NotMovable::Gone => PostErrorKind::Unusable { index }.into(),
            })
        }
        ITEM_BUFFER => {
            // SAFETY: as above.
            let buffer = unsafe { Handle::get(of.buffer) }.map_err(not_a_handle)?;
            buffer.get().map(TransferRef::Buffer).map_err(|_| PostErrorKind::Unusable { index }.into())
        }
        ITEM_FROZEN => {
            // SAFETY: as above.
            let frozen = unsafe { Handle::get(of.frozen) }.map_err(not_a_handle)?;
            Ok(TransferRef::Frozen(&frozen.0))
        }
        ITEM_SHARED => {
            // SAFETY: as above.
            let shared = unsafe { Handle::get(of.shared) }.map_err(not_a_handle)?;
            Ok(TransferRef::Shared(&shared.0))
        }
        ITEM_DESCRIPTOR => {
            // SAFETY: `kind` says that it is this one.
            let number = unsafe { of.descriptor };
            // SAFETY: takes no pointers.
            if number < 0 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
                return Err(Failure::bad_item(index, "not an open descriptor"));
            }
            // SAFETY: open, and the caller keeps it so.
            Ok(TransferRef::Descriptor(unsafe { BorrowedFd::borrow_raw(number) }))
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
            return port.end().post_plain(data);
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

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_max_inline_len(port: *mut PortHandle, len: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let out = Out::new(len, "len")?;
        let max = port.end().max_inline_len()?;
        // SAFETY: writable, says the header.
        unsafe { out.set(max) };
        Ok(())
    })
}

/// `msgport_queued`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiQueued {
    pub size: usize,
    pub bytes: usize,
    pub capacity: usize,
    pub high_water: usize,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_queued(port: *mut PortHandle, queued: *mut FfiQueued) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: a struct or NULL, says the header.
        let answer = unsafe { Answer::new(queued, "queued") }?;
        let Queued { bytes, capacity, high_water, .. } = port.end().queued()?;
        // SAFETY: as long as its size says, says the header.
        unsafe { answer.set(FfiQueued { size: 0, bytes, capacity, high_water }) };
        Ok(())
    })
}
