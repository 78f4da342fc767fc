//! Typed ports, requests and answers. Tests for which it can make a difference run on one thread, on two threads and in
//! two processes.

mod calls;
mod clients;
mod deep;
#[path = "../harness/mod.rs"]
#[allow(dead_code)] // each test program uses a part
mod harness;
mod hostile;
mod loans;
mod plain;
mod values;

const ROLES: &[deep::child::Role] = &[("main thread", deep::main_thread), ("little memory", deep::little_memory)];
