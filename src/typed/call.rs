//! Request and answer with typed values: [`crate::call`] and an encoding.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::encoding::decode;
use super::{TypedPostError, TypedPostErrorKind, post_value};
use crate::call::{
    AnswerError, CallError, Client, PendingCall, RespondError, Responder, ServeError, Server, unless_gone,
};
use crate::end::wait::Deadline;
use crate::error::{RecvError, RecvTimeoutError, Refusal, TryRecvError};
use crate::port::MessagePort;
use crate::port::message::Message;
use crate::port::transfer::TransferRef;
use crate::scratch;

/// A [`Client`] whose requests are values of type `Req` and whose answers are values of type `Ans`, both any types of
/// [serde](https://serde.rs). Ports and buffers inside a value move with it, as in a [`TypedPort`](crate::TypedPort).
///
/// ```
/// use messageport::{MessageChannel, TypedClient, TypedServer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = MessageChannel::new()?;
/// let server = std::thread::spawn(|| {
///     TypedServer::<(f64, f64), Option<f64>>::new(port2).serve(|(a, b)| (b != 0.0).then(|| a / b))
/// });
/// let client = TypedClient::<(f64, f64), Option<f64>>::new(port1);
/// let first = client.start((1.0, 0.0))?; // any number of calls can be open at a time
/// assert_eq!(client.call((6.0, 2.0))?, Some(3.0));
/// assert_eq!(first.wait()?, None);
/// drop(client);
/// server.join().unwrap()?;
/// # Ok(()) }
/// ```
pub struct TypedClient<Req, Ans> {
    client: Client,
    values: PhantomData<fn(Req) -> Ans>,
}

/// A call that is open; see [`PendingCall`]. Dropping it cancels the call.
#[must_use = "dropping it cancels the call"]
pub struct TypedPendingCall<Ans> {
    call: PendingCall,
    values: PhantomData<fn() -> Ans>,
}

/// A [`Server`] whose requests and answers are values; see [`TypedClient`].
pub struct TypedServer<Req, Ans> {
    server: Server,
    values: PhantomData<fn(Req) -> Ans>,
}

/// The obligation to answer one request with a value; see [`Responder`].
#[must_use = "dropping it notifies the client that there is no answer"]
pub struct TypedResponder<Ans> {
    responder: Responder,
    values: PhantomData<fn(Ans)>,
}

impl<Req, Ans> TypedClient<Req, Ans> {
    /// Makes a port the client's end.
    pub fn new(port: MessagePort) -> Self {
        Self { client: Client::new(port), values: PhantomData }
    }

    /// Sets how long a blocked call spins before it sleeps; see [`Client::set_spin`].
    pub fn set_spin(&self, budget: Duration) {
        self.client.set_spin(budget);
    }
}

impl<Req: Serialize, Ans: DeserializeOwned> TypedClient<Req, Ans> {
    /// Posts a request and returns without waiting for the answer. Never blocks.
    ///
    /// # Errors
    /// Those of [`TypedPort::post`](crate::TypedPort::post), including [`Full`](crate::PostErrorKind::Full), with the
    /// request.
    pub fn start(&self, request: Req) -> Result<TypedPendingCall<Ans>, TypedPostError<Req>> {
        let post = |data: &mut Vec<u8>, list: &[TransferRef<'_>]| self.client.post(data, list, Deadline::Now);
        let number = post_value(self.client.end(), request, post)?;
        Ok(TypedPendingCall { call: self.client.pending(number), values: PhantomData })
    }

    /// Posts a request, after waiting for space if the queue is full, and waits for the answer for as long as the
    /// server lives.
    ///
    /// # Errors
    /// [`NotPosted`](CallError::NotPosted) with the request; [`NoAnswer`](CallError::NoAnswer), also if the answer is
    /// not an `Ans`.
    #[inline]
    pub fn call(&self, request: Req) -> Result<Ans, CallError<TypedPostError<Req>>> {
        self.call_until(request, Deadline::Never)
    }

    /// As [`call`](Self::call), waiting for at most `timeout`, for space and answer together.
    ///
    /// # Errors
    /// Those of [`call`](Self::call), and `TimedOut` in either.
    pub fn call_timeout(&self, request: Req, timeout: Duration) -> Result<Ans, CallError<TypedPostError<Req>>> {
        self.call_until(request, Deadline::after(timeout))
    }

    #[inline]
    fn call_until(&self, request: Req, deadline: Deadline) -> Result<Ans, CallError<TypedPostError<Req>>> {
        let post = |data: &mut Vec<u8>, list: &[TransferRef<'_>]| self.client.post(data, list, deadline);
        let number = post_value(self.client.end(), request, post).map_err(CallError::NotPosted)?;
        let mut answer = Message::from(scratch::take());
        let result = self.client.finish(number, deadline, &mut answer);
        answer_of(result, answer).map_err(CallError::NoAnswer)
    }
}

impl<Ans: DeserializeOwned> TypedPendingCall<Ans> {
    /// Waits for the answer for as long as the server lives.
    ///
    /// # Errors
    /// [`AnswerError`]. The call is over after any error.
    pub fn wait(mut self) -> Result<Ans, AnswerError> {
        self.wait_until(Deadline::Never)
    }

    /// Waits for the answer for at most `timeout`.
    ///
    /// # Errors
    /// [`AnswerError`]. The call is still open after [`TimedOut`](AnswerError::TimedOut) and after a shortage of memory
    /// or descriptors.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Ans, AnswerError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Takes the answer if it has arrived, without waiting. `None`: it has not, and the call is still open.
    ///
    /// # Errors
    /// [`AnswerError`], except `TimedOut`.
    pub fn try_wait(&mut self) -> Result<Option<Ans>, AnswerError> {
        match self.wait_until(Deadline::Now) {
            Err(AnswerError::TimedOut) => Ok(None),
            result => result.map(Some),
        }
    }

    fn wait_until(&mut self, deadline: Deadline) -> Result<Ans, AnswerError> {
        let mut answer = Message::from(scratch::take());
        let result = self.call.wait_into(&mut answer, deadline);
        answer_of(result, answer)
    }
}

impl<Req, Ans> TypedServer<Req, Ans> {
    /// Makes a port the server's end.
    pub fn new(port: MessagePort) -> Self {
        Self { server: Server::new(port), values: PhantomData }
    }

    /// Sets how long a blocked call spins before it sleeps; see [`MessagePort::set_spin`].
    pub fn set_spin(&self, budget: Duration) {
        self.server.set_spin(budget);
    }
}

impl<Req: DeserializeOwned, Ans: Serialize> TypedServer<Req, Ans> {
    /// Takes the next request, waiting for it as long as the client lives.
    ///
    /// # Errors
    /// Those of [`Server::recv`]. A request that is not a `Req` is a [`MessageError`](RecvError::MessageError), and
    /// counts as dropped.
    pub fn recv(&self) -> Result<(Req, TypedResponder<Ans>), RecvError> {
        let (message, responder) = self.server.recv()?;
        typed_request(message, responder)
    }

    /// Takes the next request if there is one, without waiting.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty), and those of [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<(Req, TypedResponder<Ans>), TryRecvError> {
        let (message, responder) = self.server.try_recv()?;
        Ok(typed_request(message, responder)?)
    }

    /// Takes the next request, waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvTimeoutError::TimedOut), and those of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<(Req, TypedResponder<Ans>), RecvTimeoutError> {
        let (message, responder) = self.server.recv_timeout(timeout)?;
        Ok(typed_request(message, responder)?)
    }

    /// Answers every request with the value that `handler` returns for it. Returns when the client has closed its end.
    /// A request that is not a `Req` is dropped, and so is a request whose `handler` panics.
    ///
    /// # Errors
    /// [`ServeError`]. The server can be used again.
    pub fn serve(&self, mut handler: impl FnMut(Req) -> Ans) -> Result<(), ServeError<TypedPostErrorKind>> {
        self.server.serve_with(|message, open| {
            // Not a `Req`: dropping `open` unanswered notifies the client.
            let Ok(request) = decode(message) else { return Ok(()) };
            let result = post_value(open.end(), handler(request), |data, list| {
                unless_gone(open.post(data, list, Deadline::Never))
            });
            result.map_err(|error| error.kind)
        })
    }
}

impl<Ans> TypedResponder<Ans> {
    /// True once the answer is unwanted; see [`Responder::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.responder.is_cancelled()
    }
}

impl<Ans: Serialize> TypedResponder<Ans> {
    /// Posts the answer. Never blocks.
    ///
    /// # Errors
    /// Those of [`TypedPort::post`](crate::TypedPort::post), including [`Full`](crate::PostErrorKind::Full), with the
    /// responder and the answer.
    pub fn answer(self, answer: Ans) -> Result<(), RespondError<TypedPostErrorKind, Self, Ans>> {
        self.post(answer, Deadline::Now)
    }

    /// Posts the answer and, if the queue is full, waits for space for as long as the client lives.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer) except `Full`.
    pub fn answer_wait(self, answer: Ans) -> Result<(), RespondError<TypedPostErrorKind, Self, Ans>> {
        self.post(answer, Deadline::Never)
    }

    /// Posts the answer and, if the queue is full, waits for space for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer), with [`TimedOut`](crate::PostErrorKind::TimedOut) instead of `Full`.
    pub fn answer_timeout(
        self,
        answer: Ans,
        timeout: Duration,
    ) -> Result<(), RespondError<TypedPostErrorKind, Self, Ans>> {
        self.post(answer, Deadline::after(timeout))
    }

    fn post(self, answer: Ans, deadline: Deadline) -> Result<(), RespondError<TypedPostErrorKind, Self, Ans>> {
        let open = self.responder.open();
        let result = post_value(open.end(), answer, |data, list| open.post(data, list, deadline));
        result.map_err(|error| {
            let (kind, answer) = error.into_parts();
            Refusal::new(kind, (self, answer))
        })
    }
}

/// Decodes a request. If it is not a `Req`, dropping the responder notifies the client.
fn typed_request<Req: DeserializeOwned, Ans>(
    mut message: Message,
    responder: Responder,
) -> Result<(Req, TypedResponder<Ans>), RecvError> {
    Ok((decode(&mut message)?, TypedResponder { responder, values: PhantomData }))
}

/// Decodes an answer, if there is one.
#[inline]
fn answer_of<Ans: DeserializeOwned>(result: Result<(), AnswerError>, mut answer: Message) -> Result<Ans, AnswerError> {
    let value = result.and_then(|()| Ok(decode(&mut answer)?));
    scratch::keep(answer.data);
    value
}

/// Clones of the untyped client can still be used.
impl<Req, Ans> From<Client> for TypedClient<Req, Ans> {
    fn from(client: Client) -> Self {
        Self { client, values: PhantomData }
    }
}

impl<Req, Ans> From<Server> for TypedServer<Req, Ans> {
    fn from(server: Server) -> Self {
        Self { server, values: PhantomData }
    }
}

/// Clones stand for the same client and can be used by other threads.
impl<Req, Ans> Clone for TypedClient<Req, Ans> {
    fn clone(&self) -> Self {
        self.client.clone().into()
    }
}

/// The descriptor to wait on for requests; see [`MessagePort`'s](MessagePort#impl-AsFd-for-MessagePort).
impl<Req, Ans> AsFd for TypedServer<Req, Ans> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.server.as_fd()
    }
}

impl<Req, Ans> fmt::Debug for TypedClient<Req, Ans> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedClient").field(&self.client).finish()
    }
}

impl<Ans> fmt::Debug for TypedPendingCall<Ans> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPendingCall").field(&self.call).finish()
    }
}

impl<Req, Ans> fmt::Debug for TypedServer<Req, Ans> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedServer").field(&self.server).finish()
    }
}

impl<Ans> fmt::Debug for TypedResponder<Ans> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedResponder").field(&self.responder).finish()
    }
}
