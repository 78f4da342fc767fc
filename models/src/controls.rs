//! Controls: what the models would say if the library were wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::thread;

use crate::doorbell;
use crate::ends::{ends, message};
use crate::models::check;
use crate::record::Kind;
use crate::sync::{Fault, inject};

/// True if the model fails with `fault`.
fn is_caught(fault: Fault, model: impl Fn() + Sync + Send + 'static) -> bool {
    inject(fault);
    let result = catch_unwind(AssertUnwindSafe(|| check(model)));
    inject(Fault::None);
    result.is_err()
}

fn one_message_to_a_sleeper() {
    let (mut sender, mut receiver) = ends(128, 0);
    let there = thread::spawn(move || sender.post(&message(1, 16)));
    assert_eq!(receiver.recv(), Some(message(1, 16)));
    there.join().unwrap();
}

#[test]
fn the_model_itself_holds() {
    assert!(!is_caught(Fault::None, one_message_to_a_sleeper));
}

#[test]
fn a_missing_release_is_caught() {
    assert!(is_caught(Fault::NoRelease, one_message_to_a_sleeper));
}

#[test]
fn a_missing_fence_after_the_commit_is_caught() {
    assert!(is_caught(Fault::NoFenceAfterStore, one_message_to_a_sleeper));
}

#[test]
fn a_missing_fence_in_the_sleeper_is_caught() {
    assert!(is_caught(Fault::NoFenceInSleeper, one_message_to_a_sleeper));
}

#[test]
fn a_commit_before_the_copy_is_caught() {
    assert!(is_caught(Fault::None, || {
        let (mut sender, mut receiver) = ends(128, 0);
        let there = thread::spawn(move || {
            let data = message(1, 16);
            let slot = sender.producer.reserve(data.len()).unwrap();
            sender.producer.commit(slot, data.len(), Kind::Data, 0);
            sender.producer.write(slot, 0, &data);
            doorbell::ring_if_asleep(sender.direction.data(), || true);
        });
        assert_eq!(receiver.recv(), Some(message(1, 16)));
        there.join().unwrap();
    }));
}

#[test]
fn space_given_back_before_it_was_read_is_caught() {
    assert!(is_caught(Fault::None, || {
        let (mut sender, mut receiver) = ends(128, 0);
        let longest = 48;
        sender.try_post(&message(0, longest), || true).unwrap();
        sender.try_post(&message(1, longest), || true).unwrap();
        let there = thread::spawn(move || sender.post(&message(2, longest)));
        let record = receiver.consumer.peek().unwrap().unwrap();
        if receiver.consumer.release(record) {
            doorbell::ring_if_asleep(receiver.direction.space(), || true);
        }
        let mut data = Vec::new();
        receiver.consumer.read_to_vec(record, &mut data);
        assert_eq!(data, message(0, longest));
        there.join().unwrap();
    }));
}
