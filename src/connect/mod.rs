//! Meeting: how two processes come to hold the two ends of one pair.
//!
//! [`spawn_with_port`] starts a child process with an end; [`Listener`] and [`connect`] meet by name. A client that
//! connects sends a greeting, and the listener makes the pair and answers with one end of it. So no process holds a
//! descriptor of an end of a parent or a listener.
//!
//! Greetings, timeouts and the answers to them are decided here; the system calls on sockets, lock files and
//! directories are in `sys::named_socket` and `sys::process`.

mod child;
mod connecting;
pub(crate) mod greeting;
mod listener;
mod names;

pub use child::{ParentPortError, PreparedPort, SpawnError, SpawnErrorKind, parent_port, spawn_with_port};
#[cfg(feature = "tokio")]
pub(crate) use connecting::Connecting;
pub use connecting::{ConnectError, ConnectOptions, connect};
#[cfg(feature = "tokio")]
pub(crate) use listener::SHORTAGE_PAUSE;
pub use listener::{AcceptError, Incoming, IncomingClients, ListenError, ListenOptions, Listener};
pub use names::NameError;
