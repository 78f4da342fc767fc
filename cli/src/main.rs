//! The command line tool `messageport`: a demo of Channel Messaging between processes, a pipe between two terminals,
//! and the benchmarks. It uses only the public interface of the library.

// Imports point down this list only.

mod bench;
mod demo;
mod join;
mod manual;

mod output;
mod streams;
mod failure;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Counts allocations for the benchmarks.
#[global_allocator]
static ALLOCATOR: messageport_bench::Counting = messageport_bench::Counting;

fn main() -> ExitCode {
    if let Some(played) = bench::role() {
        return played.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS);
    }
    let done = match Cli::parse().command.unwrap_or(Command::Demo { file: None }) {
        Command::Demo { file } => streams::check_output().and_then(|()| demo::run(file)),
        Command::Listen { name, access } => join::listen(&name, &access),
        Command::Connect { name, search } => join::connect(&name, &search),
        Command::Bench(options) => streams::check_output().and_then(|()| bench::run(&options)),
        Command::Man => manual::print(Cli::command()),
        Command::DemoIframe => demo::iframe(),
        Command::DemoWorker => demo::worker(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The Web's MessagePort for native processes
///
/// Without a command, runs `demo` with this executable as the file.
#[derive(Parser)]
#[command(
    name = "messageport",
    version,
    after_help = "Exit status:\n  0  success\n  1  failure\n  2  bad usage, or a file or name that cannot be used\n  \
        3  the peer closed too early"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What follows the options in `bench --help`.
const BENCH_HELP: &str = "\
Benchmarks:
  rtt         round trips of messages
  throughput  streams of messages
  stream      streams with the default options, against a pipe and a Unix stream
  buffers     round trips of transferred buffers
  wake        delay of messages after a gap
  create      creating and dropping a pair
  transfer    round trips of a port that is transferred over another
  fanin       streams over many ports to one receiver
  memory      memory and CPU time of idle pairs
  calls       system calls and allocations of a message

Examples:
  messageport bench rtt throughput --size 64 --json > base.json
  messageport bench --quick --compare base.json
  messageport bench stream --loaded

In JSON, mean_ns is the median of the means of the blocks; percentiles are those of
individually timed operations in separate blocks. docs/BENCHMARKS.md describes all fields.

Exit status:
  0  success
  1  failure
  2  bad usage, or a file that cannot be used";

#[derive(Subcommand)]
enum Command {
    /// Run the Channel Messaging example between three processes and send a file through it
    ///
    /// The page starts a second process, the iframe, sends it a greeting with a port, and times echoes. It then sends
    /// FILE to the iframe twice: as a stream of messages, and as one transferred buffer. Each time the iframe returns
    /// the SHA-256 of what it received. Finally the iframe transfers its port to a third process, which answers in its
    /// place. Each step prints what happened, how long it took and what it shows. The last line of the output is
    /// `sha256 HEX FILE` with the iframe's hash.
    #[command(after_help = "Example:\n  messageport demo /usr/bin/env\n\nExit status:\n  0  the hashes agree\n  \
        1  the hashes differ, or another failure\n  2  FILE is missing or cannot be read")]
    Demo {
        /// File to send [default: this executable]
        file: Option<PathBuf>,
    },

    /// Wait for one `connect NAME` and exchange standard input and output with it
    ///
    /// The input of each side becomes the output of the other, in both directions at the same time. When the input of
    /// one side ends, so does the output of the other. The command exits when both inputs have ended and both sides
    /// have written everything.
    #[command(after_help = "Example:\n  messageport listen talk > received\n\nExit status:\n  0  both inputs ended, \
        and both sides have written everything\n  1  failure\n  2  NAME is in use or cannot be used, or standard \
        input or output failed\n  3  the peer closed before both inputs had been written")]
    Listen {
        /// Name that both sides use, or path of a Unix socket
        name: String,
        #[command(flatten)]
        access: join::Access,
    },

    /// Connect to a waiting `listen NAME` and exchange standard input and output with it
    #[command(after_help = "Example:\n  messageport connect talk < file\n\nExit status:\n  0  both inputs ended, and \
        both sides have written everything\n  1  failure\n  2  there is no listener at NAME, or standard input or \
        output failed\n  3  the peer closed before both inputs had been written")]
    Connect {
        /// Name that the listener uses, or path of its Unix socket
        name: String,
        #[command(flatten)]
        search: join::Search,
    },

    /// Measure messageport beside the limits of this machine
    ///
    /// The benchmarks run between two processes on two CPUs. For each of them the least that the machine needs for the
    /// same work is measured too. All subjects take turns in short blocks, so that a ratio compares measurements made
    /// at nearly the same time.
    #[command(after_long_help = BENCH_HELP)]
    Bench(messageport_bench::Options),

    /// Print the manual page
    ///
    /// The page is in the format of man(7).
    #[command(after_help = "Example:\n  messageport man > ~/.local/share/man/man1/messageport.1")]
    Man,

    #[command(hide = true)]
    DemoIframe,
    #[command(hide = true)]
    DemoWorker,
}
