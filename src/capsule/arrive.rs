//! Arrival: what came with a record becomes ports and buffers of this process.
#![forbid(unsafe_code)]

use super::buffer::KnownCapsule;
use super::discard::discard;
use super::{Table, Things};
use crate::end::lane::Doorbell;
use crate::end::{End, Parts};
use crate::error::{BadTransfer, RecvError, Rejection, Violation, exhausted};
use crate::queue::record::Kind;
use crate::queue::ring::{Consumer, Record};

/// Takes the things of a record that has some, whose payload has been copied out. Returns the length of the data as well.
///
/// On a shortage the record and its descriptors stay where they are. If the contents are bad the descriptors are gone
/// and the record is the caller's to release.
pub(crate) fn take(
    end: &End,
    consumer: &Consumer,
    record: Record,
    payload: &[u8],
) -> Result<(usize, Things), Rejection<Undeliverable>> {
    let max = end.segment().limits().max_message_len;
    if record.kind == Kind::Buffer {
        let last = payload.last_chunk().ok_or(Violation::BadTable)?;
        let known = KnownCapsule::parse(*last, payload.len()).ok_or(Violation::BadTable)?;
        if known.data_len > max {
            return Err(Undeliverable::Violation(Violation::BadLength).into());
        }
        let Some(buffer) = known.take(end) else {
            return Err(Undeliverable::Message { reason: BadTransfer::NoSuchBuffer, data_len: known.data_len }.into());
        };
        return Ok((known.data_len, Things { buffers: vec![buffer], ..Things::default() }));
    }
    let table = Table::parse(payload)?;
    if record.handles != table.handles() || record.handles > end.segment().limits().max_handles {
        return Err(Undeliverable::Violation(Violation::BadHandles).into());
    }
    if table.data_len > max || table.body_len().is_some_and(|len| len > max as u64) {
        return Err(Undeliverable::Violation(Violation::BadLength).into());
    }
    let _reading = (record.handles > 0).then(|| end.reading());
    let handles = match record.handles {
        0 => Ok(Vec::new()),
        count => end.lane().peek_handles(consumer.sequence(), count, |bell| end.heard(bell, Doorbell::Data)),
    };
    let handles = handles.map_err(|not| not.map(Undeliverable::Violation))?;
    let mut things = Things::default();
    let made = table.adopt(handles, Some(end), &mut things);
    if record.handles > 0 && !matches!(made, Err(Rejection::Shortage(_))) {
        end.lane().take_handles();
    }
    match made {
        Ok(()) => Ok((table.data_len, things)),
        Err(Rejection::Shortage(errno)) => Err(Rejection::Shortage(errno)),
        Err(Rejection::Invalid(reason)) => {
            things.close();
            Err(Undeliverable::Message { reason, data_len: table.data_len }.into())
        }
    }
}

impl Things {
    /// Ends what came with a message that its receiver cannot have.
    pub(crate) fn close(self) {
        for Parts { end, mut consumer, .. } in self.ports {
            end.close();
            discard(&end, &mut consumer);
        }
    }
}

/// Why the things of a message can never arrive.
pub(crate) enum Undeliverable {
    /// The record breaks the format, which ends the channel.
    Violation(Violation),
    /// The record is in order and what it carries is not, which ends this message alone.
    Message { reason: BadTransfer, data_len: usize },
}

impl From<Violation> for Rejection<Undeliverable> {
    fn from(violation: Violation) -> Self {
        Self::Invalid(Undeliverable::Violation(violation))
    }
}

impl Rejection<Undeliverable> {
    /// The receiver's error; `data` is the payload that was copied out.
    pub(crate) fn into_error(self, end: &End, mut data: Vec<u8>) -> RecvError {
        match self {
            Self::Shortage(errno) => RecvError::ResourceExhausted(exhausted(errno)),
            Self::Invalid(Undeliverable::Violation(violation)) => RecvError::Ended(end.violated(violation)),
            Self::Invalid(Undeliverable::Message { reason, data_len }) => {
                data.truncate(data_len);
                RecvError::MessageError { reason, data }
            }
        }
    }
}
