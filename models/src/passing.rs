//! Models of the queue alone: nobody sleeps.
//!
//! Neither side goes round in a loop until the other has moved on: loom lets such a loop give way to the other thread
//! at each turn, and would try fewer orders. Each side tries a few times, and what was posted is what must arrive.

use loom::thread::{self, JoinHandle};

use crate::check::check;
use crate::ends::{NotPosted, Receiver, Sender, message, one_way};
use crate::queue::record::Kind;

/// The smallest ring in which records, pads and announcements are all different things.
pub(crate) const RING: usize = 128;

#[test]
fn messages_arrive_whole_and_in_order() {
    let seen = check(in_order);
    assert!(seen.empty_looks > 0 && seen.full == 0);
}

pub(crate) fn in_order() {
    let (sender, receiver) = one_way(RING, 0);
    let there = try_to_post(sender, vec![message(0, 0), message(1, 16), message(2, 24)]);
    assert_all_arrive(receiver, 3, there, vec![]);
}

#[test]
fn a_record_and_the_pad_before_it_appear_together() {
    // A record of 32 bytes does not fit the 24 or 8 bytes that are left.
    for skip in [13, 15] {
        let seen = check(move || padded(skip));
        assert!(seen.empty_looks > seen.executions * (skip + 1), "the receiver never looked too early");
    }
}

pub(crate) fn padded(skip: usize) {
    let (sender, receiver) = one_way(RING, skip);
    let there = try_to_post(sender, vec![message(1, 24)]);
    assert_all_arrive(receiver, 2, there, vec![]);
}

#[test]
fn full_ends_when_something_was_read() {
    let seen = check(full);
    assert!(seen.full > seen.executions);
}

/// Three records of 32 bytes, from 32 to the end of the ring; behind them goes one of 48. It fits as soon as the first is
/// released, and its payload then lies over that of the first.
pub(crate) fn full() {
    let (mut sender, receiver) = one_way(RING, 4);
    let queued = fill(&mut sender, 24);
    let there = try_to_post(sender, vec![message(10, 40), message(11, 24)]);
    assert_all_arrive(receiver, 3, there, queued);
}

#[test]
fn what_an_empty_look_gives_back_was_read() {
    let seen = check(given_back_by_an_empty_look);
    assert!(seen.full > 0 && seen.empty_looks > seen.executions);
}

/// The first message, from 8 to 24, is too small for an announcement: only a look that finds nothing gives its space
/// back. The last one, from the beginning of the ring, needs that space for the header behind it.
pub(crate) fn given_back_by_an_empty_look() {
    let (mut sender, receiver) = one_way(2 * RING, 1);
    sender.try_post(&message(0, 8)).unwrap();
    let there = try_to_post(sender, vec![message(1, 104), message(2, 104), message(3, 0), message(4, 8)]);
    assert_all_arrive(receiver, 2, there, vec![message(0, 8)]);
}

#[test]
fn nothing_of_an_earlier_lap_is_seen() {
    for skip in [0, 5, 10] {
        let seen = check(move || laps(skip));
        assert!(seen.full > seen.executions, "nothing but the filling was refused");
    }
}

/// Records of 48 bytes, so that headers, payload and pads of one lap lie where others were in the lap before.
pub(crate) fn laps(skip: usize) {
    let (mut sender, receiver) = one_way(RING, skip);
    let queued = fill(&mut sender, 40);
    let there = try_to_post(sender, (10..13).map(|number| message(number, 40)).collect());
    assert_all_arrive(receiver, 3, there, queued);
}

#[test]
fn memory_zeroed_in_advance_is_not_in_use() {
    let seen = check(zeroed_in_advance);
    assert!(seen.full > seen.executions);
}

/// `Producer::clear_ahead` reaches over two lines: in a ring of four it has something to be careful about.
pub(crate) fn zeroed_in_advance() {
    let (mut sender, receiver) = one_way(4 * 64, 20);
    let queued = fill(&mut sender, 64);
    let there = try_to_post(sender, vec![message(10, 56), message(11, 64)]);
    assert_all_arrive(receiver, 3, there, queued);
}

#[test]
fn a_record_shorter_than_its_room_is_followed_by_nothing() {
    assert!(check(shorter_than_reserved).empty_looks > 0);
}

pub(crate) fn shorter_than_reserved() {
    let (mut sender, receiver) = one_way(RING, 0);
    let there = thread::spawn(move || {
        // `Reservation::commit_len`: all of it was written.
        let slot = sender.producer.reserve(48).unwrap();
        sender.producer.write(slot, 0, &message(9, 48));
        sender.producer.commit(slot, 16, Kind::Data, 0);
        sender.try_post(&message(1, 16)).unwrap();
        vec![message(9, 16), message(1, 16)]
    });
    assert_all_arrive(receiver, 3, there, vec![]);
}

#[test]
fn a_reservation_given_up_leaves_no_trace() {
    assert!(check(reservation_given_up).empty_looks > 0);
}

pub(crate) fn reservation_given_up() {
    let (mut sender, receiver) = one_way(RING, 0);
    let there = thread::spawn(move || {
        let slot = sender.producer.reserve(48).unwrap();
        sender.producer.write(slot, 0, &message(9, 48));
        // The next header lies where payload was written, and memory was zeroed in advance before.
        sender.try_post(&message(1, 8)).unwrap();
        sender.try_post(&message(2, 8)).unwrap();
        vec![message(1, 8), message(2, 8)]
    });
    assert_all_arrive(receiver, 3, there, vec![]);
}

/// Posts messages of `len` bytes, from number 0, until there is no room.
pub(crate) fn fill(sender: &mut Sender, len: usize) -> Vec<Vec<u8>> {
    (0..).map(|number| message(number, len)).take_while(|data| sender.try_post(data).is_ok()).collect()
}

/// A thread that tries twice to post each message, and gives back those that went out.
pub(crate) fn try_to_post(mut sender: Sender, messages: Vec<Vec<u8>>) -> JoinHandle<Vec<Vec<u8>>> {
    thread::spawn(move || {
        let mut out = Vec::new();
        for data in messages {
            if (0..2).any(|_| sender.try_post(&data) != Err(NotPosted::Full)) {
                out.push(data);
            }
        }
        out
    })
}

/// Looks so many times while the sender runs, and then until nothing is left.
pub(crate) fn assert_all_arrive(
    mut receiver: Receiver,
    looks: usize,
    sender: JoinHandle<Vec<Vec<u8>>>,
    mut posted: Vec<Vec<u8>>,
) {
    let mut received: Vec<_> = (0..looks).filter_map(|_| receiver.try_recv()).collect();
    posted.extend(sender.join().unwrap());
    received.extend(std::iter::from_fn(|| receiver.try_recv()));
    assert_eq!(received, posted);
}
