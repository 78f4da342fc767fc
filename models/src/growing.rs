//! Models of a queue that goes on in a larger ring, and goes back.

use loom::thread;

use crate::check::{check, check_large};
use crate::ends::{RecvHalf, SendHalf, message, one_way};
use crate::passing::{RING, assert_all_arrive, fill_queue};
use crate::queue::record::max_payload;

/// Queues grow to at most 4 first rings, so a direction has up to three rings.
const LARGEST: u64 = 4 * RING as u64;
/// The longest message. Two of them fill the first ring, four the next.
const LONGEST: usize = max_payload(RING);

/// Posts messages until there is no room, then one more, which goes to the next ring.
fn fill_and_grow(sender: &mut SendHalf) -> Vec<Vec<u8>> {
    let mut queued = fill_queue(sender, LONGEST);
    queued.push(message(7, LONGEST));
    sender.post_growing(&message(7, LONGEST), LARGEST).unwrap();
    assert!(sender.producer.direction().is_grown());
    queued
}

#[test]
fn a_queue_that_grows_while_it_is_read_loses_nothing() {
    for skip in [0, 3, 8] {
        let tally = check(move || grows(skip));
        assert!(tally.next > 0 && tally.full > 0);
    }
}

/// The link appears where the receiver polls, or behind what it reads.
pub(crate) fn grows(skip: usize) {
    let (mut sender, receiver) = one_way(RING, skip);
    let queued = fill_queue(&mut sender, LONGEST);
    let there = thread::spawn(move || {
        let messages = [message(10, LONGEST), message(11, 8)];
        for data in &messages {
            sender.post_growing(data, LARGEST).unwrap();
        }
        messages.to_vec()
    });
    assert_all_arrive(receiver, 4, there, queued);
}

#[test]
fn a_queue_that_was_read_goes_back_to_its_first_ring() {
    for skip in [0, 3, 8] {
        let tally = check(move || goes_back(skip));
        assert!(
            tally.next > 0 && tally.back > 0 && tally.back < tally.next,
            "the queue must go back in some executions, and not in all"
        );
    }
}

/// Old records lie in the first ring, at every place where the queue goes on there.
pub(crate) fn goes_back(skip: usize) {
    let (mut sender, receiver) = one_way(RING, skip);
    let queued = fill_and_grow(&mut sender);
    let there = thread::spawn(move || {
        let messages = [message(10, 16), message(11, 8)];
        for data in &messages {
            sender.post_growing(data, LARGEST).unwrap();
        }
        messages.to_vec()
    });
    assert_all_arrive(receiver, 5, there, queued);
}

#[test]
fn a_receiver_that_sleeps_where_the_link_comes_is_woken() {
    let tally = check_large(receiver_sleeps_at_link);
    assert!(tally.futex_sleeps > 0 && tally.next > 0 && tally.back > 0);
}

pub(crate) fn receiver_sleeps_at_link() {
    let (mut sender, mut receiver) = one_way(RING, 0);
    let mut expected = fill_queue(&mut sender, LONGEST);
    expected.extend([message(10, LONGEST), message(11, 8)]);
    let there = thread::spawn(move || {
        sender.post_growing(&message(10, LONGEST), LARGEST).unwrap();
        sender.post_growing(&message(11, 8), LARGEST).unwrap();
    });
    for data in expected {
        assert_eq!(receiver.recv(), Some(data));
    }
    there.join().unwrap();
}

#[test]
fn a_sender_that_sleeps_in_a_larger_ring_is_woken() {
    let tally = check_large(sender_sleeps_ahead);
    assert!(tally.futex_sleeps > 0 && tally.next > 0);
}

/// The receiver is still in the first ring, with nothing in front of the link. It takes everything, and neither sleeps nor
/// polls again.
pub(crate) fn sender_sleeps_ahead() {
    let (mut sender, mut receiver) = one_way(RING, 0);
    let mut queued = fill_and_grow(&mut sender);
    queued.extend(fill_queue(&mut sender, LONGEST));
    for data in queued.drain(..2) {
        assert_eq!(receiver.try_recv(), Some(data));
    }
    let there = thread::spawn(move || sender.post(&message(10, LONGEST)).unwrap());
    for data in queued {
        assert_eq!(receiver.try_recv(), Some(data));
    }
    there.join().unwrap();
    assert_eq!(receiver.try_recv(), Some(message(10, LONGEST)));
}

#[test]
fn both_doorbells_over_all_links() {
    let tally = check_large(both_doorbells);
    assert!(tally.futex_sleeps > 0 && tally.next > 0 && tally.back > 0);
}

/// The sender lets the queue grow and then waits for space; the receiver sleeps.
pub(crate) fn both_doorbells() {
    let (mut sender, mut receiver) = one_way(RING, 2);
    let there = thread::spawn(move || {
        for number in 0..3 {
            sender.post_growing(&message(number, LONGEST), LARGEST).unwrap();
        }
        sender.post(&message(3, LONGEST)).unwrap();
    });
    for number in 0..4 {
        assert_eq!(receiver.recv(), Some(message(number, LONGEST)));
    }
    there.join().unwrap();
}

#[test]
fn what_was_posted_before_a_close_arrives_over_a_link() {
    assert!(check_large(|| sender_closes_in_a_larger_ring(RecvHalf::recv)).next > 0);
}

pub(crate) fn sender_closes_in_a_larger_ring(recv: fn(&mut RecvHalf) -> Option<Vec<u8>>) {
    let (mut sender, mut receiver) = one_way(RING, 0);
    let mut expected = fill_queue(&mut sender, LONGEST);
    expected.push(message(10, 8));
    expected.push(message(11, LONGEST));
    let there = thread::spawn(move || {
        sender.post_growing(&message(10, 8), LARGEST).unwrap();
        sender.post_growing(&message(11, LONGEST), LARGEST).unwrap();
        sender.end.close();
    });
    for data in expected {
        assert_eq!(recv(&mut receiver), Some(data));
    }
    assert_eq!(recv(&mut receiver), None);
    there.join().unwrap();
}
