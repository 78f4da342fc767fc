//! `AsyncPort` and its halves.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::wait::{Registration, Timer, Wait};
use crate::end::lane::Half;
use crate::end::shortage::ShortageNaps;
use crate::error::{DifferentPorts, Refusal, WatchError};
use crate::port::message::Message;
use crate::port::{MessagePort, RecvHalf, SendHalf};

/// A [`MessagePort`] that waits in tasks of a tokio runtime.
///
/// The methods that wait take `&mut self`, so one of them runs at a time. To receive and to wait for space at the same
/// time, [`split`](Self::split) the port. Dropping it closes the port.
///
/// # What is not available in a task
/// These need the [`MessagePort`] itself: turn the port back with [`into_port`](Self::into_port), and register it again
/// afterwards.
///
/// - transferring the port;
/// - the methods that block, and those that borrow the queue: `reserve`, `recv_ref`, `try_recv_ref`;
/// - several messages in one call (`post_messages`, `recv_messages`, `try_recv_messages`), `post_plain` and
///   `post_message_detaching`;
/// - `queued`, `buffer`, `release_buffers` and `set_spin`;
/// - the port's descriptor ([`AsFd`](std::os::fd::AsFd)), which the runtime watches.
///
/// A typed port, a [`Client`](crate::Client) and a [`Server`](crate::Server) have no form for tasks. Their calls block:
/// run them on a thread of their own, or in [`spawn_blocking`](tokio::task::spawn_blocking).
pub struct AsyncPort {
    // The order matters, as in `MessagePort`.
    pub(super) sender: AsyncSendHalf,
    pub(super) receiver: AsyncRecvHalf,
}

/// The sending half of an [`AsyncPort`].
///
/// Dropping it does not close the port while the receiving half lives.
pub struct AsyncSendHalf {
    pub(super) half: SendHalf,
    pub(super) wait: Wait,
    pub(super) retry: Option<super::post::Retry>,
    /// The message that the `Sink` has taken and not posted yet.
    pub(super) unsent: Option<Message>,
}

/// The receiving half of an [`AsyncPort`].
///
/// If it is dropped while the sending half lives, the queued messages and those that the peer still posts are dropped.
pub struct AsyncRecvHalf {
    pub(super) half: RecvHalf,
    pub(super) wait: Wait,
    pub(super) stream_is_over: bool,
    /// The nap after a shortage, before the next attempt to receive.
    pub(super) nap: Option<Timer>,
    pub(super) naps: ShortageNaps,
    /// The port's descriptor had been requested before.
    polled: bool,
}

impl AsyncPort {
    /// Registers a port with the runtime in which this is called.
    ///
    /// # Errors
    /// This is not called within a runtime, or the system has no resources. The port is in the error.
    ///
    /// # Panics
    /// If the runtime does not drive I/O and time.
    pub fn new(port: MessagePort) -> Result<Self, Refusal<WatchError, MessagePort>> {
        match Registration::new(port.end()) {
            Ok(registration) => Ok(Self {
                sender: AsyncSendHalf {
                    half: port.sender,
                    wait: Wait::new(Arc::clone(&registration), Half::Sender),
                    retry: None,
                    unsent: None,
                },
                receiver: AsyncRecvHalf {
                    // A receive that finds nothing need not arm the doorbell: `Wait` does.
                    polled: port.receiver.polled.replace(false),
                    half: port.receiver,
                    wait: Wait::new(registration, Half::Receiver),
                    stream_is_over: false,
                    nap: None,
                    naps: ShortageNaps::NEW,
                },
            }),
            Err(error) => Err(Refusal::new(WatchError::System(error), port)),
        }
    }

    /// Turns the port back into one without a runtime. Its queue is unchanged. A message that the `Sink` has taken and
    /// not posted yet is dropped: flush the sink first, or [take the message back](Self::take_unsent).
    pub fn into_port(self) -> MessagePort {
        let AsyncRecvHalf { half: receiver, polled, .. } = self.receiver;
        receiver.polled.set(polled);
        MessagePort { sender: self.sender.half, receiver }
    }

    /// Splits the port into a sending and a receiving half, which can wait in two tasks at the same time.
    pub fn split(self) -> (AsyncSendHalf, AsyncRecvHalf) {
        self.sender.half.end.note_split();
        (self.sender, self.receiver)
    }

    /// Puts two halves together again.
    ///
    /// # Errors
    /// The halves belong to different ports; both are in the error.
    pub fn join(
        sender: AsyncSendHalf,
        receiver: AsyncRecvHalf,
    ) -> Result<Self, Refusal<DifferentPorts, (AsyncSendHalf, AsyncRecvHalf)>> {
        if Arc::ptr_eq(&sender.half.end, &receiver.half.end) {
            Ok(Self { sender, receiver })
        } else {
            Err(Refusal::new(DifferentPorts, (sender, receiver)))
        }
    }

    /// Closes the port; see [`MessagePort::close`].
    pub fn close(&self) {
        self.receiver.close();
    }
}

impl AsyncSendHalf {
    /// Closes the whole port, the receiving half too: a task that waits on it wakes. See [`MessagePort::close`].
    pub fn close(&self) {
        self.half.close();
    }
}

impl AsyncRecvHalf {
    /// Closes the whole port, the sending half too: a task that waits on it wakes. See [`MessagePort::close`].
    pub fn close(&self) {
        self.half.close();
    }
}

impl fmt::Debug for AsyncPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncPort").field(&self.receiver.half).finish()
    }
}

impl fmt::Debug for AsyncSendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncSendHalf").field(&self.half).finish()
    }
}

impl fmt::Debug for AsyncRecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncRecvHalf").field(&self.half).finish()
    }
}

// A port, and so a future that uses it, may move between threads.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<AsyncPort>();
    is_send::<AsyncSendHalf>();
    is_send::<AsyncRecvHalf>();
};
