//! The consumer of a ring of arbitrary bytes, against a second reader that is written from the description of the
//! format.

use std::cell::OnceCell;
use std::sync::atomic::Ordering;

use crate::input::Input;
use crate::layout::{Limits, MIN_CAPACITY};
use crate::queue::direction::Direction;
use crate::queue::record::RecordKind;
use crate::queue::ring::{Consumer, Cursors};
use crate::queue::segment::Segment;
use crate::violation::Violation;

/// The ring has the smallest capacity, 4096 bytes.
const CAPACITY: usize = MIN_CAPACITY;
/// A reader stops after 64 records: static bytes are read round and round until a sequence number is wrong.
const MAX_RECORDS: usize = 64;
/// The channel allows messages of up to 1000 bytes, fewer than fit.
const MAX_MESSAGE_LEN: usize = 1000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The reader uses the length of a record unchecked, cut so that it stays inside the ring.
    LengthTrusted,
    /// The reader does not check sequence numbers.
    SequenceIgnored,
}

/// What a reader decodes: the records, each with its kind, its number of descriptors and its payload, and how they end.
#[derive(PartialEq, Eq, Debug)]
struct Decoded {
    records: Vec<(u8, u8, Vec<u8>)>,
    violation: Option<Violation>,
}

pub(crate) fn run(bytes: &[u8]) {
    run_with(bytes, Fault::None);
}

pub(crate) fn run_with(bytes: &[u8], fault: Fault) {
    let mut input = Input::new(bytes);
    let position = input.below(CAPACITY) as u64 & !7;
    let sequence = u64::from(input.half_word());
    let content = content(&mut input, position as usize, sequence);
    let expected = read_by_the_book(&content, position, sequence);
    let decoded =
        if fault == Fault::None { read(&content, position, sequence) } else { faulty(&content, position, fault) };
    assert!(decoded == expected, "the reader differs from the format: {decoded:?} instead of {expected:?}");
}

/// The bytes of the ring: records that are nearly valid, as the input directs, and bytes of the input.
fn content(input: &mut Input<'_>, position: usize, sequence: u64) -> [u8; CAPACITY] {
    let mut content = [0; CAPACITY];
    let (mut at, mut number) = (position, sequence);
    while !input.is_empty() {
        let shape = input.byte();
        let rest = CAPACITY - at;
        let len = match shape >> 4 & 7 {
            0..3 => usize::from(input.byte()),
            3 => rest - 8,
            4 => 1784, // the longest payload
            5 => usize::from(input.half_word()),
            6 => 0,
            _ => input.word() as u32 as usize,
        };
        let handles = if shape & 8 == 0 { 0 } else { input.byte() };
        let kind = shape & 7;
        let off = u64::from(shape >> 7 != 0 && input.flag());
        let header =
            len as u64 | u64::from(kind) << 32 | u64::from(handles) << 40 | (number.wrapping_add(off) & 0xFFFF) << 48;
        content[at..at + 8].copy_from_slice(&header.to_le_bytes());
        let raw = input.bytes(usize::from(shape == 0xFF) * 40);
        let room = (rest - 8).min(raw.len());
        content[at + 8..at + 8 + room].copy_from_slice(&raw[..room]);
        at = (at + 8 + len.next_multiple_of(8)) % CAPACITY; // a multiple of 8
        number += u64::from(kind != RecordKind::Pad as u8);
    }
    content
}

fn direction(content: &[u8; CAPACITY]) -> Direction {
    thread_local! {
        static DIRECTION: OnceCell<Direction> = const { OnceCell::new() };
    }
    let limits = Limits {
        capacity: CAPACITY,
        max_capacity: CAPACITY,
        max_handles: 253,
        max_message_len: MAX_MESSAGE_LEN,
        cached_buffers: 0,
        cached_bytes: 0,
    };
    let make = || Segment::create(limits, "").expect("a segment").direction(0);
    let direction = DIRECTION.with(|direction| direction.get_or_init(make).clone());
    direction.write(0, content);
    direction
}

/// The library's consumer. Each record is found both by `decode_common` and by `peek`.
fn read(content: &[u8; CAPACITY], position: u64, sequence: u64) -> Decoded {
    let cursors = Cursors { position, other: position, sequence, ring_start: 0 };
    let direction = direction(content);
    let mut consumer = Consumer::new(direction.clone(), cursors);
    let mut decoded = Decoded { records: Vec::new(), violation: None };
    while decoded.records.len() < MAX_RECORDS {
        let common = consumer.decode_common(consumer.poll());
        let has_record = consumer.has_record();
        let record = match consumer.next_record() {
            Ok(Some(record)) => record,
            Ok(None) => {
                assert!(!has_record && common.is_none());
                break;
            }
            Err(violation) => {
                assert!(common.is_none(), "`decode_common` finds a record, `peek` a violation");
                decoded.violation = Some(violation);
                break;
            }
        };
        if let Some(common) = common {
            assert_eq!(format!("{common:?}"), format!("{record:?}"), "`decode_common` and `peek` differ");
        }
        let mut data = Vec::new();
        consumer.read_to_vec(record, &mut data);
        let mut end = vec![0; record.len / 2];
        consumer.read(record, record.len - end.len(), &mut end);
        assert!(data.ends_with(&end));
        decoded.records.push((record.kind as u8, record.handles, data));
        let before = consumer.cursors().position;
        consumer.release(record);
        assert!(consumer.cursors().position - before <= CAPACITY as u64);
    }
    // Relaxed: there is one thread.
    assert!(direction.read_cursor().load(Ordering::Relaxed) <= consumer.cursors().position);
    direction.read_cursor().store(0, Ordering::Relaxed);
    decoded
}

/// The format as `record.rs` and `ring.rs` describe it, step by step.
fn read_by_the_book(content: &[u8; CAPACITY], mut position: u64, mut sequence: u64) -> Decoded {
    let mut decoded = Decoded { records: Vec::new(), violation: None };
    let mut after_pad = false;
    while decoded.records.len() < MAX_RECORDS {
        let at = position as usize % CAPACITY;
        let header = u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
        if header == 0 && !after_pad {
            break;
        }
        let (len, kind, handles) = (header as u32 as usize, (header >> 32) as u8, (header >> 40) as u8);
        let end = at + 8 + len.next_multiple_of(8);
        let violation = if !(1..=7).contains(&kind) {
            Some(Violation::UnknownKind)
        } else if header >> 48 != sequence & 0xFFFF {
            Some(Violation::BadSequence)
        } else if kind == 1 && (after_pad || at == 0 || end != CAPACITY || handles != 0) {
            Some(Violation::BadPad)
        } else if kind == 1 {
            (after_pad, position) = (true, position + (CAPACITY - at) as u64);
            continue;
        } else if end > CAPACITY || len > CAPACITY * 7 / 16 - 8 || kind == 2 && len > MAX_MESSAGE_LEN {
            Some(Violation::BadLength)
        } else if handles > 0 && kind != 3 && (kind, len, handles) != (4, 0, 1) {
            Some(Violation::BadHandles)
        } else {
            None
        };
        if violation.is_some() {
            decoded.violation = violation;
            break;
        }
        decoded.records.push((kind, handles, content[at + 8..at + 8 + len].to_vec()));
        position += (end - at) as u64;
        sequence += 1;
        after_pad = false;
    }
    decoded
}

/// A reader without one of the checks.
fn faulty(content: &[u8; CAPACITY], position: u64, fault: Fault) -> Decoded {
    let mut content = *content;
    let at = position as usize % CAPACITY;
    let header = u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
    let sequence = match fault {
        Fault::SequenceIgnored => header >> 48,
        _ => 0,
    };
    if fault == Fault::LengthTrusted {
        // Replaces the length by one that fits.
        let header = header & !0xFFFF_FFFF | (header as u32 as u64).min(64);
        content[at..at + 8].copy_from_slice(&header.to_le_bytes());
        return read(&content, position, header >> 48);
    }
    read(&content, position, sequence)
}
