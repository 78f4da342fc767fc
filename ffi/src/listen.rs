//! The listeners of a port in an event loop.

use std::cell::RefCell;
use std::ffi::c_void;
use std::rc::Rc;

use messageport::{
    CloseEvent, ListenerId, MessageErrorEvent, MessageEvent, PortEvent, PortHandle as LoopPort, RecvError,
};

use crate::callback::{Destroy, User};
use crate::code::{self, Code};
use crate::end::End;
use crate::failure::{Failure, code_of};
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::message::{Message, MessageHandle};
use crate::port::{Port, PortHandle};

/// `MSGPORT_SET`.
pub const SET: u32 = 0;
/// `MSGPORT_ADD`.
pub const ADD: u32 = 1;
/// `MSGPORT_ADD_ONCE`.
pub const ADD_ONCE: u32 = 2;

/// `msgport_message_handler`.
pub type MessageHandler =
    Option<unsafe extern "C" fn(port: *mut PortHandle, message: *mut MessageHandle, user: *mut c_void)>;
/// `msgport_message_error_handler`.
pub type MessageErrorHandler =
    Option<unsafe extern "C" fn(port: *mut PortHandle, data: *const c_void, len: usize, user: *mut c_void)>;
/// `msgport_close_handler`.
pub type CloseHandler = Option<unsafe extern "C" fn(port: *mut PortHandle, reason: Code, user: *mut c_void)>;

/// The numbers of a port's listeners, as C knows them: their places here.
pub(crate) type Listeners = Rc<RefCell<Vec<Option<ListenerId>>>>;

/// The handle of a message that a loop lends to its handlers.
struct Lent(*mut MessageHandle);

impl Lent {
    fn handle(&self) -> *mut MessageHandle {
        self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: made by `lend`, and nobody uses it any more.
        drop(unsafe { Handle::take(self.0) });
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_on_message(
    port: *mut PortHandle,
    how: u32,
    handler: MessageHandler,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
) -> Code {
    guard(|| {
        let handler = handler.ok_or_else(|| Failure::null("handler"))?;
        // SAFETY: a handle or NULL, says the header.
        let place = unsafe { Place::new(port, how) }?;
        let (user, lent) = (User::new(user, destroy), Lent(Handle::give(Message::lent())));
        let call = move |_: &LoopPort, event: &mut MessageEvent| {
            // SAFETY: made above, and used by nobody while no handler runs.
            let Ok(message) = (unsafe { Handle::get_mut(lent.handle()) }) else { return };
            message.lend(&mut event.message);
            // SAFETY: the function and its data are what the caller gave us; the port has not been freed, or it would
            // have no listeners.
            unsafe { handler(port, lent.handle(), user.data()) };
            // SAFETY: as above.
            let Ok(message) = (unsafe { Handle::get_mut(lent.handle()) }) else { return };
            message.give_back(&mut event.message);
        };
        let number = match how {
            SET => place.keep(place.port.set_onmessage(call)),
            _ => place.add(call),
        };
        // SAFETY: writable or NULL, says the header.
        unsafe { tell(id, number) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_on_message_error(
    port: *mut PortHandle,
    how: u32,
    handler: MessageErrorHandler,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
) -> Code {
    guard(|| {
        let handler = handler.ok_or_else(|| Failure::null("handler"))?;
        // SAFETY: a handle or NULL, says the header.
        let place = unsafe { Place::new(port, how) }?;
        let user = User::new(user, destroy);
        let call = move |_: &LoopPort, event: &mut MessageErrorEvent| {
            // For msgport_describe().
            Failure::from(RecvError::MessageError { reason: event.reason, data: Vec::new() }).code();
            let data = if event.data.is_empty() { c"".as_ptr().cast() } else { event.data.as_ptr().cast() };
            // SAFETY: as for a message.
            unsafe { handler(port, data, event.data.len(), user.data()) };
        };
        let number = match how {
            SET => place.keep(place.port.set_onmessageerror(call)),
            _ => place.add(call),
        };
        // SAFETY: writable or NULL, says the header.
        unsafe { tell(id, number) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_on_close(
    port: *mut PortHandle,
    how: u32,
    handler: CloseHandler,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
) -> Code {
    guard(|| {
        let handler = handler.ok_or_else(|| Failure::null("handler"))?;
        // SAFETY: a handle or NULL, says the header.
        let place = unsafe { Place::new(port, how) }?;
        let user = User::new(user, destroy);
        let call = move |_: &LoopPort, event: &mut CloseEvent| {
            // For msgport_describe().
            Failure::from(RecvError::Ended(event.reason)).code();
            // SAFETY: as for a message.
            unsafe { handler(port, code_of(event.reason), user.data()) };
        };
        let number = match how {
            SET => place.keep(place.port.set_onclose(call)),
            _ => place.add(call),
        };
        // SAFETY: writable or NULL, says the header.
        unsafe { tell(id, number) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_remove_listener(port: *mut PortHandle, id: u64) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let handle = in_loop(port)?;
        let listener = usize::try_from(id).ok().and_then(|id| port.listeners().borrow_mut().get_mut(id)?.take());
        match listener {
            Some(listener) if handle.remove_listener(listener) => Ok(()),
            _ => Err(Failure::plain(code::NOT_FOUND)),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_start(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        in_loop(unsafe { Handle::get(port) }?)?.start();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_dispatch(port: *mut PortHandle, message: *mut MessageHandle) -> Code {
    guard(|| {
        // A clone, which outlives the handle if a handler frees that.
        // SAFETY: a handle or NULL, says the header.
        let handle = in_loop(unsafe { Handle::get(port) }?)?.clone();
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let taken = unsafe { Handle::get_mut(message) }?.take_all();
        let mut event = MessageEvent::new(taken);
        handle.dispatch_event(&mut event);
        // SAFETY: as above.
        unsafe { Handle::get_mut(message) }?.lend(&mut event.message);
        Ok(())
    })
}

fn in_loop(port: &Port) -> Result<&LoopPort, Failure> {
    match port.end() {
        End::InLoop { port, .. } => Ok(port),
        _ => Err(Failure::plain(code::NOT_IN_LOOP)),
    }
}

/// Where a listener goes.
struct Place<'a> {
    port: &'a LoopPort,
    once: bool,
    listeners: &'a Listeners,
}

impl<'a> Place<'a> {
    /// # Safety
    /// `port` is NULL or a handle that lives for `'a`.
    unsafe fn new(port: *const PortHandle, how: u32) -> Result<Self, Failure> {
        // SAFETY: as above.
        let port = unsafe { Handle::get(port) }?;
        if how > ADD_ONCE {
            return Err(Failure::bad_argument("how is not MSGPORT_SET, MSGPORT_ADD or MSGPORT_ADD_ONCE"));
        }
        Ok(Self { port: in_loop(port)?, once: how == ADD_ONCE, listeners: port.listeners() })
    }

    fn add<E: PortEvent>(&self, mut call: impl FnMut(&LoopPort, &mut E) + 'static) -> usize {
        if !self.once {
            return self.keep(self.port.add_listener(call));
        }
        let (listeners, number) = (Rc::clone(self.listeners), self.listeners.borrow().len());
        self.keep(self.port.add_listener_once(move |port: &LoopPort, event: &mut E| {
            if let Some(place) = listeners.borrow_mut().get_mut(number) {
                *place = None;
            }
            call(port, event);
        }))
    }

    /// Notes a listener, whose number is its place. One that took the place of an older one keeps that one's number.
    fn keep(&self, listener: ListenerId) -> usize {
        let mut listeners = self.listeners.borrow_mut();
        listeners.iter().position(|known| *known == Some(listener)).unwrap_or_else(|| {
            listeners.push(Some(listener));
            listeners.len() - 1
        })
    }
}

/// # Safety
/// `id` is NULL or writable.
unsafe fn tell(id: *mut u64, number: usize) {
    if let Ok(out) = Out::new(id, "id") {
        // SAFETY: writable, says the caller.
        unsafe { out.set(number as u64) };
    }
}
