//! Typed ports, requests and answers. Tests for which it can make a difference run on one thread, on two threads and in
//! two processes.

mod calls;
mod clients;
#[path = "../harness/mod.rs"]
#[allow(dead_code)] // each test program uses a part
mod harness;
mod hostile;
mod loans;
mod plain;
mod values;
