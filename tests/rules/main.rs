//! The rules of a port, each on one thread, on two threads and in two processes.

mod buffers;
mod capacity;
mod closing;
mod events;
mod forwarding;
mod growth;
#[path = "../harness/mod.rs"]
mod harness;
mod pair;
mod posting;
mod recycling;
mod transfer;
