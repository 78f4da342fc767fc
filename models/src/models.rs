//! The models: what must hold in every interleaving.

use loom::thread;
use std::sync::Arc;

use crate::ends::{Lane, ends, message};
use crate::record::max_payload;
use crate::ring::NoRoom;
use crate::sync::Ordering;

/// The smallest ring in which records, pads and announcements are all different things.
const RING: usize = 128;

pub(crate) fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.max_branches = 20_000;
    builder.check(model);
}

#[test]
fn messages_arrive_whole_and_in_order() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let there = thread::spawn(move || {
            for number in 0..2 {
                sender.try_post(&message(number, 16), || true).unwrap();
            }
        });
        let mut received = Vec::new();
        while received.len() < 2 {
            match receiver.try_recv() {
                Some(data) => received.push(data),
                None => thread::yield_now(),
            }
        }
        there.join().unwrap();
        assert_eq!(received, [message(0, 16), message(1, 16)]);
    });
}

#[test]
fn a_record_and_the_pad_before_it_appear_together() {
    check(|| {
        // 13 headers on: a record of 32 does not fit the 24 bytes that are left.
        let (mut sender, mut receiver) = ends(RING, 13);
        let there = thread::spawn(move || sender.try_post(&message(1, 24), || true).unwrap());
        let received = loop {
            match receiver.try_recv() {
                Some(data) => break data,
                None => thread::yield_now(),
            }
        };
        there.join().unwrap();
        assert_eq!(received, message(1, 24));
    });
}

#[test]
fn full_ends_when_something_was_read() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let longest = max_payload(RING);
        let there = thread::spawn(move || {
            for number in 0..3 {
                while sender.try_post(&message(number, longest), || true) == Err(NoRoom::Full) {
                    thread::yield_now();
                }
            }
        });
        for number in 0..3 {
            let received = loop {
                match receiver.try_recv() {
                    Some(data) => break data,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(received, message(number, longest));
        }
        there.join().unwrap();
    });
}

#[test]
fn a_sleeping_receiver_is_woken() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let there = thread::spawn(move || {
            for number in 0..2 {
                sender.post(&message(number, 8));
            }
        });
        for number in 0..2 {
            assert_eq!(receiver.recv(), Some(message(number, 8)));
        }
        there.join().unwrap();
    });
}

#[test]
fn a_sleeping_sender_is_woken_at_every_offset() {
    for skip in [0, 3, 9, 15] {
        check(move || {
            let (mut sender, mut receiver) = ends(RING, skip);
            let longest = max_payload(RING);
            // The ring is full before the receiver looks for the first time.
            let mut posted = 0;
            while sender.try_post(&message(posted, longest), || true).is_ok() {
                posted += 1;
            }
            let there = thread::spawn(move || sender.post(&message(posted, longest)));
            // This receiver never waits: it only looks, and yields when there is nothing.
            for number in 0..=posted {
                let received = loop {
                    match receiver.try_recv() {
                        Some(data) => break data,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(received, message(number, longest));
            }
            there.join().unwrap();
        });
    }
}

#[test]
fn a_sleeping_sender_of_a_small_message_is_woken_by_small_ones() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let mut posted = 0;
        while sender.try_post(&message(posted, 24), || true).is_ok() {
            posted += 1;
        }
        let there = thread::spawn(move || sender.post(&message(posted, 24)));
        for number in 0..=posted {
            assert_eq!(receiver.recv(), Some(message(number, 24)));
        }
        there.join().unwrap();
    });
}

#[test]
fn both_doorbells_of_a_direction_at_once() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let longest = max_payload(RING);
        let there = thread::spawn(move || {
            for number in 0..3 {
                sender.post(&message(number, longest));
            }
        });
        for number in 0..3 {
            assert_eq!(receiver.recv(), Some(message(number, longest)));
        }
        there.join().unwrap();
    });
}

#[test]
fn a_receiver_that_goes_from_the_futex_to_the_lane_is_woken() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let lane = Arc::new(Lane::new());
        let knocked = Arc::clone(&lane);
        let there = thread::spawn(move || sender.try_post(&message(1, 8), || knocked.knock()).unwrap());
        assert_eq!(receiver.recv_on_lane(&lane), message(1, 8));
        there.join().unwrap();
    });
}

#[test]
fn a_sleeper_whose_time_is_over_loses_nothing() {
    check(|| {
        use crate::doorbell::{FUTEX, sleep};
        let (mut sender, mut receiver) = ends(RING, 0);
        let there = thread::spawn(move || {
            for number in 0..2 {
                sender.post(&message(number, 8));
            }
        });
        // Gives up at any moment, also between the waker's swap and its wake-up; then sleeps in earnest.
        sleep(receiver.direction.data(), FUTEX, || receiver.is_ready(), || {});
        for number in 0..2 {
            assert_eq!(receiver.recv(), Some(message(number, 8)));
        }
        there.join().unwrap();
    });
}

#[test]
fn a_close_wakes_the_receiver_after_the_last_message() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let there = thread::spawn(move || {
            sender.post(&message(1, 8));
            sender.close(|| true);
        });
        assert_eq!(receiver.recv(), Some(message(1, 8)));
        assert_eq!(receiver.recv(), None);
        there.join().unwrap();
    });
}

#[test]
fn both_ends_close_at_once() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let there = thread::spawn(move || {
            sender.post(&message(1, 8));
            sender.close(|| true);
            sender.direction.consumer_state().load(Ordering::Acquire)
        });
        receiver.close();
        // What was posted before is still whole.
        let received = receiver.recv();
        assert!(received.is_none_or(|data| data == message(1, 8)));
        there.join().unwrap();
    });
}

#[test]
fn a_wake_up_that_could_not_be_sent_is_sent_by_the_next_post() {
    check(|| {
        let (mut sender, mut receiver) = ends(RING, 0);
        let lane = Arc::new(Lane::new());
        let knocked = Arc::clone(&lane);
        let there = thread::spawn(move || {
            sender.try_post(&message(0, 8), || false).unwrap();
            sender.try_post(&message(1, 8), || knocked.knock()).unwrap();
        });
        assert_eq!(receiver.recv_on_lane(&lane), message(0, 8));
        there.join().unwrap();
        assert_eq!(receiver.try_recv(), Some(message(1, 8)));
    });
}

#[test]
fn memory_zeroed_in_advance_is_not_in_use() {
    check(|| {
        let (mut sender, mut receiver) = ends(256, 20);
        let there = thread::spawn(move || {
            for number in 0..3 {
                while sender.try_post(&message(number, 64), || true) == Err(NoRoom::Full) {
                    thread::yield_now();
                }
                sender.producer.clear_ahead(64);
            }
        });
        for number in 0..3 {
            let received = loop {
                match receiver.try_recv() {
                    Some(data) => break data,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(received, message(number, 64));
        }
        there.join().unwrap();
    });
}
