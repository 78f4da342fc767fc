//! Ports, listeners and connections for the tasks of a [tokio](https://docs.rs/tokio) runtime. Needs the feature
//! `tokio`.
//!
//! An [`AsyncPort`] is made from a [`MessagePort`](crate::MessagePort) and can be turned back into one. It waits
//! without blocking a thread: [`recv`](AsyncPort::recv) for a message,
//! [`post_message_wait`](AsyncPort::post_message_wait) for space. It is a [`Stream`](futures_core::Stream) and a
//! [`Sink`](futures_sink::Sink) of messages, and its [halves](AsyncPort::split) can wait in two tasks at the same time.
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
//! Every future here can be dropped at any time. A message that it has not returned is still queued, and a message that
//! it has not posted is not posted at all. The transfer list is dropped with a future that owns it;
//! [`post_message_draining_wait`](AsyncPort::post_message_draining_wait) leaves it with the caller. So
//! [`tokio::time::timeout`] limits any wait.
//!
//! # The runtime
//! The runtime must drive I/O and time (`enable_all`, which `#[tokio::main]` calls). Ports, listeners and connections
//! are created within it; without these drivers their creation panics, like that of tokio's own sockets. A waiting port
//! costs the runtime one registration and no timer. A task that always finds messages yields now and then, by tokio's
//! budget.
#![forbid(unsafe_code)]

mod port;
mod post;
mod recv;
mod meeting;
mod wait;

pub use meeting::{AsyncListener, connect};
pub use port::{AsyncPort, AsyncRecvHalf, AsyncSendHalf};
pub use post::SendError;
