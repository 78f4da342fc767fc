//! The benchmarks of messageport: two real processes, pinned to two CPUs, and the limits of the machine beside every
//! figure.
//!
//! A [`Bench`] is a list of [`Subject`]s that are measured in turns. A subject is opened on both sides of a
//! [`Session`] and plays what it is told: mostly it is a [`Link`], a way to send messages, that plays round trips or a
//! stream. [`suite`] has the subjects that need nothing but the system; programs that compare others add theirs to it.
//!
//! A program that runs benchmarks starts itself again, so its `main` begins with [`role`], and has [`Counting`] as its
//! allocator.

mod allocations;
mod bare;
mod benches;
mod compare;
mod descriptors;
mod error;
mod fan;
mod figure;
mod link;
mod machine;
mod options;
mod payload;
mod plots;
mod ports;
mod report;
mod rounds;
mod run;
mod session;
mod sockets;
mod suite;
mod trace;

pub use allocations::Counting;
pub use benches::suite;
pub use error::{Error, Result};
pub use figure::Figure;
pub use link::{
    Alone, Gaps, Link, Outcome, PATIENCE, Player, RoundTrips, Side, Stream, Turn, expect, spin_until, streamed, timed,
};
pub use machine::{Machine, available_memory, now, pin, pin_thread};
pub use options::Options;
pub use payload::{MIN_SIZE, Payload};
pub use run::run;
pub use session::Session;
pub use sockets::{Pipe, Socket};
pub use suite::{Bench, Kind, Subject, Wait};

/// Plays the part of a process that the benchmarks have started, if this is one. `suite` must be that of the process
/// that started it.
pub fn role(suite: impl FnOnce() -> Vec<Bench>) -> Option<Result<()>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(session::ROLE) {
        return None;
    }
    let name = arguments.next().unwrap_or_default();
    let numbers: Vec<u64> = arguments.map_while(|argument| argument.parse().ok()).collect();
    let Ok(numbers) = <[u64; 3]>::try_from(numbers) else {
        return Some(Err(Error::failed("this process is of no use to people")));
    };
    Some(match &*name {
        "second" => session::second(&suite(), &numbers),
        "counted" => benches::counted(&numbers),
        "steps" => benches::steps(&numbers),
        "idle" => benches::idle(&numbers),
        _ => Err(Error::failed("this process is of no use to people")),
    })
}
