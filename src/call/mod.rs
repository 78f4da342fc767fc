//! Request and answer over one pair: a client and a server end, for messages of bytes with transfer lists. The typed
//! ones, in `typed`, are these with an encoding on top.
//!
//! Each message ends with one word, the *mark*: what it is, and the number of the call. Numbers belong to the client,
//! which takes them from the place of the call in its table and from a count of the calls that were at this place; the
//! server gives them back as they came. So answers find their call whatever their order, and one for a call that is
//! over finds none.
//!
//! ```text
//! bits 0..32    place of the call
//! bits 32..62   how many calls were there before
//! bits 62..64   REQUEST, ANSWER or DROPPED
//! ```
#![forbid(unsafe_code)]

mod client;
mod error;
mod server;
mod table;

pub use self::client::{Client, PendingCall};
pub use self::error::{AnswerError, CallError};
#[cfg(feature = "serde")]
pub(crate) use self::server::unless_gone;
pub use self::server::{NotAnswered, Responder, ServeError, Server};
use crate::port::transfer::{TransferRef, Transferable};

/// Bytes of a mark.
const MARK: usize = 8;

/// The upper two bits of a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Request = 1,
    Answer = 2,
    /// The server has dropped the request and will not answer it.
    Dropped = 3,
}

/// Bits of a number.
const NUMBER: u32 = 62;

/// The number of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Number(u64);

impl Number {
    fn new(place: u32, count: u32) -> Self {
        Self((u64::from(count) << 32 | u64::from(place)) & ((1 << NUMBER) - 1))
    }

    fn place(self) -> usize {
        self.0 as u32 as usize
    }
}

/// Appends a mark to the data of a message.
#[inline]
fn mark(data: &mut Vec<u8>, kind: Kind, number: Number) {
    data.extend_from_slice(&((kind as u64) << NUMBER | number.0).to_ne_bytes());
}

/// Cuts the mark off the data of a message. `None`, and nothing cut, if there is none.
#[inline]
fn unmark(data: &mut Vec<u8>) -> Option<(Kind, Number)> {
    let (rest, word) = data.split_last_chunk::<MARK>()?;
    let word = u64::from_ne_bytes(*word);
    let kind = match word >> NUMBER {
        1 => Kind::Request,
        2 => Kind::Answer,
        3 => Kind::Dropped,
        _ => return None,
    };
    let len = rest.len();
    data.truncate(len);
    Some((kind, Number(word & ((1 << NUMBER) - 1))))
}

/// What is in a message, on a list that borrows it.
fn list_of(transfer: &[Transferable]) -> Vec<TransferRef<'_>> {
    transfer.iter().map(Into::into).collect()
}
