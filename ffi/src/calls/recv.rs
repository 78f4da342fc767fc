//! Receiving: a new message, into memory that is used again, and in place.

use std::ffi::c_void;
use std::mem::transmute;

use messageport::{Message as RustMessage, MessageRef};

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::{guard, guard_after};
use crate::handle::{Handle, Out};
use crate::input::Timeout;
use crate::port::{End, Port, PortHandle};
use crate::transfer::{Message, MessageHandle};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_recv(
    port: *mut PortHandle,
    timeout: i64,
    message: *mut *mut MessageHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(message, "message") }?;
        let mut message = Message::default();
        recv_into(port.end(), timeout, &mut message)?;
        out.give(message);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_recv_into(
    port: *mut PortHandle,
    timeout: i64,
    message: *mut MessageHandle,
    data: *mut *const c_void,
    len: *mut usize,
) -> Code {
    let put = |message: &Message| {
        let (address, count) = message.data();
        // SAFETY: NULL or writable; the caller of C upholds it.
        if let Some(out) = unsafe { Out::optional(data) } {
            out.set(address);
        }
        // SAFETY: NULL or writable; the caller of C upholds it.
        if let Some(out) = unsafe { Out::optional(len) } {
            out.set(count);
        }
    };
    let brief = || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let message = unsafe { Handle::get_mut(message) }?;
        let End::Whole(port) = port.end() else { return Ok(false) };
        let received = message.plain().is_some_and(|message| port.recv_briefly(message, timeout != 0));
        if received {
            put(message);
        }
        Ok(received)
    };
    guard_after(brief, || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let message = unsafe { Handle::get_mut(message) }?;
        recv_into(port.end(), timeout, message)?;
        put(message);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_recv_messages(
    port: *mut PortHandle,
    timeout: i64,
    messages: *const *mut MessageHandle,
    count: usize,
    received: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Port::settled(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(received, "received") }?.set(0);
        // SAFETY: as before.
        let out = unsafe { Out::new(received, "received") }?;
        if count > isize::MAX as usize / size_of::<*mut MessageHandle>() {
            return Err(Failure::bad_argument("more messages than memory can hold"));
        }
        let handles: &[*mut MessageHandle] = match (count, messages.is_null()) {
            (0, _) => &[],
            (_, true) => return Err(Failure::null("messages")),
            // SAFETY: `count` pointers; the caller of C upholds that they are readable.
            _ => unsafe { std::slice::from_raw_parts(messages, count) },
        };
        let mut sorted = handles.to_vec();
        sorted.sort_unstable();
        if sorted.windows(2).any(|two| two[0] == two[1]) {
            return Err(Failure::bad_argument("a message is there twice"));
        }
        let mut places = Vec::with_capacity(count);
        for handle in handles {
            // SAFETY: NULL or a live handle in exclusive use, and no other of the list is the same.
            places.push(unsafe { Handle::get_mut(*handle) }?);
        }
        // Moved out and back: the memory of each is used again.
        let mut list: Vec<_> = places.iter_mut().map(|place| std::mem::take(place.emptied())).collect();
        let result = port.end().recv_messages(&mut list, Timeout::of(timeout));
        let result = result.map_err(|error| match list.first_mut() {
            Some(first) => error.into_failure(first),
            None => error.into_failure(&mut RustMessage::new()),
        });
        places.into_iter().zip(list).for_each(|(place, message)| place.fill(message));
        out.set(result?);
        Ok(())
    })
}

#[inline(never)]
fn recv_into(end: &End, timeout: i64, message: &mut Message) -> Result<(), Failure> {
    end.recv_into(message.emptied(), Timeout::of(timeout))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_recv_ref(
    port: *mut PortHandle,
    timeout: i64,
    rest: *mut MessageHandle,
    data: *mut *const c_void,
    len: *mut usize,
) -> Code {
    let brief = || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port: &Port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let data = unsafe { Out::new(data, "data") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let len = unsafe { Out::new(len, "len") }?;
        match port.end() {
            // The general case empties `rest`.
            End::Whole(whole) if rest.is_null() => {
                let message = whole.recv_ref_briefly(timeout != 0);
                Ok(message.map(|message| open(port, message, data, len)).is_some())
            }
            _ => Ok(false),
        }
    };
    guard_after(brief, || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Port::settled(port) }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let rest = unsafe { Handle::get_optional(rest) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_data = unsafe { Out::new(data, "data") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out_len = unsafe { Out::new(len, "len") }?;
        let mut message = port.end().recv_ref(Timeout::of(timeout))?;
        if let Some(rest) = rest {
            rest.take_things_of(&mut message);
        }
        open(port, message, out_data, out_len);
        Ok(())
    })
}

/// Keeps a message open in its handle, and puts out where its data is.
#[inline]
fn open(port: &Port, message: MessageRef<'_>, data: Out<*const c_void>, len: Out<usize>) {
    // SAFETY: the slice is dropped at once and nothing is read through it. What C does with the address is under the
    // conditions in the header.
    let bytes = unsafe { message.as_slice() };
    let (address, count) = (bytes.as_ptr(), bytes.len());
    // SAFETY: only the lifetime changes; the conditions are those of a reservation, see `msgport_port_reserve`.
    let message = unsafe { transmute::<MessageRef<'_>, MessageRef<'static>>(message) };
    port.in_place().set(Some(message));
    data.set(address.cast());
    len.set(count);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_release(port: *mut PortHandle) -> Code {
    let brief = || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port: &Port = unsafe { Handle::get(port) }?;
        match port.in_place().take() {
            Some(message) if message.is_plain() => Ok(true), // which drops it
            other => {
                port.in_place().set(other);
                Ok(false)
            }
        }
    };
    guard_after(brief, || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        port.in_place().take().map(drop).ok_or(Failure::plain(code::NOTHING_OPEN))
    })
}
