//! Ports: their handles, closing, waiting, halves.

use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::time::Duration;

use messageport::{JoinError, MessagePort, MessageRef, RecvHalf, Reservation};

use crate::code::{self, Code};
use crate::end::End;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::listen::Listeners;

/// `msgport_port`.
pub type PortHandle = Handle<Port>;

pub struct Port {
    /// Space that is being written. `'static` stands for "as long as `end`": both are gone before it is.
    pub(crate) reservation: Cell<Option<Reservation<'static>>>,
    /// The message that is being read in place; as above.
    pub(crate) in_place: Cell<Option<MessageRef<'static>>>,
    end: End,
    /// While it is in a loop.
    listeners: Listeners,
}

impl Kind for Port {
    const NAME: &'static str = "port";
    const TAG: u64 = u64::from_le_bytes(*b"port\0\0\0\0");
}

impl Port {
    pub(crate) fn whole(port: MessagePort) -> Self {
        Self::of(End::Whole(port))
    }

    fn of(end: End) -> Self {
        Self { reservation: Cell::new(None), in_place: Cell::new(None), end, listeners: Listeners::default() }
    }

    #[inline]
    pub(crate) fn end(&self) -> &End {
        &self.end
    }

    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// The port leaves its loop.
    pub(crate) fn forget_listeners(&mut self) {
        self.listeners = Listeners::default();
    }

    /// Makes something else of the end, on which nothing may be open.
    pub(crate) fn replace_end<T>(&mut self, make: impl FnOnce(End) -> (End, Result<T, Failure>)) -> Result<T, Failure> {
        let end = self.end_mut()?;
        let (made, result) = make(std::mem::replace(end, End::Gone));
        self.end = made;
        result
    }

    /// Gives up what is open.
    fn release(&self) {
        self.reservation.take();
        self.in_place.take();
    }

    /// The end, to be taken apart. Nothing may be open on it.
    fn end_mut(&mut self) -> Result<&mut End, Failure> {
        let (reservation, in_place) = (self.reservation.get_mut(), self.in_place.get_mut());
        if reservation.is_some() || in_place.is_some() {
            return Err(Failure::plain(code::BORROWED));
        }
        Ok(&mut self.end)
    }

    /// The whole port, for good or until [`put_back`](Self::put_back).
    pub(crate) fn take_whole(&mut self) -> Result<MessagePort, Failure> {
        self.replace_end(|end| match end {
            End::Whole(port) => (End::Gone, Ok(port)),
            other => other.refuse(),
        })
    }

    pub(crate) fn put_back(&mut self, port: MessagePort) {
        self.end = End::Whole(port);
    }

    fn take_receiver(&mut self) -> Result<RecvHalf, Failure> {
        self.replace_end(|end| match end {
            End::Receiver(half) => (End::Gone, Ok(half)),
            other => other.refuse(),
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_free(port: *mut PortHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        if let Ok(port) = unsafe { Handle::get(port) } {
            port.release();
            if matches!(port.end(), End::InLoop { .. }) {
                // It leaves the loop: no handler is called for it any more.
                port.end().close();
            }
        }
        // SAFETY: the last use, says the header, and what borrowed the end is gone.
        drop(unsafe { Handle::take(port) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_close(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        port.end().close();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_set_spin(port: *mut PortHandle, nanoseconds: u64) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        port.end().set_spin(Duration::from_nanos(nanoseconds));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_descriptor(port: *mut PortHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let out = Out::new(descriptor, "descriptor")?;
        let number = port.end().descriptor()?.as_raw_fd();
        // SAFETY: writable, says the header.
        unsafe { out.set(number) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_split(port: *mut PortHandle, receiver: *mut *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let port = unsafe { Handle::get_mut(port) }?;
        let out = Out::new(receiver, "receiver")?;
        let (send, recv) = port.take_whole()?.split();
        port.end = End::Sender(send);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(Port::of(End::Receiver(recv)))) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_join(port: *mut PortHandle, receiver: *mut PortHandle) -> Code {
    guard(|| {
        if !port.is_null() && port == receiver {
            return Err(Failure::plain(code::DIFFERENT_PORTS));
        }
        // SAFETY: nobody else uses it, says the header, and it is not the other one.
        let port = unsafe { Handle::get_mut(port) }?;
        // SAFETY: as above.
        let receiver = unsafe { Handle::get_mut(receiver) }?;
        port.end_mut()?;
        let half = receiver.take_receiver()?;
        let (result, rest) = match std::mem::replace(&mut port.end, End::Gone) {
            End::Sender(sender) => match MessagePort::join(sender, half) {
                Ok(whole) => {
                    port.end = End::Whole(whole);
                    return Ok(());
                }
                Err(JoinError(sender, half)) => {
                    port.end = End::Sender(sender);
                    (Err(Failure::plain(code::DIFFERENT_PORTS)), half)
                }
            },
            other => {
                let (other, result) = other.refuse();
                port.end = other;
                (result, half)
            }
        };
        receiver.end = End::Receiver(rest);
        result
    })
}
