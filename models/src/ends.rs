//! The ends of a channel as the library drives them: `end/mod.rs`, `end/growth.rs`, `port/post.rs`, `port/recv.rs` and
//! the drops of `port/mod.rs`, without what needs an operating system.
//!
//! Each function names the function of the library that it follows. Its atomic accesses have the orderings, and the
//! partners, that are stated there.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, fence};

use crate::check::note;
use crate::end::lane::Lane;
use crate::end::wait::{Deadline, Outcome, Spin, Waiter};
use crate::faults::{Fault, has, note_going_back};
use crate::queue::direction::Direction;
use crate::queue::doorbell::{self, FD};
use crate::queue::record::RecordKind;
use crate::queue::ring::{Claim, Consumer, Cursors, NoRoom, Producer, Record};
use crate::queue::sync::{AtomicU32, Ordering};

/// State word of a side: the side goes on.
const OPEN: u32 = 0;
/// State word of a side: its end is closed.
const CLOSED: u32 = 1;
/// State word of a consumer: the receiving half was dropped.
const DISCARDING: u32 = 2;

/// `End::state`, beside `OPEN` and `CLOSED`: `PeerClosed` and `PeerDied` in one.
const PEER_GONE: u32 = 3;

/// A growth limit that no ring reaches: the queue does not grow.
const NO_GROWTH: u64 = 0;

/// `End`.
pub(crate) struct End {
    pub(crate) outgoing: Direction,
    pub(crate) incoming: Direction,
    pub(crate) lane: Lane,
    state: AtomicU32,
    /// Not atomic: set before the halves go to other threads.
    split: Cell<bool>,
    posting: AtomicBool,
    announced: AtomicBool,
}

pub(crate) struct SendHalf {
    pub(crate) end: Arc<End>,
    pub(crate) producer: Producer,
}

pub(crate) struct RecvHalf {
    pub(crate) end: Arc<End>,
    pub(crate) consumer: Consumer,
    /// True if the messages are a stream, whose lines the receiver owns after it has read them. Off in most models: it
    /// zeroes old headers, which hides faults.
    pub(crate) streams: bool,
}

/// Why nothing was posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PostDataError {
    Full,
    PortClosed,
    PeerGone,
}

/// This end is closed.
pub(crate) struct PortClosed;

/// Both ends of a new channel, with rings of `there` and `back` bytes.
pub(crate) fn channel(there: usize, back: usize) -> [(SendHalf, RecvHalf); 2] {
    let (there, back, lanes) = (Direction::new(there), Direction::new(back), Lane::pair());
    let end = |outgoing: &Direction, incoming: &Direction, lane| {
        let (outgoing, incoming) = (outgoing.clone(), incoming.clone());
        let producer = Producer::new(outgoing.clone(), Cursors::START);
        let consumer = Consumer::new(incoming.clone(), Cursors::START);
        let end = Arc::new(End {
            outgoing,
            incoming,
            lane,
            state: AtomicU32::new(OPEN),
            split: Cell::new(false),
            posting: AtomicBool::new(false),
            announced: AtomicBool::new(false),
        });
        (SendHalf { end: Arc::clone(&end), producer }, RecvHalf { end, consumer, streams: false })
    };
    [end(&there, &back, lanes.0), end(&back, &there, lanes.1)]
}

/// The two halves that one direction needs, after `skip` empty messages: these set the offset in the ring, and how far
/// the last announcement is behind the cursor.
pub(crate) fn one_way(capacity: usize, skip: usize) -> (SendHalf, RecvHalf) {
    let [(mut sender, _), (_, mut receiver)] = channel(capacity, 0);
    for _ in 0..skip {
        sender.try_post(&[]).unwrap();
        assert_eq!(receiver.try_recv(), Some(vec![]));
        assert_eq!(receiver.try_recv(), None);
    }
    (sender, receiver)
}

/// A message of `len` bytes that differs from every other message, and from a header.
pub(crate) fn message(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64 / 8).flat_map(|word| (number * 1000 + word + 1).to_ne_bytes()).collect()
}

impl End {
    /// `End::state`.
    fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    /// `End::set_state`.
    fn set_state(&self, state: u32) -> bool {
        let leave = |old| (old == OPEN || old == PEER_GONE && state == CLOSED).then_some(state);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, leave).is_ok()
    }

    /// `End::peer_has_closed`.
    fn peer_has_closed(&self) -> bool {
        self.incoming.producer_state().load(Ordering::Acquire) == CLOSED
    }

    /// `RecvHalf::peer_is_gone`.
    fn peer_is_gone(&self) -> bool {
        self.peer_has_closed() || self.state() != OPEN
    }

    /// `SendHalf::find_peer`: true if the peer receives, false if it discards.
    fn find_peer(&self) -> Result<bool, PostDataError> {
        if self.state() == PEER_GONE {
            return Err(PostDataError::PeerGone);
        }
        match self.outgoing.consumer_state().load(Ordering::Acquire) {
            CLOSED => Err(self.no_receiver()),
            state => Ok(state != DISCARDING),
        }
    }

    /// `SendHalf::no_receiver`.
    fn no_receiver(&self) -> PostDataError {
        if self.state() == CLOSED {
            return PostDataError::PortClosed;
        }
        self.set_state(PEER_GONE);
        PostDataError::PeerGone
    }

    /// `End::close`.
    pub(crate) fn close(&self) {
        if self.set_state(CLOSED) {
            self.announce_close();
        }
    }

    /// `End::note_split`.
    pub(crate) fn note_split(&self) {
        self.split.set(true);
    }

    /// `End::posting`.
    fn posting(&self) -> Option<Posting<'_>> {
        let marks = self.split.get() && !has(Fault::PostNotMarked);
        marks.then(|| {
            self.posting.store(true, Ordering::SeqCst);
            if !has(Fault::NoFenceInPost) {
                fence(Ordering::SeqCst);
            }
            Posting(self)
        })
    }

    /// `End::announce_close`.
    fn announce_close(&self) {
        fence(Ordering::SeqCst);
        if self.posting.load(Ordering::SeqCst) || self.announced.swap(true, Ordering::AcqRel) {
            return;
        }
        self.outgoing.producer_state().store(CLOSED, Ordering::Release);
        self.incoming.consumer_state().store(CLOSED, Ordering::Release);
        // Not `sync::fence`, which has a fault of its own.
        if !has(Fault::NoFenceInClose) {
            fence(Ordering::SeqCst);
        }
        self.wake_peer_consumer();
        self.wake_peer_producer();
        if !has(Fault::OwnHalvesNotRung) {
            doorbell::ring(self.incoming.data_doorbell(), || true);
            doorbell::ring(self.outgoing.space_doorbell(), || true);
        }
        self.lane.hang_up();
    }

    /// `End::discard_arrivals`.
    fn discard_arrivals(&self) {
        let state = self.incoming.consumer_state();
        let _ = state.compare_exchange(OPEN, DISCARDING, Ordering::Release, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.wake_peer_producer();
    }

    /// `End::wake_peer_consumer`.
    fn wake_peer_consumer(&self) {
        doorbell::ring_if_asleep(self.outgoing.data_doorbell(), || self.lane.wake());
    }

    /// `End::wake_peer_producer`.
    fn wake_peer_producer(&self) {
        doorbell::ring_if_asleep(self.incoming.space_doorbell(), || unreachable!("a producer never sleeps on a lane"));
    }
}

/// `Posting`.
struct Posting<'a>(&'a End);

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        // A model that has failed drops its guards outside loom.
        if std::thread::panicking() {
            return;
        }
        self.0.posting.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.0.state() == CLOSED {
            self.0.announce_close();
        }
    }
}

impl SendHalf {
    /// `SendHalf::post_data`, for a queue that does not grow.
    pub(crate) fn try_post(&mut self, data: &[u8]) -> Result<(), PostDataError> {
        self.post_growing(data, NO_GROWTH)
    }

    /// `SendHalf::post_data`, for a queue with rings of up to `largest` bytes.
    pub(crate) fn post_growing(&mut self, data: &[u8], largest: u64) -> Result<(), PostDataError> {
        if self.try_post_inline(data) { Ok(()) } else { self.post_data_checked(data, largest) }
    }

    /// `SendHalf::post_data_by`, without a deadline.
    pub(crate) fn post(&mut self, data: &[u8]) -> Result<(), PostDataError> {
        loop {
            match self.try_post(data) {
                Err(PostDataError::Full) => self.wait_for_space(data.len())?,
                result => return result,
            }
        }
    }

    /// `SendHalf::try_post_inline`.
    fn try_post_inline(&mut self, data: &[u8]) -> bool {
        let end = Arc::clone(&self.end);
        let _posting = end.posting();
        // `SendHalf::ready`.
        if self.end.state() != OPEN || self.end.outgoing.consumer_state().load(Ordering::Acquire) != OPEN {
            return false;
        }
        // `try_claim` stands in `SendHalf::post_unprepared`.
        let claim = self.producer.claim_prepared(data.len()).or_else(|| self.producer.try_claim(data.len()));
        let Some(claim) = claim else { return false };
        self.fill_and_publish(claim, data);
        true
    }

    /// `SendHalf::post_data_checked`.
    fn post_data_checked(&mut self, data: &[u8], largest: u64) -> Result<(), PostDataError> {
        let end = Arc::clone(&self.end);
        let _posting = end.posting();
        // `SendHalf::open`.
        if self.end.state() == CLOSED {
            return Err(PostDataError::PortClosed);
        }
        if self.end.find_peer()? {
            let claim = self.find_room(data.len(), largest)?;
            self.fill_and_publish(claim, data);
        }
        Ok(())
    }

    /// `Producer::fill`, then `SendHalf::publish`.
    fn fill_and_publish(&mut self, claim: Claim, data: &[u8]) {
        if has(Fault::CommitBeforeCopy) {
            self.producer.commit(claim, data.len(), RecordKind::Data, 0);
            self.producer.fill(claim, data);
        } else {
            self.producer.fill(claim, data);
            self.producer.commit(claim, data.len(), RecordKind::Data, 0);
        }
        self.end.wake_peer_consumer();
        self.producer.prepare_next(data.len());
    }

    /// `SendHalf::find_room`.
    fn find_room(&mut self, len: usize, largest: u64) -> Result<Claim, PostDataError> {
        if self.producer.direction().is_grown() {
            self.shrink();
        }
        match self.producer.claim(len) {
            Ok(claim) => Ok(claim),
            Err(NoRoom::Violation(violation)) => panic!("{violation}"),
            Err(NoRoom::Full) if 2 * self.producer.direction().capacity() <= largest => {
                self.grow();
                self.find_room(len, NO_GROWTH)
            }
            Err(NoRoom::Full) => Err(self.full()),
        }
    }

    /// `growth::grow`.
    fn grow(&mut self) {
        let (ring, sequence) = (self.producer.direction().in_next_ring(), self.producer.sequence());
        if has(Fault::LinkBeforeRing) {
            self.producer.go_on_in(ring.clone(), RecordKind::Next);
            self.end.lane.send_ring(sequence, &ring);
        } else {
            self.end.lane.send_ring(sequence, &ring);
            self.producer.go_on_in(ring, RecordKind::Next);
        }
    }

    /// `growth::shrink_if_done`.
    fn shrink(&mut self) {
        if self.producer.is_done_with_ring().unwrap() || has(Fault::BackTooEarly) {
            note_going_back(true);
            self.producer.go_on_in(self.end.outgoing.clone(), RecordKind::Back);
            note_going_back(false);
        }
    }

    /// `SendHalf::full`.
    fn full(&self) -> PostDataError {
        if self.end.lane.hung_up() {
            return self.end.no_receiver();
        }
        note(|tally| tally.full += 1);
        PostDataError::Full
    }

    /// `SendHalf::wait_for_space`.
    fn wait_for_space(&mut self, len: usize) -> Result<(), PostDataError> {
        let (end, spin) = (&self.end, Spin::new());
        let waiter =
            Waiter { doorbell: end.outgoing.space_doorbell(), lane: &end.lane, spin: &spin, deadline: Deadline::Never };
        self.producer.want(Some(len));
        let producer = std::cell::RefCell::new(&mut self.producer);
        let ready = || {
            let has_room = producer.borrow_mut().claim(len) != Err(NoRoom::Full);
            has_room || end.state() != OPEN || end.find_peer() != Ok(true)
        };
        match waiter.wait(ready, None) {
            Ok(Outcome::Ready) => Ok(()),
            Ok(Outcome::HungUp) => Err(end.no_receiver()),
            outcome => unreachable!("{outcome:?}"),
        }
    }
}

impl RecvHalf {
    /// `RecvHalf::try_recv`. `None` if no message is there, or this end is closed.
    pub(crate) fn try_recv(&mut self) -> Option<Vec<u8>> {
        self.receive(false).ok().flatten()
    }

    /// `RecvHalf::recv`. `None` at the end of the channel.
    pub(crate) fn recv(&mut self) -> Option<Vec<u8>> {
        self.recv_with(true, Self::sleep)
    }

    /// The use of `AsFd`: `RecvHalf::try_recv` until it returns `Empty`, then the caller's own poll(2), and again.
    /// `None` at the end of the channel.
    pub(crate) fn recv_by_poll(&mut self) -> Option<Vec<u8>> {
        self.recv_with(false, Self::check_lane_and_sleep)
    }

    /// `RecvHalf::receive` and `RecvHalf::wait`, which returns by `sleep`.
    fn recv_with(&mut self, waits: bool, sleep: fn(&Self)) -> Option<Vec<u8>> {
        loop {
            if let Some(data) = self.receive(waits).ok()? {
                return Some(data);
            }
            if self.end.peer_is_gone() {
                // The peer announced its end, or was seen to be gone, after its last post. One more poll decides.
                if !self.consumer.has_record() {
                    return None;
                }
            } else {
                sleep(self);
            }
        }
    }

    /// `RecvHalf::receive`, up to the wait. `Ok(None)` if no message is there.
    fn receive(&mut self, waits: bool) -> Result<Option<Vec<u8>>, PortClosed> {
        let record = match self.try_next(waits) {
            Some(record) => record,
            // `RecvHalf::open`, in `RecvHalf::next_checked`.
            None if self.end.state() == CLOSED => return Err(PortClosed),
            None => match self.peek() {
                Some(record) => record,
                None => {
                    note(|tally| tally.empty_polls += 1);
                    return Ok(None);
                }
            },
        };
        let mut data = Vec::new();
        if !has(Fault::ReleaseBeforeCopy) {
            self.consumer.read_to_vec(record, &mut data);
        }
        self.release(record);
        if has(Fault::ReleaseBeforeCopy) {
            self.consumer.read_to_vec(record, &mut data);
        }
        Ok(Some(data))
    }

    /// `RecvHalf::try_next`.
    fn try_next(&mut self, waits: bool) -> Option<Record> {
        if self.end.state() != OPEN {
            return None;
        }
        let mut word = self.consumer.poll();
        if word == 0 && waits {
            self.consumer.publish();
            word = Spin::new().briefly(|| self.consumer.poll());
        }
        self.consumer.decode_common(word)
    }

    /// `growth::peek`.
    fn peek(&mut self) -> Option<Record> {
        loop {
            let record = self.consumer.next_record().unwrap()?;
            let ring = match record.kind {
                RecordKind::Next => {
                    note(|tally| tally.next += 1);
                    self.end.lane.take_ring(self.consumer.sequence()).expect("the ring was sent before the link")
                }
                RecordKind::Back => {
                    note(|tally| tally.back += 1);
                    assert!(self.consumer.direction().is_grown(), "back from the first ring");
                    self.end.incoming.clone()
                }
                _ => return Some(record),
            };
            self.consumer.pass().unwrap();
            if self.consumer.go_on_in(ring, record) {
                self.end.wake_peer_producer();
            }
        }
    }

    /// `RecvHalf::release`.
    fn release(&mut self, record: Record) {
        if self.streams && !has(Fault::OwnAfterRelease) {
            self.consumer.own_lines(record);
        }
        if self.consumer.release(record) {
            self.end.wake_peer_producer();
        }
        if self.streams && has(Fault::OwnAfterRelease) {
            self.consumer.own_lines(record);
        }
    }

    /// True if a waiting receiver has something to do.
    pub(crate) fn is_ready(&self) -> bool {
        self.consumer.has_record() || self.end.peer_is_gone()
    }

    /// `RecvHalf::wait` of a caller that waits.
    fn sleep(&self) {
        let (end, spin) = (&self.end, Spin::new());
        let waiter =
            Waiter { doorbell: end.incoming.data_doorbell(), lane: &end.lane, spin: &spin, deadline: Deadline::Never };
        match waiter.wait(|| self.is_ready(), Some(&|| end.lane.drain())) {
            Ok(Outcome::Ready) => {}
            Ok(Outcome::HungUp) => {
                end.set_state(PEER_GONE);
            }
            outcome => unreachable!("{outcome:?}"),
        }
    }

    /// `RecvHalf::check_lane` of a port that is polled, then the caller's poll(2).
    fn check_lane_and_sleep(&self) {
        if !has(Fault::DrainAfterArm) {
            self.end.lane.drain().unwrap();
        }
        doorbell::arm(self.end.incoming.data_doorbell(), FD);
        if has(Fault::DrainAfterArm) {
            self.end.lane.drain().unwrap();
        }
        if self.is_ready() {
            return;
        }
        if self.end.lane.hung_up() {
            self.end.set_state(PEER_GONE);
            return;
        }
        self.end.lane.sleep(Duration::MAX);
    }

    /// `RecvHalf::drop` while the sending half lives on.
    pub(crate) fn drop_half(mut self) {
        self.end.discard_arrivals();
        self.discard();
    }

    /// `capsule::discard`: drops what is unread.
    pub(crate) fn discard(&mut self) {
        while let Some(record) = self.peek() {
            if self.consumer.release(record) {
                self.end.wake_peer_producer();
            }
        }
        if self.consumer.announce() {
            self.end.wake_peer_producer();
        }
    }
}

/// A port that is dropped with both its halves: `RecvHalf::drop` and `SendHalf::drop`.
pub(crate) fn drop_port((sender, mut receiver): (SendHalf, RecvHalf)) {
    receiver.end.close();
    receiver.discard();
    drop(sender);
}
