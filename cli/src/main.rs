//! The command line tool `messageport`: the Channel Messaging example between real processes, a pipe
//! between two terminals, and the benchmarks. It uses the public interface of the library only.

mod bench;

mod demo;

mod join;

mod output;

mod failure;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// For the benchmarks, which count allocations.
#[global_allocator]
static ALLOCATOR: messageport_bench::Counting = messageport_bench::Counting;

fn main() -> ExitCode {
    if let Some(played) = bench::role() {
        return played.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS);
    }
    let done = match Cli::parse().command.unwrap_or(Command::Demo { file: None }) {
        Command::Demo { file } => demo::run(file),
        Command::Listen { name } => join::listen(&name),
        Command::Connect { name } => join::connect(&name),
        Command::Bench(options) => bench::run(&options),
        Command::DemoIframe => demo::iframe(),
        Command::DemoWorker => demo::worker(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The Web's MessagePort for native processes.
///
/// Without a command it plays `demo` on its own executable.
#[derive(Parser)]
#[command(
    name = "messageport",
    version,
    after_help = "Exit status: 0 done, 1 failed, 2 refused (bad \
    usage, a file or a name that cannot be used), 3 the peer was gone too early."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Play the Channel Messaging example between three processes, and move a file through it
    ///
    /// The page starts a second process, the iframe, greets it and gives it a port. Then FILE is moved to
    /// the iframe twice: as a stream of messages, and as one transferred buffer. The iframe computes the
    /// SHA-256 of what it received each time. At last it hands its port on to a third process. The last
    /// line is `sha256 HEX FILE`, with the iframe's sum.
    #[command(after_help = "Example: messageport demo /usr/bin/env\n\nExit status: 0 the sums agree, 1 \
        they do not or something failed, 2 FILE is missing or cannot be read.")]
    Demo {
        /// The file to move; this executable if it is left out
        file: Option<PathBuf>,
    },

    /// Wait for one `connect NAME`, then join the standard input and output of both
    ///
    /// Bytes pass in both directions at once, as they are. The end of the input is passed on; it is over
    /// when both inputs have ended.
    #[command(after_help = "Example: messageport listen talk > received\n\nExit status: 0 both inputs \
        ended, 2 the name is in use or cannot be used, 3 the peer was gone before the end of both inputs.")]
    Listen {
        /// A plain name, the same for both sides, or the path of a socket
        name: String,
    },

    /// Join standard input and output with those of a waiting `listen NAME`
    #[command(after_help = "Example: messageport connect talk < file\n\nExit status: 0 both inputs ended, \
        2 nobody listens at this name, 3 the peer was gone before the end of both inputs.")]
    Connect {
        /// The name that the other side listens at, or the path of a socket
        name: String,
    },

    /// Measure, beside the limits of this machine
    ///
    /// Two processes on two CPUs: `rtt` round trips, `throughput` streams, `buffers` hand-over of buffers, `wake`
    /// messages to a receiver that waits, `create` pairs made and dropped, `transfer` ports that travel, `fanin` many
    /// ports into one receiver, `memory` what idle pairs cost, `calls` system calls and allocations of a message. What
    /// the machine itself takes for the same is measured beside it, all in turns in short blocks, so that a ratio
    /// compares what was measured at nearly the same time.
    #[command(after_help = "Example: messageport bench rtt throughput --size 64 --json > base.json\n         \
        messageport bench --quick --compare base.json\n\nWith --json there is one object a line: mean_ns is the \
        median of the means of blocks, the percentiles are those of single operations in blocks of their own. \
        docs/BENCHMARKS.md says more.\n\nExit status: 0 measured, 1 failed, 2 bad usage, or a file that cannot \
        be used.")]
    Bench(messageport_bench::Options),

    #[command(hide = true)]
    DemoIframe,
    #[command(hide = true)]
    DemoWorker,
}
