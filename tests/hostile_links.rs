//! A peer that links to invalid rings, links without end, or makes the receiver forget buffers that it does not keep.
#![allow(missing_docs)]

mod tools;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use messageport::{
    ChannelOptions, CloseReason, MessagePort, RecvError, RecvTimeoutError, TransferBuffer, TryRecvError, Violation,
};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use tools::attacker::{Attacker, BUFFER, CARRIER, DATA, HANDLES, HEADER_LEN, Pages, Table, header, packet};
use tools::child::Role;
use tools::ledger::{Ledger, alone};
use tools::{PATIENCE, end_of, growing_pair, pair_with, text, within};

const ROLES: &[Role] = &[];

const NEXT: u8 = 4;
const BACK: u8 = 5;
const FORGET: u8 = 6;
const CAPACITY: usize = 4096;

/// A pair whose queues grow from a ring of `CAPACITY` bytes into rings of twice and four times as much.
fn three_ring_pair() -> (MessagePort, MessagePort) {
    growing_pair(CAPACITY, 7 * CAPACITY)
}

/// The memory file of a ring, valid or with one fault.
fn ring(len: usize, magic: &[u8; 8], version: u32, capacity: u64, seals: SealFlag) -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"messageport-ring", flags).expect("a memory file"));
    file.set_len(len as u64).expect("room");
    let pages = Pages::of(&file);
    let second = u64::from(version) | (HEADER_LEN as u64) << 32;
    for (index, word) in [u64::from_le_bytes(*magic), second, capacity].into_iter().enumerate() {
        pages.word(8 * index).store(word, Ordering::Relaxed);
    }
    drop(pages);
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("sealed");
    file
}

fn honest_ring(capacity: usize) -> File {
    ring(HEADER_LEN + capacity, b"msgpring", 1, capacity as u64, sealed())
}

fn sealed() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

fn link_to(attacker: &mut Attacker, file: &impl AsFd) {
    attacker.send(&packet(HANDLES, 1, attacker.sequence), &[file.as_fd()]).expect("room");
    attacker.record(NEXT, b"", 1);
}

#[track_caller]
fn assert_violated(victim: &MessagePort, violation: Violation) {
    let expected = CloseReason::ProtocolViolation(violation);
    match victim.try_recv() {
        Err(TryRecvError::Failed(RecvError::Ended(reason))) => assert_eq!(reason, expected),
        other => panic!("expected the end: {other:?}"),
    }
    assert_eq!(end_of(victim), expected);
}

/// Writes a word of a ring in a file of its own.
fn put(pages: &Pages, capacity: usize, position: u64, word: u64) {
    let place = HEADER_LEN + (position as usize & (capacity - 1));
    pages.word(place).store(word, Ordering::SeqCst);
}

#[test]
fn an_invalid_ring_ends_the_port() {
    let _alone = alone();
    let (double, len) = (2 * CAPACITY, HEADER_LEN + 2 * CAPACITY);
    let bad: Vec<(&str, File)> = vec![
        ("the first ring again", ring(HEADER_LEN + CAPACITY, b"msgpring", 1, CAPACITY as u64, sealed())),
        ("too large", ring(HEADER_LEN + 4 * double, b"msgpring", 1, 4 * double as u64, sealed())),
        ("another size than it has", ring(len, b"msgpring", 1, 2 * double as u64, sealed())),
        ("a segment", ring(len, b"msgport\0", 1, double as u64, sealed())),
        ("another version", ring(len, b"msgpring", 2, double as u64, sealed())),
        ("can shrink", ring(len, b"msgpring", 1, double as u64, SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL)),
        ("more seals possible", ring(len, b"msgpring", 1, double as u64, sealed() - SealFlag::F_SEAL_SEAL)),
        ("read only", ring(len, b"msgpring", 1, double as u64, sealed() | SealFlag::F_SEAL_FUTURE_WRITE)),
        ("not a memory file", File::open("/dev/null").expect("a device")),
    ];
    let before = Ledger::now();
    for (what, file) in &bad {
        println!("{what}");
        let (mut attacker, victim) = Attacker::new(three_ring_pair);
        attacker.record(DATA, b"before", 0);
        link_to(&mut attacker, file);
        assert_eq!(text(&victim), "before");
        assert_violated(&victim, Violation::BadLink);
        drop((attacker, victim));
        before.assert_restored(what);
    }
}

#[test]
fn a_link_from_nowhere_ends_the_port() {
    let _alone = alone();
    let before = Ledger::now();
    let file = honest_ring(2 * CAPACITY);
    type Attack<'a> = &'a dyn Fn(&mut Attacker);
    let attacks: [(&str, Violation, Attack<'_>); 6] = [
        ("back from the first ring", Violation::BadLink, &|attacker| attacker.record(BACK, b"", 0)),
        ("no descriptor", Violation::NoHandles, &|attacker| attacker.record(NEXT, b"", 1)),
        ("no descriptor, as it says", Violation::NoHandles, &|attacker| attacker.record(NEXT, b"", 0)),
        ("two descriptors", Violation::BadHandles, &|attacker| {
            attacker.send(&packet(HANDLES, 2, 0), &[file.as_fd(), file.as_fd()]).expect("room");
            attacker.record(NEXT, b"", 2);
        }),
        ("no such slot", Violation::BadLink, &|attacker| attacker.record(FORGET, &8_u64.to_ne_bytes(), 0)),
        ("no slot", Violation::BadLength, &|attacker| attacker.record(FORGET, b"1234", 0)),
    ];
    for (what, violation, attack) in attacks {
        println!("{what}");
        let (mut attacker, victim) = Attacker::new(three_ring_pair);
        attack(&mut attacker);
        assert_violated(&victim, violation);
    }
    drop(file);
    before.assert_restored("after all links");
}

#[test]
fn endless_links_end_the_port() {
    let _alone = alone();
    let before = Ledger::now();
    {
        // From the first ring into another one and back, again and again.
        let (attacker, victim) = Attacker::new(three_ring_pair);
        let file = honest_ring(2 * CAPACITY);
        let other = Pages::of(&file);
        for number in 0..100 {
            let sequence = 2 * number;
            attacker.send(&packet(HANDLES, 1, sequence), &[file.as_fd()]).expect("room");
            put(&other, 2 * CAPACITY, 16 * number + 8, header(BACK, 0, 0, sequence + 1));
            let next = attacker.pages.ring(0, 16 * number);
            next.store(header(NEXT, 0, 1, sequence), Ordering::SeqCst);
        }
        assert_violated(&victim, Violation::BadLink);
    }
    {
        let (mut attacker, victim) = Attacker::new(three_ring_pair);
        for _ in 0..200 {
            attacker.record(FORGET, &1_u64.to_ne_bytes(), 0);
        }
        assert_violated(&victim, Violation::BadLink);
    }
    before.assert_restored("after all links");
}

#[test]
fn a_flood_of_records_without_messages_does_not_hold_up_a_call() {
    let _alone = alone();
    within(PATIENCE, || {
        let (attacker, victim) = Attacker::new(three_ring_pair);
        let (pages, stop) = (&attacker.pages, &AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Always ahead of the victim's read cursor.
                for number in 0_u64.. {
                    while number * 16 > pages.cursor(0).load(Ordering::Acquire) + 2048 {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                    pages.ring(0, number * 16 + 16).store(0, Ordering::Relaxed);
                    pages.ring(0, number * 16 + 8).store(1, Ordering::Relaxed);
                    pages.ring(0, number * 16).store(header(FORGET, 8, 0, number & 0xFFFF), Ordering::SeqCst);
                }
            });
            let result = victim.recv_timeout(Duration::from_secs(5));
            stop.store(true, Ordering::Relaxed);
            assert!(matches!(result, Err(RecvTimeoutError::Failed(RecvError::Ended(_)))), "{result:?}");
        });
    });
}

#[test]
fn the_maximum_number_of_buffers_is_forgotten_at_once() {
    let _alone = alone();
    let (port, peer) = pair_with(ChannelOptions::new().capacity(CAPACITY).cached_buffers(64));
    for _ in 0..4 {
        for _ in 0..64 {
            port.post_message(b"", [TransferBuffer::new(10).expect("a buffer").into()]).expect("posted");
        }
        for _ in 0..64 {
            peer.recv().expect("a message");
        }
        assert!(matches!(peer.try_recv(), Err(TryRecvError::Empty)));
        assert_eq!(port.release_buffers().expect("a peer"), 64);
        port.post_message(b"after that", []).expect("posted");
        assert_eq!(text(&peer), "after that");
    }
}

#[test]
fn a_record_takes_at_most_seven_sixteenths_of_a_larger_ring() {
    let _alone = alone();
    let longest = 2 * CAPACITY / 16 * 7 - 8;
    for (len, fits) in [(longest, true), (longest + 1, false), (2 * CAPACITY, false)] {
        let (mut attacker, victim) = Attacker::new(three_ring_pair);
        let file = honest_ring(2 * CAPACITY);
        let other = Pages::of(&file);
        link_to(&mut attacker, &file);
        put(&other, 2 * CAPACITY, 8, header(DATA, len, 0, 1));
        if fits {
            assert_eq!(victim.try_recv().expect("a message").data, vec![0; len]);
        } else {
            assert_violated(&victim, Violation::BadLength);
        }
    }
}

#[test]
fn a_message_longer_than_the_channel_allows_ends_the_port() {
    let _alone = alone();
    for (len, fits) in [(100, true), (101, false)] {
        let (mut attacker, victim) =
            Attacker::new(|| pair_with(ChannelOptions::new().capacity(CAPACITY).max_message_len(100)));
        attacker.record(DATA, &vec![1; len], 0);
        if fits {
            assert_eq!(victim.try_recv().expect("a message").data, vec![1; len]);
        } else {
            assert_violated(&victim, Violation::BadLength);
        }
    }
}

#[test]
fn a_message_with_a_transfer_list_longer_than_the_channel_allows_ends_the_port() {
    let _alone = alone();
    for kind in [CARRIER, BUFFER] {
        for (len, fits) in [(100, true), (101, false)] {
            let (mut attacker, victim) =
                Attacker::new(|| pair_with(ChannelOptions::new().capacity(CAPACITY).max_message_len(100)));
            let data = vec![1; len];
            let payload = match kind {
                CARRIER => Table::default().payload(&data),
                _ => {
                    let padding = len.next_multiple_of(8) - len;
                    // A known buffer in slot 0, which is empty.
                    let word = 2_u64 << 56 | (padding as u64) << 60;
                    [&data, &vec![0; padding], &word.to_ne_bytes()[..]].concat()
                }
            };
            attacker.record(kind, &payload, 0);
            match (fits, kind) {
                (false, _) => assert_violated(&victim, Violation::BadLength),
                (true, CARRIER) => assert_eq!(victim.try_recv().expect("a message").data, data),
                (true, _) => {
                    let error = victim.try_recv().expect_err("no such buffer");
                    assert!(
                        matches!(&error, TryRecvError::Failed(RecvError::MessageError { data: found, .. }) if *found == data)
                    );
                }
            }
        }
    }
}
