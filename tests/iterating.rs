//! The iterators over the messages and the values of a port.
#![allow(missing_docs)]

mod tools;

use std::sync::atomic::Ordering;
use std::thread;

use messageport::{BadTransfer, CloseReason, Message, RecvError, TypedPort, Violation};
use nix::sys::memfd::{MFdFlags, memfd_create};

use tools::attacker::{Attacker, DATA, NEW_PORT, Table};
use tools::child::Role;
use tools::ledger::alone;
use tools::{PATIENCE, pair, within};

const ROLES: &[Role] = &[];

fn data(item: Option<Result<Message, RecvError>>) -> Vec<u8> {
    item.expect("a message").expect("a message").data
}

#[test]
fn messages_come_until_the_peer_has_closed() {
    let _alone = alone();
    let (peer, port) = pair();
    peer.post_messages(&[b"one", b"two", b"three"]).unwrap();
    // Dropping an iterator loses no message.
    assert_eq!(data((&port).into_iter().next()), b"one");
    drop(peer);
    let mut messages = (&port).into_iter();
    assert_eq!(data(messages.next()), b"two");
    assert_eq!(data(messages.next()), b"three");
    assert!(messages.next().is_none());
    assert!(messages.next().is_none());
    assert!((&port).into_iter().next().is_none());
}

#[test]
fn each_step_waits_and_a_close_here_ends_the_iterator() {
    let _alone = alone();
    within(PATIENCE, || {
        let (peer, port) = pair();
        let (sender, receiver) = port.split();
        let reading = thread::spawn(move || (&receiver).into_iter().map(Result::unwrap).collect::<Vec<_>>());
        for _ in 0..3 {
            peer.post_message(b"", []).unwrap();
        }
        while peer.queued().bytes > 0 {
            thread::yield_now();
        }
        sender.close();
        assert_eq!(reading.join().unwrap().len(), 3);
    });
}

#[test]
fn an_end_other_than_a_close_is_the_last_item() {
    let _alone = alone();
    let (mut attacker, victim) = Attacker::new(pair);
    attacker.record(DATA, b"a message", 0);
    attacker.pages.ring(0, 24).store(u64::MAX, Ordering::SeqCst);
    let mut messages = (&victim).into_iter();
    assert_eq!(data(messages.next()), b"a message");
    let end = messages.next();
    assert!(
        matches!(end, Some(Err(RecvError::Ended(CloseReason::ProtocolViolation(Violation::UnknownKind))))),
        "{end:?}"
    );
    assert!(messages.next().is_none());
}

#[test]
fn an_invalid_message_is_an_item_between_others() {
    let _alone = alone();
    let (mut attacker, victim) = Attacker::new(pair);
    let memory = memfd_create(c"messageport-not", MFdFlags::MFD_CLOEXEC).expect("a memory file");
    let lane = tools::attacker::lane();
    attacker.record(DATA, b"before", 0);
    attacker.post(b"bad", &Table::default().port(NEW_PORT, &memory, &lane.0));
    attacker.record(DATA, b"after", 0);
    let mut messages = (&victim).into_iter();
    assert_eq!(data(messages.next()), b"before");
    let bad = messages.next();
    assert!(matches!(bad, Some(Err(RecvError::MessageError { reason: BadTransfer::Segment(_), .. }))), "{bad:?}");
    assert_eq!(data(messages.next()), b"after");
}

#[test]
fn typed_ports_yield_values_and_errors() {
    let _alone = alone();
    let (peer, port) = pair();
    peer.post_messages(&[&[1], &[2, 2], &[3]]).unwrap();
    peer.close();
    let port: TypedPort<(), u8> = port.into();
    let values: Vec<_> = (&port).into_iter().collect();
    assert!(matches!(values[..], [Ok(1), Err(RecvError::MessageError { .. }), Ok(3)]), "{values:?}");

    let (peer, port) = pair();
    peer.post_message(&[7], []).unwrap();
    drop(peer);
    let (_sender, receiver) = TypedPort::<(), u8>::from(port).split();
    let values: Vec<u8> = (&receiver).into_iter().map(Result::unwrap).collect();
    assert_eq!(values, [7]);
}
