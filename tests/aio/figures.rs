//! The time of a round trip in a task, and in a thread that blocks:
//! `cargo test --release --test aio -- --ignored --nocapture`.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use messageport::aio::AsyncPort;
use messageport::{Message, MessagePort};

use crate::tools::pair;

const TRIPS: u32 = 5_000;
const ROUNDS: usize = 15;

/// Answers with blocking calls that sleep without spinning.
fn blocking_echo(port: MessagePort) -> JoinHandle<()> {
    port.set_spin(Duration::ZERO);
    thread::spawn(move || {
        let mut message = Message::new();
        while port.recv_into(&mut message).is_ok() {
            let _ = port.post_message(&message.data, []);
        }
    })
}

async fn echo(port: MessagePort) {
    let mut port = AsyncPort::new(port).expect("a registration");
    let mut message = Message::new();
    while port.recv_into(&mut message).await.is_ok() {
        let _ = port.post_message(&message.data, []);
    }
}

async fn trips(port: MessagePort) -> Duration {
    let mut port = AsyncPort::new(port).expect("a registration");
    let mut message = Message::new();
    let start = Instant::now();
    for _ in 0..TRIPS {
        port.post_message(&[1; 64], []).expect("room");
        port.recv_into(&mut message).await.expect("an answer");
    }
    start.elapsed()
}

fn blocking_to_blocking() -> Duration {
    let (a, b) = pair();
    a.set_spin(Duration::ZERO);
    let peer = blocking_echo(b);
    let mut message = Message::new();
    let start = Instant::now();
    for _ in 0..TRIPS {
        a.post_message(&[1; 64], []).expect("room");
        a.recv_into(&mut message).expect("an answer");
    }
    let time = start.elapsed();
    drop(a);
    peer.join().expect("no panic");
    time
}

fn task_to_blocking() -> Duration {
    let (a, b) = pair();
    let peer = blocking_echo(b);
    let time = crate::current_thread().block_on(trips(a));
    peer.join().expect("no panic");
    time
}

fn task_to_task_of_another_runtime() -> Duration {
    let (a, b) = pair();
    let peer = thread::spawn(move || crate::current_thread().block_on(echo(b)));
    let time = crate::current_thread().block_on(trips(a));
    peer.join().expect("no panic");
    time
}

fn task_to_task_of_the_same_thread() -> Duration {
    let (a, b) = pair();
    crate::current_thread().block_on(async {
        let peer = tokio::spawn(echo(b));
        let time = trips(a).await;
        peer.await.expect("no panic");
        time
    })
}

/// A name, and a function that makes the round trips.
type Way = (&'static str, fn() -> Duration);

#[test]
#[ignore = "prints figures"]
fn round_trips() {
    let ways: [Way; 4] = [
        ("blocking <-> blocking, spin budget 0", blocking_to_blocking),
        ("task <-> blocking, spin budget 0", task_to_blocking),
        ("task <-> task of another runtime", task_to_task_of_another_runtime),
        ("task <-> task of the same thread", task_to_task_of_the_same_thread),
    ];
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for ((_, way), times) in ways.iter().zip(&mut times) {
            times.push(way() / TRIPS);
        }
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    });
    for ((name, _), median) in ways.iter().zip(medians) {
        println!("{name}: {median:?}, {:.2} x", median.as_secs_f64() / medians[0].as_secs_f64());
    }
}
