//! `bench rtt`: the two processes, their turns, and the report.
//!
//! Machines move the two processes nearer together or farther apart while it runs, so all contestants take
//! turns in short blocks, and a ratio is the median of the ratios within each round. A block is timed as
//! a whole for the mean; percentiles come from blocks of their own, where every round trip is timed.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use messageport::{
    ChannelOptions, CloseReason, Message, MessageChannel, MessagePort, RecvError, parent_port, spawn_with_port,
};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use crate::bare::{Futex, Line, MAX_SIZE, Shared};
use crate::failure::Failure;
use crate::links::{Contestant, Link, Port, Unix};
use crate::output::Output;

/// Untimed round trips at the start of a block, and the fewest timed ones.
const WARM_UP: u64 = 100;
const MIN_TRIPS: u64 = 1000;

const ROUNDS: usize = 24;
const QUICK_ROUNDS: usize = 3;
const BLOCK: Duration = Duration::from_millis(12);

/// Longer than any wait of a spinning contestant.
const FOREVER: Duration = Duration::from_secs(3600);

/// A round trip of the bare word is below this where both CPUs share a cache, above where they do not.
const NEAR_NS: f64 = 200.0;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Bytes of a message, 8 to 65536; repeat it for several
    #[arg(long = "size", value_name = "N", default_values_t = [8, 64, 1024],
          value_parser = clap::value_parser!(u32).range(8..=MAX_SIZE as i64))]
    sizes: Vec<u32>,
    /// Print one JSON object a line, and nothing else on standard output
    #[arg(long)]
    json: bool,
    /// Few and short blocks: a look whether it works, not a measurement
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let mut sizes: Vec<usize> = options.sizes.iter().map(|size| *size as usize).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let cpus = allowed_cpus()?;
    let shared_cpu = cpus[0] == cpus[1];
    let mut entries: Vec<Entry> = sizes
        .iter()
        .flat_map(|size| Contestant::ALL.map(|contestant| Entry::new(contestant, *size)))
        .filter(|entry| !(shared_cpu && entry.contestant.spins()))
        .collect();

    let (shared, memory) = Shared::create()?;
    let (socket, far_socket) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(Failure::of("cannot make a socket pair"))?;
    let this = std::env::current_exe().map_err(Failure::of("cannot find this executable"))?;
    // The peer finds its socket as standard input and the memory as standard output.
    let mut command = Command::new(this);
    command
        .args(["rtt-peer", "--cpu", &cpus[1].to_string()])
        .stdin(Stdio::from(far_socket))
        .stdout(Stdio::from(memory));
    let window = MessageChannel::new().map_err(Failure::of("cannot make a channel"))?;
    let mut child =
        spawn_with_port(&mut command, window.port2).map_err(Failure::of("cannot start the second process"))?;
    drop(command);
    pin(cpus[0])?;

    let capacity = (4 * MAX_SIZE).next_power_of_two();
    let channel = || {
        MessageChannel::with_options(&ChannelOptions::new().capacity(capacity))
            .map_err(Failure::of("cannot make a channel"))
    };
    let (spin, block) = (channel()?, channel()?);
    let control = window.port1;
    control
        .post_message(b"", [spin.port2.into(), block.port2.into()])
        .map_err(Failure::of("cannot give the ports to the second process"))?;
    let ends = Ends::new(Side::Ping, &shared, socket.as_fd(), spin.port1, block.port1);

    let mut match_ = Match { control, ends, stamp: 1 };
    let measured = match_.measure(&mut entries, shared_cpu, options.quick);
    // Closes the control port: the second process is done.
    drop(match_);
    let near = measured.inspect_err(|_| drop(child.kill()))?;
    let status = child.wait().map_err(Failure::of("cannot wait for the second process"))?;
    if !status.success() {
        return Err(Failure::failed(format_args!("the second process failed: {status}")));
    }
    report(&entries, cpus, near, options.json)
}

/// The second process: plays the other side of each block it is told of, until the control port closes.
pub(crate) fn peer(cpu: usize) -> Result<(), Failure> {
    let control = parent_port().map_err(Failure::of("the second process has no parent"))?;
    pin(cpu)?;
    let shared = Shared::map(&std::io::stdout())?;
    let stdin = std::io::stdin();
    let first = control.recv().map_err(Failure::of("the second process got no ports"))?;
    let [spin, block] = <[MessagePort; 2]>::try_from(first.ports)
        .map_err(|ports| Failure::failed(format_args!("the second process got {} ports, not 2", ports.len())))?;
    let ends = Ends::new(Side::Pong, &shared, stdin.as_fd(), spin, block);
    let mut message = Message::default();
    loop {
        match control.recv_into(&mut message) {
            Ok(()) => ends.play(&Block::decode(&message.data)?, None).map(drop)?,
            Err(RecvError::Ended(CloseReason::Closed)) => return Ok(()),
            Err(error) => {
                return Err(Failure::peer_gone(format_args!("the benchmark's first process is gone: {error}")));
            }
        }
    }
}

/// One contestant with one size, and what was measured of it.
struct Entry {
    contestant: Contestant,
    size: usize,
    trips: u64,
    /// Nanoseconds a round trip, one mean a round.
    means: Vec<f64>,
    single: Histogram<u64>,
    /// How often this side slept in all timed blocks, and their round trips.
    sleeps: u64,
    all_trips: u64,
}

impl Entry {
    fn new(contestant: Contestant, size: usize) -> Self {
        let single = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order");
        Self { contestant, size, trips: MIN_TRIPS, means: Vec::new(), single, sleeps: 0, all_trips: 0 }
    }

    fn mean(&self) -> f64 {
        median(self.means.iter().copied())
    }

    /// The median over the rounds, each with what both had in that round.
    fn ratio(&self, entries: &[Self]) -> Option<(f64, &'static str)> {
        let base = self.contestant.compared_with()?;
        let other = entries.iter().find(|entry| (entry.contestant, entry.size) == (base, self.size))?;
        let ratios = self.means.iter().zip(&other.means).map(|(own, other)| own / other);
        Some((median(ratios), base.what()))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}

/// The first process's view of a run.
struct Match<'a> {
    control: MessagePort,
    ends: Ends<'a>,
    stamp: u64,
}

impl Match<'_> {
    /// Returns in how many of all rounds the two CPUs were near each other.
    fn measure(&mut self, entries: &mut [Entry], shared_cpu: bool, quick: bool) -> Result<(usize, usize), Failure> {
        let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
        for entry in entries.iter_mut() {
            let mean = self.block(entry.contestant, entry.size, MIN_TRIPS, None)?;
            if !quick {
                entry.trips = (BLOCK.as_nanos() as f64 / mean).clamp(MIN_TRIPS as f64, 1e6) as u64;
            }
        }
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(rounds as u64) } else { ProgressBar::hidden() };
        let mut near = 0;
        for round in 0..rounds {
            if !shared_cpu && self.block(Contestant::Limit, 8, 2 * MIN_TRIPS, None)? < NEAR_NS {
                near += 1;
            }
            // Every other round backwards, so that nobody always follows the same neighbour.
            let order: &mut dyn Iterator<Item = &mut Entry> =
                if round % 2 == 0 { &mut entries.iter_mut() } else { &mut entries.iter_mut().rev() };
            for entry in order {
                let slept = sleeps()?;
                let mean = self.block(entry.contestant, entry.size, entry.trips, None)?;
                entry.sleeps += sleeps()? - slept;
                entry.all_trips += entry.trips + WARM_UP;
                entry.means.push(mean);
            }
            for entry in entries.iter_mut() {
                self.block(entry.contestant, entry.size, entry.trips / 2, Some(&mut entry.single))?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok((near, rounds))
    }

    fn block(
        &mut self,
        contestant: Contestant,
        size: usize,
        trips: u64,
        single: Option<&mut Histogram<u64>>,
    ) -> Result<f64, Failure> {
        let block = Block { contestant, size, trips, stamp: self.stamp };
        self.stamp += 2 * (WARM_UP + trips);
        self.control.post_message(&block.encode(), []).map_err(Failure::of("the second process is gone"))?;
        self.ends.play(&block, single)
    }
}

/// Voluntary switches of this process to another.
fn sleeps() -> Result<u64, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(Failure::of("cannot count the sleeps"))?;
    Ok(usage.voluntary_context_switches().unsigned_abs())
}

/// One turn, the same for both sides.
struct Block {
    contestant: Contestant,
    size: usize,
    trips: u64,
    /// Of the first message; each later one has one more.
    stamp: u64,
}

impl Block {
    fn encode(&self) -> Vec<u8> {
        [self.contestant as u64, self.size as u64, self.trips, self.stamp].map(u64::to_ne_bytes).concat()
    }

    fn decode(data: &[u8]) -> Result<Self, Failure> {
        let decoded = (|| {
            let (words, rest) = data.as_chunks::<8>();
            let [contestant, size, trips, stamp] =
                words.iter().map(|word| u64::from_ne_bytes(*word)).collect::<Vec<_>>().try_into().ok()?;
            let contestant = *Contestant::ALL.iter().find(|known| **known as u64 == contestant)?;
            let size = usize::try_from(size).ok().filter(|size| (8..=MAX_SIZE).contains(size) && rest.is_empty())?;
            Some(Self { contestant, size, trips, stamp })
        })();
        decoded.ok_or_else(|| Failure::failed("the first process sent a malformed order"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ping,
    Pong,
}

/// One process's ends of all the links.
struct Ends<'a> {
    side: Side,
    shared: &'a Shared,
    socket: BorrowedFd<'a>,
    spin: MessagePort,
    block: MessagePort,
}

impl<'a> Ends<'a> {
    fn new(side: Side, shared: &'a Shared, socket: BorrowedFd<'a>, spin: MessagePort, block: MessagePort) -> Self {
        spin.set_spin(FOREVER);
        block.set_spin(Duration::ZERO);
        Self { side, shared, socket, spin, block }
    }

    /// Nanoseconds a round trip, the mean of the block.
    fn play(&self, block: &Block, single: Option<&mut Histogram<u64>>) -> Result<f64, Failure> {
        let size = block.size;
        match block.contestant {
            Contestant::Limit => self.run(Line::new(self.shared, size), block, single),
            Contestant::PortSpin => self.run(Port::new(&self.spin, size), block, single),
            Contestant::Futex => self.run(Futex::new(self.shared, size, self.side == Side::Ping), block, single),
            Contestant::PortBlock => self.run(Port::new(&self.block, size), block, single),
            Contestant::Unix => self.run(Unix::new(self.socket, size), block, single),
        }
    }

    fn run<L: Link>(&self, mut link: L, block: &Block, single: Option<&mut Histogram<u64>>) -> Result<f64, Failure> {
        let mut stamp = block.stamp;
        let mut trip = || {
            match self.side {
                Side::Ping => {
                    link.send(stamp)?;
                    link.receive(stamp + 1)?;
                }
                Side::Pong => {
                    link.receive(stamp)?;
                    link.send(stamp + 1)?;
                }
            }
            stamp += 2;
            Ok::<(), Failure>(())
        };
        for _ in 0..WARM_UP {
            trip()?;
        }
        let begin = Instant::now();
        if let Some(single) = single {
            let mut last = begin;
            for _ in 0..block.trips {
                trip()?;
                let now = Instant::now();
                single.saturating_record((now - last).as_nanos() as u64);
                last = now;
            }
        } else {
            for _ in 0..block.trips {
                trip()?;
            }
        }
        Ok(begin.elapsed().as_nanos() as f64 / block.trips as f64)
    }
}

fn allowed_cpus() -> Result<[usize; 2], Failure> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(Failure::of("cannot see the allowed CPUs"))?;
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let first = cpus.next().ok_or_else(|| Failure::failed("no CPU is allowed"))?;
    Ok([first, cpus.next().unwrap_or(first)])
}

fn pin(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(cpu).map_err(Failure::of("no such CPU"))?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(Failure::of("cannot stay on one CPU"))
}

fn report(entries: &[Entry], cpus: [usize; 2], (near, rounds): (usize, usize), json: bool) -> Result<(), Failure> {
    let mut out = Output::default();
    let placement = if cpus[0] == cpus[1] {
        format!("only CPU {} is allowed: both processes share it, and nothing that spins is measured", cpus[0])
    } else {
        format!(
            "CPU {} and {}, near each other in {near} of {rounds} rounds (limit under {NEAR_NS} ns)",
            cpus[0], cpus[1]
        )
    };
    if json {
        let _ = writeln!(std::io::stderr(), "{placement}");
        return entries.iter().try_for_each(|entry| out.line(json_line(entry)));
    }
    out.line(placement)?;
    out.line(" bytes  what         wait    mean ns    p50 ns    p99 ns   p999 ns  sleeps/trip")?;
    entries.iter().try_for_each(|entry| out.line(table_line(entry, entries)))
}

fn json_line(entry: &Entry) -> String {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| entry.single.value_at_quantile(quantile));
    format!(
        r#"{{"bench":"rtt","what":"{}","wait":"{}","size":{},"mean_ns":{:.1},"p50_ns":{p50},"p99_ns":{p99},"p999_ns":{p999},"samples":{}}}"#,
        entry.contestant.what(),
        entry.contestant.wait(),
        entry.size,
        entry.mean(),
        entry.single.len()
    )
}

fn table_line(entry: &Entry, entries: &[Entry]) -> String {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| entry.single.value_at_quantile(quantile));
    let ratio = entry.ratio(entries).map_or(String::new(), |(ratio, base)| format!("  {ratio:.2} x {base}"));
    format!(
        "{:6}  {:<11}  {:<5}  {:9.1} {p50:9} {p99:9} {p999:9}  {:11.2}{ratio}",
        entry.size,
        entry.contestant.what(),
        entry.contestant.wait(),
        entry.mean(),
        entry.sleeps as f64 / entry.all_trips as f64
    )
}
