//! One loop for everything: listeners, descriptors of the program and repeating timers beside the ports.

mod tools;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use messageport::{
    Client, EventLoop, ListenOptions, Listener, MessageEvent, MessagePort, PortHandle, PortSet, Readiness, Server,
    SetEvent, TryRecvError, WatchError, WatchId, connect, parent_port,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};

use tools::child::{Process, Role};
use tools::events::{event_loop, run_until};
use tools::ledger::{Ledger, alone};
use tools::{PATIENCE, readable, text};

const ROLES: &[Role] = &[("client", client), ("poor", poor)];

const MILLISECOND: Duration = Duration::from_millis(1);

/// A path for a socket of this test process.
fn name(of: &str) -> String {
    std::env::temp_dir().join(format!("one-loop-{of}-{}", std::process::id())).to_str().unwrap().to_owned()
}

/// A role: connects to the name that the test posts, says hello, and posts the answer to the test.
fn client() {
    let test = parent_port().expect("a port");
    let port = connect(&text(&test), b"greeting").expect("a listener");
    port.post_message(b"hello", []).unwrap();
    test.post_message(&port.recv().unwrap().data, []).unwrap();
    let _ = test.recv(); // holds the port until the test is over
}

/// Echoes in the loop what each client says, and counts the clients.
fn serve(events: &EventLoop, listener: Listener) -> (WatchId, Rc<Cell<usize>>) {
    let clients = Rc::new(Cell::new(0));
    let count = Rc::clone(&clients);
    let id = events.add_listener(listener, move |events, client| {
        assert_eq!(client.greeting.data, b"greeting");
        count.set(count.get() + 1);
        events.add(client.port).unwrap().set_onmessage(echo);
    });
    (id.unwrap(), clients)
}

fn echo(port: &PortHandle, event: &mut MessageEvent) {
    port.post_message(&event.data, []).unwrap();
}

#[test]
fn a_server_accepts_its_clients_in_the_loop_that_serves_them() {
    let _alone = alone();
    let before = Ledger::now();
    let name = name("server");
    let events = event_loop();
    let (id, clients) = serve(&events, Listener::bind(&name).unwrap());
    // Clients of other processes; their answers come to ports of the same loop.
    let answers = Rc::new(Cell::new(0));
    let mut processes = Vec::new();
    for _ in 0..3 {
        let (process, port) = Process::start("client");
        port.post_message(name.as_bytes(), []).unwrap();
        let port = events.add(port).unwrap();
        let answers = Rc::clone(&answers);
        port.set_onmessage(move |_, event| {
            assert_eq!(event.data, b"hello");
            answers.set(answers.get() + 1);
        });
        processes.push((process, port));
    }
    run_until(&events, || answers.get() == 3);
    assert_eq!(clients.get(), 3);
    // A killed client ends its port only, and the listener goes on.
    processes[0].0.kill();
    let (mut process, port) = Process::start("client");
    port.post_message(name.as_bytes(), []).unwrap();
    run_until(&events, || clients.get() == 4);
    run_until(&events, || port.try_recv().is_ok());
    process.kill();
    // It keeps the loop running until it is removed, which frees the name.
    assert!(events.run_timeout(MILLISECOND).is_ok() && Listener::bind(&name).is_err());
    assert!(events.unwatch(id) && !events.unwatch(id));
    drop(Listener::bind(&name).unwrap());
    processes.iter_mut().for_each(|(process, _)| process.kill());
    events.run().unwrap(); // all ports have ended
    drop((events, processes, port, process));
    before.assert_restored("after the test");
}

/// A client that sends nothing.
fn connected(name: &str) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(name).unwrap()).expect("a listener");
    socket
}

#[test]
fn silent_clients_are_turned_away_in_time_and_delay_nobody() {
    let _alone = alone();
    let name = name("silent");
    let events = event_loop();
    let listener = ListenOptions::new().greeting_timeout(20 * MILLISECOND).bind(&name).unwrap();
    let (_, clients) = serve(&events, listener);
    let silent: Vec<_> = (0..10).map(|_| connected(&name)).collect();
    let client = std::thread::spawn({
        let name = name.clone();
        move || {
            let port = connect(&name, b"greeting").unwrap();
            port.post_message(b"hello", []).unwrap();
            text(&port)
        }
    });
    run_until(&events, || client.is_finished());
    assert_eq!((client.join().unwrap().as_str(), clients.get()), ("hello", 1));
    // Nothing but the loop's own timer makes the listener look at them.
    run_until(&events, || silent.iter().all(|socket| readable(socket, Duration::ZERO)));
}

#[test]
fn a_listener_that_is_removed_leaves_nothing_to_wait_for() {
    let _alone = alone();
    let name = name("removed");
    let events = event_loop();
    let listener = ListenOptions::new().greeting_timeout(10 * PATIENCE).bind(&name).unwrap();
    let (id, clients) = serve(&events, listener);
    let _silent = connected(&name);
    let client = std::thread::spawn({
        let name = name.clone();
        move || drop(connect(&name, b"greeting").unwrap())
    });
    run_until(&events, || client.is_finished() && clients.get() == 1);
    assert!(events.unwatch(id));
    let start = Instant::now();
    events.run_timeout(2 * PATIENCE).unwrap();
    assert!(start.elapsed() < PATIENCE, "the loop waited for a client of the listener");
}

#[test]
fn a_loop_with_a_listener_can_be_embedded() {
    let _alone = alone();
    let name = name("embedded");
    let events = event_loop();
    assert!(readable(&events, Duration::ZERO)); // it has never been dispatched
    let (id, clients) = serve(&events, Listener::bind(&name).unwrap());
    while readable(&events, Duration::ZERO) {
        events.dispatch().unwrap();
    }
    let client = std::thread::spawn({
        let name = name.clone();
        move || connect(&name, b"greeting").unwrap()
    });
    while clients.get() == 0 {
        assert!(readable(&events, PATIENCE));
        events.dispatch().unwrap();
    }
    let port = client.join().unwrap();
    port.post_message(b"hello", []).unwrap();
    while !readable(&port, Duration::ZERO) {
        assert!(readable(&events, PATIENCE));
        events.dispatch().unwrap();
    }
    assert!(events.unwatch(id));
    drop(port);
}

#[test]
fn a_listener_waits_out_a_shortage_without_using_the_processor() {
    let _alone = alone();
    let (mut process, port) = Process::start("poor");
    let name = text(&port);
    let client = std::thread::spawn(move || connect(&name, b"greeting"));
    assert_eq!(text(&port), "waited");
    let port = client.join().unwrap().expect("the listener accepts when the shortage is over");
    port.post_message(b"hello", []).unwrap();
    assert_eq!(text(&port), "hello");
    drop(port);
    process.succeeded();
}

/// A role: a listener without a free descriptor, for a while.
fn poor() {
    let test = parent_port().expect("a port");
    let events = event_loop();
    let name = name("poor");
    let (id, clients) = serve(&events, Listener::bind(&name).unwrap());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    test.post_message(name.as_bytes(), []).unwrap();
    let (end, mut calls) = (Instant::now() + 300 * MILLISECOND, 0);
    while Instant::now() < end {
        calls += events.run_once_timeout(end.saturating_duration_since(Instant::now())).unwrap();
    }
    assert!((1..100).contains(&calls), "{calls} attempts in 300 ms, instead of one every 10 ms");
    assert_eq!(clients.get(), 0);
    test.post_message(b"waited", []).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    run_until(&events, || clients.get() == 1);
    assert!(events.unwatch(id));
    events.run().unwrap(); // until the client leaves
}

#[test]
fn descriptors_are_reported_while_they_are_ready() {
    let _alone = alone();
    let before = Ledger::now();
    let events = event_loop();
    let (reader, mut writer) = pipe().unwrap();
    let log = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&log);
    let id = Rc::new(Cell::new(None));
    let own = Rc::clone(&id);
    let watch = events.watch(reader, Readiness::READABLE, move |events, mut reader: &PipeReader, ready| {
        assert_eq!(ready, Readiness::READABLE);
        let mut byte = [0];
        match reader.read(&mut byte).unwrap() {
            0 => assert!(events.unwatch(own.get().unwrap())), // a hang-up is readable
            _ => seen.borrow_mut().push(byte[0]),
        }
    });
    id.set(Some(watch.unwrap()));
    // One call a round while bytes are left; the loop sleeps when none are.
    writer.write_all(b"abc").unwrap();
    run_until(&events, || log.borrow().len() == 3);
    assert_eq!(events.run_once_timeout(MILLISECOND).unwrap(), 0);
    // From another thread, while the loop sleeps; the end removes the last thing that keeps it running.
    let thread = std::thread::spawn(move || writer.write_all(b"d"));
    events.run().unwrap();
    thread.join().unwrap().unwrap();
    assert_eq!(*log.borrow(), b"abcd");
    // Writable, and both.
    let (near, far) = UnixStream::pair().unwrap();
    let both = Rc::new(Cell::new(Readiness::default()));
    let state = Rc::clone(&both);
    let id = events.watch(near, Readiness::BOTH, move |_, _, ready| state.set(ready)).unwrap();
    events.run_once().unwrap();
    assert_eq!(both.get(), Readiness::WRITABLE);
    (&far).write_all(b"x").unwrap();
    events.run_once().unwrap();
    assert_eq!(both.get(), Readiness::BOTH);
    assert!(events.unwatch(id));
    assert!(readable(&far, PATIENCE), "its source is closed");
    // What cannot be watched.
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let error = events.watch(file, Readiness::READABLE, |_, _, _| {}).unwrap_err();
    let WatchError::System(why) = &error.kind else { panic!("{error:?}") };
    assert_eq!(why.kind(), ErrorKind::PermissionDenied);
    assert!(error.into_inner().metadata().is_ok(), "the file is given back");
    // A callback that panics is reported, and called again.
    let (reader, mut writer) = pipe().unwrap();
    let panics = Rc::new(Cell::new(0));
    let count = Rc::clone(&panics);
    events.set_onerror(move |_| count.set(count.get() + 1));
    events.watch(reader, Readiness::READABLE, |_, _, _| panic!("expected")).unwrap();
    writer.write_all(b"x").unwrap();
    run_until(&events, || panics.get() == 2);
    drop((events, writer, far));
    before.assert_restored("after the test");
}

#[test]
fn busy_ports_starve_no_descriptor_and_the_other_way_round() {
    let _alone = alone();
    let events = event_loop();
    let (port1, port2): (MessagePort, MessagePort) = tools::pair();
    port1.post_message(b"round and round", []).unwrap();
    let [one, two] = [port1, port2].map(|port| events.add(port).unwrap());
    let rounds = Rc::new(Cell::new(0_u64));
    for port in [&one, &two] {
        let rounds = Rc::clone(&rounds);
        port.set_onmessage(move |port, event| {
            rounds.set(rounds.get() + 1);
            let _ = port.post_message(&event.data, []);
        });
    }
    // A descriptor that is always ready.
    let (near, _far) = UnixStream::pair().unwrap();
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    events.watch(near, Readiness::WRITABLE, move |_, _, _| count.set(count.get() + 1)).unwrap();
    run_until(&events, || calls.get() > 100 && rounds.get() > 100);
    // Messages of the closed port are still dispatched, and nothing of the ports is left.
    one.close();
    drop(two);
    run_until(&events, || format!("{events:?}").contains("ports: Some(0)"));
}

#[test]
fn an_interval_is_called_until_it_is_cleared() {
    let _alone = alone();
    let events = event_loop();
    let log = Rc::new(RefCell::new(Vec::new()));
    let (id, seen) = (Rc::new(Cell::new(None)), Rc::clone(&log));
    let own = Rc::clone(&id);
    let start = Instant::now();
    id.set(Some(events.set_interval(5 * MILLISECOND, move |events| {
        seen.borrow_mut().push(start.elapsed());
        if seen.borrow().len() == 4 {
            assert!(events.clear_timeout(own.get().unwrap()));
            assert!(!events.clear_timeout(own.get().unwrap()));
        }
    })));
    events.run().unwrap(); // ends, since the interval has ended
    let times = log.borrow();
    assert_eq!(times.len(), 4);
    assert!(times.iter().zip(1..).all(|(time, number)| *time >= number * 5 * MILLISECOND), "{times:?} is early");
    // One that takes longer than its period starves nothing, and one of no length is called once a round.
    let calls = Rc::new(Cell::new([0; 2]));
    let [slow, fast] = [0, 1].map(|index| {
        let calls = Rc::clone(&calls);
        move |_: &EventLoop| {
            let mut counts = calls.get();
            counts[index] += 1;
            calls.set(counts);
            std::thread::sleep(2 * MILLISECOND);
        }
    });
    let ids = [events.set_interval(MILLISECOND, slow), events.set_interval(Duration::ZERO, fast)];
    assert!(events.run_once().unwrap() <= 2);
    run_until(&events, || calls.get().iter().all(|count| *count >= 3));
    ids.into_iter().for_each(|id| assert!(events.clear_timeout(id)));
    events.run().unwrap();
    // In a loop that another one drives.
    let id = events.set_interval(MILLISECOND, |_| {});
    events.as_fd();
    for _ in 0..3 {
        assert!(readable(&events, PATIENCE));
        while events.dispatch().unwrap() == 0 {
            assert!(readable(&events, PATIENCE));
        }
    }
    assert!(events.clear_timeout(id));
}

#[test]
fn sets_clients_and_servers_can_be_polled() {
    let _alone = alone();
    let mut set = PortSet::new().unwrap();
    let descriptor = set.as_fd().try_clone_to_owned().unwrap();
    let (peers, ports): (Vec<_>, Vec<_>) = (0..20).map(|_| tools::pair()).unzip();
    ports.into_iter().for_each(|port| _ = set.add(port).unwrap());
    assert!(set.try_wait().unwrap().is_none());
    for round in 0..50 {
        assert!(!readable(&descriptor, Duration::ZERO), "nothing is there in round {round}");
        for peer in &peers[..=round % 20] {
            peer.post_message(b"x", []).unwrap();
        }
        assert!(readable(&descriptor, PATIENCE), "a message makes it readable in round {round}");
        let mut events = 0;
        while set.try_wait().unwrap().is_some() {
            events += 1;
        }
        assert_eq!(events, round % 20 + 1);
    }
    drop(peers);
    assert!(readable(&descriptor, PATIENCE));
    while let Some((_, event)) = set.try_wait().unwrap() {
        assert!(matches!(event, SetEvent::Closed(..)));
    }
    assert!(set.is_empty());

    let (port1, port2) = tools::pair();
    let (client, server) = (Client::new(port1), Server::new(port2));
    let [there, here] = [server.as_fd(), client.as_fd()].map(|fd| fd.try_clone_to_owned().unwrap());
    for _ in 0..50 {
        assert!(matches!(server.try_recv(), Err(TryRecvError::Empty)));
        assert!(!readable(&there, Duration::ZERO));
        let mut calls = [client.start(b"1", []).unwrap(), client.start(b"2", []).unwrap()];
        assert!(readable(&there, PATIENCE));
        let answers: Vec<_> = (0..2).map(|_| server.try_recv().unwrap().1).collect();
        calls.iter_mut().for_each(|call| assert!(call.try_wait().unwrap().is_none()));
        assert!(!readable(&here, Duration::ZERO));
        for answer in answers {
            answer.answer(b"", []).unwrap();
        }
        assert!(readable(&here, PATIENCE));
        calls.iter_mut().for_each(|call| assert!(call.try_wait().unwrap().is_some()));
    }
    drop(server);
    assert!(readable(&here, PATIENCE));
}
