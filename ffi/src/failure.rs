//! What a function answers when it fails: a code, and for this thread the rest of what is known.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::num::NonZeroI32;

use messageport::{
    AcceptError, BufferError, ChannelError, CloseReason, ConnectError, FreezeErrorKind, FullCause, ListenError,
    NameError, NamedBufferError, ParentPortError, PostErrorKind, RecvError, RecvTimeoutError, SpawnErrorKind,
    TryRecvError,
};

use crate::code::{self, Code};

/// Why a function failed: its code. What more there is to say is kept for the thread when the failure is made; for what
/// happens in every loop there is nothing more, and so nothing is allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failure(NonZeroI32);

/// The last failure of a thread that had more to say than its code.
struct Last {
    code: Code,
    text: String,
    os_error: i32,
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { code: code::OK, text: String::new(), os_error: 0 }) };
}

impl Failure {
    /// The code says it all.
    pub(crate) const fn plain(code: Code) -> Self {
        match NonZeroI32::new(code) {
            Some(code) => Self(code),
            None => panic!("success is no failure"),
        }
    }

    #[cold]
    fn new(code: Code, error: &dyn Display) -> Self {
        Self::note(code, 0, error.to_string())
    }

    #[cold]
    fn system(code: Code, os: &io::Error, error: &dyn Display) -> Self {
        Self::note(code, os.raw_os_error().unwrap_or(0), error.to_string())
    }

    fn note(code: Code, os_error: i32, text: String) -> Self {
        // A thread that is ending keeps nothing.
        let _ = LAST.try_with(|last| *last.borrow_mut() = Last { code, text, os_error });
        Self::plain(code)
    }

    /// An argument is NULL.
    #[cold]
    pub(crate) fn null(argument: &str) -> Self {
        Self::new(code::NULL_ARGUMENT, &format_args!("{argument} is NULL"))
    }

    #[cold]
    pub(crate) fn bad_argument(why: &str) -> Self {
        Self::new(code::BAD_ARGUMENT, &why)
    }

    #[cold]
    pub(crate) fn bad_item(index: usize, why: &str) -> Self {
        Self::new(code::BAD_ITEM, &format_args!("item {index} of the transfer list: {why}"))
    }

    #[cold]
    pub(crate) fn out_of_range(index: usize, count: usize) -> Self {
        Self::new(code::OUT_OF_RANGE, &format_args!("{index} is not less than {count}"))
    }

    #[cold]
    pub(crate) fn exhausted(error: &io::Error) -> Self {
        Self::system(code::RESOURCE_EXHAUSTED, error, error)
    }

    #[cold]
    pub(crate) fn internal(error: &dyn Display) -> Self {
        Self::new(code::INTERNAL, error)
    }

    #[cold]
    pub(crate) fn of_panic(panic: Box<dyn Any + Send>) -> Self {
        let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "panic".to_owned(),
        };
        // Dropping it could panic again.
        std::mem::forget(panic);
        Self::note(code::INTERNAL, 0, text)
    }

    #[inline]
    pub(crate) fn code(self) -> Code {
        self.0.get()
    }

    /// Calls `tell` with all that is known of `code`.
    pub(crate) fn with_last<T>(code: Code, tell: impl Fn(&str) -> T) -> T {
        let told = LAST.try_with(|last| {
            let last = last.borrow();
            (last.code == code && !last.text.is_empty()).then(|| tell(&last.text))
        });
        told.ok().flatten().unwrap_or_else(|| tell(code::text(code).to_str().unwrap_or_default()))
    }

    pub(crate) fn last_os_error() -> i32 {
        LAST.try_with(|last| last.borrow().os_error).unwrap_or(0)
    }
}

/// The end of a peer.
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
            // Told in every loop, and there is nothing to add.
            PostErrorKind::Full(FullCause::Ring) => return Self::plain(code::FULL),
            PostErrorKind::Full(_) => return Self::plain(code::LANE_FULL),
            PostErrorKind::TimedOut => return Self::plain(code::TIMED_OUT),
            PostErrorKind::ResourceExhausted(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
            PostErrorKind::Forked => code::FORKED,
            PostErrorKind::PortClosed => code::CLOSED,
            PostErrorKind::Detached => code::DETACHED,
            PostErrorKind::Borrowed => code::BORROWED,
            PostErrorKind::ContainsSelf => code::CONTAINS_SELF,
            PostErrorKind::ContainsPeer => code::CONTAINS_PEER,
            PostErrorKind::Duplicate => code::DUPLICATE,
            PostErrorKind::Unusable { .. } => code::UNUSABLE,
            PostErrorKind::PooledElsewhere { .. } => code::POOLED_ELSEWHERE,
            PostErrorKind::TooLarge { .. } => code::TOO_LARGE,
            PostErrorKind::TooManyHandles { .. } => code::TOO_MANY_HANDLES,
            PostErrorKind::NoSendHalf => code::WRONG_HALF,
            PostErrorKind::PeerGone(reason) => code_of(*reason),
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}

impl From<RecvError> for Failure {
    #[cold]
    fn from(error: RecvError) -> Self {
        let code = match &error {
            RecvError::ResourceExhausted(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
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
        }
    }
}

impl From<RecvTimeoutError> for Failure {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::TimedOut => Self::plain(code::TIMED_OUT),
            RecvTimeoutError::Failed(error) => error.into(),
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

impl From<NamedBufferError> for Failure {
    fn from(error: NamedBufferError) -> Self {
        let code = match &error {
            NamedBufferError::ResourceExhausted(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
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
            ChannelError::ResourceExhausted(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
            // An option that is out of range.
            _ => code::BAD_ARGUMENT,
        };
        Self::new(code, &error)
    }
}

impl From<SpawnErrorKind> for Failure {
    fn from(error: SpawnErrorKind) -> Self {
        match error {
            SpawnErrorKind::Spawn(os) => Self::system(code::SYSTEM, &os, &os),
            SpawnErrorKind::Port(error) => error.into(),
            error => Self::new(code::INTERNAL, &format_args!("{error:?}")),
        }
    }
}

impl From<ParentPortError> for Failure {
    fn from(error: ParentPortError) -> Self {
        let code = match &error {
            ParentPortError::System(os) => return Self::system(code::RESOURCE_EXHAUSTED, os, &error),
            ParentPortError::Missing => code::NO_PARENT_PORT,
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
            NameError::Directory(_, os) => return Self::system(code::SYSTEM, os, &error),
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
            ListenError::System(_, ref os) => return Self::system(code::SYSTEM, os, &error),
            ListenError::InUse(_) => code::IN_USE,
            ListenError::NotASocket(_) => code::NOT_A_SOCKET,
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
            AcceptError::System(os) => Self::system(code::RESOURCE_EXHAUSTED, os, &error),
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
            ConnectError::System(ref os) => return Self::system(code::SYSTEM, os, &error),
            ConnectError::TimedOut => return Self::plain(code::TIMED_OUT),
            ConnectError::NobodyListens(_) => code::NOBODY_LISTENS,
            ConnectError::WrongUser(_) => code::WRONG_USER,
            ConnectError::Refused => code::REFUSED,
            ConnectError::Version(_) => code::WRONG_VERSION,
            _ => code::INTERNAL,
        };
        Self::new(code, &error)
    }
}
