//! The benchmarks of messageport with its peers in the same turns: other ways between processes, and two between
//! threads. Each is used in the way that its documentation recommends for speed; docs/BENCHMARKS.md says how.

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

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measures messageport beside its peers and the limits of this machine.
#[derive(Parser)]
#[command(
    name = "messageport-peers",
    version,
    after_help = "A peer that is not installed is named as skipped.\n\nExit status: 0 measured, 1 failed, 2 bad \
    usage, or a file that cannot be used."
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Leave out peers whose name contains this; repeat it for several
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
}

fn main() -> ExitCode {
    // The second process cannot know which peers were left out, and needs not to.
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
            subject.skip("as asked");
        }
    }
    let ran = messageport_bench::run(&suite, &options, |line| {
        writeln!(std::io::stdout(), "{line}").map_err(Error::of("cannot write to standard output"))
    });
    iceoryx::clean_up();
    ended(ran)
}

fn ended(done: messageport_bench::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "messageport-peers: {error}");
            ExitCode::from(if error.is_refused() { 2 } else { 1 })
        }
    }
}

/// The suite with the peers in it, and those peers that are not here.
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
