//! loom models of the ring, its doorbells and the wait.
//!
//! The library's own `queue/{ring,record,doorbell}.rs` and `end/{wait,spurious}.rs` are compiled here unchanged, over the
//! models' own memory of loom's atomics (`queue/direction.rs`), futex of a mutex and a condition variable (`queue/sync.rs`),
//! and lane (`end/lane.rs`). loom then runs every interleaving, up to a number of preemptions, and every value that a load
//! may return in the C11 memory model.
//!
//! ```text
//! cargo test --release -p messageport-models
//! cargo test --release -p messageport-models -- --nocapture --test-threads=1     prints sizes and times
//! ```
//! A lost wake-up is a deadlock, which loom reports. A missing release is stale payload, or payload that is read and
//! overwritten with no order between the two accesses.
#![cfg(test)]
// The models use a part of the library's files, and nothing of this package is public.
// loom runs all threads of a model on one thread, so what they share need not be `Send`.
#![allow(dead_code, unreachable_pub, clippy::arc_with_non_send_sync)]

mod controls;

mod closing;
mod growing;
mod waiting;

mod passing;

mod ends;

mod end;

mod queue;

mod check;
mod word;

mod faults;

#[path = "../../src/violation.rs"]
mod violation;
mod sys;
