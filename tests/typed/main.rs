//! Typed ports, and request and answer: what a value may hold and what becomes of it, each on one thread, on two threads
//! and in two processes where that can make a difference.

mod calls;
mod clients;
#[path = "../harness/mod.rs"]
#[allow(dead_code)] // each test program uses its part
mod harness;
mod hostile;
mod loans;
mod plain;
mod values;
