//! Models of the end of a channel, by close, by drop and by death.

use std::time::Duration;

use loom::thread;

use crate::check::{check, check_large};
use crate::ends::{NotPosted, Receiver, channel, drop_port, message, one_way};
use crate::passing::{RING, fill};
use crate::queue::doorbell::{self, FUTEX};
use crate::queue::record::{Kind, max_payload};
use crate::queue::sync::futex;

#[test]
fn a_close_wakes_the_receiver_after_the_last_message() {
    assert!(check(|| sender_closes(Receiver::recv)).futex_sleeps > 0);
    assert!(check(|| sender_closes(Receiver::recv_by_poll)).lane_sleeps > 0);
}

pub(crate) fn sender_closes(recv: fn(&mut Receiver) -> Option<Vec<u8>>) {
    let (mut sender, mut receiver) = one_way(RING, 0);
    let there = thread::spawn(move || {
        sender.try_post(&message(1, 8)).unwrap();
        sender.end.close();
    });
    assert_eq!(recv(&mut receiver), Some(message(1, 8)));
    assert_eq!(recv(&mut receiver), None);
    there.join().unwrap();
}

#[test]
fn a_close_wakes_the_sender() {
    assert!(check(receiver_closes).futex_sleeps > 0);
}

pub(crate) fn receiver_closes() {
    let (mut sender, receiver) = one_way(RING, 0);
    fill(&mut sender, 48);
    let there = thread::spawn(move || sender.post(&message(10, 48)));
    receiver.end.close();
    assert_eq!(there.join().unwrap(), Err(NotPosted::PeerGone));
}

#[test]
fn a_close_wakes_the_other_half_of_the_same_port() {
    assert!(check(own_receiver_closed).futex_sleeps > 0);
    assert!(check(own_sender_closed).futex_sleeps > 0);
}

pub(crate) fn own_receiver_closed() {
    let [(sender, mut receiver), _peer] = channel(0, RING);
    let there = thread::spawn(move || sender.end.close());
    assert_eq!(receiver.recv(), None);
    there.join().unwrap();
}

pub(crate) fn own_sender_closed() {
    let [(mut sender, receiver), _peer] = channel(RING, 0);
    fill(&mut sender, 48);
    let there = thread::spawn(move || receiver.end.close());
    // `PeerGone` if the lane is seen to be hung up after our own state was seen to be open.
    assert!(matches!(sender.post(&message(10, 48)), Err(NotPosted::Closed | NotPosted::PeerGone)));
    there.join().unwrap();
}

#[test]
fn both_ends_close_at_once() {
    assert!(check_large(both_close).futex_sleeps > 0);
}

/// While one of the four halves waits for a message.
pub(crate) fn both_close() {
    let [(a_sender, mut a_receiver), (mut b_sender, b_receiver)] = channel(0, RING);
    let a = thread::spawn(move || a_sender.end.close());
    let b = thread::spawn(move || {
        let posted = b_sender.try_post(&message(1, 8));
        b_receiver.end.close();
        posted
    });
    // What was posted is whole, or cut off by our own close.
    let received = a_receiver.recv();
    assert!(received.as_ref().is_none_or(|data| *data == message(1, 8)));
    if received.is_some() {
        assert_eq!(a_receiver.recv(), None);
    }
    a.join().unwrap();
    assert!(matches!(b.join().unwrap(), Ok(()) | Err(NotPosted::PeerGone)));
}

#[test]
fn both_ports_are_dropped_at_once() {
    check(both_dropped);
}

/// With a message under way in both directions.
pub(crate) fn both_dropped() {
    let [mut a, mut b] = channel(RING, RING);
    b.0.try_post(&message(2, 8)).unwrap();
    let there = thread::spawn(move || {
        let posted = a.0.try_post(&message(1, 8));
        drop_port(a);
        posted
    });
    // It looks once, and drops the rest.
    assert!(b.1.try_recv().is_none_or(|data| data == message(1, 8)));
    drop_port(b);
    assert!(matches!(there.join().unwrap(), Ok(()) | Err(NotPosted::PeerGone)));
}

#[test]
fn a_dropped_receiving_half_wakes_the_sender() {
    for skip in [0, 3, 8, 13] {
        assert!(check(move || receiving_half_dropped(skip)).futex_sleeps > 0);
    }
}

/// This sender looks for room alone before it sleeps: `End::discard_arrivals` has no fence of its own, so whether its
/// state is seen is not what the wake-up may depend on. That the dropped queue is empty is enough.
pub(crate) fn receiving_half_dropped(skip: usize) {
    let (mut sender, receiver) = one_way(RING, skip);
    let longest = max_payload(RING);
    fill(&mut sender, longest);
    let there = thread::spawn(move || {
        let space = sender.end.outgoing.space();
        let has_room = || sender.producer.reserve(longest).is_ok();
        doorbell::sleep(space, FUTEX, has_room, || {
            futex::wait(space, FUTEX, Duration::MAX);
        });
        sender.post(&message(10, longest)).unwrap();
    });
    receiver.drop_half();
    there.join().unwrap();
}

#[test]
fn what_a_dead_sender_committed_is_found() {
    assert!(check(|| sender_dies(Receiver::recv)).lane_sleeps > 0);
    assert!(check(|| sender_dies(Receiver::recv_by_poll)).lane_sleeps > 0);
}

/// Killed between the commit and the look at the doorbell. The kernel hangs up, and sleeps on the futex run out.
pub(crate) fn sender_dies(recv: fn(&mut Receiver) -> Option<Vec<u8>>) {
    let (mut sender, mut receiver) = one_way(RING, 0);
    futex::let_time_run_out(u32::MAX);
    let there = thread::spawn(move || {
        let data = message(1, 8);
        let slot = sender.producer.reserve(data.len()).unwrap();
        sender.producer.write(slot, 0, &data);
        sender.producer.commit(slot, data.len(), Kind::Data, 0);
        sender.end.lane.hang_up();
    });
    assert_eq!(recv(&mut receiver), Some(message(1, 8)));
    assert_eq!(recv(&mut receiver), None);
    there.join().unwrap();
}
