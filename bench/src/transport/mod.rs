//! The transports that are measured: ports with each of their calls, buffers, sockets, and many sources with one
//! receiver.

pub(crate) mod buffers;
pub(crate) mod fan;
pub(crate) mod ports;
pub(crate) mod sockets;
