//! What a port does, rule by rule, each on one thread, on two threads and in two processes.
//!
//! S40 and S41 are about other kinds of buffers, which are not part of the library yet.

mod buffers;
mod closing;
mod events;
#[path = "../harness/mod.rs"]
mod harness;
mod pair;
mod posting;
mod transfer;
