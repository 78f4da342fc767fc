//! A hostile peer can write anything to the shared memory and to the lane. It can damage the data that it sends and end
//! its own channel, and nothing else.
//!
//! `MESSAGEPORT_HOSTILE_SECONDS` sets how long each of the random tests runs, `MESSAGEPORT_HOSTILE_SEED` repeats one.

#[path = "tools/adoption.rs"]
mod adoption;
mod tools;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use messageport::{
    ChannelOptions, Client, CloseReason, Message, MessagePort, PostDataError, PostError, PostErrorKind, RecvError,
    RecvTimeoutError, Server, TransferBuffer, TryRecvError, TypedPort, Violation, parent_port,
};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, setrlimit};

use tools::attacker::{
    Attacker, BUFFER, CARRIER, DATA, HANDLES, NEW_PORT, PAD, Pages, Table, WAKE, header, lane, packet, send,
};
use tools::child::{Process, Role};
use tools::ledger::{Ledger, alone, assert_descriptors, descriptors};
use tools::memory::newest_memory;
use tools::random::Random;
use tools::{Cost, PATIENCE, assert_entangled, cost_of, cost_under, end_of, pair, pair_of, within};

const ROLES: &[Role] = &[
    ("victim", victim),
    ("poor", poor),
    ("endless", || endless(SMALL, false)),
    ("endless and large", || endless(LARGE, false)),
    ("endless, large and refused", || endless(LARGE, true)),
];

/// Three seconds: a call with a deadline of a few milliseconds that takes longer hangs.
const HANGS: Duration = Duration::from_secs(3);
/// A wait of 200 ms that takes more CPU time than this spins.
const SPINS: Duration = Duration::from_millis(100);
const WAIT: Duration = Duration::from_millis(200);

/// The duration of a random test.
fn budget(default: Duration) -> Duration {
    let given = std::env::var("MESSAGEPORT_HOSTILE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    given.map_or(default, Duration::from_secs_f64)
}

// Random writes to the shared memory, under traffic.

#[test]
fn a_scribbler_spoils_its_own_channel_only() {
    let _alone = alone();
    let time = budget(Duration::from_secs(4));
    let random = Random::new("scribbler");
    within(time + 3 * PATIENCE, move || {
        let (control1, control2) = pair();
        let before = Ledger::now();
        let (start, mut rounds, mut ended) = (Instant::now(), 0, 0);
        while start.elapsed() < time {
            let capacity = random.pick(&[4096, 4096, 16384, 65536]);
            let ((a, b), file) = newest_memory(|| pair_of(capacity));
            let pages = Pages::of(&file);
            drop(file);
            let stop = Arc::new(AtomicBool::new(false));
            let chats = [a, b].map(|port| {
                let (stop, random) = (Arc::clone(&stop), random.fork());
                thread::spawn(move || chat(port, &stop, random))
            });
            scribble(&pages, &random, || chats.iter().all(|chat| chat.is_finished()));
            stop.store(true, Ordering::Relaxed);
            ended += chats.map(|chat| chat.join().expect("a victim panicked")).into_iter().filter(|end| *end).count();
            drop(pages);
            assert_entangled(&control1, &control2);
            before.assert_restored("after a round of scribbling");
            rounds += 1;
        }
        println!("{rounds} pairs, {ended} of {} ports ended", 2 * rounds);
    });
}

#[test]
fn a_scribbler_spoils_nothing_in_another_process() {
    let _alone = alone();
    let time = budget(Duration::from_secs(2));
    let random = Random::new("scribbler of another process");
    within(time + 3 * PATIENCE, move || {
        let (mut process, control) = Process::start("victim");
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < time {
            let ((a, b), file) = newest_memory(|| pair_of(4096));
            let pages = Pages::of(&file);
            control.post_message(&random.word().to_ne_bytes(), [b.into()]).expect("the control channel works");
            let stop = Arc::new(AtomicBool::new(false));
            let chat = {
                let (stop, random) = (Arc::clone(&stop), random.fork());
                thread::spawn(move || chat(a, &stop, random))
            };
            scribble(&pages, &random, || chat.is_finished());
            stop.store(true, Ordering::Relaxed);
            chat.join().expect("a victim panicked");
            assert_eq!(control.recv_timeout(PATIENCE).expect("the victim lives").data, b"next");
            rounds += 1;
        }
        drop(control);
        process.succeeded();
        println!("{rounds} pairs");
    });
}

/// A role: chats over every port that comes, until it ends.
fn victim() {
    let control = parent_port().expect("a port");
    let before = Ledger::now();
    loop {
        match control.recv() {
            Ok(mut message) => {
                let seed = u64::from_ne_bytes(message.data[..].try_into().expect("a seed"));
                chat(message.ports.remove(0), &AtomicBool::new(false), Random::from_seed(seed));
            }
            // The scribbler damaged the port in transit.
            Err(RecvError::MessageError { .. }) => {}
            Err(error) => return assert!(matches!(error, RecvError::Ended(CloseReason::Closed)), "{error:?}"),
        }
        before.assert_restored("after a chat");
        control.post_message(b"next", []).expect("the control channel works");
    }
}

/// Writes to random places of a segment for a while, or until `over` returns true.
fn scribble(pages: &Pages, random: &Random, over: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_millis(5 + random.word() % 40);
    // Only some kinds of writes in each run: a write to a state word ends a port at once, before the others can matter.
    let kinds: Vec<usize> = (0..9).filter(|kind| random.one_in(if *kind == 5 { 6 } else { 2 })).collect();
    let pause = random.pick(&[0, 100, 3000, 30_000]);
    while Instant::now() < until && !over() {
        for _ in 0..random.below(20) {
            let direction = random.below(2);
            let word = pages.word(random.below(pages.len() / 8) * 8);
            let offset = random.below(pages.capacity()) as u64 & !7;
            match kinds.get(random.below(kinds.len().max(1))) {
                Some(0) => word.store(random.word(), Ordering::Relaxed),
                Some(1) => drop(word.fetch_xor(1 << random.below(64), Ordering::Relaxed)),
                Some(2) => {
                    let kind = random.pick(&[PAD, DATA, CARRIER, BUFFER, 0, 4]);
                    let len = random.pick(&[0, 8, 96, 1784, 1785, pages.capacity() - 8 - offset as usize]);
                    let almost = header(kind, len, random.below(4), random.word() % 40);
                    pages.ring(direction, offset).store(almost, Ordering::Relaxed);
                }
                Some(3) => {
                    let delta = random.pick(&[8, 64, 0_u64.wrapping_sub(8), 4, 4096, random.word()]);
                    pages.cursor(direction).fetch_add(delta, Ordering::Relaxed);
                }
                Some(4) => {
                    let note = random.pick(&[0, 1, 2, random.word() as u32]);
                    pages.doorbells(direction)[random.below(2)].store(note, Ordering::Relaxed);
                }
                Some(5) => {
                    let state = random.pick(&[0, 1, 2, random.word() as u32]);
                    pages.states(direction)[random.below(2)].store(state, Ordering::Relaxed);
                }
                Some(6) => pages.ring(direction, offset).store(0, Ordering::Relaxed),
                Some(7) => {
                    // A real header, slightly altered.
                    pages.ring(direction, offset).fetch_xor(1 << random.below(64), Ordering::Relaxed);
                }
                Some(8) => pages.word(random.below(16) * 8).store(random.word(), Ordering::Relaxed),
                _ => {}
            }
        }
        for _ in 0..pause {
            std::hint::spin_loop();
        }
    }
}

/// Makes random calls on a port until it ends or `stop` is set. Returns true if it ended. Messages may be garbage. A
/// call that panics or hangs fails the test.
fn chat(port: MessagePort, stop: &AtomicBool, random: Random) -> bool {
    let start = Instant::now();
    let mut message = Message::new();
    let max = port.max_inline_len();
    if random.one_in(4) {
        port.as_fd();
    }
    while !stop.load(Ordering::Relaxed) && start.elapsed() < Duration::from_millis(200) {
        let what = random.below(12);
        let short = Duration::from_millis(random.word() % 4);
        let len = random.below(if random.one_in(8) { max + 2 } else { 200 });
        let (over, cost) = cost_of(|| match what {
            0..4 => post_is_over(port.post_message(&vec![what as u8; len], [])),
            4 => post_is_over(port.post_message_timeout(&vec![4; len], [], short)),
            5 => match port.reserve(len) {
                Ok(mut reservation) => {
                    let _ = reservation.write_at(len / 2, &[5]);
                    is_gone(reservation.commit_len(len / 2 + usize::from(len > 0)))
                }
                Err(error) => is_gone(Err(error)),
            },
            6 => {
                let (keep, travel) = pair_of(4096);
                let buffer = TransferBuffer::new(len).expect("memory");
                let result = port.post_message(b"things", [travel.into(), buffer.into()]);
                let _ = keep.post_message(b"in the queue", []);
                post_is_over(result)
            }
            7 => try_is_over(port.try_recv_into(&mut message)),
            8 => try_is_over(port.try_recv().map(use_message)),
            9 => try_is_over(port.try_recv_ref().map(|message| drop(message.to_vec().expect("this process")))),
            _ => match port.recv_timeout(short).map(use_message) {
                Err(RecvTimeoutError::Failed(error)) => try_is_over(Err(error.into())),
                _ => false,
            },
        });
        assert!(cost.time < HANGS, "call {what} took {:?}", cost.time);
        if over {
            return true;
        }
    }
    let ((), cost) = cost_of(|| drop(port));
    assert!(cost.time < HANGS, "drop took {:?}", cost.time);
    false
}

fn use_message(message: Message) {
    for port in &message.ports {
        let _ = port.try_recv();
        let _ = port.post_message(b"hello", []);
    }
    for buffer in &message.buffers {
        let mut start = vec![0; buffer.len().min(64)];
        buffer.read_at(0, &mut start).expect("inside");
    }
}

fn is_gone(result: Result<(), PostDataError>) -> bool {
    matches!(result, Err(PostDataError::PeerGone(_)))
}

fn post_is_over(result: Result<(), PostError>) -> bool {
    matches!(result, Err(PostError { kind: PostErrorKind::PeerGone(_), .. }))
}

fn try_is_over(result: Result<(), TryRecvError>) -> bool {
    matches!(result, Err(TryRecvError::Failed(RecvError::Ended(_))))
}

#[test]
fn an_impossible_cursor_ends_the_port() {
    let _alone = alone();
    // Impossible values of the peer's cursor after 3000 bytes have been read and 3000 more written.
    for cursor in [8, 3001, 3004, 6064, u64::MAX, 1 << 63] {
        let ((a, b), file) = newest_memory(|| pair_of(4096));
        let pages = Pages::of(&file);
        for _ in 0..3 {
            a.post_message(&[1; 992], []).expect("room");
            b.recv().expect("a message");
        }
        assert!(matches!(b.try_recv(), Err(TryRecvError::Empty)));
        a.post_message(&[1; 1500], []).expect("room"); // reads the honest cursor
        let honest = pages.cursor(0).load(Ordering::Relaxed);
        assert_eq!(honest, 3000);
        pages.cursor(0).store(cursor, Ordering::SeqCst);
        let mut results = (0..4).map(|_| a.post_message(&[2; 1500], []));
        let error = results.find_map(Result::err).expect("the ring is full").kind;
        let expected = CloseReason::ProtocolViolation(Violation::BadCursor);
        assert!(matches!(error, PostErrorKind::PeerGone(reason) if reason == expected), "{cursor}: {error:?}");
        assert_eq!(end_of(&a), expected);
    }
}

// Random packets on the lane.

/// Descriptors that no honest peer would send.
fn odd_descriptors() -> Vec<OwnedFd> {
    let (read, write) = std::io::pipe().expect("a pipe");
    let (socket1, socket2) = lane();
    let unsealed = memfd_create(c"messageport-not", MFdFlags::MFD_CLOEXEC).expect("a memory file");
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    let files = ["/dev/null", "/dev/zero", "/", "/proc/self/maps"].map(|path| File::open(path).expect("a file"));
    let mut all = vec![read.into(), write.into(), socket1, socket2, unsealed, epoll.0];
    all.extend(files.map(OwnedFd::from));
    all.push(path_only(c"/dev/null"));
    all
}

/// An `O_PATH` descriptor.
fn path_only(path: &std::ffi::CStr) -> OwnedFd {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).expect("a path")
}

#[test]
fn odd_packets_and_descriptors_end_the_port_at_most_and_leak_nothing() {
    let _alone = alone();
    let time = budget(Duration::from_secs(4));
    let random = Random::new("lane");
    within(time + 3 * PATIENCE, move || {
        let odd = odd_descriptors();
        let (control1, control2) = pair();
        let before = descriptors();
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < time {
            let (mut attacker, victim) = Attacker::new(|| pair_of(4096));
            if random.one_in(3) {
                victim.as_fd();
            }
            for _ in 0..random.below(5) {
                odd_packet(&attacker, &odd, &random);
            }
            if random.one_in(2) {
                odd_record(&mut attacker, &odd, &random);
            }
            let stop = AtomicBool::new(false);
            let (_, cost) = cost_of(|| one_chat(&victim, &random));
            assert!(cost.time < HANGS, "took {:?}", cost.time);
            if random.one_in(20) {
                drop(attacker);
                chat(victim, &stop, random.fork());
            } else {
                drop(victim);
                drop(attacker);
            }
            assert_descriptors(before, &format!("after round {rounds}"));
            rounds += 1;
        }
        assert_entangled(&control1, &control2);
        println!("{rounds} pairs");
    });
}

fn some<'a>(odd: &'a [OwnedFd], count: usize, random: &Random) -> Vec<BorrowedFd<'a>> {
    (0..count).map(|_| odd[random.below(odd.len())].as_fd()).collect()
}

fn odd_packet(attacker: &Attacker, odd: &[OwnedFd], random: &Random) {
    let count = random.pick(&[0, 0, 0, 0, 1, 1, 2, 3, 5, 17, 252, 253]);
    let said = if random.one_in(3) { random.word() as u32 } else { count as u32 };
    let sequence = random.pick(&[0, 0, 0, 1, 2, u64::MAX, random.word()]);
    let kind = random.pick(&[WAKE, WAKE, HANDLES, HANDLES, HANDLES, 0, 3, 4, u32::MAX]);
    let mut bytes = packet(kind, said, sequence).to_vec();
    if random.one_in(4) {
        bytes.resize(random.pick(&[0, 1, 15, 17, 1000]), 0xab);
    }
    // The kernel may refuse too many descriptors.
    let _ = attacker.send(&bytes, &some(odd, count, random));
}

/// A record that claims descriptors, with a table that may fit them.
fn odd_record(attacker: &mut Attacker, odd: &[OwnedFd], random: &Random) {
    if random.one_in(3) {
        let payload: Vec<u8> = (0..random.below(300)).map(|_| random.word() as u8).collect();
        let kind = random.pick(&[PAD, DATA, CARRIER, CARRIER, BUFFER, 0, 9]);
        return attacker.record(kind, &payload, random.pick(&[0, 0, 1, 2, 3, 255]));
    }
    let mut table = Table::default();
    for _ in 0..random.below(3) {
        let capsule = if random.one_in(2) { NEW_PORT } else { NEW_PORT.map(|_| random.word() % 4) };
        table = table.port(capsule, &odd[random.below(odd.len())], &odd[random.below(odd.len())]);
    }
    for _ in 0..random.below(3) {
        table = table.buffer(random.word() % 9000, random.word() % 2, &odd[random.below(odd.len())]);
    }
    for _ in 0..random.below(3) {
        table = table.frozen(random.word() % 9000, &odd[random.below(odd.len())]);
    }
    for _ in 0..random.below(3) {
        table = table.shared(random.word() % 9000, &odd[random.below(odd.len())]);
    }
    for _ in 0..random.below(3) {
        table = table.descriptor(&odd[random.below(odd.len())]);
    }
    if random.one_in(8) {
        table.counts[random.below(6)] = random.word() as u16 % 5;
    }
    if random.one_in(2) {
        attacker.post(b"odd", &table);
    } else {
        attacker.record(CARRIER, &table.payload(b"odd"), table.handles());
    }
}

/// A few calls, with any result.
fn one_chat(port: &MessagePort, random: &Random) {
    for _ in 0..1 + random.below(4) {
        match random.below(6) {
            0 => drop(port.try_recv()),
            1 => drop(port.recv_timeout(Duration::from_millis(1))),
            2 => drop(port.post_message(b"hello", [])),
            3 => drop(port.post_message(b"hello", [TransferBuffer::new(10).expect("memory").into()])),
            4 => drop(port.try_recv_ref()),
            // With enough time to sleep on the lane.
            _ if random.one_in(10) => drop(port.recv_timeout(Duration::from_millis(45))),
            _ => {}
        }
    }
}

// Attempts to make a wait spin.

/// Wakes the sleepers on a word, without a reason.
#[allow(unsafe_code)]
fn wake(word: &AtomicU32) {
    // SAFETY: the kernel uses the address only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

#[track_caller]
fn assert_slept(cost: &Cost) {
    assert!(cost.time >= WAIT && cost.time < WAIT + HANGS, "the deadline: {:?} instead of {WAIT:?}", cost.time);
    assert!(cost.cpu < SPINS, "used the CPU for {:?} of {:?}", cost.cpu, cost.time);
}

#[test]
fn a_flood_of_wake_ups_does_not_make_a_wait_spin() {
    let _alone = alone();
    let (attacker, victim) = Attacker::new(pair);
    let lane = &attacker.lane;
    for doorbell in [0, 1, 9] {
        let wake = packet(WAKE, doorbell, 0);
        let (result, cost) = cost_under(
            || {
                let _ = send(lane, &wake, &[]);
            },
            || victim.recv_timeout(WAIT),
        );
        assert!(matches!(result, Err(RecvTimeoutError::TimedOut)), "{result:?}");
        assert_slept(&cost);
    }
}

#[test]
fn doorbells_that_always_ring_do_not_make_a_wait_spin() {
    let _alone = alone();
    for with_packets in [false, true] {
        let (attacker, victim) = Attacker::new(|| pair_of(4096));
        while victim.post_message(&[], []).is_ok() {}
        let (pages, lane, packet) = (&attacker.pages, &attacker.lane, packet(WAKE, 0, 0));
        let annoy = || {
            // The doorbells on which the victim, side B, sleeps for a message and for space.
            for doorbell in [pages.doorbells(0)[0], pages.doorbells(1)[1]] {
                doorbell.store(0, Ordering::Relaxed);
                wake(doorbell);
            }
            if with_packets {
                let _ = send(lane, &packet, &[]);
            }
        };
        let (result, cost) = cost_under(annoy, || victim.recv_timeout(WAIT));
        assert!(matches!(result, Err(RecvTimeoutError::TimedOut)), "{result:?}");
        println!("recv, packets {with_packets}: {:?} of {:?}", cost.cpu, cost.time);
        assert_slept(&cost);
        let (result, cost) = cost_under(annoy, || victim.post_message_timeout(&[], [], WAIT));
        assert!(matches!(result, Err(error) if matches!(error.kind, PostErrorKind::TimedOut)));
        println!("post, packets {with_packets}: {:?} of {:?}", cost.cpu, cost.time);
        assert_slept(&cost);
    }
}

#[test]
fn a_peer_stopped_half_way_through_a_transfer_list_does_not_make_a_wait_spin() {
    let _alone = alone();
    let second = Duration::from_secs(1);
    let (mut attacker, victim) = Attacker::new(pair);
    let memory = memfd_create(c"messageport-not", MFdFlags::MFD_CLOEXEC).expect("a memory file");
    attacker.send(&packet(HANDLES, 1, 0), &[memory.as_fd()]).expect("room");
    let (result, cost) = cost_of(|| victim.recv_timeout(second));
    assert!(matches!(result, Err(RecvTimeoutError::TimedOut)), "{result:?}");
    assert!(cost.time >= second && cost.time < second + HANGS, "{:?} instead of {second:?}", cost.time);
    assert!(cost.cpu < SPINS, "used the CPU for {:?}", cost.cpu);
    victim.as_fd();
    assert!(matches!(victim.try_recv(), Err(TryRecvError::Empty)));
    // The peer continues, with a table for more than the packet holds.
    let table = Table::default().buffer(1, 0, &memory);
    attacker.record(CARRIER, &table.payload(b"late"), 1);
    let error = victim.try_recv().expect_err("no buffer came");
    assert!(matches!(error, TryRecvError::Failed(RecvError::MessageError { .. })), "{error:?}");
    attacker.record(DATA, b"more", 0);
    assert_eq!(victim.recv_timeout(PATIENCE).expect("a message").data, b"more");
}

// Queues that never end.

#[test]
fn ports_whose_queues_never_end_are_dropped_in_a_moment() {
    let _alone = alone();
    let (_process, control) = Process::start("endless");
    let port = control.recv_timeout(PATIENCE).expect("a port").ports.remove(0);
    let message = port.recv_timeout(PATIENCE).expect("the ports look honest");
    assert_eq!(message.ports.len(), ENDLESS);
    let ((), cost) = cost_of(|| drop(message));
    assert!(cost.time < HANGS, "the drop took {:?}", cost.time);
}

#[test]
fn a_refused_message_of_ports_whose_queues_never_end_does_not_outlast_the_deadline() {
    let _alone = alone();
    let (_process, control) = Process::start("endless, large and refused");
    let port = control.recv_timeout(PATIENCE).expect("a port").ports.remove(0);
    let (result, cost) = cost_of(|| port.recv_timeout(WAIT));
    assert!(matches!(result, Err(RecvTimeoutError::Failed(RecvError::MessageError { .. }))), "{result:?}");
    assert!(cost.time < HANGS, "the call took {:?} instead of {WAIT:?}", cost.time);
}

#[test]
fn a_queue_full_of_ports_whose_queues_never_end_is_dropped_in_a_moment() {
    let _alone = alone();
    let (_process, control) = Process::start("endless and large");
    let port = control.recv_timeout(PATIENCE).expect("a port").ports.remove(0);
    let ((), cost) = cost_of(|| drop(port));
    assert!(cost.time < HANGS, "the drop took {:?}", cost.time);
}

/// Receives the message of ports whose queues never end, in a call that waits for `WAIT`.
#[track_caller]
fn assert_in_time<T, E>(call: impl FnOnce(MessagePort) -> Result<T, E>) {
    let _alone = alone();
    let (_process, control) = Process::start("endless and large");
    let port = control.recv_timeout(PATIENCE).expect("a port").ports.remove(0);
    let (result, cost) = cost_of(|| call(port).map(drop));
    assert!(result.is_err(), "the message is refused");
    assert!(cost.time < HANGS, "the call took {:?} instead of {WAIT:?}", cost.time);
}

#[test]
fn a_value_with_ports_whose_queues_never_end_does_not_outlast_the_deadline() {
    assert_in_time(|port| TypedPort::<(), u64>::from(port).recv_timeout(WAIT));
    // The ports are part of the value when it turns out to be invalid.
    assert_in_time(|port| TypedPort::<(), Vec<MessagePort>>::from(port).recv_timeout(WAIT));
}

#[test]
fn calls_with_ports_whose_queues_never_end_do_not_outlast_the_deadline() {
    assert_in_time(|port| Server::new(port).recv_timeout(WAIT));
    assert_in_time(|port| Client::new(port).call_timeout(b"", [], WAIT));
    // A message that is received into drops what it held.
    assert_in_time(|port| {
        let mut message = Message::new();
        port.recv_into_timeout(&mut message, WAIT)?;
        port.recv_into_timeout(&mut message, WAIT)
    });
}

/// Ports in one message, 100. Each claims to hold a gigabyte, which takes seconds to walk.
const ENDLESS: usize = 100;
/// The least ring that has a record for each of 2^16 numbers.
const SMALL: usize = 512 << 10;
/// A ring that takes a tenth of a second to walk once.
const LARGE: usize = 16 << 20;

/// A role: posts a port with a message of many ports, whose rings are full of empty records for ever. The last thing in
/// the message is invalid if it is to be `refused`.
fn endless(capacity: usize, refused: bool) {
    let control = parent_port().expect("a port");
    let options = ChannelOptions::new().capacity(capacity).max_capacity(1 << 30);
    let (_keep, segment) = newest_memory(|| options.create().expect("a channel"));
    let pages = Pages::of(&segment);
    for number in 0..capacity as u64 / 8 {
        // A header has 16 bits of the number: behind the last record of the ring comes the first.
        pages.ring(0, 8 * number).store(header(DATA, 0, 0, number & 0xffff), Ordering::Relaxed);
    }
    let (_other, lane) = lane();
    // Of the right kind, so that the message alone is invalid, and not the channel.
    let unfrozen = memfd_create(c"messageport-not", MFdFlags::MFD_CLOEXEC).expect("a memory file");
    let mut table = Table::default();
    for _ in 0..ENDLESS {
        table = table.port(NEW_PORT, &segment, &lane);
    }
    if refused {
        table = table.frozen(5, &unfrozen);
    }
    let (mut attacker, victim) = Attacker::new(pair);
    // As a value: a vector of the ports, and more behind it. It has no mark of a request or an answer.
    let data: Vec<u8> = [ENDLESS as u8].into_iter().chain(0..ENDLESS as u8).chain([0; 8]).collect();
    attacker.post(&data, &table);
    control.post_message(b"", [victim.into()]).expect("room");
    let _ = control.recv(); // holds everything open
}

// Attempts to leak descriptors.

#[test]
fn unexpected_descriptors_are_closed() {
    /// `SO_PASSCRED`, and since Linux 6.5 `SO_PASSPIDFD`: a descriptor of the sender's process with each packet.
    const OPTIONS: [libc::c_int; 2] = [libc::SO_PASSCRED, 76];
    let _alone = alone();
    for option in OPTIONS {
        let (mut attacker, victim) = Attacker::new(pair);
        // The attacker sets options of its choice on the socket before it gives the socket away.
        let (on, socket) = (1_i32, victim.as_fd());
        #[allow(unsafe_code)]
        // SAFETY: the pointer is to an int, and the length is that of an int.
        let result = unsafe {
            let value = (&raw const on).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, size_of::<i32>() as u32)
        };
        if result != 0 {
            eprintln!("skipped: this kernel has no socket option {option}");
            continue;
        }
        let before = descriptors();
        for _ in 0..20 {
            attacker.send(&packet(WAKE, 0, 0), &[]).expect("room");
        }
        let null = File::open("/dev/null").expect("a device");
        let mut table = Table::default();
        for _ in 0..20 {
            table = table.buffer(1, 0, &null);
        }
        attacker.post(b"odd", &table);
        for _ in 0..3 {
            let result = victim.recv_timeout(Duration::from_millis(1));
            assert!(result.is_err(), "{result:?}");
        }
        drop(null);
        assert_descriptors(before, &format!("with socket option {option}"));
    }
}

#[test]
fn a_queue_of_many_ports_is_dropped_with_few_descriptors_to_spare() {
    let _alone = alone();
    let (mut process, control) = Process::start("poor");
    let (carrier, full) = pair();
    let peers: Vec<MessagePort> = (0..200)
        .map(|_| {
            let (keep, travel) = pair_of(4096);
            carrier.post_message(b"", [travel.into()]).expect("room");
            keep
        })
        .collect();
    control.post_message(b"drop this", [full.into()]).expect("room");
    assert_eq!(end_of(&carrier), CloseReason::Closed);
    let died = peers.iter().map(end_of).filter(|reason| *reason != CloseReason::Closed).count();
    assert_eq!(died, 0, "ports of 200 whose end is a death, although the holder dropped the queue");
    drop(control);
    process.succeeded();
}

/// A role: drops a port, with its queue, under a limit of few more descriptors than are open.
fn poor() {
    let control = parent_port().expect("a port");
    let message = control.recv().expect("a message");
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).expect("the limit can be lowered");
    drop(message);
    let _ = control.recv();
}
