//! Posting, and transfer lists.

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

use messageport::{PostErrorKind, Queued, TransferRef};
use nix::libc;

use crate::buffer::Buffer;
use crate::code::Code;
use crate::end::{End, NotMovable, PortItem};
use crate::failure::Failure;
use crate::frozen::Frozen;
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::{Answer, Deadline, Timeout, bytes};
use crate::port::{Port, PortHandle};
use crate::shared::Shared;

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
    /// A handle of whatever kind.
    pub handle: *mut c_void,
    pub descriptor: c_int,
}

impl Item {
    /// The handle, of whatever kind `kind` says.
    pub(crate) fn handle<T>(&self) -> *mut Handle<T> {
        // SAFETY: C has written the whole union or its first bytes; any value is a pointer's, which is checked by its user.
        unsafe { self.of.handle }.cast()
    }

    pub(crate) fn descriptor(&self) -> c_int {
        // SAFETY: any value is a number's.
        unsafe { self.of.descriptor }
    }
}

/// The items behind a pointer of C.
///
/// # Safety
/// `items` leads to `count` items, which do not change for `'a`.
pub(crate) unsafe fn items_of<'a>(items: *const Item, count: usize) -> Result<&'a [Item], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if items.is_null() {
        return Err(Failure::null("items"));
    }
    // Far more than any message can carry: a length that went wrong.
    if count > usize::from(u16::MAX) {
        return Err(Failure::bad_argument("more than 65535 items"));
    }
    // SAFETY: not NULL, and so many items, says the caller.
    Ok(unsafe { std::slice::from_raw_parts(items, count) })
}

/// A thing on a list, as far as it makes sense at all.
enum Thing<'a> {
    Port(PortItem<'a>),
    Other(TransferRef<'a>),
}

impl Thing<'_> {
    fn as_ref(&self) -> TransferRef<'_> {
        match self {
            Self::Port(port) => TransferRef::Port(port.port()),
            Self::Other(thing) => *thing,
        }
    }
}

/// # Safety
/// The handle in the item lives for `'a`, and nobody else uses it.
unsafe fn thing<'a>(index: usize, item: &Item) -> Result<Thing<'a>, Failure> {
    if item.reserved != 0 {
        return Err(Failure::bad_item(index, "its reserved field is not 0"));
    }
    let not_a_handle = |_| Failure::bad_item(index, "not a handle of that kind");
    Ok(Thing::Other(match item.kind {
        ITEM_PORT => {
            // SAFETY: a handle that lives, says the caller.
            let port = unsafe { Handle::<Port>::get(item.handle()) }.map_err(not_a_handle)?;
            return port.end().as_item().map(Thing::Port).map_err(|not| match not {
                NotMovable::Half => Failure::bad_item(index, "a half of a port"),
                NotMovable::InSet => Failure::bad_item(index, "a port in a set"),
                NotMovable::Gone => PostErrorKind::Unusable { index }.into(),
            });
        }
        ITEM_BUFFER => {
            // SAFETY: as above.
            let buffer = unsafe { Handle::<Buffer>::get(item.handle()) }.map_err(not_a_handle)?;
            TransferRef::Buffer(buffer.get().map_err(|_| PostErrorKind::Unusable { index })?)
        }
        ITEM_FROZEN => {
            // SAFETY: as above.
            TransferRef::Frozen(&unsafe { Handle::<Frozen>::get(item.handle()) }.map_err(not_a_handle)?.0)
        }
        ITEM_SHARED => {
            // SAFETY: as above.
            TransferRef::Shared(&unsafe { Handle::<Shared>::get(item.handle()) }.map_err(not_a_handle)?.0)
        }
        ITEM_DESCRIPTOR => TransferRef::Descriptor(open_descriptor(index, item.descriptor())?),
        _ => return Err(Failure::bad_item(index, "unknown kind")),
    }))
}

/// A descriptor on a list, which the caller keeps open.
pub(crate) fn open_descriptor<'a>(index: usize, number: c_int) -> Result<BorrowedFd<'a>, Failure> {
    // SAFETY: takes no pointers.
    if number < 0 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(Failure::bad_item(index, "not an open descriptor"));
    }
    // SAFETY: open, and the caller keeps it so.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Lends `post` the things of a list.
///
/// # Safety
/// As for [`items_of`], and the handles in the items live, and nobody else uses them.
#[inline(never)] // keeps the way of a plain message short
unsafe fn with_list(
    items: *const Item,
    count: usize,
    post: &mut dyn FnMut(&[TransferRef<'_>]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // SAFETY: what the caller promises.
    let items = unsafe { items_of(items, count) }?;
    // SAFETY: handles that live, says the caller.
    let things: Vec<Thing<'_>> =
        items.iter().enumerate().map(|(index, item)| unsafe { thing(index, item) }).collect::<Result<_, _>>()?;
    let list: Vec<TransferRef<'_>> = things.iter().map(Thing::as_ref).collect();
    post(&list)
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
        unsafe { with_list(items, count, &mut |list| port.end().post(data, list)) }
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
        let timeout = Timeout::of_nanoseconds(timeout);
        // SAFETY: so many items, says the header.
        unsafe { with_list(items, count, &mut |list| port.end().post_wait(data, list, timeout)) }
    })
}

/// `msgport_bytes`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiBytes {
    pub data: *const c_void,
    pub len: usize,
}

/// Messages that are handed on at a time.
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
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let out = Out::new(posted, "posted")?;
        let mut done = 0;
        // SAFETY: so many messages, says the header.
        let result = unsafe { post_all(port.end(), messages, count, timeout, &mut done) };
        // SAFETY: writable, says the header.
        unsafe { out.set(done) };
        result
    })
}

/// # Safety
/// `messages` leads to `count` messages, readable for their lengths.
unsafe fn post_all(
    end: &End,
    messages: *const FfiBytes,
    count: usize,
    timeout: i64,
    done: &mut usize,
) -> Result<(), Failure> {
    if count > isize::MAX as usize / size_of::<FfiBytes>() {
        return Err(Failure::bad_argument("more messages than there is memory"));
    }
    // SAFETY: so many, says the caller, and not more than there is memory.
    let messages = unsafe { bytes(messages.cast(), count * size_of::<FfiBytes>(), "messages") }?;
    let messages: &[FfiBytes] = match count {
        0 => &[],
        // SAFETY: it is what the bytes came from.
        _ => unsafe { std::slice::from_raw_parts(messages.as_ptr().cast(), count) },
    };
    let deadline = Deadline::of_nanoseconds(timeout);
    for run in messages.chunks(RUN) {
        let mut list: [&[u8]; RUN] = [&[]; RUN];
        for (place, message) in list.iter_mut().zip(run) {
            // SAFETY: readable, says the caller.
            *place = unsafe { bytes(message.data, message.len, "the data of a message") }?;
        }
        let (posted, result) = end.post_messages(&list[..run.len()], deadline.left());
        *done += posted;
        result?;
    }
    Ok(())
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
