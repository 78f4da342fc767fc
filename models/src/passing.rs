//! Models of the queue alone, without sleep.
//!
//! Neither side loops until the other has moved on: loom lets such a loop yield to the other thread at each turn, and would
//! run fewer orders. Each side tries a few times; what was posted must arrive.

use loom::thread::{self, JoinHandle};

use crate::check::check;
use crate::ends::{PostDataError, RecvHalf, SendHalf, message, one_way};
use crate::queue::record::RecordKind;

/// Rings have 128 bytes, the fewest with which records, pads and announcements differ in length.
pub(crate) const RING: usize = 128;

#[test]
fn messages_arrive_whole_and_in_order() {
    let tally = check(in_order);
    assert!(tally.empty_polls > 0 && tally.full == 0);
}

pub(crate) fn in_order() {
    let (sender, receiver) = one_way(RING, 0);
    let there = spawn_posts(sender, vec![message(0, 0), message(1, 16), message(2, 24)]);
    assert_all_arrive(receiver, 3, there, vec![]);
}

#[test]
fn a_record_and_the_pad_before_it_appear_together() {
    // A record of 32 bytes does not fit the 24 or 8 bytes that are left.
    for skip in [13, 15] {
        let tally = check(move || padded(skip));
        assert!(tally.empty_polls > tally.executions * (skip + 1), "the receiver never polled too early");
    }
}

pub(crate) fn padded(skip: usize) {
    let (sender, receiver) = one_way(RING, skip);
    let there = spawn_posts(sender, vec![message(1, 24)]);
    assert_all_arrive(receiver, 2, there, vec![]);
}

#[test]
fn full_ends_when_something_was_read() {
    let tally = check(full);
    assert!(tally.full > tally.executions);
}

#[test]
fn lines_that_the_receiver_owns_are_given_back_whole() {
    let tally = check(full_of_a_stream);
    assert!(tally.full > tally.executions);
    check(|| laps_of(5, true));
}

pub(crate) fn full_of_a_stream() {
    full_of(true);
}

pub(crate) fn full() {
    full_of(false);
}

/// Three records of 32 bytes lie from offset 32 to the end of the ring. A record of 48 bytes follows: it fits as soon as the
/// first is released, and its payload then overwrites that of the first.
fn full_of(streams: bool) {
    let (mut sender, mut receiver) = one_way(RING, 4);
    receiver.streams = streams;
    let queued = fill_queue(&mut sender, 24);
    let there = spawn_posts(sender, vec![message(10, 40), message(11, 24)]);
    assert_all_arrive(receiver, 3, there, queued);
}

#[test]
fn an_empty_poll_gives_back_only_what_was_read() {
    let tally = check(published_by_an_empty_poll);
    assert!(tally.full > 0 && tally.empty_polls > tally.executions);
}

/// The first message, from offset 8 to 24, is too small for an announcement: only a poll that finds nothing gives its space
/// back. The last message, at the beginning of the ring, needs that space for the header behind it.
pub(crate) fn published_by_an_empty_poll() {
    let (mut sender, receiver) = one_way(2 * RING, 1);
    sender.try_post(&message(0, 8)).unwrap();
    let there = spawn_posts(sender, vec![message(1, 104), message(2, 104), message(3, 0), message(4, 8)]);
    assert_all_arrive(receiver, 2, there, vec![message(0, 8)]);
}

#[test]
fn nothing_of_an_earlier_lap_is_seen() {
    for skip in [0, 5, 10] {
        let tally = check(move || laps(skip));
        assert!(tally.full > tally.executions, "only the filling was refused");
    }
}

pub(crate) fn laps(skip: usize) {
    laps_of(skip, false);
}

/// Records have 48 bytes, so headers, payload and pads of each lap lie where others were in the lap before.
fn laps_of(skip: usize, streams: bool) {
    let (mut sender, mut receiver) = one_way(RING, skip);
    receiver.streams = streams;
    let queued = fill_queue(&mut sender, 40);
    let there = spawn_posts(sender, (10..13).map(|number| message(number, 40)).collect());
    assert_all_arrive(receiver, 3, there, queued);
}

#[test]
fn memory_zeroed_in_advance_is_not_in_use() {
    let tally = check(zeroed_in_advance);
    assert!(tally.full > tally.executions);
}

/// `Producer::prepare_next` zeroes up to three cache lines: in a ring of four these may still be in use.
pub(crate) fn zeroed_in_advance() {
    let (mut sender, receiver) = one_way(4 * 64, 20);
    let queued = fill_queue(&mut sender, 64);
    let there = spawn_posts(sender, vec![message(10, 56), message(11, 64)]);
    assert_all_arrive(receiver, 3, there, queued);
}

#[test]
fn a_record_shorter_than_its_claim_is_followed_by_nothing() {
    assert!(check(shorter_than_claimed).empty_polls > 0);
}

pub(crate) fn shorter_than_claimed() {
    let (mut sender, receiver) = one_way(RING, 0);
    let there = thread::spawn(move || {
        // `Reservation::commit_len`, after the whole reservation was written.
        let claim = sender.producer.claim(48).unwrap();
        sender.producer.write(claim, 0, &message(9, 48));
        sender.producer.commit(claim, 16, RecordKind::Data, 0);
        sender.try_post(&message(1, 16)).unwrap();
        vec![message(9, 16), message(1, 16)]
    });
    assert_all_arrive(receiver, 3, there, vec![]);
}

#[test]
fn a_reservation_given_up_leaves_no_trace() {
    assert!(check(reservation_given_up).empty_polls > 0);
}

pub(crate) fn reservation_given_up() {
    let (mut sender, receiver) = one_way(RING, 0);
    let there = thread::spawn(move || {
        let claim = sender.producer.claim(48).unwrap();
        sender.producer.write(claim, 0, &message(9, 48));
        // The next header lies where payload was written, in memory that had been zeroed in advance.
        sender.try_post(&message(1, 8)).unwrap();
        sender.try_post(&message(2, 8)).unwrap();
        vec![message(1, 8), message(2, 8)]
    });
    assert_all_arrive(receiver, 3, there, vec![]);
}

/// Posts messages of `len` bytes, from number 0, until there is no room.
pub(crate) fn fill_queue(sender: &mut SendHalf, len: usize) -> Vec<Vec<u8>> {
    (0..).map(|number| message(number, len)).take_while(|data| sender.try_post(data).is_ok()).collect()
}

/// Starts a thread that tries twice to post each message, and returns those that were posted.
pub(crate) fn spawn_posts(mut sender: SendHalf, messages: Vec<Vec<u8>>) -> JoinHandle<Vec<Vec<u8>>> {
    thread::spawn(move || {
        let mut posted = Vec::new();
        for data in messages {
            if (0..2).any(|_| sender.try_post(&data) != Err(PostDataError::Full)) {
                posted.push(data);
            }
        }
        posted
    })
}

/// Asserts that what was `posted` in advance, and what the sender posts, arrives in order: `polls` polls run beside the
/// sender, and more behind it until nothing is left.
pub(crate) fn assert_all_arrive(
    mut receiver: RecvHalf,
    polls: usize,
    sender: JoinHandle<Vec<Vec<u8>>>,
    mut posted: Vec<Vec<u8>>,
) {
    let mut received: Vec<_> = (0..polls).filter_map(|_| receiver.try_recv()).collect();
    posted.extend(sender.join().unwrap());
    received.extend(std::iter::from_fn(|| receiver.try_recv()));
    assert_eq!(received, posted);
}
