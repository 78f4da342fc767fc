//! The Web's `MessagePort` for native processes.

#[cfg(not(target_os = "linux"))]
compile_error!("messageport runs on Linux only for now: it rests on memfd, futex and SEQPACKET sockets");

mod error;
mod record;
mod ring;
mod sync;
mod wait;

mod buffer;
mod capsule;
mod channel;
mod direction;
mod end;
mod lane;
mod layout;
mod message;
mod port;
mod post;
mod recv;
mod segment;
mod sys;
mod transfer;

pub use buffer::TransferBuffer;
pub use channel::{ChannelOptions, MessageChannel};
pub use error::{
    BadSegment, BadTransfer, BufferError, ChannelError, CloseReason, FullCause, JoinError, PostError, PostErrorKind,
    RecvError, RecvTimeoutError, TryRecvError, Violation,
};
pub use message::Message;
pub use port::{MessagePort, RecvHalf, SendHalf};
pub use post::Reservation;
pub use recv::MessageRef;
pub use transfer::{TransferRef, Transferable};
