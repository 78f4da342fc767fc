//! Growth: how a direction goes on in a larger ring, and back.
//!
//! A full ring, or one that is too small for a message, is followed by one of at least twice its size. The producer
//! makes it, sends its descriptor over the lane, tagged with a record's number as any descriptor is, and commits a
//! `Next` link in the room that every claim leaves for one header. So the contents are in shared memory at once,
//! survive the producer's process, and move with either end. The consumer follows the link when it has read everything
//! in front of it. Once it has read everything there is, the producer's next post goes back to the first ring, with a
//! `Back` link. Each side keeps its present ring and the first one, and no other.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use super::End;
use super::lane::{Half, NotSent};
use crate::error::{Rejection, Violation};
use crate::layout::{MAX_CACHED_BUFFERS, largest_capacity};
use crate::queue::direction::Direction;
use crate::queue::record::{FORGET_LEN, RecordKind, capacity_for};
use crate::queue::ring::{Consumer, MAX_PASSED, Producer, Record};

// Beside a `Forget` for each recycled buffer there are the links, a few dozen at most.
const _: () = assert!(MAX_PASSED as usize >= 2 * MAX_CACHED_BUFFERS);

/// The capacity of a ring that can follow the present one, with room for a record of `len` bytes of payload, and at
/// least `wanted` bytes if that is allowed. `None` if the limit of the direction allows no ring for the record.
pub(crate) fn capacity_after(end: &End, producer: &Producer, len: usize, wanted: usize) -> Option<usize> {
    let limits = end.segment().limits();
    // Data that waits in buffers takes its share of the limit.
    let bodies = usize::try_from(producer.backlog.total().bodies).unwrap_or(usize::MAX);
    let largest = largest_capacity(limits.capacity, limits.max_capacity.saturating_sub(bodies));
    let least = (2 * producer.direction().capacity() as usize).max(capacity_for(len));
    (least <= largest).then_some(least.max(wanted).min(largest))
}

/// Lets the producer go on in an empty ring of `capacity` bytes, which is larger than the present one.
#[cold]
pub(crate) fn grow(end: &End, producer: &mut Producer, capacity: usize) -> Result<(), NotSent> {
    let ring = end.segment().new_ring(capacity).map_err(NotSent::Shortage)?;
    // The descriptor first, so that a consumer that sees the link finds it on the lane.
    end.lane().send_ring(producer.sequence(), ring.file.as_fd())?;
    producer.go_on_in(producer.direction().in_ring(ring), RecordKind::Next);
    Ok(())
}

/// Lets the producer go back to the first ring if it no longer needs its grown ring.
#[cold]
pub(crate) fn shrink_if_done(end: &End, producer: &mut Producer) -> Result<(), Violation> {
    if producer.is_done_with_ring()? {
        go_back(end, producer);
    }
    Ok(())
}

/// Lets the producer go back to the first ring. The consumer has read everything.
pub(crate) fn go_back(end: &End, producer: &mut Producer) {
    producer.go_on_in(end.outgoing().clone(), RecordKind::Back);
}

/// The next message, in whatever ring it is, if one has been committed. Records that are not messages are obeyed and
/// passed over.
pub(crate) fn next_message(end: &End, consumer: &mut Consumer) -> Result<Option<Record>, Rejection<Violation>> {
    loop {
        let Some(record) = consumer.next_record()? else { return Ok(None) };
        let is_grown = consumer.direction().is_grown();
        let ring = match record.kind {
            RecordKind::Data | RecordKind::Carrier | RecordKind::Buffer => return Ok(Some(record)),
            RecordKind::Next => next_ring(end, consumer)?,
            RecordKind::Back if is_grown => end.incoming().clone(),
            RecordKind::Forget => {
                forget(end, consumer, record)?;
                continue;
            }
            RecordKind::Back | RecordKind::Pad => return Err(Violation::BadLink.into()),
        };
        consumer.pass()?;
        if consumer.go_on_in(ring, record) {
            end.wake_peer_producer();
        }
    }
}

/// Lets go of a recycled buffer.
fn forget(end: &End, consumer: &mut Consumer, record: Record) -> Result<(), Violation> {
    let mut slot = [0; FORGET_LEN];
    if record.len != slot.len() {
        return Err(Violation::BadLength);
    }
    consumer.read(record, 0, &mut slot);
    let slot = usize::try_from(u64::from_ne_bytes(slot)).unwrap_or(usize::MAX);
    if !end.buffers().cache().forget(slot) {
        return Err(Violation::BadLink);
    }
    consumer.pass()?;
    if consumer.release(record) {
        end.wake_peer_producer();
    }
    Ok(())
}

/// Takes the ring of a `Next` link off the lane.
fn next_ring(end: &End, consumer: &Consumer) -> Result<Direction, Rejection<Violation>> {
    let _reading = end.reading();
    let wake = |half| end.on_wake_up(half, Half::Receiver);
    let mut files = end.lane().peek_handles(consumer.sequence(), 1, wake)?;
    let file = files.first_mut().ok_or(Violation::NoHandles)?;
    let after = consumer.direction().capacity() as usize;
    let ring = end.segment().adopt_ring(file, after).map_err(|rejection| rejection.map(|_| Violation::BadLink))?;
    end.lane().take_handles();
    Ok(consumer.direction().in_ring(ring))
}
