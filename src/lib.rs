//! The Web's `MessagePort` for native processes: entangled ports over shared memory, with ports and buffers that
//! travel.
//!
//! On the Web, two isolated contexts talk through a [`MessageChannel`]: two *entangled* ports, each the other's *peer*.
//! A message that is posted on one port arrives at the other, and can carry ports and buffers, which move to the
//! receiver. This crate provides the same for the threads and processes of one Linux machine. A message of a few bytes
//! costs about one cache-line transfer; a large buffer is handed over without a copy; a port moves with
//! everything that is queued in it, while its peer goes on posting.
//!
//! # A channel
//! ```
//! use messageport::MessageChannel;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let MessageChannel { port1, port2 } = MessageChannel::new()?;
//! port1.post_message(b"ping", [])?;
//! assert_eq!(port2.recv()?.data, b"ping");
//! port2.post_message(b"pong", [])?;
//! assert_eq!(port1.recv()?.data, b"pong");
//! # Ok(()) }
//! ```
//! The two ends are equal, and either may post before the other receives. [`post_message`](MessagePort::post_message)
//! never blocks: a full queue [grows](ChannelOptions::max_capacity), and at its limit posting is an error that gives
//! everything back. Data of any length is one message; data that does not fit the queue travels in a buffer, which the
//! receiver does not notice.
//!
//! # Waiting
//! One rule holds for receiving, calls, sets and listeners: `x` waits for as long as it takes, `try_x` does not wait,
//! and `x_timeout` waits for at most a `Duration`. So [`recv`](MessagePort::recv) waits for a message for as long as
//! the peer lives, beside [`try_recv`](MessagePort::try_recv) and [`recv_timeout`](MessagePort::recv_timeout). An
//! [`EventLoop`] is the exception: its forms are [`run_once`](EventLoop::run_once),
//! [`run_once_timeout`](EventLoop::run_once_timeout) and [`dispatch`](EventLoop::dispatch), which does not wait. A
//! timeout that overflows `Instant` means no deadline. What a call returns if there is nothing:
//!
//! | calls | nothing now (`try_x`) | the time is over (`x_timeout`) |
//! |---|---|---|
//! | receiving from a [`MessagePort`] or a [`Server`] | `Err(Empty)` | `Err(TimedOut)` |
//! | [`PendingCall`] | `Ok(None)` | `Err(TimedOut)` |
//! | [`Listener`] | `Ok(None)` | `Err(TimedOut)` |
//! | [`PortSet`] | `Ok(None)` | `Ok(None)` |
//! | [`EventLoop`] (`dispatch`, `run_once_timeout`) | `Ok(0)` | `Ok(0)` |
//!
//! Posting does not wait; [`post_message_wait`](MessagePort::post_message_wait) waits for space in a full queue for as
//! long as the peer lives, and [`post_message_timeout`](MessagePort::post_message_timeout) for at most a `Duration`.
//!
//! An [`Interrupter`] ends a wait from another thread or from a signal handler, and nothing is lost. An event loop has a
//! [`LoopHandle`] for that.
//!
//! # Which type do I need?
//!
//! | for | take | example |
//! |---|---|---|
//! | messages between two threads or processes | [`MessageChannel`], [`MessagePort`], [`Message`] | `hello` |
//! | a port for a child process | [`spawn_with_port`], [`parent_port`]; started in another way, [`PreparedPort`] | `hello` |
//! | processes that meet by name | [`Listener`], [`connect`] | `greeter`, `visitor` |
//! | handlers and timers, as on a page | [`EventLoop`], [`PortHandle`] | `page_and_iframe`, `shared_worker` |
//! | ports in the event loop that a program has | a port's [descriptor](std::os::fd::AsFd), or an [`EventLoop`]'s | `embedded` |
//! | many ports without handlers | [`PortSet`] | |
//! | tasks of tokio | `aio::AsyncPort`, `aio::AsyncListener` (feature `tokio`) | `tokio_echo` |
//! | values of serde types | `TypedPort` (feature `serde`) | `worker_pool` |
//! | requests and answers | [`Client`], [`Server`]; of values `TypedClient`, `TypedServer` | `call` |
//! | large data for one receiver | [`TransferBuffer`] | `frames` |
//! | large data for many readers | [`FrozenBuffer`] | `broadcast` |
//! | memory that several processes write | [`SharedBuffer`] | |
//! | one thread that posts and one that receives | [`MessagePort::split`]: [`SendHalf`], [`RecvHalf`] | |
//!
//! The examples are in the folder `examples` of this package, with a list in its `README.md`. Also in the package:
//! `docs/FROM_C.md` for C and C++, `docs/GUARANTEES.md` (what holds), `ARCHITECTURE.md` (how it works, and why it is
//! sound), `SECURITY.md` (what a hostile peer can do), `docs/BENCHMARKS.md`, `docs/COSTS.md` (descriptors and memory),
//! `docs/PLATFORMS.md` (where it runs) and `docs/SYSTEM-CALLS.md` (for sandboxes).
//!
//! # Tasks
//! With the feature `tokio`, the module `aio` has ports that wait in the tasks of a runtime, thousands of them on one
//! thread. An `AsyncPort` is made from a [`MessagePort`] and turned back into one. It has `recv().await` and
//! `post_message_wait().await`, is a `Stream` and a `Sink`, and has halves for two tasks; `AsyncListener` and
//! `aio::connect` complete it. A future that is dropped loses no message, and `post_message_draining_wait` leaves the
//! transfer list with the caller until the message is posted. Other runtimes and event loops can wait on the port's
//! descriptor.
//!
//! # Values
//! With the feature `serde`, a `TypedPort` posts and receives values of any serde type, and the ports and buffers
//! inside them move along:
//! ```
//! # #[cfg(feature = "serde")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use messageport::{MessageChannel, TransferBuffer, TypedPort};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Job {
//!     frame: TransferBuffer,
//!     reply: TypedPort<String, ()>,
//! }
//!
//! let MessageChannel { port1, port2 } = MessageChannel::new()?;
//! let (jobs, worker) = (TypedPort::<Job, ()>::from(port1), TypedPort::<(), Job>::from(port2));
//! let answers = MessageChannel::new()?;
//! jobs.post(Job { frame: TransferBuffer::new(1 << 20)?, reply: answers.port2.into() })?;
//!
//! let job = worker.recv()?;
//! job.reply.post(format!("{} bytes", job.frame.len()))?;
//! assert_eq!(TypedPort::<(), String>::from(answers.port1).recv()?, "1048576 bytes");
//! # Ok(()) }
//! # #[cfg(not(feature = "serde"))]
//! # fn main() {}
//! ```
//! Without any feature, [`post_plain`](MessagePort::post_plain) posts a value as its bytes, and `Message::plain` reads
//! it.
//!
//! # Events
//! An [`EventLoop`] calls handlers, like the event loop of a page. A port that is added to it becomes a [`PortHandle`]:
//! ```
//! use messageport::{EventLoop, MessageChannel};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let MessageChannel { port1, port2 } = MessageChannel::new()?;
//! let events = EventLoop::new()?;
//! let port = events.add(port1)?;
//! port.set_onmessage(|port, event| {
//!     assert_eq!(event.data, b"ping");
//!     port.post_message(b"pong", []).unwrap();
//! });
//! port.set_onclose(|_, event| println!("{}", event.reason));
//! port2.post_message(b"ping", [])?;
//! events.run_once()?;
//! assert_eq!(port2.recv()?.data, b"pong");
//! drop(port2);
//! events.run()?; // until nothing more can happen
//! # Ok(()) }
//! ```
//! Handlers are closures on the loop's thread, and may do anything: post, close, transfer, add and remove ports and
//! handlers. The loop has [timers](EventLoop::set_timeout), takes [tasks](LoopHandle::post_task) from other threads,
//! accepts the clients of [listeners](EventLoop::add_listener), watches [descriptors](EventLoop::watch) of the program,
//! and is [one descriptor](EventLoop#impl-AsFd-for-EventLoop) for another program's loop.
//!
//! # Two processes
//! A parent gives a port to a child process with [`spawn_with_port`], and the child takes it with [`parent_port`]:
//! ```no_run
//! use std::process::Command;
//! use messageport::{MessageChannel, spawn_with_port};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let MessageChannel { port1, port2 } = MessageChannel::new()?;
//! let mut child = spawn_with_port(&mut Command::new("worker"), port2)?;
//! port1.post_message(b"work", [])?; // in the worker: parent_port()?.recv()?
//! child.wait()?;
//! # Ok(()) }
//! ```
//! Unrelated processes meet by name: one of them binds a [`Listener`], and the others [`connect`] to it. The listener
//! makes the pair of ports, and the client gets one of them. Both run as the same user, unless the
//! [`ListenOptions`] and the [`ConnectOptions`] allow others.
//!
//! # Request and answer
//! A [`Client`] and a [`Server`] are the two ends of a pair over which many calls can be open at a time; `TypedClient`
//! and `TypedServer` do the same with values:
//! ```
//! # #[cfg(feature = "serde")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use messageport::{MessageChannel, TypedClient, TypedServer};
//!
//! let MessageChannel { port1, port2 } = MessageChannel::new()?;
//! std::thread::spawn(|| TypedServer::<String, usize>::new(port2).serve(|text| text.len()));
//! let client = TypedClient::<String, usize>::new(port1);
//! let first = client.start("request".into())?;
//! assert_eq!(client.call("answer".into())?, 6);
//! assert_eq!(first.wait()?, 7);
//! # Ok(()) }
//! # #[cfg(not(feature = "serde"))]
//! # fn main() {}
//! ```
//! A call ends with its answer, at its deadline, when the server drops the request, or when the server is gone. A call
//! whose [`PendingCall`] is dropped is cancelled, which the server can [query](Responder::is_cancelled).
//!
//! # Many ports
//! A [`PortSet`] receives from many ports without handlers: [`wait`](PortSet::wait) returns the next message or end of
//! any of them. In a set as in an event loop, an idle port costs nothing, and a busy port does not starve the others.
//!
//! # Ports and buffers in messages
//! ```
//! use messageport::{MessageChannel, TransferBuffer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let main = MessageChannel::new()?;
//! let side = MessageChannel::new()?;
//! side.port1.post_message(b"this waits in the queue of port2", [])?;
//!
//! let frame = TransferBuffer::new(1920 * 1080 * 4)?;
//! frame.write_at(0, b"pixels")?;
//! main.port1.post_message(b"a frame, and a port for the answer", [frame.into(), side.port2.into()])?;
//!
//! let mut message = main.port2.recv()?;
//! assert_eq!(message.buffers[0].len(), 1920 * 1080 * 4);
//! let port = message.ports.remove(0);
//! assert_eq!(port.recv()?.data, b"this waits in the queue of port2");
//! # Ok(()) }
//! ```
//! A transfer list moves as a whole or not at all: if posting fails, for any reason, everything on the list still
//! belongs to the caller and still works. A transfer list can also carry any other descriptor, as an
//! [`OwnedFd`](std::os::fd::OwnedFd): a file, a socket, a pipe, graphics memory. A `for` loop over `&port` receives
//! until the peer has closed.
//!
//! # Memory that is handed over, read by many, or shared
//! A [`TransferBuffer`] has one holder at a time. A [`FrozenBuffer`] has any number of holders, and none of them can
//! write it, so it is a plain slice of bytes. A [`SharedBuffer`] has any number of holders, which read and write it by
//! atomics and by copies. Posting one of the latter two clones the handle and never copies the memory:
//! ```
//! use std::sync::atomic::Ordering;
//! use messageport::{FrozenBuffer, MessageChannel, SharedBuffer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let MessageChannel { port1, port2 } = MessageChannel::new()?;
//! let weights = FrozenBuffer::from_bytes(b"as large as you like")?;
//! let progress = SharedBuffer::new(8)?;
//! port1.post_message(b"work", [weights.clone().into(), progress.clone().into()])?;
//!
//! // The worker:
//! let message = port2.recv()?;
//! let done = message.frozen[0].split(|byte| *byte == b' ').count();
//! message.shared[0].atomic_u64(0)?.store(done as u64, Ordering::Release);
//!
//! assert_eq!(progress.atomic_u64(0)?.load(Ordering::Acquire), 5);
//! # Ok(()) }
//! ```
//! Processes without a port between them share memory by name, with the default feature `named`:
//! [`SharedBuffer::create_named`].
//!
//! # Speed
//! [`recv_into`](MessagePort::recv_into) reuses a message's memory and allocates nothing;
//! [`recv_ref`](MessagePort::recv_ref) reads in place; [`reserve`](MessagePort::reserve) writes in place;
//! [`post_messages`](MessagePort::post_messages) and [`recv_messages`](MessagePort::recv_messages) handle several at a
//! time. A busy pair makes no system calls. [`buffer`](MessagePort::buffer) returns buffers that come back: posting one
//! again costs the same for 4 KiB and for 4 GiB, and no system call. [`split`](MessagePort::split) lets two threads
//! send and receive at the same time. A port has a descriptor ([`AsFd`](std::os::fd::AsFd)) to wait on in your own
//! `poll` or `epoll` loop.
//!
//! # The end
//! [`close`](MessagePort::close), or dropping a port, ends the channel. Messages that were posted before still arrive;
//! then the peer receives the reason, a [`CloseReason`]: `Closed`; `PeerDied` if the process ended without closing, by
//! SIGKILL too; or `ProtocolViolation` if it broke the format. A blocked call notices a death within 20 ms after the
//! kernel has released the descriptors of the dead process, which takes tens of milliseconds longer where gigabytes
//! have to be torn down. A post notices it after at most 64 posts or 10 ms of posting, whichever comes later.
//! [`peer_state`](MessagePort::peer_state) and [`closed`](MessagePort::closed) report the end without taking a message.
//!
//! # Errors
//! An error of an operation that takes ownership is a [`Refusal`] with what was passed in, unless its documentation
//! states otherwise.
//! The `Display` of an error states what failed, its `source` the cause, and `{:#}` prints both. Every error converts
//! into an [`io::Error`](std::io::Error) of a fitting kind.
//!
//! # Trust
//! A port is a capability: its holder may use it, and no other process can reach the channel. A peer is not trusted: it
//! can spoil the data that it sends and end its own channel, and nothing else. It cannot make this process crash, read
//! out of bounds, lose descriptors, hang past a deadline or spin. A former holder of a port or a buffer that kept a
//! duplicate of the descriptors, against the rules, can still take or alter what is sent over it later, and delay what
//! its holder receives; [`renew`](MessagePort::renew) replaces such a port by one whose end stays in this process.
//! Nothing can alter a [`FrozenBuffer`].
//!
//! # Names
//! The names are those of the [HTML
//! standard](https://html.spec.whatwg.org/multipage/web-messaging.html#channel-messaging) in snake case.
//!
//! | standard | here | differences |
//! |---|---|---|
//! | `new MessageChannel()` | [`MessageChannel::new`] | can fail: it needs descriptors and memory |
//! | `postMessage(message, transfer)` | [`post_message`](MessagePort::post_message) | bytes; fails when full, or when the peer is known to be gone |
//! | `await` of the next `message` event | `aio::AsyncPort::recv` | feature `tokio` |
//! | `event.data`, `event.ports` | `data` and `ports` of [`Message`] | received by a call, or in a [`MessageEvent`] |
//! | `onmessage = f` | [`PortHandle::set_onmessage`] | an [`EventLoop`] calls `f`; the first call starts the port |
//! | `onmessageerror`, `onclose` | [`set_onmessageerror`](PortHandle::set_onmessageerror), [`set_onclose`](PortHandle::set_onclose) | both events have a reason |
//! | `start()` | [`start`](PortHandle::start) | only for events: a receiving call does not need it |
//! | `addEventListener(type, f, { once })` | [`add_handler`](PortHandle::add_handler), [`add_handler_once`](PortHandle::add_handler_once) | the closure's event selects the type; the same `f` can be added several times |
//! | `removeEventListener`, `onmessage = null` | [`remove_handler`](PortHandle::remove_handler) | by the id that adding returned |
//! | `dispatchEvent(event)` | [`dispatch_event`](PortHandle::dispatch_event) | a handler that is running is skipped |
//! | `event.target`, `event.isTrusted` | the handler's first parameter, [`is_trusted`](PortEvent::is_trusted) | `origin`, `source` and `lastEventId` have no meaning here: a port does not identify the sender |
//! | an exception in a handler | [`ErrorEvent::Panic`], [`EventLoop::set_onerror`] | the loop goes on |
//! | garbage collection | | a handle or a handler keeps a port; see [`PortHandle`] |
//! | `setTimeout`, `clearTimeout` | [`set_timeout`](EventLoop::set_timeout), [`clear_timeout`](EventLoop::clear_timeout) | |
//! | `setInterval` | [`set_interval`](EventLoop::set_interval) | a period is at least 1 ms |
//! | `onconnect` of a shared worker | [`add_listener`](EventLoop::add_listener) | |
//! | `scheduler.postTask(f)` | [`LoopHandle::post_task`] | from any thread |
//! | `ArrayBuffer` on a transfer list | [`TransferBuffer`] | arrives in `buffers` of [`Message`] |
//! | `SharedArrayBuffer` in a message | [`SharedBuffer`] | on the transfer list; arrives in `shared` of [`Message`] |
//! | `close()` | [`close`](MessagePort::close) | the peer receives the reason |
//! | a port posted to its own peer | [`PostErrorKind::ContainsPeer`] | the standard loses the channel |

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "tokio")]
pub mod aio;
#[cfg(feature = "serde")]
mod typed;
mod events;

mod connect;
mod call;
mod poll;

mod port;
mod capsule;
mod end;
mod buffer;
mod queue;

mod error;
mod layout;
mod violation;
mod scratch;
mod sys;

#[cfg(feature = "serde")]
pub use typed::{
    TypedClient, TypedPendingCall, TypedPort, TypedPostError, TypedPostErrorKind, TypedRecvHalf, TypedResponder,
    TypedSendHalf, TypedServer, Values,
};

pub use events::EventLoop;
pub use events::event::{CloseEvent, ErrorEvent, MessageErrorEvent, MessageEvent, PortEvent};
pub use events::handlers::HandlerId;
pub use events::loop_handle::{LoopGone, LoopHandle};
pub use events::port_handle::{PortHandle, PortRef};
pub use events::timers::TimerId;
pub use events::watches::WatchId;
pub use sys::epoll::Readiness;

/// For the C library, whose handles a forked child inherits too.
#[doc(hidden)]
pub use sys::fork::Home;

/// For the C library, whose callers may cancel threads.
#[doc(hidden)]
pub use sys::cancel::Uncancelled;
/// For the C library, which has a code of its own for a shortage.
#[doc(hidden)]
pub use sys::is_shortage;

pub use sys::exclusive::Exclusive;

pub use connect::{
    AcceptError, ConnectError, ConnectOptions, Incoming, IncomingClients, ListenError, ListenOptions, Listener,
    NameError, ParentPortError, PreparedPort, SpawnError, SpawnErrorKind, connect, parent_port, spawn_with_port,
};

pub use call::{AnswerError, CallError, Client, PendingCall, RespondError, Responder, ServeError, Server};

pub use poll::set::{PortId, PortSet, SetEvent};

pub use end::interrupt::Interrupter;
pub use port::batch::PostMessagesError;
pub use port::channel::{ChannelOptions, MessageChannel, RenewError, raise_descriptor_limit};
pub use port::in_place::MessageRef;
pub use port::iter::Messages;
pub use port::message::Message;
pub use port::plain::WrongSize;
pub use port::post::Queued;
pub use port::reserve::Reservation;
pub use port::transfer::{PostError, TransferRef, Transferable};
pub use port::{JoinError, MessagePort, RecvHalf, SendHalf};

pub use buffer::bytes::BufferBytes;
pub use buffer::cursor::BufferCursor;
pub use buffer::frozen::FrozenBuffer;
#[cfg(feature = "named")]
pub use buffer::named::NamedBufferError;
pub use buffer::shared::SharedBuffer;
pub use buffer::{FreezeError, FreezeErrorKind, TransferBuffer};

pub use error::{
    BadSegment, BadTransfer, BadValue, BufferError, ChannelError, CloseReason, DifferentPorts, FullCause,
    PostDataError, PostErrorKind, RecvError, RecvTimeoutError, Refusal, TryRecvError, Violation, WatchError,
};

// A port has one holder at a time, in any thread.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<MessagePort>();
    is_send::<SendHalf>();
    is_send::<RecvHalf>();
    is_send::<Message>();
    is_send::<TransferBuffer>();
    is_send::<PortSet>();
    is_send::<Server>();
    is_send::<Responder>();
    // Memory that cannot be written, and types that synchronize themselves, can be used by several threads at a time.
    fn is_sync<T: Send + Sync>() {}
    is_sync::<FrozenBuffer>();
    is_sync::<SharedBuffer>();
    is_sync::<LoopHandle>();
    is_sync::<Client>();
    is_sync::<PendingCall>();
};
