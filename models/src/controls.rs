//! Controls: a model with a planted fault must fail, with the symptom of that fault.

use crate::check::check_with;
use crate::closing::{own_close_beside_a_post, own_receiver_closed, own_sender_closed, receiver_closes, sender_closes};
use crate::ends::RecvHalf;
use crate::faults::Fault;
use crate::growing::{goes_back, grows, receiver_sleeps_at_link, sender_sleeps_ahead};
use crate::passing::{full, full_of_a_stream, in_order, laps, published_by_an_empty_poll};
use crate::waiting::{
    both_doorbells, event_loop, from_futex_to_lane, pad_wakes, receiver_sleeps, sender_sleeps, small_messages,
    unsent_wake_up,
};

/// A wake-up was lost: all threads sleep.
const LOST_WAKE_UP: &str = "deadlock";
/// A word is read and written with no order between the two accesses.
const RACE: &str = "Causality violation";
/// What a model received differs from what was posted.
const WRONG_DATA: &str = "assertion `left == right` failed";
/// The consumer decoded a word that is not a header.
const WRONG_HEADER: &str = "called `Result::unwrap()` on an `Err` value";
/// A link leads to a ring that is not on the lane.
const NO_RING: &str = "the ring was sent before the link";

#[track_caller]
fn caught(fault: Fault, symptom: &str, model: impl Fn() + Send + Sync + 'static) {
    match check_with(fault, model) {
        Ok(tally) => panic!("{fault:?} was not caught: {tally:?}"),
        Err(text) => assert!(text.contains(symptom), "{fault:?} was caught with another symptom: {text}"),
    }
}

#[test]
fn a_commit_that_is_not_released() {
    caught(Fault::CommitNotReleased, RACE, in_order);
}

#[test]
fn a_cursor_that_is_not_released() {
    caught(Fault::CursorNotReleased, RACE, full);
    caught(Fault::CursorNotReleased, RACE, published_by_an_empty_poll);
}

#[test]
fn a_commit_before_the_copy() {
    caught(Fault::CommitBeforeCopy, RACE, in_order);
}

#[test]
fn a_release_before_the_copy() {
    caught(Fault::ReleaseBeforeCopy, RACE, full);
}

#[test]
fn lines_that_are_owned_after_the_release() {
    caught(Fault::OwnAfterRelease, RACE, full_of_a_stream);
}

#[test]
fn a_next_header_that_is_not_zeroed() {
    caught(Fault::NextHeaderNotZeroed, WRONG_HEADER, || laps(0));
}

#[test]
fn no_fence_after_the_commit() {
    caught(Fault::NoFenceAfterCommit, LOST_WAKE_UP, receiver_sleeps);
    caught(Fault::NoFenceAfterCommit, LOST_WAKE_UP, pad_wakes);
    caught(Fault::NoFenceAfterCommit, LOST_WAKE_UP, event_loop);
}

#[test]
fn no_fence_after_the_announcement() {
    caught(Fault::NoFenceAfterAnnouncement, LOST_WAKE_UP, || sender_sleeps(0, false));
    caught(Fault::NoFenceAfterAnnouncement, LOST_WAKE_UP, || small_messages(1));
}

#[test]
fn a_sender_that_wants_too_much_room() {
    caught(Fault::WantsTooMuch, LOST_WAKE_UP, || sender_sleeps(0, false));
    caught(Fault::WantsTooMuch, LOST_WAKE_UP, || small_messages(1));
}

#[test]
fn no_fence_between_the_note_and_the_last_poll() {
    caught(Fault::NoFenceInSleeper, LOST_WAKE_UP, receiver_sleeps);
    caught(Fault::NoFenceInSleeper, LOST_WAKE_UP, || sender_sleeps(0, false));
    caught(Fault::NoFenceInSleeper, LOST_WAKE_UP, || both_doorbells(0));
    caught(Fault::NoFenceInSleeper, LOST_WAKE_UP, event_loop);
}

#[test]
fn a_note_that_is_not_swapped() {
    caught(Fault::NoteNotSwapped, LOST_WAKE_UP, from_futex_to_lane);
}

#[test]
fn a_note_that_is_not_put_back() {
    caught(Fault::NoteNotPutBack, LOST_WAKE_UP, unsent_wake_up);
}

#[test]
fn a_lane_that_is_drained_after_the_doorbell_was_armed() {
    caught(Fault::DrainAfterArm, LOST_WAKE_UP, event_loop);
}

#[test]
fn no_fence_in_close() {
    caught(Fault::NoFenceInClose, LOST_WAKE_UP, || sender_closes(RecvHalf::recv));
    caught(Fault::NoFenceInClose, LOST_WAKE_UP, receiver_closes);
}

#[test]
fn a_close_that_does_not_wait_for_a_post() {
    caught(Fault::PostNotMarked, WRONG_DATA, own_close_beside_a_post);
    caught(Fault::NoFenceInPost, WRONG_DATA, own_close_beside_a_post);
}

#[test]
fn own_halves_that_are_not_rung_by_a_close() {
    caught(Fault::OwnHalvesNotRung, LOST_WAKE_UP, own_receiver_closed);
    caught(Fault::OwnHalvesNotRung, LOST_WAKE_UP, own_sender_closed);
}

#[test]
fn a_link_before_its_ring() {
    caught(Fault::LinkBeforeRing, NO_RING, || grows(0));
}

#[test]
fn a_queue_that_goes_back_too_early() {
    caught(Fault::BackTooEarly, WRONG_DATA, || grows(0));
}

#[test]
fn a_queue_that_goes_back_to_an_old_header() {
    caught(Fault::BackHeaderNotZeroed, WRONG_HEADER, || goes_back(0));
}

#[test]
fn no_fence_after_a_link_or_before_the_last_poll_of_one() {
    caught(Fault::NoFenceAfterCommit, LOST_WAKE_UP, receiver_sleeps_at_link);
    caught(Fault::NoFenceAfterAnnouncement, LOST_WAKE_UP, sender_sleeps_ahead);
    caught(Fault::NoFenceInSleeper, LOST_WAKE_UP, sender_sleeps_ahead);
}
