//! `calls`: the number of system calls and allocations per message.
//!
//! A process is counted while it exchanges messages with a partner process. Both are pinned and spin, except in the
//! phases in which the partner must sleep.

use std::fs::read_to_string;
use std::time::{Duration, Instant};

use messageport::{ChannelOptions, Message, MessagePort, parent_port, spawn_with_port};

use crate::bench::{Bench, Metric, Setting};
use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::system::{allocations, machine, role, trace};
use crate::transport::ports::{DEFAULT_SPIN, FOREVER};

/// Message size in bytes.
const SIZE: usize = 64;
/// Bytes of each queue, 64 KiB. The queues do not grow, which would be counted with the messages.
const CAPACITY: usize = 64 << 10;
/// Number of messages posted to a sleeping partner.
const BURST: u64 = 1000;

/// What the counted process does between two marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Ping,
    PingInPlace,
    Post,
    Receive,
    ReceiveInPlace,
    /// Posts to a partner that has just fallen asleep and therefore sleeps on a futex.
    Burst,
    /// Posts to a partner that has slept for some time and therefore sleeps in poll(2).
    LateBurst,
}

impl Phase {
    const ALL: [Self; 7] =
        [Self::Ping, Self::PingInPlace, Self::Post, Self::Receive, Self::ReceiveInPlace, Self::Burst, Self::LateBurst];

    fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping recv_into",
            Self::PingInPlace => "ping recv_ref",
            Self::Post => "post",
            Self::Receive => "recv_into",
            Self::ReceiveInPlace => "recv_ref",
            Self::Burst => "1000 posts to a sleeper",
            Self::LateBurst => "1000 posts to a late sleeper",
        }
    }

    fn is_burst(self) -> bool {
        matches!(self, Self::Burst | Self::LateBurst)
    }
}

pub(super) fn bench() -> Bench {
    let mut bench = Bench::new("calls", "system calls and allocations of a message", Metric::Rate, &[]);
    bench.measure = Some(measure);
    bench
}

fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    if setting.cpus[0] == setting.cpus[1] {
        return Err(Error::failed("it needs two CPUs, and only one is allowed"));
    }
    let count: u64 = if setting.quick { 10_000 } else { 200_000 };
    let mut command = role::command("counted")?;
    command.args([count, setting.cpus[0] as u64, setting.cpus[1] as u64].map(|number| number.to_string()));
    let (sections, text) = trace::count(&mut command)?;
    // Every second section is the preparation of a phase.
    let calls = sections.iter().skip(1).step_by(2);
    let mut allocations = text.split_whitespace().map(|word| word.parse::<u64>());
    let mut figures = Vec::new();
    for (phase, calls) in Phase::ALL.into_iter().zip(calls) {
        let allocations = allocations.next().and_then(std::result::Result::ok);
        let allocations =
            allocations.ok_or_else(|| Error::failed("the counted process did not print its allocations"))?;
        let operations = if phase.is_burst() { 1 } else { count } as f64;
        figures.push(Figure {
            bench: "calls".to_owned(),
            what: "messageport".to_owned(),
            call: phase.name().to_owned(),
            wait: if phase.is_burst() { "default" } else { "spin" }.to_owned(),
            size: SIZE,
            syscalls: Some(*calls as f64 / operations),
            allocations: Some(allocations as f64 / operations),
            samples: Some(operations as u64),
            ..Figure::default()
        });
    }
    Ok(figures)
}

/// Runs the counted process, or its partner if the process has a parent port.
pub(crate) fn counted(arguments: &[u64; 3]) -> Result<()> {
    let [count, cpu, partner_cpu] = *arguments;
    if let Ok(port) = parent_port() {
        machine::pin(partner_cpu as usize)?;
        return partner(&port, count);
    }
    trace::await_tracer()?;
    let options = ChannelOptions::new().capacity(CAPACITY).max_capacity(CAPACITY);
    let channel = options.create().map_err(Error::of("cannot create a channel"))?;
    let mut command = role::command("counted")?;
    command.args(arguments.map(|argument| argument.to_string()));
    // Only the counted process may write to standard output.
    command.stdout(std::process::Stdio::null()).stdin(std::process::Stdio::null());
    let mut child = spawn_with_port(&mut command, channel.port2).map_err(Error::of("cannot start the partner"))?;
    machine::pin(cpu as usize)?;
    let port = channel.port1;
    port.set_spin(FOREVER);
    let (data, mut message) = ([7; SIZE], Message::new());
    message.data.reserve(SIZE);
    let mut counts = String::new();
    for phase in Phase::ALL {
        wait_for(&port, &mut message)?;
        if phase.is_burst() {
            until_asleep(child.id(), if phase == Phase::LateBurst { "poll" } else { "futex" })?;
        }
        let before = allocations::count();
        trace::mark();
        play(phase, &port, &data, &mut message, count)?;
        trace::mark();
        counts += &format!("{} ", allocations::count() - before);
    }
    port.close();
    child.wait().map_err(Error::of("cannot wait for the partner"))?;
    println!("{counts}");
    Ok(())
}

fn play(phase: Phase, port: &MessagePort, data: &[u8], message: &mut Message, count: u64) -> Result<()> {
    match phase {
        Phase::Ping => (0..count).try_for_each(|_| {
            post(port, data)?;
            wait_for(port, message)
        }),
        Phase::PingInPlace => (0..count).try_for_each(|_| {
            post(port, data)?;
            in_place(port)
        }),
        Phase::Post => (0..count).try_for_each(|_| post(port, data)),
        Phase::Receive => (0..count).try_for_each(|_| wait_for(port, message)),
        Phase::ReceiveInPlace => (0..count).try_for_each(|_| in_place(port)),
        // The queue has space for all of them, so no post waits.
        Phase::Burst | Phase::LateBurst => (0..BURST).try_for_each(|_| post(port, &data[..8])),
    }
}

/// Runs the partner: the other side of every phase, in the same order, after a message that it is ready.
fn partner(port: &MessagePort, count: u64) -> Result<()> {
    let (data, mut message) = ([7; SIZE], Message::new());
    for phase in Phase::ALL {
        port.set_spin(if phase.is_burst() { DEFAULT_SPIN } else { FOREVER });
        post(port, &data)?;
        match phase {
            Phase::Ping | Phase::PingInPlace => (0..count).try_for_each(|_| {
                wait_for(port, &mut message)?;
                post(port, &data)
            }),
            Phase::Post => (0..count).try_for_each(|_| wait_for(port, &mut message)),
            Phase::Receive | Phase::ReceiveInPlace => (0..count).try_for_each(|_| post(port, &data)),
            Phase::Burst | Phase::LateBurst => (0..BURST).try_for_each(|_| wait_for(port, &mut message)),
        }?;
    }
    Ok(())
}

fn post(port: &MessagePort, data: &[u8]) -> Result<()> {
    port.post_message_wait(data, []).map_err(Error::of("cannot post"))
}

fn wait_for(port: &MessagePort, message: &mut Message) -> Result<()> {
    port.recv_into(message).map_err(Error::of("cannot receive"))
}

fn in_place(port: &MessagePort) -> Result<()> {
    port.recv_ref().map(drop).map_err(Error::of("cannot receive"))
}

/// The system call of poll(2): where a processor has none, the C library makes `ppoll`.
#[cfg(target_arch = "x86_64")]
const SYS_POLL: nix::libc::c_long = nix::libc::SYS_poll;
#[cfg(not(target_arch = "x86_64"))]
const SYS_POLL: nix::libc::c_long = nix::libc::SYS_ppoll;

/// Waits until a process sleeps in the system call `futex` or `poll`.
fn until_asleep(process: u32, call: &str) -> Result<()> {
    let begin = Instant::now();
    let number = match call {
        "futex" => nix::libc::SYS_futex,
        _ => SYS_POLL,
    };
    while begin.elapsed() < Duration::from_secs(10) {
        let now = read_to_string(format!("/proc/{process}/syscall")).unwrap_or_default();
        if now.split_whitespace().next() == Some(&number.to_string()) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Err(Error::failed(format_args!("the partner did not go to sleep in {call}")))
}
