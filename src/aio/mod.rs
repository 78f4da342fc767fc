//! Ports for the tasks of a [tokio](https://docs.rs/tokio) runtime. Needs the feature `tokio`.
//!
//! An [`AsyncPort`] is made from a [`MessagePort`](crate::MessagePort) and can be turned back into one. It waits without
//! holding a thread: [`recv`](AsyncPort::recv) for a message, [`post_message_wait`](AsyncPort::post_message_wait) for
//! space. It is a [`Stream`](futures_core::Stream) and a [`Sink`](futures_sink::Sink) of messages, and its
//! [halves](AsyncPort::split) may wait in two tasks at the same time.
//!
//! ```
//! use messageport::MessageChannel;
//! use messageport::aio::AsyncPort;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let MessageChannel { port1, port2 } = MessageChannel::new()?;
//! let mut port = AsyncPort::new(port1)?;
//! std::thread::spawn(move || port2.post_message(b"from a thread", []));
//! assert_eq!(port.recv().await?.data, b"from a thread");
//! # Ok(()) }
//! ```
//!
//! # Cancelling
//! A future that is dropped loses no message: one that it did not return is still queued, and one that it did not post was
//! not posted. The transfer list of that one is dropped with the future, or stays with the caller if it was lent to
//! [`post_message_draining_wait`](AsyncPort::post_message_draining_wait).
//!
//! So every wait can be given a limit by [`tokio::time::timeout`].
//!
//! # The runtime
//! It must drive I/O and time (`enable_all`, as `#[tokio::main]` does); ports, listeners and connections are made within
//! it, and panic without these drivers, as tokio's own sockets do. A port that waits costs the runtime one registration
//! and no timer. A task that always finds messages gives way to others now and then, by tokio's budget.
#![forbid(unsafe_code)]

mod meeting;
mod port;
mod post;
mod recv;
mod wait;

pub use meeting::{AsyncListener, connect};
pub use port::{AsyncJoinError, AsyncPort, AsyncRecvHalf, AsyncSendHalf, RegisterError};
pub use post::SendError;
