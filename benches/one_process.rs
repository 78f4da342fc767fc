//! The cost of operations within one thread, which holds both ports of a channel, so that nothing waits and no cache
//! line moves between cores. `messageport bench` measures those costs.

#![allow(missing_docs)] // criterion's macros make public items

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use messageport::{Message, MessageChannel, TransferBuffer, TypedPort};
use serde::{Deserialize, Serialize};
use std::hint::black_box;

const SIZES: [usize; 4] = [8, 64, 1024, 16 << 10];

fn channel() -> MessageChannel {
    MessageChannel::new().unwrap()
}

/// A message posted and received with each of the receiving calls.
fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("post");
    for size in SIZES {
        let (MessageChannel { port1, port2 }, data) = (channel(), vec![7; size]);
        let mut message = Message::new();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("recv_into", size), |b| {
            b.iter(|| {
                port1.post_message(black_box(&data), []).unwrap();
                port2.recv_into(&mut message).unwrap();
            });
        });
        group.bench_function(BenchmarkId::new("recv", size), |b| {
            b.iter(|| {
                port1.post_message(black_box(&data), []).unwrap();
                port2.recv().unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("recv_ref", size), |b| {
            b.iter(|| {
                port1.post_message(black_box(&data), []).unwrap();
                port2.recv_ref().unwrap().len()
            });
        });
    }
    group.finish();
}

/// A message written in place and read in place.
fn reservations(c: &mut Criterion) {
    let mut group = c.benchmark_group("reserve");
    for size in SIZES {
        let (MessageChannel { port1, port2 }, data) = (channel(), vec![7; size]);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("recv_ref", size), |b| {
            b.iter(|| {
                let mut reservation = port1.reserve(size).unwrap();
                reservation.write_at(0, black_box(&data)).unwrap();
                reservation.commit().unwrap();
                port2.recv_ref().unwrap().len()
            });
        });
    }
    group.finish();
}

/// Posting and receiving separately: messages that fill a part of the queue, then receiving all of them.
fn halves(c: &mut Criterion) {
    const COUNT: u64 = 100;
    let mut group = c.benchmark_group("hundred");
    let (MessageChannel { port1, port2 }, data) = (channel(), [7; 64]);
    let post_all = || (0..COUNT).for_each(|_| port1.post_message(&data, []).unwrap());
    let receive_all = || {
        let mut message = Message::new();
        (0..COUNT).for_each(|_| port2.recv_into(&mut message).unwrap());
    };
    group.throughput(Throughput::Elements(COUNT));
    group.bench_function("posted", |b| {
        b.iter_custom(|rounds| {
            let round = |_| {
                let begin = std::time::Instant::now();
                post_all();
                let time = begin.elapsed();
                receive_all();
                time
            };
            (0..rounds).map(round).sum()
        });
    });
    group.bench_function("received", |b| b.iter_batched(post_all, |()| receive_all(), BatchSize::PerIteration));
    group.finish();
}

/// Receiving from an empty queue, and posting to a full one.
fn refusals(c: &mut Criterion) {
    let MessageChannel { port1, port2 } = channel();
    let mut message = Message::new();
    c.bench_function("try_recv of an empty queue", |b| b.iter(|| port2.try_recv_into(&mut message).is_err()));
    while port1.post_message(&[7; 1024], []).is_ok() {}
    c.bench_function("post to a full queue", |b| b.iter(|| port1.post_message(black_box(&[7; 1024]), []).is_err()));
}

/// Creating and transferring ports and buffers.
fn transferables(c: &mut Criterion) {
    let mut group = c.benchmark_group("things");
    group.bench_function("channel made and dropped", |b| b.iter(channel));
    group.bench_function("buffer of 64 KiB made and dropped", |b| b.iter(|| TransferBuffer::new(64 << 10).unwrap()));
    let carrier = channel();
    let mut traveller = Some(channel().port1);
    group.bench_function("port transferred", |b| {
        b.iter(|| {
            carrier.port1.post_message(&[], [traveller.take().unwrap().into()]).unwrap();
            traveller = carrier.port2.recv().unwrap().ports.pop();
        });
    });
    let mut buffer = Some(TransferBuffer::new(64 << 10).unwrap());
    group.bench_function("buffer of 64 KiB transferred", |b| {
        b.iter(|| {
            carrier.port1.post_message(&[], [buffer.take().unwrap().into()]).unwrap();
            buffer = carrier.port2.recv().unwrap().buffers.pop();
        });
    });
    group.finish();
}

/// A recycled buffer: taken from the port, posted, received and dropped.
fn recycled(c: &mut Criterion) {
    let MessageChannel { port1, port2 } = channel();
    let mut message = Message::new();
    c.bench_function("buffer of 64 KiB recycled", |b| {
        b.iter(|| {
            let buffer = port1.buffer(64 << 10).unwrap();
            port1.post_message(&[], [buffer.into()]).unwrap();
            port2.recv_into(&mut message).unwrap();
            message.clear();
        });
    });
}

/// A value encoded, posted, received and decoded; and plain data, which needs no encoding.
fn typed(c: &mut Criterion) {
    #[derive(Serialize, Deserialize, Clone)]
    struct Job {
        number: u64,
        urgent: bool,
        text: String,
    }
    let mut group = c.benchmark_group("typed");
    let MessageChannel { port1, port2 } = channel();
    let (port1, port2) = (TypedPort::<Job, ()>::from(port1), TypedPort::<(), Job>::from(port2));
    let job = Job { number: 1, urgent: true, text: "x".repeat(40) };
    group.bench_function("a struct with a text", |b| {
        b.iter_batched(
            || job.clone(),
            |job| {
                port1.post(job).unwrap();
                port2.recv().unwrap().number
            },
            BatchSize::SmallInput,
        );
    });
    let MessageChannel { port1, port2 } = channel();
    let mut message = Message::new();
    group.bench_function("plain data of 64 bytes", |b| {
        b.iter(|| {
            port1.post_plain(black_box(&[7_u64; 8])).unwrap();
            port2.recv_into(&mut message).unwrap();
            message.plain::<[u64; 8]>().unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, messages, reservations, halves, refusals, transferables, recycled, typed);
criterion_main!(benches);
