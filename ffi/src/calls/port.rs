//! Ports: freeing, closing, waiting, halves.

use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;

use messageport::RecvError;

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::{free, guard};
use crate::handle::{Handle, Out};
use crate::input::{Deferral, Timeout, duration};
use crate::port::{Port, PortHandle};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_free(port: *mut PortHandle) {
    guard(|| {
        let _deferral = Deferral::begin();
        // While another thread uses its loop, the handle stays: the loop passes it to handlers.
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let _claim = unsafe { Handle::get(port) }?.end().claim()?;
        // SAFETY: as before.
        unsafe { Handle::get(port) }?.release();
        // SAFETY: a live handle; the caller of C upholds that this is its last use.
        unsafe { free(port) };
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_set_user(port: *mut PortHandle, user: *mut c_void) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        unsafe { Handle::get(port) }?.user().set(user);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_user(port: *mut PortHandle, user: *mut *mut c_void) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(user, "user") }?.set(port.user().get());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_close(port: *mut PortHandle) -> Code {
    guard(|| {
        let _deferral = Deferral::begin(); // closing drops the handlers
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        unsafe { Handle::get(port) }?.end().close()
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_set_spin(port: *mut PortHandle, nanoseconds: i64) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        unsafe { Port::settled(port) }?.end().set_spin(duration(nanoseconds));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_peer_state(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        match unsafe { Handle::get(port) }?.end().peer_state()? {
            None => Ok(()),
            Some(reason) => Err(RecvError::Ended(reason).into()),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_closed(port: *mut PortHandle, timeout: i64) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Port::settled(port) }?;
        Err(port.end().closed(Timeout::of(timeout)))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_descriptor(port: *mut PortHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Port::settled(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(descriptor, "descriptor") }?;
        out.set(port.end().descriptor()?.as_raw_fd());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_renew(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        unsafe { Port::exclusive(port) }?.renew()
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_split(port: *mut PortHandle, receiver: *mut *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let port = unsafe { Port::exclusive(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(receiver, "receiver") }?;
        out.give(port.split()?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_join(port: *mut PortHandle, receiver: *mut PortHandle) -> Code {
    guard(|| {
        if !port.is_null() && port == receiver {
            return Err(Failure::plain(code::DIFFERENT_PORTS));
        }
        // SAFETY: NULL or a live handle in exclusive use, and not `receiver`; the caller of C upholds the first.
        let port = unsafe { Port::exclusive(port) }?;
        // SAFETY: NULL or a live handle in exclusive use, and not `port`; the caller of C upholds the first.
        let receiver = unsafe { Port::exclusive(receiver) }?;
        port.join(receiver)
    })
}
