//! Fuzzing targets: everything that a peer can write, and every order of what a user can do.
//!
//! The library's own files are compiled here, so the targets reach what is not public. A target is a function of bytes
//! that panics or hangs if something is wrong, and repeats itself for the same bytes. The targets are run
//! - by libFuzzer under AddressSanitizer, with `fuzz/run`;
//! - by `cargo test -p messageport-fuzz`, on the inputs of `corpus/` and on random inputs, and with planted faults,
//!   each of which must be found.
//!
//! The target over a ring whose bytes change between two loads is a program of its own, in `changing/`, since it puts
//! another memory under the same code.
// The targets use a part of the library's files, and nothing of this package is public.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, rustdoc::broken_intra_doc_links)]

mod targets;

#[path = "../../src/typed/mod.rs"]
mod typed;
#[path = "../../src/events/mod.rs"]
mod events;
#[path = "../../src/connect/mod.rs"]
mod connect;
#[path = "../../src/call/mod.rs"]
mod call;
#[path = "../../src/poll/mod.rs"]
mod poll;
#[path = "../../src/port/mod.rs"]
mod port;
#[path = "../../src/capsule/mod.rs"]
mod capsule;
#[path = "../../src/end/mod.rs"]
mod end;
#[path = "../../src/buffer/mod.rs"]
mod buffer;
#[path = "../../src/queue/mod.rs"]
mod queue;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/layout.rs"]
mod layout;
#[path = "../../src/violation.rs"]
mod violation;
#[path = "../../src/scratch.rs"]
mod scratch;
#[path = "../../src/sys/mod.rs"]
mod sys;

pub mod runs;
pub mod input;

pub use runs::Target;
pub use targets::{CONTROLS, Control, TARGETS};

pub use buffer::bytes::BufferBytes;
pub use buffer::cursor::BufferCursor;
pub use buffer::frozen::FrozenBuffer;
pub use buffer::named::NamedBufferError;
pub use buffer::shared::SharedBuffer;
pub use buffer::{FreezeError, FreezeErrorKind, TransferBuffer};
pub use call::{AnswerError, CallError, Client, PendingCall, RespondError, Responder, ServeError, Server};
pub use connect::{
    AcceptError, ConnectError, ConnectOptions, Incoming, ListenError, ListenOptions, Listener, NameError,
    ParentPortError, SpawnError, SpawnErrorKind, connect, parent_port, spawn_with_port,
};
pub use error::{
    BadSegment, BadTransfer, BadValue, BufferError, ChannelError, CloseReason, DifferentPorts, FullCause,
    PostDataError, PostErrorKind, RecvError, RecvTimeoutError, Refusal, TryRecvError, Violation, WatchError,
};
pub use events::EventLoop;
pub use events::event::{CloseEvent, ErrorEvent, MessageErrorEvent, MessageEvent, PortEvent};
pub use events::handlers::HandlerId;
pub use events::loop_handle::{LoopGone, LoopHandle};
pub use events::port_handle::{PortHandle, PortRef};
pub use events::timers::TimerId;
pub use poll::set::{PortId, PortSet, SetEvent};
pub use port::batch::PostMessagesError;
pub use port::channel::{ChannelOptions, MessageChannel, raise_descriptor_limit};
pub use port::in_place::MessageRef;
pub use port::message::Message;
pub use port::plain::WrongSize;
pub use port::post::Queued;
pub use port::reserve::Reservation;
pub use port::transfer::{PostError, TransferRef, Transferable};
pub use port::{JoinError, MessagePort, RecvHalf, SendHalf};
pub use sys::exclusive::Exclusive;
pub use sys::is_shortage;
#[cfg(feature = "serde")]
pub use typed::{
    TypedClient, TypedPendingCall, TypedPort, TypedPostError, TypedRecvHalf, TypedResponder, TypedSendHalf, TypedServer,
};
