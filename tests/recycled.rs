//! Recycled buffers: a peer that lies about them, and the release of buffers that are no longer used.
//!
//! `MESSAGEPORT_HOSTILE_SECONDS` sets how long the random test runs, `MESSAGEPORT_HOSTILE_SEED` repeats it.

mod tools;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use messageport::{
    BadTransfer, BufferError, ChannelOptions, CloseReason, Message, MessagePort, RecvError, RecvTimeoutError,
    TransferBuffer, TryRecvError, Violation,
};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use tools::attacker::{Attacker, BUFFER, CARRIER, DATA, Pages, Table};
use tools::child::Role;
use tools::ledger::{Ledger, alone, descriptors};
use tools::memory::newest_memory;
use tools::random::Random;
use tools::{PATIENCE, assert_entangled, end_of, pair, pair_with, text};

const ROLES: &[Role] = &[];

const LEN: usize = 10_000;
/// Bytes of memory of a buffer of `LEN`: to the end of its last page.
const CAPACITY: u64 = 12_288;
/// Number of buffers that a direction keeps in these tests.
const KEPT: usize = 3;

/// The kind of a record that frees a slot.
const FORGET: u8 = 6;
/// The way of a buffer that the receiver is to keep from now on.
const NEW: u64 = 1;
/// The way of a buffer that the receiver keeps already.
const KNOWN: u64 = 2;
/// The way of a buffer that goes back to its owner.
const BACK: u64 = 3;
/// Offset of the note that a receiver may leave in the header of a buffer.
const NOTE: usize = 24;
/// The note of a buffer that its receiver no longer uses.
const FREE: u32 = 1;

/// A pair with room for many records of an attacker, which cannot wrap.
fn keeping_pair() -> (MessagePort, MessagePort) {
    let capacity = 1 << 20;
    let options = ChannelOptions::new().capacity(capacity).max_capacity(capacity);
    let options = options.cached_buffers(KEPT).cached_bytes(KEPT as u64 * CAPACITY);
    pair_with(options)
}

/// The third word of a buffer's capsule.
fn way(way: u64, slot: u64) -> u64 {
    way << 32 | slot & 0xffff_ffff
}

/// A file that is a valid buffer.
fn buffer_file() -> OwnedFd {
    let file = memfd_create(c"messageport-forged", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING);
    let file = File::from(file.expect("a memory file"));
    let len = 4096 + CAPACITY;
    file.set_len(len).expect("a size");
    fallocate(&file, FallocateFlags::empty(), 0, len as i64).expect("memory");
    let mut header = b"msgpbuf\0".to_vec();
    header.extend(1_u32.to_ne_bytes());
    header.extend(4096_u32.to_ne_bytes());
    header.extend(CAPACITY.to_ne_bytes());
    file.write_all_at(&header, 0).expect("a header");
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("seals");
    file.into()
}

#[track_caller]
fn assert_no_such_buffer(victim: &MessagePort, name: &str) {
    match victim.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Failed(RecvError::MessageError { reason, data })) => {
            assert_eq!((reason, &data[..]), (BadTransfer::NoSuchBuffer, b"lie".as_slice()), "{name}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[track_caller]
fn recv_buffer(port: &MessagePort) -> TransferBuffer {
    port.recv_timeout(PATIENCE).expect("a message").buffers.remove(0)
}

/// Posts a buffer by its number in a table. `lie` is its way and its slot.
fn post_known(attacker: &mut Attacker, len: u64, lie: u64) {
    let table = Table::default().known_buffer(len, lie);
    attacker.record(CARRIER, &table.payload(b"lie"), 0);
}

/// Posts a buffer by its number in the record for a lone buffer. `lie` is its way and its slot.
fn post_lone(attacker: &mut Attacker, len: u64, lie: u64) {
    attacker.record(BUFFER, &lone(b"lie", len, lie), 0);
}

fn lone(data: &[u8], len: u64, lie: u64) -> Vec<u8> {
    let padding = data.len().next_multiple_of(8) - data.len();
    let word = len | (lie & 0xff) << 48 | (lie >> 32) << 56 | (padding as u64) << 60;
    [data, &vec![0; padding], &word.to_ne_bytes()].concat()
}

#[test]
fn buffers_that_the_receiver_does_not_keep_are_an_error() {
    let _alone = alone();
    let (mut attacker, victim) = Attacker::new(keeping_pair);
    let before = Ledger::now();
    for slot in [0, 1, KEPT as u64, 63, 64, 0xffff_ffff] {
        for how in [KNOWN, BACK] {
            post_known(&mut attacker, 10, way(how, slot));
            assert_no_such_buffer(&victim, &format!("way {how}, slot {slot}"));
            post_lone(&mut attacker, 10, way(how, slot));
            assert_no_such_buffer(&victim, &format!("alone, way {how}, slot {slot}"));
        }
    }
    // A new buffer in a slot that does not exist, or that is too small for it.
    for slot in [KEPT as u64, 0xffff_ffff] {
        let file = buffer_file();
        attacker.post(b"lie", &Table::default().buffer(CAPACITY, way(NEW, slot), &file));
        assert_no_such_buffer(&victim, &format!("new in slot {slot}"));
    }
    attacker.record(DATA, b"the next message", 0);
    assert_eq!(text(&victim), "the next message");
    before.assert_restored("after lies");
}

#[test]
fn a_buffer_that_is_held_cannot_come_a_second_time() {
    let _alone = alone();
    let (mut attacker, victim) = Attacker::new(keeping_pair);
    let file = buffer_file();
    attacker.post(b"", &Table::default().buffer(CAPACITY, way(NEW, 0), &file));
    let held = recv_buffer(&victim);
    for len in [0, 10, CAPACITY] {
        post_known(&mut attacker, len, way(KNOWN, 0));
        assert_no_such_buffer(&victim, "held");
        post_lone(&mut attacker, len, way(KNOWN, 0));
        assert_no_such_buffer(&victim, "held, alone");
    }
    drop(held);
    // With a length beyond its memory: refused, and still kept.
    post_known(&mut attacker, CAPACITY + 1, way(KNOWN, 0));
    assert_no_such_buffer(&victim, "too long");
    post_lone(&mut attacker, (1 << 48) - 1, way(KNOWN, 0));
    assert_no_such_buffer(&victim, "too long, alone");
    post_known(&mut attacker, 17, way(KNOWN, 0));
    assert_eq!(recv_buffer(&victim).len(), 17);
    post_lone(&mut attacker, 18, way(KNOWN, 0));
    assert_eq!(recv_buffer(&victim).len(), 18);
    // Forgotten, by a record of the owner.
    attacker.record(FORGET, &0_u64.to_ne_bytes(), 0);
    post_known(&mut attacker, 10, way(KNOWN, 0));
    assert_no_such_buffer(&victim, "forgotten");
    // Forgotten while it is held: the holder keeps it.
    attacker.post(b"", &Table::default().buffer(CAPACITY, way(NEW, 0), &file));
    let held = recv_buffer(&victim);
    attacker.record(FORGET, &0_u64.to_ne_bytes(), 0);
    attacker.record(DATA, b"more", 0);
    assert_eq!(text(&victim), "more");
    held.write_at(LEN - 1, b"x").expect("a buffer of this process");
}

#[test]
fn an_impossible_slot_ends_the_port() {
    let _alone = alone();
    for slot in [KEPT as u64, 64, u64::MAX, 1 << 32] {
        let (mut attacker, victim) = Attacker::new(keeping_pair);
        attacker.record(FORGET, &slot.to_ne_bytes(), 0);
        assert_eq!(end_of(&victim), CloseReason::ProtocolViolation(Violation::BadLink), "slot {slot}");
    }
    for len in [0, 7, 16] {
        let (mut attacker, victim) = Attacker::new(keeping_pair);
        attacker.record(FORGET, &vec![0; len], 0);
        assert_eq!(end_of(&victim), CloseReason::ProtocolViolation(Violation::BadLength), "{len} bytes");
    }
}

#[test]
fn a_record_of_one_buffer_that_contradicts_itself_ends_the_port() {
    let _alone = alone();
    let good = lone(b"lie", 10, way(KNOWN, 0));
    let with = |padding: u64, how: u64| [&[0; 8][..], &(how << 56 | padding << 60).to_ne_bytes()].concat();
    let cases = [
        ("empty", vec![], 0, Violation::BadTable),
        ("too short", good[1..8].to_vec(), 0, Violation::BadTable),
        ("not padded", good[1..].to_vec(), 0, Violation::BadTable),
        ("more padding than a word has", with(8, KNOWN), 0, Violation::BadTable),
        ("more padding than there is data", with(1, KNOWN)[8..].to_vec(), 0, Violation::BadTable),
        ("no way", with(0, 0), 0, Violation::BadTable),
        ("the way of a new buffer", with(0, NEW), 0, Violation::BadTable),
        ("an unknown way", with(0, 15), 0, Violation::BadTable),
        ("descriptors", good, 1, Violation::BadHandles),
    ];
    for in_place in [false, true] {
        for (name, payload, handles, expected) in &cases {
            let (mut attacker, victim) = Attacker::new(keeping_pair);
            attacker.record(BUFFER, payload, *handles);
            let result = match in_place {
                true => victim.recv_ref_timeout(PATIENCE).map(drop),
                false => victim.recv_timeout(PATIENCE).map(drop),
            };
            let reason = CloseReason::ProtocolViolation(*expected);
            assert!(
                matches!(&result, Err(RecvTimeoutError::Failed(RecvError::Ended(found))) if *found == reason),
                "{name}: {result:?}"
            );
        }
    }
}

/// Data of any length beside a recycled buffer, there and back, by each receiving call.
#[test]
fn data_beside_a_recycled_buffer_arrives_whole() {
    let _alone = alone();
    let (a, b) = keeping_pair();
    let mut message = Message::new();
    a.post_message(b"", [a.buffer(LEN).expect("memory").into()]).expect("room");
    drop(b.recv().expect("a message"));
    for len in (0..40).chain([63, 64, 65, 1000, 4099]) {
        let data: Vec<u8> = (0..len).map(|byte| byte as u8 | 1).collect();
        let buffer = a.buffer(len + 8).expect("memory");
        buffer.write_value(len, &0x5eed_u64).expect("room");
        a.post_message(&data, [buffer.into()]).expect("room");
        let in_place = b.recv_ref_timeout(PATIENCE).expect("a message");
        assert_eq!(in_place.to_vec().expect("data"), data);
        drop(in_place);
        a.post_message(&data, [a.buffer(len + 8).expect("memory").into()]).expect("room");
        b.recv_into_timeout(&mut message, PATIENCE).expect("a message");
        assert_eq!((&message.data, message.buffers.len()), (&data, 1));
        let back = message.buffers.pop().expect("a buffer");
        assert_eq!((back.len(), back.read_value(len).ok()), (len + 8, Some(0x5eed_u64)), "the same memory");
        b.post_message(&data, [back.into()]).expect("room");
        let answer = a.recv_timeout(PATIENCE).expect("a message");
        assert_eq!((&answer.data, answer.buffers[0].read_value(len).ok()), (&data, Some(0x5eed_u64)));
    }
}

#[test]
fn a_buffer_that_came_back_cannot_come_back_again() {
    let _alone = alone();
    let (mut attacker, victim) = Attacker::new(keeping_pair);
    let (buffer, memory) = newest_memory(|| victim.buffer(LEN).expect("memory"));
    let pages = Pages::of(&memory);
    victim.post_message(b"", [buffer.into()]).expect("room");
    let kept_by_attacker = recv_buffer(&attacker.port);
    // With a length beyond its memory, and then with its own.
    post_known(&mut attacker, CAPACITY + 1, way(BACK, 0));
    assert_no_such_buffer(&victim, "too long");
    post_lone(&mut attacker, LEN as u64, way(BACK, 0));
    let first = recv_buffer(&victim);
    post_lone(&mut attacker, LEN as u64, way(BACK, 0));
    assert_no_such_buffer(&victim, "twice, alone");
    // A second time, and with a note that it is free: the attacker no longer has it.
    post_known(&mut attacker, LEN as u64, way(BACK, 0));
    assert_no_such_buffer(&victim, "twice");
    pages.half_word(NOTE).store(FREE, Ordering::SeqCst);
    let second = victim.buffer(LEN).expect("memory");
    first.write_at(0, b"first").expect("a buffer of this process");
    second.write_at(0, b"other").expect("a buffer of this process");
    assert_eq!(&first.to_vec().expect("a buffer of this process")[..5], b"first", "a buffer was handed out twice");
    // In the pool and not with the attacker, which claims to send it.
    drop((first, second));
    post_known(&mut attacker, LEN as u64, way(BACK, 0));
    assert_no_such_buffer(&victim, "from nowhere");
    let first = victim.buffer(LEN).expect("memory");
    assert_eq!(&first.to_vec().expect("a buffer of this process")[..5], b"first", "a buffer left the pool");
    drop(kept_by_attacker);
}

#[test]
fn a_lying_peer_causes_no_double_use_and_no_leak() {
    let _alone = alone();
    let given = std::env::var("MESSAGEPORT_HOSTILE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = Duration::from_secs_f64(given.unwrap_or(4.0));
    let random = Random::new("liar");
    let before = Ledger::now();
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < time {
        lie(&random);
        before.assert_restored("after a round of lies");
        rounds += 1;
    }
    println!("{rounds} rounds");
}

/// A buffer that the victim holds, and the stamp that it wrote. `None` in a buffer of the attacker.
type Held = (TransferBuffer, Option<u64>);

/// An attacker that receives honestly and posts anything, and a victim that uses buffers.
fn lie(random: &Random) {
    let (mut attacker, victim) = Attacker::new(keeping_pair);
    let own = [buffer_file(), buffer_file()];
    let open = descriptors();
    let (mut pages, mut held): (Vec<Pages>, Vec<Held>) = (Vec::new(), Vec::new());
    for _ in 0..KEPT + 2 {
        let (buffer, memory) = newest_memory(|| victim.buffer(LEN).expect("memory"));
        pages.push(Pages::of(&memory));
        held.push((buffer, None));
    }
    let mut hoard: Vec<TransferBuffer> = Vec::new();
    let mut stamps = 1..;
    for _ in 0..300 {
        match random.below(12) {
            // The victim.
            0 | 1 => held.push((victim.buffer(8 + random.below(LEN)).expect("memory"), stamps.next())),
            2 | 3 if !held.is_empty() => {
                let (buffer, _) = held.swap_remove(random.below(held.len()));
                victim.post_message(b"", [buffer.into()]).expect("room");
            }
            4 if !held.is_empty() => drop(held.swap_remove(random.below(held.len()))),
            5 => victim.post_message(&vec![1; 500_000], []).expect("room"),
            // The attacker.
            6 | 7 => hoard.extend(attacker.port.try_recv().map(|message| message.buffers).unwrap_or_default()),
            8 if !hoard.is_empty() => drop(hoard.swap_remove(random.below(hoard.len()))),
            9 => {
                let slot = random.below(KEPT + 1) as u64;
                match random.pick(&[NEW, KNOWN, BACK, BACK, BACK]) {
                    NEW => {
                        let table = Table::default().buffer(CAPACITY, way(NEW, slot), &own[random.below(2)]);
                        attacker.post(b"mine", &table);
                    }
                    how => {
                        let (len, data) =
                            (8 + random.below(LEN + 5000) as u64, if how == BACK { b"back" } else { b"mine" });
                        match random.one_in(2) {
                            true => attacker.record(BUFFER, &lone(data, len, way(how, slot)), 0),
                            false => {
                                let table = Table::default().known_buffer(len, way(how, slot));
                                attacker.record(CARRIER, &table.payload(data), 0);
                            }
                        }
                    }
                }
            }
            10 => attacker.record(FORGET, &(random.below(KEPT) as u64).to_ne_bytes(), 0),
            _ => pages[random.below(pages.len())].half_word(NOTE).store(random.below(4) as u32, Ordering::SeqCst),
        }
        match victim.try_recv() {
            Ok(Message { data, mut buffers, .. }) => {
                held.push((buffers.remove(0), (data == b"back").then(|| stamps.next()).flatten()));
            }
            Err(TryRecvError::Failed(RecvError::MessageError { reason: BadTransfer::NoSuchBuffer, .. })) => {}
            Err(error) => assert!(matches!(error, TryRecvError::Empty), "{error:?}"),
        }
        // The attacker writes only notes, so a single holder of a buffer reads its own stamp.
        for write in [true, false] {
            for (buffer, stamp) in held.iter().filter_map(|(buffer, stamp)| Some((buffer, stamp.as_ref()?))) {
                match write {
                    true => buffer.write_value(0, stamp).expect("a buffer of this process"),
                    false => assert_eq!(
                        buffer.read_value::<u64>(0).expect("a buffer of this process"),
                        *stamp,
                        "two handles, one buffer"
                    ),
                }
            }
        }
        // Held, or kept by either side for either direction. A buffer that waits in a queue is open nowhere.
        let most = held.len() + hoard.len() + 4 * KEPT;
        assert!(descriptors() - open <= most, "{} descriptors for {most} buffers", descriptors() - open);
    }
}

// Buffers that are not used.

#[test]
fn buffers_unused_for_a_while_are_freed() {
    let _alone = alone();
    let (a, b) = pair();
    let before = descriptors();
    let five: Vec<_> = (0..5).map(|_| a.buffer(LEN).expect("memory").into()).collect();
    a.post_message(b"", five).expect("room");
    drop(b.recv().expect("a message"));
    assert_eq!(descriptors() - before, 2 * 5, "both sides keep five");
    // One buffer stays in use. The others are freed after a second or two, without a call.
    let start = Instant::now();
    while descriptors() - before > 2 {
        assert!(start.elapsed() < PATIENCE, "{} descriptors are still kept", descriptors() - before);
        for _ in 0..100 {
            a.post_message(b"", [a.buffer(LEN).expect("memory").into()]).expect("room");
            drop(b.recv().expect("a message"));
        }
    }
    assert!(start.elapsed() > Duration::from_millis(900), "given back after {:?}", start.elapsed());
    assert_eq!(descriptors() - before, 2, "the buffer in use stays");
}

#[test]
fn a_buffer_longer_than_any_memory_is_an_error() {
    let _alone = alone();
    let (a, _b) = pair();
    for len in [usize::MAX, usize::MAX - 4095, 1 << 62, (1 << 40) + 1] {
        assert!(matches!(a.buffer(len), Err(BufferError::ResourceExhausted(_))), "{len}");
    }
}

// Third parties.

#[test]
fn a_port_spoilt_by_a_third_party_leaves_the_buffers_beside_it_recycled() {
    let _alone = alone();
    let ((_third_party, passenger), memory) = newest_memory(pair);
    let (a, b) = pair();
    // The third party has the memory of its own channel, and can write anything there.
    Pages::of(&memory).word(0).store(0, Ordering::SeqCst);
    a.post_message(b"spoilt", [passenger.into(), a.buffer(LEN).expect("memory").into()]).expect("room");
    let result = b.recv_timeout(PATIENCE);
    assert!(matches!(result, Err(RecvTimeoutError::Failed(RecvError::MessageError { .. }))), "{result:?}");
    // The buffer was new to the receiver, and is recycled.
    for round in 0..3_u64 {
        let held = descriptors();
        let buffer = a.buffer(LEN).expect("memory");
        assert!(descriptors() <= held, "the buffer has come back");
        buffer.write_value(0, &round).expect("inside");
        a.post_message(b"", [buffer.into()]).expect("room");
        assert_eq!(recv_buffer(&b).read_value::<u64>(0).expect("a buffer of this process"), round);
    }
    assert_entangled(&a, &b);
}

#[test]
fn a_lone_buffer_does_not_bring_more_data_than_the_channel_allows() {
    let _alone = alone();
    let limited = || pair_with(ChannelOptions::new().max_message_len(100));
    let receive: [fn(&MessagePort) -> RecvError; 2] =
        [|port| port.recv().expect_err("too much data"), |port| port.recv_ref().expect_err("too much data")];
    for receive in receive {
        let (mut attacker, victim) = Attacker::new(limited);
        attacker.post(b"", &Table::default().buffer(CAPACITY, way(NEW, 0), &buffer_file()));
        drop(recv_buffer(&victim));
        attacker.record(BUFFER, &lone(&[7; 1000], 10, way(KNOWN, 0)), 0);
        let error = receive(&victim);
        let expected = CloseReason::ProtocolViolation(Violation::BadLength);
        assert!(matches!(error, RecvError::Ended(reason) if reason == expected), "{error:?}");
    }
}
