//! Ports as a web developer expects them: the behaviour that the tests of browsers and of Node assert of message
//! channels, rewritten for handlers on an event loop. A second process is the iframe or the worker.

mod tools;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use messageport::{
    CloseEvent, CloseReason, EventLoop, Message, MessageEvent, MessagePort, PortEvent, PortHandle, PostErrorKind,
    TransferBuffer, TransferRef, TryRecvError, parent_port,
};

use tools::child::{Process, Role};
use tools::events::{Log, event_loop, run_dry, run_until};
use tools::{PATIENCE, assert_entangled, end_of, pair};

const ROLES: &[Role] = &[("iframe", iframe), ("closer", closer)];

impl Log {
    /// Sets handlers that log the messages and the end of a port.
    fn on(&self, port: &PortHandle) {
        let closes = self.clone();
        port.set_onclose(move |_, _| closes.add("close"));
        port.set_onmessage(self.messages());
    }
}

fn post(port: &PortHandle, texts: &[&str]) {
    texts.iter().for_each(|text| port.post_message(text.as_bytes(), []).expect("room"));
}

fn entangled(events: &EventLoop) -> (PortHandle, PortHandle) {
    let (port1, port2) = pair();
    (events.add(port1).expect("one more"), events.add(port2).expect("one more"))
}

/// Posts ports of a loop over another port of the loop.
fn transfer(over: &PortHandle, ports: &[&PortHandle]) -> Result<(), PostErrorKind> {
    let ports: Vec<_> = ports.iter().map(|port| port.port().expect("the port is in the loop")).collect();
    let list: Vec<_> = ports.iter().map(|port| TransferRef::Port(port)).collect();
    over.post_message_detaching(b"ports", &list)
}

/// The port of the next message.
fn arrived(port: &PortHandle) -> MessagePort {
    port.recv_timeout(PATIENCE).expect("a message").ports.remove(0)
}

// webmessaging/message-channels

/// basics: each port receives the messages posted on the other, in order.
#[test]
fn messages_are_delivered_in_order_to_both() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    post(&port1, &["1", "2", "3"]);
    post(&port2, &["a"]);
    log.on(&port2);
    run_until(&events, || log.len() == 3);
    log.on(&port1);
    run_until(&events, || log.len() == 4);
    log.assert(&["1", "2", "3", "a"]);
}

/// implied-start and no-start.
#[test]
fn only_the_handler_starts_a_port() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    let listener = log.clone();
    port2.add_handler(move |_, _: &mut MessageEvent| listener.add("listener"));
    post(&port1, &["1"]);
    run_dry(&events);
    log.assert(&[]);
    log.on(&port2);
    run_until(&events, || log.len() == 2);
    log.assert(&["listener", "1"]);
}

/// message-event: the fields of an event.
#[test]
fn an_event_has_its_data_and_ports_and_is_trusted() {
    let events = event_loop();
    let (port1, port2) = entangled(&events);
    let (witness, passenger) = pair();
    port1.post_message(b"data", [passenger.into()]).unwrap();
    let seen = Rc::new(Cell::new(false));
    let done = Rc::clone(&seen);
    let same = port2.clone();
    port2.set_onmessage(move |port, event| {
        assert!(*port == same, "the target");
        assert_eq!(event.data, b"data");
        assert!(event.is_trusted());
        assert_eq!(event.ports.len(), 1);
        event.ports[0].post_message(b"it works", []).unwrap();
        done.set(true);
    });
    run_until(&events, || seen.get());
    assert_eq!(tools::text(&witness), "it works");
    // A port that no handler takes is dropped.
    assert_eq!(end_of(&witness), CloseReason::Closed);
    port2.close();
}

/// with_transfer_incoming_messages: messages that wait in a port move with it.
#[test]
fn incoming_messages_move_with_the_port() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    let (carrier1, carrier2) = entangled(&events);
    post(&port1, &["1", "2"]);
    transfer(&carrier1, &[&port2]).unwrap();
    post(&port1, &["3"]);
    let moved = events.add(arrived(&carrier2)).unwrap();
    post(&port1, &["4"]);
    log.on(&moved);
    run_until(&events, || log.len() == 4);
    log.assert(&["1", "2", "3", "4"]);
}

/// with_transfer_outgoing_messages: messages sent before the transfer come before those sent after it.
#[test]
fn outgoing_messages_keep_their_order_when_the_port_moves() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    let (carrier1, carrier2) = entangled(&events);
    post(&port2, &["1"]);
    transfer(&carrier1, &[&port2]).unwrap();
    let moved = events.add(arrived(&carrier2)).unwrap();
    post(&moved, &["2"]);
    log.on(&port1);
    run_until(&events, || log.len() == 2);
    log.assert(&["1", "2"]);
}

/// with_transfer_entangled: both ends of a pair at the same time.
#[test]
fn both_ends_may_be_transferred_in_one_message() {
    let events = event_loop();
    let (port1, port2) = entangled(&events);
    let (carrier1, carrier2) = entangled(&events);
    post(&port1, &["before"]);
    transfer(&carrier1, &[&port1, &port2]).unwrap();
    let mut ports = carrier2.recv().unwrap().ports;
    let (port1, port2) = (ports.remove(0), ports.remove(0));
    assert_eq!(port2.recv().unwrap().data, b"before");
    assert_entangled(&port1, &port2);
}

/// Transferred objects are unusable.
#[test]
fn a_transferred_port_cannot_be_used() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    let (carrier1, carrier2) = entangled(&events);
    log.on(&port2);
    transfer(&carrier1, &[&port2]).unwrap();
    assert!(matches!(port2.post_message(b"", []).unwrap_err().kind, PostErrorKind::Detached));
    assert!(matches!(transfer(&carrier1, &[&port2]), Err(PostErrorKind::Unusable { index: 0 })));
    port2.start();
    port2.close();
    post(&port1, &["1"]);
    run_dry(&events);
    log.assert(&[]);
    assert_eq!(arrived(&carrier2).recv().unwrap().data, b"1");
}

/// close: a closed port neither delivers nor sends. Messages that it posted before arrive.
#[test]
fn a_closed_port_neither_sends_nor_receives() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    log.on(&port1);
    let other = Log::default();
    other.on(&port2);
    post(&port1, &["never read"]);
    post(&port2, &["posted before"]);
    port2.close();
    assert!(matches!(port2.post_message(b"after", []).unwrap_err().kind, PostErrorKind::PortClosed));
    run_until(&events, || log.len() == 2);
    run_dry(&events);
    log.assert(&["posted before", "close"]);
    other.assert(&[]);
}

/// close-event/explicitly-closed: closed in transit, and in both orders.
#[test]
fn the_close_of_a_port_in_transit_comes_after_its_messages() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    let (carrier1, carrier2) = entangled(&events);
    post(&port1, &["1"]);
    transfer(&carrier1, &[&port2]).unwrap();
    port1.close();
    let moved = events.add(arrived(&carrier2)).unwrap();
    log.on(&moved);
    run_until(&events, || log.len() == 2);
    log.assert(&["1", "close"]);
}

/// close-event/document-destroyed and garbage-collected: the end of a process, and the last handle.
#[test]
fn the_end_of_the_other_context_fires_close() {
    let events = event_loop();
    for (role, expected) in [("iframe", CloseReason::PeerDied), ("closer", CloseReason::Closed)] {
        let (mut process, port) = Process::start(role);
        let port = events.add(port).unwrap();
        let reason = Rc::new(Cell::new(None));
        let seen = Rc::clone(&reason);
        port.set_onclose(move |_, event| seen.set(Some(event.reason)));
        if role == "iframe" {
            post(&port, &["hello"]);
            let _ = port.recv_timeout(PATIENCE).unwrap();
            process.kill();
        }
        run_until(&events, || reason.get().is_some());
        assert_eq!(reason.get(), Some(expected));
    }
}

fn closer() {
    parent_port().expect("a port").close();
}

/// An iframe or a worker: answers on the port that comes with a message, otherwise on its own port.
fn iframe() {
    let events = event_loop();
    let parent = events.add(parent_port().expect("a port")).unwrap();
    parent.set_onmessage(|parent, event| {
        let answer = [b"re: ", &*event.data].concat();
        match event.ports.pop() {
            Some(port) => {
                let port = parent.event_loop().unwrap().add(port).unwrap();
                post(&port, &["first"]);
                port.set_onmessage(|port, event| port.post_message(&event.data, []).unwrap());
            }
            None => parent.post_message(&answer, []).unwrap(),
        }
    });
    events.run().unwrap();
}

/// cross-document and worker: a channel for another context, sent over the port to that context.
#[test]
fn a_page_and_an_iframe_talk_over_a_channel_of_their_own() {
    let (mut process, frame) = Process::start("iframe");
    let (events, log) = (event_loop(), Log::default());
    let frame = events.add(frame).unwrap();
    log.on(&frame);
    post(&frame, &["hello"]);
    run_until(&events, || log.len() == 1);
    let (mine, theirs) = pair();
    let mine = events.add(mine).unwrap();
    post(&mine, &["echo"]);
    frame.post_message(b"a port", [theirs.into()]).unwrap();
    log.on(&mine);
    run_until(&events, || log.len() == 3);
    log.assert(&["re: hello", "first", "echo"]);
    mine.close();
    frame.close();
    process.succeeded();
}

// test-worker-message-port-*

/// message-before-close, and close-while-receiving.
#[test]
fn messages_before_the_close_all_arrive_before_it() {
    let events = event_loop();
    let log = Log::default();
    for round in 0..1000 {
        let (port1, port2) = entangled(&events);
        log.clear();
        log.on(&port2);
        if round % 2 == 0 {
            run_dry(&events);
        }
        post(&port1, &["1", "2"]);
        port1.close();
        run_until(&events, || log.len() == 3);
        log.assert(&["1", "2", "close"]);
    }
    events.run().unwrap();
}

/// transfer-closed, transfer-self, transfer-target, transfer-duplicate: refused, and every port still works.
#[test]
fn bad_transfer_lists_are_refused_and_detach_nothing() {
    let events = event_loop();
    let (port1, port2) = entangled(&events);
    let (other1, other2) = entangled(&events);
    let (closed, _peer) = entangled(&events);
    closed.close();
    let buffer = TransferBuffer::new(10).unwrap();
    assert!(matches!(transfer(&port1, &[&other1, &port1]), Err(PostErrorKind::ContainsSelf { .. })));
    assert!(matches!(transfer(&port1, &[&other1, &port2]), Err(PostErrorKind::ContainsPeer { .. })));
    assert!(matches!(transfer(&port1, &[&other1, &other1]), Err(PostErrorKind::Duplicate { .. })));
    assert!(matches!(transfer(&port1, &[&other1, &closed]), Err(PostErrorKind::Unusable { index: 1 })));
    let list = [TransferRef::Buffer(&buffer), TransferRef::Buffer(&buffer)];
    assert!(matches!(port1.post_message_detaching(b"", &list), Err(PostErrorKind::Duplicate { .. })));
    buffer.write_at(0, b"mine").unwrap();
    let log = Log::default();
    for (from, to) in [(&port1, &port2), (&other1, &other2)] {
        log.on(to);
        post(from, &["works"]);
    }
    run_until(&events, || log.len() == 2);
}

/// receive-message: one message at a time, without events, and nothing on an empty port.
#[test]
fn messages_can_be_taken_one_by_one() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    log.on(&port2);
    post(&port1, &["1", "2"]);
    assert_eq!(port2.try_recv().unwrap().data, b"1");
    assert_eq!(port2.try_recv().unwrap().data, b"2");
    assert!(matches!(port2.try_recv(), Err(TryRecvError::Empty)));
    run_dry(&events);
    log.assert(&[]);
    port1.close();
    assert!(matches!(port2.try_recv(), Err(TryRecvError::Failed(_))));
    run_until(&events, || log.len() == 1);
    log.assert(&["close"]);
}

/// infinite-message-loop: a port that answers itself does not starve a timer.
#[test]
fn an_endless_exchange_starves_no_timer() {
    let events = event_loop();
    let (port1, port2) = entangled(&events);
    for port in [&port1, &port2] {
        port.set_onmessage(|port, event| {
            let _ = port.post_message(&event.data, []); // fails once the other port is closed
        });
    }
    post(&port1, &["again"]);
    events.set_timeout(Duration::from_millis(5), |events| events.stop());
    events.run().unwrap();
    assert!(events.run_once_timeout(PATIENCE).unwrap() > 0);
    port1.close();
    events.run().unwrap();
}

/// close in a handler, and event-target: once, removal, synthetic events.
#[test]
fn a_port_is_an_event_target() {
    let (events, log) = (event_loop(), Log::default());
    let (port1, port2) = entangled(&events);
    let once = log.clone();
    port2.add_handler_once(move |_, event: &mut MessageEvent| {
        assert!(!event.is_trusted());
        once.add("once");
    });
    let removed = log.clone();
    let id = port2.add_handler(move |_, _: &mut MessageEvent| removed.add("removed"));
    port2.remove_handler(id);
    let mut event = MessageEvent::new(Message::new());
    port2.dispatch_event(&mut event);
    port2.dispatch_event(&mut event);
    let closes = log.clone();
    port2.add_handler(move |_, event: &mut CloseEvent| closes.add(event.reason.to_string()));
    port2.dispatch_event(&mut CloseEvent::new(CloseReason::PeerDied));
    let closer = log.clone();
    port2.set_onmessage(move |port, _| {
        closer.add("message");
        port.close();
    });
    post(&port1, &["1", "2"]);
    run_until(&events, || log.len() == 3);
    run_dry(&events);
    log.assert(&["once", "the process that held the peer ended", "message"]);
}
