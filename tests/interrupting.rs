//! Another thread, or a signal, ends a wait: nothing is lost, and the next call goes on.

mod tools;

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use messageport::{
    AnswerError, CallError, Client, Interrupter, MessagePort, PortSet, PostErrorKind, RecvError, RecvTimeoutError,
    ServeError, Server, SetEvent,
};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use tools::attacker::Pages;
use tools::child::{Process, Role};
use tools::ledger::alone;
use tools::memory::newest_memory;
use tools::{PATIENCE, assert_entangled, fill_by, pair, pair_of, text, within};

const ROLES: &[Role] = &[("interrupted by a handler", interrupted_by_a_handler)];

/// The value of a doorbell whose owner sleeps on the futex.
const FUTEX: u32 = 1;
/// The value of a doorbell whose owner sleeps on the descriptor.
const FD: u32 = 2;

/// A pair, and a mapping that shows its doorbells. The first port is side A.
fn watched_pair() -> (MessagePort, MessagePort, Pages) {
    let ((a, b), file) = newest_memory(|| pair_of(4096));
    (a, b, Pages::of(&file))
}

fn data_of_a(pages: &Pages) -> &AtomicU32 {
    pages.doorbells(1)[0]
}

fn space_of_a(pages: &Pages) -> &AtomicU32 {
    pages.doorbells(0)[1]
}

/// Waits until the owner of the doorbell sleeps in this way.
#[track_caller]
fn wait_until(asleep: u32, doorbell: &AtomicU32) {
    let start = Instant::now();
    while doorbell.load(Ordering::SeqCst) != asleep {
        assert!(start.elapsed() < PATIENCE, "not asleep");
        thread::yield_now();
    }
}

fn is_interrupted<T>(result: Result<T, RecvError>) -> bool {
    matches!(result, Err(RecvError::Interrupted))
}

/// Runs `wait` on a thread of its own.
fn start<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(move || within(PATIENCE, wait))
}

#[test]
fn a_receive_is_interrupted_in_each_kind_of_sleep() {
    let _alone = alone();
    for asleep in [FUTEX, FD] {
        let (a, b, pages) = watched_pair();
        let interrupter = a.interrupter().expect("descriptors");
        let receiver = start(move || (is_interrupted(a.recv()), a));
        wait_until(asleep, data_of_a(&pages));
        interrupter.interrupt();
        let (interrupted, a) = receiver.join().expect("no panic");
        assert!(interrupted);
        assert_entangled(&a, &b);
    }
}

#[test]
fn a_spinning_receive_is_interrupted() {
    let _alone = alone();
    let (a, b) = pair();
    a.set_spin(Duration::MAX);
    let interrupter = a.interrupter().expect("descriptors");
    let receiver = start(move || (is_interrupted(a.recv()), a));
    interrupter.interrupt();
    let (interrupted, a) = receiver.join().expect("no panic");
    assert!(interrupted);
    assert_entangled(&a, &b);
}

#[test]
fn a_post_that_waits_for_space_is_interrupted_and_keeps_its_list() {
    let _alone = alone();
    let (a, b, pages) = watched_pair();
    let posted = fill_by(|data| a.post_message(data, []));
    let interrupter = a.interrupter().expect("descriptors");
    let poster = start(move || {
        let (port, peer) = pair();
        let error = a.post_message_wait(&[0; 500], [port.into()]).expect_err("interrupted");
        (a, error, peer)
    });
    wait_until(FUTEX, space_of_a(&pages));
    interrupter.interrupt();
    let (a, error, peer) = poster.join().expect("no panic");
    assert!(matches!(error.kind, PostErrorKind::Interrupted));
    let (kind, list) = error.into_parts();
    assert_eq!(io::Error::from(kind).kind(), io::ErrorKind::Interrupted);
    // Nothing was taken, and the next call goes on.
    for number in 0..posted {
        assert!(b.recv().expect("a message").data.iter().all(|byte| *byte == number as u8), "message {number}");
    }
    a.post_message_wait(b"goes on", list).expect("room");
    let message = b.recv().expect("a message");
    assert_eq!(message.data, b"goes on");
    assert_entangled(&message.ports[0], &peer);
}

#[test]
fn an_interrupt_is_kept_for_the_next_wait_once() {
    let _alone = alone();
    let (a, b) = pair();
    let interrupter = a.interrupter().expect("descriptors");
    interrupter.interrupt();
    interrupter.clone().interrupt();
    // Calls that do not wait leave it.
    assert!(a.try_recv().is_err());
    b.post_message(b"there already", []).expect("room");
    assert_eq!(a.recv().expect("a message").data, b"there already");
    // The next wait takes it, and several are one.
    let time = Duration::from_millis(1);
    assert!(matches!(a.recv_timeout(PATIENCE), Err(RecvTimeoutError::Failed(RecvError::Interrupted))));
    assert!(matches!(a.recv_timeout(time), Err(RecvTimeoutError::TimedOut)));
    // One flag for all waits of a port.
    interrupter.interrupt();
    assert!(is_interrupted(a.closed()));
    assert!(matches!(a.recv_timeout(time), Err(RecvTimeoutError::TimedOut)));
    assert_entangled(&a, &b);
}

#[test]
fn the_halves_have_interrupters_of_their_own() {
    let _alone = alone();
    let (a, b) = pair_of(4096);
    fill_by(|data| a.post_message(data, []));
    let (sender, receiver) = a.split();
    let both = [sender.interrupter().expect("descriptors"), receiver.interrupter().expect("descriptors")];
    let time = Duration::from_millis(1);
    both[0].interrupt();
    assert!(matches!(receiver.recv_timeout(time), Err(RecvTimeoutError::TimedOut)));
    let error = sender.post_message_timeout(&[0; 500], [], PATIENCE).expect_err("interrupted");
    assert!(matches!(error.kind, PostErrorKind::Interrupted));
    both[1].interrupt();
    let error = sender.post_message_timeout(&[0; 500], [], time).expect_err("no room");
    assert!(matches!(error.kind, PostErrorKind::TimedOut));
    assert!(is_interrupted(receiver.recv()));
    drop(b);
}

#[test]
fn a_wait_for_the_end_of_the_peer_is_interrupted() {
    let _alone = alone();
    let (a, _b) = pair();
    let interrupter = a.interrupter().expect("descriptors");
    let waiter = start(move || is_interrupted(a.closed()));
    interrupter.interrupt();
    assert!(waiter.join().expect("no panic"));
}

#[test]
fn calls_and_servers_are_interrupted() {
    let _alone = alone();
    let (a, b) = pair();
    let (client, server) = (Client::new(a), Server::new(b));
    let (of_client, of_server) =
        (client.interrupter().expect("descriptors"), server.interrupter().expect("descriptors"));
    // A call that is pending goes on after its wait was interrupted.
    let mut pending = client.start(b"question", []).expect("room");
    of_client.interrupt();
    assert!(matches!(pending.wait_timeout(PATIENCE), Err(AnswerError::Failed(RecvError::Interrupted))));
    let (request, responder) = server.recv().expect("a request");
    assert_eq!(request.data, b"question");
    responder.answer(b"answer", []).expect("room");
    assert_eq!(pending.wait_timeout(PATIENCE).expect("the answer").data, b"answer");
    // One that is not pending is over.
    of_client.interrupt();
    assert!(matches!(
        client.call(b"abandoned", []),
        Err(CallError::NoAnswer(AnswerError::Failed(RecvError::Interrupted)))
    ));
    assert_eq!(server.recv().expect("a request").0.data, b"abandoned");
    // A server returns from `serve`, and serves again.
    let serving = start(move || {
        let first = server.serve(|message| message.data.reverse());
        let second = thread::spawn(move || server.serve(|message| message.data.reverse()));
        (first, second)
    });
    of_server.interrupt();
    let (first, second) = serving.join().expect("no panic");
    assert!(matches!(first, Err(ServeError::Failed(RecvError::Interrupted))));
    assert_eq!(client.call(b"abc", []).expect("an answer").data, b"cba");
    drop((pending, client));
    second.join().expect("no panic").expect("the end of the client");
}

#[test]
fn a_set_is_interrupted_and_loses_nothing() {
    let _alone = alone();
    let (a, b) = pair();
    let mut set = PortSet::new().expect("descriptors");
    let id = set.add(a).expect("descriptors");
    let interrupter = set.interrupter().expect("descriptors");
    // Kept for a call that waits.
    interrupter.interrupt();
    assert!(set.try_wait().expect("no shortage").is_none());
    assert_eq!(set.wait().expect_err("interrupted").kind(), io::ErrorKind::Interrupted);
    assert!(set.wait_timeout(Duration::from_millis(1)).expect("no shortage").is_none());
    // From another thread, in a wait.
    let _again = set.interrupter().expect("descriptors");
    for _ in 0..3 {
        let interrupter = interrupter.clone();
        thread::spawn(move || interrupter.interrupt());
        assert_eq!(set.wait().expect_err("interrupted").kind(), io::ErrorKind::Interrupted);
    }
    interrupter.interrupt();
    b.post_message(b"event", []).expect("room");
    match set.wait().expect("an event") {
        Some((found, SetEvent::Message(message))) => assert!(found == id && message.data == b"event"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_interrupter_outlives_its_port() {
    let _alone = alone();
    let (a, b) = pair();
    let (of_dropped, of_moved) = (a.interrupter().expect("descriptors"), b.interrupter().expect("descriptors"));
    let (carrier, receiver) = pair();
    carrier.post_message(b"", [b.into()]).expect("room");
    let b = receiver.recv().expect("a message").ports.remove(0);
    of_moved.interrupt();
    assert!(matches!(b.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::TimedOut)));
    assert_entangled(&a, &b);
    drop(a);
    of_dropped.interrupt();
}

/// A handler that does nothing.
extern "C" fn ignore(_: libc::c_int) {}

/// What `interrupt_in_handler` interrupts.
static INTERRUPTER: OnceLock<Interrupter> = OnceLock::new();

extern "C" fn interrupt_in_handler(_: libc::c_int) {
    if let Some(interrupter) = INTERRUPTER.get() {
        interrupter.interrupt();
    }
}

fn handle(signal: Signal, handler: extern "C" fn(libc::c_int), flags: SaFlags) {
    let action = SigAction::new(SigHandler::Handler(handler), flags, SigSet::empty());
    #[allow(unsafe_code)]
    // SAFETY: the handlers make only async-signal-safe calls.
    unsafe { sigaction(signal, &action) }.expect("a handler");
}

/// Sends signals to a thread until `stops`.
fn signal_until_it_ends<T>(thread: JoinHandle<T>, signal: Signal) -> T {
    use std::os::unix::thread::JoinHandleExt;
    while !thread.is_finished() {
        #[allow(unsafe_code)]
        // SAFETY: the thread has not been joined, so its number is valid.
        unsafe {
            libc::pthread_kill(thread.as_pthread_t(), signal as libc::c_int);
        }
        thread::sleep(Duration::from_millis(1));
    }
    thread.join().expect("no panic")
}

#[test]
fn a_signal_ends_a_wait_only_if_that_is_asked_for() {
    let _alone = alone();
    handle(Signal::SIGUSR1, ignore, SaFlags::SA_RESTART);
    // By default it does not.
    let (a, b) = pair();
    let receiver = thread::spawn(move || a.recv_timeout(Duration::from_millis(100)));
    assert!(matches!(signal_until_it_ends(receiver, Signal::SIGUSR1), Err(RecvTimeoutError::TimedOut)));
    drop(b);
    // On request it does, in each kind of wait.
    let (a, b) = pair_of(4096);
    a.set_interrupt_on_signal(true);
    let receiver = thread::spawn(move || (is_interrupted(a.recv()), a));
    let (interrupted, a) = signal_until_it_ends(receiver, Signal::SIGUSR1);
    assert!(interrupted);
    let posted = fill_by(|data| a.post_message(data, []));
    let poster = thread::spawn(move || (a.post_message_wait(&[0; 500], []).map_err(|error| error.kind), a));
    let (result, a) = signal_until_it_ends(poster, Signal::SIGUSR1);
    assert!(matches!(result, Err(PostErrorKind::Interrupted)));
    let waiter = thread::spawn(move || (is_interrupted(a.closed()), a));
    let (interrupted, a) = signal_until_it_ends(waiter, Signal::SIGUSR1);
    assert!(interrupted);
    for number in 0..posted {
        assert!(b.recv().expect("a message").data.iter().all(|byte| *byte == number as u8), "message {number}");
    }
    assert_entangled(&a, &b);
    let mut set = PortSet::new().expect("descriptors");
    set.add(a).expect("descriptors");
    set.set_interrupt_on_signal(true);
    let waiter = thread::spawn(move || set.wait().expect_err("interrupted").kind());
    assert_eq!(signal_until_it_ends(waiter, Signal::SIGUSR1), io::ErrorKind::Interrupted);
}

/// A role with one thread: its handler interrupts it, before a wait and in one.
fn interrupted_by_a_handler() {
    let (a, b) = pair();
    assert!(INTERRUPTER.set(a.interrupter().expect("descriptors")).is_ok());
    handle(Signal::SIGALRM, interrupt_in_handler, SaFlags::SA_RESTART);
    nix::sys::signal::raise(Signal::SIGALRM).expect("a signal");
    assert!(is_interrupted(a.recv()), "the signal came before the wait");
    nix::unistd::alarm::set(1);
    assert!(is_interrupted(a.recv()), "the signal came in the wait");
    b.post_message(b"goes on", []).expect("room");
    assert_eq!(text(&a), "goes on");
}

#[test]
fn a_handler_of_the_waiting_thread_may_interrupt() {
    let _alone = alone();
    let (mut process, _port) = Process::start("interrupted by a handler");
    process.succeeded();
}
