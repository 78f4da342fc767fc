//! What an event loop watches besides its ports: descriptors of the program, listeners, and repeating timers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

use messageport::{Readiness, WatchError};

use super::event_loop::{Loop, LoopHandle, Task};
use super::handlers::Lent;
use super::listener::{ListenerHandle, Peer};
use crate::code::{self, Code};
use crate::failure::{Failure, watching};
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::{Deferral, Destroy, User, duration};
use crate::port::PortHandle;
use crate::transfer::MessageHandle;

/// `MSGPORT_READABLE`.
pub const READABLE: u32 = 1;
/// `MSGPORT_WRITABLE`.
pub const WRITABLE: u32 = 2;

/// `msgport_ready_handler`.
pub type ReadyHandler =
    Option<unsafe extern "C" fn(event_loop: *mut LoopHandle, descriptor: c_int, ready: u32, user: *mut c_void)>;

/// `msgport_connect_handler`.
pub type ConnectHandler = Option<
    unsafe extern "C" fn(
        event_loop: *mut LoopHandle,
        port: *mut PortHandle,
        greeting: *mut MessageHandle,
        peer: *const Peer,
        user: *mut c_void,
    ),
>;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_set_interval(
    event_loop: *mut LoopHandle,
    period: i64,
    callback: Task,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let _claim = event_loop.claims.enter()?;
        let callback = callback.ok_or_else(|| Failure::null("callback"))?;
        let (own, user) = (event_loop.own.clone(), User::new(user, destroy));
        let timer = event_loop.events.set_interval(duration(period), move |_| {
            // SAFETY: the caller of C passed this function for this data, and the loop has not been freed.
            own.with(|event_loop| unsafe { callback(event_loop, user.data()) });
        });
        // SAFETY: NULL or writable; the caller of C upholds it.
        give_id(event_loop, &event_loop.timers, timer, unsafe { Out::optional(id) });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_watch(
    event_loop: *mut LoopHandle,
    descriptor: c_int,
    interest: u32,
    handler: ReadyHandler,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let _claim = event_loop.claims.enter()?;
        let handler = handler.ok_or_else(|| Failure::null("handler"))?;
        if interest == 0 || interest & !(READABLE | WRITABLE) != 0 {
            return Err(Failure::bad_argument("interest is not MSGPORT_READABLE, MSGPORT_WRITABLE or both"));
        }
        if descriptor < 0 {
            return Err(Failure::bad_argument("the descriptor is negative"));
        }
        let mut interests = Readiness::default();
        (interests.readable, interests.writable) = (interest & READABLE != 0, interest & WRITABLE != 0);
        // SAFETY: the caller of C keeps it open until it is watched no more.
        let source = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let user = User::new(user, destroy);
        let (own, owner) = (event_loop.own.clone(), user.owner());
        owner.give_back(); // until it has succeeded
        let watch = event_loop.events.watch(source, interests, move |_, _, ready| {
            let flags = if ready.readable { READABLE } else { 0 } | if ready.writable { WRITABLE } else { 0 };
            // SAFETY: the caller of C passed this handler for this data, and the loop has not been freed.
            own.with(|event_loop| unsafe { handler(event_loop, descriptor, flags, user.data()) });
        });
        let watch = watch.map_err(|error| not_watched(error.kind))?;
        owner.take_over();
        // SAFETY: NULL or writable; the caller of C upholds it.
        give_id(event_loop, &event_loop.watches, watch, unsafe { Out::optional(id) });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_add_listener(
    event_loop: *mut LoopHandle,
    listener: *mut ListenerHandle,
    handler: ConnectHandler,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let _claim = event_loop.claims.enter()?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let place = unsafe { Handle::get_mut(listener) }?.place();
        let handler = handler.ok_or_else(|| Failure::null("handler"))?;
        let moved = place.take().ok_or(Failure::plain(code::DETACHED))?;
        let user = User::new(user, destroy);
        let (own, owner) = (event_loop.own.clone(), user.owner());
        owner.give_back(); // until it has succeeded
        let mut lent = Lent::new();
        let added = event_loop.events.add_listener(moved, move |_, client| {
            let Ok(message) = lent.message() else { return };
            message.fill(client.greeting);
            let peer = Peer::new(client.uid, client.pid);
            let port = Handle::give(client.port.into());
            // SAFETY: the caller of C passed this handler for this data, and the loop has not been freed.
            own.with(|event_loop| unsafe { handler(event_loop, port, lent.handle(), &raw const peer, user.data()) });
        });
        let watch = added.map_err(|error| {
            let (kind, listener) = error.into_parts();
            *place = Some(listener);
            not_watched(kind)
        })?;
        owner.take_over();
        // SAFETY: NULL or writable; the caller of C upholds it.
        give_id(event_loop, &event_loop.watches, watch, unsafe { Out::optional(id) });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_unwatch(event_loop: *mut LoopHandle, id: u64) -> Code {
    guard(|| {
        let _deferral = Deferral::begin();
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let _claim = event_loop.claims.enter()?;
        let watch = event_loop.watches.borrow_mut().remove(&id);
        match watch {
            Some(watch) if event_loop.events.unwatch(watch) => Ok(()),
            _ => Err(Failure::plain(code::NOT_FOUND)),
        }
    })
}

/// Gives C the number of a new timer or watch.
fn give_id<T>(event_loop: &Loop, things: &RefCell<HashMap<u64, T>>, thing: T, out: Option<Out<u64>>) {
    let number = event_loop.new_number();
    things.borrow_mut().insert(number, thing);
    if let Some(out) = out {
        out.set(number);
    }
}

/// The failure to watch a descriptor: that of a loop, or the descriptor cannot be watched.
fn not_watched(error: WatchError) -> Failure {
    match error {
        WatchError::System(error) => Failure::of_system(&error, &error),
        error => watching(&error.into()),
    }
}
