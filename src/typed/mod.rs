//! Typed ports: values of any serde type in messages.
//!
//! [`things`] moves the ports and buffers inside a value, [`encoding`] turns it into bytes and back, [`call`] is request
//! and answer with typed values.
#![forbid(unsafe_code)]

mod call;
mod encoding;
mod things;

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::call::{TypedClient, TypedPendingCall, TypedResponder, TypedServer};
use self::encoding::{decode, encode};
use crate::end::End;
use crate::end::wait::Deadline;
use crate::error::{PostErrorKind, RecvError, RecvTimeoutError, TryRecvError};
use crate::port::iter::next_of;
use crate::port::message::Message;
use crate::port::post::check;
use crate::port::transfer::TransferRef;
use crate::port::{MessagePort, RecvHalf, SendHalf, loan};
use crate::scratch;

/// A port for values: posts `Out`, receives `In`, which can be any types of [serde](https://serde.rs), in the encoding of
/// [postcard](https://docs.rs/postcard). Its peer is a `TypedPort<In, Out>`.
///
/// Ports and buffers inside a value move with it; there is no transfer list to be kept. If the post fails, everything is
/// still in the value, which comes back in the error, and still works. A value must have them in it until the post has
/// returned: one that `Serialize` made for the occasion and dropped makes the post fail.
///
/// ```
/// use messageport::{MessageChannel, MessagePort, TransferBuffer, TypedPort};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Job {
///     name: String,
///     frame: TransferBuffer,
///     reply: MessagePort,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = MessageChannel::new()?;
/// let sender: TypedPort<Job, ()> = port1.into();
/// let receiver: TypedPort<(), Job> = port2.into();
///
/// let answer = MessageChannel::new()?;
/// sender.post(Job { name: "blur".into(), frame: TransferBuffer::new(1 << 20)?, reply: answer.port2 })?;
///
/// let job = receiver.recv()?;
/// job.reply.post_message(format!("{}: {} bytes", job.name, job.frame.len()).as_bytes(), [])?;
/// assert_eq!(answer.port1.recv()?.data, b"blur: 1048576 bytes");
/// # Ok(()) }
/// ```
///
/// # What can go wrong with a value
/// Both sides must mean the same type: the encoding does not describe itself. A message that is no `In` is
/// [`RecvError::MessageError`] with the reason and the data. It has been consumed then, everything it carried is closed,
/// and the next message is not affected. Whatever a peer sends, decoding neither panics nor uses up the stack; memory is
/// proportional to the message. Only a sequence of elements that take no bytes (`Vec<()>`) has no such bound on the time
/// it takes: do not expect one from a peer that you do not trust. What the `Deserialize` of your own types does with
/// hostile values is theirs to decide.
pub struct TypedPort<Out, In> {
    port: MessagePort,
    values: PhantomData<fn(Out) -> In>,
}

/// The sending half of a [`TypedPort`]; see [`SendHalf`].
pub struct TypedSendHalf<Out> {
    half: SendHalf,
    values: PhantomData<fn(Out)>,
}

/// The receiving half of a [`TypedPort`]; see [`RecvHalf`].
pub struct TypedRecvHalf<In> {
    half: RecvHalf,
    values: PhantomData<fn() -> In>,
}

impl<Out, In> TypedPort<Out, In> {
    /// The port beneath.
    pub fn as_port(&self) -> &MessagePort {
        &self.port
    }

    /// The port beneath; its queue is as it was.
    pub fn into_port(self) -> MessagePort {
        self.port
    }

    /// Splits the port into a sending and a receiving half, for two threads; see [`MessagePort::split`].
    pub fn split(self) -> (TypedSendHalf<Out>, TypedRecvHalf<In>) {
        let (sender, receiver) = self.port.split();
        (sender.into(), receiver.into())
    }
}

impl<Out: Serialize, In> TypedPort<Out, In> {
    /// Posts a value, with the ports and buffers in it; see [`MessagePort::post_message`]. It never blocks.
    ///
    /// # Errors
    /// In this order: the port itself is unusable; the value is [`Unencodable`](TypedPostErrorKind::Unencodable); it contains
    /// this port, or its peer, or the same thing twice, or something closed, detached, borrowed, or dropped by its own
    /// `Serialize` (`index` counts ports and buffers in the order of encoding); then as for
    /// [`post_message`](MessagePort::post_message). The value comes back, and everything in it works.
    #[inline]
    pub fn post(&self, value: Out) -> Result<(), TypedPostError<Out>> {
        post_value(self.port.end(), value, |data, list| self.port.sender.post(data, list))
    }

    /// Posts a value and, if the queue is full, waits for space for as long as the peer lives.
    ///
    /// # Errors
    /// As for [`post`](Self::post), without `Full`.
    pub fn post_wait(&self, value: Out) -> Result<(), TypedPostError<Out>> {
        post_value_by(&self.port.sender, value, Deadline::Never)
    }

    /// Posts a value and, if the queue is full, waits for space at most for `timeout`.
    ///
    /// # Errors
    /// As for [`post`](Self::post), with [`TimedOut`](PostErrorKind::TimedOut) instead of `Full`.
    pub fn post_timeout(&self, value: Out, timeout: Duration) -> Result<(), TypedPostError<Out>> {
        post_value_by(&self.port.sender, value, Deadline::after(timeout))
    }
}

impl<Out, In: DeserializeOwned> TypedPort<Out, In> {
    /// Takes the next value, waiting for it as long as the peer lives.
    ///
    /// # Errors
    /// As for [`MessagePort::recv`]. A message that is no `In` is [`MessageError`](RecvError::MessageError).
    #[inline]
    pub fn recv(&self) -> Result<In, RecvError> {
        recv_value(|message| self.port.recv_into(message))
    }

    /// Takes the next value if there is one.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty), or as for [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&self) -> Result<In, TryRecvError> {
        recv_value(|message| self.port.try_recv_into(message))
    }

    /// Takes the next value, waiting for it at most for `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvTimeoutError::TimedOut), or as for [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<In, RecvTimeoutError> {
        recv_value(|message| self.port.recv_into_timeout(message, timeout))
    }
}

/// The values of a typed port: each step [waits](TypedPort::recv) for the next. It ends as [`Messages`](crate::Messages)
/// does; a message that is no `In` is an error between others.
#[must_use = "receives nothing until it is iterated over"]
pub struct Values<'a, In> {
    half: &'a RecvHalf,
    over: bool,
    values: PhantomData<fn() -> In>,
}

impl<In: DeserializeOwned> Iterator for Values<'_, In> {
    type Item = Result<In, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        let half = self.half;
        next_of(&mut self.over, || recv_value(|message| half.recv_into(message)))
    }
}

impl<In: DeserializeOwned> FusedIterator for Values<'_, In> {}

/// See [`Values`].
impl<'a, Out, In: DeserializeOwned> IntoIterator for &'a TypedPort<Out, In> {
    type Item = Result<In, RecvError>;
    type IntoIter = Values<'a, In>;

    fn into_iter(self) -> Values<'a, In> {
        Values { half: &self.port.receiver, over: false, values: PhantomData }
    }
}

/// See [`Values`].
impl<'a, In: DeserializeOwned> IntoIterator for &'a TypedRecvHalf<In> {
    type Item = Result<In, RecvError>;
    type IntoIter = Values<'a, In>;

    fn into_iter(self) -> Values<'a, In> {
        Values { half: &self.half, over: false, values: PhantomData }
    }
}

impl<In> fmt::Debug for Values<'_, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Values").field(self.half).finish()
    }
}

impl<Out> TypedSendHalf<Out> {
    /// The half beneath.
    pub fn as_half(&self) -> &SendHalf {
        &self.half
    }

    /// The half beneath.
    pub fn into_half(self) -> SendHalf {
        self.half
    }
}

impl<Out: Serialize> TypedSendHalf<Out> {
    /// See [`TypedPort::post`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn post(&self, value: Out) -> Result<(), TypedPostError<Out>> {
        post_value(self.half.end(), value, |data, list| self.half.post(data, list))
    }

    /// See [`TypedPort::post_wait`].
    ///
    /// # Errors
    /// The same.
    pub fn post_wait(&self, value: Out) -> Result<(), TypedPostError<Out>> {
        post_value_by(&self.half, value, Deadline::Never)
    }

    /// See [`TypedPort::post_timeout`].
    pub fn post_timeout(&self, value: Out, timeout: Duration) -> Result<(), TypedPostError<Out>> {
        post_value_by(&self.half, value, Deadline::after(timeout))
    }
}

impl<In> TypedRecvHalf<In> {
    /// The half beneath.
    pub fn as_half(&self) -> &RecvHalf {
        &self.half
    }

    /// The half beneath.
    pub fn into_half(self) -> RecvHalf {
        self.half
    }
}

impl<In: DeserializeOwned> TypedRecvHalf<In> {
    /// See [`TypedPort::recv`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn recv(&self) -> Result<In, RecvError> {
        recv_value(|message| self.half.recv_into(message))
    }

    /// See [`TypedPort::try_recv`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn try_recv(&self) -> Result<In, TryRecvError> {
        recv_value(|message| self.half.try_recv_into(message))
    }

    /// See [`TypedPort::recv_timeout`].
    ///
    /// # Errors
    /// The same.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<In, RecvTimeoutError> {
        recv_value(|message| self.half.recv_into_timeout(message, timeout))
    }
}

/// The way of a value into a message, by way of `end`.
#[inline]
fn post_value<T: Serialize, R>(
    end: &Arc<End>,
    value: T,
    post: impl FnOnce(&mut Vec<u8>, &[TransferRef<'_>]) -> Result<R, PostErrorKind>,
) -> Result<R, TypedPostError<T>> {
    let mut data = scratch::take();
    // 1. An unusable port is told before anything about the value.
    let attempt = || {
        check(end)?;
        // 2. Encode; ports and buffers in the value are lent.
        let list = encode(&value, &mut data)?;
        // 3. Post; then they are detached, or given back.
        Ok(loan::post(list, end, |list| post(&mut data, list))?)
    };
    let result = attempt();
    scratch::keep(data);
    result.map_err(|kind| TypedPostError { kind, value })
}

fn post_value_by<T: Serialize>(half: &SendHalf, value: T, deadline: Deadline) -> Result<(), TypedPostError<T>> {
    post_value(half.end(), value, |data, list| half.post_by(data, list, deadline))
}

/// The way of a value out of a message.
#[inline]
fn recv_value<T: DeserializeOwned, E: From<RecvError>>(
    recv: impl FnOnce(&mut Message) -> Result<(), E>,
) -> Result<T, E> {
    let mut message = Message::from(scratch::take());
    let result = recv(&mut message).and_then(|()| Ok(decode(&mut message)?));
    scratch::keep(message.data);
    result
}

/// Why a value was not posted.
#[derive(Debug)]
#[non_exhaustive]
pub enum TypedPostErrorKind {
    /// The value cannot be encoded: its `Serialize` returned an error, or it contains a sequence or map that does not
    /// state its length.
    Unencodable,
    /// The encoded value was not posted.
    Post(PostErrorKind),
}

impl From<PostErrorKind> for TypedPostErrorKind {
    fn from(kind: PostErrorKind) -> Self {
        Self::Post(kind)
    }
}

impl fmt::Display for TypedPostErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unencodable => f.write_str("the value cannot be encoded"),
            Self::Post(kind) => kind.fmt(f),
        }
    }
}

impl std::error::Error for TypedPostErrorKind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unencodable => None,
            Self::Post(kind) => kind.source(),
        }
    }
}

impl From<TypedPostErrorKind> for io::Error {
    fn from(error: TypedPostErrorKind) -> Self {
        match error {
            TypedPostErrorKind::Unencodable => Self::new(io::ErrorKind::InvalidInput, error),
            TypedPostErrorKind::Post(kind) => kind.into(),
        }
    }
}

/// A value was not posted: why, and the value back.
pub struct TypedPostError<T> {
    /// Why.
    pub kind: TypedPostErrorKind,
    /// The value. Ports and buffers in it are as they were.
    pub value: T,
}

impl<T> fmt::Debug for TypedPostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedPostError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for TypedPostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<T> std::error::Error for TypedPostError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

/// The value is dropped.
impl<T> From<TypedPostError<T>> for io::Error {
    fn from(error: TypedPostError<T>) -> Self {
        error.kind.into()
    }
}

impl<Out, In> From<MessagePort> for TypedPort<Out, In> {
    fn from(port: MessagePort) -> Self {
        Self { port, values: PhantomData }
    }
}

impl<Out, In> From<TypedPort<Out, In>> for MessagePort {
    fn from(port: TypedPort<Out, In>) -> Self {
        port.port
    }
}

impl<Out> From<SendHalf> for TypedSendHalf<Out> {
    fn from(half: SendHalf) -> Self {
        Self { half, values: PhantomData }
    }
}

impl<In> From<RecvHalf> for TypedRecvHalf<In> {
    fn from(half: RecvHalf) -> Self {
        Self { half, values: PhantomData }
    }
}

/// As for [`MessagePort`].
impl<Out, In> AsFd for TypedPort<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.as_fd()
    }
}

/// As for [`MessagePort`].
impl<In> AsFd for TypedRecvHalf<In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.half.as_fd()
    }
}

impl<Out, In> fmt::Debug for TypedPort<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPort").field(&self.port).finish()
    }
}

impl<Out> fmt::Debug for TypedSendHalf<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSendHalf").field(&self.half).finish()
    }
}

impl<In> fmt::Debug for TypedRecvHalf<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedRecvHalf").field(&self.half).finish()
    }
}
