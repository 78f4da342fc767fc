//! The time per message that the event loop and the port set add to receiving. The contestants take turns; medians are
//! printed.
//!
//! `cargo bench --bench dispatch`

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use messageport::{ChannelOptions, EventLoop, Message, MessageChannel, MessagePort, PortSet, SetEvent};

/// Number of messages per measurement.
const MESSAGES: u32 = 400_000;
/// Number of messages in a filled queue, few enough for a capacity of 1 MiB.
const FILL: u32 = 10_000;
/// Number of measurements of each contestant.
const ROUNDS: usize = 9;
/// Number of idle ports in the larger event loop.
const IDLE: usize = 4000;

/// A name, and a function that measures and returns nanoseconds per message.
type Contestant<'a> = (&'static str, Box<dyn FnMut() -> f64 + 'a>);

fn pair() -> (MessagePort, MessagePort) {
    pair_of(64 << 10)
}

fn pair_of(capacity: usize) -> (MessagePort, MessagePort) {
    let options = ChannelOptions::new().capacity(capacity);
    let MessageChannel { port1, port2 } = options.create().expect("a channel");
    (port1, port2)
}

fn main() {
    // The idle ports need more descriptors than the usual soft limit.
    let (_, limit) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("a limit");
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit, limit).expect("the limit");
    let many = EventLoop::new().expect("a loop");
    let idle: Vec<_> = (0..IDLE)
        .map(|_| {
            let (peer, port) = pair();
            let port = many.add(port).expect("a port more");
            port.set_onmessage(|_, _| unreachable!("it is idle"));
            (peer, port)
        })
        .collect();
    let few = EventLoop::new().expect("a loop");

    report(
        "a queue of 10000 messages of 64 bytes, emptied on one thread",
        &mut [
            ("recv_into", Box::new(|| filled(recv_into))),
            ("event loop", Box::new(|| filled(|port, count| events(&few, port, count)))),
            ("event loop, 4000 idle ports", Box::new(|| filled(|port, count| events(&many, port, count)))),
            ("recv", Box::new(|| filled(recv))),
            ("port set", Box::new(|| filled(set))),
        ],
    );
    report(
        "a stream of 64 bytes from another thread",
        &mut [
            ("recv_into", Box::new(|| stream(recv_into))),
            ("event loop", Box::new(|| stream(|port, count| events(&few, port, count)))),
            ("event loop, 4000 idle ports", Box::new(|| stream(|port, count| events(&many, port, count)))),
            ("recv", Box::new(|| stream(recv))),
            ("port set", Box::new(|| stream(set))),
        ],
    );
    drop(idle);
}

/// Measures the contestants in turns and prints their medians, and the differences to the first one.
fn report(title: &str, contestants: &mut [Contestant<'_>]) {
    let mut times = vec![Vec::new(); contestants.len()];
    for _ in 0..ROUNDS {
        for ((_, measure), times) in contestants.iter_mut().zip(&mut times) {
            times.push(measure());
        }
    }
    println!("{title}, ns per message");
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let base = median(&mut times[0]);
    for ((name, _), times) in contestants.iter().zip(&mut times) {
        let time = median(times);
        println!("  {name:30} {time:7.1}  {:+7.1}", time - base);
    }
}

/// Returns the time per message in nanoseconds of emptying full queues with `empty`.
fn filled(mut empty: impl FnMut(MessagePort, u32)) -> f64 {
    let mut time = Duration::ZERO;
    for _ in 0..MESSAGES / FILL {
        let (sender, receiver) = pair_of(1 << 20);
        for _ in 0..FILL {
            sender.post_message(&[7; 64], []).expect("room");
        }
        let start = Instant::now();
        empty(receiver, FILL);
        time += start.elapsed();
    }
    time.as_nanos() as f64 / f64::from(MESSAGES / FILL * FILL)
}

/// Returns the time per message in nanoseconds of a stream from another thread.
fn stream(receive: impl FnOnce(MessagePort, u32)) -> f64 {
    let (sender, receiver) = pair();
    let thread = std::thread::spawn(move || {
        for _ in 0..MESSAGES {
            sender.post_message_wait(&[7; 64], []).expect("a receiver");
        }
        sender
    });
    let start = Instant::now();
    receive(receiver, MESSAGES);
    let time = start.elapsed();
    thread.join().expect("the sender");
    time.as_nanos() as f64 / f64::from(MESSAGES)
}

fn recv_into(port: MessagePort, count: u32) {
    let mut message = Message::new();
    for _ in 0..count {
        port.recv_into(&mut message).expect("a message");
        assert_eq!(message.data[0], 7);
    }
}

/// Receives each message into new memory, as a port set does.
fn recv(port: MessagePort, count: u32) {
    for _ in 0..count {
        assert_eq!(port.recv().expect("a message").data[0], 7);
    }
}

fn events(events: &EventLoop, port: MessagePort, count: u32) {
    let port = events.add(port).expect("a port more");
    let seen = Rc::new(Cell::new(0));
    port.set_onmessage({
        let seen = Rc::clone(&seen);
        move |port, event| {
            assert_eq!(event.data[0], 7);
            seen.set(seen.get() + 1);
            if seen.get() == count {
                port.event_loop().expect("the loop").stop();
            }
        }
    });
    events.run().expect("it runs");
    assert_eq!(seen.get(), count);
    port.close();
}

fn set(port: MessagePort, count: u32) {
    let mut set = PortSet::new().expect("a set");
    set.add(port).expect("a port more");
    for _ in 0..count {
        let Ok(Some((_, SetEvent::Message(message)))) = set.wait() else { panic!("no message") };
        assert_eq!(message.data[0], 7);
    }
}
