//! Models of sleep and wake-up. A lost wake-up is a deadlock.

use loom::thread;

use crate::check::{check, check_large};
use crate::ends::{message, one_way};
use crate::passing::{RING, fill_queue};
use crate::queue::doorbell::{self, AWAKE, FD, FUTEX};
use crate::queue::record::max_payload;
use crate::queue::sync::{Ordering, futex};

/// `Waiter` goes over to the lane after 3 sleeps on the futex.
const SLICES: u32 = 3;

#[test]
fn a_sleeping_receiver_is_woken() {
    let tally = check(receiver_sleeps);
    assert!(tally.futex_sleeps > 0 && tally.full == 0);
}

pub(crate) fn receiver_sleeps() {
    let (mut sender, mut receiver) = one_way(RING, 0);
    let there = thread::spawn(move || {
        for number in 0..2 {
            sender.try_post(&message(number, 8)).unwrap();
        }
    });
    for number in 0..2 {
        assert_eq!(receiver.recv(), Some(message(number, 8)));
    }
    there.join().unwrap();
    assert_eq!(
        receiver.end.incoming.data_doorbell().load(Ordering::Relaxed),
        AWAKE,
        "a receiver that is awake has left a note"
    );
}

#[test]
fn a_receiver_is_woken_by_a_pad() {
    assert!(check(pad_wakes).futex_sleeps > 0);
}

/// The word that the commit swaps, and that the receiver polls, is then the header of the pad.
pub(crate) fn pad_wakes() {
    let (mut sender, mut receiver) = one_way(RING, 13);
    let there = thread::spawn(move || sender.try_post(&message(1, 24)).unwrap());
    assert_eq!(receiver.recv(), Some(message(1, 24)));
    there.join().unwrap();
}

#[test]
fn a_sleeping_sender_is_woken_at_every_offset() {
    // Every offset in the ring, and so every distance of the announced cursor from the read cursor.
    for skip in 0..RING / 8 {
        assert!(check(move || sender_sleeps(skip, false)).futex_sleeps > 0);
    }
}

/// The proof in `Consumer::release`: a receiver that takes everything, and neither sleeps nor polls again, wakes a
/// sender that sleeps, or has announced enough that the sender does not sleep.
///
/// If it `polls_again`, its last poll finds nothing and publishes the cursor without a fence: the sender then sleeps on
/// the announced cursor, or sees the published one.
pub(crate) fn sender_sleeps(skip: usize, polls_again: bool) {
    let (mut sender, mut receiver) = one_way(RING, skip);
    let longest = max_payload(RING);
    let queued = fill_queue(&mut sender, longest);
    let there = thread::spawn(move || sender.post(&message(10, longest)).unwrap());
    for data in queued {
        assert_eq!(receiver.try_recv(), Some(data));
    }
    let early = if polls_again { receiver.try_recv() } else { None };
    there.join().unwrap();
    assert_eq!(early.or_else(|| receiver.try_recv()), Some(message(10, longest)));
}

#[test]
fn a_cursor_published_without_a_fence_does_no_harm() {
    for skip in 0..RING / 8 {
        assert!(check(move || sender_sleeps(skip, true)).futex_sleeps > 0);
    }
}

#[test]
fn a_sleeping_sender_of_a_small_message_is_woken_by_small_ones() {
    for skip in [0, 1, 8] {
        assert!(check_large(move || small_messages(skip)).futex_sleeps > 0);
    }
}

/// There are several announcements, and the sender may see any of them first.
pub(crate) fn small_messages(skip: usize) {
    let (mut sender, mut receiver) = one_way(RING, skip);
    let queued = fill_queue(&mut sender, 24);
    let there = thread::spawn(move || {
        sender.post(&message(10, 24)).unwrap();
        sender.post(&message(11, 40)).unwrap();
    });
    for data in queued {
        assert_eq!(receiver.try_recv(), Some(data));
    }
    assert_eq!(receiver.recv(), Some(message(10, 24)));
    assert_eq!(receiver.recv(), Some(message(11, 40)));
    there.join().unwrap();
}

// Two tests, since these models take the longest: they run at the same time.
#[test]
fn both_doorbells_of_a_direction_at_once() {
    both_doorbells_sleep(0);
}

#[test]
fn both_doorbells_of_a_direction_at_once_at_another_offset() {
    both_doorbells_sleep(6);
}

fn both_doorbells_sleep(skip: usize) {
    let tally = check(move || both_doorbells(skip));
    assert!(tally.futex_sleeps > 0 && tally.empty_polls > 0 && tally.full > 0);
}

pub(crate) fn both_doorbells(skip: usize) {
    let (mut sender, mut receiver) = one_way(RING, skip);
    let longest = max_payload(RING);
    let there = thread::spawn(move || {
        for number in 0..3 {
            sender.post(&message(number, longest)).unwrap();
        }
    });
    for number in 0..3 {
        assert_eq!(receiver.recv(), Some(message(number, longest)));
    }
    there.join().unwrap();
}

#[test]
fn a_receiver_that_goes_from_the_futex_to_the_lane_is_woken() {
    let tally = check(from_futex_to_lane);
    assert!(tally.lane_sleeps > 0 && tally.futex_sleeps > 0);
}

/// All of `Waiter::wait`: slices on the futex, then the lane, then the futex again. The waker's swap may find any note.
pub(crate) fn from_futex_to_lane() {
    let (mut sender, mut receiver) = one_way(RING, 0);
    futex::let_time_run_out(SLICES);
    let there = thread::spawn(move || {
        for number in 0..2 {
            sender.try_post(&message(number, 8)).unwrap();
        }
    });
    for number in 0..2 {
        assert_eq!(receiver.recv(), Some(message(number, 8)));
    }
    there.join().unwrap();
}

#[test]
fn a_receiver_in_an_event_loop_is_woken() {
    let tally = check(event_loop);
    assert!(tally.lane_sleeps > 0 && tally.futex_sleeps == 0);
}

pub(crate) fn event_loop() {
    let (mut sender, mut receiver) = one_way(RING, 0);
    let there = thread::spawn(move || {
        for number in 0..2 {
            sender.try_post(&message(number, 8)).unwrap();
        }
    });
    for number in 0..2 {
        assert_eq!(receiver.recv_by_poll(), Some(message(number, 8)));
    }
    there.join().unwrap();
}

#[test]
fn a_receiver_whose_time_is_over_loses_nothing() {
    assert!(check(receiver_gives_up).futex_sleeps > 0);
}

/// The receiver gives up at any moment, also between the waker's swap and its wake-up, and then sleeps until woken.
pub(crate) fn receiver_gives_up() {
    let (mut sender, mut receiver) = one_way(RING, 0);
    let there = thread::spawn(move || {
        for number in 0..2 {
            sender.try_post(&message(number, 8)).unwrap();
        }
    });
    doorbell::sleep(receiver.end.incoming.data_doorbell(), FUTEX, || receiver.is_ready(), || {});
    for number in 0..2 {
        assert_eq!(receiver.recv(), Some(message(number, 8)));
    }
    there.join().unwrap();
}

#[test]
fn a_sender_whose_time_is_over_loses_nothing() {
    let tally = check(sender_gives_up);
    assert!(tally.futex_sleeps > 0 && tally.full > 0);
}

pub(crate) fn sender_gives_up() {
    let (mut sender, mut receiver) = one_way(RING, 1);
    let longest = max_payload(RING);
    let queued = fill_queue(&mut sender, longest);
    let there = thread::spawn(move || {
        let space = sender.end.outgoing.space_doorbell();
        doorbell::sleep(space, FUTEX, || sender.producer.claim(longest).is_ok(), || {});
        sender.post(&message(10, longest)).unwrap();
    });
    for data in queued {
        assert_eq!(receiver.try_recv(), Some(data));
    }
    there.join().unwrap();
    assert_eq!(receiver.try_recv(), Some(message(10, longest)));
}

#[test]
fn a_wake_up_that_could_not_be_sent_is_sent_by_the_next_post() {
    let tally = check(unsent_wake_up);
    assert!(tally.unsent > 0 && tally.lane_sleeps > 0);
}

pub(crate) fn unsent_wake_up() {
    let (mut sender, mut receiver) = one_way(RING, 0);
    receiver.end.lane.refuse(1);
    let there = thread::spawn(move || {
        for number in 0..2 {
            sender.try_post(&message(number, 8)).unwrap();
        }
    });
    assert_eq!(receiver.recv_by_poll(), Some(message(0, 8)));
    there.join().unwrap();
    assert_eq!(receiver.try_recv(), Some(message(1, 8)));
}

#[test]
fn a_note_is_not_put_back_over_a_newer_one() {
    let tally = check(newer_note);
    assert!(tally.unsent > 0 && tally.futex_sleeps > 0);
}

/// The first post takes the event loop's note, and its packet is refused. If the note were put back over that of a
/// sleep on the futex that has begun meanwhile, the second post would send a packet that wakes no sleeper.
pub(crate) fn newer_note() {
    let (mut sender, mut receiver) = one_way(RING, 0);
    receiver.end.lane.refuse(1);
    doorbell::arm(receiver.end.incoming.data_doorbell(), FD);
    let there = thread::spawn(move || {
        for number in 0..2 {
            sender.try_post(&message(number, 8)).unwrap();
        }
    });
    for number in 0..2 {
        assert_eq!(receiver.recv(), Some(message(number, 8)));
    }
    there.join().unwrap();
}
