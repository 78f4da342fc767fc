//! The events of a port, `message`, `messageerror` and `close`, and the errors of a loop.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use crate::connect::AcceptError;
use crate::error::{BadTransfer, CloseReason, with_cause};
use crate::port::message::Message;
use crate::sys::exclusive::Exclusive;

/// An event of a port, in the sense of the standard's [`Event`](https://dom.spec.whatwg.org/#interface-event): a
/// [`MessageEvent`], [`MessageErrorEvent`] or [`CloseEvent`].
pub trait PortEvent: sealed::Event {
    /// True for an event of the loop, false for an event that was dispatched by
    /// [`dispatch_event`](crate::PortHandle::dispatch_event).
    fn is_trusted(&self) -> bool {
        self.flow().trusted
    }

    /// Keeps the handlers after the present one from being called.
    fn stop_immediate_propagation(&mut self) {
        self.flow_mut().stopped = true;
    }
}

/// The flags of an event.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flow {
    /// The standard's `isTrusted`.
    pub(crate) trusted: bool,
    /// The standard's *stop immediate propagation flag*.
    pub(crate) stopped: bool,
}

pub(crate) mod sealed {
    use super::Flow;
    use crate::events::handlers::Handlers;
    use crate::events::port_handle::PortHandle;

    /// Seals `PortEvent`: a port has no other events.
    pub trait Event: Sized + 'static {
        fn handlers(port: &PortHandle) -> &Handlers<Self>;
        fn flow(&self) -> &Flow;
        fn flow_mut(&mut self) -> &mut Flow;
    }
}

/// A message has arrived: the standard's
/// [`MessageEvent`](https://html.spec.whatwg.org/multipage/comms.html#the-messageevent-interface).
///
/// The event dereferences to its [`Message`]: `event.data`, `event.ports`, `event.buffers`. To borrow two fields at a
/// time, use `event.message`. A handler takes out what it keeps, and later handlers see the rest. What is left after
/// the last handler is dropped, and the memory of `data` is used for the next message.
#[derive(Default, Debug)]
pub struct MessageEvent {
    /// The message.
    pub message: Message,
    pub(crate) flow: Flow,
}

impl MessageEvent {
    /// An event to [dispatch](crate::PortHandle::dispatch_event).
    pub fn new(message: Message) -> Self {
        Self { message, flow: Flow::default() }
    }
}

impl Deref for MessageEvent {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl DerefMut for MessageEvent {
    fn deref_mut(&mut self) -> &mut Message {
        &mut self.message
    }
}

/// A message could not be made for its receiver: the standard's `messageerror`. The message has been consumed, and what
/// it carried is closed; later messages are not affected.
#[derive(Debug)]
pub struct MessageErrorEvent {
    /// What is wrong with the message.
    pub reason: BadTransfer,
    /// The data of the message.
    pub data: Vec<u8>,
    flow: Flow,
}

impl MessageErrorEvent {
    /// An event to [dispatch](crate::PortHandle::dispatch_event).
    pub fn new(reason: BadTransfer, data: Vec<u8>) -> Self {
        Self { reason, data, flow: Flow::default() }
    }
}

/// The peer is gone: the standard's `close`. On a started port, all messages have been dispatched; on a port that is
/// not started, messages may be queued. A port that is closed here gets no such event.
#[derive(Debug)]
pub struct CloseEvent {
    /// Why the peer is gone.
    pub reason: CloseReason,
    flow: Flow,
}

impl CloseEvent {
    /// An event to [dispatch](crate::PortHandle::dispatch_event).
    pub fn new(reason: CloseReason) -> Self {
        Self { reason, flow: Flow::default() }
    }
}

impl PortEvent for MessageEvent {}
impl PortEvent for MessageErrorEvent {}
impl PortEvent for CloseEvent {}

macro_rules! event {
    ($event:ident, $handlers:ident) => {
        impl sealed::Event for $event {
            fn handlers(port: &crate::events::port_handle::PortHandle) -> &crate::events::handlers::Handlers<Self> {
                &port.handlers().$handlers
            }

            fn flow(&self) -> &Flow {
                &self.flow
            }

            fn flow_mut(&mut self) -> &mut Flow {
                &mut self.flow
            }
        }
    };
}
event!(MessageEvent, message);
event!(MessageErrorEvent, messageerror);
event!(CloseEvent, close);

/// An error in an [`EventLoop`](crate::EventLoop) that no call returns: the standard's
/// [`ErrorEvent`](https://html.spec.whatwg.org/multipage/webappapis.html#errorevent). The loop goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorEvent {
    /// A handler, timer or task panicked, with this payload. Later events are not affected.
    Panic(Exclusive<Box<dyn Any + Send>>),
    /// A message cannot be received now, since the system has no memory or no descriptors left. The message stays
    /// queued, and the loop tries again every 10 ms. This is reported once until a message of the port has been
    /// received.
    ResourceExhausted(io::Error),
    /// A [listener](crate::EventLoop::add_listener) can accept no client any more, and has left the loop.
    NotAccepted(AcceptError),
}

impl fmt::Display for ErrorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(payload) => {
                let text = payload.downcast_ref::<&str>().copied();
                let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                write!(f, "a handler panicked: {}", text.unwrap_or("(no text)"))
            }
            Self::ResourceExhausted(error) => with_cause(f, &"cannot receive", error),
            Self::NotAccepted(error) => with_cause(f, &"cannot accept a client", error),
        }
    }
}

impl std::error::Error for ErrorEvent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Panic(_) => None,
            Self::ResourceExhausted(error) => Some(error),
            Self::NotAccepted(error) => Some(error),
        }
    }
}
