//! Two processes that talk for a given time: messages of 0 to 64 KiB with number and checksum in both directions,
//! recycled buffers, and ports that move under traffic. Every few seconds the peer is killed and another one is
//! started.
//!
//! Up to the moment of the kill no message is lost, repeated, reordered or altered. Afterwards this process holds the
//! descriptors and the memory that it held before. `MESSAGEPORT_SOAK_SECONDS` sets the time:
//!
//! ```text
//! MESSAGEPORT_SOAK_SECONDS=600 cargo test --release --test soak -- --nocapture
//! ```

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use messageport::{
    ChannelOptions, CloseReason, Message, MessageChannel, MessagePort, PostErrorKind, RecvError, RecvTimeoutError,
    TryRecvError, parent_port, spawn_with_port,
};

/// Twenty seconds: a call that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const STREAMS: usize = 3;
const LONGEST: usize = 64 << 10;
/// Bytes in the queue of a stream from which on its sender pauses.
const ENOUGH: usize = 256 << 10;
/// The environment variable of the process that will be killed.
const PEER: &str = "MESSAGEPORT_SOAK_PEER";

#[test]
fn soak() {
    let given = std::env::var("MESSAGEPORT_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = Duration::from_secs(given.unwrap_or(4));
    let between_kills = (time / 4).min(Duration::from_secs(5));
    let start = Instant::now();
    let (mut counts, mut kills, mut resident) = (Counts::default(), 0_u32, Vec::new());
    let descriptors = descriptors();
    while start.elapsed() < time {
        let (mut here, mut peer) = meet(kills.into());
        let until = Instant::now() + between_kills.mul_f64(0.5 + f64::from(kills % 7) / 7.0);
        while Instant::now() < until {
            here.turn().expect("the peer lives");
            assert!(peer.try_wait().expect("a child").is_none(), "the peer failed");
        }
        peer.kill().expect("a child");
        here.rest();
        peer.wait().expect("a child");
        counts.add(&here.counts);
        drop(here);
        kills += 1;
        // What a killed peer left on its lane is closed on a thread of the library.
        let closing = Instant::now();
        while self::descriptors() != descriptors && closing.elapsed() < Duration::from_secs(2) {
            std::thread::yield_now();
        }
        assert_eq!(self::descriptors(), descriptors, "descriptors after {kills} kills");
        resident.push((start.elapsed().as_secs_f64(), resident_kib()));
    }
    let Counts { sent, received, bytes, buffers, moves } = counts;
    println!("{:.0} s, {kills} kills: {sent} messages sent, {received} received", start.elapsed().as_secs_f64());
    println!("{:.1} GB, {buffers} buffers, {moves} times a port moved", bytes as f64 / 1e9);
    // The first rounds fill caches and pools.
    let settled = &resident[resident.len() / 4..];
    let slope = slope(settled);
    println!(
        "resident: {} KiB at first, {} at the end, {slope:.2} KiB a second",
        settled[0].1,
        settled.last().unwrap().1
    );
    assert!(received > 0 && buffers > 0 && moves > 0, "no messages, buffers or moves");
    let growth = settled.last().unwrap().1 - settled[0].1;
    assert!(growth < 4096.0, "the process grows: {settled:?}");
}

/// The second process.
#[test]
#[ignore = "the second process of the other test"]
fn peer() {
    let Ok(seed) = std::env::var(PEER) else { return };
    let control = parent_port().expect("a port");
    let message = control.recv().expect("the first message");
    let streams = message.ports.into_iter().map(|port| Some(Stream::new(port))).collect();
    let mut here = Talker::new(control, streams, seed.parse().expect("a number"));
    while here.turn().is_ok() {}
}

fn meet(seed: u64) -> (Talker, Child) {
    let MessageChannel { port1: control, port2 } = MessageChannel::new().expect("a channel");
    let options = ChannelOptions::new().cached_buffers(4);
    let pairs: Vec<_> = (0..STREAMS).map(|_| options.create().expect("a channel")).collect();
    let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().map(|pair| (pair.port1, pair.port2)).unzip();
    control.post_message(b"", theirs.into_iter().map(Into::into)).expect("a new queue has room");
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "peer", "--include-ignored", "--nocapture"]).env(PEER, (seed + 1000).to_string());
    let child = spawn_with_port(command.stdout(Stdio::null()), port2).expect("a second process");
    let streams = ours.into_iter().map(|port| Some(Stream::new(port))).collect();
    (Talker::new(control, streams, seed), child)
}

#[derive(Default)]
struct Counts {
    sent: u64,
    received: u64,
    bytes: u64,
    buffers: u64,
    moves: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.bytes += other.bytes;
        self.buffers += other.buffers;
        self.moves += other.moves;
    }
}

/// One end of a stream, and the next numbers in both directions.
struct Stream {
    port: MessagePort,
    sent: u64,
    received: u64,
}

impl Stream {
    fn new(port: MessagePort) -> Self {
        Self { port, sent: 0, received: 0 }
    }
}

/// The traffic of one process. Both processes run it.
struct Talker {
    control: MessagePort,
    /// `None` while the peer has it.
    streams: Vec<Option<Stream>>,
    random: u64,
    counts: Counts,
    message: Message,
    data: Vec<u8>,
}

/// Kinds of control messages with a port: a port of the peer, to be used and returned, and a port that returns.
const GUEST: u64 = 0;
const HOME: u64 = 1;

impl Talker {
    fn new(control: MessagePort, streams: Vec<Option<Stream>>, seed: u64) -> Self {
        let random = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { control, streams, random, counts: Counts::default(), message: Message::new(), data: Vec::new() }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    /// Posts and receives some messages on each stream. The error is the end of the peer.
    fn turn(&mut self) -> Result<(), CloseReason> {
        let mut idle = true;
        for index in 0..self.streams.len() {
            if let Some(mut stream) = self.streams[index].take() {
                idle &= !self.talk(&mut stream);
                if self.below(10) == 0 {
                    self.counts.moves += 1;
                    self.send_port(GUEST, index, stream)?;
                } else {
                    self.streams[index] = Some(stream);
                }
            }
        }
        let wait = if idle { Duration::from_micros(100) } else { Duration::ZERO };
        match self.control.recv_timeout(wait) {
            Ok(message) => self.port_came(message),
            Err(RecvTimeoutError::TimedOut) => Ok(()),
            Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => Err(reason),
            Err(error) => panic!("control: {error:?}"),
        }
    }

    fn port_came(&mut self, mut message: Message) -> Result<(), CloseReason> {
        let words: Vec<u64> = message.data.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let [kind, index, sent, received] = words[..] else { panic!("control: {:?}", message.data) };
        let mut stream = Stream { port: message.ports.remove(0), sent, received };
        if kind == HOME {
            let place = &mut self.streams[index as usize];
            assert!(place.is_none(), "a port came home twice");
            *place = Some(stream);
            return Ok(());
        }
        // The port is used here and then returned.
        self.talk(&mut stream);
        self.counts.moves += 1;
        self.send_port(HOME, index as usize, stream)
    }

    fn send_port(&mut self, kind: u64, index: usize, stream: Stream) -> Result<(), CloseReason> {
        let data = [kind, index as u64, stream.sent, stream.received].map(u64::to_ne_bytes).concat();
        match self.control.post_message(&data, [stream.port.into()]) {
            Ok(()) => Ok(()),
            Err(error) => match error.kind {
                PostErrorKind::PeerGone(reason) => Err(reason),
                kind => panic!("control: {kind:?}"),
            },
        }
    }

    /// Returns true if a message arrived.
    fn talk(&mut self, stream: &mut Stream) -> bool {
        for _ in 0..1 + self.below(30) {
            if stream.port.queued().bytes > ENOUGH || !self.say(stream) {
                break;
            }
        }
        let mut heard = false;
        for _ in 0..40 {
            let mut message = std::mem::take(&mut self.message);
            let result = stream.port.try_recv_into(&mut message);
            if result.is_ok() {
                self.hear(stream, &mut message);
                heard = true;
            }
            self.message = message;
            match result {
                Ok(()) => {}
                // The control port receives the end too, or has received it.
                Err(TryRecvError::Empty | TryRecvError::Failed(RecvError::Ended(_))) => break,
                Err(error) => panic!("a stream: {error:?}"),
            }
        }
        heard
    }

    /// Posts one message. Returns false if there is no room or no peer.
    fn say(&mut self, stream: &mut Stream) -> bool {
        let longest = [16, 64, 64, 256, 256, 2000, 8000, LONGEST as u64][self.below(8) as usize];
        let len = self.below(longest + 1) as usize;
        let seed = self.below(u64::MAX);
        self.data.clear();
        self.data.extend_from_slice(&stream.sent.to_ne_bytes());
        self.data.extend_from_slice(&[0; 8]);
        let words = (0..len.div_ceil(8) as u64).map(|index| seed.wrapping_mul(2 * index + 1));
        self.data.extend(words.flat_map(u64::to_ne_bytes));
        self.data.truncate(16 + len);
        let sum = checksum(&self.data[16..]);
        self.data[8..16].copy_from_slice(&sum.to_ne_bytes());
        let result = match self.below(16) {
            // The bytes in a buffer, with the number in the message.
            0 => stream.port.buffer(self.data.len()).map_or(Err(PostErrorKind::TimedOut), |buffer| {
                buffer.write_at(0, &self.data).expect("inside");
                self.counts.buffers += 1;
                stream.port.post_message(b"buffer", [buffer.into()]).map_err(|error| error.kind)
            }),
            1..4 => stream.port.post_message_timeout(&self.data, [], Duration::ZERO).map_err(|error| error.kind),
            _ => stream.port.post_message(&self.data, []).map_err(|error| error.kind),
        };
        match result {
            Ok(()) => {
                stream.sent += 1;
                self.counts.sent += 1;
                true
            }
            Err(PostErrorKind::TimedOut | PostErrorKind::Full(_) | PostErrorKind::PeerGone(_)) => false,
            Err(error) => panic!("a stream: {error:?}"),
        }
    }

    fn hear(&mut self, stream: &mut Stream, message: &mut Message) {
        if let Some(buffer) = message.buffers.pop() {
            assert_eq!(message.data, b"buffer");
            message.data = buffer.to_vec().expect("all of it");
        }
        let (numbers, payload) = message.data.split_at(16);
        let [number, sum] = [&numbers[..8], &numbers[8..]].map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
        assert_eq!(number, stream.received, "a message is lost, repeated or out of order");
        assert_eq!(sum, checksum(payload), "message {number} of {} bytes is altered", payload.len());
        stream.received += 1;
        self.counts.received += 1;
        self.counts.bytes += message.data.len() as u64;
    }

    /// After the peer was killed: receives its messages, and then its end.
    fn rest(&mut self) {
        loop {
            match self.control.recv_timeout(PATIENCE) {
                Ok(mut message) => {
                    // A guest stays here: its home is gone.
                    if message.data[..8] == HOME.to_ne_bytes() {
                        self.port_came(message).expect("the port stays here");
                    } else {
                        message.clear();
                    }
                }
                Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::PeerDied))) => break,
                Err(error) => panic!("control: {error:?}"),
            }
        }
        for mut stream in std::mem::take(&mut self.streams).into_iter().flatten() {
            loop {
                match stream.port.recv_timeout(PATIENCE) {
                    Ok(mut message) => self.hear(&mut stream, &mut message),
                    Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => {
                        assert!(matches!(reason, CloseReason::PeerDied | CloseReason::Closed), "{reason}");
                        break;
                    }
                    Err(error) => panic!("a stream: {error:?}"),
                }
            }
        }
    }
}

fn checksum(data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks::<8>();
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
    let sum = words.iter().fold(data.len() as u64, |sum, word| step(sum, u64::from_ne_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| step(sum, (*byte).into()))
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count()
}

fn resident_kib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u32>().ok());
    f64::from(pages.expect("a number")) * 4.0
}

/// The slope of the samples by least squares, in KiB a second.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, amount) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let together: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - amount)).sum();
    let alone: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
    if alone > 0.0 { together / alone } else { 0.0 }
}
