//! What can go wrong: one error type per operation. What was passed in comes back with the error.

use crate::layout::{BadPreamble, VERSION};
use crate::sys::memfd::BadFile;
use crate::sys::{Errno, io_error};
use std::fmt;
use std::io;

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
    /// Not sealed against writes, although it is said to be frozen.
    Writable,
    /// Not all of its memory is there: touching it could raise a signal.
    Sparse,
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

impl From<BadPreamble> for BadSegment {
    fn from(bad: BadPreamble) -> Self {
        match bad {
            BadPreamble::Magic => Self::NotASegment,
            BadPreamble::Version(found) => Self::Version { found, expected: VERSION },
            BadPreamble::HeaderLen => Self::BadConstants,
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
            Self::Writable => f.write_str("the memory file is not sealed against writes"),
            Self::Sparse => f.write_str("the memory file has holes"),
            Self::NotASegment => f.write_str("the memory file has the wrong magic word"),
            Self::Version { found, expected } => write!(f, "format version {found}, this library has {expected}"),
            Self::BadConstants => f.write_str("unknown constants in the header"),
        }
    }
}

impl std::error::Error for BadSegment {}

/// Why a message could not be made into what its receiver expects: ports, buffers, a typed value, a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BadTransfer {
    /// The memory of a port or buffer.
    Segment(BadSegment),
    /// The lane of a port is no Unix SEQPACKET socket.
    Lane,
    /// The state of a port that came with it is impossible.
    Capsule,
    /// A recycled buffer that this side does not know, or that has not been given back.
    NoSuchBuffer,
    /// The data is no value of the type that the receiver expects.
    Value(BadValue),
    /// The message is no request: it does not come from a client.
    NoRequest,
}

/// Why the data of a message is no value of a type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BadValue {
    /// The bytes are no encoding of such a value.
    Encoding,
    /// Bytes are left over.
    TooLong,
    /// The value is nested so deeply that decoding it would use up the stack.
    TooDeep,
    /// It names a port or buffer that did not come with the message, or the same one twice.
    NoSuchThing,
    /// A port or buffer came with the message that it does not name.
    Unnamed,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "the data is no value of the expected type",
            Self::TooLong => "the data is longer than the value in it",
            Self::TooDeep => "the value is nested too deeply",
            Self::NoSuchThing => "the value names a port or buffer that did not come with it",
            Self::Unnamed => "a port or buffer came with the value that it does not name",
        })
    }
}

impl fmt::Display for BadTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(bad) => bad.fmt(f),
            Self::Lane => f.write_str("the lane of a port is not a unix seqpacket socket"),
            Self::Capsule => f.write_str("the state of a port is impossible"),
            Self::NoSuchBuffer => f.write_str("a recycled buffer that is not known here"),
            Self::Value(bad) => bad.fmt(f),
            Self::NoRequest => f.write_str("the message is no request"),
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
    /// Less than the capacity, or more than 1 GiB.
    BadMaxCapacity(usize),
    /// More than 253 handles a message, the kernel's limit for one packet.
    BadMaxHandles(usize),
    /// More than 1 GiB of data a message.
    BadMaxMessageLen(usize),
    /// More than 64 cached buffers.
    BadCachedBuffers(usize),
    /// More than 1 TiB of cached buffers.
    BadCachedBytes(u64),
    /// The system has no memory, descriptors or the like to give.
    ResourceExhausted(io::Error),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCapacity(bytes) => write!(f, "capacity {bytes} is not a power of two from 4 KiB to 64 MiB"),
            Self::BadMaxCapacity(bytes) => write!(f, "maximum capacity {bytes} is not from the capacity to 1 GiB"),
            Self::BadMaxHandles(count) => write!(f, "{count} handles a message are more than 253"),
            Self::BadMaxMessageLen(bytes) => write!(f, "{bytes} bytes a message are more than 1 GiB"),
            Self::BadCachedBuffers(count) => write!(f, "{count} cached buffers are more than 64"),
            Self::BadCachedBytes(bytes) => write!(f, "{bytes} bytes of cached buffers are more than 1 TiB"),
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
    /// A reservation on this port is open, or the port is inside a value that is being posted.
    Borrowed,
    /// Only the receiving half of this port is here: it was split before it was added to the loop.
    NoSendHalf,
    /// The transfer list contains the posting port itself.
    ContainsSelf,
    /// The transfer list contains the peer of the posting port.
    ContainsPeer,
    /// The transfer list contains the same thing twice.
    Duplicate,
    /// A thing on the transfer list is closed, detached, borrowed or forked, or a shared buffer that has a name.
    Unusable {
        /// Its place on the list, from 0.
        index: usize,
    },
    /// The value cannot be encoded: its `Serialize` returned an error, or it contains a sequence or map that does not
    /// know its length.
    Unencodable,
    /// A buffer on the transfer list is known to the peer of the port that it was posted on before, which still lives. It can
    /// be posted there again.
    PooledElsewhere {
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
    /// The transfer list has more descriptors than the channel allows. A port counts as two, every other thing as
    /// one.
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
            Self::Borrowed => f.write_str("a reservation on the port is open, or the port is being posted"),
            Self::NoSendHalf => f.write_str("the sending half of the port is elsewhere"),
            Self::ContainsSelf => f.write_str("the transfer list contains the posting port itself"),
            Self::ContainsPeer => f.write_str("the transfer list contains the posting port's peer"),
            Self::Duplicate => f.write_str("the transfer list contains the same thing twice"),
            Self::Unusable { index } => {
                write!(f, "item {index} of the transfer list is closed, detached, borrowed, forked or named")
            }
            Self::Unencodable => f.write_str("the value cannot be encoded"),
            Self::PooledElsewhere { index } => {
                write!(f, "item {index} of the transfer list is a buffer that another port's peer has mapped")
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

/// Why data was not posted, by an operation that has no transfer list. Nothing was taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostDataError {
    /// This port was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// This port has been closed.
    PortClosed,
    /// This port has been transferred away.
    Detached,
    /// A reservation on this port is open, or the port is inside a value that is being posted.
    Borrowed,
    /// The message is longer than the channel allows, or than what was reserved.
    TooLarge {
        /// Bytes of the message.
        len: usize,
        /// Bytes that are allowed; see [`MessagePort::max_message_len`](crate::MessagePort::max_message_len).
        max: usize,
    },
    /// The other end is gone.
    PeerGone(CloseReason),
    /// The queue is at its limit.
    Full(FullCause),
    /// The queue was still full when the timeout was over. Only operations with a timeout return this.
    TimedOut,
    /// The system lacks memory, descriptors or the like.
    ResourceExhausted(io::Error),
}

impl From<PostDataError> for PostErrorKind {
    fn from(error: PostDataError) -> Self {
        match error {
            PostDataError::Forked => Self::Forked,
            PostDataError::PortClosed => Self::PortClosed,
            PostDataError::Detached => Self::Detached,
            PostDataError::Borrowed => Self::Borrowed,
            PostDataError::TooLarge { len, max } => Self::TooLarge { len, max },
            PostDataError::PeerGone(reason) => Self::PeerGone(reason),
            PostDataError::Full(cause) => Self::Full(cause),
            PostDataError::TimedOut => Self::TimedOut,
            PostDataError::ResourceExhausted(error) => Self::ResourceExhausted(error),
        }
    }
}

impl fmt::Display for PostDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => f.write_str(FORKED),
            Self::PortClosed => f.write_str(CLOSED),
            Self::Detached => f.write_str(DETACHED),
            Self::Borrowed => f.write_str("a reservation on the port is open, or the port is being posted"),
            Self::TooLarge { len, max } => write!(f, "the message needs {len} bytes, at most {max} fit"),
            Self::PeerGone(reason) => reason.fmt(f),
            Self::Full(FullCause::Ring) => f.write_str("the queue is full"),
            Self::Full(FullCause::Lane) => f.write_str("too many transfer lists are unread"),
            Self::TimedOut => f.write_str("timed out waiting for space in the queue"),
            Self::ResourceExhausted(error) => write!(f, "cannot post: {error}"),
        }
    }
}

impl std::error::Error for PostDataError {}

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
    /// A message of this port is being read in place, or the port is inside a value that is being posted.
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
            Self::Borrowed => f.write_str("a message of the port is being read in place, or the port is being posted"),
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

/// A buffer could not be made or used.
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
    /// A word in place starts at a multiple of its size.
    Misaligned {
        /// First byte asked for.
        offset: usize,
        /// What it must be a multiple of.
        align: usize,
    },
    /// The file that the buffer was to be filled from is not a regular one, or could not be read to its end.
    Unreadable(io::Error),
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
            Self::Misaligned { offset, align } => write!(f, "offset {offset} is not a multiple of {align}"),
            Self::Unreadable(error) => write!(f, "cannot read the file: {error}"),
            Self::ResourceExhausted(error) => write!(f, "cannot create the buffer: {error}"),
        }
    }
}

impl std::error::Error for BufferError {}

/// Why something that came from a peer was not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rejection<Reason> {
    /// It is invalid, and every later attempt fails too.
    Invalid(Reason),
    /// This process lacks memory, descriptors or the like: a later attempt may succeed.
    Shortage(Errno),
}

impl<Reason> Rejection<Reason> {
    pub(crate) fn map<Other>(self, reason: impl FnOnce(Reason) -> Other) -> Rejection<Other> {
        match self {
            Self::Invalid(invalid) => Rejection::Invalid(reason(invalid)),
            Self::Shortage(errno) => Rejection::Shortage(errno),
        }
    }
}

impl<Reason> From<Reason> for Rejection<Reason> {
    fn from(reason: Reason) -> Self {
        Self::Invalid(reason)
    }
}

impl From<Rejection<BadSegment>> for Rejection<BadTransfer> {
    fn from(rejection: Rejection<BadSegment>) -> Self {
        rejection.map(BadTransfer::Segment)
    }
}

/// Why a file that came from elsewhere and passed the checks could not be mapped.
pub(crate) fn not_mapped(errno: Errno) -> Rejection<BadSegment> {
    match errno {
        // Sealed against writing, now or in the future, or not open for it.
        Errno::EPERM | Errno::EACCES => Rejection::Invalid(BadSegment::ReadOnly),
        errno => Rejection::Shortage(errno),
    }
}

/// A shortage in the system, as the public errors carry it.
pub(crate) fn exhausted(errno: Errno) -> io::Error {
    io_error(errno)
}

const FORKED: &str = "the port was inherited by fork and belongs to the parent process";
const CLOSED: &str = "the port has been closed";
const DETACHED: &str = "the port has been transferred";
