//! The ring against a queue of the standard library, and against a peer that breaks the format.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::direction::Direction;
use super::record::{RecordHeader, RecordKind, max_payload, record_len};
use super::ring::{Consumer, Cursors, NoRoom, Producer, Record};
use super::segment::Segment;
use crate::layout::{Limits, MIN_CAPACITY};
use crate::violation::Violation;

fn ring() -> (Direction, Producer, Consumer) {
    let limits = Limits {
        capacity: MIN_CAPACITY,
        max_capacity: MIN_CAPACITY,
        max_handles: 0,
        max_message_len: MIN_CAPACITY,
        cached_buffers: 0,
        cached_bytes: 0,
    };
    let direction = Segment::create(limits, "").unwrap().direction(0);
    let producer = Producer::new(direction.clone(), Cursors::START);
    let consumer = Consumer::new(direction.clone(), Cursors::START);
    (direction, producer, consumer)
}

fn post(producer: &mut Producer, data: &[u8]) -> Result<(), NoRoom> {
    let slot = producer.claim(data.len())?;
    producer.write(slot, 0, data);
    producer.commit(slot, data.len(), RecordKind::Data, 0);
    Ok(())
}

fn recv(consumer: &mut Consumer) -> Option<Vec<u8>> {
    let record = consumer.next_record().unwrap()?;
    let mut data = Vec::new();
    consumer.read_to_vec(record, &mut data);
    consumer.release(record);
    Some(data)
}

/// A small, fast and deterministic generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Posts by the fast path. Returns false if the fast path does not take the message.
fn put(producer: &mut Producer, data: &[u8], fenced: bool) -> bool {
    let prepared = producer.claim_prepared(data.len());
    let Some(claim) = prepared.or_else(|| producer.try_claim(data.len())) else { return false };
    producer.fill(claim, data);
    if fenced {
        producer.commit(claim, data.len(), RecordKind::Data, 0);
    } else {
        producer.commit_unfenced(claim, data.len(), RecordKind::Data, 0);
    }
    true
}

/// The next record, if the fast path takes it as plain data.
fn poll_data(consumer: &Consumer) -> Option<Record> {
    consumer.decode_common(consumer.poll()).filter(|record| record.kind == RecordKind::Data)
}

/// Receives by the fast path. `None` if the fast path does not take the next record.
fn recv_fast(consumer: &mut Consumer) -> Option<Vec<u8>> {
    let record = poll_data(consumer)?;
    let mut data = Vec::new();
    consumer.read_to_vec(record, &mut data);
    consumer.own_lines(record);
    consumer.release(record);
    Some(data)
}

#[test]
fn a_ring_behaves_like_a_queue() {
    let (direction, mut producer, mut consumer) = ring();
    let mut expected = VecDeque::new();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let max = max_payload(MIN_CAPACITY);
    for round in 0..100_000_u32 {
        // In turns a queue that is mostly full, and a queue that is mostly empty.
        let filling = round / 500 % 2 == 0;
        let len = match random.below(8) {
            0 | 1 => random.below(max + 1),
            2 => size_of::<u64>(),
            3 => random.below(9), // records of one or two words, which end at any word
            _ => random.below(80),
        };
        let data: Vec<u8> = (0..len).map(|index| (round as usize + index) as u8 | 1).collect();
        match random.below(if filling { 10 } else { 16 }) {
            0..2 => match post(&mut producer, &data) {
                Ok(()) => {
                    expected.push_back(data);
                    producer.prepare_next(len);
                }
                Err(no_room) => {
                    assert_eq!(no_room, NoRoom::Full);
                    assert!(!expected.is_empty(), "an empty queue took no message of {len} bytes");
                }
            },
            2..4 => {
                if put(&mut producer, &data, random.below(2) == 0) {
                    expected.push_back(data);
                    if random.below(2) == 0 {
                        producer.prepare_next(len);
                    }
                } else {
                    assert!(!expected.is_empty(), "an empty queue took no message of {len} bytes");
                }
            }
            4 => {
                // Written and not committed: no effect.
                if let Ok(slot) = producer.claim(len) {
                    producer.write(slot, 0, &vec![0xFF; len]);
                }
            }
            5 => {
                // Reserved for more than is committed.
                if let Ok(slot) = producer.claim(len) {
                    producer.write(slot, 0, &vec![0xFF; len]);
                    let shorter = random.below(len + 1);
                    producer.write(slot, 0, &data[..shorter]);
                    producer.commit(slot, shorter, RecordKind::Data, 0);
                    expected.push_back(data[..shorter].to_vec());
                }
            }
            6 => match random.below(8) {
                // Both ends move to other holders.
                0 => producer = Producer::new(direction.clone(), producer.cursors()),
                1 => {
                    consumer.announce();
                    consumer = Consumer::new(direction.clone(), consumer.cursors());
                }
                _ => {}
            },
            // By the fast path, otherwise by the general path.
            7 => {
                if let Some(data) = recv_fast(&mut consumer) {
                    assert_eq!(Some(data), expected.pop_front());
                }
            }
            _ => assert_eq!(recv(&mut consumer), expected.pop_front()),
        }
    }
}

#[test]
fn the_fast_path_leaves_other_cases_to_the_general_path() {
    let good = RecordHeader { kind: RecordKind::Data, len: 8, handles: 0, sequence: 0 };
    let max = max_payload(MIN_CAPACITY) as u32;
    let cases = [
        (good, true),
        (RecordHeader { len: max, ..good }, true),
        (RecordHeader { len: max + 1, ..good }, false),
        (RecordHeader { len: u32::MAX, ..good }, false),
        (RecordHeader { kind: RecordKind::Pad, ..good }, false),
        (RecordHeader { kind: RecordKind::Buffer, ..good }, false),
        (RecordHeader { handles: 1, ..good }, false),
        (RecordHeader { sequence: 1, ..good }, false),
    ];
    for (header, taken) in cases {
        let (direction, _, consumer) = ring();
        assert!(poll_data(&consumer).is_none(), "an empty queue");
        direction.header(0).store(header.encode(), Ordering::Relaxed);
        assert_eq!(poll_data(&consumer).is_some(), taken, "{header:?}");
    }
    let (_, mut producer, _) = ring();
    assert!(!put(&mut producer, &vec![0; max as usize + 1], true));
    assert!(put(&mut producer, &vec![0; max as usize], true));
    // A record that would pass the end of the ring.
    let (direction, mut producer, mut consumer) = ring();
    for _ in 0..4 {
        post(&mut producer, &[1; 992]).unwrap();
        recv(&mut consumer).unwrap();
    }
    let rest = (MIN_CAPACITY - 4 * 1000 - 8) as u32;
    for (len, taken) in [(rest, true), (rest + 1, false)] {
        let header = RecordHeader { len, sequence: 4, ..good };
        direction.header(4 * 1000).store(header.encode(), Ordering::Relaxed);
        assert_eq!(poll_data(&consumer).is_some(), taken, "{header:?}");
    }
}

#[test]
fn an_empty_queue_takes_the_longest_message_at_every_offset() {
    let (_, mut producer, mut consumer) = ring();
    let longest = vec![7; max_payload(MIN_CAPACITY)];
    for _ in 0..2 * MIN_CAPACITY / 8 {
        post(&mut producer, &longest).unwrap();
        assert_eq!(recv(&mut consumer).unwrap(), longest);
        post(&mut producer, b"").unwrap(); // advances by 8
        assert_eq!(recv(&mut consumer).unwrap(), b"");
    }
}

#[test]
fn every_violation_is_found() {
    let header = |kind, len, handles, sequence| RecordHeader { kind, len, handles, sequence }.encode();
    let good = header(RecordKind::Data, 8, 0, 0);
    let cases = [
        (good & !(0xFF << 32), Violation::UnknownKind),
        (good | 0xFF << 32, Violation::UnknownKind),
        (header(RecordKind::Data, max_payload(MIN_CAPACITY) as u32 + 1, 0, 0), Violation::BadLength),
        (header(RecordKind::Data, u32::MAX, 0, 0), Violation::BadLength),
        (header(RecordKind::Data, 8, 0, 1), Violation::BadSequence),
        (header(RecordKind::Data, 8, 1, 0), Violation::BadHandles),
        (header(RecordKind::Pad, MIN_CAPACITY as u32 - 8, 0, 0), Violation::BadPad), // at the start of the ring
    ];
    for (word, violation) in cases {
        let (direction, _, mut consumer) = ring();
        direction.header(0).store(word, Ordering::Relaxed);
        assert_eq!(consumer.next_record().unwrap_err(), violation, "{word:#x}");
    }
}

#[test]
fn a_record_ends_inside_the_ring_and_a_pad_fills_it() {
    let data = |len, sequence| RecordHeader { kind: RecordKind::Data, len, handles: 0, sequence }.encode();
    let pad = |len| RecordHeader { kind: RecordKind::Pad, len, handles: 0, sequence: 4 }.encode();
    let start = 4 * 1000;
    let rest = (MIN_CAPACITY - start - 8) as u32;
    let cases = [
        (data(rest + 8, 4), 0, Violation::BadLength),
        (pad(rest - 8), data(8, 4), Violation::BadPad),
        (pad(rest + 8), data(8, 4), Violation::BadPad),
        (pad(rest), pad(8), Violation::BadPad),
        (pad(rest), 0, Violation::UnknownKind),
        (pad(rest), data(8, 5), Violation::BadSequence),
    ];
    for (here, at_the_beginning, violation) in cases {
        let (direction, mut producer, mut consumer) = ring();
        for _ in 0..4 {
            post(&mut producer, &[1; 992]).unwrap();
            recv(&mut consumer).unwrap();
        }
        direction.header(start as u64).store(here, Ordering::Relaxed);
        direction.header(0).store(at_the_beginning, Ordering::Relaxed);
        assert_eq!(consumer.next_record().unwrap_err(), violation, "{here:#x}");
    }
}

#[test]
fn a_peers_cursor_is_checked() {
    for (cursor, fits) in [(8, false), (2 * record_len(1000), true), (1 << 40, false), (u64::MAX, false), (4, false)] {
        let (direction, mut producer, _) = ring();
        for _ in 0..4 {
            post(&mut producer, &[1; 1000]).unwrap_or(());
        }
        direction.read_cursor().store(cursor, Ordering::Relaxed);
        let result = producer.claim(1000).map(drop);
        let expected = match (fits, cursor) {
            (true, _) => Ok(()),
            (false, 8) => Err(NoRoom::Full), // possible, and too little space
            _ => Err(NoRoom::Violation(Violation::BadCursor)),
        };
        assert_eq!(result, expected, "{cursor}");
    }
}

#[test]
fn a_cursor_that_goes_back_is_a_violation() {
    let (direction, mut producer, mut consumer) = ring();
    for _ in 0..6 {
        post(&mut producer, &[1; 1000]).unwrap(); // more than the ring holds: the producer has read the cursor
        recv(&mut consumer).unwrap();
    }
    direction.read_cursor().store(0, Ordering::Relaxed);
    let mut results = (0..8).map(|_| post(&mut producer, &[1; 1000]));
    assert!(results.any(|result| result == Err(NoRoom::Violation(Violation::BadCursor))));
}

#[test]
fn headers_survive_encoding() {
    for kind in [RecordKind::Pad, RecordKind::Data, RecordKind::Carrier] {
        let header = RecordHeader { kind, len: 0xDEAD_BEEF, handles: 253, sequence: 0xABCD };
        assert_ne!(header.encode(), 0);
        assert_eq!(RecordHeader::decode(header.encode()), Ok(header));
    }
}
