//! Meeting: how two processes come to hold the two ends of one pair.
//!
//! [`spawn_with_port`] gives an end to a child process, [`Listener`] and [`connect`] find each other by name. Either way
//! the one who starts makes the pair and sends one end in a *greeting*, as a page sends a port to its iframe.

mod child;
mod client;
mod greeting;
mod listener;
mod names;

pub use child::{ParentPortError, SpawnError, SpawnErrorKind, parent_port, spawn_with_port};
pub use client::{ConnectError, ConnectOptions, connect};
#[cfg(feature = "tokio")]
pub(crate) use client::{Connecting, QUEUE_RETRY};
pub use listener::{AcceptError, Clients, Incoming, ListenError, ListenOptions, Listener};
pub use names::NameError;
