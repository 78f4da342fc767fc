//! A hostile peer: random writes over the shared memory under traffic, nonsense on the lane, descriptors that are not
//! what they should be. It may spoil what it sends and end its own channel, and nothing else.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use messageport::{
    BadSegment, BadTransfer, CloseReason, Message, MessageChannel, MessagePort, RecvError, RecvTimeoutError,
    TransferBuffer, TryRecvError,
};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::time::TimeValLike;

/// One test at a time: descriptors are counted. And the process is ended by the kernel if a call hangs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    nix::unistd::alarm::set(120 + seconds() as u32);
    guard
}

/// How long the scribbler writes.
fn seconds() -> u64 {
    std::env::var("MESSAGEPORT_HOSTILE_SECONDS").ok().and_then(|value| value.parse().ok()).unwrap_or(4)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn open_descriptors() -> BTreeSet<RawFd> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Not the descriptor that lists the directory.
    numbers.filter(|fd| !link(*fd).starts_with("/proc/")).collect()
}

/// What a descriptor stands for.
fn link(fd: RawFd) -> String {
    fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().display().to_string()
}

/// A pair whose second end is in the hands of an attacker, who has its descriptors too.
struct Attack {
    victim: MessagePort,
    /// Alive, so that the victim's peer is.
    _peer: MessagePort,
    memory: Memory,
    lane: OwnedFd,
}

impl Attack {
    fn new() -> Self {
        let before = open_descriptors();
        let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
        let new: Vec<RawFd> = open_descriptors().difference(&before).copied().collect();
        let memory = new.iter().find(|fd| link(**fd).contains("memfd:messageport")).unwrap();
        let memory = File::options().read(true).write(true).open(format!("/proc/self/fd/{memory}")).unwrap();
        // The lane's two sockets are made in the order of the ports.
        let lane = *new.iter().rfind(|fd| link(**fd).starts_with("socket:")).unwrap();
        // SAFETY: the number is open as long as `port2` lives, and it is duplicated at once.
        let lane = unsafe { BorrowedFd::borrow_raw(lane) }.try_clone_to_owned().unwrap();
        Self { victim: port1, _peer: port2, memory: Memory::map(&memory), lane }
    }

    /// Sends a raw packet on the lane. A full lane swallows it.
    fn send(&self, packet: &[u8], descriptors: &[RawFd]) {
        let control = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() { &control[..0] } else { &control[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = sendmsg::<()>(self.lane.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None);
    }

    /// Commits the first record of the direction to the victim, with descriptors sent before it.
    fn post_first(&self, payload: &[u8], descriptors: &[RawFd]) {
        if !descriptors.is_empty() {
            self.send(&packet(HANDLES, descriptors.len() as u32, 0), descriptors);
        }
        let ring = HEADER + CAPACITY; // the second direction
        for (index, word) in payload.chunks(8).enumerate() {
            self.memory
                .word(ring + 8 + index * 8)
                .store(u64::from_le_bytes(word.try_into().unwrap()), Ordering::Relaxed);
        }
        let header = payload.len() as u64 | CARRIER << 32 | (descriptors.len() as u64) << 40;
        self.memory.word(ring).store(header, Ordering::SeqCst);
    }
}

/// The formats, as bytes: an attacker does not use the library.
const HEADER: usize = 4096;
const CAPACITY: usize = 64 << 10;
const CARRIER: u64 = 3;
const WAKE: u32 = 1;
const HANDLES: u32 = 2;

fn packet(kind: u32, count: u32, sequence: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), &sequence.to_le_bytes()].concat()
}

/// The payload of a carrier record: data "evil", then a table of one port or one buffer.
fn carrier(capsule: &[u8], ports: u16, buffers: u16) -> Vec<u8> {
    let end = [&4_u32.to_le_bytes()[..], &ports.to_le_bytes(), &buffers.to_le_bytes()].concat();
    [b"evil\0\0\0\0", capsule, &end].concat()
}

fn port_capsule(side: u64, producer: [u64; 3], consumer: [u64; 3]) -> Vec<u8> {
    let words = [&[side][..], &producer, &consumer, &[0; 3]].concat();
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn buffer_capsule(len: u64) -> Vec<u8> {
    [len.to_le_bytes(), [0; 8]].concat()
}

struct Memory(MmapRaw);

impl Memory {
    fn map(file: &File) -> Self {
        let len = file.metadata().unwrap().len() as usize;
        Self(MmapOptions::new().len(len).map_raw(file).unwrap())
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < self.0.len());
        // SAFETY: aligned and inside the mapping, checked above; everybody accesses these words atomically or by copies.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().wrapping_add(offset).cast()) }
    }

    /// One write that a hostile peer might try.
    fn scribble(&self, random: &mut Random) {
        let lines = 128 + random.below(128) as usize * 8;
        let offset = match random.below(4) {
            0 => lines, // cursors, doorbells and states
            1 => HEADER + random.below(64) as usize * 8,
            2 => HEADER + CAPACITY + random.below(64) as usize * 8,
            _ => random.below((HEADER + 2 * CAPACITY) as u64 / 8) as usize * 8,
        };
        let word = self.word(offset);
        match random.below(5) {
            0 => word.store(random.next(), Ordering::Relaxed),
            1 => drop(word.fetch_xor(1 << random.below(64), Ordering::Relaxed)),
            2 => word.store(random.below(4), Ordering::Relaxed),
            3 => word.store(0, Ordering::Relaxed),
            _ => {
                // Almost a header.
                let header = random.below(70_000) | random.below(5) << 32 | random.below(3) << 40;
                word.store(header | random.below(100) << 48, Ordering::Relaxed);
            }
        }
    }
}

/// Uses every call of a port until it ends, or for a while.
fn traffic(port: &MessagePort, seed: u64) {
    let mut random = Random(seed);
    let patience = Some(Duration::from_millis(5));
    let mut message = Message::new();
    for _ in 0..600 {
        let start = Instant::now();
        let data = vec![7; random.below(3000) as usize];
        let over = match random.below(8) {
            0 => {
                let things = [MessageChannel::new().unwrap().port1.into(), TransferBuffer::new(100).unwrap().into()];
                port.post_message(&data, things).is_err_and(|error| error.to_string().contains("violation"))
            }
            1 => {
                port.post_message_wait(&data, [], patience).is_err_and(|error| error.to_string().contains("violation"))
            }
            2 => port.reserve(data.len()).is_ok_and(|reserved| reserved.commit().is_err()),
            3 => matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::Ended(_)))),
            4 => match port.try_recv_ref() {
                Ok(message) => message.to_vec().unwrap().len() > CAPACITY,
                Err(error) => matches!(error, TryRecvError::Failed(RecvError::Ended(_))),
            },
            5 => {
                let result = port.recv_into_timeout(&mut message, Duration::from_millis(2));
                matches!(result, Err(RecvTimeoutError::Failed(RecvError::Ended(_))))
            }
            _ => port.post_message(&data, []).is_err_and(|error| error.to_string().contains("peer")),
        };
        assert!(start.elapsed() < Duration::from_secs(5), "a call took {:?}", start.elapsed());
        if over {
            return;
        }
    }
}

#[test]
fn random_writes_over_the_memory_spoil_one_channel_only() {
    let _guard = alone();
    let control = MessageChannel::new().unwrap();
    let before = open_descriptors();
    let end = Instant::now() + Duration::from_secs(seconds());
    let mut rounds = 0_u64;
    while Instant::now() < end {
        let Attack { victim, _peer: peer, memory, lane } = Attack::new();
        drop(lane);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let seed = rounds * 3 + 1;
        let scribbler = std::thread::spawn(move || {
            let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            while !stopped.load(Ordering::Relaxed) {
                memory.scribble(&mut random);
                for _ in 0..random.below(200) {
                    std::hint::spin_loop();
                }
            }
        });
        let there = std::thread::spawn(move || traffic(&peer, seed + 1));
        traffic(&victim, seed + 2);
        drop(victim);
        there.join().expect("a call panicked");
        stop.store(true, Ordering::Relaxed);
        scribbler.join().unwrap();
        // Another channel has seen nothing of it.
        control.port1.post_message(&rounds.to_le_bytes(), []).unwrap();
        assert_eq!(control.port2.recv().unwrap().data, rounds.to_le_bytes());
        rounds += 1;
    }
    assert_eq!(open_descriptors(), before, "descriptors after {rounds} rounds");
    println!("{rounds} channels were spoilt");
}

#[test]
fn nonsense_on_the_lane_costs_no_descriptor() {
    let _guard = alone();
    let file = File::open("/dev/null").unwrap();
    let (pipe, _other_end) = nix::unistd::pipe().unwrap();
    let unsealed = memfd_create(c"evil", MFdFlags::MFD_CLOEXEC).unwrap();
    let kinds = [file.as_raw_fd(), pipe.as_raw_fd(), unsealed.as_raw_fd()];
    let before = open_descriptors();
    let mut random = Random(42);
    for round in 0..3000 {
        let attack = Attack::new();
        for _ in 0..=random.below(4) {
            let mut bytes = packet(random.below(5) as u32, random.pick(&[0, 1, 2, 253, u32::MAX]), random.below(3));
            bytes.resize(random.pick(&[16, 16, 16, 16, 0, 1, 15, 17, 1000]), 0);
            let count = random.pick(&[0, 0, 1, 2, 3, 253]);
            let descriptors: Vec<RawFd> = (0..count).map(|_| random.pick(&kinds)).collect();
            attack.send(&bytes, &descriptors);
        }
        if random.below(2) == 0 {
            // A record that says its descriptors have come.
            let header = 8 | CARRIER << 32 | random.below(4) << 40;
            attack.memory.word(HEADER + CAPACITY + 8).store(random.below(1 << 50), Ordering::Relaxed);
            attack.memory.word(HEADER + CAPACITY).store(header, Ordering::SeqCst);
        }
        let _ = attack.victim.as_fd();
        let _ = attack.victim.try_recv();
        let _ = attack.victim.recv_timeout(Duration::from_micros(10));
        let _ = attack.victim.post_message(b"still here", []);
        drop(attack);
        assert_eq!(open_descriptors(), before, "round {round}");
    }
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}

/// `recv_timeout` on an attacked port: nothing comes, the deadline holds, and the thread sleeps.
fn assert_sleeps(victim: &MessagePort, time: Duration) {
    let (start, cpu) = (Instant::now(), cpu_time());
    let result = victim.recv_timeout(time);
    let (took, cpu) = (start.elapsed(), cpu_time() - cpu);
    assert!(matches!(result, Err(RecvTimeoutError::TimedOut)), "{result:?}");
    assert!(took >= time && took < time + Duration::from_secs(5), "{took:?}");
    assert!(cpu < time / 2, "{cpu:?} of CPU time in {took:?}");
}

#[test]
fn descriptors_without_their_record_do_not_keep_a_waiter_busy() {
    let _guard = alone();
    let attack = Attack::new();
    let file = File::open("/dev/null").unwrap();
    attack.send(&packet(HANDLES, 1, 0), &[file.as_raw_fd()]);
    assert!(matches!(attack.victim.try_recv(), Err(TryRecvError::Empty)));
    assert_sleeps(&attack.victim, Duration::from_secs(1));
    // An honest message still comes through; it is not the one that the descriptors were for.
    assert!(matches!(attack.victim.try_recv(), Err(TryRecvError::Empty)));
}

#[test]
fn a_storm_of_wake_ups_does_not_keep_a_waiter_busy() {
    let _guard = alone();
    let attack = Attack::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let Attack { victim, lane, .. } = &attack;
        let stop = &stop;
        scope.spawn(move || {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            while !stop.load(Ordering::Relaxed) {
                let bytes = packet(WAKE, 0, 0);
                if sendmsg::<()>(lane.as_raw_fd(), &[IoSlice::new(&bytes)], &[], flags, None).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        // `MessagePort` is not `Sync`: the victim's calls stay on this thread.
        assert_sleeps(victim, Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
    });
}

/// A memory file that looks like a segment, except for what `change` does to its constants.
fn segment(len: usize, seals: SealFlag, change: impl FnOnce(&mut [u64])) -> OwnedFd {
    let file = memfd_create(c"evil", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&file, len as i64).unwrap();
    let magic = u64::from_le_bytes(*b"msgport\0");
    let mut words = [magic, 1 | (HEADER as u64) << 32, CAPACITY as u64, CAPACITY as u64, 253];
    change(&mut words);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    nix::unistd::write(&file, &bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

const SEALED: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);
const LEN: usize = HEADER + 2 * CAPACITY;
const START: [u64; 3] = [0; 3];

/// The victim gets a carrier record with these things: the message is refused for `reason`, its data told, every
/// descriptor closed, and the channel goes on.
#[track_caller]
fn assert_refused(payload: &[u8], descriptors: Vec<OwnedFd>, reason: BadTransfer) {
    let before = open_descriptors();
    let attack = Attack::new();
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    attack.post_first(payload, &raw);
    match attack.victim.recv_timeout(Duration::from_secs(20)) {
        Err(RecvTimeoutError::Failed(RecvError::MessageError { reason: seen, data })) => {
            assert_eq!((seen, &*data), (reason, &b"evil"[..]));
        }
        other => panic!("instead of {reason:?}: {other:?}"),
    }
    assert!(matches!(attack.victim.try_recv(), Err(TryRecvError::Empty)));
    attack.victim.post_message(b"still here", []).unwrap();
    drop(attack);
    assert_eq!(open_descriptors(), before);
}

fn socket() -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap().0
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

#[test]
fn bad_segments_are_refused_with_the_reason() {
    let _guard = alone();
    let port = carrier(&port_capsule(0, START, START), 1, 0);
    let refused = |file: OwnedFd, bad: BadSegment| {
        assert_refused(&port, vec![file, socket()], BadTransfer::Segment(bad));
    };
    refused(null(), BadSegment::NotMemory);
    refused(socket(), BadSegment::NotMemory);
    for len in [0, HEADER, LEN - 1, LEN + 4096] {
        refused(segment(len.max(100), SEALED, |_| ()), BadSegment::WrongSize);
    }
    refused(segment(LEN, SEALED, |words| words[0] ^= 1), BadSegment::NotASegment);
    refused(segment(LEN, SEALED, |words| words[1] += 1), BadSegment::Version { found: 2, expected: 1 });
    for (index, value) in [(1, 1), (2, 100), (2, 1 << 40), (2, 0), (3, CAPACITY as u64 * 2), (4, 254), (4, 1 << 32)] {
        refused(segment(LEN, SEALED, |words| words[index] = value), BadSegment::BadConstants);
    }
    refused(segment(LEN, SEALED, |words| (words[2], words[3]) = (1 << 17, 1 << 17)), BadSegment::WrongSize);
}

#[test]
fn every_combination_of_seals_is_judged_right() {
    let _guard = alone();
    let all = [
        SealFlag::F_SEAL_SHRINK,
        SealFlag::F_SEAL_GROW,
        SealFlag::F_SEAL_SEAL,
        SealFlag::F_SEAL_WRITE,
        SealFlag::from_bits_retain(nix::libc::F_SEAL_FUTURE_WRITE),
    ];
    for bits in 0..1 << all.len() {
        let seals =
            (0..all.len()).filter(|bit| bits & 1 << bit != 0).fold(SealFlag::empty(), |sum, bit| sum | all[bit]);
        let file = segment(LEN, seals, |_| ());
        let payload = carrier(&port_capsule(0, START, START), 1, 0);
        if !seals.contains(SEALED) {
            assert_refused(&payload, vec![file, socket()], BadTransfer::Segment(BadSegment::Unsealed));
        } else if seals != SEALED {
            assert_refused(&payload, vec![file, socket()], BadTransfer::Segment(BadSegment::ReadOnly));
        } else {
            let attack = Attack::new();
            let lane = socket();
            attack.post_first(&payload, &[file.as_raw_fd(), lane.as_raw_fd()]);
            assert_eq!(attack.victim.recv_timeout(Duration::from_secs(20)).unwrap().ports.len(), 1);
        }
    }
}

#[test]
fn bad_ports_and_buffers_are_refused_with_the_reason() {
    let _guard = alone();
    let good = || segment(LEN, SEALED, |_| ());
    let port = |side, producer, consumer| carrier(&port_capsule(side, producer, consumer), 1, 0);
    assert_refused(&port(0, START, START), vec![good(), null()], BadTransfer::Lane);
    assert_refused(&port(2, START, START), vec![good(), socket()], BadTransfer::Capsule);
    assert_refused(&port(1 << 32, START, START), vec![good(), socket()], BadTransfer::Capsule);
    for cursors in
        [[8, 16, 0], [7, 0, 0], [8, 4, 0], [1 << 20, 0, 0], [u64::MAX - 7, u64::MAX - 7, 0], [0, 0, u64::MAX]]
    {
        assert_refused(&port(0, cursors, START), vec![good(), socket()], BadTransfer::Capsule);
        assert_refused(&port(0, START, cursors), vec![good(), socket()], BadTransfer::Capsule);
    }
    let buffer = |len| carrier(&buffer_capsule(len), 0, 1);
    assert_refused(&buffer(10), vec![null()], BadTransfer::Segment(BadSegment::NotMemory));
    assert_refused(&buffer(10), vec![good()], BadTransfer::Segment(BadSegment::WrongSize));
    assert_refused(&buffer(u64::MAX), vec![good()], BadTransfer::Segment(BadSegment::WrongSize));
    let exact = (LEN - HEADER) as u64;
    assert_refused(&buffer(exact), vec![good()], BadTransfer::Segment(BadSegment::NotASegment));
}

#[test]
fn a_table_that_contradicts_itself_ends_the_channel() {
    let _guard = alone();
    let before = open_descriptors();
    let tables = [
        carrier(&[], 1, 0),
        carrier(&[], 0, u16::MAX),
        carrier(&buffer_capsule(1), 0, 2),
        carrier(&buffer_capsule(1), 1, 0),
        vec![0xFF; 8],
        vec![],
    ];
    for payload in tables {
        let attack = Attack::new();
        attack.post_first(&payload, &[null().as_raw_fd()]);
        for _ in 0..2 {
            let result = attack.victim.recv_timeout(Duration::from_secs(20));
            assert!(
                matches!(result, Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::ProtocolViolation(_))))),
                "{payload:?}: {result:?}"
            );
        }
        drop(attack);
        assert_eq!(open_descriptors(), before);
    }
}
