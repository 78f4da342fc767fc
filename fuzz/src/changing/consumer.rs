//! The consumer, while its peer writes.

use crate::queue::direction::Direction;
use crate::queue::record::{Header, Kind, record_len};
use crate::queue::ring::{Consumer, Cursors, Record, payload};
use crate::queue::sync::{Ordering, expect_sequence, feed, operations, take_stored};

const CAPACITY: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The length is taken from a second load of the header.
    HeaderReadTwice,
}

pub(crate) fn run(bytes: &[u8], fault: Fault) {
    let (mut input, loads) = operations(bytes);
    feed(loads);
    take_stored(0);
    let first = Direction::new(CAPACITY);
    let position = 8 * u64::from(input.half());
    let sequence = u64::from(input.half());
    let cursors = Cursors { position, other: position, sequence, ring_start: 0 };
    let mut consumer = Consumer::new(first.clone(), cursors);
    let mut record: Option<Record> = None;
    while !input.is_empty() {
        expect_sequence(consumer.sequence());
        let before = consumer.cursors();
        let published = consumer.direction().read_cursor().value();
        let direction = consumer.direction().clone();
        let mut lines = 0..0;
        match input.byte() & 15 {
            0..4 => match consumer.peek() {
                Ok(found) => record = found,
                Err(_) => return,
            },
            4 | 5 => {
                let kind = if input.flag() { Kind::Data } else { Kind::Buffer };
                record = consumer.straight(consumer.look(), kind);
            }
            6 => drop(consumer.has_record()),
            7 => drop(consumer.announce()),
            8 => {
                if let Some(record) = record {
                    let mut data = Vec::new();
                    let mut record = record;
                    if fault == Fault::HeaderReadTwice {
                        let word = direction.header(payload(record) - 8).load(Ordering::Relaxed);
                        record.len = Header::decode(word).map_or(record.len, |header| header.len as usize);
                        record.len = record.len.min(1 << 20);
                    }
                    consumer.read_to_vec(record, &mut data);
                    assert_eq!(data.len(), record.len);
                }
            }
            9 => {
                if let Some(record) = record {
                    let offset = input.below(record.len + 1);
                    consumer.read(record, offset, &mut vec![0; record.len - offset]);
                }
            }
            10 => {
                if let Some(record) = record {
                    consumer.take_lines(record);
                    lines = payload(record) - 8..payload(record) - 8 + record_len(record.len);
                }
            }
            _ => {
                if let Some(record) = record.take() {
                    match record.kind {
                        Kind::Next => drop(consumer.go_on_in(consumer.direction().in_next_ring(), record)),
                        Kind::Back if consumer.direction().is_grown() => drop(consumer.go_on_in(first.clone(), record)),
                        Kind::Data | Kind::Carrier | Kind::Buffer => drop(consumer.release(record)),
                        Kind::Forget => {
                            if consumer.pass().is_err() {
                                return;
                            }
                            consumer.release(record);
                        }
                        Kind::Back => return,
                        Kind::Pad => panic!("a pad was given out"),
                    }
                }
            }
        }
        if consumer.direction().capacity() > 1 << 15 {
            return;
        }
        let after = consumer.cursors();
        direction.assert_stored_only_in(lines, "the consumer's");
        assert!(after.position >= before.position && after.position.is_multiple_of(8), "{before:?}, then {after:?}");
        assert!(after.position - before.position <= direction.capacity(), "{before:?}, then {after:?}");
        assert!(after.sequence - before.sequence <= 1);
        let now = consumer.direction().read_cursor().value();
        assert!(now == published || now == after.position, "a cursor of {now} at {after:?}");
        if let Some(record) = record {
            let start = payload(record) - 8;
            assert!(record_len(record.len) <= direction.until_end(start), "{record:?} outside the ring");
            assert!(record_len(record.len) <= CAPACITY as u64 * 7 / 16, "{record:?} is too long");
            assert_eq!(start, after.position, "a record that is not the next");
        }
    }
}
