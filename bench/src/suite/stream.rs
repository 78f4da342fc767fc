//! Streams with the defaults of a channel, against a pipe and a Unix stream, in processes that the system may place on
//! either CPU.

use hdrhistogram::Histogram;
use nix::sys::socket::SockType;

use crate::bench::{Bench, Metric, Subject};
use crate::error::Result;
use crate::link::{Outcome, Player, Stream, Turn, Wait};
use crate::payload::MIN_SIZE;
use crate::session::Session;
use crate::system::machine;
use crate::transport::ports::PortLink;
use crate::transport::sockets::{PipeLink, SocketLink};

use super::MAX_SIZE;

/// A block takes 16 times as long as in other benchmarks, many turns of the system's scheduler.
const BLOCK_FACTOR: u32 = 16;

/// Returns the benchmark.
pub(super) fn bench() -> Bench {
    let mut bench = Bench::new(
        "stream",
        "streams with the default options, and no process pinned to a CPU",
        Metric::Rate,
        &[4096, 28_000, 65536],
    );
    bench.allowed = Some(MIN_SIZE..=MAX_SIZE);
    bench.min_operations = 16;
    bench.block_factor = BLOCK_FACTOR;
    bench.subjects = vec![
        Subject::new("pipe", "", Wait::Block, |session, size| free(session, PipeLink::new(session, size)?)),
        Subject::new("messageport", "recv_into", Wait::Default, |session, size| {
            free(session, PortLink::with_defaults(session, size)?)
        })
        .against("pipe block"),
        Subject::new("unix stream", "", Wait::Block, |session, size| {
            free(session, SocketLink::new(session, size, SockType::Stream, Wait::Block)?)
        })
        .against("pipe block"),
    ];
    bench
}

/// A stream whose side may run on both CPUs.
struct Free<L> {
    stream: Stream<L>,
    cpus: [usize; 2],
}

fn free<L>(session: &Session, link: L) -> Result<Free<L>> {
    Ok(Free { stream: Stream(link), cpus: session.cpus() })
}

impl<L> Player for Free<L>
where
    Stream<L>: Player,
{
    fn play(&mut self, turn: &Turn, latencies: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        machine::allow(&self.cpus)?;
        let outcome = self.stream.play(turn, latencies);
        machine::pin(self.cpus[0])?;
        outcome
    }
}
