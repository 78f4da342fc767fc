//! What a port does, rule by rule, each on one thread, on two threads and in two processes.
//!
//! S15 to S19 and S21 to S24 are about handlers, which are not part of the library yet.

mod buffers;
mod closing;
mod growth;
#[path = "../harness/mod.rs"]
mod harness;
mod pair;
mod posting;
mod transfer;
