//! The benchmarks of messageport: two real processes, pinned to two CPUs, and the limits of the machine beside every
//! figure.
//!
//! A [`Bench`] is a list of [`Subject`]s that are measured in turns. A subject is opened on both sides of a
//! [`Session`] and plays what it is told: mostly it is a [`Link`], a way to send messages, that plays round trips or a
//! stream. [`suite`] has the subjects that need nothing but the system; programs that compare others add theirs to it.
//!
//! A program that runs benchmarks starts itself again, so its `main` begins with [`role`], and has [`Counting`] as its
//! allocator.

// From top to bottom: imports point down this list only.
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

pub use bench::{Bench, Kind, Subject};
pub use error::{Error, Result};
pub use figure::Figure;
pub use link::{
    Alone, Gaps, Link, Outcome, PATIENCE, Player, RoundTrips, Side, Stream, Turn, Wait, expect, spin_until, streamed,
    timed,
};
pub use payload::{MIN_SIZE, Payload};
pub use run::{Options, run};
pub use session::Session;
pub use suite::suite;
pub use system::allocations::Counting;
pub use system::machine::{available_memory, pin, pin_thread};
pub use transport::sockets::{Pipe, Socket};

/// Plays the part of a process that the benchmarks have started, if this is one. `benches` must be those of the process
/// that started it.
pub fn role(benches: impl FnOnce() -> Vec<Bench>) -> Option<Result<()>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(system::role::ROLE) {
        return None;
    }
    let name = arguments.next().unwrap_or_default();
    let numbers: Vec<u64> = arguments.map_while(|argument| argument.parse().ok()).collect();
    let Ok(numbers) = <[u64; 3]>::try_from(numbers) else {
        return Some(Err(Error::failed("this process is of no use to people")));
    };
    Some(match &*name {
        "second" => second::second(&benches(), &numbers),
        "counted" => suite::counted(&numbers),
        "steps" => suite::steps(&numbers),
        "idle" => suite::idle(&numbers),
        _ => Err(Error::failed("this process is of no use to people")),
    })
}
