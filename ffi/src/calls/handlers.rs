//! The handlers of a port in an event loop.

use std::ffi::c_void;
use std::rc::Rc;

use messageport::{
    CloseEvent, HandlerId, MessageErrorEvent, MessageEvent, PortEvent, PortHandle as LoopPort, RecvError,
};

use crate::code::{self, Code};
use crate::failure::{Failure, code_of};
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::{Deferral, Destroy, User};
use crate::port::{End, Handlers, Port, PortHandle};
use crate::transfer::{Message, MessageHandle, address_of};

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

/// An event whose handler can be set, as `onmessage` is, besides being added.
trait Event: PortEvent + Sized {
    fn set(port: &LoopPort, call: impl FnMut(&LoopPort, &mut Self) + 'static) -> HandlerId;
}

impl Event for MessageEvent {
    fn set(port: &LoopPort, call: impl FnMut(&LoopPort, &mut Self) + 'static) -> HandlerId {
        port.set_onmessage(call)
    }
}

impl Event for MessageErrorEvent {
    fn set(port: &LoopPort, call: impl FnMut(&LoopPort, &mut Self) + 'static) -> HandlerId {
        port.set_onmessageerror(call)
    }
}

impl Event for CloseEvent {
    fn set(port: &LoopPort, call: impl FnMut(&LoopPort, &mut Self) + 'static) -> HandlerId {
        port.set_onclose(call)
    }
}

/// What the three functions that add a handler have in common: `make` turns a function of C and its data into a
/// closure.
///
/// # Safety
/// `port` is NULL or a live handle; `id` is NULL or writable.
unsafe fn add<E: Event, F, C: FnMut(&mut E) + 'static>(
    port: *mut PortHandle,
    how: u32,
    handler: Option<F>,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
    make: impl FnOnce(F, User) -> C,
) -> Code {
    guard(|| {
        let _deferral = Deferral::begin(); // a handler that is set replaces another one
        let handler = handler.ok_or_else(|| Failure::null("handler"))?;
        // SAFETY: NULL or a live handle; the caller upholds it.
        let port = unsafe { Handle::get(port) }?;
        if ![SET, ADD, ADD_ONCE].contains(&how) {
            return Err(Failure::bad_argument("how is not MSGPORT_SET, MSGPORT_ADD or MSGPORT_ADD_ONCE"));
        }
        let in_loop = in_loop(port)?;
        let _claim = port.end().claim()?;
        // From here on nothing fails: the user data has an owner.
        let mut call = make(handler, User::new(user, destroy));
        let mut call = move |_: &LoopPort, event: &mut E| call(event);
        let handlers = port.handlers();
        let handler_id = match how {
            SET => E::set(in_loop, call),
            ADD => in_loop.add_handler(call),
            _ => {
                let (handlers, number) = (Rc::clone(handlers), handlers.borrow().len());
                in_loop.add_handler_once(move |port: &LoopPort, event: &mut E| {
                    if let Some(place) = handlers.borrow_mut().get_mut(number) {
                        *place = None;
                    }
                    call(port, event);
                })
            }
        };
        let number = number_of(handlers, handler_id);
        // SAFETY: NULL or writable; the caller upholds it.
        if let Some(out) = unsafe { Out::optional(id) } {
            out.set(number as u64);
        }
        Ok(())
    })
}

/// The number of a handler in C, which is its index. A handler that is set instead of another one keeps its number.
fn number_of(handlers: &Handlers, id: HandlerId) -> usize {
    let mut handlers = handlers.borrow_mut();
    handlers.iter().position(|known| *known == Some(id)).unwrap_or_else(|| {
        handlers.push(Some(id));
        handlers.len() - 1
    })
}

fn in_loop(port: &Port) -> Result<&LoopPort, Failure> {
    match port.end() {
        End::InLoop { port, .. } => Ok(port),
        _ => Err(Failure::plain(code::NOT_IN_LOOP)),
    }
}

/// The message that a loop lends to the handlers of a port.
pub(super) struct Lent(*mut MessageHandle);

impl Lent {
    pub(super) fn new() -> Self {
        Self(Handle::give(Message::for_handlers()))
    }

    pub(super) fn handle(&self) -> *mut MessageHandle {
        self.0
    }

    pub(super) fn message(&mut self) -> Result<&mut Message, Failure> {
        // SAFETY: `new` made it and `drop` frees it; a handler uses it only while it runs, when no reference exists.
        unsafe { Handle::get_mut(self.0) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and no handler runs that could still use it.
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
    let make = |handler: unsafe extern "C" fn(_, _, _), user: User| {
        let mut lent = Lent::new();
        move |event: &mut MessageEvent| {
            let Ok(message) = lent.message() else { return };
            message.swap_in(&mut event.message);
            // SAFETY: the caller of C passed this handler for this data. The port has not been freed: that removes its
            // handlers.
            unsafe { handler(port, lent.handle(), user.data()) };
            let Ok(message) = lent.message() else { return };
            message.swap_out(&mut event.message);
        }
    };
    // SAFETY: NULL or a live handle, NULL or writable; the caller of C upholds it.
    unsafe { add(port, how, handler, user, destroy, id, make) }
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
    let make = |handler: unsafe extern "C" fn(_, _, _, _), user: User| {
        move |event: &mut MessageErrorEvent| {
            // Stored for `msgport_describe`.
            Failure::from(RecvError::MessageError { reason: event.reason, data: Vec::new() }).code();
            // SAFETY: as for a message.
            unsafe { handler(port, address_of(&event.data), event.data.len(), user.data()) };
        }
    };
    // SAFETY: NULL or a live handle, NULL or writable; the caller of C upholds it.
    unsafe { add(port, how, handler, user, destroy, id, make) }
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
    let make = |handler: unsafe extern "C" fn(_, _, _), user: User| {
        move |event: &mut CloseEvent| {
            // Stored for `msgport_describe`.
            Failure::from(RecvError::Ended(event.reason)).code();
            // SAFETY: as for a message.
            unsafe { handler(port, code_of(event.reason), user.data()) };
        }
    };
    // SAFETY: NULL or a live handle, NULL or writable; the caller of C upholds it.
    unsafe { add(port, how, handler, user, destroy, id, make) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_remove_handler(port: *mut PortHandle, id: u64) -> Code {
    guard(|| {
        let _deferral = Deferral::begin();
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        let in_loop = in_loop(port)?;
        let _claim = port.end().claim()?;
        let handler = usize::try_from(id).ok().and_then(|id| port.handlers().borrow_mut().get_mut(id)?.take());
        match handler {
            Some(handler) if in_loop.remove_handler(handler) => Ok(()),
            _ => Err(Failure::plain(code::NOT_FOUND)),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_start(port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        let in_loop = in_loop(port)?;
        let _claim = port.end().claim()?;
        in_loop.start();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_dispatch_event(port: *mut PortHandle, message: *mut MessageHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let port = unsafe { Handle::get(port) }?;
        let in_loop = in_loop(port)?;
        let _claim = port.end().claim()?;
        let in_loop = in_loop.clone(); // outlives the handle, which a handler may free
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let own = unsafe { Handle::get_mut(message) }?.empty();
        let mut event = MessageEvent::new(own);
        in_loop.dispatch_event(&mut event);
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        unsafe { Handle::get_mut(message) }?.fill(event.message);
        Ok(())
    })
}
