//! Messages written in place.

use std::ffi::c_void;
use std::mem::transmute;

use messageport::Reservation;

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::{guard, guard_after};
use crate::handle::{Handle, Out};
use crate::port::{End, Port, PortHandle};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_reserve(port: *mut PortHandle, len: usize, data: *mut *mut c_void) -> Code {
    let brief = || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port: &Port = unsafe { Handle::get(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(data, "data") }?;
        let End::Whole(whole) = port.end() else { return Ok(false) };
        Ok(whole.reserve_briefly(len).map(|reservation| open(port, reservation, out)).is_some())
    };
    guard_after(brief, || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Port::settled(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(data, "data") }?;
        open(port, port.end().reserve(len)?, out);
        Ok(())
    })
}

/// Keeps a reservation open in its handle, and puts out where its bytes are.
#[inline]
fn open(port: &Port, mut reservation: Reservation<'_>, out: Out<*mut c_void>) {
    let place = reservation.as_mut_ptr();
    // SAFETY: only the lifetime changes. The reservation borrows the end in this handle, which does not move. `Port`
    // drops the reservation before the end, and replaces the end only while there is none.
    let reservation = unsafe { transmute::<Reservation<'_>, Reservation<'static>>(reservation) };
    port.reservation().set(Some(reservation));
    out.set(place.cast());
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_commit(port: *mut PortHandle, len: usize) -> Code {
    let brief = || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port: &Port = unsafe { Handle::get(port) }?;
        match port.reservation().take() {
            Some(reservation) if reservation.is_in_ring() && len <= reservation.len() => {
                reservation.commit_len(len)?;
                Ok(true)
            }
            other => {
                port.reservation().set(other);
                Ok(false)
            }
        }
    };
    guard_after(brief, || {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        let reservation = port.reservation().take().ok_or(Failure::plain(code::NOTHING_OPEN))?;
        let reserved = reservation.len();
        if len > reserved {
            port.reservation().set(Some(reservation));
            return Err(Failure::out_of_range(len, reserved + 1));
        }
        Ok(reservation.commit_len(len)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_abandon(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        port.reservation().take().map(drop).ok_or(Failure::plain(code::NOTHING_OPEN))
    })
}
