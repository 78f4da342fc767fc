//! Round trips of 64 bytes between two pinned processes in Rust, C and C++, which take turns in one run.
//!
//! `cargo bench -p messageport-ffi` prints the median of each language, and its ratio to that of Rust.

#[path = "../tests/native/mod.rs"]
mod native;

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use messageport::{Message, MessageChannel, MessagePort, parent_port, spawn_with_port};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

const SIZE: usize = 64;
const ROUNDS: usize = 200;
const TRIPS: u64 = 10_000;

/// Two processes that post to each other.
struct Pair {
    name: &'static str,
    control: MessagePort,
    _other: MessagePort,
    children: [Child; 2],
    /// Mean nanoseconds of a round trip, one for each round.
    means: Vec<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("ping" | "pong") => return play(&arguments[1], &arguments[2]),
        // `cargo bench` passes --bench; a test run only checks that the program starts.
        Some("--bench") => {}
        _ => return println!("run this by `cargo bench -p messageport-ffi`"),
    }
    let this = std::env::current_exe().expect("this program has a path");
    let c = native::program("pingpong-c", &["benches/pingpong.c"], &["-O2"]);
    let cpp = native::program("pingpong-cpp", &["benches/pingpong.cpp"], &["-O2"]);
    let cpus = cpus();
    println!("64 bytes there and back, CPUs {cpus:?}, medians of {ROUNDS} rounds of {TRIPS} round trips");
    let mut pairs = [("Rust", this), ("C", c), ("C++", cpp)].map(|(name, path)| start(name, &path, cpus));
    for _ in 0..ROUNDS {
        for pair in &mut pairs {
            pair.control.post_message(&1000_u64.to_ne_bytes(), []).expect("the child lives"); // warm up
            number(&pair.control);
            pair.control.post_message(&TRIPS.to_ne_bytes(), []).expect("the child lives");
            let mean = number(&pair.control) as f64 / TRIPS as f64;
            pair.means.push(mean);
        }
    }
    let rust = pairs[0].means.clone();
    for Pair { name, control, _other, mut children, means } in pairs {
        let ratio = median(means.iter().zip(&rust).map(|(own, rust)| own / rust));
        println!("{name:5} {:7.1} ns   {ratio:.3} x Rust", median(means.iter().copied()));
        drop((control, _other));
        for child in &mut children {
            child.wait().expect("the child ends");
        }
    }
}

fn start(name: &'static str, program: &PathBuf, cpus: [usize; 2]) -> Pair {
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    let child = |role: &str, cpu: usize, port: MessagePort| {
        let MessageChannel { port1: control, port2: theirs } = MessageChannel::new().expect("a channel");
        let child = spawn_with_port(Command::new(program).args([role, &cpu.to_string()]), theirs).expect("a child");
        control.post_message(b"", [port.into()]).expect("the child lives");
        (control, child)
    };
    let (control, ping) = child("ping", cpus[0], port1);
    let (other, pong) = child("pong", cpus[1], port2);
    Pair { name, control, _other: other, children: [ping, pong], means: Vec::new() }
}

/// The two sides in Rust.
fn play(role: &str, cpu: &str) {
    let mut set = CpuSet::new();
    set.set(cpu.parse().expect("a number")).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a CPU of ours");
    let control = parent_port().expect("a parent");
    let port = control.recv().expect("a port").ports.remove(0);
    port.set_spin(Duration::from_micros(200));
    let mut message = Message::new();
    if role == "pong" {
        while port.recv_into(&mut message).is_ok() {
            port.post_message(&message.data, []).expect("a peer");
        }
        return;
    }
    let mut data = [0; SIZE];
    while let Ok(order) = control.recv() {
        let trips = u64::from_ne_bytes(order.data.try_into().expect("a number"));
        let start = Instant::now();
        for trip in 0..trips {
            data[0] = trip as u8;
            port.post_message(&data, []).expect("a peer");
            port.recv_into(&mut message).expect("an echo");
            assert!(message.data.len() == SIZE && message.data[0] == data[0]);
        }
        let took = start.elapsed().as_nanos() as u64;
        control.post_message(&took.to_ne_bytes(), []).expect("a parent");
    }
}

fn number(port: &MessagePort) -> u64 {
    u64::from_ne_bytes(port.recv().expect("the child lives").data.try_into().expect("a number"))
}

/// Two CPUs that this process may use; twice the same if there is only one.
fn cpus() -> [usize; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the CPUs of this process");
    let mut numbers = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let first = numbers.next().expect("a CPU");
    [first, numbers.next().unwrap_or(first)]
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
