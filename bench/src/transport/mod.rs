//! The sources of messages that are measured: ports by each of their calls, buffers, sockets, and many into one receiver.

pub(crate) mod buffers;
pub(crate) mod fan;
pub(crate) mod ports;
pub(crate) mod sockets;
