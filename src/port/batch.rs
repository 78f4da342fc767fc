//! Several messages in one call: one fence and one look at the receiver's doorbell for all of them.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::message::Message;
use super::post::IfFull;
use super::{MessagePort, RecvHalf, SendHalf};
use crate::error::{PostErrorKind, RecvError, TryRecvError, with_cause};
use crate::queue::record::Kind;
use crate::queue::sync::{Ordering, fence};

impl MessagePort {
    /// Posts several messages of plain data, in order. As one [`post_message`](Self::post_message) for each, and cheaper
    /// for small ones; each is visible to the receiver as soon as it has been copied, and a sleeping receiver is woken
    /// once, at the end.
    ///
    /// ```
    /// # use messageport::{Message, MessageChannel};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// port1.post_messages(&[b"one", b"two", b"three"])?;
    /// let mut messages: Vec<Message> = (0..16).map(|_| Message::new()).collect();
    /// assert_eq!(port2.recv_messages(&mut messages)?, 3);
    /// assert_eq!(messages[2].data, b"three");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for `post_message`, for the first message that could not be posted, with the number of those before it, which
    /// were.
    pub fn post_messages(&self, messages: &[&[u8]]) -> Result<(), PostMessagesError> {
        self.sender.post_messages(messages)
    }

    /// As [`post_messages`](Self::post_messages), and where the queue is full waits for space, for `timeout` in all or for
    /// as long as the peer lives; the queue does not grow.
    ///
    /// # Errors
    /// As for [`post_messages`](Self::post_messages), with [`TimedOut`](PostErrorKind::TimedOut) instead of `Full`.
    pub fn post_messages_wait(&self, messages: &[&[u8]], timeout: Option<Duration>) -> Result<(), PostMessagesError> {
        self.sender.post_messages_wait(messages, timeout)
    }

    /// Waits for a message and takes it and those that are there behind it, as many as `messages` has room for, whose
    /// memory is used again as in [`recv_into`](Self::recv_into). Returns how many; the rest of `messages` stays as it was.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv), if there is no first message. What ends a later one is told by the next call.
    pub fn recv_messages(&self, messages: &mut [Message]) -> Result<usize, RecvError> {
        self.receiver.recv_messages(messages)
    }

    /// As [`recv_messages`](Self::recv_messages) if there is a message.
    ///
    /// # Errors
    /// As for [`try_recv`](Self::try_recv), if there is no first message.
    pub fn try_recv_messages(&self, messages: &mut [Message]) -> Result<usize, TryRecvError> {
        self.receiver.try_recv_messages(messages)
    }
}

impl SendHalf {
    /// See [`MessagePort::post_messages`].
    pub fn post_messages(&self, messages: &[&[u8]]) -> Result<(), PostMessagesError> {
        self.each(messages, |data| self.post_anything(data, &[], IfFull::Grow))
    }

    /// See [`MessagePort::post_messages_wait`].
    pub fn post_messages_wait(&self, messages: &[&[u8]], timeout: Option<Duration>) -> Result<(), PostMessagesError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.each(messages, |data| self.post_patiently(data, &[], deadline))
    }

    /// Posts what goes straight, and the others by `post`.
    fn each(
        &self,
        messages: &[&[u8]],
        post: impl Fn(&[u8]) -> Result<(), PostErrorKind>,
    ) -> Result<(), PostMessagesError> {
        let mut posted = 0;
        loop {
            posted += self.post_run(&messages[posted..]);
            let Some(next) = messages.get(posted) else { return Ok(()) };
            post(next).map_err(|kind| PostMessagesError { kind, posted })?;
            posted += 1;
        }
    }

    /// Posts messages up to the first in whose way something stands. Returns how many.
    #[inline]
    fn post_run(&self, messages: &[&[u8]]) -> usize {
        let _posting = self.end.posting();
        let Some(mut producer) = self.straight() else { return 0 };
        let mut posted = 0;
        for data in messages {
            if !producer.put_unfenced(data) {
                break;
            }
            posted += 1;
        }
        if posted > 0 {
            // With the fence of a sleeper, in `doorbell::arm`: one of the two sees what the other did.
            fence(Ordering::SeqCst);
            self.end.wake_peer_consumer();
        }
        posted
    }
}

impl RecvHalf {
    /// See [`MessagePort::recv_messages`].
    pub fn recv_messages(&self, messages: &mut [Message]) -> Result<usize, RecvError> {
        let Some((first, rest)) = messages.split_first_mut() else { return Ok(0) };
        self.recv_into(first)?;
        Ok(1 + self.take_run(rest))
    }

    /// See [`MessagePort::try_recv_messages`].
    pub fn try_recv_messages(&self, messages: &mut [Message]) -> Result<usize, TryRecvError> {
        let Some((first, rest)) = messages.split_first_mut() else { return Ok(0) };
        self.try_recv_into(first)?;
        Ok(1 + self.take_run(rest))
    }

    /// Takes messages up to the first that is not there or not plain data.
    #[inline]
    fn take_run(&self, messages: &mut [Message]) -> usize {
        let mut taken = 0;
        for message in messages {
            let Some(found) = self.straight(Kind::Data, false) else { break };
            message.clear(); // not before: what there is no message for stays as it was
            self.copy(found, message);
            taken += 1;
        }
        taken
    }
}

/// [`post_messages`](crate::MessagePort::post_messages) failed part of the way.
#[derive(Debug)]
pub struct PostMessagesError {
    /// Why.
    pub kind: PostErrorKind,
    /// Messages that were posted before, in order.
    pub posted: usize,
}

impl fmt::Display for PostMessagesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_cause(f, &format_args!("posting stopped after {} messages", self.posted), &self.kind)
    }
}

impl std::error::Error for PostMessagesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.kind)
    }
}

impl From<PostMessagesError> for io::Error {
    fn from(error: PostMessagesError) -> Self {
        error.kind.into()
    }
}
