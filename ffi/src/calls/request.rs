//! Request and answer.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use messageport::{
    CallError, Client as RustClient, Message as RustMessage, PendingCall, PostError, Responder as RustResponder,
    Server as RustServer, Transferable,
};

use crate::code::{self, Code};
use crate::failure::{Failure, NotReceived};
use crate::guard::{free, guard};
use crate::handle::{Handle, Object, Out};
use crate::input::{Timeout, bytes};
use crate::port::{Port, PortHandle};
use crate::transfer::{Item, MessageHandle, Taken};

/// `msgport_client`.
pub type ClientHandle = Handle<Client>;

pub struct Client(RustClient);

impl Object for Client {
    const NAME: &'static str = "client";
}

/// `msgport_pending`.
pub type PendingHandle = Handle<Pending>;

pub struct Pending(PendingCall);

impl Object for Pending {
    const NAME: &'static str = "pending";
}

/// `msgport_server`.
pub type ServerHandle = Handle<Server>;

pub struct Server(RustServer);

impl Object for Server {
    const NAME: &'static str = "server";
}

/// `msgport_responder`.
pub type ResponderHandle = Handle<Responder>;

/// `None` once it has answered.
pub struct Responder(Option<RustResponder>);

impl Object for Responder {
    const NAME: &'static str = "responder";
}

impl Client {
    /// Posts a request and waits for the answer.
    fn call(
        &self,
        data: &[u8],
        list: Vec<Transferable>,
        taken: Taken<'_>,
        timeout: Timeout,
    ) -> Result<RustMessage, Failure> {
        let result = match timeout {
            Timeout::Poll => return self.start(data, list, taken)?.wait(timeout),
            Timeout::For(time) => self.0.call_timeout(data, list, time),
            Timeout::Forever => self.0.call(data, list),
        };
        result.map_err(|error| match error {
            CallError::NotPosted(error) => taken.failed(error),
            CallError::NoAnswer(error) => error.into(),
            error => Failure::internal(&error),
        })
    }

    /// Posts a request.
    fn start(&self, data: &[u8], list: Vec<Transferable>, taken: Taken<'_>) -> Result<Pending, Failure> {
        self.0.start(data, list).map(Pending).map_err(|error| taken.failed(error))
    }
}

impl Pending {
    fn wait(&mut self, timeout: Timeout) -> Result<RustMessage, Failure> {
        match timeout {
            Timeout::Poll => self.0.try_wait()?.ok_or(Failure::plain(code::EMPTY)),
            Timeout::For(time) => Ok(self.0.wait_timeout(time)?),
            Timeout::Forever => Ok(self.0.wait_timeout(Duration::MAX)?),
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_client_new(port: *mut PortHandle, client: *mut *mut ClientHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(client, "client") }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let port = unsafe { Port::exclusive(port) }?;
        out.give(Client(RustClient::new(port.take_whole()?)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_client_free(client: *mut ClientHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(client) };
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
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let client = unsafe { Handle::get(client) }?;
        // SAFETY: readable for its length; the caller of C upholds it.
        let data = unsafe { bytes(data, len, "data") }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let answer = unsafe { Handle::get_mut(answer) }?;
        // SAFETY: `count` items with live handles in exclusive use; the caller of C upholds it.
        let (taken, list) = unsafe { Taken::take(items, count) }?;
        answer.clear();
        answer.fill(client.call(data, list, taken, Timeout::of(timeout))?);
        Ok(())
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
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let client = unsafe { Handle::get(client) }?;
        // SAFETY: readable for its length; the caller of C upholds it.
        let data = unsafe { bytes(data, len, "data") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(pending, "pending") }?;
        // SAFETY: `count` items with live handles in exclusive use; the caller of C upholds it.
        let (taken, list) = unsafe { Taken::take(items, count) }?;
        out.give(client.start(data, list, taken)?);
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
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let pending = unsafe { Handle::get_mut(pending) }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let answer = unsafe { Handle::get_mut(answer) }?;
        answer.clear();
        answer.fill(pending.wait(Timeout::of(timeout))?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_pending_free(pending: *mut PendingHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(pending) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_server_new(port: *mut PortHandle, server: *mut *mut ServerHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(server, "server") }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let port = unsafe { Port::exclusive(port) }?;
        out.give(Server(RustServer::new(port.take_whole()?)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_server_free(server: *mut ServerHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(server) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_server_recv(
    server: *mut ServerHandle,
    timeout: i64,
    request: *mut MessageHandle,
    responder: *mut *mut ResponderHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let server = &unsafe { Handle::get(server) }?.0;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let request = unsafe { Handle::get_mut(request) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(responder, "responder") }?;
        request.clear();
        let result = match Timeout::of(timeout) {
            Timeout::Forever => server.recv().map_err(NotReceived::from),
            Timeout::Poll => server.try_recv().map_err(NotReceived::from),
            Timeout::For(time) => server.recv_timeout(time).map_err(NotReceived::from),
        };
        let (message, responder) = result.map_err(|error| error.into_failure(request.emptied()))?;
        request.fill(message);
        out.give(Responder(Some(responder)));
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
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let responder = &mut unsafe { Handle::get_mut(responder) }?.0;
        // SAFETY: readable for its length; the caller of C upholds it.
        let data = unsafe { bytes(data, len, "data") }?;
        if responder.is_none() {
            return Err(Failure::plain(code::CALL_OVER));
        }
        // SAFETY: `count` items with live handles in exclusive use; the caller of C upholds it.
        let (taken, list) = unsafe { Taken::take(items, count) }?;
        let Some(open) = responder.take() else { return Ok(()) };
        let result = match Timeout::of(timeout) {
            Timeout::Poll => open.answer(data, list),
            Timeout::For(time) => open.answer_timeout(data, list, time),
            Timeout::Forever => open.answer_wait(data, list),
        };
        result.map_err(|error| {
            let (kind, (back, list)) = error.into_parts();
            *responder = Some(back);
            taken.failed(PostError::new(kind, list))
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_responder_is_cancelled(
    responder: *mut ResponderHandle,
    cancelled: *mut c_int,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let responder = &unsafe { Handle::get_mut(responder) }?.0;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(cancelled, "cancelled") }?;
        let open = responder.as_ref().ok_or(Failure::plain(code::CALL_OVER))?;
        out.set(open.is_cancelled().into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_responder_free(responder: *mut ResponderHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(responder) };
}
