//! The benchmarks of messageport: two processes, each pinned to a CPU of its own, with the limits of the machine
//! measured beside every figure.
//!
//! A [`Bench`] is a list of [`Subject`]s that are measured in turns. Both processes of a [`Session`] open each subject
//! and play the same turns with it. Most subjects are a [`Link`], which sends and receives messages, wrapped in a
//! [`Player`] for round trips or for a stream. [`suite()`] returns the subjects that need nothing but the operating
//! system; a program that compares other libraries adds its own.
//!
//! A program that runs benchmarks starts its own executable again. Its `main` must call [`role`] first, and its global
//! allocator must be [`Counting`] for allocations to be counted.

// Imports point down this list only.
mod run;

mod report;
mod rounds;

mod second;
mod suite;

mod transport;
mod limits;
mod bench;

mod figure;
mod session;

mod link;
mod payload;

mod system;
mod error;

pub use bench::{Bench, Metric, Subject};
pub use error::{Error, Result};
pub use figure::Figure;
pub use link::{
    Alone, Gaps, Link, Outcome, PEER_TIMEOUT, Player, RoundTrips, Side, Stream, Turn, Wait, expect, spin_until,
    streamed, timed,
};
pub use payload::{MIN_SIZE, Payload};
pub use run::{Options, run};
pub use session::Session;
pub use suite::suite;
pub use system::allocations::Counting;
pub use system::machine::{available_memory, pin, pin_thread};
pub use transport::sockets::{PipeLink, SocketLink};

/// Runs the part of this process if a benchmark started it; returns `None` in a process that the user started.
/// `benches` must return the same suite in both.
pub fn role(benches: impl FnOnce() -> Vec<Bench>) -> Option<Result<()>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(system::role::ROLE) {
        return None;
    }
    let name = arguments.next().unwrap_or_default();
    let numbers: Vec<u64> = arguments.map_while(|argument| argument.parse().ok()).collect();
    let Ok(numbers) = <[u64; 3]>::try_from(numbers) else {
        return Some(Err(for_internal_use()));
    };
    Some(match &*name {
        "second" => second::serve(&benches(), &numbers),
        "counted" => suite::counted(&numbers),
        "steps" => suite::steps(&numbers),
        "idle" => suite::idle(&numbers),
        _ => Err(for_internal_use()),
    })
}

fn for_internal_use() -> Error {
    Error::failed("this command is only for processes that a benchmark starts")
}
