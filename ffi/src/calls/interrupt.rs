//! Interrupters, and whether signals end waits.

use std::ffi::c_int;

use messageport::Interrupter as RustInterrupter;

use super::{ClientHandle, ServerHandle};
use crate::code::Code;
use crate::failure::watching;
use crate::guard::{free, guard};
use crate::handle::{Handle, Object, Out};
use crate::port::{PortHandle, SetHandle};

/// `msgport_interrupter`.
pub type InterrupterHandle = Handle<Interrupter>;

pub struct Interrupter(RustInterrupter);

impl Object for Interrupter {
    const NAME: &'static str = "interrupter";
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_interrupter(
    port: *mut PortHandle,
    interrupter: *mut *mut InterrupterHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(interrupter, "interrupter") }?;
        out.give(Interrupter(port.end().interrupter()?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_interrupter(
    set: *mut SetHandle,
    interrupter: *mut *mut InterrupterHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let set = unsafe { Handle::get(set) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(interrupter, "interrupter") }?;
        out.give(Interrupter(set.interrupter()?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_client_interrupter(
    client: *const ClientHandle,
    interrupter: *mut *mut InterrupterHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let client = unsafe { Handle::get(client) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(interrupter, "interrupter") }?;
        out.give(Interrupter(client.0.interrupter().map_err(|error| watching(&error))?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_server_interrupter(
    server: *mut ServerHandle,
    interrupter: *mut *mut InterrupterHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let server = unsafe { Handle::get(server) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(interrupter, "interrupter") }?;
        out.give(Interrupter(server.0.interrupter().map_err(|error| watching(&error))?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_interrupter_interrupt(interrupter: *const InterrupterHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        unsafe { Handle::get(interrupter) }?.0.interrupt();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_interrupter_free(interrupter: *mut InterrupterHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(interrupter) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_set_interrupt_on_signal(port: *mut PortHandle, ends: c_int) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        unsafe { Handle::get(port) }?.end().set_interrupt_on_signal(ends != 0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_portset_set_interrupt_on_signal(set: *mut SetHandle, ends: c_int) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        unsafe { Handle::get(set) }?.set_interrupt_on_signal(ends != 0)
    })
}
