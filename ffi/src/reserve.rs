//! Messages written in place.

use std::ffi::c_void;
use std::mem::transmute;

use messageport::Reservation;

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::port::PortHandle;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_reserve(port: *mut PortHandle, len: usize, data: *mut *mut c_void) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let out = Out::new(data, "data")?;
        let mut reservation = port.end().reserve(len)?;
        let place = reservation.as_mut_ptr();
        // SAFETY: only the lifetime changes. The reservation borrows the end in this handle, which stays where it is
        // and is neither changed nor freed before the reservation is gone: see `Port::end_mut` and `msgport_port_free`.
        let reservation = unsafe { transmute::<Reservation<'_>, Reservation<'static>>(reservation) };
        port.reservation.set(Some(reservation));
        // SAFETY: writable, says the header.
        unsafe { out.set(place.cast()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_commit(port: *mut PortHandle, len: usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let Some(reservation) = port.reservation.take() else {
            return Err(Failure::plain(code::NOTHING_OPEN));
        };
        if len > reservation.len() {
            let reserved = reservation.len();
            port.reservation.set(Some(reservation));
            return Err(Failure::out_of_range(len, reserved + 1));
        }
        Ok(reservation.commit_len(len)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_abandon(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        port.reservation.take().map(drop).ok_or(Failure::plain(code::NOTHING_OPEN))
    })
}
