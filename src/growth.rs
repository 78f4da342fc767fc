//! How a direction grows and shrinks again.
//!
//! A full ring is followed by one of twice its size: the producer makes it, sends its descriptor over the lane, tagged
//! like those of any record, and commits a `Next` link in the room that is always kept for one header. So the contents
//! are in shared memory at once, survive the producer's process, and move with either end. The consumer follows the
//! link when it has read everything before it. Once it has read everything there is, the producer's next post goes back
//! to the first ring, with a `Back` link. Each side keeps its present ring and the first one, and nothing else.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use crate::end::End;
use crate::error::Violation;
use crate::lane::{NotSent, NotTaken};
use crate::record::Kind;
use crate::ring::{Consumer, Producer, Record};
use crate::segment::NotAdopted;
use crate::sys::Errno;

/// Why a direction did not grow.
pub(crate) enum NotGrown {
    AtLimit,
    NotSent(NotSent),
}

/// Lets the producer go on in a larger, empty ring.
#[cold]
pub(crate) fn grow(end: &End, producer: &mut Producer) -> Result<(), NotGrown> {
    let exhausted = |errno| NotGrown::NotSent(NotSent::Exhausted(errno));
    let capacity = producer.direction().capacity() as usize;
    let ring = end.segment().next_ring(capacity).map_err(exhausted)?.ok_or(NotGrown::AtLimit)?;
    // The descriptor first: whoever sees the link finds it on the lane.
    end.lane().send_handles(producer.sequence(), &[ring.file.as_fd()]).map_err(NotGrown::NotSent)?;
    producer.go_on_in(producer.direction().in_ring(ring), Kind::Next);
    Ok(())
}

/// Lets the producer go back to the first ring if the consumer has read everything.
#[cold]
pub(crate) fn shrink(end: &End, producer: &mut Producer) -> Result<(), Violation> {
    if producer.unread()? == 0 {
        producer.go_on_in(end.outgoing().clone(), Kind::Back);
    }
    Ok(())
}

/// Why there is no next record to be had.
pub(crate) enum NotFollowed {
    Violation(Violation),
    /// This process has no room for the ring that comes next; a later attempt may.
    Exhausted(Errno),
}

impl From<Violation> for NotFollowed {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// The next message, in whatever ring it is, if one has been committed.
#[inline]
pub(crate) fn peek(end: &End, consumer: &mut Consumer) -> Result<Option<Record>, NotFollowed> {
    match consumer.peek()? {
        Some(link) if matches!(link.kind, Kind::Next | Kind::Back) => follow(end, consumer, link),
        message => Ok(message),
    }
}

#[cold]
fn follow(end: &End, consumer: &mut Consumer, mut link: Record) -> Result<Option<Record>, NotFollowed> {
    loop {
        let grown = consumer.direction().grown().is_some();
        let ring = match link.kind {
            Kind::Next => next_ring(end, consumer)?,
            Kind::Back if grown => end.incoming().clone(),
            _ => return Err(Violation::BadLink.into()),
        };
        if consumer.go_on_in(ring, link) {
            end.wake_peer_producer();
        }
        match consumer.peek()? {
            Some(next) if matches!(next.kind, Kind::Next | Kind::Back) => link = next,
            message => return Ok(message),
        }
    }
}

/// Takes the ring that a `Next` link leads to off the lane.
fn next_ring(end: &End, consumer: &Consumer) -> Result<crate::direction::Direction, NotFollowed> {
    let lane = end.lane();
    let mut files = lane.peek_handles(consumer.sequence(), 1, || end.wake_own_producer()).map_err(|not| match not {
        NotTaken::Violation(violation) => NotFollowed::Violation(violation),
        NotTaken::Exhausted(errno) => NotFollowed::Exhausted(errno),
    })?;
    let file = files.pop().ok_or(Violation::NoHandles)?;
    let after = consumer.direction().capacity() as usize;
    let ring = end.segment().adopt_ring(file, Some(after)).map_err(|not| match not {
        NotAdopted::Bad(_) => NotFollowed::Violation(Violation::BadLink),
        NotAdopted::Exhausted(errno) => NotFollowed::Exhausted(errno),
    })?;
    lane.take_handles();
    Ok(consumer.direction().in_ring(ring))
}
