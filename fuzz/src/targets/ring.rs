//! The reader of a ring over arbitrary bytes, against a reader written from the description of the format.

use std::cell::OnceCell;
use std::sync::atomic::Ordering;

use crate::input::Input;
use crate::layout::Limits;
use crate::layout::MIN_CAPACITY;
use crate::queue::direction::Direction;
use crate::queue::record::Kind;
use crate::queue::ring::{Consumer, Cursors};
use crate::queue::segment::Segment;
use crate::violation::Violation;

const CAPACITY: usize = MIN_CAPACITY;
/// Static bytes are read round and round until a sequence number is wrong; this is enough of them.
const RECORDS: usize = 64;
const MAX_MESSAGE_LEN: usize = 1000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The length of a record is used unchecked, although it stays inside the ring.
    LengthTrusted,
    SequenceIgnored,
}

/// What a reader makes of the bytes: records, and how they end.
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    records: Vec<(u8, usize, Vec<u8>)>,
    violation: Option<Violation>,
}

pub(crate) fn run(bytes: &[u8]) {
    run_with(bytes, Fault::None);
}

pub(crate) fn run_with(bytes: &[u8], fault: Fault) {
    let mut input = Input::new(bytes);
    let position = input.below(CAPACITY) as u64 & !7;
    let sequence = u64::from(input.half());
    let content = content(&mut input, position as usize, sequence);
    let expected = read_by_the_book(&content, position, sequence);
    let seen =
        if fault == Fault::None { read(&content, position, sequence) } else { faulty(&content, position, fault) };
    assert!(seen == expected, "what is read differs from the format: {seen:?} instead of {expected:?}");
}

/// The bytes of the ring: records that are nearly right, as instructions say, and bytes as they come.
fn content(input: &mut Input<'_>, position: usize, sequence: u64) -> [u8; CAPACITY] {
    let mut content = [0; CAPACITY];
    let (mut place, mut number) = (position, sequence);
    while !input.is_empty() {
        let what = input.byte();
        let rest = CAPACITY - place;
        let len = match what >> 4 & 7 {
            0..3 => usize::from(input.byte()),
            3 => rest - 8,
            4 => 1784, // the longest
            5 => usize::from(input.half()),
            6 => 0,
            _ => input.word() as u32 as usize,
        };
        let handles = if what & 8 == 0 { 0 } else { input.byte() };
        let kind = what & 7;
        let off = u64::from(what >> 7 != 0 && input.flag());
        let header =
            len as u64 | u64::from(kind) << 32 | u64::from(handles) << 40 | (number.wrapping_add(off) & 0xFFFF) << 48;
        content[place..place + 8].copy_from_slice(&header.to_le_bytes());
        let raw = input.bytes(usize::from(what == 0xFF) * 40);
        let room = (rest - 8).min(raw.len());
        content[place + 8..place + 8 + room].copy_from_slice(&raw[..room]);
        place = (place + 8 + len.next_multiple_of(8)) % CAPACITY; // a multiple of 8
        number += u64::from(kind != Kind::Pad as u8);
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
    let make = || Segment::create(limits).expect("a segment").direction(0);
    let direction = DIRECTION.with(|direction| direction.get_or_init(make).clone());
    direction.write(0, content);
    direction
}

/// The library's reader. Each record is looked at in both ways.
fn read(content: &[u8; CAPACITY], position: u64, sequence: u64) -> Seen {
    let cursors = Cursors { position, other: position, sequence, ring_start: 0 };
    let direction = direction(content);
    let mut consumer = Consumer::new(direction.clone(), cursors);
    let mut seen = Seen { records: Vec::new(), violation: None };
    while seen.records.len() < RECORDS {
        let quick = consumer.straight(consumer.look(), Kind::Data);
        let waiting = consumer.has_record();
        let record = match consumer.peek() {
            Ok(Some(record)) => record,
            Ok(None) => {
                assert!(!waiting && quick.is_none());
                break;
            }
            Err(violation) => {
                assert!(quick.is_none(), "one look finds a record, the other one a violation");
                seen.violation = Some(violation);
                break;
            }
        };
        if let Some(quick) = quick {
            assert_eq!(format!("{quick:?}"), format!("{record:?}"), "the two looks differ");
        }
        let mut data = Vec::new();
        consumer.read_to_vec(record, &mut data);
        let mut again = vec![0; record.len / 2];
        consumer.read(record, record.len - again.len(), &mut again);
        assert!(data.ends_with(&again));
        seen.records.push((record.kind as u8, record.handles, data));
        let before = consumer.cursors().position;
        consumer.release(record);
        assert!(consumer.cursors().position - before <= CAPACITY as u64);
    }
    assert!(direction.read_cursor().load(Ordering::Relaxed) <= consumer.cursors().position);
    direction.read_cursor().store(0, Ordering::Relaxed);
    seen
}

/// The format, step by step: see `record.rs` and `ring.rs`.
fn read_by_the_book(content: &[u8; CAPACITY], mut position: u64, mut sequence: u64) -> Seen {
    let mut seen = Seen { records: Vec::new(), violation: None };
    let mut after_pad = false;
    while seen.records.len() < RECORDS {
        let place = position as usize % CAPACITY;
        let header = u64::from_le_bytes(content[place..place + 8].try_into().expect("eight bytes"));
        if header == 0 && !after_pad {
            break;
        }
        let (len, kind, handles) = (header as u32 as usize, (header >> 32) as u8, (header >> 40) as u8);
        let end = place + 8 + len.next_multiple_of(8);
        let violation = if !(1..=7).contains(&kind) {
            Some(Violation::UnknownKind)
        } else if header >> 48 != sequence & 0xFFFF {
            Some(Violation::BadSequence)
        } else if kind == 1 && (after_pad || place == 0 || end != CAPACITY || handles != 0) {
            Some(Violation::BadPad)
        } else if kind == 1 {
            (after_pad, position) = (true, position + (CAPACITY - place) as u64);
            continue;
        } else if end > CAPACITY || len > CAPACITY * 7 / 16 - 8 || kind == 2 && len > MAX_MESSAGE_LEN {
            Some(Violation::BadLength)
        } else if handles > 0 && kind != 3 && (kind, len, handles) != (4, 0, 1) {
            Some(Violation::BadHandles)
        } else {
            None
        };
        if violation.is_some() {
            seen.violation = violation;
            break;
        }
        seen.records.push((kind, handles.into(), content[place + 8..place + 8 + len].to_vec()));
        position += (end - place) as u64;
        sequence += 1;
        after_pad = false;
    }
    seen
}

/// A reader that leaves out a check.
fn faulty(content: &[u8; CAPACITY], position: u64, fault: Fault) -> Seen {
    let mut content = *content;
    let place = position as usize % CAPACITY;
    let header = u64::from_le_bytes(content[place..place + 8].try_into().expect("eight bytes"));
    let sequence = match fault {
        Fault::SequenceIgnored => header >> 48,
        _ => 0,
    };
    if fault == Fault::LengthTrusted {
        // As if the length had been one that fits.
        let header = header & !0xFFFF_FFFF | (header as u32 as u64).min(64);
        content[place..place + 8].copy_from_slice(&header.to_le_bytes());
        return read(&content, position, header >> 48);
    }
    read(&content, position, sequence)
}
