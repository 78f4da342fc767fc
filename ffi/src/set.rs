//! Sets of ports without handlers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use messageport::{AddError, MessagePort, PortId, PortSet, RecvError, RecvHalf, SetEvent};

use crate::code::{self, Code};
use crate::end::End;
use crate::events::watching;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::input::Timeout;
use crate::message::MessageHandle;
use crate::port::PortHandle;

/// `msgport_set`.
pub type SetHandle = Handle<Set>;

pub struct Set {
    inner: Rc<RefCell<Inner>>,
}

impl Kind for Set {
    const NAME: &'static str = "set";
    const TAG: u64 = u64::from_le_bytes(*b"set\0\0\0\0\0");
}

struct Inner {
    set: PortSet<Watched>,
    /// The handles of the ports, as C knows them. A handle that is freed leaves the set.
    handles: HashMap<PortId, *mut PortHandle>,
}

/// What is in a set.
enum Watched {
    Whole(MessagePort),
    Half(RecvHalf),
}

impl AsRef<RecvHalf> for Watched {
    fn as_ref(&self) -> &RecvHalf {
        match self {
            Self::Whole(port) => port.as_ref(),
            Self::Half(half) => half,
        }
    }
}

impl From<Watched> for End {
    fn from(watched: Watched) -> Self {
        match watched {
            Watched::Whole(port) => Self::Whole(port),
            Watched::Half(half) => Self::Receiver(half),
        }
    }
}

/// A port's place in a set. Dropping it takes the port out and closes it.
pub(crate) struct Member {
    inner: Rc<RefCell<Inner>>,
    id: PortId,
}

impl Member {
    pub(crate) fn with_whole<R>(&self, call: impl FnOnce(&MessagePort) -> R) -> Result<R, Failure> {
        match self.inner.borrow_mut().set.get(self.id) {
            Some(Watched::Whole(port)) => Ok(call(port)),
            Some(Watched::Half(_)) => Err(Failure::plain(code::WRONG_HALF)),
            None => Err(Failure::plain(code::DETACHED)),
        }
    }

    pub(crate) fn with_receiver<R>(&self, call: impl FnOnce(&RecvHalf) -> R) -> Result<R, Failure> {
        let mut inner = self.inner.borrow_mut();
        let watched = inner.set.get(self.id).ok_or(Failure::plain(code::DETACHED))?;
        Ok(call(watched.as_ref()))
    }

    fn take(&self) -> Option<Watched> {
        let mut inner = self.inner.borrow_mut();
        inner.handles.remove(&self.id);
        inner.set.remove(self.id)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// `msgport_set_event`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiSetEvent {
    pub port: *mut PortHandle,
    pub code: Code,
    pub reserved: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_set_new(set: *mut *mut SetHandle) -> Code {
    guard(|| {
        let out = Out::new(set, "set")?;
        let set = PortSet::new().map_err(|error| watching(&error))?;
        let inner = Rc::new(RefCell::new(Inner { set, handles: HashMap::new() }));
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(Set { inner })) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_set_free(set: *mut SetHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        let Some(Set { inner }) = (unsafe { Handle::take(set) }) else { return Ok(()) };
        // The ports stand for themselves again.
        let handles = std::mem::take(&mut inner.borrow_mut().handles);
        for (id, port) in handles {
            let Some(watched) = inner.borrow_mut().set.remove(id) else { continue };
            // SAFETY: a handle in the set has not been freed, or it would have left.
            let port = unsafe { Handle::get_mut(port) }?;
            port.replace_end(|_| (watched.into(), Ok(())))?;
        }
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_set_add(set: *mut SetHandle, port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let inner = &unsafe { Handle::get(set) }?.inner;
        let pointer = port;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let port = unsafe { Handle::get_mut(port) }?;
        port.replace_end(|end| {
            let watched = match end {
                End::Whole(port) => Watched::Whole(port),
                End::Receiver(half) => Watched::Half(half),
                other => return other.refuse(),
            };
            let mut borrowed = inner.borrow_mut();
            match borrowed.set.add(watched) {
                Ok(id) => {
                    borrowed.handles.insert(id, pointer);
                    (End::InSet(Member { inner: Rc::clone(inner), id }), Ok(()))
                }
                Err(AddError { error, port }) => (port.into(), Err(watching(&error))),
            }
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_set_remove(set: *mut SetHandle, port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let set = unsafe { Handle::get(set) }?;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let port = unsafe { Handle::get_mut(port) }?;
        port.replace_end(|end| match end {
            End::InSet(member) if Rc::ptr_eq(&member.inner, &set.inner) => match member.take() {
                Some(watched) => (watched.into(), Ok(())),
                None => (End::Gone, Err(Failure::plain(code::DETACHED))),
            },
            other => (other, Err(Failure::plain(code::NOT_FOUND))),
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_set_next(
    set: *mut SetHandle,
    timeout: i64,
    message: *mut MessageHandle,
    event: *mut FfiSetEvent,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let set = unsafe { Handle::get(set) }?;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let message = unsafe { Handle::get_mut(message) }?;
        let out = Out::new(event, "event")?;
        message.emptied().clear();
        let mut inner = set.inner.borrow_mut();
        let (next, otherwise) = match Timeout::of_nanoseconds(timeout) {
            Timeout::Forever => (inner.set.wait(), code::NO_PORTS),
            Timeout::None => (inner.set.try_next(), code::EMPTY),
            Timeout::For(time) => (inner.set.wait_timeout(time), code::TIMED_OUT),
        };
        let Some((id, event)) = next.map_err(|error| watching(&error))? else {
            let empty = inner.set.is_empty();
            return Err(Failure::plain(if empty { code::NO_PORTS } else { otherwise }));
        };
        let port = inner.handles.get(&id).copied().ok_or_else(|| Failure::internal(&"a port without a handle"))?;
        let code = match event {
            SetEvent::Message(received) => {
                *message.emptied() = received;
                message.sort();
                code::OK
            }
            SetEvent::MessageError { reason, data } => {
                let code = Failure::from(RecvError::MessageError { reason, data: Vec::new() }).code();
                message.emptied().data = data;
                code
            }
            SetEvent::Closed(reason, watched) => {
                inner.handles.remove(&id);
                drop(inner);
                // SAFETY: a handle in the set has not been freed, or it would have left.
                let handle = unsafe { Handle::get_mut(port) }?;
                handle.replace_end(|_| (watched.into(), Ok(())))?;
                Failure::from(RecvError::Ended(reason)).code()
            }
            _ => return Err(Failure::internal(&"an unknown event of a set")),
        };
        // SAFETY: writable, says the header.
        unsafe { out.set(FfiSetEvent { port, code, reserved: 0 }) };
        Ok(())
    })
}
