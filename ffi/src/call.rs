//! Request and answer.

use std::ffi::c_void;
use std::time::Duration;

use messageport::{
    AnswerError, CallError, Client as RustClient, MessagePort, NotAnswered, PendingCall, PostError, PostErrorKind,
    Responder as RustResponder, Server as RustServer, TransferBuffer, Transferable,
};

use crate::buffer::Buffer;
use crate::code::{self, Code};
use crate::end::Missed;
use crate::failure::Failure;
use crate::frozen::Frozen;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::input::{Timeout, bytes};
use crate::message::MessageHandle;
use crate::port::{Port, PortHandle};
use crate::post::{ITEM_BUFFER, ITEM_DESCRIPTOR, ITEM_FROZEN, ITEM_PORT, ITEM_SHARED, Item, items_of, open_descriptor};
use crate::shared::Shared;

/// `msgport_client`.
pub type ClientHandle = Handle<Client>;

pub struct Client(RustClient);

impl Kind for Client {
    const NAME: &'static str = "client";
    const TAG: u64 = u64::from_le_bytes(*b"client\0\0");
}

/// `msgport_pending`.
pub type PendingHandle = Handle<Pending>;

pub struct Pending(PendingCall);

impl Kind for Pending {
    const NAME: &'static str = "pending";
    const TAG: u64 = u64::from_le_bytes(*b"pending\0");
}

/// `msgport_server`.
pub type ServerHandle = Handle<Server>;

pub struct Server(RustServer);

impl Kind for Server {
    const NAME: &'static str = "server";
    const TAG: u64 = u64::from_le_bytes(*b"server\0\0");
}

/// `msgport_responder`.
pub type ResponderHandle = Handle<Responder>;

/// `None`: it has answered.
pub struct Responder(Option<RustResponder>);

impl Kind for Responder {
    const NAME: &'static str = "responder";
    const TAG: u64 = u64::from_le_bytes(*b"responde");
}

/// The things of a list, taken out of their handles, and where to put them back.
struct Taken<'a> {
    places: Vec<Place<'a>>,
}

enum Place<'a> {
    Port(&'a mut Port),
    Buffer(&'a mut Option<TransferBuffer>),
    /// A handle or a descriptor of the message's own.
    Duplicate,
}

impl<'a> Taken<'a> {
    /// Takes all of it, or nothing.
    ///
    /// # Safety
    /// `items` leads to `count` items; the handles in them live for `'a`, and nobody else uses them.
    unsafe fn take(items: *const Item, count: usize) -> Result<(Self, Vec<Transferable>), Failure> {
        // SAFETY: what the caller promises.
        let items = unsafe { items_of(items, count) }?;
        let mut taken = Self { places: Vec::with_capacity(count) };
        let mut list = Vec::with_capacity(count);
        // The same handle twice must not be borrowed twice.
        let address = |item: &Item| matches!(item.kind, ITEM_PORT | ITEM_BUFFER).then(|| item.handle::<Port>().addr());
        let mut addresses: Vec<usize> = items.iter().filter_map(address).collect();
        addresses.sort_unstable();
        if addresses.windows(2).any(|two| two[0] == two[1]) {
            return Err(PostErrorKind::Duplicate.into());
        }
        for (index, item) in items.iter().enumerate() {
            // SAFETY: handles that live, no two the same, says the caller and the check above.
            match unsafe { take_one(index, item) } {
                Ok((place, thing)) => {
                    taken.places.push(place);
                    list.push(thing);
                }
                Err(failure) => {
                    taken.put_back(list);
                    return Err(failure);
                }
            }
        }
        Ok((taken, list))
    }

    fn put_back(self, list: Vec<Transferable>) {
        for (place, thing) in self.places.into_iter().zip(list) {
            match (place, thing) {
                (Place::Port(place), Transferable::Port(port)) => place.put_back(port),
                (Place::Buffer(place), Transferable::Buffer(buffer)) => *place = Some(buffer),
                _ => {}
            }
        }
    }

    fn failed(self, error: PostError) -> Failure {
        self.put_back(error.transfer);
        error.kind.into()
    }
}

/// # Safety
/// The handle in the item lives for `'a`, and nobody else uses it.
unsafe fn take_one<'a>(index: usize, item: &Item) -> Result<(Place<'a>, Transferable), Failure> {
    let not_a_handle = |_| Failure::bad_item(index, "not a handle of that kind");
    if item.reserved != 0 {
        return Err(Failure::bad_item(index, "its reserved field is not 0"));
    }
    Ok(match item.kind {
        ITEM_PORT => {
            // SAFETY: a handle that lives, and nobody else uses it, says the caller.
            let port = unsafe { Handle::<Port>::get_mut(item.handle()) }.map_err(not_a_handle)?;
            let whole = port.take_whole().map_err(|failure| match failure.code() {
                code::DETACHED | code::BORROWED => PostErrorKind::Unusable { index }.into(),
                _ => Failure::bad_item(index, "a half of a port, or a port in an event loop or a set"),
            })?;
            (Place::Port(port), whole.into())
        }
        ITEM_BUFFER => {
            // SAFETY: as above.
            let place = unsafe { Handle::<Buffer>::get_mut(item.handle()) }.map_err(not_a_handle)?.place();
            let buffer = place.take().ok_or(PostErrorKind::Unusable { index })?;
            (Place::Buffer(place), buffer.into())
        }
        ITEM_FROZEN => {
            // SAFETY: as above.
            let frozen = unsafe { Handle::<Frozen>::get(item.handle()) }.map_err(not_a_handle)?.0.clone();
            (Place::Duplicate, frozen.into())
        }
        ITEM_SHARED => {
            // SAFETY: as above.
            let shared = unsafe { Handle::<Shared>::get(item.handle()) }.map_err(not_a_handle)?.0.clone();
            (Place::Duplicate, shared.into())
        }
        ITEM_DESCRIPTOR => {
            let number = item.descriptor();
            let copy =
                open_descriptor(index, number)?.try_clone_to_owned().map_err(|error| Failure::exhausted(&error))?;
            (Place::Duplicate, copy.into())
        }
        _ => return Err(Failure::bad_item(index, "unknown kind")),
    })
}

/// # Safety
/// `port` is NULL or a handle that nobody else uses.
unsafe fn take_port(port: *mut PortHandle) -> Result<MessagePort, Failure> {
    // SAFETY: as above.
    unsafe { Handle::get_mut(port) }?.take_whole()
}

fn no_answer(error: AnswerError) -> Failure {
    match error {
        AnswerError::Dropped => Failure::plain(code::REQUEST_DROPPED),
        AnswerError::TimedOut => Failure::plain(code::TIMED_OUT),
        AnswerError::Taken => Failure::plain(code::CALL_OVER),
        AnswerError::Failed(error) => error.into(),
        error => Failure::internal(&error),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_client_new(port: *mut PortHandle, client: *mut *mut ClientHandle) -> Code {
    guard(|| {
        let out = Out::new(client, "client")?;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let client = Client(RustClient::new(unsafe { take_port(port) }?));
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(client)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_client_free(client: *mut ClientHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(client) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_client_call(
    client: *const ClientHandle,
    data: *const c_void,
    len: usize,
    items: *const Item,
    count: usize,
    timeout: i64,
    answer: *mut MessageHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let client = &unsafe { Handle::get(client) }?.0;
        // SAFETY: readable, says the header.
        let data = unsafe { bytes(data, len, "data") }?;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let answer = unsafe { Handle::get_mut(answer) }?;
        // SAFETY: so many items, says the header.
        let (taken, list) = unsafe { Taken::take(items, count) }?;
        answer.emptied().clear();
        let result = match Timeout::of_nanoseconds(timeout).until_forever() {
            None => client.call(data, list),
            Some(timeout) => client.call_timeout(data, list, timeout),
        };
        match result {
            Ok(message) => {
                *answer.emptied() = message;
                answer.sort();
                Ok(())
            }
            Err(CallError::NotPosted(error)) => Err(taken.failed(error)),
            Err(CallError::NoAnswer(error)) => Err(no_answer(error)),
            Err(error) => Err(Failure::internal(&error)),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_client_start(
    client: *const ClientHandle,
    data: *const c_void,
    len: usize,
    items: *const Item,
    count: usize,
    pending: *mut *mut PendingHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let client = &unsafe { Handle::get(client) }?.0;
        // SAFETY: readable, says the header.
        let data = unsafe { bytes(data, len, "data") }?;
        let out = Out::new(pending, "pending")?;
        // SAFETY: so many items, says the header.
        let (taken, list) = unsafe { Taken::take(items, count) }?;
        let pending = client.start(data, list).map_err(|error| taken.failed(error))?;
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(Pending(pending))) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_client_set_spin(client: *const ClientHandle, nanoseconds: u64) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        unsafe { Handle::get(client) }?.0.set_spin(Duration::from_nanos(nanoseconds));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_pending_wait(
    pending: *mut PendingHandle,
    timeout: i64,
    answer: *mut MessageHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let pending = &mut unsafe { Handle::get_mut(pending) }?.0;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let answer = unsafe { Handle::get_mut(answer) }?;
        answer.emptied().clear();
        let message = match Timeout::of_nanoseconds(timeout) {
            Timeout::None => pending.try_take().map_err(no_answer)?.ok_or(Failure::plain(code::EMPTY))?,
            Timeout::For(time) => pending.wait_timeout(time).map_err(no_answer)?,
            Timeout::Forever => pending.wait_timeout(Duration::MAX).map_err(no_answer)?,
        };
        *answer.emptied() = message;
        answer.sort();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_pending_free(pending: *mut PendingHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(pending) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_server_new(port: *mut PortHandle, server: *mut *mut ServerHandle) -> Code {
    guard(|| {
        let out = Out::new(server, "server")?;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let server = Server(RustServer::new(unsafe { take_port(port) }?));
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(server)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_server_free(server: *mut ServerHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(server) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_server_set_spin(server: *mut ServerHandle, nanoseconds: u64) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        unsafe { Handle::get(server) }?.0.set_spin(Duration::from_nanos(nanoseconds));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_server_recv(
    server: *mut ServerHandle,
    timeout: i64,
    request: *mut MessageHandle,
    responder: *mut *mut ResponderHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let server = &unsafe { Handle::get(server) }?.0;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let request = unsafe { Handle::get_mut(request) }?;
        let out = Out::new(responder, "responder")?;
        request.emptied().clear();
        let result = match Timeout::of_nanoseconds(timeout) {
            Timeout::Forever => server.recv().map_err(Missed::from),
            Timeout::None => server.try_recv().map_err(Missed::from),
            Timeout::For(time) => server.recv_timeout(time).map_err(Missed::from),
        };
        let (message, responder) = result.map_err(|missed| missed.into_failure(request.emptied()))?;
        *request.emptied() = message;
        request.sort();
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(Responder(Some(responder)))) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_responder_answer(
    responder: *mut ResponderHandle,
    data: *const c_void,
    len: usize,
    items: *const Item,
    count: usize,
    timeout: i64,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let responder = &mut unsafe { Handle::get_mut(responder) }?.0;
        // SAFETY: readable, says the header.
        let data = unsafe { bytes(data, len, "data") }?;
        if responder.is_none() {
            return Err(Failure::plain(code::CALL_OVER));
        }
        // SAFETY: so many items, says the header.
        let (taken, list) = unsafe { Taken::take(items, count) }?;
        let Some(duty) = responder.take() else { return Ok(()) };
        let result = match Timeout::of_nanoseconds(timeout) {
            Timeout::None => duty.answer(data, list),
            timeout => duty.answer_wait(data, list, timeout.until_forever()),
        };
        result.map_err(|NotAnswered { error, responder: back }| {
            *responder = Some(back);
            taken.failed(error)
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_responder_free(responder: *mut ResponderHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(responder) });
        Ok(())
    });
}
