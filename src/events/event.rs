//! The events of a port: `message`, `messageerror` and `close`, and what goes wrong in a loop.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use crate::error::{BadTransfer, CloseReason, with_cause};
use crate::port::message::Message;

/// An event of a port, in the sense of the standard's [`Event`](https://dom.spec.whatwg.org/#interface-event): a
/// [`MessageEvent`], [`MessageErrorEvent`] or [`CloseEvent`].
pub trait PortEvent: sealed::Event {
    /// True for an event of the loop, false for one that was dispatched by
    /// [`dispatch_event`](crate::PortHandle::dispatch_event).
    fn is_trusted(&self) -> bool {
        self.flow().trusted
    }

    /// Keeps the handlers that come after this one from being called.
    fn stop_immediate_propagation(&mut self) {
        self.flow_mut().stopped = true;
    }
}

/// Which way an event came, and whether it goes on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flow {
    pub(crate) trusted: bool,
    pub(crate) stopped: bool,
}

pub(crate) mod sealed {
    use super::Flow;
    use crate::events::handle::PortHandle;
    use crate::events::handlers::Handlers;

    /// Nobody else's types are events of a port.
    pub trait Event: Sized + 'static {
        fn handlers(port: &PortHandle) -> &Handlers<Self>;
        fn flow(&self) -> &Flow;
        fn flow_mut(&mut self) -> &mut Flow;
    }
}

/// A message has arrived: the standard's
/// [`MessageEvent`](https://html.spec.whatwg.org/multipage/comms.html#the-messageevent-interface).
///
/// It can be used like its [`Message`]: `event.data`, `event.ports`, `event.buffers`; to borrow two of them at a time, go
/// through `event.message`. A handler that wants to keep
/// something takes it out; handlers that come later then see the rest. What nobody took is dropped after the last
/// handler, and the memory of `data` is used again for the next message.
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

/// A message could not be made for its receiver: the standard's `messageerror`. It has been consumed, and what it carried
/// is closed; later messages are not affected.
#[derive(Debug)]
pub struct MessageErrorEvent {
    /// What was wrong.
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

/// The other end is gone, and every message of it has been dispatched. A port that is closed here gets none.
#[derive(Debug)]
pub struct CloseEvent {
    /// Why it is gone.
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
            fn handlers(port: &crate::events::handle::PortHandle) -> &crate::events::handlers::Handlers<Self> {
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

/// Something went wrong in an [`EventLoop`](crate::EventLoop) that no caller is there to be told: the standard's
/// [`ErrorEvent`](https://html.spec.whatwg.org/multipage/webappapis.html#errorevent). The loop goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorEvent {
    /// A handler, timer or task panicked, with this payload. Later events are not affected.
    Panic(Box<dyn Any + Send>),
    /// A message cannot be received now for want of memory, descriptors or the like. It stays queued, and is tried again
    /// every few milliseconds; this is told once until it has worked.
    ResourceExhausted(io::Error),
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
        }
    }
}

impl std::error::Error for ErrorEvent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Panic(_) => None,
            Self::ResourceExhausted(error) => Some(error),
        }
    }
}
