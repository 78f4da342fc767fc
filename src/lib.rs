//! The Web's `MessagePort` for native processes.

#[cfg(not(target_os = "linux"))]
compile_error!("messageport runs on Linux only for now: it rests on memfd, futex and SEQPACKET sockets");

mod buffer;
mod capsule;
mod channel;
mod connect;
mod direction;
mod doorbell;
mod end;
mod error;
mod lane;
mod layout;
mod message;
mod port;
mod post;
mod record;
mod recv;
mod ring;
mod segment;
mod sync;
mod sys;
mod transfer;
mod violation;
mod wait;

pub use buffer::TransferBuffer;
pub use channel::{ChannelOptions, MessageChannel};
pub use connect::{
    AcceptError, ConnectError, ConnectOptions, Incoming, ListenError, ListenOptions, Listener, NameError,
    ParentPortError, SpawnError, SpawnErrorKind, connect, parent_port, spawn_with_port,
};
pub use error::{
    BadSegment, BadTransfer, BufferError, ChannelError, CloseReason, FullCause, JoinError, PostError, PostErrorKind,
    RecvError, RecvTimeoutError, TryRecvError, Violation,
};
pub use message::Message;
pub use port::{MessagePort, RecvHalf, SendHalf};
pub use post::Reservation;
pub use recv::MessageRef;
pub use transfer::{TransferRef, Transferable};
