//! Receiving: a new message, into memory that is used again, and in place.

use std::ffi::c_void;
use std::mem::transmute;

use messageport::MessageRef;

use crate::code::{self, Code};
use crate::failure::{Failure, NotReceived};
use crate::guard::guard;
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
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let message = unsafe { Handle::get_mut(message) }?;
        // The fast path of most programs.
        if let End::Whole(port) = port.end()
            && timeout < 0
        {
            if let Err(error) = port.recv_into(message.emptied()) {
                return Err(NotReceived::Failed(error).into_failure(message.emptied()));
            }
        } else {
            recv_into(port.end(), timeout, message)?;
        }
        let (address, count) = message.data();
        // SAFETY: NULL or writable; the caller of C upholds it.
        if let Some(out) = unsafe { Out::optional(data) } {
            out.set(address);
        }
        // SAFETY: NULL or writable; the caller of C upholds it.
        if let Some(out) = unsafe { Out::optional(len) } {
            out.set(count);
        }
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
    guard(|| {
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
        // SAFETY: the slice is dropped at once and nothing is read through it. What C does with the address is under
        // the conditions in the header.
        let bytes = unsafe { message.as_slice() };
        let (address, count) = (bytes.as_ptr(), bytes.len());
        // SAFETY: only the lifetime changes; the conditions are those of a reservation, see `msgport_port_reserve`.
        let message = unsafe { transmute::<MessageRef<'_>, MessageRef<'static>>(message) };
        port.in_place().set(Some(message));
        out_data.set(address.cast());
        out_len.set(count);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_release(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        port.in_place().take().map(drop).ok_or(Failure::plain(code::NOTHING_OPEN))
    })
}
