//! loom models of the ring, its doorbells and the wait.
//!
//! The library's own `ring.rs`, `record.rs`, `doorbell.rs` and `wait.rs` are compiled here unchanged, over a memory of
//! loom's atomics (`direction`), a futex made of a mutex and a condition variable (`sync`), and a lane of the same
//! (`lane`). loom then runs every interleaving, up to a number of preemptions, and every value that a load may see
//! under the C11 memory model.
//!
//! ```text
//! cargo test --release -p messageport-models
//! cargo test --release -p messageport-models -- --nocapture --test-threads=1     with sizes and times
//! ```
//! A lost wake-up is a deadlock, which loom reports. A missing release is stale payload, or payload that is read
//! and overwritten with no order between the two.
#![cfg(test)]
// The models use a part of the files, and nothing of this package is public.
// loom runs all threads of a model on one, so what they share need not be `Send`.
#![allow(dead_code, unreachable_pub, clippy::arc_with_non_send_sync)]

mod check;
mod closing;
mod controls;
mod growing;
mod passing;
mod waiting;

mod ends;
mod faults;
mod word;

mod end;
mod queue;
#[path = "../../src/violation.rs"]
mod violation;

/// What `wait.rs` asks the system: here a thread has one CPU and never spins, since loom tries every order anyway.
mod sys {
    pub(crate) mod cpu {
        pub(crate) fn may_spin() -> bool {
            false
        }

        pub(crate) fn forget_affinity() {}
    }
}
