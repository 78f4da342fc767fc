//! S42 to S48: closing, death and peers that break the format.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use messageport::{
    CloseReason, FullCause, Message, MessagePort, PostDataError, PostErrorKind, RecvError, RecvTimeoutError,
    TransferBuffer, TryRecvError, Violation,
};

use crate::harness::*;

rules! {
    s42_close_takes_effect_at_once,
    s43_messages_posted_before_the_close_arrive,
    s44_unread_messages_of_a_closed_port_are_dropped,
    s45_the_other_end_receives_the_end_with_its_reason,
    s46_the_death_of_a_process_is_noticed,
    s47_dropping_the_last_handle_closes,
    s48_a_peer_that_breaks_the_format_ends_its_port_only,
}

fn s42_close_takes_effect_at_once(peer: &mut Peer) {
    let assert_closed = |port: &MessagePort| {
        assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::PortClosed));
        assert!(matches!(port.post_message_wait(b"", []).unwrap_err().kind, PostErrorKind::PortClosed));
        assert!(matches!(port.reserve(1).unwrap_err(), PostDataError::PortClosed));
        assert!(matches!(port.recv(), Err(RecvError::PortClosed)));
        assert!(matches!(port.recv_ref(), Err(RecvError::PortClosed)));
        assert!(matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::PortClosed))));
        assert!(matches!(port.recv_timeout(PATIENCE), Err(RecvTimeoutError::Failed(RecvError::PortClosed))));
    };
    // Twice, with a message in the queue, and after the peer.
    let port = peer.channel();
    peer.run(|there| there.port().post_message(b"unread", []).unwrap());
    for _ in 0..2 {
        port.close();
        assert_closed(&port);
    }
    peer.run(|there| {
        assert_ended(there.port(), CloseReason::Closed);
        there.port().close();
    });
    // While a thread sleeps in the other half.
    let (sender, receiver) = peer.channel().split();
    let sleeper = std::thread::spawn(move || (receiver.recv_timeout(PATIENCE), receiver));
    sender.close();
    let (result, receiver) = sleeper.join().unwrap();
    assert!(matches!(result, Err(RecvTimeoutError::Failed(RecvError::PortClosed))), "{result:?}");
    assert_closed(&MessagePort::join(sender, receiver).unwrap());
    // While one message is read in place and another is written in place.
    let port = peer.channel();
    peer.run(|there| there.ports[2].post_message(b"being read", []).unwrap());
    let in_place = port.recv_ref().unwrap();
    let mut reservation = port.reserve(1).unwrap();
    port.close();
    assert_eq!(in_place.to_vec().unwrap(), b"being read");
    reservation.write_at(0, b"x").unwrap();
    assert!(matches!(reservation.commit(), Err(PostDataError::PortClosed)));
    drop(in_place);
    assert_closed(&port);
    peer.run(|there| assert_ended(&there.ports[2], CloseReason::Closed));
}

fn s43_messages_posted_before_the_close_arrive(peer: &mut Peer) {
    // Ten thousand races between the last message and the close.
    for _ in 0..500 {
        let (ports, others): (Vec<_>, Vec<_>) = (0..20).map(|_| pair()).unzip();
        peer.give_all(others.into_iter().map(Into::into));
        peer.begin(|there| {
            for (number, port) in there.ports.drain(..).enumerate() {
                port.post_message(b"the last", []).unwrap();
                if number % 2 == 0 {
                    port.close();
                }
            }
        });
        for (number, port) in ports.iter().enumerate() {
            let message = if number % 3 == 0 { recv(port) } else { poll_for_message(port) };
            assert_eq!(message.data, b"the last");
            assert_ended(port, CloseReason::Closed);
        }
        peer.finish();
    }
    // With everything in the queue, ports and buffers too.
    let port = peer.channel();
    peer.run(|there| {
        let (inner, passenger) = pair();
        post_numbers(there.port(), 0..1000);
        there.port().post_message(b"", [passenger.into(), buffer_of(b"pixels").into()]).unwrap();
        there.port().close();
        there.ports.push(inner);
    });
    expect_numbers(&port, 0..1000);
    let Message { ports, buffers, .. } = recv(&port);
    assert_eq!(bytes_of(&buffers[0]), b"pixels");
    ports[0].post_message(b"it works", []).unwrap();
    peer.run(|there| assert_eq!(text(&there.ports[1]), "it works"));
    assert_ended(&port, CloseReason::Closed);
}

/// The next message, by `try_recv` in a loop.
fn poll_for_message(port: &MessagePort) -> Message {
    loop {
        match port.try_recv() {
            Err(TryRecvError::Empty) => {}
            result => return result.expect("a message"),
        }
    }
}

fn s44_unread_messages_of_a_closed_port_are_dropped(peer: &mut Peer) {
    let port = peer.forgetful_channel();
    let (witness, passenger) = pair();
    let (buffer, memory) = newest_memory(|| TransferBuffer::new(1000).unwrap());
    let watch = Watch::new(&memory);
    drop(memory);
    port.post_message(b"unread", [passenger.into(), buffer.into()]).unwrap();
    assert_empty(&witness);
    peer.run(|there| {
        there.port().close();
        assert!(matches!(there.port().recv(), Err(RecvError::PortClosed)));
    });
    // The port is closed, not yet dropped.
    assert_ended(&witness, CloseReason::Closed);
    watch.assert_freed();
    let (_witness, passenger) = pair();
    let error = port.post_message(b"too late", [passenger.into()]).unwrap_err();
    assert!(matches!(error.kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{error:?}");
    assert_eq!(error.into_inner().len(), 1);
    assert_ended(&port, CloseReason::Closed);
}

fn s45_the_other_end_receives_the_end_with_its_reason(peer: &mut Peer) {
    let (by_close, by_drop, by_death) = (peer.channel(), peer.channel(), peer.channel());
    peer.run(|there| {
        there.ports.iter().for_each(|port| port.post_message(b"the last", []).unwrap());
        there.ports[0].close();
        // The closing side receives no end, only `PortClosed`.
        assert!(matches!(there.ports[0].recv(), Err(RecvError::PortClosed)));
        drop(there.ports.remove(1));
    });
    for port in [&by_close, &by_drop] {
        assert_eq!(text(port), "the last");
        assert_ended(port, CloseReason::Closed);
    }
    assert_eq!(text(&by_death), "the last");
    assert_empty(&by_death);
    peer.kill();
    assert_ended(&by_death, peer.death());
    // The first reason stays.
    assert_ended(&by_close, CloseReason::Closed);
    // If both sides close, both ports are closed.
    let (one, other) = pair();
    one.close();
    other.close();
    assert!(matches!(one.recv(), Err(RecvError::PortClosed)));
    assert!(matches!(other.recv(), Err(RecvError::PortClosed)));
}

/// A peer within this process cannot die: it drops all its ports.
fn s46_the_death_of_a_process_is_noticed(peer: &mut Peer) {
    let ways: [fn(&MessagePort) -> CloseReason; 5] =
        [in_recv, in_poll, in_a_loop_of_try_recv, in_a_loop_of_posts, while_waiting_for_space];
    for way in ways {
        let mut victim = peer.another();
        let port = victim.channel();
        port.post_message(b"die soon", []).unwrap();
        victim.begin(|there| {
            assert_eq!(text(there.port()), "die soon");
            // Gives the other side time to fall asleep, which the test does not depend on.
            let _ = there.port().recv_timeout(Duration::from_millis(20));
            there.die();
        });
        if victim.is_concurrent() {
            std::thread::scope(|scope| {
                scope.spawn(|| victim.await_death());
                assert_eq!(way(&port), peer.death());
            });
        } else {
            victim.await_death();
            assert_eq!(way(&port), peer.death());
        }
        assert_ended(&port, peer.death());
    }

    // A message that was committed arrives, and a message that was only reserved does not.
    let port = peer.channel();
    let carrier = peer.channel();
    let (witness, traveller) = pair();
    let (stay_at_home, lost) = pair();
    peer.give(traveller);
    peer.give(lost);
    peer.last(|there| {
        let (lost, traveller) = (there.ports.pop().unwrap(), there.ports.pop().unwrap());
        traveller.post_message(b"on my way", []).unwrap();
        there.ports[1].post_message(b"", [traveller.into()]).unwrap();
        there.ports[1].post_message(b"", [lost.into()]).unwrap();
        post_numbers(there.port(), 0..100);
        let mut reservation = there.port().reserve(100).unwrap();
        reservation.write_at(0, &[b'x'; 50]).unwrap();
        there.die();
    });
    expect_numbers(&port, 0..100);
    assert_ended(&port, peer.death());
    // An end in transit outlives its sender, until the receiver takes or drops it.
    for witness in [&witness, &stay_at_home] {
        witness.post_message(b"are you there?", []).unwrap();
    }
    assert_eq!(text(&witness), "on my way");
    (0..1000).for_each(|_| assert_empty(&witness));
    let traveller = recv_port(&carrier);
    assert_eq!(text(&traveller), "are you there?");
    assert_entangled(&witness, &traveller);
    (0..1000).for_each(|_| assert_empty(&stay_at_home));
    drop(carrier);
    assert_ended(&stay_at_home, CloseReason::Closed);
}

fn in_recv(port: &MessagePort) -> CloseReason {
    match port.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => reason,
        other => panic!("expected the end: {other:?}"),
    }
}

fn in_poll(port: &MessagePort) -> CloseReason {
    loop {
        match port.try_recv() {
            Err(TryRecvError::Empty) => await_readable(port),
            Err(TryRecvError::Failed(RecvError::Ended(reason))) => return reason,
            other => panic!("expected the end: {other:?}"),
        }
    }
}

fn in_a_loop_of_try_recv(port: &MessagePort) -> CloseReason {
    loop {
        match port.try_recv() {
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Failed(RecvError::Ended(reason))) => return reason,
            other => panic!("expected the end: {other:?}"),
        }
    }
}

fn in_a_loop_of_posts(port: &MessagePort) -> CloseReason {
    loop {
        match port.post_message(&[0; 1000], []).map_err(|error| error.kind) {
            Ok(()) | Err(PostErrorKind::Full(FullCause::Ring)) => {}
            Err(PostErrorKind::PeerGone(reason)) => return reason,
            Err(kind) => panic!("expected the end: {kind:?}"),
        }
    }
}

fn while_waiting_for_space(port: &MessagePort) -> CloseReason {
    loop {
        match port.post_message_timeout(&[0; 1000], [], PATIENCE).map_err(|error| error.kind) {
            Ok(()) => {}
            Err(PostErrorKind::PeerGone(reason)) => return reason,
            Err(kind) => panic!("expected the end: {kind:?}"),
        }
    }
}

fn s47_dropping_the_last_handle_closes(peer: &mut Peer) {
    let ((port, other), memory) = newest_memory(pair);
    let watch = Watch::new(&memory);
    drop(memory);
    peer.give(other);
    drop(port);
    peer.run(|there| assert_ended(there.port(), CloseReason::Closed));
    assert!(!watch.is_freed());
    peer.run(|there| there.ports.clear());
    watch.assert_freed();
    // A port in a message that is dropped.
    let (witness, passenger) = pair();
    let carrier = peer.channel();
    carrier.post_message(b"", [passenger.into()]).unwrap();
    peer.run(|there| {
        let message = recv(there.port());
        assert_eq!(message.ports.len(), 1);
    });
    assert_ended(&witness, CloseReason::Closed);
    // Neither half is the last handle while the other lives.
    let (sender, receiver) = peer.channel().split();
    drop(receiver);
    sender.post_message(b"still here", []).unwrap();
    peer.run(|there| {
        assert_eq!(text(&there.ports[1]), "still here");
        assert_empty(&there.ports[1]);
    });
    drop(sender);
    peer.run(|there| assert_ended(&there.ports[1], CloseReason::Closed));
    let (sender, receiver) = peer.channel().split();
    drop(sender);
    peer.run(|there| {
        there.ports[2].post_message(b"still there", []).unwrap();
        assert_empty(&there.ports[2]);
    });
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().data, b"still there");
    drop(receiver);
    peer.run(|there| assert_ended(&there.ports[2], CloseReason::Closed));
}

fn s48_a_peer_that_breaks_the_format_ends_its_port_only(peer: &mut Peer) {
    const DATA: u64 = 2 << 32;
    const CARRIER: u64 = 3 << 32;
    let breaks: [(Step, Violation); 9] = [
        (|there| scribble_header(there, 99 << 32 | SEQUENCE | 5), Violation::UnknownKind),
        (|there| scribble_header(there, DATA | SEQUENCE | 60_000), Violation::BadLength),
        (|there| scribble_header(there, 1 << 32 | SEQUENCE | 8), Violation::BadPad),
        (|there| scribble_header(there, DATA | 7 << 48 | 5), Violation::BadSequence),
        (|there| scribble_header(there, DATA | 1 << 40 | SEQUENCE | 5), Violation::BadHandles),
        (|there| scribble_header(there, CARRIER | SEQUENCE | 5), Violation::BadTable),
        (
            |there| {
                break_format(there, |memory, _| {
                    // A table of one buffer, whose descriptor was never sent.
                    let table = [0, 0, 0, 1 << 48_u64, 0, 0].map(u64::to_ne_bytes).concat();
                    memory.write_all_at(&table, SECOND_RECORD + 8).unwrap();
                    let header = CARRIER | 1 << 40 | SEQUENCE | 48;
                    memory.write_all_at(&header.to_ne_bytes(), SECOND_RECORD).unwrap();
                });
            },
            Violation::NoHandles,
        ),
        (
            |there| {
                break_format(there, |memory, _| {
                    memory.write_all_at(&(1_u64 << 40).to_ne_bytes(), READ_CURSOR).unwrap();
                });
            },
            Violation::BadCursor,
        ),
        (
            |there| {
                break_format(there, |_, port| {
                    let mut lane = File::from(port.as_fd().try_clone_to_owned().unwrap());
                    lane.write_all(b"junk").unwrap();
                });
            },
            Violation::BadPacket,
        ),
    ];
    let innocent = peer.channel();
    for (breaks, violation) in breaks {
        let reason = CloseReason::ProtocolViolation(violation);
        let port = peer.run_for_port(breaks);
        assert_eq!(text(&port), "before it was broken");
        if violation == Violation::BadCursor {
            // Found by a sender that needs the read cursor.
            assert_eq!(in_a_loop_of_posts(&port), reason);
        }
        assert_ended(&port, reason);
        peer.run(|there| {
            // The side that broke the format loses this port too, and no other.
            let broken = there.ports.pop().unwrap();
            while broken.try_recv().is_ok() {}
            assert_ended(&broken, CloseReason::Closed);
            there.port().post_message(b"I am fine", []).unwrap();
        });
        assert_eq!(text(&innocent), "I am fine");
        innocent.post_message(b"me too", []).unwrap();
        peer.run(|there| assert_eq!(text(there.port()), "me too"));
    }
}

/// Offset of the second record from port2 in the memory of a channel of the default capacity: behind the header page,
/// the other ring and the record of "before it was broken".
const SECOND_RECORD: u64 = 4096 + (64 << 10) + 8 + 24;
/// The sequence number of that record, in place in the header.
const SEQUENCE: u64 = 1 << 48;
/// Offset of the read cursor of port2.
const READ_CURSOR: u64 = 128;

/// Makes a pair, posts a message, breaks the format behind it, and gives the other end back to the test.
fn break_format(there: &mut There, scribble: impl FnOnce(&File, &MessagePort)) {
    let ((victim, port), memory) = newest_memory(pair);
    port.post_message(b"before it was broken", []).unwrap();
    scribble(&memory, &port);
    there.ports.push(port);
    there.give_back(victim);
}

fn scribble_header(there: &mut There, header: u64) {
    break_format(there, |memory, _| memory.write_all_at(&header.to_ne_bytes(), SECOND_RECORD).unwrap());
}
