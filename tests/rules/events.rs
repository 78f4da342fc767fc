//! S15 to S24, S28 and S45: enabling, handlers, and the guarantees of an event loop.

use std::cell::Cell;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use messageport::{
    BadSegment, BadTransfer, CloseReason, ErrorEvent, Message, MessageErrorEvent, MessageEvent, MessagePort, PortEvent,
    PortHandle, PostErrorKind, RecvError, TransferRef, TryRecvError,
};

use crate::harness::events::{Log, data_of, event_loop, run_dry, run_until};
use crate::harness::*;

rules! {
    s15_messages_wait_until_the_port_is_started,
    s16_start_enables_for_good,
    s17_setting_onmessage_starts_and_adding_a_handler_does_not,
    s18_handlers_run_in_order_and_can_be_removed,
    s19_a_started_port_without_handler_drops_what_arrives,
    s20_pull_calls_take_messages_past_the_handlers,
    s21_a_handler_may_do_anything,
    s22_dispatch_is_fair,
    s23_a_panicking_handler_loses_no_later_message,
    s24_a_message_that_cannot_be_decoded_raises_messageerror,
    s28_a_transferred_port_arrives_disabled_and_without_handlers,
    s44_what_a_started_port_had_received_is_dispatched_after_its_close,
    s45_the_close_event_comes_once_after_the_last_message,
}

impl Log {
    fn log_close(&self, port: &PortHandle) {
        let log = self.clone();
        port.set_onclose(move |_, event| log.add(format!("close: {:?}", event.reason)));
    }
}

fn post(port: &MessagePort, texts: &[&str]) {
    texts.iter().for_each(|text| port.post_message(text.as_bytes(), []).expect("room"));
}

fn s15_messages_wait_until_the_port_is_started(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    let port = events.add(peer.channel()).unwrap();
    port.add_handler(log.messages());
    peer.run(|there| post(there.port(), &["1", "2"]));
    run_dry(&events);
    log.assert(&[]);
    peer.run(|there| post(there.port(), &["3"]));
    port.start();
    log.assert(&[]); // the loop dispatches, not `start`
    run_until(&events, || log.len() == 3);
    peer.run(|there| post(there.port(), &["4"]));
    run_until(&events, || log.len() == 4);
    log.assert(&["1", "2", "3", "4"]);
}

fn s16_start_enables_for_good(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    let port = events.add(peer.channel()).unwrap();
    let handler = port.add_handler(log.messages());
    peer.run(|there| post(there.port(), &["1"]));
    port.start();
    port.start();
    run_until(&events, || log.len() == 1);
    // A port without handlers stays started.
    assert!(port.remove_handler(handler));
    peer.run(|there| post(there.port(), &["dropped"]));
    run_dry(&events);
    port.add_handler(log.messages());
    peer.run(|there| post(there.port(), &["2"]));
    run_until(&events, || log.len() == 2);
    log.assert(&["1", "2"]);
    port.close();
    port.start();
    run_dry(&events);
    assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::PortClosed));
}

fn s17_setting_onmessage_starts_and_adding_a_handler_does_not(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    let port = events.add(peer.channel()).unwrap();
    peer.run(|there| post(there.port(), &["1"]));
    port.add_handler(log.messages_as("listener "));
    log.log_close(&port);
    port.set_onmessageerror(|_, _| {});
    run_dry(&events);
    log.assert(&[]);
    let handler = port.set_onmessage(log.messages_as("handler "));
    run_until(&events, || log.len() == 2);
    // A handler that is set again keeps its place; removed and set again, it comes last.
    port.add_handler(log.messages_as("last "));
    assert_eq!(port.set_onmessage(log.messages_as("new handler ")), handler);
    peer.run(|there| post(there.port(), &["2"]));
    run_until(&events, || log.len() == 5);
    assert!(port.remove_handler(handler));
    port.set_onmessage(log.messages_as("newest handler "));
    peer.run(|there| post(there.port(), &["3"]));
    run_until(&events, || log.len() == 8);
    log.assert(&[
        "listener 1",
        "handler 1",
        "listener 2",
        "new handler 2",
        "last 2",
        "listener 3",
        "last 3",
        "newest handler 3",
    ]);
}

fn s18_handlers_run_in_order_and_can_be_removed(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    let port = events.add(peer.channel()).unwrap();
    port.add_handler(log.messages_as("a "));
    port.add_handler_once(log.messages_as("once "));
    let victim = Rc::new(Cell::new(None));
    let own = Rc::new(Cell::new(None));
    own.set(Some(port.add_handler({
        let (log, victim, own) = (log.clone(), Rc::clone(&victim), Rc::clone(&own));
        move |port: &PortHandle, event: &mut MessageEvent| {
            log.add(format!("remover {}", data_of(event)));
            assert!(port.remove_handler(victim.get().expect("a handler")));
            assert!(!port.remove_handler(victim.get().expect("a handler")));
            assert!(port.remove_handler(own.get().expect("a handler")));
            // A handler added now gets the next message.
            port.add_handler(log.messages_as("added "));
        }
    })));
    victim.set(Some(port.add_handler(log.messages_as("removed "))));
    port.add_handler(log.messages_as("z "));
    port.start();
    peer.run(|there| post(there.port(), &["1", "2"]));
    run_until(&events, || log.len() == 7);
    log.assert(&["a 1", "once 1", "remover 1", "z 1", "a 2", "z 2", "added 2"]);

    // Propagation stopped by a handler, and an event dispatched by a call.
    log.clear();
    let port = events.add(peer.channel()).unwrap();
    port.add_handler({
        let log = log.clone();
        move |_, event: &mut MessageEvent| {
            log.add(format!("{} {}", data_of(event), event.is_trusted()));
            if event.data == b"stop" {
                event.stop_immediate_propagation();
            }
            event.data = b"changed".to_vec();
        }
    });
    port.add_handler(log.messages());
    let mut event = MessageEvent::new(Message::new());
    for text in ["go on", "stop"] {
        event.data = text.as_bytes().to_vec();
        port.dispatch_event(&mut event); // at once, although the port is not started
    }
    assert_eq!(event.data, b"changed");
    port.start();
    peer.run(|there| post(&there.ports[1], &["stop"]));
    run_until(&events, || log.len() == 4);
    log.assert(&["go on false", "changed", "stop false", "stop true"]);
}

fn s19_a_started_port_without_handler_drops_what_arrives(peer: &mut Peer) {
    let events = event_loop();
    let port = events.add(peer.channel()).unwrap();
    port.start();
    let (witness, passenger) = pair();
    peer.give(passenger);
    peer.run(|there| {
        let passenger = there.ports.remove(1);
        there.port().post_message(b"dropped", [passenger.into()]).unwrap();
    });
    let start = Instant::now();
    while matches!(witness.try_recv(), Err(TryRecvError::Empty)) {
        events.run_once_timeout(Duration::from_millis(10)).unwrap();
        assert!(start.elapsed() < PATIENCE);
    }
    assert_ended(&witness, CloseReason::Closed);
    let log = Log::default();
    port.add_handler(log.messages());
    peer.run(|there| post(there.port(), &["heard"]));
    run_until(&events, || log.len() == 1);
    log.assert(&["heard"]);
}

fn s20_pull_calls_take_messages_past_the_handlers(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    let port = events.add(peer.channel()).unwrap();
    peer.run(|there| post(there.port(), &["1", "2"]));
    assert_eq!(port.recv_timeout(PATIENCE).unwrap().data, b"1"); // not started
    port.set_onmessage(log.messages());
    assert_eq!(port.try_recv().unwrap().data, b"2"); // started
    run_dry(&events); // the loop now waits for a wake-up
    peer.run(|there| post(there.port(), &["3"]));
    assert_eq!(port.recv().unwrap().data, b"3"); // which this call consumes
    assert!(matches!(port.try_recv(), Err(TryRecvError::Empty)));
    assert!(matches!(port.port().unwrap().try_recv(), Err(TryRecvError::Empty)));
    peer.run(|there| post(there.port(), &["4"]));
    run_until(&events, || log.len() == 1);
    log.assert(&["4"]);
    // `recv_timeout` sleeps in another way than the loop, which must arm its own wake-up again.
    run_dry(&events);
    peer.begin(|there| {
        std::thread::sleep(Duration::from_millis(20));
        post(there.port(), &["awaited"]);
    });
    assert_eq!(port.recv_timeout(PATIENCE).unwrap().data, b"awaited");
    peer.finish();
    peer.run(|there| post(there.port(), &["after it"]));
    run_until(&events, || log.len() == 2);
    log.clear();
    log.add("4");
    // From inside a handler.
    let puller = log.clone();
    port.set_onmessage(move |port, event| {
        puller.add(data_of(event));
        while let Ok(message) = port.try_recv() {
            puller.add(format!("pulled {}", String::from_utf8(message.data).unwrap()));
        }
    });
    peer.run(|there| post(there.port(), &["5", "6", "7"]));
    run_until(&events, || log.len() == 4);
    peer.run(|there| post(there.port(), &["8"]));
    run_until(&events, || log.len() == 5);
    assert_eq!(log.last().unwrap(), "8");
}

fn s21_a_handler_may_do_anything(peer: &mut Peer) {
    // Close: what had arrived is dispatched, and then the handlers are dropped.
    let (events, log) = (event_loop(), Log::default());
    let port = events.add(peer.channel()).unwrap();
    port.set_onmessage({
        let log = log.clone();
        move |port, event| {
            log.add(data_of(event));
            port.close();
            port.close();
        }
    });
    peer.run(|there| post(there.port(), &["1", "2"]));
    run_until(&events, || log.len() == 2);
    run_dry(&events);
    log.assert(&["1", "2"]);
    peer.run(|there| assert_ended(&there.ports.remove(0), CloseReason::Closed));

    // Transfer itself: undelivered messages move with the port, and so do later ones.
    log.clear();
    let (to, from) = pair();
    let port = events.add(peer.channel()).unwrap();
    port.set_onmessage({
        let log = log.clone();
        move |port, event| {
            log.add(data_of(event));
            let own = port.port().expect("the port is in the loop");
            let list = [TransferRef::Port(&own), TransferRef::Port(&own)];
            // A failed post changes nothing.
            assert!(matches!(to.post_message_detaching(b"", &list), Err(PostErrorKind::Duplicate { .. })));
            assert!(matches!(own.post_message_detaching(b"", &list[..1]), Err(PostErrorKind::ContainsSelf { .. })));
            if event.data == b"2" {
                to.post_message_detaching(b"it moves", &list[..1]).expect("a port can be transferred");
            }
        }
    });
    peer.run(|there| post(there.port(), &["1", "2", "3", "4"]));
    run_until(&events, || log.len() == 2);
    run_dry(&events);
    log.assert(&["1", "2"]);
    peer.run(|there| post(there.port(), &["5"]));
    run_dry(&events);
    assert!(matches!(port.try_recv().unwrap_err(), TryRecvError::Failed(_)));
    assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::Detached));
    port.close(); // does not affect the port that moved
    let moved = recv_port(&from);
    ["3", "4", "5"].iter().for_each(|expected| assert_eq!(text(&moved), *expected));

    // Add ports and handlers, remove itself, post, replace itself.
    let log = Log::default();
    let moved = events.add(moved).unwrap();
    moved.set_onmessage({
        let log = log.clone();
        move |port, event| {
            let events = port.event_loop().expect("the loop");
            assert!(events.run().is_err(), "a loop runs within itself");
            assert!(events.dispatch().is_err(), "a loop dispatches within itself");
            if let Some(new) = event.ports.pop() {
                let new = events.add(new).expect("one more");
                new.set_onmessage(log.messages_as("new: "));
                port.post_message(b"added", []).expect("room");
                port.set_onmessage(log.messages_as("replaced: "));
                port.dispatch_event(&mut MessageEvent::new(Message::from(b"nested".to_vec())));
            }
        }
    });
    peer.run(|there| {
        let (new1, new2) = pair();
        post(&new1, &["hello"]);
        there.port().post_message(b"", [new2.into()]).unwrap();
        post(there.port(), &["after"]);
        there.ports.push(new1);
    });
    run_until(&events, || log.len() == 3);
    log.assert(&["replaced: nested", "replaced: after", "new: hello"]);
    peer.run(|there| assert_eq!(text(there.port()), "added"));
    moved.set_onmessage(|port, _| {
        let events = port.event_loop().expect("the loop");
        let plain = events.remove(port).expect("the port is in the loop");
        assert!(events.remove(port).is_none());
        plain.post_message(&plain.recv_timeout(PATIENCE).unwrap().data, []).unwrap();
    });
    peer.run(|there| post(there.port(), &["6", "7"]));
    run_until(&events, || moved.post_message(b"", []).is_err());
    peer.run(|there| {
        while text(there.port()) != "7" {}
        assert_ended(there.port(), CloseReason::Closed);
    });
}

fn s22_dispatch_is_fair(peer: &mut Peer) {
    // Handlers that answer each other for ever, and other ports.
    let (events, log) = (event_loop(), Log::default());
    let (own1, own2) = pair();
    post(&own1, &["round and round"]);
    let (own1, own2) = (events.add(own1).unwrap(), events.add(own2).unwrap());
    for port in [&own1, &own2] {
        port.set_onmessage(|port, event| {
            let _ = port.post_message(&event.data, []); // fails once the other port is closed
        });
    }
    let port = events.add(peer.channel()).unwrap();
    port.set_onmessage(log.messages());
    let timer = log.clone();
    events.set_timeout(Duration::ZERO, move |_| timer.add("timer"));
    let called = Arc::new(AtomicBool::new(false));
    let task = Arc::clone(&called);
    events.handle().post_task(move |_| task.store(true, Ordering::Relaxed)).unwrap();
    peer.run(|there| post(there.port(), &["message"]));
    run_until(&events, || log.len() == 2 && called.load(Ordering::Relaxed));
    own1.close();
    run_dry(&events);

    // A batch has at most 1000 messages, or as many as `set_batch` allows.
    for (batch, set) in [(1000, false), (7, true)] {
        let events = event_loop();
        if set {
            events.set_batch(batch);
        }
        let counts: [Rc<Cell<usize>>; 2] = Default::default();
        for (index, count) in counts.iter().enumerate() {
            let (sender, port) = pair();
            (0..2500).for_each(|_| sender.post_message(&[], []).unwrap());
            let port = events.add(port).unwrap();
            let (count, other) = (Rc::clone(count), Rc::clone(&counts[1 - index]));
            let alive = sender;
            port.set_onmessage(move |_, _| {
                let _ = &alive;
                count.set(count.get() + 1);
                assert!(count.get().abs_diff(other.get()) <= batch, "{} and {}", count.get(), other.get());
            });
        }
        run_until(&events, || counts.iter().all(|count| count.get() == 2500));
    }
}

fn s23_a_panicking_handler_loses_no_later_message(peer: &mut Peer) {
    std::panic::set_hook(Box::new(|_| {}));
    let (events, log) = (event_loop(), Log::default());
    let errors = log.clone();
    events.set_onerror(move |error| {
        assert!(matches!(error, ErrorEvent::Panic(_)));
        errors.add(error.to_string());
        panic!("even this one");
    });
    let port = events.add(peer.channel()).unwrap();
    port.set_onmessage(|_, event| {
        assert!(event.data != b"2", "not this one");
        panic!("{}", data_of(event));
    });
    port.add_handler(log.messages_as("listener "));
    peer.run(|there| post(there.port(), &["1", "2", "3"]));
    events.set_timeout(Duration::ZERO, |_| panic!("timer"));
    run_until(&events, || log.len() == 7);
    log.assert(&[
        "a handler panicked: timer",
        "a handler panicked: 1",
        "listener 1",
        "a handler panicked: not this one",
        "listener 2",
        "a handler panicked: 3",
        "listener 3",
    ]);
    drop(std::panic::take_hook());
}

fn s24_a_message_that_cannot_be_decoded_raises_messageerror(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    let port = events.add(peer.channel()).unwrap();
    port.set_onmessage(log.messages());
    let errors = log.clone();
    port.set_onmessageerror(move |_, event| {
        assert_eq!(event.reason, BadTransfer::Segment(BadSegment::NotASegment));
        errors.add(format!("error {}", String::from_utf8(event.data.clone()).unwrap()));
    });
    let second = log.clone();
    port.add_handler(move |_, _: &mut MessageErrorEvent| second.add("second"));
    let (witness, passenger) = pair();
    peer.give(passenger);
    peer.run(|there| {
        post(there.port(), &["1"]);
        let ((_inner, broken), memory) = newest_memory(pair);
        memory.write_all_at(&[0; 8], 0).unwrap();
        let passenger = there.ports.remove(1);
        there.port().post_message(b"2", [passenger.into(), broken.into()]).unwrap();
        post(there.port(), &["3"]);
    });
    run_until(&events, || log.len() == 4);
    log.assert(&["1", "error 2", "second", "3"]);
    assert_ended(&witness, CloseReason::Closed);
}

fn s28_a_transferred_port_arrives_disabled_and_without_handlers(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    let first = events.add(peer.channel()).unwrap();
    first.set_onmessage(log.messages_as("old "));
    peer.run(|there| post(there.port(), &["1"]));
    run_until(&events, || log.len() == 1);
    let second = events.add(events.remove(&first).unwrap()).unwrap();
    first.set_onmessage(log.messages_as("gone "));
    let third = {
        let (carrier1, carrier2) = pair();
        let port = second.port().unwrap();
        carrier1.post_message_detaching(b"", &[TransferRef::Port(&port)]).unwrap();
        recv_port(&carrier2)
    };
    let third = events.add(third).unwrap();
    peer.run(|there| post(there.port(), &["2"]));
    third.add_handler(log.messages_as("new "));
    run_dry(&events);
    log.assert(&["old 1"]);
    third.start();
    run_until(&events, || log.len() == 2);
    log.assert(&["old 1", "new 2"]);
}

fn s44_what_a_started_port_had_received_is_dispatched_after_its_close(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    // Every way in which a message travels, closed before the loop has run.
    let port = events.add(peer.channel()).unwrap();
    let (witness, passenger) = pair();
    let token = Rc::new(());
    port.set_onmessage({
        let (log, token) = (log.clone(), Rc::clone(&token));
        move |port, event| {
            let _ = &token;
            assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::PortClosed));
            assert!(matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::PortClosed))));
            let things = (event.data.len(), event.ports.len(), event.buffers.len());
            log.add(format!("{things:?}"));
            event.ports.iter().for_each(|port| post(port, &["arrived"]));
        }
    });
    port.set_onclose(|_, _| panic!("a close of one's own fires no event"));
    peer.give(passenger);
    peer.run(|there| {
        let passenger = there.ports.remove(1);
        let port = there.port();
        port.post_message(b"", [port.buffer(5000).unwrap().into()]).unwrap();
        port.post_message(b"port", [passenger.into()]).unwrap();
        port.post_message(&[7; 200_000], []).unwrap();
        (0..3000).for_each(|_| port.post_message(&[7; 100], []).unwrap()); // into a grown ring
    });
    port.close();
    port.close();
    assert!(matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::PortClosed))));
    assert!(matches!(port.port().unwrap().recv(), Err(RecvError::PortClosed)));
    peer.run(|there| {
        let error = there.port().post_message(b"too late", []).unwrap_err();
        assert!(matches!(error.kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{error:?}");
        assert_ended(&there.ports.remove(0), CloseReason::Closed);
    });
    assert_eq!(Rc::strong_count(&token), 2);
    events.run().unwrap();
    log.assert(&[&["(0, 0, 1)", "(4, 1, 0)", "(200000, 0, 0)"][..], &["(100, 0, 0)"; 3000]].concat());
    assert_eq!(Rc::strong_count(&token), 1, "the handlers are dropped");
    assert_eq!(text(&witness), "arrived");
    assert_ended(&witness, CloseReason::Closed);

    // Recycled buffers that are still queued, theirs and our own.
    log.clear();
    let port = events.add(peer.channel()).unwrap();
    let own = port.port().unwrap().buffer(5000).unwrap();
    port.post_message(b"", [own.into()]).unwrap();
    peer.run(|there| {
        let port = there.port();
        let back = port.recv().unwrap().buffers.remove(0);
        port.post_message(b"first", [port.buffer(6000).unwrap().into()]).unwrap();
        port.post_message(b"back", [back.into()]).unwrap();
    });
    port.set_onmessage({
        let log = log.clone();
        move |port, event| {
            let lens: Vec<_> = event.buffers.iter().map(|buffer| buffer.len()).collect();
            log.add(format!("{} {lens:?}", data_of(event)));
            if event.data == b"first" {
                port.post_message(b"", [event.buffers.remove(0).into()]).unwrap();
            } else if event.data == b"again" {
                port.close();
            }
        }
    });
    run_until(&events, || log.len() == 2);
    peer.run(|there| {
        let port = there.port();
        let again = port.recv().unwrap().buffers.remove(0);
        post(port, &["again"]);
        port.post_message(b"after", [again.into()]).unwrap();
    });
    events.run().unwrap();
    log.assert(&["first [6000]", "back [5000]", "again []", "after [6000]"]);
    peer.run(|there| assert_ended(&there.ports.remove(0), CloseReason::Closed));

    // Dropped: of a port that is not started, has no handler any more, is taken out of the loop, or whose loop goes.
    log.clear();
    let events = event_loop();
    let ports = [(); 4].map(|()| events.add(peer.channel()).unwrap());
    let handlers = ports.each_ref().map(|port| port.add_handler(log.messages()));
    ports[1..].iter().for_each(PortHandle::start);
    peer.run(|there| {
        let (witnesses, passengers): (Vec<_>, Vec<_>) = there.ports.iter().map(|_| pair()).unzip();
        for (port, passenger) in there.ports.iter().zip(passengers) {
            port.post_message(b"", [passenger.into()]).unwrap();
        }
        there.ports = witnesses;
    });
    assert!(ports[1].remove_handler(handlers[1]));
    ports.iter().for_each(PortHandle::close);
    peer.run(|there| {
        there.ports.drain(..2).for_each(|witness| assert_ended(&witness, CloseReason::Closed));
        there.ports.iter().for_each(assert_empty);
    });
    drop(events.remove(&ports[2]).expect("it is still in the loop"));
    peer.run(|there| assert_ended(&there.ports.remove(0), CloseReason::Closed));
    drop(events);
    peer.run(|there| assert_ended(&there.ports.remove(0), CloseReason::Closed));
    log.assert(&[]);
}

fn s45_the_close_event_comes_once_after_the_last_message(peer: &mut Peer) {
    let (events, log) = (event_loop(), Log::default());
    // By close, with messages before it.
    let port = events.add(peer.channel()).unwrap();
    log.log_close(&port);
    port.set_onmessage(log.messages());
    peer.run(|there| {
        post(there.port(), &["1", "2"]);
        there.ports.remove(0).close();
    });
    events.run().unwrap(); // returns, since no event can come
    log.assert(&["1", "2", "close: Closed"]);
    assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::PeerGone(CloseReason::Closed)));
    events.run().unwrap();
    assert_eq!(log.len(), 3);

    // On a port that is not started: at once, although messages wait. They are dispatched once it is started, and no
    // second event comes.
    log.clear();
    let ports = [peer.channel(), peer.channel()].map(|port| events.add(port).unwrap());
    ports.iter().for_each(|port| log.log_close(port));
    ports[1].add_handler(log.messages());
    peer.run(|there| post(&there.ports[1], &["1", "2", "3"]));
    run_dry(&events); // the loop has seen the messages before the end
    peer.run(|there| there.ports.clear());
    run_until(&events, || log.len() == 2);
    log.assert(&["close: Closed", "close: Closed"]);
    events.run().unwrap(); // returns: without a call from outside nothing more can happen
    assert!(matches!(ports[0].try_recv(), Err(TryRecvError::Failed(RecvError::Ended(CloseReason::Closed)))));
    assert_eq!(ports[1].try_recv().unwrap().data, b"1");
    ports[1].start();
    events.run().unwrap();
    log.assert(&["close: Closed", "close: Closed", "2", "3"]);
    assert!(matches!(ports[1].post_message(b"", []).unwrap_err().kind, PostErrorKind::PeerGone(CloseReason::Closed)));
    // A pull call returns the end after the last message. The handler of the event may pull, or start the port.
    log.clear();
    let ports = [peer.channel(), peer.channel()].map(|port| events.add(port).unwrap());
    let pulls = log.clone();
    ports[0].set_onclose(move |port, _| {
        while let Ok(message) = port.try_recv() {
            pulls.add(format!("pulled {}", String::from_utf8(message.data).unwrap()));
        }
    });
    ports[1].add_handler(log.messages_as("dispatched "));
    ports[1].set_onclose(|port, _| port.start());
    peer.run(|there| {
        there.ports.iter().for_each(|port| post(port, &["1", "2"]));
        there.ports.clear();
    });
    drop(ports); // a port without a handle that can have no further event leaves the loop
    events.run().unwrap();
    log.assert(&["pulled 1", "pulled 2", "dispatched 1", "dispatched 2"]);

    // Not on the side that closes or drops the port.
    log.clear();
    let (closed, dropped) = (events.add(peer.channel()).unwrap(), events.add(peer.channel()).unwrap());
    log.log_close(&closed);
    closed.close();
    drop(dropped);
    run_dry(&events);
    log.assert(&[]);
    peer.run(|there| {
        assert_ended(&there.ports[0], CloseReason::Closed);
        assert_ended(&there.ports[1], CloseReason::Closed);
        there.ports.clear();
    });

    // A handler keeps its port alive until the loop is dropped.
    let kept = peer.channel();
    events.add(kept).unwrap().set_onmessage(|port, event| port.post_message(&event.data, []).unwrap());
    peer.run(|there| post(there.port(), &["are you there?"]));
    events.run_once_timeout(PATIENCE).unwrap();
    peer.run(|there| assert_eq!(text(there.port()), "are you there?"));
    drop(events);
    peer.run(|there| assert_ended(&there.ports.remove(0), CloseReason::Closed));

    // By death.
    let events = event_loop();
    let port = events.add(peer.channel()).unwrap();
    log.log_close(&port);
    port.set_onmessage(log.messages());
    peer.run(|there| post(there.port(), &["the last"]));
    peer.kill();
    run_until(&events, || log.len() == 2);
    log.assert(&["the last", &format!("close: {:?}", peer.death())]);
}
