//! The messages of a port, as an iterator.
#![forbid(unsafe_code)]

use std::iter::FusedIterator;

use super::message::Message;
use super::{MessagePort, RecvHalf};
use crate::error::{CloseReason, RecvError};

/// The messages of a port: each step [waits](MessagePort::recv) for the next.
///
/// The iterator ends when the peer has closed and all its messages have been received, and when this port is closed.
/// Any other end comes first, as an error: it is the last item. A [`MessageError`](RecvError::MessageError) and a
/// [`ResourceExhausted`](RecvError::ResourceExhausted) are items between others.
#[must_use = "receives nothing until it is iterated over"]
#[derive(Debug)]
pub struct Messages<'a> {
    half: &'a RecvHalf,
    over: bool,
}

impl Messages<'_> {
    fn new(half: &RecvHalf) -> Messages<'_> {
        Messages { half, over: false }
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        next_of(&mut self.over, || self.half.recv())
    }
}

impl FusedIterator for Messages<'_> {}

/// The next item of an iterator over what `recv` receives. `over` is set with the last one.
pub(crate) fn next_of<T>(over: &mut bool, recv: impl FnOnce() -> Result<T, RecvError>) -> Option<Result<T, RecvError>> {
    if *over {
        return None;
    }
    let result = recv();
    if let Err(error) = &result {
        *over =
            !matches!(error, RecvError::MessageError { .. } | RecvError::ResourceExhausted(_) | RecvError::Interrupted);
    }
    match result {
        Err(RecvError::Ended(CloseReason::Closed) | RecvError::PortClosed) => None,
        item => Some(item),
    }
}

/// ```
/// # use messageport::MessageChannel;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = MessageChannel::new()?;
/// port1.post_messages(&[b"one", b"two"])?;
/// drop(port1);
/// for message in &port2 {
///     println!("{} bytes", message?.data.len());
/// }
/// # Ok(()) }
/// ```
impl<'a> IntoIterator for &'a MessagePort {
    type Item = Result<Message, RecvError>;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        Messages::new(&self.receiver)
    }
}

/// See [`Messages`].
impl<'a> IntoIterator for &'a RecvHalf {
    type Item = Result<Message, RecvError>;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        Messages::new(self)
    }
}
