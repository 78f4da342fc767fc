//! Several messages in one call: one fence and one read of the receiver's doorbell for all of them.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::Duration;

use super::message::Message;
use super::post::IfFull;
use super::{MessagePort, RecvHalf, SendHalf};
use crate::end::wait::Deadline;
use crate::error::{PostDataError, RecvError, RecvTimeoutError, TryRecvError, with_cause};
use crate::queue::record::RecordKind;
use crate::queue::sync::{Ordering, fence};

impl MessagePort {
    /// Posts several messages of plain data, in order. As one [`post_message`](Self::post_message) for each, and
    /// cheaper for small ones: each is visible to the receiver as soon as it has been copied, and a sleeping receiver
    /// is woken once, at the end.
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
    /// The error of the first message that could not be posted, as for `post_message`, with the number of messages
    /// before it, which were posted.
    pub fn post_messages(&self, messages: &[&[u8]]) -> Result<(), PostMessagesError> {
        self.sender.post_messages(messages)
    }

    /// As [`post_messages`](Self::post_messages), waiting for space for as long as the peer lives where the queue is
    /// full. The queue grows as for [`post_message_wait`](Self::post_message_wait).
    ///
    /// # Errors
    /// Those of [`post_messages`](Self::post_messages) except `Full`.
    pub fn post_messages_wait(&self, messages: &[&[u8]]) -> Result<(), PostMessagesError> {
        self.sender.post_messages_wait(messages)
    }

    /// As [`post_messages_wait`](Self::post_messages_wait), waiting for at most `timeout` in all.
    ///
    /// # Errors
    /// Those of [`post_messages`](Self::post_messages), with [`TimedOut`](PostDataError::TimedOut) instead of `Full`.
    pub fn post_messages_timeout(&self, messages: &[&[u8]], timeout: Duration) -> Result<(), PostMessagesError> {
        self.sender.post_messages_timeout(messages, timeout)
    }

    /// Waits for a message and takes it, and those that are there behind it, as many as `messages` has room for. Their
    /// memory is reused as in [`recv_into`](Self::recv_into). Returns how many were taken; the rest of `messages` stays
    /// as it was.
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv), if there is no first message. The error of a later one is returned by the next
    /// call.
    pub fn recv_messages(&self, messages: &mut [Message]) -> Result<usize, RecvError> {
        self.receiver.recv_messages(messages)
    }

    /// As [`recv_messages`](Self::recv_messages) if there is a message, without waiting.
    ///
    /// # Errors
    /// Those of [`try_recv`](Self::try_recv), if there is no first message.
    pub fn try_recv_messages(&self, messages: &mut [Message]) -> Result<usize, TryRecvError> {
        self.receiver.try_recv_messages(messages)
    }

    /// As [`recv_messages`](Self::recv_messages), waiting for the first message for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`recv_timeout`](Self::recv_timeout), if there is no first message.
    pub fn recv_messages_timeout(
        &self,
        messages: &mut [Message],
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        self.receiver.recv_messages_timeout(messages, timeout)
    }
}

impl SendHalf {
    /// See [`MessagePort::post_messages`].
    pub fn post_messages(&self, messages: &[&[u8]]) -> Result<(), PostMessagesError> {
        self.post_each(messages, |data| self.post_data_or(data, IfFull::Grow))
    }

    /// See [`MessagePort::post_messages_wait`].
    pub fn post_messages_wait(&self, messages: &[&[u8]]) -> Result<(), PostMessagesError> {
        self.post_each(messages, |data| self.post_data_by(data, Deadline::Never))
    }

    /// See [`MessagePort::post_messages_timeout`].
    pub fn post_messages_timeout(&self, messages: &[&[u8]], timeout: Duration) -> Result<(), PostMessagesError> {
        let deadline = Deadline::after(timeout);
        self.post_each(messages, |data| self.post_data_by(data, deadline))
    }

    /// Posts runs of messages by the fast path, and those between them by `post`.
    fn post_each(
        &self,
        messages: &[&[u8]],
        post: impl Fn(&[u8]) -> Result<(), PostDataError>,
    ) -> Result<(), PostMessagesError> {
        let mut posted = 0;
        loop {
            posted += self.post_run(&messages[posted..]);
            let Some(next) = messages.get(posted) else { return Ok(()) };
            post(next).map_err(|kind| PostMessagesError { kind, posted })?;
            posted += 1;
        }
    }

    /// Posts messages up to the first that the fast path does not take. Returns how many.
    ///
    /// One fence and one wake-up end the whole run; else each message goes as in `finish_post`.
    #[inline]
    fn post_run(&self, messages: &[&[u8]]) -> usize {
        let _posting = self.end.posting();
        let Some(mut producer) = self.ready_producer() else { return 0 };
        let mut posted = 0;
        for data in messages {
            let prepared = producer.claim_prepared(data.len());
            if prepared.is_none() && producer.is_look_due() && !self.look_again(&mut producer) {
                break;
            }
            let Some(claim) = prepared.or_else(|| producer.try_claim(data.len())) else { break };
            producer.fill(claim, data);
            producer.commit_unfenced(claim, data.len(), RecordKind::Data, 0);
            posted += 1;
        }
        if posted > 0 {
            // Pairs with the fence in `doorbell::arm`: either the sleeper sees the records, or this side sees its
            // doorbell.
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

    /// See [`MessagePort::recv_messages_timeout`].
    pub fn recv_messages_timeout(
        &self,
        messages: &mut [Message],
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        let Some((first, rest)) = messages.split_first_mut() else { return Ok(0) };
        self.recv_into_timeout(first, timeout)?;
        Ok(1 + self.take_run(rest))
    }

    /// Takes messages up to the first that is not there or not plain data.
    #[inline]
    fn take_run(&self, messages: &mut [Message]) -> usize {
        let mut taken = 0;
        for message in messages {
            let Some((mut receiving, record)) = self.try_next(false) else { break };
            if record.kind != RecordKind::Data || !make_room(message, record.len) {
                receiving.leave();
                break;
            }
            message.clear(); // not before: a message that is not taken stays as it was
            receiving.consumer.read_to_vec(record, &mut message.data);
            self.release(&mut receiving, record);
            taken += 1;
        }
        taken
    }
}

/// Makes room for `len` bytes of data, a number that the peer has chosen. False if there is none.
fn make_room(message: &mut Message, len: usize) -> bool {
    let missing = len.saturating_sub(message.data.len());
    message.data.try_reserve(missing).is_ok()
}

/// [`post_messages`](crate::MessagePort::post_messages) failed part of the way through.
#[derive(Debug)]
pub struct PostMessagesError {
    /// The reason.
    pub kind: PostDataError,
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
