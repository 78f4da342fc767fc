//! Models of the end of a channel: by a close, by a drop, by the death of a side.

use std::time::Duration;

use loom::thread;

use crate::check::{check, check_large};
use crate::ends::{PostDataError, RecvHalf, channel, drop_port, message, one_way};
use crate::passing::{RING, fill_queue};
use crate::queue::doorbell::{self, FUTEX};
use crate::queue::record::{RecordKind, max_payload};
use crate::queue::sync::futex;

#[test]
fn a_close_wakes_the_receiver_after_the_last_message() {
    assert!(check(|| sender_closes(RecvHalf::recv)).futex_sleeps > 0);
    assert!(check(|| sender_closes(RecvHalf::recv_by_poll)).lane_sleeps > 0);
}

pub(crate) fn sender_closes(recv: fn(&mut RecvHalf) -> Option<Vec<u8>>) {
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
    fill_queue(&mut sender, 48);
    let there = thread::spawn(move || sender.post(&message(10, 48)));
    receiver.end.close();
    assert_eq!(there.join().unwrap(), Err(PostDataError::PeerGone));
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
    sender.end.note_split();
    fill_queue(&mut sender, 48);
    let there = thread::spawn(move || receiver.end.close());
    // `PeerGone` if the lane hung up between the load of the own state and the check of the lane.
    assert!(matches!(sender.post(&message(10, 48)), Err(PostDataError::PortClosed | PostDataError::PeerGone)));
    there.join().unwrap();
}

#[test]
fn a_message_whose_post_succeeds_precedes_a_close_by_the_other_half() {
    assert!(check_large(own_close_beside_a_post).futex_sleeps > 0);
}

pub(crate) fn own_close_beside_a_post() {
    let [(mut sender, receiver), (_, mut peer)] = channel(RING, 0);
    sender.end.note_split();
    let poster = thread::spawn(move || sender.try_post(&message(1, 8)));
    let closer = thread::spawn(move || receiver.end.close());
    let received: Vec<_> = std::iter::from_fn(|| peer.recv()).collect();
    closer.join().unwrap();
    let posted = match poster.join().unwrap() {
        Ok(()) => vec![message(1, 8)],
        Err(PostDataError::PortClosed) => vec![],
        Err(error) => panic!("{error:?}"),
    };
    assert_eq!(received, posted);
}

#[test]
fn both_ends_close_at_once() {
    assert!(check_large(both_close).futex_sleeps > 0);
}

/// One of the four halves waits for a message meanwhile.
pub(crate) fn both_close() {
    let [(a_sender, mut a_receiver), (mut b_sender, b_receiver)] = channel(0, RING);
    let a = thread::spawn(move || a_sender.end.close());
    let b = thread::spawn(move || {
        let posted = b_sender.try_post(&message(1, 8));
        b_receiver.end.close();
        posted
    });
    // The message arrives whole, or this end closes first.
    let received = a_receiver.recv();
    assert!(received.as_ref().is_none_or(|data| *data == message(1, 8)));
    if received.is_some() {
        assert_eq!(a_receiver.recv(), None);
    }
    a.join().unwrap();
    assert!(matches!(b.join().unwrap(), Ok(()) | Err(PostDataError::PeerGone)));
}

#[test]
fn both_ports_are_dropped_at_once() {
    check(both_dropped);
}

/// A message is under way in both directions.
pub(crate) fn both_dropped() {
    let [mut a, mut b] = channel(RING, RING);
    b.0.try_post(&message(2, 8)).unwrap();
    let there = thread::spawn(move || {
        let posted = a.0.try_post(&message(1, 8));
        drop_port(a);
        posted
    });
    // Polls once, and drops the rest.
    assert!(b.1.try_recv().is_none_or(|data| data == message(1, 8)));
    drop_port(b);
    assert!(matches!(there.join().unwrap(), Ok(()) | Err(PostDataError::PeerGone)));
}

#[test]
fn a_dropped_receiving_half_wakes_the_sender() {
    for skip in [0, 3, 8, 13] {
        assert!(check(move || receiving_half_dropped(skip)).futex_sleeps > 0);
    }
}

/// This sender checks for room alone before it sleeps, and not the state that `End::discard_arrivals` stores: it must be
/// enough that the dropped queue is empty.
pub(crate) fn receiving_half_dropped(skip: usize) {
    let (mut sender, receiver) = one_way(RING, skip);
    let longest = max_payload(RING);
    fill_queue(&mut sender, longest);
    let there = thread::spawn(move || {
        let space = sender.end.outgoing.space_doorbell();
        let has_room = || sender.producer.claim(longest).is_ok();
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
    assert!(check(|| sender_dies(RecvHalf::recv)).lane_sleeps > 0);
    assert!(check(|| sender_dies(RecvHalf::recv_by_poll)).lane_sleeps > 0);
}

/// The sender is killed between the commit and the load of the doorbell. The kernel hangs up, and sleeps on the futex time
/// out.
pub(crate) fn sender_dies(recv: fn(&mut RecvHalf) -> Option<Vec<u8>>) {
    let (mut sender, mut receiver) = one_way(RING, 0);
    futex::let_time_run_out(u32::MAX);
    let there = thread::spawn(move || {
        let data = message(1, 8);
        let claim = sender.producer.claim(data.len()).unwrap();
        sender.producer.fill(claim, &data);
        sender.producer.commit(claim, data.len(), RecordKind::Data, 0);
        sender.end.lane.hang_up();
    });
    assert_eq!(recv(&mut receiver), Some(message(1, 8)));
    assert_eq!(recv(&mut receiver), None);
    there.join().unwrap();
}
