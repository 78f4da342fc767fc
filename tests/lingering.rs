//! Descriptors whose closing waits: TCP sockets that linger over unsent data, from a hostile process. Wherever the
//! library closes them unasked, no call waits for that.

mod tools;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use messageport::{
    BadTransfer, Client, CloseReason, MessagePort, RecvError, RecvTimeoutError, Server, TransferRef, TypedPort,
    Violation, parent_port,
};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use tools::attacker::{Attacker, HANDLES, NEW_PORT, Table, WAKE, lane, packet, send};
use tools::child::{Process, Role, play};
use tools::memory::newest_memory;
use tools::{PATIENCE, end_of, pair, readable, recv};

/// Each test is a process of its own, which starts its attackers first: a process that is started later inherits what
/// is being closed, and then its `exec` may wait for that.
const ROLES: &[Role] = &[
    ("attacker", attacker),
    ("packets", packets),
    ("kinds", kinds),
    ("refused", refused),
    ("dropped", dropped),
    ("closed", closed),
    ("left", left),
    ("typed", typed),
    ("calls", calls),
    ("forked", forked),
    ("spoilt", spoilt),
    ("given up", given_up),
    ("behind", behind),
];

#[test]
fn a_packet_that_may_have_no_descriptors_ends_the_channel() {
    play("packets");
}

#[test]
fn a_descriptor_of_the_wrong_kind_ends_the_channel() {
    play("kinds");
}

#[test]
fn a_refused_message_does_not_wait_for_its_descriptors() {
    play("refused");
}

#[test]
fn dropping_a_port_does_not_wait_for_what_is_queued() {
    play("dropped");
}

#[test]
fn closing_a_port_does_not_wait_for_what_is_queued() {
    play("closed");
}

#[test]
fn the_end_of_a_peer_does_not_wait_for_what_it_left() {
    play("left");
}

#[test]
fn a_value_that_names_no_descriptor_does_not_wait_for_one() {
    play("typed");
}

#[test]
fn neither_client_nor_server_waits_for_a_message_that_is_none_of_theirs() {
    play("calls");
}

#[test]
fn a_forked_child_closes_what_it_is_sent_while_its_parent_still_waits() {
    play("forked");
}

#[test]
fn a_refused_port_does_not_wait_for_what_is_queued_in_it() {
    play("spoilt");
}

#[test]
fn a_message_given_up_for_want_of_descriptors_does_not_wait_for_them() {
    play("given up");
}

#[test]
fn what_is_slow_to_close_delays_nothing_else() {
    play("behind");
}

/// Closing a socket takes 30 s.
const LINGER: i32 = 30;
/// A call that takes 10 s has waited for a socket to close.
const HANGS: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_millis(100);

/// A socket that takes long to close: its peer never reads what was sent.
fn slow() -> OwnedFd {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port number");
    let mut socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (peer, _) = listener.accept().expect("a connection");
    socket.set_nonblocking(true).expect("a socket");
    while socket.write(&[0; 1 << 16]).is_ok() {}
    socket.set_nonblocking(false).expect("a socket");
    let linger = libc::linger { l_onoff: 1, l_linger: LINGER };
    #[allow(unsafe_code)]
    // SAFETY: the pointer is to a `linger`, of which the length is given.
    let result = unsafe {
        let value = (&raw const linger).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size_of_val(&linger) as u32)
    };
    assert_eq!(result, 0);
    std::mem::forget((listener, peer)); // this process keeps both open
    socket.into()
}

/// A role: does to one end of a pair what the first message says. The pair is one of which an end comes with that
/// message or, if none comes, one that this process makes and of which it sends an end back.
fn attacker() {
    let control = parent_port().expect("a port");
    let mut request = recv(&control);
    let (mut own, mut given) = match request.ports.pop() {
        Some(port) => (port, None),
        None => {
            let (own, given) = pair();
            (own, Some(given))
        }
    };
    let slow = slow();
    let send = |port: &MessagePort, bytes: &[u8]| send(&port.as_fd(), bytes, &[slow.as_fd()]).expect("room");
    match &request.data[..] {
        b"stale" => {
            own.post_message(b"one", []).expect("room");
            send(&own, &packet(HANDLES, 1, 0));
        }
        b"wake-up" => send(&own, &packet(WAKE, 0, 0)),
        b"unknown" => send(&own, &packet(7, 0, 0)),
        b"no bytes" => send(&own, b""),
        b"hidden" => {
            tools::attacker::send(&own.as_fd(), b"", &[]).expect("room");
            send(&own, b"");
        }
        b"not listed" => send(&own, &packet(HANDLES, 1, 5)),
        b"queued" => own.post_message_detaching(b"two", &[TransferRef::Descriptor(slow.as_fd())]).expect("room"),
        what => {
            let (mut attacker, victim) = Attacker::new(pair);
            let memory = memfd_create(c"messageport-not", MFdFlags::MFD_CLOEXEC).expect("a memory file");
            let (lane, _other) = lane();
            let refused = || Table::default().port(NEW_PORT, &memory, &lane);
            match what {
                b"spoilt" => {
                    let (_port, segment) = newest_memory(pair);
                    let mut capsule = NEW_PORT;
                    capsule[1] = 4; // an impossible cursor
                    // The lane has no holder but the packet. Its other end stays open.
                    let (lane, other) = tools::attacker::lane();
                    tools::attacker::send(&other, &packet(HANDLES, 1, 5), &[slow.as_fd()]).expect("room");
                    attacker.post(b"", &Table::default().port(capsule, &segment, &lane));
                    std::mem::forget(other);
                }
                b"refused" => attacker.post(b"refused", &refused().descriptor(&slow)),
                b"wrong memory" => attacker.post(b"", &Table::default().shared(1, &slow)),
                b"wrong lane" => {
                    let (_port, segment) = newest_memory(pair);
                    attacker.post(b"", &Table::default().port(NEW_PORT, &segment, &slow));
                }
                what => panic!("{what:?}"),
            }
            std::mem::forget(attacker.lane);
            (own, given) = (attacker.port, Some(victim));
        }
    }
    drop(slow); // the one in the packet is left
    control.post_message(b"ready", given.map(Into::into)).expect("room");
    let _ = control.recv();
    drop(own);
    loop {
        std::thread::park(); // the sockets stay open
    }
}

/// An end of a pair of which a hostile process holds the other end.
struct Attacked {
    what: &'static str,
    victim: MessagePort,
    process: Process,
    control: MessagePort,
}

/// Starts a hostile process, which has done `what` when this returns. `made_here`: this process made the pair.
fn attacked(what: &'static str, made_here: bool) -> Attacked {
    let (process, control) = Process::start("attacker");
    let (own, theirs) = made_here.then(pair).unzip();
    control.post_message(what.as_bytes(), theirs.map(Into::into)).expect("room");
    let mut answer = recv(&control);
    let victim = own.or_else(|| answer.ports.pop()).expect("a port");
    Attacked { what, victim, process, control }
}

/// Asserts that a call does not wait for the socket.
#[track_caller]
fn quick<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    assert!(start.elapsed() < HANGS, "{what}: took {:?}", start.elapsed());
    result
}

/// Asserts that receiving returns this end, and that neither that nor the drop of the port waits.
#[track_caller]
fn assert_ends(attacked: Attacked, violation: Violation) {
    let Attacked { what, victim, process: _process, control: _control } = attacked;
    let end = quick(what, || {
        loop {
            match victim.recv_timeout(WAIT) {
                Ok(message) => assert_eq!(message.data, b"one"),
                Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => break reason,
                other => panic!("{what}: {other:?}"),
            }
        }
    });
    assert_eq!(end, CloseReason::ProtocolViolation(violation), "{what}");
    quick(what, || drop(victim));
}

fn packets() {
    let all = ["stale", "wake-up", "unknown"].map(|what| [true, false].map(|made_here| attacked(what, made_here)));
    all.into_iter().flatten().for_each(|attacked| assert_ends(attacked, Violation::BadPacket));
}

fn kinds() {
    let all = ["wrong memory", "wrong lane"].map(|what| attacked(what, false));
    all.into_iter().for_each(|attacked| assert_ends(attacked, Violation::BadHandles));
}

fn refused() {
    let Attacked { victim, process: _process, control: _control, .. } = attacked("refused", false);
    let reason = match quick("a refusal", || victim.recv_timeout(PATIENCE)) {
        Err(RecvTimeoutError::Failed(RecvError::MessageError { reason, .. })) => reason,
        other => panic!("{other:?}"),
    };
    assert!(matches!(reason, BadTransfer::Segment(_)), "{reason:?}");
    quick("the drop", || drop(victim));
}

fn dropped() {
    let all = ["queued", "not listed", "no bytes", "hidden", "wake-up"]
        .map(|what| [true, false].map(|made_here| attacked(what, made_here)));
    for Attacked { what, victim, process: _process, control: _control } in all.into_iter().flatten() {
        quick(what, || drop(victim));
    }
}

fn closed() {
    let all = ["queued", "not listed", "no bytes", "hidden"].map(|what| attacked(what, true));
    for Attacked { what, victim, process: _process, control: _control } in all {
        quick(what, || victim.close());
        quick(what, || drop(victim));
    }
}

fn left() {
    let Attacked { victim, mut process, control, .. } = attacked("not listed", true);
    drop(control);
    assert_eq!(quick("the end", || end_of(&victim)), CloseReason::Closed);
    quick("the drop", || drop(victim));
    process.kill();
}

fn typed() {
    let Attacked { victim, process: _process, control: _control, .. } = attacked("queued", true);
    let port: TypedPort<(), u8> = victim.into();
    match quick("a value", || port.recv_timeout(PATIENCE)) {
        Err(RecvTimeoutError::Failed(RecvError::MessageError { reason: BadTransfer::Value(_), .. })) => {}
        other => panic!("{other:?}"),
    }
}

fn calls() {
    let [for_server, for_client] = [(), ()].map(|()| attacked("queued", true));
    let server = Server::new(for_server.victim);
    match quick("a request", || server.recv_timeout(PATIENCE).map(drop)) {
        Err(RecvTimeoutError::Failed(RecvError::MessageError { reason: BadTransfer::NoRequest, .. })) => {}
        other => panic!("{other:?}"),
    }
    let client = Client::new(for_client.victim);
    let answer = quick("an answer", || client.call_timeout(b"?", [], WAIT));
    assert!(answer.is_err(), "{answer:?}");
}

fn forked() {
    let Attacked { victim, process: _process, control: _control, .. } = attacked("refused", false);
    quick("a refusal", || victim.recv_timeout(PATIENCE)).expect_err("no message");
    // A thread of this process, which the child does not have, is closing the socket.
    #[allow(unsafe_code)]
    // SAFETY: the child calls nothing that a thread of this process could have left locked, beside what is tested: the
    // thread only closes a descriptor.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let (sender, receiver) = pair();
            sender.post_message(b"", [OwnedFd::from(writer).into()]).expect("room");
            quick("the drop in the child", || drop(receiver));
            assert!(readable(&reader, HANGS), "the descriptor in the queue was not closed");
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).expect("a child"), WaitStatus::Exited(child, 0));
        }
    }
}

/// The port of a refused message is closed by nobody but the library, and so is what its peer has sent to it.
fn spoilt() {
    let Attacked { victim, process: _process, control: _control, .. } = attacked("spoilt", false);
    match quick("a refusal", || victim.recv_timeout(PATIENCE)) {
        Err(RecvTimeoutError::Failed(RecvError::MessageError { reason: BadTransfer::Capsule, .. })) => {}
        other => panic!("{other:?}"),
    }
    quick("the drop", || drop(victim));
}

fn given_up() {
    let all = [true, false].map(|made_here| attacked("queued", made_here));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).expect("the limit can be lowered"); // the numbers below 3 are used
    let start = Instant::now();
    for Attacked { victim, .. } in &all {
        let end = loop {
            match quick("an attempt", || victim.recv_timeout(WAIT)) {
                Err(RecvTimeoutError::Failed(RecvError::ResourceExhausted(_))) => {}
                Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => break reason,
                other => panic!("{other:?}"),
            }
            assert!(start.elapsed() < PATIENCE, "the message is not given up");
            std::thread::sleep(Duration::from_millis(10)); // a pause between attempts
        };
        assert_eq!(end, CloseReason::ProtocolViolation(Violation::BadHandles));
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit can be raised");
    for Attacked { victim, process: _process, control: _control, .. } in all {
        quick("the drop", || drop(victim));
    }
}

fn behind() {
    let Attacked { victim, process: _process, control: _control, .. } = attacked("refused", false);
    quick("a refusal", || victim.recv_timeout(PATIENCE)).expect_err("no message");
    let pipes = [(), ()].map(|()| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (sender, receiver) = pair();
        sender.post_message(b"", [OwnedFd::from(writer).into()]).expect("room");
        quick("the drop", || drop(receiver));
        reader
    });
    for reader in pipes {
        assert!(readable(&reader, HANGS), "the descriptor of another channel was not closed");
    }
}
