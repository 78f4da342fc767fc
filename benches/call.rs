//! The cost of a call compared with a bare round trip of the same bytes, between two pinned threads. The contestants
//! take turns. Besides medians the first deciles are compared, which other programs on the machine disturb less.
//!
//! `cargo bench --bench call`; `-- --test` only checks that it works.

mod pinned;

use std::hint::black_box;
use std::sync::mpsc;
use std::time::Duration;

use messageport::{Message, MessageChannel, MessagePort, TypedClient, TypedServer};
use serde::{Deserialize, Serialize};

use pinned::{allowed_cpus, pin, quantile, time};

/// Spin time of the ports, long enough for them never to sleep.
const SPIN: Duration = Duration::from_secs(1);
/// Number of untimed round trips before the timed ones.
const WARM_UP: u32 = 200;

/// The type of requests and of answers.
#[derive(Serialize, Deserialize, Clone)]
struct Job {
    number: u64,
    urgent: bool,
    text: String,
}

impl Job {
    fn new(text: usize) -> Self {
        Self { number: 1, urgent: true, text: "x".repeat(text) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contestant {
    /// Messages with the size of a call's messages, without encoding.
    Bare,
    /// Messages with the size of a call's messages, encoded and decoded on both sides.
    Encoded,
    /// Calls.
    Call,
}
use Contestant::{Bare, Call, Encoded};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let (rounds, trips) = if quick { (2, 1000) } else { (400, 2000) };
    let cpus = allowed_cpus();
    let [client_cpu, server_cpu, ..] = cpus[..] else {
        println!("skipped: it needs two CPUs, and only one is allowed");
        return;
    };
    let (work, orders) = mpsc::channel::<(Contestant, MessagePort)>();
    let server = std::thread::spawn(move || {
        pin(server_cpu);
        for (contestant, port) in orders {
            answer(contestant, port);
        }
    });
    pin(client_cpu);
    println!("  bytes   bare ns   + encoding   call ns   call / (bare + encoding)   deciles");
    for text in [0, 50, 1000] {
        let bytes = postcard::to_allocvec(&Job::new(text)).unwrap().len() + 8;
        let mut times: [Vec<f64>; 3] = Default::default();
        for round in 0..rounds {
            let mut order = [Bare, Encoded, Call];
            if round % 2 == 1 {
                order.reverse();
            }
            for contestant in order {
                let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
                work.send((contestant, port2)).unwrap();
                times[contestant as usize].push(ask(contestant, text, bytes, port1, trips));
            }
        }
        let ratio = quantile(0.5, times[2].iter().zip(&times[1]).map(|(call, encoded)| call / encoded));
        let deciles = quantile(0.1, times[2].iter().copied()) / quantile(0.1, times[1].iter().copied());
        let [bare, encoded, call] = times.map(|times| quantile(0.5, times.into_iter()));
        println!("{bytes:7} {bare:9.1} {encoded:12.1} {call:9.1}   {ratio:23.2} {deciles:9.2}");
    }
    drop(work);
    server.join().unwrap();
}

/// Runs the client and returns the mean duration of a round trip in nanoseconds.
fn ask(contestant: Contestant, text: usize, bytes: usize, port: MessagePort, trips: u32) -> f64 {
    let job = Job::new(text);
    match contestant {
        Bare => {
            port.set_spin(SPIN);
            let (data, mut message) = (vec![1; bytes], Message::new());
            time(WARM_UP, trips, || {
                port.post_message(&data, []).unwrap();
                port.recv_into(&mut message).unwrap();
            })
        }
        Encoded => {
            port.set_spin(SPIN);
            let (mut data, mut message) = (Vec::new(), Message::new());
            time(WARM_UP, trips, || {
                encode(&job.clone(), &mut data);
                port.post_message(&data, []).unwrap();
                port.recv_into(&mut message).unwrap();
                black_box(decode(&message.data));
            })
        }
        Call => {
            let client = TypedClient::<Job, Job>::new(port);
            client.set_spin(SPIN);
            time(WARM_UP, trips, || {
                black_box(client.call(job.clone()).unwrap());
            })
        }
    }
}

/// Runs the server until the client closes its port.
fn answer(contestant: Contestant, port: MessagePort) {
    match contestant {
        Bare => {
            port.set_spin(SPIN);
            let mut message = Message::new();
            while port.recv_into(&mut message).is_ok() && port.post_message(&message.data, []).is_ok() {}
        }
        Encoded => {
            port.set_spin(SPIN);
            let (mut data, mut message) = (Vec::new(), Message::new());
            while port.recv_into(&mut message).is_ok() {
                let job = decode(&message.data);
                encode(&job, &mut data);
                port.post_message(&data, []).unwrap();
            }
        }
        Call => {
            let server = TypedServer::<Job, Job>::new(port);
            server.set_spin(SPIN);
            server.serve(|job| job).unwrap();
        }
    }
}

/// Encodes a job, followed by 8 bytes in place of the header of a call.
fn encode(job: &Job, data: &mut Vec<u8>) {
    data.clear();
    *data = postcard::to_extend(job, std::mem::take(data)).unwrap();
    data.extend_from_slice(&[0; 8]);
}

fn decode(data: &[u8]) -> Job {
    postcard::from_bytes(&data[..data.len() - 8]).unwrap()
}
