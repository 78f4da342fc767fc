//! The end behind a handle of a port: a whole port or one half of it, in an event loop, in a set, or in neither.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use messageport::{
    CloseReason, Interrupter, Message, MessagePort, MessageRef, PortHandle as LoopPort, PortRef, Queued, RecvError,
    RecvHalf, Reservation, SendHalf, TransferBuffer, TransferRef,
};

use super::claim::{Claim, Claims};
use super::set::Member;
use crate::code;
use crate::failure::{Failure, NotReceived, watching};
use crate::input::Timeout;

pub(crate) enum End {
    Whole(MessagePort),
    Sender(SendHalf),
    Receiver(RecvHalf),
    /// In an event loop: a whole port, or a receiving half if `half`.
    InLoop {
        port: LoopPort,
        half: bool,
        claims: Claims,
    },
    InSet(Member),
    /// Given to a child process, a client or a server, or joined to another half.
    Gone,
}

const WRONG_HALF: Failure = Failure::plain(code::WRONG_HALF);
const WATCHED: Failure = Failure::plain(code::WATCHED);
const GONE: Failure = Failure::plain(code::DETACHED);

impl End {
    #[inline(never)]
    pub(crate) fn post(&self, data: &[u8], list: &[TransferRef<'_>], timeout: Timeout) -> Result<(), Failure> {
        let result = match timeout {
            Timeout::Poll => self.sending(
                |port| port.post_message_detaching(data, list),
                |half| half.post_message_detaching(data, list),
            ),
            Timeout::For(time) => self.sending(
                |port| port.post_message_detaching_timeout(data, list, time),
                |half| half.post_message_detaching_timeout(data, list, time),
            ),
            Timeout::Forever => self.sending(
                |port| port.post_message_detaching_wait(data, list),
                |half| half.post_message_detaching_wait(data, list),
            ),
        };
        Ok(result??)
    }

    /// Posts several messages. Returns the number of those that were posted, and why the next one was not.
    pub(crate) fn post_messages(&self, messages: &[&[u8]], timeout: Timeout) -> (usize, Result<(), Failure>) {
        let result = match timeout {
            Timeout::Poll => self.sending(|port| port.post_messages(messages), |half| half.post_messages(messages)),
            Timeout::For(time) => self.sending(
                |port| port.post_messages_timeout(messages, time),
                |half| half.post_messages_timeout(messages, time),
            ),
            Timeout::Forever => {
                self.sending(|port| port.post_messages_wait(messages), |half| half.post_messages_wait(messages))
            }
        };
        match result {
            Ok(Ok(())) => (messages.len(), Ok(())),
            Ok(Err(error)) => (error.posted, Err(error.kind.into())),
            Err(failure) => (0, Err(failure)),
        }
    }

    pub(crate) fn max_message_len(&self) -> Result<usize, Failure> {
        self.sending(MessagePort::max_message_len, SendHalf::max_message_len)
    }

    pub(crate) fn max_inline_len(&self) -> Result<usize, Failure> {
        self.sending(MessagePort::max_inline_len, SendHalf::max_inline_len)
    }

    pub(crate) fn queued(&self) -> Result<Queued, Failure> {
        self.sending(MessagePort::queued, SendHalf::queued)
    }

    pub(crate) fn buffer(&self, len: usize) -> Result<TransferBuffer, Failure> {
        Ok(self.sending(|port| port.buffer(len), |half| half.buffer(len))??)
    }

    pub(crate) fn release_buffers(&self) -> Result<usize, Failure> {
        Ok(self.sending(MessagePort::release_buffers, SendHalf::release_buffers)??)
    }

    /// Calls one of the two with the port or half that sends, in a loop or a set too.
    fn sending<R>(
        &self,
        whole: impl FnOnce(&MessagePort) -> R,
        half: impl FnOnce(&SendHalf) -> R,
    ) -> Result<R, Failure> {
        match self {
            Self::Whole(port) => Ok(whole(port)),
            Self::Sender(sender) => Ok(half(sender)),
            Self::Receiver(_) | Self::InLoop { half: true, .. } => Err(WRONG_HALF),
            Self::InLoop { port, half: false, claims } => {
                let _claim = claims.enter()?;
                port.port().map(|port| whole(&port)).ok_or(GONE)
            }
            Self::InSet(member) => member.sender().map(half),
            Self::Gone => Err(GONE),
        }
    }

    pub(crate) fn reserve(&self, len: usize) -> Result<Reservation<'_>, Failure> {
        match self {
            Self::Whole(port) => Ok(port.reserve(len)?),
            Self::Sender(half) => Ok(half.reserve(len)?),
            Self::Receiver(_) => Err(WRONG_HALF),
            Self::InLoop { .. } | Self::InSet(_) => Err(WATCHED),
            Self::Gone => Err(GONE),
        }
    }

    /// Receives into `message`. The data of a message that cannot be received goes there too.
    #[inline(never)]
    pub(crate) fn recv_into(&self, message: &mut Message, timeout: Timeout) -> Result<(), Failure> {
        let result = match self {
            Self::Whole(port) => recv_into(port.as_ref(), message, timeout),
            Self::Receiver(half) => recv_into(half, message, timeout),
            Self::InLoop { port, half: false, claims } => {
                let _claim = claims.enter()?;
                let port = port.port().ok_or(GONE)?;
                recv_into((*port).as_ref(), message, timeout)
            }
            Self::InLoop { port, half: true, claims } => {
                let _claim = claims.enter()?;
                recv(port, timeout).map(|received| *message = received)
            }
            Self::InSet(member) => member.with_receiver(|half| recv_into(half, message, timeout))?,
            Self::Sender(_) => return Err(WRONG_HALF),
            Self::Gone => return Err(GONE),
        };
        result.map_err(|error| error.into_failure(message))
    }

    /// Receives up to as many messages as `messages` has. Returns their number.
    pub(crate) fn recv_messages(&self, messages: &mut [Message], timeout: Timeout) -> Result<usize, NotReceived> {
        let half = match self {
            Self::Whole(port) => port.as_ref(),
            Self::Receiver(half) => half,
            Self::Sender(_) => return Err(NotReceived::Nothing(code::WRONG_HALF)),
            Self::InLoop { .. } | Self::InSet(_) => return Err(NotReceived::Nothing(code::WATCHED)),
            Self::Gone => return Err(NotReceived::Nothing(code::DETACHED)),
        };
        match timeout {
            Timeout::Forever => half.recv_messages(messages).map_err(NotReceived::from),
            Timeout::Poll => half.try_recv_messages(messages).map_err(NotReceived::from),
            Timeout::For(time) => half.recv_messages_timeout(messages, time).map_err(NotReceived::from),
        }
    }

    pub(crate) fn recv_ref(&self, timeout: Timeout) -> Result<MessageRef<'_>, Failure> {
        let half = match self {
            Self::Whole(port) => port.as_ref(),
            Self::Receiver(half) => half,
            Self::Sender(_) => return Err(WRONG_HALF),
            Self::InLoop { .. } | Self::InSet(_) => return Err(WATCHED),
            Self::Gone => return Err(GONE),
        };
        match timeout {
            Timeout::Forever => Ok(half.recv_ref()?),
            Timeout::Poll => Ok(half.try_recv_ref()?),
            Timeout::For(time) => Ok(half.recv_ref_timeout(time)?),
        }
    }

    /// Why the peer is gone.
    pub(crate) fn peer_state(&self) -> Result<Option<CloseReason>, Failure> {
        let state = match self {
            Self::Receiver(half) => half.peer_state(),
            Self::InSet(member) if member.sender().is_err() => member.with_receiver(RecvHalf::peer_state)?,
            _ => self.sending(MessagePort::peer_state, SendHalf::peer_state)?,
        };
        Ok(state?)
    }

    /// Waits for the end of the peer. Returns the failure that names its reason, or why there is none.
    pub(crate) fn closed(&self, timeout: Timeout) -> Failure {
        let time = match timeout {
            Timeout::Poll => {
                return match self.peer_state() {
                    Ok(None) => Failure::plain(code::EMPTY),
                    Ok(Some(reason)) => RecvError::Ended(reason).into(),
                    Err(failure) => failure,
                };
            }
            Timeout::For(time) => time,
            Timeout::Forever => Duration::MAX,
        };
        let closed = match self {
            Self::Whole(port) => port.closed_timeout(time),
            Self::Sender(half) => half.closed_timeout(time),
            Self::Receiver(half) => half.closed_timeout(time),
            Self::InLoop { .. } | Self::InSet(_) => return WATCHED,
            Self::Gone => return GONE,
        };
        closed.map_or_else(Failure::from, |reason| RecvError::Ended(reason).into())
    }

    /// An interrupter of the waits on the port or half.
    pub(crate) fn interrupter(&self) -> Result<Interrupter, Failure> {
        let made = match self {
            Self::Receiver(half) => half.interrupter(),
            _ => self.sending(MessagePort::interrupter, SendHalf::interrupter)?,
        };
        made.map_err(|error| watching(&error))
    }

    pub(crate) fn set_interrupt_on_signal(&self, ends: bool) -> Result<(), Failure> {
        match self {
            Self::Receiver(half) => half.set_interrupt_on_signal(ends),
            _ => self.sending(|port| port.set_interrupt_on_signal(ends), |half| half.set_interrupt_on_signal(ends))?,
        }
        Ok(())
    }

    pub(crate) fn close(&self) -> Result<(), Failure> {
        match self {
            Self::Whole(port) => port.close(),
            Self::Sender(half) => half.close(),
            Self::Receiver(half) => half.close(),
            Self::InLoop { port, claims, .. } => {
                let _claim = claims.enter()?;
                port.close();
            }
            Self::InSet(member) => member.close()?,
            Self::Gone => {}
        }
        Ok(())
    }

    /// Claims the loop of a port that is in one, for the handles that the end consists of.
    pub(crate) fn claim(&self) -> Result<Option<Claim>, Failure> {
        match self {
            Self::InLoop { claims, .. } => claims.enter().map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn set_spin(&self, budget: Duration) {
        match self {
            Self::Whole(port) => port.set_spin(budget),
            Self::Sender(half) => half.set_spin(budget),
            Self::Receiver(half) => half.set_spin(budget),
            // No effect: the loop or the set waits, with a budget of its own.
            Self::InLoop { .. } | Self::InSet(_) | Self::Gone => {}
        }
    }

    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>, Failure> {
        match self {
            Self::Whole(port) => Ok(port.as_fd()),
            Self::Receiver(half) => Ok(half.as_fd()),
            Self::Sender(_) => Err(WRONG_HALF),
            Self::InLoop { .. } | Self::InSet(_) => Err(WATCHED),
            Self::Gone => Err(GONE),
        }
    }

    /// For a call that needs another kind of end: this end unchanged, and the failure.
    pub(crate) fn refuse<T>(self) -> (Self, Result<T, Failure>) {
        let why = match self {
            Self::Whole(_) | Self::Sender(_) | Self::Receiver(_) => WRONG_HALF,
            Self::InLoop { .. } | Self::InSet(_) => WATCHED,
            Self::Gone => GONE,
        };
        (self, Err(why))
    }

    /// The port as an item of a transfer list.
    pub(crate) fn as_item(&self) -> Result<PortItem<'_>, NotMovable> {
        match self {
            Self::Whole(port) => Ok(PortItem::Plain(port)),
            Self::InLoop { port, half: false, claims } => {
                let claim = claims.enter().map_err(NotMovable::InUse)?;
                let port = port.port().ok_or(NotMovable::Gone)?;
                Ok(PortItem::InLoop(port, claim))
            }
            Self::Sender(_) | Self::Receiver(_) | Self::InLoop { half: true, .. } => Err(NotMovable::Half),
            Self::InSet(_) => Err(NotMovable::InSet),
            Self::Gone => Err(NotMovable::Gone),
        }
    }
}

/// A port on a transfer list.
pub(crate) enum PortItem<'a> {
    Plain(&'a MessagePort),
    /// With the claim on the loop, which is dropped last.
    InLoop(PortRef<'a>, #[expect(dead_code, reason = "held until it is dropped")] Claim),
}

impl PortItem<'_> {
    pub(crate) fn port(&self) -> &MessagePort {
        match self {
            Self::Plain(port) => port,
            Self::InLoop(port, _) => port,
        }
    }
}

/// Why an end cannot be on a transfer list.
pub(crate) enum NotMovable {
    Half,
    InSet,
    /// Another thread uses the loop of the port.
    InUse(Failure),
    Gone,
}

fn recv_into(half: &RecvHalf, message: &mut Message, timeout: Timeout) -> Result<(), NotReceived> {
    match timeout {
        Timeout::Forever => half.recv_into(message).map_err(NotReceived::from),
        Timeout::Poll => half.try_recv_into(message).map_err(NotReceived::from),
        Timeout::For(time) => half.recv_into_timeout(message, time).map_err(NotReceived::from),
    }
}

fn recv(port: &LoopPort, timeout: Timeout) -> Result<Message, NotReceived> {
    match timeout {
        Timeout::Forever => port.recv().map_err(NotReceived::from),
        Timeout::Poll => port.try_recv().map_err(NotReceived::from),
        Timeout::For(time) => port.recv_timeout(time).map_err(NotReceived::from),
    }
}
