//! The ways in which a peer can break the format, as they are told to the user.

use std::error::Error;
use std::fmt;
use std::io;

/// What was wrong with a queue or a lane.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Violation {
    /// A record of an unknown kind.
    UnknownKind,
    /// A record is longer than one may be, or runs past the end of the ring.
    BadLength,
    /// A pad that does not fill the end of the ring, or with nothing behind it.
    BadPad,
    /// A record out of sequence.
    BadSequence,
    /// The number of descriptors of a record is not the number that came.
    BadHandles,
    /// A record says that descriptors wait on the lane, and none do.
    NoHandles,
    /// The table of a message with a transfer list contradicts itself.
    BadTable,
    /// The peer's cursor went backwards, past ours, or is unaligned.
    BadCursor,
    /// A packet on the lane of unknown kind or size.
    BadPacket,
    /// The queue goes on in a ring that is none, goes back from the first ring, forgets a buffer that cannot be, or goes
    /// on and on so without a message.
    BadLink,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKind => "record of unknown kind",
            Self::BadLength => "record of impossible length",
            Self::BadPad => "pad in a wrong place",
            Self::BadSequence => "record out of sequence",
            Self::BadHandles => "wrong number of descriptors",
            Self::NoHandles => "descriptors missing",
            Self::BadTable => "contradictory transfer table",
            Self::BadCursor => "impossible read cursor",
            Self::BadPacket => "unknown packet on the lane",
            Self::BadLink => "the queue goes on in no ring",
        })
    }
}

impl Error for Violation {}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        Self::new(io::ErrorKind::InvalidData, violation)
    }
}
