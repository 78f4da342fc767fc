//! Fuzzing targets: what a peer can write, and what a user can do, in any order.
//!
//! The library's own files are compiled here, so that targets reach what is not public. A target is a function of bytes
//! that panics, or hangs, if something is wrong; the same bytes do the same again. They are called
//! - by libFuzzer, under AddressSanitizer: `fuzz/run`, see there;
//! - by `cargo test -p messageport-fuzz`, with the inputs of `corpus/` and some at random, and with faults built in, each of
//!   which must be found.
//!
//! A ring whose bytes change between two loads is in `changing/`, a program of its own, since it puts another memory
//! under the same code.
// A part of the files is used, and nothing of this package is public.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, rustdoc::broken_intra_doc_links)]

pub mod input;
pub mod runs;
mod targets;

pub use runs::Target;
pub use targets::TARGETS;

#[path = "../../src/batch.rs"]
mod batch;
#[path = "../../src/buffer.rs"]
mod buffer;
#[path = "../../src/buffer_file.rs"]
mod buffer_file;
#[path = "../../src/call/mod.rs"]
mod call;
#[path = "../../src/capsule.rs"]
mod capsule;
#[path = "../../src/carrier.rs"]
mod carrier;
#[path = "../../src/channel.rs"]
mod channel;
mod connect;
#[path = "../../src/cursor.rs"]
mod cursor;
#[path = "../../src/direction.rs"]
mod direction;
#[path = "../../src/doorbell.rs"]
mod doorbell;
#[path = "../../src/end.rs"]
mod end;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/event.rs"]
mod event;
#[path = "../../src/event_loop.rs"]
mod event_loop;
#[path = "../../src/frozen.rs"]
mod frozen;
#[path = "../../src/growth.rs"]
mod growth;
#[path = "../../src/lane.rs"]
mod lane;
#[path = "../../src/layout.rs"]
mod layout;
#[path = "../../src/listeners.rs"]
mod listeners;
#[path = "../../src/loan.rs"]
mod loan;
#[path = "../../src/loop_handle.rs"]
mod loop_handle;
#[path = "../../src/message.rs"]
mod message;
#[path = "../../src/message_ref.rs"]
mod message_ref;
#[path = "../../src/named.rs"]
mod named;
#[path = "../../src/plain.rs"]
mod plain;
#[path = "../../src/poller.rs"]
mod poller;
#[path = "../../src/pool.rs"]
mod pool;
#[path = "../../src/port.rs"]
mod port;
#[path = "../../src/port_handle.rs"]
mod port_handle;
#[path = "../../src/port_set.rs"]
mod port_set;
#[path = "../../src/post.rs"]
mod post;
#[path = "../../src/record.rs"]
mod record;
#[path = "../../src/recv.rs"]
mod recv;
#[path = "../../src/reservation.rs"]
mod reservation;
#[path = "../../src/ring.rs"]
mod ring;
#[path = "../../src/scratch.rs"]
mod scratch;
#[path = "../../src/segment.rs"]
mod segment;
#[path = "../../src/shared.rs"]
mod shared;
#[path = "../../src/sync.rs"]
mod sync;
#[path = "../../src/sys/mod.rs"]
mod sys;
#[path = "../../src/task.rs"]
mod task;
#[path = "../../src/timers.rs"]
mod timers;
#[path = "../../src/transfer.rs"]
mod transfer;
#[path = "../../src/typed/mod.rs"]
mod typed;
#[path = "../../src/violation.rs"]
mod violation;
#[path = "../../src/wait.rs"]
mod wait;

pub use buffer::TransferBuffer;
pub use call::{AnswerError, CallError, Client, NotAnswered, PendingCall, Responder, ServeError, Server};
pub use channel::{ChannelOptions, MessageChannel, raise_descriptor_limit};
pub use cursor::BufferCursor;
pub use error::{
    BadSegment, BadTransfer, BadValue, BufferError, ChannelError, CloseReason, FreezeError, FreezeErrorKind, FullCause,
    JoinError, PostError, PostErrorKind, PostMessagesError, RecvError, RecvTimeoutError, TryRecvError, Violation,
};
pub use event::{CloseEvent, ErrorEvent, MessageErrorEvent, MessageEvent, PortEvent};
pub use event_loop::EventLoop;
pub use frozen::FrozenBuffer;
pub use listeners::ListenerId;
pub use loop_handle::{LoopGone, LoopHandle};
pub use message::Message;
pub use message_ref::MessageRef;
pub use named::NamedBufferError;
pub use plain::WrongSize;
pub use port::{MessagePort, RecvHalf, SendHalf};
pub use port_handle::{PortHandle, PortRef};
pub use port_set::{AddError, PortId, PortSet, SetEvent};
pub use post::Queued;
pub use reservation::Reservation;
pub use shared::SharedBuffer;
pub use timers::TimerId;
pub use transfer::{TransferRef, Transferable};
#[cfg(feature = "serde")]
pub use typed::{
    TypedClient, TypedPendingCall, TypedPort, TypedPostError, TypedRecvHalf, TypedResponder, TypedSendHalf, TypedServer,
};
