//! Growth: how a direction goes on in a larger ring, and back.
//!
//! A full ring is followed by one of twice its size. The producer makes it, sends its descriptor over the lane, tagged
//! with a record's number as any descriptor is, and commits a `Next` link in the room that every claim leaves for one
//! header. So the contents are in shared memory at once, survive the producer's process, and move with either end. The
//! consumer follows the link when it has read everything in front of it. Once it has read everything there is, the
//! producer's next post goes back to the first ring, with a `Back` link. Each side keeps its present ring and the first
//! one, and no other.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use super::End;
use super::lane::{Half, NotSent};
use crate::error::{Rejection, Violation};
use crate::layout::MAX_CACHED_BUFFERS;
use crate::queue::direction::Direction;
use crate::queue::record::{FORGET_LEN, RecordKind};
use crate::queue::ring::{Consumer, MAX_PASSED, Producer, Record};

// Beside a `Forget` for each recycled buffer there are the links, a few dozen at most.
const _: () = assert!(MAX_PASSED as usize >= 2 * MAX_CACHED_BUFFERS);

/// Lets the producer go on in a larger, empty ring. False if the direction is at its limit.
#[cold]
pub(crate) fn grow(end: &End, producer: &mut Producer) -> Result<bool, NotSent> {
    let capacity = producer.direction().capacity() as usize;
    let Some(ring) = end.segment().next_ring(capacity).map_err(NotSent::Shortage)? else { return Ok(false) };
    // The descriptor first, so that a consumer that sees the link finds it on the lane.
    end.lane().send_ring(producer.sequence(), ring.file.as_fd())?;
    producer.go_on_in(producer.direction().in_ring(ring), RecordKind::Next);
    Ok(true)
}

/// Lets the producer go back to the first ring if the consumer has read everything. Every post in a grown ring tries
/// it.
#[cold]
pub(crate) fn shrink_if_read(end: &End, producer: &mut Producer) -> Result<(), Violation> {
    if producer.unread()? == 0 {
        producer.go_on_in(end.outgoing().clone(), RecordKind::Back);
    }
    Ok(())
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
    let ring =
        end.segment().adopt_ring(file, Some(after)).map_err(|rejection| rejection.map(|_| Violation::BadLink))?;
    end.lane().take_handles();
    Ok(consumer.direction().in_ring(ring))
}
