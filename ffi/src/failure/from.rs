//! What Rust's errors become.

use std::io;

#[cfg(feature = "named")]
use messageport::NamedBufferError;
use messageport::{
    AcceptError, AnswerError, BufferError, ChannelError, CloseReason, ConnectError, FreezeErrorKind, FullCause,
    ListenError, Message, NameError, ParentPortError, PostDataError, PostErrorKind, RecvError, RecvTimeoutError,
    SpawnErrorKind, TryRecvError,
};

use super::Failure;
use crate::code::{self, Code};

/// The code for the end of a peer.
pub(crate) fn code_of(reason: CloseReason) -> Code {
    match reason {
        CloseReason::Closed => code::PEER_CLOSED,
        CloseReason::PeerDied => code::PEER_DIED,
        CloseReason::ProtocolViolation(_) => code::PROTOCOL_VIOLATION,
        _ => code::INTERNAL,
    }
}

impl From<PostErrorKind> for Failure {
    #[cold]
    fn from(error: PostErrorKind) -> Self {
        let code = match &error {
            // Ordinary results of a polling loop: no description, no allocation.
            PostErrorKind::Full(FullCause::Ring) => return Self::plain(code::FULL),
            PostErrorKind::Full(_) => return Self::plain(code::LANE_FULL),
            PostErrorKind::TimedOut => return Self::plain(code::TIMED_OUT),
            PostErrorKind::Interrupted => return Self::plain(code::INTERRUPTED),
            PostErrorKind::ResourceExhausted(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
            PostErrorKind::Forked => code::FORKED,
            PostErrorKind::PortClosed => code::CLOSED,
            PostErrorKind::Detached => code::DETACHED,
            PostErrorKind::Borrowed => code::BORROWED,
            PostErrorKind::ContainsSelf { .. } => code::CONTAINS_SELF,
            PostErrorKind::ContainsPeer { .. } => code::CONTAINS_PEER,
            PostErrorKind::Duplicate { .. } => code::DUPLICATE,
            PostErrorKind::Unusable { .. } => code::UNUSABLE,
            PostErrorKind::TooLarge { .. } => code::TOO_LARGE,
            PostErrorKind::TooManyHandles { .. } => code::TOO_MANY_HANDLES,
            PostErrorKind::PeerGone(reason) => code_of(*reason),
            _ => code::INTERNAL,
        };
        match error.item() {
            Some(index) => Self::of_item(code, index, &error),
            None => Self::new(code, &error),
        }
    }
}

impl From<PostDataError> for Failure {
    #[cold]
    fn from(error: PostDataError) -> Self {
        PostErrorKind::from(error).into()
    }
}

impl From<RecvError> for Failure {
    #[cold]
    fn from(error: RecvError) -> Self {
        let code = match &error {
            RecvError::ResourceExhausted(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
            RecvError::Interrupted => return Self::plain(code::INTERRUPTED),
            RecvError::Forked => code::FORKED,
            RecvError::PortClosed => code::CLOSED,
            RecvError::Detached => code::DETACHED,
            RecvError::Borrowed => code::BORROWED,
            RecvError::Ended(reason) => code_of(*reason),
            RecvError::MessageError { .. } => code::MESSAGE_ERROR,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

impl From<TryRecvError> for Failure {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::plain(code::EMPTY),
            TryRecvError::Failed(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<RecvTimeoutError> for Failure {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::TimedOut => Self::plain(code::TIMED_OUT),
            RecvTimeoutError::Failed(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<BufferError> for Failure {
    fn from(error: BufferError) -> Self {
        let code = match &error {
            BufferError::ResourceExhausted(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
            BufferError::Unreadable(os) => return Self::system(code::UNREADABLE, os, &error),
            BufferError::Detached => code::DETACHED,
            BufferError::Forked => code::FORKED,
            BufferError::OutOfRange { .. } => code::OUT_OF_RANGE,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

impl From<FreezeErrorKind> for Failure {
    fn from(error: FreezeErrorKind) -> Self {
        let code = match &error {
            FreezeErrorKind::ResourceExhausted(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
            FreezeErrorKind::Detached => code::DETACHED,
            FreezeErrorKind::Forked => code::FORKED,
            FreezeErrorKind::Received => code::NOT_NEW,
            FreezeErrorKind::InUse => code::MAPPED_ELSEWHERE,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

#[cfg(feature = "named")]
impl From<NamedBufferError> for Failure {
    fn from(error: NamedBufferError) -> Self {
        let code = match &error {
            NamedBufferError::ResourceExhausted(os) => return Self::of_system(os, &error),
            NamedBufferError::NoSharedMemory => code::SYSTEM,
            NamedBufferError::BadName => code::BAD_NAME,
            NamedBufferError::Exists => code::NAME_EXISTS,
            NamedBufferError::Missing => code::NAME_MISSING,
            NamedBufferError::NotOurs => code::NOT_OURS,
            NamedBufferError::Unfinished => code::UNFINISHED,
            NamedBufferError::NotABuffer(_) => code::NOT_A_BUFFER,
            NamedBufferError::TooSmall { .. } => code::TOO_SMALL,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        let code = match &error {
            ChannelError::ResourceExhausted(os) => return Self::of_system(os, &error),
            // The others are options that are out of range.
            _ => code::BAD_ARGUMENT,
        };
        Self::new(code, &error)
    }
}

impl From<SpawnErrorKind> for Failure {
    fn from(error: SpawnErrorKind) -> Self {
        match error {
            SpawnErrorKind::Spawn(os) => Self::of_system(&os, &os),
            SpawnErrorKind::Port(error) => error.into(),
            error => Self::new(code::INTERNAL, &format_args!("{error:?}")),
        }
    }
}

impl From<ParentPortError> for Failure {
    fn from(error: ParentPortError) -> Self {
        let code = match &error {
            ParentPortError::System(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
            ParentPortError::Missing | ParentPortError::Lost { .. } => code::NO_PARENT_PORT,
            ParentPortError::Malformed | ParentPortError::Contents(_) => code::BAD_PARENT_PORT,
            ParentPortError::Version(_) => code::WRONG_VERSION,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        let code = match &error {
            NameError::Directory(_, os) => return Self::of_system(os, &error),
            NameError::Invalid => code::BAD_NAME,
            NameError::TooLong(_) => code::NAME_TOO_LONG,
            NameError::UnsafeDirectory(_) => code::UNSAFE_DIRECTORY,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        let code = match error {
            ListenError::Name(error) => return error.into(),
            ListenError::System(_, ref os) => return Self::of_system(os, &error),
            ListenError::InUse(_) => code::IN_USE,
            ListenError::NotASocket(_) | ListenError::BadSocket => code::NOT_A_SOCKET,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

impl From<AcceptError> for Failure {
    fn from(error: AcceptError) -> Self {
        match &error {
            AcceptError::TimedOut => Self::plain(code::TIMED_OUT),
            AcceptError::Forked => Self::new(code::FORKED, &error),
            AcceptError::System(os) => Self::of_system(os, &error),
            _ => Self::new(code::INTERNAL, &error),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = match error {
            ConnectError::Name(error) => return error.into(),
            ConnectError::Channel(error) => return error.into(),
            ConnectError::Greeting(error) => return error.into(),
            ConnectError::System(ref os) => return Self::of_system(os, &error),
            ConnectError::TimedOut => return Self::plain(code::TIMED_OUT),
            ConnectError::NoListener(_) => code::NO_LISTENER,
            ConnectError::WrongUser(_) => code::WRONG_USER,
            ConnectError::Refused => code::REFUSED,
            ConnectError::Overloaded => code::OVERLOADED,
            ConnectError::Version(_) => code::WRONG_VERSION,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

impl From<AnswerError> for Failure {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Dropped => Self::plain(code::REQUEST_DROPPED),
            AnswerError::TimedOut => Self::plain(code::TIMED_OUT),
            AnswerError::Taken => Self::plain(code::CALL_OVER),
            AnswerError::Failed(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

/// The failure of an event loop or a set to wait for its ports.
pub(crate) fn watching(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ResourceBusy if error.raw_os_error().is_none() => Failure::plain(code::RUNNING),
        io::ErrorKind::Interrupted if error.raw_os_error().is_none() => Failure::plain(code::INTERRUPTED),
        io::ErrorKind::Unsupported if error.raw_os_error().is_none() => Failure::plain(code::FORKED),
        _ => Failure::exhausted(error),
    }
}

/// Why a call received nothing, whichever of the receiving calls it was.
pub(crate) enum NotReceived {
    /// Nothing came: `EMPTY` or `TIMED_OUT`.
    Nothing(Code),
    Failed(RecvError),
}

impl NotReceived {
    /// The failure for C. The data of a message that cannot be received goes to `message`.
    #[cold]
    #[inline(never)]
    pub(crate) fn into_failure(self, message: &mut Message) -> Failure {
        match self {
            Self::Nothing(code) => Failure::plain(code),
            Self::Failed(mut error) => {
                if let RecvError::MessageError { data, .. } = &mut error {
                    message.data = std::mem::take(data);
                }
                error.into()
            }
        }
    }
}

impl From<RecvError> for NotReceived {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

impl From<TryRecvError> for NotReceived {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::Nothing(code::EMPTY),
            TryRecvError::Failed(error) => Self::Failed(error),
            _ => Self::Nothing(code::INTERNAL),
        }
    }
}

impl From<RecvTimeoutError> for NotReceived {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::TimedOut => Self::Nothing(code::TIMED_OUT),
            RecvTimeoutError::Failed(error) => Self::Failed(error),
            _ => Self::Nothing(code::INTERNAL),
        }
    }
}
