//! Sets of ports without handlers.

use std::ffi::c_int;

use messageport::{RecvError, SetEvent};

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::{free, guard};
use crate::handle::{Handle, Out};
use crate::input::{Timeout, duration};
use crate::port::{End, Port, PortHandle, Set, SetHandle};
use crate::transfer::MessageHandle;

/// `msgport_portset_event`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiSetEvent {
    pub port: *mut PortHandle,
    pub code: Code,
    pub reserved: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_new(set: *mut *mut SetHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(set, "set") }?;
        out.give(Set::new()?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_free(set: *mut SetHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(set) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_add(set: *mut SetHandle, port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let set = unsafe { Handle::get(set) }?;
        let handle = port;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let port = unsafe { Port::exclusive(port) }?;
        port.replace_end(|end| set.add(handle, end))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_remove(set: *mut SetHandle, port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let set = unsafe { Handle::get(set) }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        if !matches!(unsafe { Handle::<Port>::get(port) }?.end(), End::InSet(_)) {
            return Err(Failure::plain(code::NOT_FOUND));
        }
        // SAFETY: as before.
        unsafe { Port::exclusive(port) }?.replace_member(|end| set.remove(end))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_descriptor(set: *mut SetHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let set = unsafe { Handle::get(set) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(descriptor, "descriptor") }?.set(set.descriptor()?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_set_spin(set: *mut SetHandle, nanoseconds: i64) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        unsafe { Handle::get(set) }?.set_spin(duration(nanoseconds))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_next(
    set: *mut SetHandle,
    timeout: i64,
    message: *mut MessageHandle,
    event: *mut FfiSetEvent,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let set = unsafe { Handle::get(set) }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let message = unsafe { Handle::get_mut(message) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(event, "event") }?;
        message.clear();
        let (port, event) = set.next(Timeout::of(timeout))?;
        let code = match event {
            SetEvent::Message(received) => {
                message.fill(received);
                code::OK
            }
            SetEvent::MessageError { reason, data } => {
                message.emptied().data = data;
                Failure::from(RecvError::MessageError { reason, data: Vec::new() }).code()
            }
            // The handle, which may be in a post, finds out by itself that the port has left.
            SetEvent::Closed(reason, _) => Failure::from(RecvError::Ended(reason)).code(),
            _ => return Err(Failure::internal(&"an unknown event of a set")),
        };
        out.set(FfiSetEvent { port, code, reserved: 0 });
        Ok(())
    })
}
