//! Arrival: what came with a record becomes ports and buffers of this process.
#![forbid(unsafe_code)]

use std::collections::TryReserveError;
use std::time::Instant;

use super::buffer::LoneCapsule;
use super::discard::{discard_last, refusing};
use super::{Arrival, Arrived, Counts, Table};
use crate::end::lane::Half;
use crate::end::shortage::DescriptorShortage;
use crate::end::{End, Parts};
use crate::error::{BadSegment, BadTransfer, RecvError, Rejection, Violation, exhausted};
use crate::queue::record::RecordKind;
use crate::queue::ring::{Consumer, Record};
use crate::sys::{Errno, closer, process};

/// Up to 8 descriptors are taken without a look at whether the process has room for them, which takes 1 us.
const FEW: usize = 8;

/// Where the data goes that came in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyPlace {
    /// The caller appends it to the payload, in which room for it is made.
    Copied,
    /// It stays in the buffer.
    InPlace,
    /// It is dropped with the message.
    Nowhere,
}

/// Makes ports, buffers and descriptors of what came with a record that is not plain data. `payload` is a copy of the
/// record's payload; what is left in it is the message's data.
///
/// `make_room` makes room for the things of a table, while nothing has been taken.
///
/// After a shortage the record and its descriptors are still queued; `shortage` counts the attempts, after which a
/// message with too many descriptors is invalid. If the contents are invalid, the descriptors are
/// gone and the caller releases the record.
pub(crate) fn arrive(
    end: &End,
    consumer: &Consumer,
    record: Record,
    payload: &mut Vec<u8>,
    body: BodyPlace,
    shortage: &mut DescriptorShortage,
    make_room: impl FnOnce(Counts) -> Result<(), TryReserveError>,
) -> Result<Arrival, Rejection<Undeliverable>> {
    if record.kind == RecordKind::Buffer {
        lone_buffer(end, payload)
    } else {
        carrier(end, consumer, record, payload, body, shortage, make_room)
    }
}

fn lone_buffer(end: &End, payload: &mut Vec<u8>) -> Result<Arrival, Rejection<Undeliverable>> {
    let last = payload.last_chunk().ok_or(Violation::BadTable)?;
    let lone = LoneCapsule::decode(*last, payload.len()).ok_or(Violation::BadTable)?;
    if lone.data_len > end.segment().limits().max_message_len {
        return Err(Violation::BadLength.into());
    }
    payload.truncate(lone.data_len);
    let buffer = lone.take(end).ok_or(Undeliverable::Message(BadTransfer::NoSuchBuffer))?;
    Ok(Arrival { items: vec![Arrived::Buffer(buffer)], ..Arrival::default() })
}

fn carrier(
    end: &End,
    consumer: &Consumer,
    record: Record,
    payload: &mut Vec<u8>,
    body: BodyPlace,
    shortage: &mut DescriptorShortage,
    make_room: impl FnOnce(Counts) -> Result<(), TryReserveError>,
) -> Result<Arrival, Rejection<Undeliverable>> {
    // 1. Check the table, and make room for data that will be copied.
    let mut table = Table::parse(payload)?;
    let out_of_memory = |_: TryReserveError| Rejection::<Undeliverable>::Shortage(Errno::ENOMEM);
    let limits = end.segment().limits();
    let handles = usize::from(record.handles);
    let copies = table.copies();
    if handles != table.handles() || handles + copies > limits.max_handles {
        return Err(Violation::BadHandles.into());
    }
    let (data_len, body_len) = (table.data_len, table.body_len().unwrap_or(0));
    if data_len > limits.max_message_len || body_len > limits.max_message_len as u64 {
        return Err(Violation::BadLength.into());
    }
    if body_len > 0 && body == BodyPlace::Copied {
        payload.try_reserve(body_len as usize).map_err(out_of_memory)?;
        table = Table::parse(payload)?;
    }
    make_room(table.counts()).map_err(out_of_memory)?;
    // 2. Duplicate the descriptors, whose packet stays on the lane.
    let _reading = (handles > 0).then(|| end.reading());
    let sequence = consumer.sequence();
    let makes_copies = body != BodyPlace::Nowhere;
    let needed = if makes_copies { handles + copies } else { handles };
    // An attempt in vain takes what descriptors there are from other threads, until the closer has closed them.
    let peeked = if (needed > FEW || shortage.is_of(sequence)) && !process::has_room_for(needed) {
        Err(Rejection::Shortage(Errno::EMFILE))
    } else if handles > 0 {
        end.lane().peek_handles(sequence, handles, |half| end.on_wake_up(half, Half::Receiver))
    } else {
        Ok(Vec::new())
    };
    if matches!(peeked, Err(Rejection::Shortage(Errno::EMFILE))) && shortage.fail(sequence, Instant::now()) {
        return Err(give_up(end, handles, payload, data_len));
    }
    let mut descriptors = peeked.map_err(|rejection| rejection.map(Undeliverable::Violation))?;
    // 3. Adopt the objects behind them, and take the packet off the lane unless a later attempt needs it. While it is
    // taken, every descriptor in it has a duplicate here; otherwise taking it could wait, as closing can.
    let mut arrival = Arrival::default();
    let mut adopted = table.adopt(&mut descriptors, Some(end), &mut arrival, makes_copies);
    if matches!(adopted, Err(Rejection::Shortage(Errno::EMFILE))) && shortage.fail(sequence, Instant::now()) {
        drop(descriptors);
        return Err(give_up(end, handles, payload, data_len));
    }
    if matches!(adopted, Err(Rejection::Invalid(Undeliverable::Message(_)))) && closer::is_overdue() {
        adopted = Err(Undeliverable::WRONG_KIND.into()); // too much has come that is slow to close
    }
    match adopted {
        Err(Rejection::Shortage(_) | Rejection::Invalid(Undeliverable::Violation(_))) => {}
        _ if handles == 0 => {}
        Ok(()) | Err(Rejection::Invalid(Undeliverable::Message(_))) => end.lane().take_handles(),
    }
    drop(descriptors);
    // What is left is the data, also in the error of an invalid message.
    payload.truncate(data_len);
    match adopted {
        Ok(()) => Ok(arrival),
        Err(Rejection::Shortage(errno)) => Err(Rejection::Shortage(errno)),
        Err(invalid) => {
            arrival.close();
            Err(invalid)
        }
    }
}

/// Gives a message up for want of descriptors. What is left in `payload` is its data.
fn give_up(end: &End, handles: usize, payload: &mut Vec<u8>, data_len: usize) -> Rejection<Undeliverable> {
    if handles > 0 && !end.lane().drop_handles() {
        return Undeliverable::WRONG_KIND.into();
    }
    payload.truncate(data_len);
    Undeliverable::Message(BadTransfer::NoRoom).into()
}

impl Arrival {
    /// Ends what came with a message that its receiver cannot have: ports are closed, and their queues discarded with
    /// one small budget, since that happens inside a call that may have a deadline.
    pub(crate) fn close(self) {
        refusing(|| {
            for Parts { end, mut consumer, .. } in self.into_ports() {
                end.close();
                discard_last(&end, &mut consumer);
            }
        });
    }
}

/// Why a message can never be delivered.
#[derive(Debug)]
pub(crate) enum Undeliverable {
    /// The record breaks the format, which ends the channel.
    Violation(Violation),
    /// The record is in order and what it carries is invalid, which ends this message alone.
    Message(BadTransfer),
}

impl Undeliverable {
    /// A descriptor is of another kind than the table states. Whoever passes a thing on has checked its kind, which
    /// nobody can change, so no honest peer sends such a descriptor.
    pub(crate) const WRONG_KIND: Self = Self::Violation(Violation::BadHandles);
}

impl From<BadTransfer> for Undeliverable {
    fn from(bad: BadTransfer) -> Self {
        match bad {
            BadTransfer::Segment(BadSegment::NotMemory) => Self::WRONG_KIND,
            bad => Self::Message(bad),
        }
    }
}

impl From<BadSegment> for Undeliverable {
    fn from(bad: BadSegment) -> Self {
        BadTransfer::Segment(bad).into()
    }
}

impl From<Rejection<BadSegment>> for Rejection<Undeliverable> {
    fn from(rejection: Rejection<BadSegment>) -> Self {
        rejection.map(Undeliverable::from)
    }
}

impl From<Violation> for Rejection<Undeliverable> {
    fn from(violation: Violation) -> Self {
        Self::Invalid(Undeliverable::Violation(violation))
    }
}

impl Rejection<Undeliverable> {
    /// The receiver's error. `data` is that of the message.
    pub(crate) fn into_error(self, end: &End, data: Vec<u8>) -> RecvError {
        match self {
            Self::Shortage(errno) => RecvError::ResourceExhausted(exhausted(errno)),
            Self::Invalid(Undeliverable::Violation(violation)) => RecvError::Ended(end.violated(violation)),
            Self::Invalid(Undeliverable::Message(reason)) => RecvError::MessageError { reason, data },
        }
    }
}
