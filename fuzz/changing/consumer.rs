//! The consumer, while the producer writes anything.

use crate::queue::direction::Direction;
use crate::queue::record::{RECORD_HEADER_LEN, RecordHeader, RecordKind, record_len};
use crate::queue::ring::{Consumer, Cursors, Record};
use crate::queue::sync::{Ordering, expect_sequence, feed, split_input, take_stored};

/// The first ring has 4096 bytes.
const CAPACITY: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The length is taken from a second load of the header.
    HeaderReadTwice,
}

pub(crate) fn run(bytes: &[u8], fault: Fault) {
    let (mut input, loads) = split_input(bytes);
    feed(loads);
    take_stored(0);
    let first = Direction::new(CAPACITY);
    let position = 8 * u64::from(input.half_word());
    let sequence = u64::from(input.half_word());
    let cursors = Cursors { position, other: position, sequence, ring_start: 0 };
    let mut consumer = Consumer::new(first.clone(), cursors);
    let mut record: Option<Record> = None;
    while !input.is_empty() {
        expect_sequence(consumer.sequence());
        let before = consumer.cursors();
        let published = consumer.direction().read_cursor().get();
        let direction = consumer.direction().clone();
        let mut own = 0..0;
        match input.byte() & 15 {
            0..4 => match consumer.next_record() {
                Ok(found) => record = found,
                Err(_) => return,
            },
            4 | 5 => {
                // As `RecvHalf::try_next`.
                let waits = input.flag();
                let mut word = consumer.poll();
                if word == 0 && waits {
                    consumer.publish();
                    word = consumer.poll();
                }
                record = consumer.decode_common(word);
            }
            6 => _ = consumer.has_record(),
            7 => _ = consumer.announce(),
            8 => {
                if let Some(record) = record {
                    let mut data = Vec::new();
                    let mut record = record;
                    if fault == Fault::HeaderReadTwice {
                        let word = direction.header(start(record)).load(Ordering::Relaxed);
                        record.len = RecordHeader::decode(word).map_or(record.len, |header| header.len as usize);
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
                    consumer.own_lines(record);
                    own = start(record)..start(record) + record_len(record.len);
                }
            }
            _ => {
                if let Some(record) = record.take() {
                    // Whether the producer must be woken does not matter here.
                    match record.kind {
                        RecordKind::Next => _ = consumer.go_on_in(consumer.direction().in_next_ring(), record),
                        RecordKind::Back if consumer.direction().is_grown() => {
                            _ = consumer.go_on_in(first.clone(), record);
                        }
                        RecordKind::Data | RecordKind::Carrier | RecordKind::Buffer => _ = consumer.release(record),
                        RecordKind::Forget => {
                            if consumer.pass().is_err() {
                                return;
                            }
                            consumer.release(record);
                        }
                        RecordKind::Back => return,
                        RecordKind::Pad => panic!("`peek` returned a pad"),
                    }
                }
            }
        }
        if consumer.direction().capacity() > 1 << 15 {
            return;
        }
        let after = consumer.cursors();
        direction.assert_stored_only_in(own, "the consumer's");
        assert!(after.position >= before.position && after.position.is_multiple_of(8), "{before:?}, then {after:?}");
        assert!(after.position - before.position <= direction.capacity(), "{before:?}, then {after:?}");
        assert!(after.sequence - before.sequence <= 1);
        let now = consumer.direction().read_cursor().get();
        assert!(now == published || now == after.position, "the published cursor is {now}: {after:?}");
        if let Some(record) = record {
            let start = start(record);
            assert!(record_len(record.len) <= direction.until_end(start), "{record:?} outside the ring");
            assert!(record_len(record.len) <= direction.capacity() * 7 / 16, "{record:?} is too long");
            assert_eq!(start, after.position, "the record is not the next");
        }
    }
}

/// The position of the record's header.
fn start(record: Record) -> u64 {
    record.payload() - RECORD_HEADER_LEN as u64
}
