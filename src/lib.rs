//! The Web's `MessagePort` for native processes.

#[cfg(not(target_os = "linux"))]
compile_error!("messageport runs on Linux only for now: it rests on memfd, futex and SEQPACKET sockets");

// Ring and wait: what the loom models check (see `model`).
mod record;
mod ring;
mod sync;
mod violation;
mod wait;

#[cfg(messageport_loom)]
mod model;
#[cfg(messageport_loom)]
use model as direction;

// Everything else is not compiled for the models.
#[cfg(not(messageport_loom))]
mod buffer;
#[cfg(not(messageport_loom))]
mod capsule;
#[cfg(not(messageport_loom))]
mod channel;
#[cfg(not(messageport_loom))]
mod connect;
#[cfg(not(messageport_loom))]
mod direction;
#[cfg(not(messageport_loom))]
mod end;
#[cfg(not(messageport_loom))]
mod error;
#[cfg(not(messageport_loom))]
mod lane;
#[cfg(not(messageport_loom))]
mod layout;
#[cfg(not(messageport_loom))]
mod message;
#[cfg(not(messageport_loom))]
mod port;
#[cfg(not(messageport_loom))]
mod post;
#[cfg(not(messageport_loom))]
mod recv;
#[cfg(not(messageport_loom))]
mod segment;
#[cfg(not(messageport_loom))]
mod sys;
#[cfg(not(messageport_loom))]
mod transfer;

#[cfg(not(messageport_loom))]
pub use buffer::TransferBuffer;
#[cfg(not(messageport_loom))]
pub use channel::{ChannelOptions, MessageChannel};
#[cfg(not(messageport_loom))]
pub use connect::{
    AcceptError, ConnectError, ConnectOptions, Incoming, ListenError, ListenOptions, Listener, NameError,
    ParentPortError, SpawnError, SpawnErrorKind, connect, parent_port, spawn_with_port,
};
#[cfg(not(messageport_loom))]
pub use error::{
    BadSegment, BadTransfer, BufferError, ChannelError, CloseReason, FullCause, JoinError, PostError, PostErrorKind,
    RecvError, RecvTimeoutError, TryRecvError, Violation,
};
#[cfg(not(messageport_loom))]
pub use message::Message;
#[cfg(not(messageport_loom))]
pub use port::{MessagePort, RecvHalf, SendHalf};
#[cfg(not(messageport_loom))]
pub use post::Reservation;
#[cfg(not(messageport_loom))]
pub use recv::MessageRef;
#[cfg(not(messageport_loom))]
pub use transfer::{TransferRef, Transferable};
