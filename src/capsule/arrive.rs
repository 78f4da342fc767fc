//! Arrival: what came with a record becomes ports and buffers of this process.
#![forbid(unsafe_code)]

use super::buffer::KnownCapsule;
use super::discard::discard;
use super::{NotMade, Table, Things};
use crate::end::lane::{Doorbell, NotTaken};
use crate::end::{End, Parts};
use crate::error::{BadTransfer, RecvError, Violation, exhausted};
use crate::queue::record::Kind;
use crate::queue::ring::{Consumer, Record};
use crate::sys::Errno;

/// Takes the things of a record that has some, whose payload has been copied out. Returns the length of the data as well.
///
/// On a shortage the record and its descriptors stay where they are. If the contents are bad the descriptors are gone
/// and the record is the caller's to release.
pub(crate) fn take(
    end: &End,
    consumer: &Consumer,
    record: Record,
    payload: &[u8],
) -> Result<(usize, Things), NotArrived> {
    let max = end.segment().limits().max_message_len;
    if record.kind == Kind::Buffer {
        let last = payload.last_chunk().ok_or(Violation::BadTable)?;
        let known = KnownCapsule::parse(*last, payload.len()).ok_or(Violation::BadTable)?;
        if known.data_len > max {
            return Err(NotArrived::Violation(Violation::BadLength));
        }
        let Some(buffer) = known.take(end) else {
            return Err(NotArrived::Bad { reason: BadTransfer::NoSuchBuffer, data_len: known.data_len });
        };
        return Ok((known.data_len, Things { buffers: vec![buffer], ..Things::default() }));
    }
    let table = Table::parse(payload)?;
    if record.handles != table.handles() || record.handles > end.segment().limits().max_handles {
        return Err(NotArrived::Violation(Violation::BadHandles));
    }
    if table.data_len > max || table.body_len().is_some_and(|len| len > max as u64) {
        return Err(NotArrived::Violation(Violation::BadLength));
    }
    let _reading = (record.handles > 0).then(|| end.reading());
    let handles = match record.handles {
        0 => Ok(Vec::new()),
        count => end.lane().peek_handles(consumer.sequence(), count, |bell| end.heard(bell, Doorbell::Data)),
    };
    let handles = match handles {
        Ok(handles) => handles,
        Err(NotTaken::Violation(violation)) => return Err(NotArrived::Violation(violation)),
        Err(NotTaken::Exhausted(errno)) => return Err(NotArrived::Exhausted(errno)),
    };
    let mut things = Things::default();
    let made = table.adopt(handles, Some(end), &mut things);
    if record.handles > 0 && !matches!(made, Err(NotMade::Exhausted(_))) {
        end.lane().take_handles();
    }
    match made {
        Ok(()) => Ok((table.data_len, things)),
        Err(NotMade::Exhausted(errno)) => Err(NotArrived::Exhausted(errno)),
        Err(NotMade::Bad(reason)) => {
            things.close();
            Err(NotArrived::Bad { reason, data_len: table.data_len })
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

/// Why the things of a message did not arrive.
pub(crate) enum NotArrived {
    Violation(Violation),
    /// Still queued, for a later attempt.
    Exhausted(Errno),
    Bad {
        reason: BadTransfer,
        data_len: usize,
    },
}

impl From<Violation> for NotArrived {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl NotArrived {
    /// As the receiver of the message is told; `data` is the payload that was copied out.
    pub(crate) fn into_error(self, end: &End, mut data: Vec<u8>) -> RecvError {
        match self {
            Self::Violation(violation) => RecvError::Ended(end.violated(violation)),
            Self::Exhausted(errno) => RecvError::ResourceExhausted(exhausted(errno)),
            Self::Bad { reason, data_len } => {
                data.truncate(data_len);
                RecvError::MessageError { reason, data }
            }
        }
    }
}
