//! The command line tool `messageport`: the Channel Messaging example between real processes, a pipe
//! between two terminals, and the round trip benchmark. It uses the public interface of the library only.

mod bare;
mod demo;
mod failure;
mod frames;
mod join;
mod links;
mod output;
mod rtt;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

fn main() -> ExitCode {
    let done = match Cli::parse().command.unwrap_or(Command::Demo { file: None }) {
        Command::Demo { file } => demo::run(file),
        Command::Listen { name } => join::listen(&name),
        Command::Connect { name } => join::connect(&name),
        Command::Bench { what: Bench::Rtt(options) } => rtt::run(&options),
        Command::DemoIframe => frames::iframe(),
        Command::DemoWorker => frames::worker(),
        Command::RttPeer { cpu } => rtt::peer(cpu),
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
    Bench {
        #[command(subcommand)]
        what: Bench,
    },

    #[command(hide = true)]
    DemoIframe,
    #[command(hide = true)]
    DemoWorker,
    #[command(hide = true)]
    RttPeer {
        #[arg(long)]
        cpu: usize,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Round trips between two pinned processes
    ///
    /// `limit` is an atomic word on one cache line that both sides spin on, `futex` a futex with nothing
    /// around it, `unix` a SEQPACKET socket pair; `messageport` is measured spinning and sleeping. All take
    /// turns in short blocks, so that the ratios compare what was measured at nearly the same time.
    #[command(after_help = "Example: messageport bench rtt --size 64 --json\n\nWith --json there is one \
        object a line: mean_ns is the median of the means of blocks of round trips; the percentiles are \
        those of `samples` round trips that were timed one by one, in blocks of their own.\n\nExit status: \
        0 measured, 1 failed, 2 bad usage.")]
    Rtt(rtt::Options),
}
