//! Every public error: its text, its chain of sources, and the `io::Error` that it converts into.
#![allow(missing_docs)]

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use futures_util::SinkExt;
use messageport::aio::{AsyncPort, AsyncRecvHalf, AsyncSendHalf, SendError};
use messageport::{
    AcceptError, AnswerError, BadSegment, BadTransfer, BadValue, BufferError, CallError, ChannelError, ChannelOptions,
    Client, CloseReason, ConnectError, DifferentPorts, ErrorEvent, EventLoop, Exclusive, FreezeError, FreezeErrorKind,
    FrozenBuffer, FullCause, JoinError, ListenError, Listener, LoopGone, Message, MessageChannel, MessagePort,
    NameError, NamedBufferError, ParentPortError, PortSet, PostDataError, PostError, PostErrorKind, PostMessagesError,
    RecvError, RecvTimeoutError, Refusal, RenewError, RespondError, Responder, ServeError, Server, SharedBuffer,
    SpawnError, SpawnErrorKind, TransferBuffer, Transferable, TryRecvError, TypedClient, TypedPort, TypedPostError,
    TypedPostErrorKind, TypedResponder, TypedServer, Violation, WatchError, WrongSize, spawn_with_port,
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
    check(ChannelOptions::new().name("x".repeat(33)).create().unwrap_err(), 0, Kind(ErrorKind::InvalidInput));
    check(ChannelOptions::new().name("a\0b").create().unwrap_err(), 0, Kind(ErrorKind::InvalidInput));
    check(ChannelError::ResourceExhausted(shortage()), 1, Shortage);
    check(BufferError::Detached, 0, Kind(ErrorKind::InvalidInput));
    check(BufferError::Forked, 0, Kind(ErrorKind::Unsupported));
    check(BufferError::OutOfRange { offset: 1, len: 2, buffer_len: 2 }, 0, Kind(ErrorKind::InvalidInput));
    check(BufferError::WrongSize { len: 1, size: 4 }, 0, Kind(ErrorKind::InvalidData));
    check(BufferError::Misaligned { offset: 1, align: 4 }, 0, Kind(ErrorKind::InvalidInput));
    check(BufferError::Unreadable(shortage()), 1, Shortage);
    check(BufferError::ResourceExhausted(shortage()), 1, Shortage);
    check(FreezeErrorKind::Detached, 0, Kind(ErrorKind::InvalidInput));
    check(FreezeErrorKind::Forked, 0, Kind(ErrorKind::Unsupported));
    check(FreezeErrorKind::Received, 0, Kind(ErrorKind::InvalidInput));
    check(FreezeErrorKind::InUse, 0, Kind(ErrorKind::ResourceBusy));
    check(FreezeErrorKind::ResourceExhausted(shortage()), 1, Shortage);
    let buffer = TransferBuffer::new(1).unwrap();
    check(FreezeError::new(FreezeErrorKind::ResourceExhausted(shortage()), buffer), 1, Shortage);
    check(NamedBufferError::BadName, 0, Kind(ErrorKind::InvalidInput));
    check(NamedBufferError::Exists, 0, Kind(ErrorKind::AlreadyExists));
    check(NamedBufferError::Missing, 0, Kind(ErrorKind::NotFound));
    check(NamedBufferError::NoSharedMemory, 0, Kind(ErrorKind::NotFound));
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
    assert!(PostErrorKind::TooLarge { len: 2, max: 1 }.to_string().contains("TransferBuffer"));
    check(PostErrorKind::TooManyHandles { handles: 2, max: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostErrorKind::PeerGone(CloseReason::Closed), 0, Kind(ErrorKind::BrokenPipe));
    let violation = CloseReason::ProtocolViolation(Violation::BadCursor);
    check(PostErrorKind::PeerGone(violation), 1, Kind(ErrorKind::InvalidData));
    check(PostErrorKind::Full(FullCause::Ring), 0, Kind(ErrorKind::WouldBlock));
    check(PostErrorKind::TimedOut, 0, Kind(ErrorKind::TimedOut));
    check(PostErrorKind::ResourceExhausted(shortage()), 1, Shortage);

    let kind = || PostErrorKind::ResourceExhausted(shortage());
    check(PostError::new(kind(), vec![port().into()]), 1, Shortage);
    check(PostDataError::TooLarge { len: 2, max: 1 }, 0, Kind(ErrorKind::InvalidInput));
    check(PostDataError::PeerGone(CloseReason::PeerDied), 0, Kind(ErrorKind::ConnectionReset));
    check(PostDataError::ResourceExhausted(shortage()), 1, Shortage);
    check(PostMessagesError { kind: PostDataError::ResourceExhausted(shortage()), posted: 3 }, 2, Shortage);
    check(SendError::new(kind(), Message::new()), 1, Shortage);
    check(TypedPostErrorKind::Unencodable, 0, Kind(ErrorKind::InvalidInput));
    check(TypedPostErrorKind::TooDeep, 0, Kind(ErrorKind::InvalidInput));
    check(TypedPostErrorKind::Post(kind()), 1, Shortage);
    check(TypedPostError::new(TypedPostErrorKind::Post(kind()), ()), 1, Shortage);
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
    let not_posted = PostError::new(kind(), Vec::new());
    check(CallError::NotPosted(not_posted), 1, Shortage);
    check(CallError::<PostError>::NoAnswer(AnswerError::TimedOut), 0, Kind(ErrorKind::TimedOut));
    check(RespondError::new(kind(), ((), ())), 1, Shortage);
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
    check(ParentPortError::Lost { descriptor: 7 }, 0, Kind(ErrorKind::NotFound));
    check(ParentPortError::Malformed, 0, Kind(ErrorKind::InvalidData));
    check(ParentPortError::Version(2), 0, Kind(ErrorKind::Unsupported));
    check(ParentPortError::Contents(BadTransfer::Capsule), 1, Kind(ErrorKind::InvalidData));
    check(ParentPortError::System(shortage()), 1, Shortage);
    check(SpawnErrorKind::Spawn(shortage()), 1, Shortage);
    check(SpawnErrorKind::Port(PostErrorKind::Detached), 1, Kind(ErrorKind::NotConnected));
    check(SpawnError::new(SpawnErrorKind::Spawn(shortage()), port()), 1, Shortage);
    check(RenewError::new(PostErrorKind::Detached, port()), 0, Kind(ErrorKind::NotConnected));
}

#[test]
fn errors_of_loops_and_halves() {
    check(Refusal::new(WatchError::System(shortage()), port()), 1, Shortage);
    check(WatchError::Forked, 0, Kind(ErrorKind::Unsupported));
    let (halves, others) = (port().split(), port().split());
    check(JoinError::new(DifferentPorts, (halves.0, others.1)), 0, Kind(ErrorKind::InvalidInput));
    let events = EventLoop::new().unwrap();
    let handle = events.handle();
    drop(events);
    check(handle.post_task(|_| {}).unwrap_err(), 0, Kind(ErrorKind::BrokenPipe));
    assert_eq!(check_text(&ErrorEvent::ResourceExhausted(shortage())), 1);
    assert_eq!(check_text(&ErrorEvent::Panic(Exclusive::new(Box::new("oh no")))), 0);
}

#[tokio::test]
async fn errors_of_halves_in_tasks() {
    let (halves, others) = (AsyncPort::new(port()).unwrap().split(), AsyncPort::new(port()).unwrap().split());
    check(AsyncPort::join(halves.0, others.1).unwrap_err(), 0, Kind(ErrorKind::InvalidInput));
}

/// Any thread may own an error, and several may share it.
const _: fn() = || {
    fn shared<T: Error + Send + Sync + 'static>() {}
    shared::<AcceptError>();
    shared::<AnswerError>();
    shared::<BadSegment>();
    shared::<BadTransfer>();
    shared::<BadValue>();
    shared::<BufferError>();
    shared::<CallError>();
    shared::<CallError<TypedPostError<MessagePort>>>();
    shared::<ChannelError>();
    shared::<CloseReason>();
    shared::<ConnectError>();
    shared::<DifferentPorts>();
    shared::<ErrorEvent>();
    shared::<FreezeError>();
    shared::<FreezeErrorKind>();
    shared::<FullCause>();
    shared::<JoinError>();
    shared::<ListenError>();
    shared::<LoopGone>();
    shared::<NameError>();
    shared::<NamedBufferError>();
    shared::<ParentPortError>();
    shared::<PostDataError>();
    shared::<PostError>();
    shared::<PostErrorKind>();
    shared::<PostMessagesError>();
    shared::<RecvError>();
    shared::<RecvTimeoutError>();
    shared::<Refusal<DifferentPorts, (AsyncSendHalf, AsyncRecvHalf)>>();
    shared::<Refusal<LoopGone, Box<dyn FnOnce(&EventLoop) + Send>>>();
    shared::<Refusal<WatchError, Listener>>();
    shared::<RenewError>();
    shared::<RespondError<PostErrorKind, Responder, Vec<Transferable>>>();
    shared::<RespondError<TypedPostErrorKind, TypedResponder<MessagePort>, MessagePort>>();
    shared::<SendError>();
    shared::<ServeError>();
    shared::<ServeError<TypedPostErrorKind>>();
    shared::<SpawnError>();
    shared::<SpawnErrorKind>();
    shared::<TryRecvError>();
    shared::<TypedPostError<MessagePort>>();
    shared::<TypedPostErrorKind>();
    shared::<Violation>();
    shared::<WatchError>();
    shared::<WrongSize>();
};

/// What `main` of a program returns that uses `anyhow`, `eyre` or the like: `?` must convert every error into it.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn operations_of_a_port() -> Outcome {
    let MessageChannel { port1, port2 } = ChannelOptions::new().create()?;
    let time = Duration::from_secs(10);
    port1.post_message(b"1", [])?;
    port1.post_message_wait(b"2", [MessageChannel::new()?.port1.into()])?;
    port1.post_message_timeout(b"3", [], time)?;
    port1.post_message_detaching(b"4", &[])?;
    port1.post_messages(&[b"5"])?;
    port1.post_plain(&6_u8)?;
    port1.reserve(1)?.commit()?;
    assert_eq!(port2.recv()?.data, b"1");
    assert_eq!(port2.recv_timeout(time)?.ports.len(), 1);
    assert_eq!(port2.try_recv()?.data, b"3");
    port2.recv_ref()?.to_vec()?;
    port2.recv_messages(&mut [Message::new()])?;
    let (sender, receiver) = port1.split();
    sender.post_message(b"half", [])?;
    port2.post_message(b"half", [])?;
    receiver.recv()?;
    MessagePort::join(sender, receiver)?.renew()?;
    Ok(())
}

fn operations_of_buffers() -> Outcome {
    let frozen: FrozenBuffer = TransferBuffer::new(8)?.freeze()?;
    let shared = SharedBuffer::new(frozen.len())?;
    shared.write_at(0, &frozen)?;
    Ok(())
}

fn operations_of_loops_and_sets() -> Outcome {
    let channel = MessageChannel::new()?;
    let events = EventLoop::new()?;
    events.add(channel.port1)?.post_message(b"", [])?;
    events.add_half(channel.port2.split().1)?;
    events.handle().post_task(|_| {})?;
    PortSet::new()?.add(MessageChannel::new()?.port1)?;
    Ok(())
}

fn operations_of_calls() -> Outcome {
    let MessageChannel { port1, port2 } = MessageChannel::new()?;
    let (client, server) = (Client::new(port1), Server::new(port2));
    let call = client.start(b"request", [])?;
    server.recv()?.1.answer(b"answer", [MessageChannel::new()?.port1.into()])?;
    assert_eq!(call.wait()?.ports.len(), 1);
    let answering = thread::spawn(move || -> Outcome { Ok(server.serve(|_| ())?) });
    client.call(b"request", [])?;
    drop(client);
    answering.join().expect("no panic")
}

fn operations_on_values() -> Outcome {
    let MessageChannel { port1, port2 } = MessageChannel::new()?;
    let typed: TypedPort<MessagePort, ()> = port1.into();
    let other: TypedPort<(), MessagePort> = port2.into();
    typed.post(MessageChannel::new()?.port1)?;
    let MessageChannel { port1, port2 } = MessageChannel::new()?;
    let (client, server) = (TypedClient::<MessagePort, MessagePort>::new(port1), TypedServer::new(port2));
    let call = client.start(other.recv()?)?;
    let (request, responder): (MessagePort, _) = server.recv()?;
    responder.answer(request)?;
    call.wait()?;
    Ok(())
}

async fn operations_in_tasks() -> Outcome {
    let MessageChannel { port1, port2 } = MessageChannel::new()?;
    let (mut one, mut two) = (AsyncPort::new(port1)?, AsyncPort::new(port2)?);
    one.post_data("data alone")?;
    one.post_data_wait(vec![1]).await?;
    assert_eq!(two.recv().await?.data, b"data alone");
    assert_eq!(two.recv().await?.data, [1]);
    one.post_message(b"", [])?;
    one.post_message_wait(b"", []).await?;
    one.send(Message::new()).await?;
    two.recv().await?;
    let (sender, receiver) = two.split();
    AsyncPort::join(sender, receiver)?;
    Ok(())
}

/// A child of a program that does not exist, and the reason in the error that a caller of a caller gets.
fn operations_that_fail() -> Outcome {
    let MessageChannel { port1, port2: _port2 } = MessageChannel::new()?;
    spawn_with_port(&mut Command::new("/no/such/program"), port1)?;
    Ok(())
}

#[test]
fn every_operation_can_be_followed_by_a_question_mark() {
    operations_of_a_port().expect("a port");
    operations_of_buffers().expect("buffers");
    operations_of_loops_and_sets().expect("loops and sets");
    operations_of_calls().expect("calls");
    operations_on_values().expect("values");
    let error = thread::spawn(operations_that_fail).join().expect("no panic").expect_err("no such program");
    let error = error.downcast::<SpawnError>().expect("the error of the operation");
    assert!(matches!(error.kind, SpawnErrorKind::Spawn(_)));
    let port = error.into_inner();
    assert!(matches!(port.recv(), Err(RecvError::Ended(CloseReason::Closed))), "the port is not back");
}

#[tokio::test]
async fn every_operation_in_a_task_can_be_followed_by_a_question_mark() {
    tokio::spawn(operations_in_tasks()).await.expect("no panic").expect("tasks");
}
