//! Typed ports: values of any serde type in messages.
//!
//! [`encoding`] encodes and decodes a value, within the stack that [`depth`] allows, [`things`] moves the ports and
//! buffers inside it, and [`call`] is request and answer with typed values.
#![forbid(unsafe_code)]

mod encoding;
mod depth;
mod things;
mod call;

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
use crate::error::{BadValue, PostErrorKind, RecvError, RecvTimeoutError, Refusal, TryRecvError};
use crate::port::iter::next_of;
use crate::port::message::Message;
use crate::port::post::check_usable;
use crate::port::transfer::TransferRef;
use crate::port::{MessagePort, RecvHalf, SendHalf, loan};
use crate::scratch;

/// A port for values: posts `Out` and receives `In`, any types of [serde](https://serde.rs), in the encoding of
/// [postcard](https://docs.rs/postcard). Its peer is a `TypedPort<In, Out>`.
///
/// Ports and buffers inside a value move with it, without a transfer list. If the post fails, the value comes back in
/// the error, and everything in it still works. A value must own its ports and buffers until the post returns: a post
/// fails if `Serialize` creates one and drops it.
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
/// # Values from a peer
/// Both sides must use the same type, since the encoding does not describe itself. A message that is not an `In` is
/// [`RecvError::MessageError`] with the reason and the data. It has been consumed, everything it carried is closed, and
/// the next message is not affected. Whatever a peer sends, decoding neither panics nor overflows the stack. How your
/// own `Deserialize` treats hostile values is up to it.
///
/// Encoding and decoding a value use at most 512 KiB of stack, and at most half of what the thread has left; a value
/// that is nested more deeply is an error on either side. On a thread of 2 MiB, lists, trees and documents may have 290
/// levels or more in a debug build, and 1400 or more in an optimised one. The other half is for dropping the value,
/// which takes less, and for what the program does with it: its own recursive functions need a limit of their own.
///
/// The memory of a value is proportional to the message, except that each level of nested hash maps can take up to 2
/// MiB in advance. The time of decoding has no such bound for a sequence of elements that take no bytes (`Vec<()>`). Do
/// not receive such types from a peer that you do not trust.
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
    /// Borrows the untyped port.
    pub fn as_port(&self) -> &MessagePort {
        &self.port
    }

    /// Turns this into the untyped port. Its queue is unchanged.
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
    /// Posts a value, with the ports and buffers in it; see [`MessagePort::post_message`]. Never blocks.
    ///
    /// # Errors
    /// In this order: the port itself is unusable; the value is [`Unencodable`](TypedPostErrorKind::Unencodable) or
    /// [nested too deeply](TypedPostErrorKind::TooDeep); the value contains this port, or its peer, or the same port or
    /// buffer twice, or a port or buffer that is closed, detached or borrowed, or that `Serialize` has dropped (`index`
    /// counts ports and buffers in the order of encoding); then those of [`post_message`](MessagePort::post_message).
    /// The error returns the value, and everything in it still works.
    #[inline]
    pub fn post(&self, value: Out) -> Result<(), TypedPostError<Out>> {
        post_value(self.port.end(), value, |data, list| self.port.sender.post(data, list))
    }

    /// Posts a value and, if the queue is full, waits for space for as long as the peer lives.
    ///
    /// # Errors
    /// Those of [`post`](Self::post) except `Full`.
    pub fn post_wait(&self, value: Out) -> Result<(), TypedPostError<Out>> {
        post_value_by(&self.port.sender, value, Deadline::Never)
    }

    /// Posts a value and, if the queue is full, waits for space for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`post`](Self::post), with [`TimedOut`](PostErrorKind::TimedOut) instead of `Full`.
    pub fn post_timeout(&self, value: Out, timeout: Duration) -> Result<(), TypedPostError<Out>> {
        post_value_by(&self.port.sender, value, Deadline::after(timeout))
    }
}

impl<Out, In: DeserializeOwned> TypedPort<Out, In> {
    /// Takes the next value, waiting for as long as the peer lives.
    ///
    /// # Errors
    /// Those of [`MessagePort::recv`]. A message that is not an `In` is a [`MessageError`](RecvError::MessageError).
    #[inline]
    pub fn recv(&self) -> Result<In, RecvError> {
        recv_value(|message| self.port.recv_into(message))
    }

    /// Takes the next value if there is one, without waiting.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty), and those of [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&self) -> Result<In, TryRecvError> {
        recv_value(|message| self.port.try_recv_into(message))
    }

    /// Takes the next value, waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvTimeoutError::TimedOut), and those of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<In, RecvTimeoutError> {
        recv_value(|message| self.port.recv_into_timeout(message, timeout))
    }
}

/// The values of a typed port: each step [waits](TypedPort::recv) for the next. The iterator ends as
/// [`Messages`](crate::Messages) does; a message that is not an `In` is an error between values.
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
    /// Borrows the untyped half.
    pub fn as_half(&self) -> &SendHalf {
        &self.half
    }

    /// Turns this into the untyped half.
    pub fn into_half(self) -> SendHalf {
        self.half
    }
}

impl<Out: Serialize> TypedSendHalf<Out> {
    /// See [`TypedPort::post`].
    #[inline]
    pub fn post(&self, value: Out) -> Result<(), TypedPostError<Out>> {
        post_value(self.half.end(), value, |data, list| self.half.post(data, list))
    }

    /// See [`TypedPort::post_wait`].
    pub fn post_wait(&self, value: Out) -> Result<(), TypedPostError<Out>> {
        post_value_by(&self.half, value, Deadline::Never)
    }

    /// See [`TypedPort::post_timeout`].
    pub fn post_timeout(&self, value: Out, timeout: Duration) -> Result<(), TypedPostError<Out>> {
        post_value_by(&self.half, value, Deadline::after(timeout))
    }
}

impl<In> TypedRecvHalf<In> {
    /// Borrows the untyped half.
    pub fn as_half(&self) -> &RecvHalf {
        &self.half
    }

    /// Turns this into the untyped half.
    pub fn into_half(self) -> RecvHalf {
        self.half
    }
}

impl<In: DeserializeOwned> TypedRecvHalf<In> {
    /// See [`TypedPort::recv`].
    #[inline]
    pub fn recv(&self) -> Result<In, RecvError> {
        recv_value(|message| self.half.recv_into(message))
    }

    /// See [`TypedPort::try_recv`].
    #[inline]
    pub fn try_recv(&self) -> Result<In, TryRecvError> {
        recv_value(|message| self.half.try_recv_into(message))
    }

    /// See [`TypedPort::recv_timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<In, RecvTimeoutError> {
        recv_value(|message| self.half.recv_into_timeout(message, timeout))
    }
}

/// Encodes a value and calls `post` with the data and the transfer list. `end` is the posting end.
#[inline]
fn post_value<T: Serialize, R>(
    end: &Arc<End>,
    value: T,
    post: impl FnOnce(&mut Vec<u8>, &[TransferRef<'_>]) -> Result<R, PostErrorKind>,
) -> Result<R, TypedPostError<T>> {
    let mut data = scratch::take();
    // 1. Check the port: its errors precede those of the value.
    let attempt = || {
        check_usable(end).map_err(PostErrorKind::from)?;
        // 2. Encode the value, which lends its ports and buffers.
        let list = encode(&value, &mut data)?;
        // 3. Post. Then the ports and buffers in the value are detached or, after an error, given back.
        Ok(loan::post(list, end, |list| post(&mut data, list))?)
    };
    let result = attempt();
    scratch::keep(data);
    result.map_err(|kind| TypedPostError::new(kind, value))
}

fn post_value_by<T: Serialize>(half: &SendHalf, value: T, deadline: Deadline) -> Result<(), TypedPostError<T>> {
    post_value(half.end(), value, |data, list| half.post_by(data, list, deadline))
}

/// Calls `recv` and decodes the value of the message.
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
    /// The value is nested so deeply that encoding it would use more than 512 KiB of stack, or more than half of what
    /// the thread has left; see [Values from a peer](TypedPort#values-from-a-peer).
    TooDeep,
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
            Self::TooDeep => BadValue::TooDeep.fmt(f),
            Self::Post(kind) => kind.fmt(f),
        }
    }
}

impl std::error::Error for TypedPostErrorKind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unencodable | Self::TooDeep => None,
            Self::Post(kind) => kind.source(),
        }
    }
}

impl From<TypedPostErrorKind> for io::Error {
    fn from(error: TypedPostErrorKind) -> Self {
        match error {
            TypedPostErrorKind::Unencodable | TypedPostErrorKind::TooDeep => {
                Self::new(io::ErrorKind::InvalidInput, error)
            }
            TypedPostErrorKind::Post(kind) => kind.into(),
        }
    }
}

/// A value was not posted: the error gives back the value. Ports and buffers in it are as they were.
pub type TypedPostError<T> = Refusal<TypedPostErrorKind, T>;

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

/// The descriptor to wait on; see [`MessagePort`'s](MessagePort#impl-AsFd-for-MessagePort).
impl<Out, In> AsFd for TypedPort<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.as_fd()
    }
}

/// The descriptor to wait on; see [`MessagePort`'s](MessagePort#impl-AsFd-for-MessagePort).
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
