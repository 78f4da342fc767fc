//! The ways in which a peer can violate the format of a queue or a lane.

use std::error::Error;
use std::fmt;
use std::io;

/// How a peer violated the format of a queue or a lane.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Violation {
    /// A record has an unknown kind.
    UnknownKind,
    /// A record is longer than allowed, or runs past the end of the ring.
    BadLength,
    /// A pad does not fill the ring to its end, or no record follows it.
    BadPad,
    /// A record is out of sequence.
    BadSequence,
    /// The descriptors that came with a record are not those that it announces: their number differs, or one is of
    /// another kind. Or a message was refused for another reason while too many earlier descriptors wait to be closed.
    BadHandles,
    /// A record has descriptors, and there are none on the lane.
    NoHandles,
    /// The table of a transfer list contradicts itself.
    BadTable,
    /// The peer's cursor moved backwards or past this side's cursor, or is not aligned.
    BadCursor,
    /// A packet on the lane has an unknown kind or size, has descriptors that its kind excludes, or belongs to a record
    /// that has been read.
    BadPacket,
    /// The queue continues in memory that is not a ring, returns from the first ring, drops a buffer that is not kept,
    /// or does so again and again without a message.
    BadLink,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKind => "record of unknown kind",
            Self::BadLength => "record of impossible length",
            Self::BadPad => "pad in the wrong place",
            Self::BadSequence => "record out of sequence",
            Self::BadHandles => "wrong number or kind of descriptors",
            Self::NoHandles => "descriptors missing",
            Self::BadTable => "contradictory transfer table",
            Self::BadCursor => "impossible cursor",
            Self::BadPacket => "invalid packet on the lane",
            Self::BadLink => "the queue does not continue in a valid ring",
        })
    }
}

impl Error for Violation {}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        Self::new(io::ErrorKind::InvalidData, violation)
    }
}
