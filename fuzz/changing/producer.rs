//! The producer, while the consumer writes any read cursor.

use crate::queue::direction::Direction;
use crate::queue::record::{RecordKind, max_payload};
use crate::queue::ring::{Claim, Cursors, NoRoom, Producer};
use crate::queue::sync::{Ordering, feed, split_input, take_stored};

/// The first ring has 4096 bytes.
const CAPACITY: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The free space is computed from a second load of the cursor, which is not checked.
    CursorReadTwice,
}

pub(crate) fn run(bytes: &[u8], fault: Fault) {
    let (mut input, loads) = split_input(bytes);
    feed(loads);
    take_stored(0);
    let first = Direction::new(CAPACITY);
    let start = 8 * u64::from(input.half_word());
    first.read_cursor().store(start, Ordering::Relaxed);
    let cursors = Cursors { position: start, other: start, sequence: 0, ring_start: 0 };
    let mut producer = Producer::new(first.clone(), cursors);
    let mut claim: Option<(Claim, usize)> = None;
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
                match producer.claim(len) {
                    Ok(found) => claim = Some((found, len)),
                    Err(NoRoom::Full) => claim = None,
                    Err(NoRoom::Violation(_)) => return,
                }
                if let Some((claim, _)) = claim {
                    producer.write(claim, 0, &vec![1; len]);
                }
            }
            5..9 => {
                if let Some((claim, room)) = claim.take() {
                    let len = if input.flag() { room } else { input.below(room + 1) };
                    producer.commit(claim, len, RecordKind::Data, 0);
                    producer.prepare_next(len);
                }
            }
            9 | 10 => {
                claim = None;
                // As `SendHalf::try_post_inline` and `SendHalf::post_messages`.
                let data = vec![1; usize::from(input.byte())];
                let fenced = input.flag();
                let found = producer.claim_prepared(data.len()).or_else(|| producer.try_claim(data.len()));
                if let Some(claim) = found {
                    producer.fill(claim, &data);
                    if fenced {
                        producer.commit(claim, data.len(), RecordKind::Data, 0);
                    } else {
                        producer.commit_unfenced(claim, data.len(), RecordKind::Data, 0);
                    }
                    producer.prepare_next(data.len());
                }
            }
            11 => {
                if producer.unread().is_err() {
                    return;
                }
            }
            12 | 13 => {
                claim = None;
                if producer.direction().capacity() < 1 << 14 {
                    producer.go_on_in(producer.direction().in_next_ring(), RecordKind::Next);
                }
            }
            _ => match producer.unread() {
                Ok(0) if producer.direction().is_grown() => {
                    claim = None;
                    producer.go_on_in(first.clone(), RecordKind::Back);
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
        // The producer owns what it has not committed, up to what the consumer has given back.
        let free = after.other.max(before.ring_start) + direction.capacity();
        direction.assert_stored_only_in(before.position..free, "the producer's");
        assert!(after.position - after.other.max(after.ring_start) <= producer.direction().capacity());
    }
}
