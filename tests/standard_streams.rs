//! Processes whose standard streams are closed, or close-on-exec.

mod tools;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command};
use std::time::Instant;

use messageport::{
    EventLoop, FrozenBuffer, Listener, MessageChannel, PortSet, PreparedPort, SharedBuffer, SpawnErrorKind,
    TransferBuffer, Transferable, connect, parent_port, spawn_with_port,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{close, write};

use tools::child::{Process, Role};
use tools::{PATIENCE, pair};

const ROLES: &[Role] =
    &[("closed streams", closed_streams), ("echo", tools::child::echo), ("closed at exec", closed_at_exec)];

/// What each of the numbers 0 to 2 refers to, if anything.
fn streams() -> Vec<String> {
    let open = |number: &i32| fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
    (0..3).filter(open).map(|number| format!("{number} is open")).collect()
}

/// A role: closes the standard streams, makes and receives one of each kind, and posts what took a number of theirs.
fn closed_streams() {
    let parent = parent_port().expect("a port");
    for number in 0..3 {
        close(number).expect("a standard stream is open");
    }
    // A descriptor from a peer is closed by another thread once it has been moved.
    let check = |what: &str| {
        let start = Instant::now();
        while what.starts_with("received") && !streams().is_empty() && start.elapsed() < PATIENCE / 4 {
            std::thread::yield_now();
        }
        let taken = streams();
        if !taken.is_empty() {
            parent.post_message(format!("{what}: {taken:?}").as_bytes(), []).expect("room");
        }
    };
    let channel = MessageChannel::new().expect("a channel");
    check("channel");
    let buffer = TransferBuffer::new(1 << 20).expect("a buffer");
    check("buffer");
    let frozen = FrozenBuffer::from_bytes(b"frozen").expect("a buffer");
    check("frozen buffer");
    let shared = SharedBuffer::new(4096).expect("a buffer");
    check("shared buffer");
    let name = format!("messageport-streams-{}", std::process::id());
    let named = SharedBuffer::create_named(&name, 4096).expect("a named buffer");
    check("named buffer");
    let opened = SharedBuffer::open_named(&name, 4096).expect("a named buffer");
    check("named buffer that was opened");
    drop((named, opened));
    let set = PortSet::<messageport::MessagePort>::new().expect("a set");
    check("set");
    let events = EventLoop::new().expect("a loop");
    check("loop");
    let path = std::env::temp_dir().join(&name);
    let path = path.to_str().expect("text");
    let listener = Listener::bind(path).expect("a listener");
    check("listener");
    let client = {
        let path = path.to_owned();
        std::thread::spawn(move || connect(&path, b"").expect("a port"))
    };
    let server = listener.accept().expect("a client").port;
    let client = client.join().expect("no panic");
    check("received port of a listener");

    // Received: a port, buffers and a descriptor of the caller's.
    let (sent, travelling) = (channel.port1, MessageChannel::new().expect("a channel"));
    let file = File::open("/dev/zero").expect("a file");
    assert_eq!(file.as_raw_fd(), 0, "the first free number");
    let copy = OwnedFd::from(file.try_clone().expect("a copy"));
    drop(file); // 0 is free again
    let list: [Transferable; 5] = [travelling.port2.into(), buffer.into(), frozen.into(), shared.into(), copy.into()];
    sent.post_message(b"list", list).expect("room");
    let received = channel.port2.recv().expect("a message");
    check("received list");
    assert_eq!(received.descriptors.len(), 1);
    let grown = vec![1; 4 << 20];
    sent.post_message(&grown, []).expect("room");
    let body = channel.port2.recv().expect("a message");
    check("received long message");
    let (ours, theirs) = pair();
    let mut process = Process::with_port("echo", theirs);
    ours.post_message(b"there", []).expect("room");
    assert_eq!(ours.recv_timeout(PATIENCE).expect("an answer").data, b"there");
    check("child process");

    for number in 1..3 {
        // SAFETY: the number is used for a system call only, which fails if it is not open.
        #[allow(unsafe_code)]
        let stream = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        assert_eq!(write(stream, b"a line of the program"), Err(Errno::EBADF));
    }
    drop(ours);
    process.succeeded();
    drop((set, events, listener, server, client, received, body));
    parent.post_message(b"done", []).expect("room");
}

#[test]
fn no_descriptor_takes_the_number_of_a_standard_stream() {
    let (mut process, port) = Process::start("closed streams");
    let said = port.recv_timeout(PATIENCE).map(|message| String::from_utf8_lossy(&message.data).into_owned());
    assert_eq!(said.expect("the process reports"), "done");
    process.succeeded();
}

/// A shell command, which is no Rust program: those open the missing standard streams themselves. It succeeds if it
/// has all of them, and 1 has what was expected.
fn shell(expected: &str) -> Command {
    let mut shell = Command::new("sh");
    let script =
        r#"for n in 0 1 2; do test -e /proc/$$/fd/$n || exit 1$n; done; test "$(readlink /proc/$$/fd/1)" = "$0""#;
    shell.args(["-c", script, expected]);
    shell
}

fn starts_whole(expected: &str) {
    let expect = |child: &mut Child| assert!(child.wait().expect("a child").success());
    let (_ours, theirs) = pair();
    expect(&mut spawn_with_port(&mut shell(expected), theirs).expect("a child"));
    let (_ours, theirs) = pair();
    let mut prepared = PreparedPort::new(theirs).expect("a port for a child");
    let mut command = shell(expected);
    prepared.prepare(&mut command).expect("a command");
    expect(&mut command.spawn().expect("a child"));
}

/// A role: makes the standard streams close-on-exec, as libuv does, and then closes them. Each time a child has them.
fn closed_at_exec() {
    let parent = parent_port().expect("a port");
    let output = fs::read_link("/proc/self/fd/1").expect("a stream").display().to_string();
    for stream in [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()] {
        fcntl(stream, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a standard stream is open");
    }
    starts_whole(&output);
    parent.post_message(b"those that are close-on-exec", []).expect("room");
    for number in 0..3 {
        close(number).expect("a standard stream is open");
    }
    starts_whole("/dev/null");
    // The failure of exec is still reported.
    let (_ours, theirs) = pair();
    let error = spawn_with_port(&mut Command::new("/nonexistent"), theirs).expect_err("no such program");
    assert!(matches!(error.kind, SpawnErrorKind::Spawn(error) if error.kind() == io::ErrorKind::NotFound));
    parent.post_message(b"those that are closed", []).expect("room");
}

#[test]
fn a_child_has_all_standard_streams() {
    let (mut process, port) = Process::start("closed at exec");
    for expected in ["those that are close-on-exec", "those that are closed"] {
        let said = port.recv_timeout(PATIENCE).map(|message| String::from_utf8_lossy(&message.data).into_owned());
        assert_eq!(said.expect("the process reports"), expected);
    }
    process.succeeded();
}
