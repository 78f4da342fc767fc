//! Very many ports, and a port that moves very often.
//!
//! `MESSAGEPORT_HOPS` sets the number of moves.

mod tools;

use std::time::{Duration, Instant};

use messageport::{
    ChannelOptions, CloseReason, MessageChannel, MessagePort, PostErrorKind, RecvError, TransferBuffer, TryRecvError,
    parent_port, raise_descriptor_limit,
};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::alarm;

use tools::child::{Process, Role};
use tools::ledger::{Ledger, descriptors};
use tools::{PATIENCE, assert_entangled, end_of, pair};

const ROLES: &[Role] = &[("many pairs", many_pairs), ("limit", limit), ("station", station), ("ring", ring)];

#[test]
fn four_thousand_pairs_live_in_one_process() {
    let (mut process, _port) = Process::start("many pairs");
    process.succeeded();
}

fn many_pairs() {
    const PAIRS: usize = 4000;
    if raise_descriptor_limit(20_000).expect("a limit") < 3 * PAIRS as u64 + 100 {
        return println!("skipped: this user may not have so many descriptors");
    }
    let before = Ledger::now();
    let open = descriptors();
    let pairs: Vec<_> = (0..PAIRS).map(|_| pair()).collect();
    assert_eq!(descriptors() - open, 3 * PAIRS, "descriptors of {PAIRS} pairs");
    for (number, (a, b)) in pairs.iter().enumerate() {
        a.post_message(&number.to_ne_bytes(), []).expect("room");
        b.post_message(&(!number).to_ne_bytes(), []).expect("room");
    }
    for (number, (a, b)) in pairs.iter().enumerate() {
        assert_eq!(b.try_recv().expect("a message").data, number.to_ne_bytes());
        assert_eq!(a.try_recv().expect("a message").data, (!number).to_ne_bytes());
    }
    // Every other port of the first half moves into the queue of its neighbour, and out of it again.
    let (carrier, arrivals) = pair();
    for (_, b) in pairs.into_iter().take(PAIRS / 2) {
        carrier.post_message(b"", [b.into()]).expect("room");
        drop(arrivals.try_recv().expect("a port"));
    }
    drop((carrier, arrivals));
    before.assert_restored("after very many pairs");
}

#[test]
fn the_descriptor_limit_is_raised_as_far_as_it_goes_and_never_lowered() {
    let (mut process, _port) = Process::start("limit");
    process.succeeded();
}

fn limit() {
    let soft = || getrlimit(Resource::RLIMIT_NOFILE).expect("a limit").0;
    let (at_first, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    assert_eq!(raise_descriptor_limit(10).expect("no change"), at_first);
    assert_eq!(soft(), at_first);
    let next = (at_first + 1).min(hard);
    assert_eq!(raise_descriptor_limit(next).expect("below the hard limit"), next);
    assert_eq!(soft(), next);
    assert_eq!(raise_descriptor_limit(u64::MAX).expect("as far as it goes"), hard);
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).expect("a limit"), (hard, hard));
}

// A port moves round a ring of four processes while both ends stream.

/// One message in this many carries a buffer.
const BUFFER_EVERY: u64 = 11;
/// Bytes of each of these buffers.
const BUFFER: usize = 20_000;
/// One message in this many has data too large for the ring.
const LARGE_EVERY: u64 = 61;
/// Messages posted or received in a row. Sometimes a station posts until the queue is full, or receives until it is
/// empty, so that queues grow and are drained.
const STINT: u64 = 30;
const STATIONS: usize = 4;

#[test]
fn a_port_goes_round_a_ring_of_processes_while_both_ends_stream() {
    let (mut process, _port) = Process::start("ring");
    process.succeeded_within(patience());
}

fn hops() -> u64 {
    let given = std::env::var("MESSAGEPORT_HOPS").ok().and_then(|hops| hops.parse().ok());
    given.unwrap_or(3000)
}

/// The patience of a process of the ring.
fn patience() -> Duration {
    2 * PATIENCE + Duration::from_millis(10) * hops() as u32
}

/// The streams of one end: the next numbers, and a buffer that arrived and is sent back.
#[derive(Default)]
struct Streams {
    sent: u64,
    received: u64,
    spare: Option<TransferBuffer>,
}

impl Streams {
    /// Posts at most `most` next numbers, or until the queue is at its limit.
    fn post(&mut self, port: &MessagePort, most: u64) {
        for _ in 0..most {
            let number = self.sent;
            let bytes = number.to_ne_bytes();
            let result = if number.is_multiple_of(BUFFER_EVERY) {
                let buffer = self.spare.take().unwrap_or_else(|| port.buffer(BUFFER).expect("memory"));
                for at in [0, BUFFER / 2, BUFFER - 8] {
                    buffer.write_value(at, &number).expect("inside");
                }
                port.post_message(&bytes, [buffer.into()])
            } else if number.is_multiple_of(LARGE_EVERY) {
                port.post_message(&bytes.repeat(1000), [])
            } else {
                port.post_message(&bytes, [])
            };
            match result {
                Ok(()) => self.sent += 1,
                Err(error) => {
                    assert!(matches!(error.kind, PostErrorKind::Full(_)), "{number}: {error:?}");
                    return;
                }
            }
        }
    }

    /// Receives at most `most` messages, or until the queue is empty. Each must be the next one, and whole.
    fn receive(&mut self, port: &MessagePort, most: u64) {
        for _ in 0..most {
            let mut message = match port.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => return,
                Err(error) => panic!("{}: {error:?}", self.received),
            };
            let number = self.received;
            let buffers = usize::from(number.is_multiple_of(BUFFER_EVERY));
            let times = if buffers == 0 && number.is_multiple_of(LARGE_EVERY) { 1000 } else { 1 };
            assert!(message.data == number.to_ne_bytes().repeat(times), "{number}: not this message");
            assert_eq!(message.buffers.len(), buffers, "buffers of {number}");
            for buffer in &message.buffers {
                assert_eq!(buffer.len(), BUFFER);
                for at in [0, BUFFER / 2, BUFFER - 8] {
                    let found = buffer.read_value::<u64>(at).expect("inside");
                    assert_eq!(found, number, "byte {at} of the buffer of {number}");
                }
            }
            if number.is_multiple_of(2 * BUFFER_EVERY) {
                self.spare = message.buffers.pop();
            }
            self.received += 1;
        }
    }

    fn numbers(&self) -> Vec<u8> {
        bytemuck::cast_slice(&[self.sent, self.received]).to_vec()
    }
}

/// A role: starts the stations, sends the port round, and streams from its peer.
fn ring() {
    let hops = hops();
    alarm::set(patience().as_secs() as u32);
    let before = Ledger::now();
    let start = Instant::now();
    let stations: Vec<_> = (0..STATIONS).map(|_| Process::start("station")).collect();
    let (first, mut previous) = pair();
    for (index, (_, control)) in stations.iter().enumerate() {
        let (to_next, next) = pair();
        let list = [std::mem::replace(&mut previous, next).into(), to_next.into()];
        control.post_message(&[u8::from(index == 0)], list).expect("a station");
    }
    // The last station posts to the first, not through this process: a ring.
    let options = ChannelOptions::new().capacity(4096).max_capacity(64 << 10);
    let MessageChannel { port1: home, port2: traveller } = options.create().expect("a channel");
    stations[0].1.post_message(bytemuck::cast_slice(&[hops]), [previous.into(), traveller.into()]).expect("a station");
    drop(first);

    let mut streams = Streams::default();
    let (traveller, sent_there, received_there) = loop {
        streams.post(&home, STINT);
        streams.receive(&home, u64::MAX);
        let back = stations.iter().find_map(|(_, control)| match control.try_recv() {
            Ok(message) => Some(message),
            Err(TryRecvError::Empty) => None,
            Err(error) => panic!("a station failed: {error:?}"),
        });
        if let Some(mut message) = back {
            let [sent, received]: [u64; 2] = bytemuck::pod_read_unaligned(&message.data);
            break (message.ports.remove(0), sent, received);
        }
    };
    // The messages in transit, in both directions, and no other.
    streams.receive(&home, u64::MAX);
    let mut there = Streams { sent: sent_there, received: received_there, spare: None };
    there.receive(&traveller, u64::MAX);
    assert_eq!((streams.received, there.received), (sent_there, streams.sent), "of both streams");
    assert_entangled(&home, &traveller);
    assert!(home.queued().high_water > 4096, "the queue never grew");
    println!("{hops} hops in {:?}, {} and {} messages", start.elapsed(), streams.sent, sent_there);
    drop((streams, there, traveller));
    assert_eq!(end_of(&home), CloseReason::Closed);
    drop(home);
    for (mut process, control) in stations {
        drop(control);
        process.succeeded();
    }
    before.assert_restored("after the ring");
}

/// A role: takes the port from the station before, receives and posts over it, and sends it on.
fn station() {
    alarm::set(patience().as_secs() as u32);
    let control = parent_port().expect("a port");
    let before = Ledger::now();
    let mut message = control.recv().expect("neighbours");
    let is_first = message.data == [1];
    let [mut from, to]: [MessagePort; 2] = std::mem::take(&mut message.ports).try_into().expect("two ports");
    let mut traveller = None;
    let mut hops = 0;
    if is_first {
        // The other end of the last station's port closes the ring. The port starts its journey here.
        message = control.recv().expect("the port");
        hops = bytemuck::pod_read_unaligned(&message.data);
        traveller = message.ports.pop();
        from = message.ports.pop().expect("the ring");
    }
    let mut sent = 0;
    let mut received = 0;
    loop {
        let port = match traveller.take() {
            Some(port) => port,
            None => match from.recv() {
                Ok(mut message) => {
                    let numbers: [u64; 3] = bytemuck::pod_read_unaligned(&message.data);
                    [sent, received] = [numbers[0], numbers[1]];
                    hops = numbers[2];
                    message.ports.pop().expect("the port")
                }
                Err(error) => break assert!(matches!(error, RecvError::Ended(CloseReason::Closed)), "{error:?}"),
            },
        };
        let mut streams = Streams { sent, received, spare: None };
        streams.receive(&port, if hops % 16 == 0 { u64::MAX } else { STINT });
        streams.post(&port, if hops % 50 == 0 { 10 * STINT } else { STINT });
        if hops == 0 {
            control.post_message(&streams.numbers(), [port.into()]).expect("the first process");
            break;
        }
        let mut numbers = streams.numbers();
        numbers.extend((hops - 1).to_ne_bytes());
        to.post_message(&numbers, [port.into()]).expect("the next station");
    }
    drop((from, to, message));
    let _ = control.recv();
    before.assert_restored("after the ring");
}
