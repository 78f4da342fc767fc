//! What can go wrong: one error type per operation. What was passed in comes back with the error.

use std::fmt;
use std::io;

use crate::sys::memfd::BadFile;
use crate::sys::process::io_error;
use crate::transfer::Transferable;
pub use crate::violation::Violation;

/// Why the other end of a port is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer was closed or dropped by its holder.
    Closed,
    /// The process that held the peer ended without closing it.
    PeerDied,
    /// The peer, or whoever held this port's descriptors, broke the format of the queue. This port has been closed.
    ProtocolViolation(Violation),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer was closed"),
            Self::PeerDied => f.write_str("the process that held the peer ended"),
            Self::ProtocolViolation(violation) => write!(f, "protocol violation: {violation}"),
        }
    }
}

/// Why a descriptor is no segment: it did not pass the checks of whoever was to adopt it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BadSegment {
    /// Not a memory file (memfd_create(2)).
    NotMemory,
    /// Its size is not sealed: its owner could make this process fault.
    Unsealed,
    /// It cannot be mapped for writing.
    ReadOnly,
    /// Not on tmpfs: a huge-page file can raise a signal when it is touched.
    NotTmpfs,
    /// Its size is not what it says, or outside the limits.
    WrongSize,
    /// It does not start with the magic word.
    NotASegment,
    /// Made by another version of the format.
    Version {
        /// The version in the file.
        found: u32,
        /// The version of this library.
        expected: u32,
    },
    /// Capacity, limits or reserved fields that this version does not know.
    BadConstants,
}

impl From<BadFile> for BadSegment {
    fn from(bad: BadFile) -> Self {
        match bad {
            BadFile::NotMemory => Self::NotMemory,
            BadFile::Unsealed => Self::Unsealed,
            BadFile::NotTmpfs => Self::NotTmpfs,
            BadFile::WrongSize => Self::WrongSize,
        }
    }
}

impl fmt::Display for BadSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMemory => f.write_str("not a memory file"),
            Self::Unsealed => f.write_str("the size of the memory file is not sealed"),
            Self::ReadOnly => f.write_str("the memory file cannot be written"),
            Self::NotTmpfs => f.write_str("the memory file is not on tmpfs"),
            Self::WrongSize => f.write_str("the memory file has the wrong size"),
            Self::NotASegment => f.write_str("the memory file has the wrong magic word"),
            Self::Version { found, expected } => write!(f, "format version {found}, this library has {expected}"),
            Self::BadConstants => f.write_str("unknown constants in the header"),
        }
    }
}

impl std::error::Error for BadSegment {}

/// Why something in a message could not be made into a port or a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BadTransfer {
    /// The memory of a port or buffer.
    Segment(BadSegment),
    /// The lane of a port is no Unix SEQPACKET socket.
    Lane,
    /// The state of a port that came with it is impossible.
    Capsule,
}

impl fmt::Display for BadTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(bad) => bad.fmt(f),
            Self::Lane => f.write_str("the lane of a port is not a unix seqpacket socket"),
            Self::Capsule => f.write_str("the state of a port is impossible"),
        }
    }
}

impl std::error::Error for BadTransfer {}

/// [`MessageChannel::new`](crate::MessageChannel::new) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelError {
    /// The capacity is no power of two from 4 KiB to 64 MiB.
    BadCapacity(usize),
    /// More than 253 handles a message, the kernel's limit for one packet.
    BadMaxHandles(usize),
    /// The system has no memory, descriptors or the like to give.
    ResourceExhausted(io::Error),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCapacity(bytes) => write!(f, "capacity {bytes} is not a power of two from 4 KiB to 64 MiB"),
            Self::BadMaxHandles(count) => write!(f, "{count} handles a message are more than 253"),
            Self::ResourceExhausted(error) => write!(f, "cannot create the channel: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {}

/// What filled up when a message could not be posted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FullCause {
    /// The ring: the receiver has not read enough yet.
    Ring,
    /// The lane: too many messages with transfer lists are unread.
    Lane,
}

/// Why a message was not posted. Nothing was taken: data, ports and buffers are still the caller's and still work.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostErrorKind {
    /// This port was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// This port has been closed.
    PortClosed,
    /// This port has been transferred away.
    Detached,
    /// A reservation on this port is open.
    Borrowed,
    /// Only the receiving half of this port is here: it was split before it was added to the loop.
    NoSendHalf,
    /// The transfer list contains the posting port itself.
    ContainsSelf,
    /// The transfer list contains the peer of the posting port.
    ContainsPeer,
    /// The transfer list contains the same thing twice.
    Duplicate,
    /// A thing on the transfer list is closed, detached, borrowed or forked.
    Unusable {
        /// Its place on the list, from 0.
        index: usize,
    },
    /// The message is longer than the channel allows.
    TooLarge {
        /// Bytes that the message needs: its data and, with a transfer list, the padding and the list itself.
        len: usize,
        /// Bytes that a message may have; see [`MessagePort::max_message_len`](crate::MessagePort::max_message_len).
        max: usize,
    },
    /// The transfer list has more descriptors than the channel allows. A port counts as two, a buffer as one.
    TooManyHandles {
        /// Descriptors on the list.
        handles: usize,
        /// Descriptors allowed.
        max: usize,
    },
    /// The other end is gone.
    PeerGone(CloseReason),
    /// The queue is at its limit.
    Full(FullCause),
    /// The time for waiting was over and the queue still full.
    TimedOut,
    /// The system has no memory, descriptors or the like to give.
    ResourceExhausted(io::Error),
}

impl fmt::Display for PostErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => f.write_str(FORKED),
            Self::PortClosed => f.write_str(CLOSED),
            Self::Detached => f.write_str(DETACHED),
            Self::Borrowed => f.write_str("a reservation on the port is open"),
            Self::NoSendHalf => f.write_str("the sending half of the port is elsewhere"),
            Self::ContainsSelf => f.write_str("the transfer list contains the posting port itself"),
            Self::ContainsPeer => f.write_str("the transfer list contains the posting port's peer"),
            Self::Duplicate => f.write_str("the transfer list contains the same thing twice"),
            Self::Unusable { index } => {
                write!(f, "item {index} of the transfer list is closed, detached, borrowed or forked")
            }
            Self::TooLarge { len, max } => write!(f, "the message needs {len} bytes, at most {max} fit"),
            Self::TooManyHandles { handles, max } => {
                write!(f, "the transfer list has {handles} descriptors, at most {max} are allowed")
            }
            Self::PeerGone(reason) => reason.fmt(f),
            Self::Full(FullCause::Ring) => f.write_str("the queue is full"),
            Self::Full(FullCause::Lane) => f.write_str("too many transfer lists are unread"),
            Self::TimedOut => f.write_str("timed out waiting for space in the queue"),
            Self::ResourceExhausted(error) => write!(f, "cannot post: {error}"),
        }
    }
}

impl std::error::Error for PostErrorKind {}

/// [`post_message`](crate::MessagePort::post_message) failed: why, and the transfer list back.
#[derive(Debug)]
pub struct PostError {
    /// Why.
    pub kind: PostErrorKind,
    /// The transfer list, untouched and in order.
    pub transfer: Vec<Transferable>,
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for PostError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.kind)
    }
}

/// Why nothing was received.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// This port was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// This port has been closed.
    PortClosed,
    /// This port has been transferred away.
    Detached,
    /// A message of this port is being read in place.
    Borrowed,
    /// The other end is gone, and everything it posted has been received.
    Ended(CloseReason),
    /// The message cannot be made for this receiver. It has been consumed, what it carried is closed; later messages
    /// are not affected.
    MessageError {
        /// What was wrong.
        reason: BadTransfer,
        /// The data of the message.
        data: Vec<u8>,
    },
    /// The system has no memory, descriptors or the like to give. The message is still queued.
    ResourceExhausted(io::Error),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => f.write_str(FORKED),
            Self::PortClosed => f.write_str(CLOSED),
            Self::Detached => f.write_str(DETACHED),
            Self::Borrowed => f.write_str("a message of the port is being read in place"),
            Self::Ended(reason) => reason.fmt(f),
            Self::MessageError { reason, .. } => write!(f, "the message cannot be received: {reason}"),
            Self::ResourceExhausted(error) => write!(f, "cannot receive: {error}"),
        }
    }
}

impl std::error::Error for RecvError {}

/// [`try_recv`](crate::MessagePort::try_recv) received nothing.
#[derive(Debug)]
pub enum TryRecvError {
    /// There is no message now. This can change at any time.
    Empty,
    /// There never will be one, or it could not be received.
    Failed(RecvError),
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the queue is empty"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryRecvError {}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

/// [`recv_timeout`](crate::MessagePort::recv_timeout) received nothing.
#[derive(Debug)]
pub enum RecvTimeoutError {
    /// No message came in time.
    TimedOut,
    /// There never will be one, or it could not be received.
    Failed(RecvError),
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out waiting for a message"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecvTimeoutError {}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

/// A [`TransferBuffer`](crate::TransferBuffer) could not be made or used.
#[derive(Debug)]
#[non_exhaustive]
pub enum BufferError {
    /// It has been transferred away.
    Detached,
    /// It was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// Not inside the buffer.
    OutOfRange {
        /// First byte asked for.
        offset: usize,
        /// Bytes asked for.
        len: usize,
        /// Bytes in the buffer.
        buffer_len: usize,
    },
    /// The system has no memory, descriptors or the like to give, or the size is over its file size limit.
    ResourceExhausted(io::Error),
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detached => f.write_str("the buffer has been transferred"),
            Self::Forked => f.write_str("the buffer was inherited by fork and belongs to the parent process"),
            Self::OutOfRange { offset, len, buffer_len } => {
                write!(f, "{len} bytes at {offset} are not inside a buffer of {buffer_len}")
            }
            Self::ResourceExhausted(error) => write!(f, "cannot create the buffer: {error}"),
        }
    }
}

impl std::error::Error for BufferError {}

/// [`MessagePort::join`](crate::MessagePort::join) failed: the halves are not of one port.
#[derive(Debug)]
pub struct JoinError(
    /// The sending half, as it was.
    pub crate::port::SendHalf,
    /// The receiving half, as it was.
    pub crate::port::RecvHalf,
);

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves belong to different ports")
    }
}

impl std::error::Error for JoinError {}

/// A shortage in the system, as the public errors carry it.
pub(crate) fn exhausted(errno: crate::sys::Errno) -> io::Error {
    io_error(errno)
}

const FORKED: &str = "the port was inherited by fork and belongs to the parent process";
const CLOSED: &str = "the port has been closed";
const DETACHED: &str = "the port has been transferred";
