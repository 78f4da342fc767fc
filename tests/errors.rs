//! Every public error: its text, its chain of sources, and the `io::Error` that it converts into.
#![allow(missing_docs)]

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use messageport::aio::{AsyncJoinError, AsyncPort, RegisterError, RegisterListenerError, SendError};
use messageport::{
    AcceptError, AddError, AnswerError, BadSegment, BadTransfer, BadValue, BufferError, CallError, ChannelError,
    ChannelOptions, CloseReason, ConnectError, ErrorEvent, EventLoop, FreezeError, FreezeErrorKind, FullCause,
    JoinError, ListenError, Listener, Message, MessageChannel, MessagePort, NameError, NamedBufferError,
    ParentPortError, PostDataError, PostError, PostErrorKind, PostMessagesError, RecvError, RecvTimeoutError,
    RenewError, RespondError, ServeError, SpawnError, SpawnErrorKind, TransferBuffer, TryRecvError, TypedPostError,
    TypedPostErrorKind, Violation, WrongSize,
};

/// The error number of a shortage, which conversions must keep.
const SHORTAGE: i32 = 24; // EMFILE

fn shortage() -> io::Error {
    io::Error::from_raw_os_error(SHORTAGE)
}

fn port() -> MessagePort {
    MessageChannel::new().unwrap().port1
}

/// The expected `io::Error`.
enum Becomes {
    Kind(ErrorKind),
    /// The error of the system itself.
    Shortage,
}
use Becomes::{Kind, Shortage};

/// Checks the texts of an error and of its chain. Returns the length of the chain.
fn check_text(error: &dyn Error) -> usize {
    let text = error.to_string();
    assert!(!text.is_empty(), "{error:?}");
    assert!(!text.ends_with(['.', '\n']) && !text.starts_with(char::is_uppercase), "{text}");
    let mut line = text;
    let mut length = 0;
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        assert!(!cause_text.is_empty() && !line.contains(&cause_text), "{line:?} repeats {cause_text:?}");
        line += ": ";
        line += &cause_text;
        next = cause.source();
        length += 1;
    }
    assert_eq!(format!("{error:#}"), line);
    length
}

/// Checks an error: the length of its chain and its conversion.
#[track_caller]
fn check<E: Error + Into<io::Error>>(error: E, sources: usize, becomes: Becomes) {
    assert_eq!(check_text(&error), sources, "{error:?}");
    let text = format!("{error:?}");
    let error: io::Error = error.into();
    match becomes {
        Kind(kind) => assert_eq!(error.kind(), kind, "{text}"),
        Shortage => assert_eq!(error.raw_os_error(), Some(SHORTAGE), "{text}"),
    }
    assert!(!error.to_string().is_empty());
}

#[test]
fn ends_and_violations_are_errors() {
    check(CloseReason::Closed, 0, Kind(ErrorKind::BrokenPipe));
    check(CloseReason::PeerDied, 0, Kind(ErrorKind::ConnectionReset));
    check(CloseReason::ProtocolViolation(Violation::BadPad), 1, Kind(ErrorKind::InvalidData));
    check(Violation::BadLink, 0, Kind(ErrorKind::InvalidData));
    check(BadSegment::Version { found: 2, expected: 1 }, 0, Kind(ErrorKind::InvalidData));
    check(BadTransfer::Segment(BadSegment::Unsealed), 0, Kind(ErrorKind::InvalidData));
    check(BadTransfer::Value(BadValue::TooDeep), 0, Kind(ErrorKind::InvalidData));
    check(BadTransfer::NoRequest, 0, Kind(ErrorKind::InvalidData));
    check(BadTransfer::NoRoom, 0, Kind(ErrorKind::InvalidData));
    check(BadValue::Unnamed, 0, Kind(ErrorKind::InvalidData));
    check(WrongSize { len: 1, size: 2 }, 0, Kind(ErrorKind::InvalidData));
    check(FullCause::Lane, 0, Kind(ErrorKind::WouldBlock));
}

#[test]
fn errors_of_channels_and_buffers() {
    check(ChannelOptions::new().capacity(1).create().unwrap_err(), 0, Kind(ErrorKind::InvalidInput));
    check(ChannelError::ResourceExhausted(shortage()), 1, Shortage);
    check(BufferError::Detached, 0, Kind(ErrorKind::InvalidInput));
    check(BufferError::Forked, 0, Kind(ErrorKind::Unsupported));
    check(BufferError::OutOfRange { offset: 1, len: 2, buffer_len: 2 }, 0, Kind(ErrorKind::InvalidInput));
    check(BufferError::Misaligned { offset: 1, align: 4 }, 0, Kind(ErrorKind::InvalidInput));
    check(BufferError::Unreadable(shortage()), 1, Shortage);
    check(BufferError::ResourceExhausted(shortage()), 1, Shortage);
    check(FreezeErrorKind::Detached, 0, Kind(ErrorKind::InvalidInput));
    check(FreezeErrorKind::Forked, 0, Kind(ErrorKind::Unsupported));
    check(FreezeErrorKind::Received, 0, Kind(ErrorKind::InvalidInput));
    check(FreezeErrorKind::InUse, 0, Kind(ErrorKind::ResourceBusy));
    check(FreezeErrorKind::ResourceExhausted(shortage()), 1, Shortage);
    let buffer = TransferBuffer::new(1).unwrap();
    check(FreezeError { kind: FreezeErrorKind::ResourceExhausted(shortage()), buffer }, 1, Shortage);
    check(NamedBufferError::BadName, 0, Kind(ErrorKind::InvalidInput));
    check(NamedBufferError::Exists, 0, Kind(ErrorKind::AlreadyExists));
    check(NamedBufferError::Missing, 0, Kind(ErrorKind::NotFound));
    check(NamedBufferError::NotOurs, 0, Kind(ErrorKind::PermissionDenied));
    check(NamedBufferError::Unfinished, 0, Kind(ErrorKind::WouldBlock));
    check(NamedBufferError::NotABuffer(BadSegment::WrongSize), 1, Kind(ErrorKind::InvalidData));
    check(NamedBufferError::TooSmall { len: 1, min_len: 2 }, 0, Kind(ErrorKind::InvalidInput));
    check(NamedBufferError::ResourceExhausted(shortage()), 1, Shortage);
}

#[test]
fn errors_of_posting() {
    check(PostErrorKind::Forked, 0, Kind(ErrorKind::Unsupported));
    check(PostErrorKind::PortClosed, 0, Kind(ErrorKind::NotConnected));
    check(PostErrorKind::Detached, 0, Kind(ErrorKind::NotConnected));
    check(PostErrorKind::Borrowed, 0, Kind(ErrorKind::ResourceBusy));
    check(PostErrorKind::ContainsSelf { index: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostErrorKind::ContainsPeer { index: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostErrorKind::Duplicate { index: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostErrorKind::Unusable { index: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostErrorKind::TooLarge { len: 2, max: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostErrorKind::TooManyHandles { handles: 2, max: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostErrorKind::PeerGone(CloseReason::Closed), 0, Kind(ErrorKind::BrokenPipe));
    let violation = CloseReason::ProtocolViolation(Violation::BadCursor);
    check(PostErrorKind::PeerGone(violation), 1, Kind(ErrorKind::InvalidData));
    check(PostErrorKind::Full(FullCause::Ring), 0, Kind(ErrorKind::WouldBlock));
    check(PostErrorKind::TimedOut, 0, Kind(ErrorKind::TimedOut));
    check(PostErrorKind::ResourceExhausted(shortage()), 1, Shortage);

    let kind = || PostErrorKind::ResourceExhausted(shortage());
    check(PostError { kind: kind(), transfer: vec![port().into()] }, 1, Shortage);
    check(PostDataError::TooLarge { len: 2, max: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostDataError::PeerGone(CloseReason::PeerDied), 0, Kind(ErrorKind::ConnectionReset));
    check(PostDataError::ResourceExhausted(shortage()), 1, Shortage);
    check(PostMessagesError { kind: PostDataError::ResourceExhausted(shortage()), posted: 3 }, 2, Shortage);
    check(SendError { kind: kind(), message: Message::new() }, 1, Shortage);
    check(TypedPostErrorKind::Unencodable, 0, Kind(ErrorKind::InvalidInput));
    check(TypedPostErrorKind::TooDeep, 0, Kind(ErrorKind::InvalidInput));
    check(TypedPostErrorKind::Post(kind()), 1, Shortage);
    check(TypedPostError { kind: TypedPostErrorKind::Post(kind()), value: () }, 1, Shortage);
}

#[test]
fn errors_of_receiving() {
    let bad = || RecvError::MessageError { reason: BadTransfer::Lane, data: Vec::new() };
    check(RecvError::Forked, 0, Kind(ErrorKind::Unsupported));
    check(RecvError::PortClosed, 0, Kind(ErrorKind::NotConnected));
    check(RecvError::Detached, 0, Kind(ErrorKind::NotConnected));
    check(RecvError::Borrowed, 0, Kind(ErrorKind::ResourceBusy));
    check(RecvError::Ended(CloseReason::Closed), 0, Kind(ErrorKind::BrokenPipe));
    check(RecvError::Ended(CloseReason::PeerDied), 0, Kind(ErrorKind::ConnectionReset));
    check(bad(), 1, Kind(ErrorKind::InvalidData));
    check(RecvError::ResourceExhausted(shortage()), 1, Shortage);
    check(TryRecvError::Empty, 0, Kind(ErrorKind::WouldBlock));
    check(TryRecvError::Failed(bad()), 1, Kind(ErrorKind::InvalidData));
    check(RecvTimeoutError::TimedOut, 0, Kind(ErrorKind::TimedOut));
    check(RecvTimeoutError::Failed(bad()), 1, Kind(ErrorKind::InvalidData));
}

#[test]
fn errors_of_calls_and_answers() {
    let kind = || PostErrorKind::ResourceExhausted(shortage());
    check(AnswerError::Dropped, 0, Kind(ErrorKind::ConnectionAborted));
    check(AnswerError::TimedOut, 0, Kind(ErrorKind::TimedOut));
    check(AnswerError::Taken, 0, Kind(ErrorKind::InvalidInput));
    check(AnswerError::Failed(RecvError::ResourceExhausted(shortage())), 1, Shortage);
    let not_posted = PostError { kind: kind(), transfer: Vec::new() };
    check(CallError::NotPosted(not_posted), 1, Shortage);
    check(CallError::<PostError>::NoAnswer(AnswerError::TimedOut), 0, Kind(ErrorKind::TimedOut));
    check(RespondError { error: kind(), responder: () }, 1, Shortage);
    check(ServeError::<PostErrorKind>::Failed(RecvError::PortClosed), 0, Kind(ErrorKind::NotConnected));
    check(ServeError::NotAnswered(kind()), 2, Shortage);
    check(ServeError::NotAnswered(TypedPostErrorKind::Unencodable), 1, Kind(ErrorKind::InvalidInput));
}

#[test]
fn errors_of_meeting() {
    let path = || PathBuf::from("/a/path");
    check(NameError::Invalid, 0, Kind(ErrorKind::InvalidInput));
    check(NameError::TooLong(path()), 0, Kind(ErrorKind::InvalidInput));
    check(NameError::UnsafeDirectory(path()), 0, Kind(ErrorKind::PermissionDenied));
    check(NameError::Directory(path(), shortage()), 1, Shortage);
    check(ListenError::Name(NameError::Directory(path(), shortage())), 1, Shortage);
    check(ListenError::InUse(path()), 0, Kind(ErrorKind::AddrInUse));
    check(ListenError::NotASocket(path()), 0, Kind(ErrorKind::AlreadyExists));
    check(ListenError::System(path(), shortage()), 1, Shortage);
    check(AcceptError::TimedOut, 0, Kind(ErrorKind::TimedOut));
    check(AcceptError::Forked, 0, Kind(ErrorKind::Unsupported));
    check(AcceptError::System(shortage()), 1, Shortage);
    check(ConnectError::Name(NameError::Invalid), 0, Kind(ErrorKind::InvalidInput));
    check(ConnectError::NoListener(path()), 0, Kind(ErrorKind::ConnectionRefused));
    check(ConnectError::WrongUser(1), 0, Kind(ErrorKind::PermissionDenied));
    check(ConnectError::Refused, 0, Kind(ErrorKind::ConnectionRefused));
    check(ConnectError::Overloaded, 0, Kind(ErrorKind::ResourceBusy));
    check(ConnectError::Version(2), 0, Kind(ErrorKind::Unsupported));
    check(ConnectError::TimedOut, 0, Kind(ErrorKind::TimedOut));
    check(ConnectError::Channel(ChannelError::ResourceExhausted(shortage())), 1, Shortage);
    check(ConnectError::Greeting(PostErrorKind::Duplicate { index: 1 }), 1, Kind(ErrorKind::InvalidInput));
    check(ConnectError::System(shortage()), 1, Shortage);
    check(ParentPortError::Missing, 0, Kind(ErrorKind::NotFound));
    check(ParentPortError::Malformed, 0, Kind(ErrorKind::InvalidData));
    check(ParentPortError::Version(2), 0, Kind(ErrorKind::Unsupported));
    check(ParentPortError::Contents(BadTransfer::Capsule), 1, Kind(ErrorKind::InvalidData));
    check(ParentPortError::System(shortage()), 1, Shortage);
    check(SpawnErrorKind::Spawn(shortage()), 1, Shortage);
    check(SpawnErrorKind::Port(PostErrorKind::Detached), 1, Kind(ErrorKind::NotConnected));
    check(SpawnError { kind: SpawnErrorKind::Spawn(shortage()), port: port() }, 1, Shortage);
    check(RenewError { kind: PostErrorKind::Detached, port: port() }, 1, Kind(ErrorKind::NotConnected));
}

#[test]
fn errors_of_loops_and_halves() {
    check(AddError { error: shortage(), port: () }, 1, Shortage);
    check(RegisterError { error: shortage(), port: port() }, 1, Shortage);
    let name = std::env::temp_dir().join(format!("messageport-errors-{}", std::process::id()));
    let listener = Listener::bind(name.to_str().unwrap()).unwrap();
    check(RegisterListenerError { error: shortage(), listener }, 1, Shortage);
    let (halves, others) = (port().split(), port().split());
    check(JoinError(halves.0, others.1), 0, Kind(ErrorKind::InvalidInput));
    let events = EventLoop::new().unwrap();
    let handle = events.handle();
    drop(events);
    check(handle.post_task(|_| {}).unwrap_err(), 0, Kind(ErrorKind::BrokenPipe));
    assert_eq!(check_text(&ErrorEvent::ResourceExhausted(shortage())), 1);
    assert_eq!(check_text(&ErrorEvent::Panic(Box::new("oh no"))), 0);
}

#[tokio::test]
async fn errors_of_halves_in_tasks() {
    let (halves, others) = (AsyncPort::new(port()).unwrap().split(), AsyncPort::new(port()).unwrap().split());
    let error: AsyncJoinError = AsyncPort::join(halves.0, others.1).unwrap_err();
    check(error, 0, Kind(ErrorKind::InvalidInput));
}
