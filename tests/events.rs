//! The event loop and the set of ports: sleep, wake-ups, deaths, other threads, other programs' loops, hostile peers.

mod tools;

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use messageport::{
    CloseReason, ErrorEvent, EventLoop, HandlerId, Message, MessageEvent, MessagePort, PortHandle, PortSet,
    PostErrorKind, RecvHalf, SetEvent, TransferBuffer, TransferRef, TryRecvError, parent_port,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use tools::attacker::{Attacker, CARRIER, HANDLES, Table, WAKE, packet, send};
use tools::child::{Process, Role, hold};
use tools::events::{event_loop, run_until};
use tools::ledger::{Ledger, alone};
use tools::{Cost, PATIENCE, cost_of, cost_under, end_of, pair, readable, text, within};

const ROLES: &[Role] = &[("hold", hold), ("echo", echo), ("forked", forked), ("poor", poor)];

/// A wait of 300 ms that takes more CPU time than this spins.
const SPINS: Duration = Duration::from_millis(100);
const WAIT: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(20);

/// A role: posts every message back, with its transfer list, until the peer closes, at any moment.
fn echo() {
    let port = parent_port().expect("a port");
    while let Ok(mut message) = port.recv() {
        let list = message.take_transfer_list();
        if let Err(error) = port.post_message_timeout(&message.data, list, PATIENCE) {
            return assert!(matches!(error.kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{error:?}");
        }
    }
}

/// Counts the messages of a port.
fn count(port: &PortHandle) -> Rc<Cell<usize>> {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    port.set_onmessage(move |_, _| counter.set(counter.get() + 1));
    count
}

#[track_caller]
fn assert_slept(cost: &Cost) {
    assert!(cost.time >= WAIT && cost.time < WAIT + PATIENCE / 4, "{:?} instead of {WAIT:?}", cost.time);
    assert!(cost.cpu < SPINS, "used the CPU for {:?} of {:?}", cost.cpu, cost.time);
}

// Death and sleep.

#[test]
fn a_killed_peer_fires_the_close_event() {
    let _alone = alone();
    let (mut process, port) = Process::start("hold");
    let (events, log) = (event_loop(), Rc::new(RefCell::new(Vec::new())));
    let port = events.add(port).unwrap();
    let messages = Rc::clone(&log);
    port.set_onmessage(move |_, event| {
        messages.borrow_mut().push(String::from_utf8(event.data.clone()).unwrap());
        process.kill();
    });
    let closes = Rc::clone(&log);
    port.set_onclose(move |_, event| closes.borrow_mut().push(event.reason.to_string()));
    events.run().unwrap(); // returns, since no port is left
    assert_eq!(*log.borrow(), ["ready", "the process that held the peer ended"]);
    drop(port);
}

#[test]
fn a_loop_of_many_idle_ports_sleeps_and_wakes_for_each() {
    let _alone = alone();
    let (events, mut peers, mut counts) = (event_loop(), Vec::new(), Vec::new());
    for _ in 0..100 {
        let (peer, port) = pair();
        counts.push(count(&events.add(port).unwrap()));
        peers.push(peer);
    }
    let (_, cost) = cost_of(|| events.run_timeout(WAIT));
    assert_slept(&cost);
    let (peers, order) = thread::spawn(move || {
        let order: Vec<_> = (0..300).map(|number| number * 37 % 100).collect();
        order.iter().for_each(|&index| peers[index].post_message(b"wake up", []).expect("room"));
        (peers, order)
    })
    .join()
    .unwrap();
    run_until(&events, || counts.iter().map(|count| count.get()).sum::<usize>() == order.len());
    assert!(counts.iter().all(|count| count.get() == 3));
    drop(peers);
    events.run().unwrap();
}

#[test]
fn messages_of_another_process_arrive_whether_the_loop_spins_or_sleeps() {
    let _alone = alone();
    for spin in [None, Some(Duration::ZERO), Some(Duration::from_millis(5))] {
        let (mut process, port) = Process::start("echo");
        let events = event_loop();
        spin.inspect(|spin| events.set_spin(*spin));
        let port = events.add(port).unwrap();
        let rounds = Rc::new(Cell::new(0));
        port.post_message(b"x", []).unwrap();
        port.set_onmessage({
            let rounds = Rc::clone(&rounds);
            move |port, event| {
                rounds.set(rounds.get() + 1);
                if rounds.get() == 2000 {
                    return port.close();
                }
                // Some messages carry a port and a buffer, over the lane.
                let things = match rounds.get() % 10 {
                    0 => vec![pair().0.into(), TransferBuffer::new(10).unwrap().into()],
                    _ => Vec::new(),
                };
                assert_eq!(event.ports.len(), event.buffers.len());
                port.post_message(&event.data, things).unwrap();
            }
        });
        events.run().unwrap();
        assert_eq!(rounds.get(), 2000);
        process.succeeded();
    }
}

// Hostile and stopped peers.

#[test]
fn a_flood_of_wake_ups_burns_no_cpu_and_delays_no_other_port() {
    let _alone = alone();
    let (attacker, victim) = Attacker::new(pair);
    let events = event_loop();
    let victim = events.add(victim).unwrap();
    let got = count(&victim);
    let (lane, wake) = (&attacker.lane, packet(WAKE, 0, 0));
    let flood = || {
        let _ = send(lane, &wake, &[]);
    };
    let (_, cost) = cost_under(flood, || events.run_timeout(WAIT).unwrap());
    println!("a loop under a flood: {:?} of {:?}", cost.cpu, cost.time);
    assert_slept(&cost);
    // Other ports are served as before.
    let (mut process, port) = Process::start("echo");
    let port = events.add(port).unwrap();
    let rounds = Rc::new(Cell::new(0));
    port.post_message(b"x", []).unwrap();
    let counter = Rc::clone(&rounds);
    port.set_onmessage(move |port, event| {
        counter.set(counter.get() + 1);
        let _ = port.post_message(&event.data, []);
    });
    cost_under(flood, || run_until(&events, || rounds.get() >= 300));
    // The victim has lost no message.
    attacker.port.post_message(b"honest after all", []).unwrap();
    run_until(&events, || got.get() == 1);
    port.close();
    process.succeeded();

    // A set behaves like the loop.
    let mut set = PortSet::new().unwrap();
    set.add(events.remove(&victim).unwrap()).unwrap();
    let (next, cost) = cost_under(flood, || set.wait_timeout(WAIT).unwrap());
    assert!(next.is_none());
    assert_slept(&cost);
}

#[test]
fn a_sender_stopped_half_way_through_a_transfer_list_does_not_make_the_loop_spin() {
    let _alone = alone();
    let (mut attacker, victim) = Attacker::new(pair);
    let events = event_loop();
    let victim = events.add(victim).unwrap();
    let got = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&got);
    victim.set_onmessage(move |_, event| log.borrow_mut().push(event.data.clone()));
    let errors = Rc::clone(&got);
    victim.set_onmessageerror(move |_, event| errors.borrow_mut().push(event.data.clone()));
    let memory = memfd_create(c"messageport-not", MFdFlags::MFD_CLOEXEC).expect("a memory file");
    for _ in 0..2 {
        attacker.send(&packet(HANDLES, 1, attacker.sequence), &[memory.as_fd()]).expect("room");
        let (_, cost) = cost_of(|| events.run_timeout(WAIT).unwrap());
        assert_slept(&cost);
        // The sender continues: the record, and the wake-up of a sleeper on the lane.
        attacker.record(CARRIER, &Table::default().buffer(1, 0, &memory).payload(b"late"), 1);
        attacker.send(&packet(WAKE, 0, 0), &[]).expect("room");
        run_until(&events, || !got.borrow().is_empty());
        assert_eq!(got.borrow_mut().pop().unwrap(), b"late");
    }
}

#[test]
fn a_peer_that_breaks_the_format_ends_its_port_only() {
    let _alone = alone();
    let (attacker, victim) = Attacker::new(pair);
    let (peer, other) = pair();
    let events = event_loop();
    let (victim, other) = (events.add(victim).unwrap(), events.add(other).unwrap());
    let (got, reason) = (count(&other), Rc::new(Cell::new(None)));
    let seen = Rc::clone(&reason);
    victim.set_onclose(move |_, event| seen.set(Some(event.reason)));
    attacker.pages.ring(0, 0).store(u64::MAX, Ordering::SeqCst);
    attacker.send(&packet(WAKE, 0, 0), &[]).expect("room");
    run_until(&events, || reason.get().is_some());
    assert!(matches!(reason.get(), Some(CloseReason::ProtocolViolation(_))));
    peer.post_message(b"", []).unwrap();
    run_until(&events, || got.get() == 1);
}

#[test]
fn a_loop_does_not_wait_on_a_port_that_moved_away() {
    let _alone = alone();
    let events = event_loop();
    let (peer, port) = pair();
    let port = events.add(port).unwrap();
    count(&port);
    events.run_once_timeout(Duration::ZERO).unwrap();
    let (carrier1, carrier2) = pair();
    {
        let own = port.port().unwrap();
        carrier1.post_message_detaching(b"", &[TransferRef::Port(&own)]).unwrap();
    }
    let moved = carrier2.recv().unwrap().ports.remove(0);
    moved.as_fd(); // from here on every message sends a packet
    assert!(matches!(moved.try_recv(), Err(TryRecvError::Empty)));
    assert!(readable(&events, Duration::ZERO), "the change of the port is not dispatched");
    while readable(&events, Duration::ZERO) {
        events.dispatch().unwrap();
    }
    peer.post_message(b"to the new holder", []).unwrap();
    assert!(readable(&moved, PATIENCE));
    assert!(!readable(&events, Duration::ZERO));
}

#[test]
fn a_shortage_of_descriptors_is_reported_and_nothing_is_lost() {
    let _alone = alone();
    let (mut process, port) = Process::start("poor");
    let (keep, travel) = pair();
    assert_eq!(text(&port), "ready");
    port.post_message(b"a port", [travel.into()]).unwrap();
    assert_eq!(text(&port), "a shortage");
    port.post_message(b"go on", []).unwrap();
    assert_eq!(text(&keep), "it works");
    process.succeeded();
}

fn poor() {
    let events = event_loop();
    let port = events.add(parent_port().expect("a port")).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).expect("the limit can be lowered");
    let reporter = port.clone();
    events.set_onerror(move |error| {
        assert!(matches!(error, ErrorEvent::ResourceExhausted(_)), "{error}");
        reporter.post_message(b"a shortage", []).expect("room");
        let events = reporter.event_loop().expect("the loop");
        events.set_timeout(WAIT, move |_| {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit can be raised")
        });
    });
    port.set_onmessage(|port, event| {
        match event.ports.pop() {
            Some(other) => other.post_message(b"it works", []).expect("room"),
            None => port.close(),
        };
    });
    port.post_message(b"ready", []).expect("room");
    let (_, cost) = cost_of(|| events.run().expect("the loop runs"));
    assert!(cost.cpu < SPINS, "used the CPU for {:?} of {:?}", cost.cpu, cost.time);
}

// Other threads.

#[test]
fn other_threads_stop_the_loop_and_post_tasks_to_it() {
    let _alone = alone();
    let events = event_loop();
    let handle = events.handle();
    let (peer, port) = pair();
    let got = count(&events.add(port).unwrap());
    let thread = thread::spawn(move || {
        for number in 0..100 {
            let peer = if number == 99 { None } else { Some(number) };
            handle
                .post_task(move |events| match peer {
                    Some(_) => drop(events.set_timeout(Duration::ZERO, |_| {})),
                    None => events.stop(),
                })
                .expect("the loop lives");
        }
        peer.post_message(b"not lost", []).unwrap();
        (handle, peer)
    });
    events.run().unwrap();
    let (handle, peer) = thread.join().unwrap();
    // While the loop sleeps.
    let stopper = handle.clone();
    let thread = thread::spawn(move || {
        thread::sleep(TICK);
        stopper.stop();
    });
    events.run().unwrap();
    thread.join().unwrap();
    assert_eq!(got.get(), 1);
    // Before the loop runs.
    handle.stop();
    let (_, cost) = cost_of(|| events.run());
    assert!(cost.time < PATIENCE);
    // The drop of the last handle ends a loop that waits for nothing else.
    drop(peer);
    let events2 = events.clone();
    let thread = thread::spawn(move || {
        thread::sleep(TICK);
        drop(handle);
    });
    events2.run().unwrap();
    thread.join().unwrap();
    // A loop that is gone takes no task.
    let handle = events.handle();
    handle.post_task(|_| panic!("the task must not run")).unwrap();
    drop((events, events2));
    let error = handle.post_task(|_| panic!("the task must not run")).unwrap_err();
    assert_eq!(error.to_string(), "the event loop has been dropped, or belongs to the parent process");
}

#[test]
fn timers_come_in_order_and_can_be_cleared() {
    let events = event_loop();
    let log = Rc::new(RefCell::new(Vec::new()));
    let add = |millis: u64, name: &'static str| {
        let log = Rc::clone(&log);
        events.set_timeout(Duration::from_millis(millis), move |_| log.borrow_mut().push(name))
    };
    let start = Instant::now();
    add(30, "third");
    add(10, "first");
    let cleared = add(20, "cleared");
    add(10, "second");
    let again = Rc::clone(&log);
    events.set_timeout(Duration::from_millis(31), move |events| {
        let again = Rc::clone(&again);
        events.set_timeout(Duration::from_millis(5), move |_| again.borrow_mut().push("from a timer"));
    });
    let never = add(u64::MAX, "never");
    assert!(events.clear_timeout(cleared) && !events.clear_timeout(cleared));
    assert!(events.clear_timeout(never));
    events.run().unwrap();
    assert_eq!(*log.borrow(), ["first", "second", "third", "from a timer"]);
    assert!(start.elapsed() >= Duration::from_millis(36), "too early");
    // A timer that sets the next timer starves nothing else.
    fn forever(events: &EventLoop) {
        events.set_timeout(Duration::ZERO, forever);
    }
    forever(&events);
    let (peer, port) = pair();
    let got = count(&events.add(port).unwrap());
    peer.post_message(b"", []).unwrap();
    run_until(&events, || got.get() == 1);
}

#[test]
fn a_receiving_half_can_be_in_a_loop_while_another_thread_sends() {
    let _alone = alone();
    let events = event_loop();
    let (peer, port) = pair();
    let (sender, receiver) = port.split();
    let half = events.add_half(receiver).unwrap();
    let got = count(&half);
    assert!(matches!(half.post_message(b"", []).unwrap_err().kind, PostErrorKind::Detached));
    assert!(half.port().is_none() && events.remove(&half).is_none());
    let thread = thread::spawn(move || {
        for _ in 0..10_000 {
            sender.post_message_timeout(b"there", [], PATIENCE).expect("room");
        }
        sender
    });
    let echo = thread::spawn(move || {
        for _ in 0..10_000 {
            let message = peer.recv_timeout(PATIENCE).expect("a message");
            peer.post_message_timeout(&message.data, [], PATIENCE).expect("room");
        }
        peer
    });
    run_until(&events, || got.get() == 10_000);
    let (sender, peer) = (thread.join().unwrap(), echo.join().unwrap());
    let port = MessagePort::join(sender, events.remove_half(&half).unwrap()).unwrap();
    tools::assert_entangled(&peer, &port);
    // Closed by the other half: no event, and no port is left in the loop.
    let (sender, receiver) = port.split();
    let half = events.add_half(receiver).unwrap();
    count(&half);
    half.set_onclose(|_, _| panic!("the peer has not closed"));
    events.run_once_timeout(Duration::ZERO).unwrap();
    let thread = thread::spawn(move || sender.close());
    events.run().unwrap();
    thread.join().unwrap();
    assert_eq!(end_of(&peer), CloseReason::Closed);
}

// In another program's loop.

#[test]
fn dispatch_finds_messages_of_a_port_that_a_run_has_left() {
    let _alone = alone();
    let events = event_loop();
    let (peer, port) = pair();
    let port = events.add(port).unwrap();
    let got = count(&port);
    for number in 1..=3 {
        peer.post_message(b"", []).unwrap();
        assert_eq!(events.run_once().unwrap(), 1);
        peer.post_message(b"", []).unwrap();
        assert_eq!(events.dispatch().unwrap(), 1);
        assert_eq!(got.get(), 2 * number);
        assert_eq!(events.dispatch().unwrap(), 0);
    }
}

#[test]
fn the_loop_can_be_polled_and_dispatched_by_another() {
    let _alone = alone();
    let events = event_loop();
    events.set_batch(10);
    let outer = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    outer.add(&events, EpollEvent::new(EpollFlags::EPOLLIN, 7)).unwrap();
    // The contract: wait until the loop is readable, then dispatch.
    let step = |timeout: Duration| {
        let mut found = [EpollEvent::empty(); 4];
        let count = outer.wait(&mut found, EpollTimeout::try_from(timeout).unwrap()).unwrap();
        if count > 0 {
            events.dispatch().unwrap();
        }
        count > 0
    };
    let until = |done: &dyn Fn() -> bool| {
        while !done() {
            assert!(step(PATIENCE), "the loop is not readable");
        }
    };
    let settle = || while step(Duration::from_millis(1)) {};
    settle();

    // More messages than a batch, posted before the port was added.
    let (peer, port) = pair();
    (0..95).for_each(|_| peer.post_message(b"", []).unwrap());
    let port = events.add(port).unwrap();
    let got = Rc::new(Cell::new(0));
    let counter = Rc::clone(&got);
    port.add_handler(move |_, _: &mut messageport::MessageEvent| counter.set(counter.get() + 1));
    settle();
    assert_eq!(got.get(), 0);
    port.start(); // outside of a dispatch
    until(&|| got.get() == 95);
    settle();
    // Then the loop is idle.
    let (readable, cost) = cost_of(|| step(WAIT));
    assert!(!readable);
    assert_slept(&cost);
    // From another process, after a pause and at once.
    let (mut process, echo) = Process::start("echo");
    let echo = events.add(echo).unwrap();
    let echoed = count(&echo);
    for number in 1..=100 {
        echo.post_message(b"x", []).unwrap();
        until(&|| echoed.get() == number);
    }
    // Timers, tasks and pull calls.
    let done = Rc::new(Cell::new(false));
    let timer = Rc::clone(&done);
    events.set_timeout(TICK, move |_| timer.set(true));
    until(&|| done.get());
    let (handle, told) = (events.handle(), std::sync::Arc::new(AtomicBool::new(false)));
    let teller = std::sync::Arc::clone(&told);
    let thread = thread::spawn(move || handle.post_task(move |_| teller.store(true, Ordering::Relaxed)).unwrap());
    until(&|| told.load(Ordering::Relaxed));
    thread.join().unwrap();
    settle();
    echo.post_message(b"x", []).unwrap();
    assert_eq!(echo.recv_timeout(PATIENCE).unwrap().data, b"x");
    echo.post_message(b"x", []).unwrap();
    until(&|| echoed.get() == 101);
    // The end.
    let ended = Rc::new(Cell::new(false));
    let seen = Rc::clone(&ended);
    echo.set_onclose(move |_, event| seen.set(event.reason == CloseReason::PeerDied));
    process.kill();
    until(&|| ended.get());
    settle();
    assert!(!readable_now(&events));
}

fn readable_now(events: &EventLoop) -> bool {
    readable(events, Duration::ZERO)
}

// The end of `run`.

/// Calls `make` and runs the loop, 20 times: a loop that sleeps on although nothing more can happen takes a second each
/// time, and the deadline of the whole is 10 s.
#[track_caller]
fn assert_ends_at_once(make: impl Fn(&EventLoop, &PortHandle)) {
    let start = Instant::now();
    for _ in 0..20 {
        let (events, (_peer, port)) = (event_loop(), pair());
        let port = events.add(port).unwrap();
        make(&events, &port);
        events.run().unwrap();
        drop(port);
        make(&events, &events.add(pair().0).unwrap());
        events.run_timeout(PATIENCE).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10), "the loop sleeps although nothing more can happen");
    }
}

#[test]
fn a_run_ends_with_the_last_thing_that_can_happen() {
    let _alone = alone();
    assert_ends_at_once(|_, _| {});
    assert_ends_at_once(|events, _| _ = events.set_timeout(Duration::from_millis(1), |_| {}));
    assert_ends_at_once(|events, _| {
        let id = Rc::new(Cell::new(None));
        let cleared = Rc::clone(&id);
        events.set_timeout(Duration::ZERO, move |events| assert!(events.clear_timeout(cleared.get().unwrap())));
        id.set(Some(events.set_timeout(PATIENCE * 100, |_| {})));
    });
    assert_ends_at_once(|events, _| {
        let handle = events.handle();
        events.handle().post_task(move |_| drop(handle)).unwrap();
    });
    // By what a handler does.
    assert_ends_at_once(|_, port| {
        let port = port.clone();
        let events = port.event_loop().unwrap();
        events.set_timeout(Duration::ZERO, move |_| port.close());
    });
    for act in [
        (|port: &PortHandle, _: HandlerId| port.close()) as fn(&PortHandle, HandlerId),
        |port, id| assert!(port.remove_handler(id)),
        |port, _| drop(port.event_loop().unwrap().remove(port).unwrap()),
        |port, _| {
            let (carrier, _other) = pair();
            let own = port.port().unwrap();
            carrier.post_message_detaching(b"", &[TransferRef::Port(&own)]).unwrap();
        },
    ] {
        assert_ends_at_once(move |events, _| {
            let (sender, port) = pair();
            let (port, id) = (events.add(port).unwrap(), Rc::new(Cell::new(None)));
            let own = Rc::clone(&id);
            sender.post_message(b"", []).unwrap();
            id.set(Some(port.set_onmessage(move |port, _| {
                let _ = &sender; // the peer lives
                act(port, own.get().unwrap());
            })));
        });
    }
}

#[test]
fn a_once_handler_that_was_called_keeps_no_loop_running() {
    let _alone = alone();
    within(PATIENCE, once_handlers);
}

fn once_handlers() {
    let events = event_loop();
    let (peer, port) = pair();
    let port = events.add(port).unwrap();
    port.add_handler_once(|_, _: &mut MessageEvent| {});
    port.add_handler_once(|_, _: &mut MessageEvent| {});
    port.start();
    peer.post_message(b"", []).unwrap();
    // Peer and handle live.
    events.run().unwrap();
    // Called at once, outside the loop, and by a handler that panics.
    port.add_handler_once(|_, _: &mut MessageEvent| {});
    port.dispatch_event(&mut MessageEvent::new(Message::new()));
    events.run().unwrap();
    events.set_onerror(|_| {});
    port.add_handler_once(|_, _: &mut MessageEvent| panic!("expected"));
    peer.post_message(b"", []).unwrap();
    events.run().unwrap();
    // A handler that a once handler adds counts.
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    port.add_handler_once(move |port, _: &mut MessageEvent| {
        let count = Rc::clone(&count);
        port.add_handler_once(move |_, _: &mut MessageEvent| count.set(count.get() + 1));
    });
    (0..2).for_each(|_| peer.post_message(b"", []).unwrap());
    events.run().unwrap();
    assert_eq!(seen.get(), 1);
    // Without a handle the port is closed after the call.
    port.add_handler_once(|_, _: &mut MessageEvent| {});
    peer.post_message(b"", []).unwrap();
    drop(port);
    events.run().unwrap();
    assert_eq!(end_of(&peer), CloseReason::Closed);
}

#[test]
fn an_embedded_loop_returns_to_its_host_after_a_short_time() {
    let _alone = alone();
    let (events, seen) = (event_loop(), Rc::new(Cell::new([0; 2])));
    let mut peers = Vec::new();
    for index in 0..2 {
        let (peer, port) = pair();
        (0..20).for_each(|_| peer.post_message(b"", []).unwrap());
        let seen = Rc::clone(&seen);
        events.add(port).unwrap().set_onmessage(move |_, _| {
            let mut counts = seen.get();
            counts[index] += 1;
            seen.set(counts);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1) {} // work
        });
        peers.push(peer);
    }
    assert!(readable_now(&events));
    // A message of 1 ms is all that fits: one at a time, the ports in turn.
    for round in 1..=10 {
        assert_eq!(events.dispatch().unwrap(), 1);
        assert_eq!(seen.get().iter().sum::<i32>(), round);
        assert!(readable_now(&events), "messages are left");
    }
    assert_eq!(seen.get(), [5, 5]);
    // Tasks and due timers come first, at every call.
    events.set_timeout(Duration::ZERO, |_| {});
    events.handle().post_task(|_| {}).unwrap();
    assert_eq!(events.dispatch().unwrap(), 3);
    // A batch that was set has no limit of time.
    events.set_batch(7);
    assert_eq!(events.dispatch().unwrap(), 14);
    while readable_now(&events) {
        events.dispatch().unwrap();
    }
    assert_eq!(seen.get(), [20, 20]);
}

// Sets.

#[test]
fn a_set_serves_every_port_in_turn() {
    let _alone = alone();
    let mut set = PortSet::new().unwrap();
    assert!(set.wait().unwrap().is_none(), "an empty set has nothing to wait for");
    let (peers, ids): (Vec<_>, Vec<_>) = (0..50)
        .map(|_| {
            let (peer, port) = pair();
            (peer, set.add(port).unwrap())
        })
        .unzip();
    assert!(set.try_wait().unwrap().is_none());
    // Busy ports do not starve the others.
    for _ in 0..100 {
        peers[0].post_message(b"much", []).unwrap();
        peers[1].post_message(b"much", []).unwrap();
    }
    peers[2].post_message(b"little", []).unwrap();
    let mut order = Vec::new();
    while let Some((id, event)) = set.try_wait().unwrap() {
        assert!(matches!(event, SetEvent::Message(_)));
        order.push(ids.iter().position(|known| *known == id).unwrap());
    }
    assert_eq!(order.len(), 201);
    assert!(order.iter().position(|index| *index == 2).unwrap() < 60, "{order:?}");
    assert!(order[..100].iter().filter(|index| **index == 0).count() > 40, "{order:?}");
    // A port that was idle is noticed while others are busy.
    (0..500).for_each(|_| {
        peers[0].post_message(b"much", []).unwrap();
        peers[1].post_message(b"much", []).unwrap();
    });
    let mut order = Vec::new();
    while let Some((id, _)) = set.try_wait().unwrap() {
        order.push(id);
        if order.len() == 10 {
            peers[2].post_message(b"little", []).unwrap();
            std::thread::sleep(Duration::from_millis(1)); // longer than the time between two looks at idle ports
        }
    }
    assert!(order.iter().position(|id| *id == ids[2]).unwrap() < 60, "{order:?}");
    // Answers, ends and removal.
    set.get(ids[3]).unwrap().post_message(b"an answer", []).unwrap();
    assert_eq!(text(&peers[3]), "an answer");
    let removed = set.remove(ids[4]).unwrap();
    assert!(set.remove(ids[4]).is_none() && set.get(ids[4]).is_none());
    tools::assert_entangled(&peers[4], &removed);
    peers[5].post_message(b"the last", []).unwrap();
    peers[5].close();
    let Some((id, SetEvent::Message(message))) = set.wait_timeout(PATIENCE).unwrap() else { panic!("a message") };
    assert_eq!((id, &*message.data), (ids[5], &b"the last"[..]));
    let Some((id, SetEvent::Closed(CloseReason::Closed, _))) = set.wait_timeout(PATIENCE).unwrap() else {
        panic!("an end")
    };
    assert_eq!(id, ids[5]);
    // A port that is closed here or transferred leaves without an event.
    set.get(ids[6]).unwrap().close();
    let (carrier1, carrier2) = pair();
    let moving = TransferRef::Port(set.get(ids[7]).unwrap());
    carrier1.post_message_detaching(b"", &[moving]).unwrap();
    tools::assert_entangled(&carrier2.recv().unwrap().ports[0], &peers[7]);
    let (next, cost) = cost_of(|| set.wait_timeout(WAIT).unwrap());
    assert!(next.is_none());
    assert_slept(&cost);
    assert_eq!(set.len(), 50 - 4);
    // A call on the port of `get` may have consumed a wake-up.
    peers[8].post_message(b"1", []).unwrap();
    assert_eq!(set.get(ids[8]).unwrap().recv().unwrap().data, b"1");
    peers[8].post_message(b"2", []).unwrap();
    let Some((_, SetEvent::Message(message))) = set.wait_timeout(PATIENCE).unwrap() else { panic!("a message") };
    assert_eq!(message.data, b"2");
}

#[test]
fn a_set_reports_deaths_and_holds_halves() {
    let _alone = alone();
    let mut set = PortSet::<RecvHalf>::new().unwrap();
    let (mut process, port) = Process::start("echo");
    let (sender, receiver) = port.split();
    let id = set.add(receiver).unwrap();
    let thread = thread::spawn(move || {
        (0..5000_u32).for_each(|number| sender.post_message_timeout(&number.to_ne_bytes(), [], PATIENCE).unwrap());
        sender
    });
    for number in 0..5000_u32 {
        let Some((from, SetEvent::Message(message))) = set.wait_timeout(PATIENCE).unwrap() else { panic!("a message") };
        assert_eq!((from, message.data), (id, number.to_ne_bytes().to_vec()));
    }
    process.kill();
    let Some((from, SetEvent::Closed(CloseReason::PeerDied, half))) = set.wait_timeout(PATIENCE).unwrap() else {
        panic!("an end")
    };
    assert_eq!(from, id);
    assert!(MessagePort::join(thread.join().unwrap(), half).is_ok());
    assert!(set.is_empty());
}

// Holdings.

#[test]
fn a_loop_and_a_set_leave_nothing_behind() {
    let _alone = alone();
    let before = Ledger::now();
    for drop_handles_first in [false, true] {
        let events = event_loop();
        let (mut peers, mut handles) = (Vec::new(), Vec::new());
        for number in 0..20 {
            let (peer, port) = pair();
            let (inner1, inner2) = pair();
            peer.post_message(b"a port", [inner2.into()]).unwrap();
            let port = events.add(port).unwrap();
            if number % 2 == 0 {
                let own = port.clone(); // a cycle, which the end of the port breaks
                port.set_onmessage(move |_, _| drop(own.clone()));
            }
            peers.push((peer, inner1));
            handles.push(port);
        }
        events.run_once_timeout(Duration::ZERO).unwrap();
        events.set_timeout(PATIENCE, |_| {});
        handles[4].close();
        events.remove(&handles[6]).unwrap();
        if drop_handles_first {
            handles.clear();
            assert_eq!(end_of(&peers[1].0), CloseReason::Closed); // the port had no handler
        }
        drop(events);
        for (peer, inner) in &peers {
            assert_eq!(end_of(peer), CloseReason::Closed);
            assert_eq!(end_of(inner), CloseReason::Closed);
        }
        if !drop_handles_first {
            assert!(matches!(handles[0].post_message(b"", []).unwrap_err().kind, PostErrorKind::PortClosed));
            assert!(handles[0].event_loop().is_none());
        }
    }
    let mut set = PortSet::new().unwrap();
    let peers: Vec<_> = (0..10)
        .map(|_| {
            let (peer, port) = pair();
            set.add(port).unwrap();
            peer
        })
        .collect();
    assert!(set.try_wait().unwrap().is_none());
    drop((set, peers));
    before.assert_restored("after loops and sets");
}

#[test]
fn an_inherited_loop_stays_the_parents() {
    let _alone = alone();
    let (mut process, port) = Process::start("forked");
    while let Ok(message) = port.recv_timeout(PATIENCE) {
        port.post_message(&message.data, []).expect("room");
    }
    process.succeeded();
}

fn forked() {
    let events = event_loop();
    let mut set = PortSet::new().unwrap();
    let (peer, port) = pair();
    set.add(port).unwrap();
    let port = events.add(parent_port().expect("a port")).unwrap();
    let got = count(&port);
    events.run_once_timeout(Duration::ZERO).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
            assert_eq!(kind(events.run()), std::io::ErrorKind::Unsupported);
            assert_eq!(kind(events.dispatch().map(drop)), std::io::ErrorKind::Unsupported);
            assert_eq!(kind(set.wait().map(drop)), std::io::ErrorKind::Unsupported);
            assert!(events.add(pair().0).is_err() && set.add(pair().0).is_err());
            port.close();
            drop((events, set, port, peer));
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            for number in 1..=3 {
                port.post_message(b"x", []).expect("room");
                run_until(&events, || got.get() == number);
            }
            peer.post_message(b"x", []).unwrap();
            assert!(matches!(set.wait_timeout(PATIENCE).unwrap(), Some((_, SetEvent::Message(Message { .. })))));
        }
    }
}

#[test]
fn a_handler_that_replaces_the_loops_ports_forever_does_not_grow_it() {
    let _alone = alone();
    within(PATIENCE, || {
        let events = event_loop();
        let rounds = Rc::new(Cell::new(0));
        fn next(events: &EventLoop, rounds: Rc<Cell<usize>>) {
            let (peer, port) = pair();
            peer.post_message(b"", []).unwrap();
            let port = events.add(port).unwrap();
            port.set_onmessage(move |port, _| {
                let _ = &peer;
                rounds.set(rounds.get() + 1);
                if rounds.get() < 1000 {
                    next(&port.event_loop().unwrap(), Rc::clone(&rounds));
                }
                port.close();
            });
        }
        next(&events, Rc::clone(&rounds));
        events.run().unwrap();
        assert_eq!(rounds.get(), 1000);
    });
}
