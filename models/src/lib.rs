//! loom models of the ring and its doorbells.
//!
//! The library's own `ring.rs`, `record.rs` and `doorbell.rs` are compiled here unchanged, over a memory of loom's
//! atomics (`direction`) and a futex made of a mutex and a condition variable (`sync`). loom then runs every
//! interleaving, up to a number of preemptions, and every value that a load may see under the C11 memory model.
//!
//! ```text
//! cargo test --release -p messageport-models
//! ```
//! A lost wake-up is a deadlock, which loom reports; a missing release is stale payload, which a model sees.
#![cfg(test)]
// The models use a part of the files, and nothing of this package is public.
#![allow(dead_code, unreachable_pub)]

mod direction;
#[path = "../../src/doorbell.rs"]
mod doorbell;
#[path = "../../src/record.rs"]
mod record;
#[path = "../../src/ring.rs"]
mod ring;
mod sync;
#[path = "../../src/violation.rs"]
mod violation;

mod controls;
mod ends;
mod models;
