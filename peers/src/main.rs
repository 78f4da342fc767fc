//! The benchmarks of messageport with its peers in the same turns: other mechanisms between processes, and queues
//! between threads. Each is used in the way that its documentation recommends for speed; docs/BENCHMARKS.md describes
//! it.

// Imports point down this list only.

mod system;
mod iceoryx;
mod ipc;
mod threads;
mod foreign;
mod node;

mod compare;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use messageport_bench::{Bench, Counting, Error, Options, suite};

use compare::Skipped;

/// Counts allocations for the benchmarks.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measure messageport beside its peers and the limits of this machine
#[derive(Parser)]
#[command(
    name = "messageport-peers",
    version,
    after_help = "Peers that are not installed are reported as skipped.\n\nExit status:\n  0  success\n  1  failure\n  \
        2  bad usage, or a file that cannot be used"
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Skip subjects whose label contains NAME; may be repeated
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
}

fn main() -> ExitCode {
    // The second process does not need to know which peers are skipped: they keep their indices.
    if let Some(played) = messageport_bench::role(|| with_peers().0) {
        return ended(played);
    }
    let Cli { options, without } = Cli::parse();
    let (mut suite, skipped) = with_peers();
    for (peer, why) in skipped {
        let _ = writeln!(std::io::stderr(), "skipped: {peer}: {why}");
    }
    for subject in suite.iter_mut().flat_map(|bench| &mut bench.subjects) {
        if without.iter().any(|name| subject.label().contains(name)) {
            subject.skip("excluded with --without");
        }
    }
    let ran = messageport_bench::run(&suite, &options, |line| {
        writeln!(std::io::stdout(), "{line}").map_err(Error::of("cannot write to standard output"))
    });
    iceoryx::clean_up();
    ended(ran)
}

/// Prints the error, if any, and returns the exit status.
fn ended(done: messageport_bench::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "messageport-peers: {error}");
            ExitCode::from(if error.is_refused() { 2 } else { 1 })
        }
    }
}

/// Returns the suite with the peers, and the peers that are not installed.
fn with_peers() -> (Vec<Bench>, Vec<Skipped>) {
    let mut suite = suite();
    let mut skipped = Vec::new();
    system::add(&mut suite);
    iceoryx::add(&mut suite);
    ipc::add(&mut suite);
    threads::add(&mut suite);
    foreign::add(&mut suite, &mut skipped);
    node::add(&mut suite, &mut skipped);
    (suite, skipped)
}
