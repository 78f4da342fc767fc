//! Whether the peer is there: a process that only posts notices its death, and any process can query it or wait for it.

mod tools;

use std::thread;
use std::time::Duration;

use messageport::{
    ChannelOptions, CloseReason, MessageChannel, MessagePort, PostDataError, PostErrorKind, RecvError,
    RecvTimeoutError, TryRecvError, parent_port,
};

use tools::child::{Process, Role, hold};
use tools::{PATIENCE, end_of, pair, text, within};

const ROLES: &[Role] = &[("hold", hold), ("discard", discard), ("pass on", pass_on)];

/// A role: drops its receiving half and holds the other one until the process is killed.
fn discard() {
    let (sender, receiver) = parent_port().expect("a port").split();
    drop(receiver);
    sender.post_message(b"ready", []).expect("room");
    loop {
        thread::park();
    }
}

/// A role: posts the port that it receives into a port of its own, whose peer it holds until the process is killed.
fn pass_on() {
    let port = parent_port().expect("a port");
    let mut message = port.recv().expect("a message");
    let (carrier, _receiver) = pair();
    carrier.post_message(b"", message.take_transfer_list()).expect("room");
    port.post_message(b"ready", []).expect("room");
    loop {
        thread::park();
    }
}

/// A port whose peer a process held that has been killed.
fn widowed(role: &str, (ours, theirs): (MessagePort, MessagePort)) -> MessagePort {
    let mut process = Process::with_port(role, theirs);
    assert_eq!(text(&ours), "ready");
    process.kill();
    ours
}

/// Posts every 3 ms, and receives nothing, until the post fails. That is the 65th at the latest.
#[track_caller]
fn assert_heartbeat_stops(mut post: impl FnMut() -> Result<(), PostErrorKind>) {
    for _ in 0..=64 {
        match post() {
            Ok(()) => thread::sleep(Duration::from_millis(3)),
            Err(PostErrorKind::PeerGone(CloseReason::PeerDied)) => return,
            Err(error) => panic!("instead of the death: {error:?}"),
        }
    }
    panic!("65 posts to a process that is dead");
}

#[test]
fn who_only_posts_notices_a_death() {
    for len in [0, 16, 64, 200, 5000] {
        let port = widowed("hold", pair());
        assert_heartbeat_stops(|| port.post_message(&vec![1; len], []).map_err(|error| error.kind));
        assert_eq!(end_of(&port), CloseReason::PeerDied);
    }
}

#[test]
fn every_way_to_post_notices_a_death() {
    let port = widowed("hold", pair());
    assert_heartbeat_stops(|| port.post_message_wait(b"beat", []).map_err(|error| error.kind));
    let port = widowed("hold", pair());
    assert_heartbeat_stops(|| port.post_messages(&[b"beat", b"beat"]).map_err(|error| error.kind.into()));
    let port = widowed("hold", pair());
    assert_heartbeat_stops(|| {
        let reservation = port.reserve(8)?;
        Ok(reservation.commit()?)
    });
    let port = widowed("hold", pair());
    assert_heartbeat_stops(|| {
        let buffer = port.buffer(100).expect("memory");
        port.post_message(b"beat", [buffer.into()]).map_err(|error| error.kind)
    });
    let (sender, _receiver) = widowed("hold", pair()).split();
    assert_heartbeat_stops(|| sender.post_message(b"beat", []).map_err(|error| error.kind));
}

#[test]
fn a_grown_queue_notices_a_death() {
    let MessageChannel { port1: a, port2: b } = ChannelOptions::default().capacity(4096).create().expect("a channel");
    let mut process = Process::with_port("hold", b);
    assert_eq!(text(&a), "ready");
    while a.queued().capacity == 4096 {
        a.post_message(&[0; 1000], []).expect("room");
    }
    process.kill();
    assert_heartbeat_stops(|| a.post_message(b"beat", []).map_err(|error| error.kind));
}

#[test]
fn who_posts_to_a_dropped_half_notices_a_death() {
    let port = widowed("discard", pair());
    assert_heartbeat_stops(|| port.post_message(b"beat", []).map_err(|error| error.kind));
}

#[test]
fn try_recv_returns_the_end_at_its_first_call() {
    let port = widowed("hold", pair());
    let ended = |port: &MessagePort| {
        matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::Ended(CloseReason::PeerDied))))
    };
    assert!(ended(&port));
    // Although an earlier call has found the queue empty.
    let (port, theirs) = pair();
    let mut process = Process::with_port("hold", theirs);
    assert_eq!(text(&port), "ready");
    assert!(matches!(port.try_recv(), Err(TryRecvError::Empty)));
    process.kill();
    assert!(ended(&port));
}

#[test]
fn the_state_of_the_peer_is_known_without_a_message() {
    let (port, theirs) = pair();
    let mut process = Process::with_port("hold", theirs);
    assert_eq!(port.peer_state().expect("open"), None);
    process.kill();
    assert_eq!(port.peer_state().expect("open"), Some(CloseReason::PeerDied));
    // What came before can be received, if the process got that far.
    assert!(matches!(port.try_recv(), Ok(_) | Err(TryRecvError::Failed(RecvError::Ended(CloseReason::PeerDied)))));

    let (a, b) = pair();
    b.post_message(b"last words", []).expect("room");
    b.close();
    assert_eq!(a.peer_state().expect("open"), Some(CloseReason::Closed));
    assert!(matches!(a.post_message(b"", []), Err(error) if matches!(error.kind, PostErrorKind::PeerGone(_))));
    assert_eq!(text(&a), "last words");
    assert_eq!(end_of(&a), CloseReason::Closed);
    assert_eq!(a.peer_state().expect("open"), Some(CloseReason::Closed));

    assert!(matches!(b.peer_state(), Err(RecvError::PortClosed)));
    let (carrier, receiver) = pair();
    carrier.post_message_detaching(b"", &[(&a).into()]).expect("room");
    assert!(matches!(a.peer_state(), Err(RecvError::Detached)));
    drop(receiver);
}

#[test]
fn a_peer_in_transit_is_there_until_its_carrier_is_not() {
    let (control, theirs) = pair();
    let mut process = Process::with_port("pass on", theirs);
    let (a, b) = pair();
    control.post_message(b"", [b.into()]).expect("room");
    assert_eq!(text(&control), "ready");
    assert_eq!(a.peer_state().expect("open"), None);
    process.kill();
    assert_eq!(a.closed_timeout(PATIENCE).expect("the end"), CloseReason::PeerDied);
}

#[test]
fn the_end_of_the_peer_can_be_waited_for() {
    let (port, theirs) = pair();
    let mut process = Process::with_port("hold", theirs);
    assert_eq!(text(&port), "ready");
    assert!(matches!(port.closed_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::TimedOut)));
    let (sender, receiver) = port.split();
    within(PATIENCE, move || {
        thread::scope(|scope| {
            let both = [scope.spawn(move || sender.closed()), scope.spawn(move || receiver.closed())];
            process.kill();
            for half in both {
                assert_eq!(half.join().expect("no panic").expect("the end"), CloseReason::PeerDied);
            }
        });
    });
}

#[test]
fn messages_do_not_end_a_wait_for_the_end() {
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    for number in 0..10_u8 {
        port2.post_message(&[number], []).expect("room");
    }
    assert!(matches!(port1.closed_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::TimedOut)));
    drop(port2);
    assert_eq!(port1.closed().expect("the end"), CloseReason::Closed);
    for number in 0..10_u8 {
        assert_eq!(port1.recv().expect("a message").data, [number]);
    }
}

#[test]
fn a_close_by_the_other_half_ends_a_wait_for_the_end() {
    let (a, _b) = pair();
    let (sender, receiver) = a.split();
    within(PATIENCE, move || {
        let waiter = thread::spawn(move || sender.closed());
        receiver.close();
        assert!(matches!(waiter.join().expect("no panic"), Err(RecvError::PortClosed)));
    });
}

/// The compiler checks that the kinds of errors convert, as a heartbeat with `?` needs.
#[test]
fn the_reason_of_a_failed_post_is_that_of_the_state() {
    let port = widowed("hold", pair());
    let reason = port.peer_state().expect("open").expect("the death");
    assert!(matches!(port.reserve(1), Err(PostDataError::PeerGone(found)) if found == reason));
}
