//! The producer, while its peer writes the cursor.

use crate::queue::direction::Direction;
use crate::queue::record::{Kind, max_payload};
use crate::queue::ring::{Cursors, NoRoom, Producer, Slot};
use crate::queue::sync::{Ordering, feed, operations, take_stored};

const CAPACITY: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// What is free is computed from another load of the cursor than the one that was checked.
    CursorReadTwice,
}

pub(crate) fn run(bytes: &[u8], fault: Fault) {
    let (mut input, loads) = operations(bytes);
    feed(loads);
    take_stored(0);
    let first = Direction::new(CAPACITY);
    let start = 8 * u64::from(input.half());
    first.read_cursor().store(start, Ordering::Relaxed);
    let cursors = Cursors { position: start, other: start, sequence: 0, ring_start: 0 };
    let mut producer = Producer::new(first.clone(), cursors);
    let mut slot: Option<(Slot, usize)> = None;
    for _ in 0..200 {
        if input.is_empty() {
            return;
        }
        let before = producer.cursors();
        let direction = producer.direction().clone();
        match input.byte() & 15 {
            0..5 => {
                let len = match input.byte() {
                    len @ 0..128 => usize::from(len),
                    _ => input.below(max_payload(CAPACITY) + 1),
                };
                match producer.reserve(len) {
                    Ok(found) => slot = Some((found, len)),
                    Err(NoRoom::Full) => slot = None,
                    Err(NoRoom::Violation(_)) => return,
                }
                if let Some((slot, _)) = slot {
                    producer.write(slot, 0, &vec![1; len]);
                }
            }
            5..9 => {
                if let Some((slot, room)) = slot.take() {
                    let len = if input.flag() { room } else { input.below(room + 1) };
                    producer.commit(slot, len, Kind::Data, 0);
                    producer.clear_ahead(len);
                }
            }
            9 | 10 => {
                slot = None;
                let data = vec![1; usize::from(input.byte())];
                let posted = if input.flag() { producer.put(&data) } else { producer.put_unfenced(&data) };
                if posted {
                    producer.clear_ahead(data.len());
                }
            }
            11 => {
                if producer.unread().is_err() {
                    return;
                }
            }
            12 | 13 => {
                slot = None;
                if producer.direction().capacity() < 1 << 14 {
                    producer.go_on_in(producer.direction().in_next_ring(), Kind::Next);
                }
            }
            _ => match producer.unread() {
                Ok(0) if producer.direction().is_grown() => {
                    slot = None;
                    producer.go_on_in(first.clone(), Kind::Back);
                }
                Ok(_) => {}
                Err(_) => return,
            },
        }
        if fault == Fault::CursorReadTwice {
            let seen = direction.read_cursor().load(Ordering::Relaxed);
            producer = Producer::new(producer.direction().clone(), Cursors { other: seen, ..producer.cursors() });
        }
        let after = producer.cursors();
        let plausible = after.other >= before.other && after.other <= after.position;
        assert!(plausible, "a cursor that was not checked: {before:?}, then {after:?}");
        // What the consumer has not given back is not the producer's, nor what was committed.
        let free = after.other.max(before.ring_start) + direction.capacity();
        direction.assert_stored_only_in(before.position..free, "the producer's");
        assert!(after.position - after.other.max(after.ring_start) <= producer.direction().capacity());
    }
}
