//! Receiving: owned, into memory that is used again, and in place.

use std::ffi::c_void;
use std::mem::transmute;

use messageport::MessageRef;

use crate::code::{self, Code};
use crate::end::{End, Missed};
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::Timeout;
use crate::message::{Message, MessageHandle};
use crate::port::PortHandle;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_recv(
    port: *mut PortHandle,
    timeout: i64,
    message: *mut *mut MessageHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let out = Out::new(message, "message")?;
        let mut message = Message::default();
        port.end().recv_into(&mut message.received, Timeout::of_nanoseconds(timeout))?;
        message.sort();
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(message)) };
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
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let message = unsafe { Handle::get_mut(message) }?;
        // The way that must be short.
        if let End::Whole(port) = port.end()
            && timeout < 0
        {
            if let Err(error) = port.recv_into(message.emptied()) {
                return Err(Missed::Failed(error).into_failure(&mut message.received));
            }
            message.sort();
        } else {
            recv_into_otherwise(port.end(), timeout, message)?;
        }
        let (address, count) = message.data();
        if !data.is_null() {
            // SAFETY: writable, says the header.
            unsafe { data.write(address) };
        }
        if !len.is_null() {
            // SAFETY: writable, says the header.
            unsafe { len.write(count) };
        }
        Ok(())
    })
}

#[inline(never)]
fn recv_into_otherwise(end: &End, timeout: i64, message: &mut Message) -> Result<(), Failure> {
    end.recv_into(message.emptied(), Timeout::of_nanoseconds(timeout))?;
    message.sort();
    Ok(())
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
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let rest = match rest.is_null() {
            true => None,
            // SAFETY: a handle, and nobody else uses it, says the header.
            false => Some(unsafe { Handle::get_mut(rest) }?),
        };
        let (out_data, out_len) = (Out::new(data, "data")?, Out::new(len, "len")?);
        let mut message = port.end().recv_ref(Timeout::of_nanoseconds(timeout))?;
        if let Some(rest) = rest {
            rest.take_things_of(&mut message);
        }
        // SAFETY: the slice is gone at once and nothing was read through it: what C does with the address is under the
        // condition in the header.
        let bytes = unsafe { message.as_slice() };
        let (address, count) = (bytes.as_ptr(), bytes.len());
        // SAFETY: only the lifetime changes; the message borrows the end in this handle: see `msgport_port_reserve`.
        let message = unsafe { transmute::<MessageRef<'_>, MessageRef<'static>>(message) };
        port.in_place.set(Some(message));
        // SAFETY: writable, says the header.
        unsafe { out_data.set(address.cast()) };
        // SAFETY: writable, says the header.
        unsafe { out_len.set(count) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_release(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        port.in_place.take().map(drop).ok_or(Failure::plain(code::NOTHING_OPEN))
    })
}
