//! The public errors. An error of an operation that takes ownership returns what was passed in, unless its
//! documentation states otherwise.
//!
//! `Display` states what failed. A cause, where there is one, is the `source` and not part of that text; the alternate
//! form `{:#}` prints both on one line. An error that only wraps another one displays and chains as that one. Every
//! error converts into an [`io::Error`]: the one of the system where there is one, else one of a fitting kind that
//! holds the error or, if the error returns things to the caller, drops them.

use std::collections::TryReserveError;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use crate::layout::{BadPreamble, VERSION};
use crate::sys::exclusive::Exclusive;
use crate::sys::memfd::BadFile;
use crate::sys::{Errno, io_error, process, socket};

pub use crate::violation::Violation;

/// Writes what failed, and in the alternate form `{:#}` the cause too, which is also the error's `source`.
pub(crate) fn with_cause(f: &mut fmt::Formatter<'_>, what: &dyn fmt::Display, cause: &dyn Error) -> fmt::Result {
    what.fmt(f)?;
    if f.alternate() { write!(f, ": {cause:#}") } else { Ok(()) }
}

/// An operation that takes ownership failed: the reason, and what it took, which is the caller's again.
///
/// ```
/// # use messageport::{MessageChannel, PostErrorKind};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (carrier, other) = (MessageChannel::new()?, MessageChannel::new()?);
/// carrier.port1.close();
/// let error = carrier.port1.post_message(b"a port", [other.port1.into()]).unwrap_err();
/// assert!(matches!(error.kind, PostErrorKind::PortClosed));
/// let transfer = error.into_inner();
/// # assert_eq!(transfer.len(), 1);
/// # Ok(()) }
/// ```
///
/// It displays and chains as its reason. It is `Send` and `Sync` if the reason is and the value is `Send`, so `?`
/// converts it into `Box<dyn Error + Send + Sync>` too. It converts into the [`io::Error`] of its reason; the value is
/// then dropped.
pub struct Refusal<K, T> {
    /// The reason.
    pub kind: K,
    value: Exclusive<T>,
}

impl<K, T> Refusal<K, T> {
    /// An error with this reason that gives `value` back.
    pub const fn new(kind: K, value: T) -> Self {
        Self { kind, value: Exclusive::new(value) }
    }

    /// What the operation took, as it was.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// What the operation took, to be used in place.
    pub const fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The reason, and what the operation took.
    pub fn into_parts(self) -> (K, T) {
        (self.kind, self.value.into_inner())
    }
}

impl<K: fmt::Debug, T> fmt::Debug for Refusal<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<K: fmt::Display, T> fmt::Display for Refusal<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<K: Error, T> Error for Refusal<K, T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

/// The value is dropped.
impl<K: Into<io::Error>, T> From<Refusal<K, T>> for io::Error {
    fn from(error: Refusal<K, T>) -> Self {
        error.kind.into()
    }
}

/// Why an event loop, a set or a runtime does not watch a port, a listener or a descriptor.
#[derive(Debug)]
#[non_exhaustive]
pub enum WatchError {
    /// The event loop or set was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// There is no runtime, or the system cannot watch one more descriptor.
    System(io::Error),
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => {
                f.write_str("the event loop or set was inherited by fork and belongs to the parent process")
            }
            Self::System(error) => with_cause(f, &"cannot watch it", error),
        }
    }
}

impl Error for WatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Forked => None,
            Self::System(error) => Some(error),
        }
    }
}

impl From<WatchError> for io::Error {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Forked => Self::new(ErrorKind::Unsupported, error),
            WatchError::System(error) => error,
        }
    }
}

/// The halves of a `join` belong to different ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DifferentPorts;

impl fmt::Display for DifferentPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves belong to different ports")
    }
}

impl Error for DifferentPorts {}

impl From<DifferentPorts> for io::Error {
    fn from(error: DifferentPorts) -> Self {
        Self::new(ErrorKind::InvalidInput, error)
    }
}

/// Why the peer of a port is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The holder of the peer closed or dropped it.
    Closed,
    /// The process that held the peer ended without closing it.
    PeerDied,
    /// The peer, or another process with this port's descriptors, broke the format of the queue. This port has been
    /// closed.
    ProtocolViolation(Violation),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer was closed"),
            Self::PeerDied => f.write_str("the process that held the peer ended"),
            Self::ProtocolViolation(violation) => with_cause(f, &"the peer violated the protocol", violation),
        }
    }
}

impl Error for CloseReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Closed | Self::PeerDied => None,
            Self::ProtocolViolation(violation) => Some(violation),
        }
    }
}

impl From<CloseReason> for io::Error {
    fn from(reason: CloseReason) -> Self {
        let kind = match reason {
            CloseReason::Closed => ErrorKind::BrokenPipe,
            CloseReason::PeerDied => ErrorKind::ConnectionReset,
            CloseReason::ProtocolViolation(_) => ErrorKind::InvalidData,
        };
        Self::new(kind, reason)
    }
}

/// Why a descriptor from a peer is not usable memory: the first check that it failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BadSegment {
    /// The file is not a memory file (memfd_create(2)). As no honest peer sends such a file, it ends a channel
    /// ([`Violation::BadHandles`]), and does not come in a [`MessageError`](RecvError::MessageError).
    NotMemory,
    /// The size of the file is not sealed, so that a holder could make this process fault; or seals can still be added
    /// to it.
    Unsealed,
    /// The file cannot be mapped for writing.
    ReadOnly,
    /// The file is not on tmpfs: touching a page of a huge-page file can raise a signal.
    NotTmpfs,
    /// The size of the file differs from the stated size, or is outside the limits.
    WrongSize,
    /// The file is not sealed against writes, as frozen memory must be.
    Writable,
    /// The file has holes: touching one could raise a signal.
    Sparse,
    /// The file does not start with the magic word.
    NotASegment,
    /// The file was made by another version of the format.
    Version {
        /// The version in the file.
        found: u32,
        /// The version of this library.
        expected: u32,
    },
    /// The header has a capacity, a limit or a reserved field that this version does not accept.
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
            Self::Unsealed => f.write_str("the memory file can change its size or its seals"),
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

impl Error for BadSegment {}

impl From<BadSegment> for io::Error {
    fn from(bad: BadSegment) -> Self {
        Self::new(ErrorKind::InvalidData, bad)
    }
}

/// Why a message could not be made into what its receiver expects: ports, buffers, a typed value, a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BadTransfer {
    /// The memory of a port or buffer is not acceptable.
    Segment(BadSegment),
    /// The lane of a port has a socket option by which packets or descriptors get lost, such as a peek offset.
    Lane,
    /// The state of a port in the message is impossible.
    Capsule,
    /// The message names a recycled buffer that this side does not have, or that is in use.
    NoSuchBuffer,
    /// The data is not a value of the type that the receiver expects.
    Value(BadValue),
    /// The message is not a request: it does not come from a client.
    NoRequest,
    /// The message has more descriptors than this process could open. At least 16 attempts to receive it, over at least
    /// 5 s, failed with [`ResourceExhausted`](RecvError::ResourceExhausted).
    NoRoom,
}

impl fmt::Display for BadTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(bad) => bad.fmt(f),
            Self::Lane => f.write_str("the lane of a port has an unsuitable socket option"),
            Self::Capsule => f.write_str("the state of a port is impossible"),
            Self::NoSuchBuffer => f.write_str("the message names a recycled buffer that is not here"),
            Self::Value(bad) => bad.fmt(f),
            Self::NoRequest => f.write_str("the message is not a request"),
            Self::NoRoom => f.write_str("the message has more descriptors than this process may open"),
        }
    }
}

impl Error for BadTransfer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Segment(bad) => bad.source(),
            Self::Value(bad) => bad.source(),
            Self::Lane | Self::Capsule | Self::NoSuchBuffer | Self::NoRequest | Self::NoRoom => None,
        }
    }
}

impl From<BadTransfer> for io::Error {
    fn from(bad: BadTransfer) -> Self {
        Self::new(ErrorKind::InvalidData, bad)
    }
}

/// Why the data of a message is not a value of the expected type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BadValue {
    /// The bytes do not encode such a value.
    Encoding,
    /// Bytes are left after the value.
    TooLong,
    /// The value is nested so deeply that decoding it would use more than 512 KiB of stack, or more than half of what
    /// the thread has left.
    TooDeep,
    /// The value names a port or buffer that did not come with the message, or names one twice.
    NoSuchThing,
    /// A port, buffer or descriptor came with the message, and the value does not name it.
    Unnamed,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "the data is not a value of the expected type",
            Self::TooLong => "the data is longer than the value in it",
            Self::TooDeep => {
                "the value is nested too deeply: it may use 512 KiB of stack, and half of what the thread has left"
            }
            Self::NoSuchThing => "the value names a port or buffer that did not come with it",
            Self::Unnamed => "something came with the value that it does not name",
        })
    }
}

impl Error for BadValue {}

impl From<BadValue> for io::Error {
    fn from(bad: BadValue) -> Self {
        Self::new(ErrorKind::InvalidData, bad)
    }
}

/// [`MessageChannel::new`](crate::MessageChannel::new) or [`ChannelOptions::create`](crate::ChannelOptions::create)
/// failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelError {
    /// The name is longer than 32 bytes, or contains a zero byte.
    BadName,
    /// The capacity is not a power of two from 4 KiB to 64 MiB.
    BadCapacity(usize),
    /// The maximum capacity is less than the capacity, or more than 1 GiB.
    BadMaxCapacity(usize),
    /// A message could carry more than 253 descriptors, the kernel's limit for one packet.
    BadMaxHandles(usize),
    /// A message could have more than 1 GiB of data.
    BadMaxMessageLen(usize),
    /// More than 64 buffers would be kept.
    BadCachedBuffers(usize),
    /// More than 1 TiB of buffers would be kept.
    BadCachedBytes(u64),
    /// The system has no memory or no descriptors left.
    ResourceExhausted(io::Error),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str("the name is longer than 32 bytes, or contains a zero byte"),
            Self::BadCapacity(bytes) => write!(f, "capacity {bytes} is not a power of two from 4 KiB to 64 MiB"),
            Self::BadMaxCapacity(bytes) => write!(f, "maximum capacity {bytes} is not from the capacity to 1 GiB"),
            Self::BadMaxHandles(count) => write!(f, "{count} handles a message are more than 253"),
            Self::BadMaxMessageLen(bytes) => write!(f, "{bytes} bytes a message are more than 1 GiB"),
            Self::BadCachedBuffers(count) => write!(f, "{count} cached buffers are more than 64"),
            Self::BadCachedBytes(bytes) => write!(f, "{bytes} bytes of cached buffers are more than 1 TiB"),
            Self::ResourceExhausted(error) => with_cause(f, &"cannot create the channel", error),
        }
    }
}

impl Error for ChannelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::ResourceExhausted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ChannelError> for io::Error {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::ResourceExhausted(error) => error,
            error => Self::new(ErrorKind::InvalidInput, error),
        }
    }
}

/// What is full when a message could not be posted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FullCause {
    /// The ring is full: the receiver has not read enough yet.
    Ring,
    /// The lane is full: too many messages are unread whose transfer lists need descriptors. How many may be is a limit
    /// of the system, `net.core.wmem_max` of socket(7): 512 with its usual value of 212 992 bytes, at most 10 880.
    Lane,
}

impl fmt::Display for FullCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, socket::packets_that_fit()) {
            (Self::Ring, _) => f.write_str("the queue is full"),
            (Self::Lane, None) => f.write_str("too many transfer lists are unread (net.core.wmem_max)"),
            (Self::Lane, Some(count)) => {
                write!(f, "too many transfer lists are unread: about {count} may be (net.core.wmem_max)")
            }
        }
    }
}

impl Error for FullCause {}

impl From<FullCause> for io::Error {
    fn from(cause: FullCause) -> Self {
        Self::new(ErrorKind::WouldBlock, cause)
    }
}

/// Why a message was not posted. Nothing was taken: data, ports and buffers are still the caller's and still work.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostErrorKind {
    /// The port was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// The port has been closed here.
    PortClosed,
    /// The port has been transferred, or this handle has only the receiving half of it.
    Detached,
    /// A reservation on the port is open, or the port is inside a value that is being posted.
    Borrowed,
    /// The transfer list contains the posting port itself.
    ContainsSelf {
        /// The port's index on the list.
        index: usize,
    },
    /// The transfer list contains the peer of the posting port.
    ContainsPeer {
        /// The peer's index on the list.
        index: usize,
    },
    /// The transfer list contains the same thing twice.
    Duplicate {
        /// The index of the second one on the list.
        index: usize,
    },
    /// An item of the transfer list is closed, detached, borrowed or forked, or is a shared buffer with a name.
    Unusable {
        /// The item's index on the list.
        index: usize,
    },
    /// The message is longer than the channel allows. For more, transfer a [`TransferBuffer`](crate::TransferBuffer).
    TooLarge {
        /// Bytes that the message needs: its data and, with a transfer list, the padding and the list itself.
        len: usize,
        /// Bytes that a message may have; see [`MessagePort::max_message_len`](crate::MessagePort::max_message_len).
        max: usize,
    },
    /// The transfer list has more descriptors than the channel allows. A port counts as two, any other item as one.
    TooManyHandles {
        /// Descriptors on the list.
        handles: usize,
        /// Descriptors allowed.
        max: usize,
    },
    /// The peer is gone.
    PeerGone(CloseReason),
    /// The queue is full and must not grow further.
    Full(FullCause),
    /// The queue was still full when the time for waiting was over.
    TimedOut,
    /// An [`Interrupter`](crate::Interrupter) ended the wait for space, or a signal did, as
    /// [`set_interrupt_on_signal`](crate::MessagePort::set_interrupt_on_signal) allows.
    Interrupted,
    /// The system has no memory or no descriptors left. `ETOOMANYREFS` is the limit of descriptors in the unread
    /// messages of a user, `RLIMIT_NOFILE` of this process: see unix(7).
    ResourceExhausted(io::Error),
}

impl PostErrorKind {
    /// The index of the item on the transfer list that prevented the post, if an item did. On the list of a typed value
    /// ports and buffers are in the order in which the value names them.
    pub fn item(&self) -> Option<usize> {
        match self {
            Self::ContainsSelf { index }
            | Self::ContainsPeer { index }
            | Self::Duplicate { index }
            | Self::Unusable { index } => Some(*index),
            _ => None,
        }
    }
}

impl fmt::Display for PostErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => f.write_str(FORKED_TEXT),
            Self::PortClosed => f.write_str(CLOSED_TEXT),
            Self::Detached => f.write_str(DETACHED_TEXT),
            Self::Borrowed => f.write_str(SENDER_BORROWED_TEXT),
            Self::ContainsSelf { index } => write!(f, "item {index} of the transfer list is the posting port itself"),
            Self::ContainsPeer { index } => write!(f, "item {index} of the transfer list is the posting port's peer"),
            Self::Duplicate { index } => write!(f, "item {index} of the transfer list is on it twice"),
            Self::Unusable { index } => {
                write!(f, "item {index} of the transfer list is closed, detached, borrowed, forked or named")
            }
            Self::TooLarge { len, max } => too_large(f, *len, *max),
            Self::TooManyHandles { handles, max } => {
                write!(f, "the transfer list has {handles} descriptors, at most {max} are allowed")
            }
            Self::PeerGone(reason) => reason.fmt(f),
            Self::Full(cause) => cause.fmt(f),
            Self::TimedOut => f.write_str(NO_SPACE_IN_TIME_TEXT),
            Self::Interrupted => f.write_str(INTERRUPTED_TEXT),
            Self::ResourceExhausted(error) => cannot_post(f, error),
        }
    }
}

impl Error for PostErrorKind {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::PeerGone(reason) => reason.source(),
            Self::Full(cause) => cause.source(),
            Self::ResourceExhausted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<PostErrorKind> for io::Error {
    fn from(error: PostErrorKind) -> Self {
        let kind = match error {
            PostErrorKind::Forked => ErrorKind::Unsupported,
            PostErrorKind::PortClosed | PostErrorKind::Detached => ErrorKind::NotConnected,
            PostErrorKind::Borrowed => ErrorKind::ResourceBusy,
            PostErrorKind::ContainsSelf { .. }
            | PostErrorKind::ContainsPeer { .. }
            | PostErrorKind::Duplicate { .. }
            | PostErrorKind::Unusable { .. }
            | PostErrorKind::TooLarge { .. }
            | PostErrorKind::TooManyHandles { .. } => ErrorKind::InvalidInput,
            PostErrorKind::PeerGone(reason) => return reason.into(),
            PostErrorKind::Full(cause) => return cause.into(),
            PostErrorKind::TimedOut => ErrorKind::TimedOut,
            PostErrorKind::Interrupted => ErrorKind::Interrupted,
            PostErrorKind::ResourceExhausted(error) => return error,
        };
        Self::new(kind, error)
    }
}

/// Why data was not posted, by an operation that has no transfer list. Nothing was taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostDataError {
    /// The port was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// The port has been closed here.
    PortClosed,
    /// The port has been transferred.
    Detached,
    /// A reservation on the port is open, or the port is inside a value that is being posted.
    Borrowed,
    /// The message is longer than the channel allows, or than what was reserved. For more, transfer a
    /// [`TransferBuffer`](crate::TransferBuffer).
    TooLarge {
        /// Bytes of the message.
        len: usize,
        /// Bytes that are allowed; see [`MessagePort::max_message_len`](crate::MessagePort::max_message_len).
        max: usize,
    },
    /// The peer is gone.
    PeerGone(CloseReason),
    /// The queue is full and must not grow further.
    Full(FullCause),
    /// The queue was still full when the timeout was over. Only operations with a timeout return this.
    TimedOut,
    /// The wait for space was interrupted; see [`PostErrorKind::Interrupted`].
    Interrupted,
    /// The system has no memory or no descriptors left.
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
            PostDataError::Interrupted => Self::Interrupted,
            PostDataError::ResourceExhausted(error) => Self::ResourceExhausted(error),
        }
    }
}

impl fmt::Display for PostDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => f.write_str(FORKED_TEXT),
            Self::PortClosed => f.write_str(CLOSED_TEXT),
            Self::Detached => f.write_str(DETACHED_TEXT),
            Self::Borrowed => f.write_str(SENDER_BORROWED_TEXT),
            Self::TooLarge { len, max } => too_large(f, *len, *max),
            Self::PeerGone(reason) => reason.fmt(f),
            Self::Full(cause) => cause.fmt(f),
            Self::TimedOut => f.write_str(NO_SPACE_IN_TIME_TEXT),
            Self::Interrupted => f.write_str(INTERRUPTED_TEXT),
            Self::ResourceExhausted(error) => cannot_post(f, error),
        }
    }
}

impl Error for PostDataError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::PeerGone(reason) => reason.source(),
            Self::Full(cause) => cause.source(),
            Self::ResourceExhausted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<PostDataError> for io::Error {
    fn from(error: PostDataError) -> Self {
        PostErrorKind::from(error).into()
    }
}

/// Why nothing was received.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The port was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// The port has been closed here.
    PortClosed,
    /// The port has been transferred.
    Detached,
    /// A message of the port is being read in place, or the port is inside a value that is being posted.
    Borrowed,
    /// The peer is gone, and everything it posted has been received.
    Ended(CloseReason),
    /// An [`Interrupter`](crate::Interrupter) ended the wait, or a signal did, as
    /// [`set_interrupt_on_signal`](crate::MessagePort::set_interrupt_on_signal) allows. Nothing is lost: a later call
    /// goes on.
    Interrupted,
    /// The message cannot be made for this receiver. It has been consumed, and what it carried is closed; later
    /// messages are not affected.
    MessageError {
        /// What is wrong with the message.
        reason: BadTransfer,
        /// The data of the message.
        data: Vec<u8>,
    },
    /// The system has no memory or no descriptors left. The message is still queued, and a later attempt can receive
    /// it; a loop pauses before the next one, since the call returns at once. A message for whose descriptors there is
    /// no room (`EMFILE`) is given up after at least 16 attempts over at least 5 s: it is then a
    /// [`MessageError`](Self::MessageError) with [`NoRoom`](BadTransfer::NoRoom).
    ResourceExhausted(io::Error),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => f.write_str(FORKED_TEXT),
            Self::PortClosed => f.write_str(CLOSED_TEXT),
            Self::Detached => f.write_str(DETACHED_TEXT),
            Self::Borrowed => f.write_str("a message of the port is being read in place, or the port is being posted"),
            Self::Ended(reason) => reason.fmt(f),
            Self::Interrupted => f.write_str(INTERRUPTED_TEXT),
            Self::MessageError { reason, .. } => with_cause(f, &"the message cannot be received", reason),
            Self::ResourceExhausted(error) => with_cause(f, &"cannot receive", error),
        }
    }
}

impl Error for RecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Forked | Self::PortClosed | Self::Detached | Self::Borrowed | Self::Interrupted => None,
            Self::Ended(reason) => reason.source(),
            Self::MessageError { reason, .. } => Some(reason),
            Self::ResourceExhausted(error) => Some(error),
        }
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        let kind = match error {
            RecvError::Forked => ErrorKind::Unsupported,
            RecvError::PortClosed | RecvError::Detached => ErrorKind::NotConnected,
            RecvError::Borrowed => ErrorKind::ResourceBusy,
            RecvError::Ended(reason) => return reason.into(),
            RecvError::Interrupted => ErrorKind::Interrupted,
            RecvError::MessageError { .. } => ErrorKind::InvalidData,
            RecvError::ResourceExhausted(error) => return error,
        };
        Self::new(kind, error)
    }
}

/// [`try_recv`](crate::MessagePort::try_recv) received nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryRecvError {
    /// The queue is empty. This can change at any time.
    Empty,
    /// No more messages will come, or the next one could not be received.
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

impl Error for TryRecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Empty => None,
            Self::Failed(error) => error.source(),
        }
    }
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

impl From<TryRecvError> for io::Error {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::new(ErrorKind::WouldBlock, error),
            TryRecvError::Failed(error) => error.into(),
        }
    }
}

/// [`recv_timeout`](crate::MessagePort::recv_timeout) received nothing, or
/// [`closed_timeout`](crate::MessagePort::closed_timeout) met no end of the peer.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// No message came in time, or the peer was still there.
    TimedOut,
    /// No more messages will come, or the next one could not be received.
    Failed(RecvError),
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out waiting for a message, or for the end of the peer"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl Error for RecvTimeoutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TimedOut => None,
            Self::Failed(error) => error.source(),
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

impl From<RecvTimeoutError> for io::Error {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::TimedOut => Self::new(ErrorKind::TimedOut, error),
            RecvTimeoutError::Failed(error) => error.into(),
        }
    }
}

/// A buffer could not be made or used.
#[derive(Debug)]
#[non_exhaustive]
pub enum BufferError {
    /// The buffer has been transferred.
    Detached,
    /// The buffer was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// The range is not inside the buffer.
    OutOfRange {
        /// First byte of the range.
        offset: usize,
        /// Bytes of the range.
        len: usize,
        /// Bytes of the buffer.
        buffer_len: usize,
    },
    /// The offset of a word in place is not a multiple of the word's size.
    Misaligned {
        /// The offset.
        offset: usize,
        /// The size of the word, in bytes.
        align: usize,
    },
    /// The data of a message in place is not as long as the type as which it is read.
    WrongSize {
        /// Bytes of data.
        len: usize,
        /// Bytes of the type.
        size: usize,
    },
    /// The file from which the buffer is filled is not a regular file, or could not be read to its end.
    Unreadable(io::Error),
    /// The system has no memory or no descriptors left, or the length is over the file size limit of the process.
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
            Self::WrongSize { len, size } => wrong_size(f, *len, *size),
            Self::Unreadable(error) => with_cause(f, &"cannot read the file", error),
            Self::ResourceExhausted(error) => with_cause(f, &"cannot create the buffer", error),
        }
    }
}

impl Error for BufferError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(error) | Self::ResourceExhausted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<BufferError> for io::Error {
    fn from(error: BufferError) -> Self {
        let kind = match error {
            BufferError::Forked => ErrorKind::Unsupported,
            BufferError::Detached | BufferError::OutOfRange { .. } | BufferError::Misaligned { .. } => {
                ErrorKind::InvalidInput
            }
            BufferError::WrongSize { .. } => ErrorKind::InvalidData,
            BufferError::Unreadable(error) | BufferError::ResourceExhausted(error) => return error,
        };
        Self::new(kind, error)
    }
}

/// Why something that came from a peer was not adopted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rejection<Reason> {
    /// The thing is invalid, and every later attempt fails too.
    Invalid(Reason),
    /// This process has no memory or no descriptors left: a later attempt may succeed.
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

/// Why a file from a peer that passed the checks could not be mapped.
pub(crate) fn not_mapped(errno: Errno) -> Rejection<BadSegment> {
    match errno {
        // The file is sealed against writes (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE), or not open for writing.
        Errno::EPERM | Errno::EACCES => Rejection::Invalid(BadSegment::ReadOnly),
        errno => Rejection::Shortage(errno),
    }
}

/// A shortage in the system, as the public errors carry it.
pub(crate) fn exhausted(errno: Errno) -> io::Error {
    io_error(errno)
}

/// A shortage of memory that no system call has reported.
pub(crate) fn out_of_memory() -> io::Error {
    io_error(Errno::ENOMEM)
}

/// A want of memory for something whose length a peer may have chosen.
impl From<TryReserveError> for PostErrorKind {
    fn from(_: TryReserveError) -> Self {
        Self::ResourceExhausted(out_of_memory())
    }
}

/// True for the error of a process that has as many open descriptors as it may have.
pub(crate) fn is_want_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMFILE as i32)
}

/// Writes that the system has no resources for a post, and names the limit if that is known.
fn cannot_post(f: &mut fmt::Formatter<'_>, error: &io::Error) -> fmt::Result {
    match process::descriptor_limit().filter(|_| error.raw_os_error() == Some(Errno::ETOOMANYREFS as i32)) {
        None => with_cause(f, &"cannot post", error),
        Some(limit) => with_cause(
            f,
            &format_args!(
                "cannot post: unread messages of this user have more than {limit} descriptors (RLIMIT_NOFILE)"
            ),
            error,
        ),
    }
}

/// Writes that a message is too long, in bytes.
fn too_large(f: &mut fmt::Formatter<'_>, len: usize, max: usize) -> fmt::Result {
    write!(f, "the message needs {len} bytes, at most {max} fit; a TransferBuffer carries more")
}

/// Writes that the data of a message is not a value of the requested type, in bytes.
pub(crate) fn wrong_size(f: &mut fmt::Formatter<'_>, len: usize, size: usize) -> fmt::Result {
    write!(f, "the message has {len} bytes, where values of {size} bytes were expected")
}

const SENDER_BORROWED_TEXT: &str = "a reservation on the port is open, or the port is being posted";
const NO_SPACE_IN_TIME_TEXT: &str = "timed out waiting for space in the queue";
const INTERRUPTED_TEXT: &str = "the wait was interrupted";
const FORKED_TEXT: &str = "the port was inherited by fork and belongs to the parent process";
const CLOSED_TEXT: &str = "the port has been closed";
const DETACHED_TEXT: &str = "the port has been transferred";
