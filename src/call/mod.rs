//! Request and answer over one pair: a client and a server end, for messages of bytes with transfer lists. The typed
//! client and server in `typed` add an encoding.
//!
//! Each message ends with one word, the *mark*: its kind and the number of its call. The client chooses the number,
//! from the index of the call's entry in its table and a count of the calls that used this entry before; the server
//! returns it unchanged. So an answer finds its call whatever the order of the answers, and an answer to a call that is
//! over finds none.
//!
//! ```text
//! bits 0..32    index of the call's entry
//! bits 32..62   calls that used this entry before
//! bits 62..64   REQUEST, ANSWER or DROPPED
//! ```
//! The segment has a word for each of the first 512 entries of the table, which only the client writes: 1 more than the
//! count of the entry's last call that the client abandoned, or 0. An entry has one call at a time, so no request with
//! that count or a lower one is wanted any more. The server can read the word at any time; a message would wait
//! behind other requests.
#![forbid(unsafe_code)]

mod client;
mod server;
mod table;
mod error;

pub use self::client::{Client, PendingCall};
pub use self::error::{AnswerError, CallError};
#[cfg(feature = "serde")]
pub(crate) use self::server::unless_gone;
pub use self::server::{RespondError, Responder, ServeError, Server};
use crate::error::PostErrorKind;
use crate::port::transfer::{TransferRef, Transferable};
use crate::queue::segment::Segment;
use crate::queue::sync::Ordering;

/// A mark takes 8 bytes, at the end of the data.
const MARK_LEN: usize = 8;

/// The kind of a message: the upper two bits of its mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum MarkKind {
    Request = 1,
    Answer = 2,
    /// The server has dropped the request and will not answer it.
    Dropped = 3,
}

/// A call number has 62 bits.
const NUMBER_BITS: u32 = 62;

/// The count in a call number has 30 bits.
const COUNT_BITS: u32 = NUMBER_BITS - 32;

/// The number of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Number(u64);

impl Number {
    fn new(index: u32, count: u32) -> Self {
        Self((u64::from(count) << 32 | u64::from(index)) & ((1 << NUMBER_BITS) - 1))
    }

    fn index(self) -> usize {
        self.0 as u32 as usize
    }

    /// Calls that used the entry before, modulo 2^30.
    fn count(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Notes in the segment that the client has abandoned the call.
    fn cancel(self, segment: &Segment) {
        if let Some(word) = segment.cancellation(self.index()) {
            // Relaxed: pairs with the load in `is_cancelled`; no other data depends on it.
            word.store(self.count() + 1, Ordering::Relaxed);
        }
    }

    /// True if the client has abandoned the call, and the segment has a word for it.
    fn is_cancelled(self, segment: &Segment) -> bool {
        let Some(word) = segment.cancellation(self.index()) else { return false };
        // Relaxed: pairs with the store in `cancel`.
        let Some(last) = word.load(Ordering::Relaxed).checked_sub(1) else { return false };
        // Modulo 2^30, half of which is before the last one.
        last.wrapping_sub(self.count()) % (1 << COUNT_BITS) < 1 << (COUNT_BITS - 1)
    }
}

/// Appends a mark to the data of a message.
#[inline]
fn mark(data: &mut Vec<u8>, kind: MarkKind, number: Number) -> Result<(), PostErrorKind> {
    // The data may be an answer of any length, which a peer has chosen, and double its memory.
    data.try_reserve_exact(MARK_LEN)?;
    data.extend_from_slice(&((kind as u64) << NUMBER_BITS | number.0).to_ne_bytes());
    Ok(())
}

/// Cuts the mark off the data of a message. `None`, and nothing cut, if there is no mark.
#[inline]
fn unmark(data: &mut Vec<u8>) -> Option<(MarkKind, Number)> {
    let (rest, word) = data.split_last_chunk::<MARK_LEN>()?;
    let word = u64::from_ne_bytes(*word);
    let kind = match word >> NUMBER_BITS {
        1 => MarkKind::Request,
        2 => MarkKind::Answer,
        3 => MarkKind::Dropped,
        _ => return None,
    };
    let len = rest.len();
    data.truncate(len);
    Some((kind, Number(word & ((1 << NUMBER_BITS) - 1))))
}

/// A transfer list, borrowed.
fn lend(transfer: &[Transferable]) -> Vec<TransferRef<'_>> {
    transfer.iter().map(Into::into).collect()
}
