//! Meeting: a child process gets a port, and unrelated processes find each other by name.

mod tools;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use messageport::{
    AcceptError, ChannelError, ChannelOptions, CloseReason, ConnectError, ConnectOptions, ListenError, ListenOptions,
    Listener, MessagePort, NameError, ParentPortError, PostErrorKind, PreparedPort, SpawnErrorKind, connect,
    parent_port, spawn_with_port,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, connect as connect_socket, listen,
    recv, socket,
};
use nix::unistd::{close, dup, geteuid};

use tools::attacker::{self, NEW_PORT, Table};
use tools::child::{Process, Role, command};
use tools::folder::Folder;
use tools::ledger::{Ledger, alone};
use tools::memory::newest_memory;
use tools::{PATIENCE, assert_entangled, cost_of, end_of, pair, readable, text, within};

const ROLES: &[Role] = &[
    ("child", child),
    ("grandchild", grandchild),
    ("orphan", orphan),
    ("threaded", threaded),
    ("listen", listen_until_killed),
    ("closes its parent's descriptor", close_the_descriptor),
    ("finds no descriptor", find_no_descriptor),
];

/// The library's environment variable, with the number of the child's descriptor.
const VARIABLE: &str = "MESSAGEPORT_PARENT";
/// The environment variable of a role with a path.
const PATH: &str = "MESSAGEPORT_TEST_PATH";
const MAGIC: u64 = u64::from_le_bytes(*b"msgphi!\0");
const VERSION: u32 = 1;
const SHORT: Duration = Duration::from_millis(100);

// Child processes.

/// A role: checks its environment, and posts everything back.
fn child() {
    let port = parent_port().expect("a port");
    assert!(matches!(parent_port(), Err(ParentPortError::Missing)));
    assert!(std::env::var_os(VARIABLE).is_none(), "the variable stays, although the process has one thread");
    Process::run(&mut command("grandchild")).succeeded();
    while let Ok(message) = port.recv() {
        port.post_message(&message.data, []).expect("room");
    }
}

fn grandchild() {
    assert!(std::env::var_os(VARIABLE).is_none());
    assert!(matches!(parent_port(), Err(ParentPortError::Missing)));
    let links = fs::read_dir("/proc/self/fd").expect("/proc/self/fd").flatten();
    let sockets = links.filter(|entry| {
        let number: i32 = entry.file_name().to_string_lossy().parse().expect("a number");
        let link = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        number > 2 && (link.starts_with("socket:") || link.contains("messageport"))
    });
    assert_eq!(sockets.count(), 0, "the grandchild inherited descriptors of the child");
}

/// A role without a port: `parent_port` must fail for the reason in the environment.
fn orphan() {
    let error = parent_port().expect_err("no port");
    let expected = std::env::var("MESSAGEPORT_TEST_EXPECTED").expect("a variable");
    let found = format!("{error:?}");
    assert!(found == expected || found.starts_with(&format!("{expected} {{")), "{found} instead of {expected}");
}

#[test]
fn a_child_gets_its_port_once_and_its_children_get_nothing() {
    let _alone = alone();
    let before = Ledger::now();
    let (ours, theirs) = pair();
    ours.post_message(b"posted before the start", []).expect("room");
    let mut process = Process::with_port("child", theirs);
    ours.post_message(b"posted after the start", []).expect("room");
    assert_eq!(text(&ours), "posted before the start");
    assert_eq!(text(&ours), "posted after the start");
    drop(ours);
    process.succeeded();
    before.assert_restored("after the child");
}

/// A role: takes its port while it has a second thread, and leaves a socket of its own to its child, under the number
/// in the variable.
fn threaded() {
    let (_stay, until) = std::sync::mpsc::channel::<()>();
    thread::spawn(move || until.recv());
    let value = std::env::var(VARIABLE).expect("a variable");
    let number: i32 = value.split(':').next().expect("a number").parse().expect("a number");
    let port = parent_port().expect("a port");
    assert_eq!(std::env::var(VARIABLE).ok(), Some(value), "the variable cannot be removed beside another thread");
    let stranger = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).expect("a socket");
    let taken = fcntl(&stranger, FcntlArg::F_DUPFD(number)).expect("a copy");
    assert_eq!(taken, number, "the number is free again");
    Process::run(command("orphan").env("MESSAGEPORT_TEST_EXPECTED", "Lost")).succeeded();
    port.post_message(b"done", []).expect("room");
}

#[test]
fn the_variable_of_a_child_means_nothing_to_its_children() {
    let _alone = alone();
    let (mut process, port) = Process::start("threaded");
    assert_eq!(text(&port), "done");
    process.succeeded();
}

#[test]
fn a_prepared_port_reaches_the_child_of_any_command() {
    let _alone = alone();
    let before = Ledger::now();
    let (ours, theirs) = pair();
    ours.post_message(b"hello", []).expect("room");
    let mut prepared = PreparedPort::new(theirs).expect("a port for a child");
    let mut command = command("child");
    prepared.prepare(&mut command).expect("a command");
    let mut process = Process::run(&mut command);
    assert_eq!(text(&ours), "hello");
    drop(prepared);
    process.kill();
    assert_eq!(end_of(&ours), CloseReason::PeerDied);
    // A later child of the command inherits nothing.
    Process::run(command.env("MESSAGEPORT_TEST_EXPECTED", "Lost").env("MESSAGEPORT_TEST_ROLE", "orphan")).succeeded();
    drop((ours, command));
    before.assert_restored("after the children");
}

#[test]
fn a_prepared_port_goes_to_tokio_and_to_programs_that_pass_a_number() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (ours, theirs) = pair();
    let mut prepared = PreparedPort::new(theirs).expect("a port for a child");
    let mut of_tokio = tokio::process::Command::from(command("child"));
    prepared.prepare(of_tokio.as_std_mut()).expect("a command");
    let mut child = runtime.block_on(async { of_tokio.kill_on_drop(true).spawn() }).expect("a child");
    drop(prepared);
    ours.post_message(b"to tokio's child", []).expect("room");
    assert_eq!(text(&ours), "to tokio's child");
    drop(ours);
    assert!(runtime.block_on(child.wait()).expect("the end of the child").success());

    // What another runtime does: a redirection gives the descriptor another number, and the variable has that number.
    let (ours, theirs) = pair();
    let prepared = PreparedPort::new(theirs).expect("a port for a child");
    let passed = prepared.as_fd().try_clone_to_owned().expect("a copy");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 9<&0 0</dev/null; {}=9 exec \"$0\"", PreparedPort::VARIABLE)]);
    shell.arg(std::env::current_exe().expect("this program")).stdin(passed);
    let role = command("child");
    let mut process = Process::run(shell.envs(role.get_envs().filter_map(|(name, value)| Some((name, value?)))));
    drop((prepared, shell));
    ours.post_message(b"by number", []).expect("room");
    assert_eq!(text(&ours), "by number");
    drop(ours);
    process.succeeded();
}

#[test]
fn a_prepared_port_that_nobody_took_can_be_taken_back() {
    let _alone = alone();
    let before = Ledger::now();
    let (ours, theirs) = pair();
    ours.post_message(b"kept", []).expect("room");
    let prepared = PreparedPort::new(theirs).expect("a port for a child");
    let theirs = prepared.into_port().expect("nobody took it");
    assert_eq!(text(&theirs), "kept");
    drop(PreparedPort::new(theirs).expect("a port for a child"));
    assert!(matches!(end_of(&ours), CloseReason::PeerDied));
    drop(ours);
    before.assert_restored("after a port that nobody took");
}

#[test]
fn a_command_can_be_used_again_with_another_port() {
    let _alone = alone();
    let mut command = command("child");
    let ports: Vec<_> = (0..3)
        .map(|_| {
            let (ours, theirs) = pair();
            let child = spawn_with_port(&mut command, theirs).expect("a child");
            assert!(command.get_envs().all(|(name, value)| name != VARIABLE || value.is_none()));
            (ours, child)
        })
        .collect();
    for (number, (port, _)) in ports.iter().enumerate() {
        port.post_message(&[number as u8], []).expect("room");
    }
    for (number, (port, mut child)) in ports.into_iter().enumerate() {
        assert_eq!(port.recv_timeout(PATIENCE).expect("an answer").data, [number as u8]);
        drop(port);
        assert!(child.wait().expect("the end of the child").success());
    }
}

#[test]
fn a_program_that_does_not_exist_gives_the_port_back() {
    let _alone = alone();
    let before = Ledger::now();
    let (ours, theirs) = pair();
    ours.post_message(b"in the queue", []).expect("room");
    let error = spawn_with_port(&mut Command::new("/no/such/program"), theirs).expect_err("no such program");
    assert!(matches!(error.kind, SpawnErrorKind::Spawn(_)), "{error:?}");
    let port = error.into_inner();
    assert_eq!(text(&port), "in the queue");
    assert_entangled(&ours, &port);
    port.close();
    let error = spawn_with_port(&mut Command::new("/bin/true"), port).expect_err("a closed port");
    assert!(matches!(error.kind, SpawnErrorKind::Port(PostErrorKind::Unusable { index: 0 })), "{error:?}");
    drop((ours, error));
    before.assert_restored("after the attempts");
}

#[test]
fn a_child_that_never_takes_its_port_has_died_when_it_ends() {
    let _alone = alone();
    let (ours, theirs) = pair();
    let mut child = spawn_with_port(&mut Command::new("/bin/true"), theirs).expect("a child");
    assert_eq!(end_of(&ours), CloseReason::PeerDied);
    child.wait().expect("the end of the child");
}

#[test]
fn a_descriptor_that_is_no_port_is_an_error_with_its_reason() {
    let _alone = alone();
    let expect = |value: &str, expected: &str| {
        let mut command = command("orphan");
        Process::run(command.env("MESSAGEPORT_TEST_EXPECTED", expected).env(VARIABLE, value)).succeeded();
    };
    for value in ["", "x", "-1", "0", "1", "2", "4294967296"] {
        expect(value, "Missing");
    }
    expect("99999", "Lost { descriptor: 99999 }");
    Process::run(command("orphan").env("MESSAGEPORT_TEST_EXPECTED", "Missing")).succeeded();
    for (expected, packet) in [
        ("Malformed", None),
        ("Malformed", Some(vec![])),
        ("Malformed", Some(vec![1; 100])),
        ("Malformed", Some(port_packet(VERSION, 1, &Table::default()))),
        ("Malformed", Some(port_packet(VERSION, 0, &Table::default()))),
        (
            "Malformed",
            Some(port_packet(VERSION, 1, &{
                let null = Box::leak(Box::new(File::open("/dev/null").expect("a file")));
                Table::default().port(NEW_PORT, null, null)
            })),
        ),
        ("Version(2)", Some(port_packet(2, 1, &Table::default()))),
    ] {
        let (ours, theirs) = attacker::lane();
        if let Some(packet) = packet {
            attacker::send(&ours, &packet, &[]).expect("room");
        }
        let inherited = dup(&theirs).expect("a descriptor that is not closed on exec");
        expect(&inherited.as_raw_fd().to_string(), expected);
    }
    // A descriptor that is not a socket.
    let inherited = dup(File::open("/dev/null").expect("a file")).expect("a descriptor");
    let number = inherited.as_raw_fd();
    expect(&number.to_string(), &format!("Lost {{ descriptor: {number} }}"));
}

/// The bytes of a greeting, with the limits of a default channel.
fn greeting(magic: u64, version: u32, data: &[u8]) -> Vec<u8> {
    let mut packet = magic.to_ne_bytes().to_vec();
    packet.extend([version, 4096].iter().flat_map(|word| word.to_ne_bytes()));
    packet.extend([64_u64 << 10, 64 << 20].iter().flat_map(|word| word.to_ne_bytes()));
    packet.extend([253_u32, 8].iter().flat_map(|word| word.to_ne_bytes()));
    packet.extend([256_u64 << 20, 1 << 30].iter().flat_map(|word| word.to_ne_bytes()));
    packet.resize(128, 0);
    packet.extend_from_slice(data);
    packet
}

/// A greeting with another value of the limit at this offset.
fn greeting_for(offset: usize, limit: u64) -> Vec<u8> {
    let mut packet = greeting(MAGIC, VERSION, b"an odd channel");
    packet[offset..offset + 8].copy_from_slice(&limit.to_ne_bytes());
    packet
}

/// The bytes of a packet with a port. The descriptors are sent beside them.
fn port_packet(version: u32, accepted: u32, table: &Table<'_>) -> Vec<u8> {
    let mut packet = MAGIC.to_ne_bytes().to_vec();
    packet.extend([version, accepted].iter().flat_map(|word| word.to_ne_bytes()));
    packet.extend_from_slice(&table.payload(b""));
    packet
}

// Names.

#[test]
fn a_listener_follows_no_link_to_another_file() {
    let _alone = alone();
    let folder = Folder::new();
    let (name, elsewhere) = (folder.0.join("name"), folder.0.join("elsewhere"));
    symlink(&elsewhere, folder.0.join("name.lock")).expect("a link");
    let error = Listener::bind(name.to_str().expect("a path")).expect_err("the lock file is a link");
    assert!(matches!(error, ListenError::System(..)), "{error:?}");
    assert!(!elsewhere.exists(), "the link was followed");
}

#[test]
fn a_path_that_is_too_long_is_refused_and_the_longest_path_works() {
    let _alone = alone();
    let folder = Folder::new();
    let longest = folder.name(&"n".repeat(107 - folder.0.as_os_str().len() - 1));
    assert_eq!(longest.len(), 107);
    drop(Listener::bind(&longest).expect("a path that fits"));
    assert!(matches!(Listener::bind(&format!("{longest}n")), Err(ListenError::Name(NameError::TooLong(_)))));
}

// The listener.

/// Connects on a thread, which ends when the listener has answered.
fn client(name: &str, data: &[u8]) -> thread::JoinHandle<Result<MessagePort, ConnectError>> {
    let (name, data) = (name.to_owned(), data.to_owned());
    thread::spawn(move || ConnectOptions::new().timeout(PATIENCE).connect(&name, &data))
}

/// Asserts that the listener accepts a client and that their pair works.
#[track_caller]
fn assert_serves(listener: &Listener, name: &str) {
    let client = client(name, b"an honest one");
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    assert_eq!(incoming.greeting.data, b"an honest one");
    assert_entangled(&incoming.port, &client.join().expect("no panic").expect("accepted"));
}

/// A connection without a greeting.
fn silent(name: &str) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket");
    connect_socket(socket.as_raw_fd(), &UnixAddr::new(name).expect("an address")).expect("a listener");
    socket
}

/// The listener's answer to a greeting: whether it accepted, and its version. `None` if it hung up.
#[track_caller]
fn answer(socket: &OwnedFd) -> Option<(bool, u32)> {
    assert!(readable(socket, PATIENCE), "no answer");
    let mut answer = [0; 256];
    let len = match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
        Ok(0) => return None,
        // The listener left a packet with descriptors unread, which is reported first.
        Err(Errno::ECONNRESET) => recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("an answer"),
        result => result.expect("an answer"),
    };
    let word = |at: usize| u32::from_ne_bytes(answer[at..at + 4].try_into().expect("four bytes"));
    let accepted = word(12) == 1;
    // A header, and for a client that was accepted the capsule of a port and the end of a table.
    assert_eq!((len, &answer[..8]), (if accepted { 16 + 96 + 24 } else { 16 }, &MAGIC.to_ne_bytes()[..]));
    Some((accepted, word(8)))
}

#[test]
fn a_client_gets_a_port_and_brings_a_greeting() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = Listener::bind(&name).expect("a free name");
    let before = Ledger::now();
    for data in [vec![], b"hello".to_vec(), vec![7; 32 << 10]] {
        let client = client(&name, &data);
        let incoming = listener.accept_timeout(PATIENCE).expect("a client");
        assert_eq!(incoming.greeting.data, data);
        assert_eq!((incoming.uid, incoming.pid), (geteuid().as_raw(), Some(std::process::id() as i32)));
        assert_entangled(&incoming.port, &client.join().expect("no panic").expect("accepted"));
    }
    let error = connect(&name, &vec![7; (32 << 10) + 1]).expect_err("a greeting that is too long");
    assert!(matches!(error, ConnectError::Greeting(PostErrorKind::TooLarge { .. })), "{error:?}");
    assert!(matches!(listener.accept_timeout(SHORT), Err(AcceptError::TimedOut)));
    before.assert_restored("after the clients");
    assert_eq!(listener.refused(), 1, "the client that left without a greeting");
    drop(listener);
    assert_eq!(folder.list(), [""; 0], "the socket and the lock are not removed");
    assert!(matches!(connect(&name, b""), Err(ConnectError::NoListener(_))));
}

#[test]
fn many_clients_at_once_are_all_served() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = Listener::bind(&name).expect("a free name");
    let clients: Vec<_> = (0..50_u8).map(|number| client(&name, &[number])).collect();
    let mut seen: Vec<u8> = (0..50)
        .map(|_| {
            let incoming = listener.accept_timeout(PATIENCE).expect("a client");
            incoming.port.post_message(&incoming.greeting.data, []).expect("room");
            incoming.greeting.data[0]
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..50));
    for (number, client) in clients.into_iter().enumerate() {
        let port = client.join().expect("no panic").expect("accepted");
        assert_eq!(port.recv_timeout(PATIENCE).expect("a message").data, [number as u8]);
    }
}

/// A role: listens on a path, and reports it over its port.
fn listen_until_killed() {
    let port = parent_port().expect("a port");
    let name = std::env::var(PATH).expect("a variable");
    let _listener = Listener::bind(&name).expect("a free name");
    port.post_message(b"listening", []).expect("room");
    loop {
        thread::park();
    }
}

#[test]
fn a_name_in_use_is_refused_and_one_left_behind_by_a_killed_listener_is_replaced() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let (ours, theirs) = pair();
    let mut child = spawn_with_port(command("listen").env(PATH, &name), theirs).expect("a child");
    assert_eq!(text(&ours), "listening");
    assert!(matches!(Listener::bind(&name), Err(ListenError::InUse(path)) if path == Path::new(&name)));
    child.kill().expect("a child");
    child.wait().expect("the end of the child");
    assert_eq!(folder.list().len(), 2, "a killed listener leaves the socket and the lock");
    assert!(matches!(connect(&name, b""), Err(ConnectError::NoListener(_))));
    let listener = Listener::bind(&name).expect("a name without a listener");
    assert_serves(&listener, &name);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("precious");
    fs::write(&name, b"data").expect("a file");
    assert!(matches!(Listener::bind(&name), Err(ListenError::NotASocket(_))));
    assert_eq!(fs::read(&name).expect("a file"), b"data");
    assert_eq!(folder.list(), ["precious"]);
    let error = connect(&name, b"").expect_err("no socket");
    assert!(matches!(error, ConnectError::NoListener(_)), "{error:?}");
    let elsewhere = folder.name("no/such/folder/service");
    assert!(matches!(Listener::bind(&elsewhere), Err(ListenError::System(..))));
}

#[test]
fn a_name_has_one_listener_at_a_time() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    static HOLDERS: AtomicUsize = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut had = 0;
                while had < 20 {
                    match Listener::bind(&name) {
                        Ok(listener) => {
                            assert_eq!(HOLDERS.fetch_add(1, Ordering::SeqCst), 0, "two listeners");
                            assert!(Path::new(&name).exists());
                            had += 1;
                            HOLDERS.fetch_sub(1, Ordering::SeqCst);
                            drop(listener);
                        }
                        Err(ListenError::InUse(_)) => thread::yield_now(),
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(folder.list(), [""; 0]);
}

#[test]
fn silent_clients_delay_no_other_client_and_are_dropped_in_time() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    for count in [1, 100] {
        let listener = ListenOptions::new().greeting_timeout(3 * SHORT).bind(&name).expect("a free name");
        let before = Ledger::now();
        let clients: Vec<OwnedFd> = (0..count).map(|_| silent(&name)).collect();
        assert_serves(&listener, &name);
        let start = Instant::now();
        while listener.refused() < count && start.elapsed() < PATIENCE {
            assert!(matches!(listener.accept_timeout(SHORT), Err(AcceptError::TimedOut)));
        }
        assert_eq!(listener.refused(), count);
        for client in &clients {
            assert_eq!(answer(client), Some((false, VERSION)));
            assert_eq!(answer(client), None, "the listener did not hang up");
        }
        assert_serves(&listener, &name);
        drop(clients);
        before.assert_restored("after the silent clients");
    }
}

#[test]
fn clients_come_one_after_the_other() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = Listener::bind(&name).expect("a free name");
    let clients: Vec<_> = (0..3_u8).map(|number| client(&name, &[number])).collect();
    let mut seen: Vec<u8> = Vec::new();
    for client in listener.incoming().take(3) {
        seen.extend(client.expect("a client").greeting.data);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    for client in clients {
        client.join().expect("no panic").expect("accepted");
    }
}

#[test]
fn a_client_may_take_its_time() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = ListenOptions::new().greeting_timeout(PATIENCE).bind(&name).expect("a free name");
    let slow = silent(&name);
    assert!(matches!(listener.accept_timeout(SHORT), Err(AcceptError::TimedOut)));
    attacker::send(&slow, &greeting(MAGIC, VERSION, b"sorry"), &[]).expect("room");
    let incoming = listener.accept_timeout(PATIENCE).expect("the slow client");
    assert_eq!(incoming.greeting.data, b"sorry");
    assert_eq!(answer(&slow), Some((true, VERSION)));
    assert_eq!(end_of(&incoming.port), CloseReason::PeerDied, "the client took the answer without the descriptors");
    assert_eq!(listener.refused(), 0);
}

#[test]
fn invalid_greetings_are_refused_and_counted_and_the_listener_goes_on() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = Listener::bind(&name).expect("a free name");
    let null = File::open("/dev/null").expect("a file");
    let ((keep, give), segment) = newest_memory(pair);
    let lane = give.as_fd().try_clone_to_owned().expect("a descriptor");
    let port = Table::default().port(NEW_PORT, &segment, &lane);
    let good = greeting(MAGIC, VERSION, b"good, but for its descriptors");
    let before = Ledger::now();
    let packets = [
        (vec![0], vec![]),
        (vec![1; 15], vec![]),
        (vec![1; 16], vec![]),
        (vec![0xff; 70_000], vec![]),
        (greeting(MAGIC, VERSION, &[7; (32 << 10) + 1]), vec![]),
        (greeting(!MAGIC, VERSION, b""), vec![]),
        (good[..16].to_vec(), vec![]),
        (good[..127].to_vec(), vec![]),
        (port_packet(VERSION, 1, &Table::default()), vec![]),
        (port_packet(VERSION, 1, &port), port.descriptors().to_vec()),
        (good.clone(), port.descriptors().to_vec()),
        (good.clone(), vec![null.as_fd()]),
        (good, vec![null.as_fd(); 253]),
        (greeting(MAGIC, 0, b""), vec![]),
        (greeting(MAGIC, 2, b"")[..16].to_vec(), vec![]),
        (greeting(MAGIC, u32::MAX, b""), vec![]),
        (greeting_for(16, 0), vec![]),             // the capacity
        (greeting_for(16, 128 << 20), vec![]),     // more than 64 MiB
        (greeting_for(16, u64::MAX), vec![]),      // no power of two
        (greeting_for(24, 4096), vec![]),          // the maximum capacity: less than the capacity
        (greeting_for(24, u64::MAX), vec![]),      // more than 1 GiB
        (greeting_for(32, 254 | 8 << 32), vec![]), // the descriptors of a message, and the buffers of a direction
        (greeting_for(32, 253 | 65 << 32), vec![]),
        (greeting_for(40, u64::MAX), vec![]), // the bytes of those buffers
        (greeting_for(48, u64::MAX), vec![]), // the length of a message
    ];
    for (number, (packet, descriptors)) in packets.iter().enumerate() {
        let client = silent(&name);
        attacker::send(&client, packet, descriptors).expect("room");
        assert!(matches!(listener.accept_timeout(SHORT / 10), Err(AcceptError::TimedOut)), "packet {number}");
        assert_eq!(answer(&client), Some((false, VERSION)), "packet {number}");
        assert_eq!(listener.refused(), number as u64 + 1, "packet {number}");
    }
    // A client that leaves without a greeting.
    drop(silent(&name));
    assert!(matches!(listener.accept_timeout(SHORT / 10), Err(AcceptError::TimedOut)));
    assert_eq!(listener.refused(), packets.len() as u64 + 1);
    assert_serves(&listener, &name);
    before.assert_restored("after the greetings");
    assert_entangled(&keep, &give);
}

#[test]
fn a_client_that_leaves_before_its_answer_is_not_accepted() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = Listener::bind(&name).expect("a free name");
    let before = Ledger::now();
    let client = silent(&name);
    attacker::send(&client, &greeting(MAGIC, VERSION, b"gone"), &[]).expect("room");
    drop(client);
    assert!(matches!(listener.accept_timeout(SHORT), Err(AcceptError::TimedOut)));
    assert_eq!(listener.refused(), 1);
    assert_serves(&listener, &name);
    before.assert_restored("after the client");
}

#[test]
fn the_limits_of_a_channel_are_those_that_the_client_asked_for() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = Listener::bind(&name).expect("a free name");
    let options = ChannelOptions::new().capacity(4096).max_message_len(1000).max_handles(0);
    let client = {
        let (name, options) = (name.clone(), options.clone());
        thread::spawn(move || ConnectOptions::new().timeout(PATIENCE).channel(options).connect(&name, b""))
    };
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    let port = client.join().expect("no panic").expect("accepted");
    let expected = options.create().expect("a channel").port1;
    for port in [&port, &incoming.port] {
        assert_eq!(port.max_message_len(), 1000);
        assert_eq!(port.max_inline_len(), expected.max_inline_len());
        let (_ours, theirs) = pair();
        let error = port.post_message(b"", [theirs.into()]).expect_err("a channel for data only");
        assert!(matches!(error.kind, PostErrorKind::TooManyHandles { .. }), "{error:?}");
    }
    // An option out of range is an error before a listener is asked.
    let bad = ConnectOptions::new().channel(ChannelOptions::new().capacity(1000));
    let error = bad.connect(&folder.name("nobody"), b"").expect_err("no such capacity");
    assert!(matches!(error, ConnectError::Channel(ChannelError::BadCapacity(1000))), "{error:?}");
}

#[test]
fn connect_times_out() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = Listener::bind(&name).expect("a free name");
    let before = Ledger::now();
    let (result, cost) = cost_of(|| ConnectOptions::new().timeout(SHORT).connect(&name, b""));
    assert!(matches!(result, Err(ConnectError::TimedOut)), "{result:?}");
    assert!(cost.time >= SHORT && cost.time < PATIENCE, "{:?}", cost.time);
    before.assert_restored("after the attempt");
    // Its greeting is still queued, and nothing waits for the answer.
    assert!(matches!(listener.accept_timeout(SHORT), Err(AcceptError::TimedOut)));
    assert_serves(&listener, &name);
}

#[test]
fn connect_reports_the_fault_of_a_strange_listener() {
    let _alone = alone();
    let folder = Folder::new();
    let of = |magic: u64, version: u32, accepted: u32| {
        [&magic.to_ne_bytes()[..], &version.to_ne_bytes(), &accepted.to_ne_bytes()].concat()
    };
    let null = File::open("/dev/null").expect("a file");
    let (_peer, lane) = attacker::lane();
    let ((_keep, give), segment) = newest_memory(pair);
    let good_lane = give.as_fd().try_clone_to_owned().expect("a descriptor");
    let port = || Table::default().port(NEW_PORT, &segment, &good_lane);
    let (bad_segment, bad_lane) =
        (Table::default().port(NEW_PORT, &null, &lane), Table::default().port(NEW_PORT, &segment, &null));
    let (two, more) = (port().port(NEW_PORT, &segment, &lane), port().descriptor(&null));
    let with = |table: &Table<'_>| Some(port_packet(VERSION, 1, table));
    let before = Ledger::now();
    let cases = [
        ("Version(7)", Some(of(MAGIC, 7, 0)), vec![]),
        ("Version(7)", Some(of(MAGIC, 7, 1)), vec![]),
        ("Refused", Some(of(MAGIC, VERSION, 0)), vec![]),
        ("Refused", Some(of(MAGIC, VERSION, 1)), vec![]),
        ("Overloaded", Some(of(MAGIC, VERSION, 2)), vec![]),
        ("Refused", Some(of(MAGIC, VERSION, 3)), vec![]),
        ("Refused", Some(of(!MAGIC, VERSION, 1)), vec![]),
        ("Refused", Some(vec![1; 3]), vec![]),
        ("Refused", Some(vec![1; 300]), vec![]),
        ("Refused", with(&port()), vec![]),
        ("Refused", with(&port()), vec![null.as_fd(); 2]),
        ("Refused", with(&port()), vec![null.as_fd(); 3]),
        ("Refused", with(&bad_segment), bad_segment.descriptors().to_vec()),
        ("Refused", with(&bad_lane), bad_lane.descriptors().to_vec()),
        ("Refused", with(&two), two.descriptors().to_vec()),
        ("Refused", with(&more), more.descriptors().to_vec()),
        ("Refused", Some(port_packet(VERSION, 0, &port())), port().descriptors().to_vec()),
        ("Refused", None, vec![]),
    ];
    for (number, (expected, answer, descriptors)) in cases.into_iter().enumerate() {
        let name = folder.name(&number.to_string());
        let listening =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        bind(listening.as_raw_fd(), &UnixAddr::new(name.as_str()).expect("an address")).expect("a free name");
        listen(&listening, Backlog::new(5).expect("a number")).expect("listening");
        let client = client(&name, b"hello");
        let accepted = accept(listening.as_raw_fd()).expect("a client");
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is new, and this is its only owner.
        let accepted = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(accepted) };
        if let Some(answer) = answer {
            attacker::send(&accepted, &answer, &descriptors).expect("room");
        } else {
            drop(accepted);
        }
        let result = within(PATIENCE, move || client.join().expect("no panic"));
        assert_eq!(format!("{:?}", result.expect_err("a strange listener")), expected, "answer {number}");
    }
    before.assert_restored("after the answers");
}

#[test]
fn a_listener_can_be_polled() {
    let _alone = alone();
    let folder = Folder::new();
    let name = folder.name("service");
    let listener = Listener::bind(&name).expect("a free name");
    assert!(!readable(&listener, Duration::ZERO));
    assert!(matches!(listener.accept_timeout(Duration::ZERO), Err(AcceptError::TimedOut)));
    assert!(listener.try_accept().expect("a listener").is_none());
    let client = client(&name, b"hello");
    let incoming = loop {
        assert!(readable(&listener, PATIENCE), "the listener does not become readable");
        if let Some(incoming) = listener.try_accept().expect("a listener") {
            break incoming;
        }
    };
    assert_entangled(&incoming.port, &client.join().expect("no panic").expect("accepted"));
    assert!(!readable(&listener, Duration::ZERO));
}

fn number_of_descriptor() -> i32 {
    let value = std::env::var(VARIABLE).expect("a parent");
    value.split(':').next().expect("a number").parse().expect("a number")
}

/// A role: a program that closes the descriptors that it does not know, and starts the one that the port is for.
fn close_the_descriptor() {
    close(number_of_descriptor()).expect("an open descriptor");
    assert!(command("finds no descriptor").status().expect("it can be started").success());
}

/// A role: the error states which descriptor is missing.
fn find_no_descriptor() {
    let number = number_of_descriptor();
    let error = parent_port().expect_err("no descriptor");
    assert!(matches!(error, ParentPortError::Lost { descriptor } if descriptor == number), "{error:?}");
    assert!(error.to_string().contains(&format!("descriptor {number}")), "{error}");
}

#[test]
fn a_descriptor_that_a_program_in_between_has_closed_is_named() {
    let _alone = alone();
    tools::child::play("closes its parent's descriptor");
}

/// The recipe of `parent_port` for Python, which closes what it is not told to pass on.
#[test]
fn a_port_is_passed_on_by_python() {
    let _alone = alone();
    for (passes, role) in
        [("pass_fds=[int(os.environ['MESSAGEPORT_PARENT'].split(':')[0])]", "child"), ("", "finds no descriptor")]
    {
        let (ours, theirs) = pair();
        let program = std::env::current_exe().expect("a path");
        let script = format!("import os, subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], {passes}).returncode)");
        let mut python = Command::new("python3");
        python.args(["-c", &script]).arg(program).env("MESSAGEPORT_TEST_ROLE", role);
        let mut child = match spawn_with_port(&mut python, theirs) {
            Ok(child) => child,
            Err(error) => return println!("SKIPPED: no python3: {error:#}"),
        };
        if role == "child" {
            ours.post_data(b"hello").expect("room");
            assert_eq!(ours.recv_timeout(PATIENCE).expect("an answer").data, b"hello");
            drop(ours);
        }
        assert!(child.wait().expect("a child").success());
    }
}
