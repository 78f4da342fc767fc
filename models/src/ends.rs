//! The ends of a channel as the library drives them: `end.rs`, `post.rs`, `recv.rs` and the drops of `port.rs`, less what
//! needs an operating system. Each function names the one that it follows.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::fence;

use crate::check::note;
use crate::end::lane::Lane;
use crate::end::wait::{Outcome, Spin, Waiter};
use crate::faults::{Fault, has, note_going_back};
use crate::queue::direction::Direction;
use crate::queue::doorbell::{self, FD};
use crate::queue::record::Kind;
use crate::queue::ring::{Consumer, Cursors, NoRoom, Producer, Record, Slot};
use crate::queue::sync::{AtomicU32, Ordering};

/// `producer_state` and `consumer_state` of an end that goes on.
const OPEN: u32 = 0;
const CLOSED: u32 = 1;
const DISCARDING: u32 = 2;

/// `End::state`, beside `OPEN` and `CLOSED`: `PeerClosed` and `PeerDied` in one.
const PEER_GONE: u32 = 3;

/// `End`.
pub(crate) struct End {
    pub(crate) outgoing: Direction,
    pub(crate) incoming: Direction,
    pub(crate) lane: Lane,
    state: AtomicU32,
}

/// `SendHalf`.
pub(crate) struct Sender {
    pub(crate) end: Arc<End>,
    pub(crate) producer: Producer,
}

/// `RecvHalf`.
pub(crate) struct Receiver {
    pub(crate) end: Arc<End>,
    pub(crate) consumer: Consumer,
}

/// Why nothing was posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotPosted {
    Full,
    Closed,
    PeerGone,
}

/// Both ends of a new channel, with rings of `there` and `back` bytes.
pub(crate) fn channel(there: usize, back: usize) -> [(Sender, Receiver); 2] {
    let (there, back, lanes) = (Direction::new(there), Direction::new(back), Lane::pair());
    let end = |outgoing: &Direction, incoming: &Direction, lane| {
        let (outgoing, incoming) = (outgoing.clone(), incoming.clone());
        let producer = Producer::new(outgoing.clone(), Cursors::START);
        let consumer = Consumer::new(incoming.clone(), Cursors::START);
        let end = Arc::new(End { outgoing, incoming, lane, state: AtomicU32::new(OPEN) });
        (Sender { end: Arc::clone(&end), producer }, Receiver { end, consumer })
    };
    [end(&there, &back, lanes.0), end(&back, &there, lanes.1)]
}

/// The two halves of a channel that one direction needs, after `skip` messages of no data: to start at another offset,
/// with another lag between the cursor and its announcement.
pub(crate) fn one_way(capacity: usize, skip: usize) -> (Sender, Receiver) {
    let [(mut sender, _), (_, mut receiver)] = channel(capacity, 0);
    for _ in 0..skip {
        sender.try_post(&[]).unwrap();
        assert_eq!(receiver.try_recv(), Some(vec![]));
        assert_eq!(receiver.try_recv(), None);
    }
    (sender, receiver)
}

/// A message of `len` bytes that can be told from every other one, and from a header.
pub(crate) fn message(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64 / 8).flat_map(|word| (number * 1000 + word + 1).to_ne_bytes()).collect()
}

impl End {
    fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    /// `set_state`.
    fn set_state(&self, state: u32) -> bool {
        let leave = |old| (old == OPEN || old == PEER_GONE && state == CLOSED).then_some(state);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, leave).is_ok()
    }

    /// `peer_has_closed`.
    fn peer_has_closed(&self) -> bool {
        self.incoming.producer_state().load(Ordering::Acquire) == CLOSED
    }

    /// `RecvHalf::peer_is_gone`.
    fn peer_is_gone(&self) -> bool {
        self.peer_has_closed() || self.state() != OPEN
    }

    /// `close`.
    pub(crate) fn close(&self) {
        if self.set_state(CLOSED) {
            self.announce_close();
        }
    }

    /// `announce_close`.
    fn announce_close(&self) {
        self.outgoing.producer_state().store(CLOSED, Ordering::Release);
        self.incoming.consumer_state().store(CLOSED, Ordering::Release);
        // Not `sync::fence`, which has a fault of its own.
        if !has(Fault::NoFenceInClose) {
            fence(Ordering::SeqCst);
        }
        self.wake_peer_consumer();
        self.wake_peer_producer();
        if !has(Fault::OwnHalvesNotRung) {
            doorbell::ring(self.incoming.data(), || true);
            doorbell::ring(self.outgoing.space(), || true);
        }
        self.lane.hang_up();
    }

    /// `discard_arrivals`.
    fn discard_arrivals(&self) {
        let state = self.incoming.consumer_state();
        let _ = state.compare_exchange(OPEN, DISCARDING, Ordering::Release, Ordering::Relaxed);
        self.wake_peer_producer();
    }

    /// `wake_peer_consumer`.
    fn wake_peer_consumer(&self) {
        doorbell::ring_if_asleep(self.outgoing.data(), || self.lane.wake());
    }

    /// `wake_peer_producer`.
    fn wake_peer_producer(&self) {
        doorbell::ring_if_asleep(self.incoming.space(), || unreachable!("a producer never sleeps on a lane"));
    }
}

impl Sender {
    /// `SendHalf::post`.
    pub(crate) fn try_post(&mut self, data: &[u8]) -> Result<(), NotPosted> {
        if self.end.state() == CLOSED {
            return Err(NotPosted::Closed);
        }
        if !self.finds_receiver()? {
            return Ok(());
        }
        // `SendHalf::post_straight`.
        if !has(Fault::CommitBeforeCopy) && self.producer.put(data) {
            self.committed(data.len());
            return Ok(());
        }
        let slot = self.find_room(data.len())?;
        self.commit(slot, data);
        Ok(())
    }

    /// `SendHalf::post_message`, with rings of up to `largest` bytes.
    pub(crate) fn post_growing(&mut self, data: &[u8], largest: u64) -> Result<(), NotPosted> {
        match self.try_post(data) {
            Err(NotPosted::Full) if 2 * self.producer.direction().capacity() <= largest => self.grow(),
            result => return result,
        }
        let slot = self.find_room(data.len())?;
        self.commit(slot, data);
        Ok(())
    }

    /// `SendHalf::find_room`, without growth.
    fn find_room(&mut self, len: usize) -> Result<Slot, NotPosted> {
        if self.producer.direction().is_grown() {
            self.shrink();
        }
        match self.producer.reserve(len) {
            Ok(slot) => Ok(slot),
            Err(NoRoom::Full) if self.end.lane.hung_up() => Err(self.peer_gone()),
            Err(NoRoom::Full) => {
                note(|seen| seen.full += 1);
                Err(NotPosted::Full)
            }
            Err(NoRoom::Violation(violation)) => panic!("{violation}"),
        }
    }

    /// `growth::grow`.
    fn grow(&mut self) {
        let (ring, sequence) = (self.producer.direction().in_next_ring(), self.producer.sequence());
        if has(Fault::LinkBeforeRing) {
            self.producer.go_on_in(ring.clone(), Kind::Next);
            self.end.lane.send_ring(sequence, &ring);
        } else {
            self.end.lane.send_ring(sequence, &ring);
            self.producer.go_on_in(ring, Kind::Next);
        }
    }

    /// `growth::shrink`.
    fn shrink(&mut self) {
        if self.producer.unread().unwrap() == 0 || has(Fault::BackTooEarly) {
            note_going_back(true);
            self.producer.go_on_in(self.end.outgoing.clone(), Kind::Back);
            note_going_back(false);
        }
    }

    fn commit(&mut self, slot: Slot, data: &[u8]) {
        if has(Fault::CommitBeforeCopy) {
            self.producer.commit(slot, data.len(), Kind::Data, 0);
            self.producer.write(slot, 0, data);
        } else {
            self.producer.write(slot, 0, data);
            self.producer.commit(slot, data.len(), Kind::Data, 0);
        }
        self.committed(data.len());
    }

    fn committed(&mut self, len: usize) {
        self.end.wake_peer_consumer();
        self.producer.clear_ahead(len);
    }

    /// `SendHalf::post_message_wait`, without a deadline.
    pub(crate) fn post(&mut self, data: &[u8]) -> Result<(), NotPosted> {
        loop {
            match self.try_post(data) {
                Err(NotPosted::Full) => self.wait_for_space(data.len())?,
                result => return result,
            }
        }
    }

    /// `SendHalf::wait_for_space`.
    fn wait_for_space(&mut self, len: usize) -> Result<(), NotPosted> {
        let (end, spin) = (&self.end, Spin::new());
        let waiter = Waiter { doorbell: end.outgoing.space(), lane: &end.lane, spin: &spin, deadline: None };
        let producer = std::cell::RefCell::new(&mut self.producer);
        let ready = || {
            let has_room = producer.borrow_mut().reserve(len) != Err(NoRoom::Full);
            has_room || end.state() != OPEN || end.outgoing.consumer_state().load(Ordering::Acquire) != OPEN
        };
        match waiter.wait(ready, None) {
            Ok(Outcome::Ready) => Ok(()),
            Ok(Outcome::HungUp) => Err(self.peer_gone()),
            outcome => unreachable!("{outcome:?}"),
        }
    }

    /// `SendHalf::find_peer`: whether messages are received, or dropped.
    fn finds_receiver(&self) -> Result<bool, NotPosted> {
        if self.end.state() == PEER_GONE {
            return Err(NotPosted::PeerGone);
        }
        match self.end.outgoing.consumer_state().load(Ordering::Acquire) {
            CLOSED => Err(self.peer_gone()),
            state => Ok(state != DISCARDING),
        }
    }

    fn peer_gone(&self) -> NotPosted {
        self.end.set_state(PEER_GONE);
        NotPosted::PeerGone
    }
}

impl Receiver {
    /// `growth::peek`.
    fn peek(&mut self) -> Option<Record> {
        loop {
            let record = self.consumer.peek().unwrap()?;
            let ring = match record.kind {
                Kind::Next => {
                    note(|seen| seen.next += 1);
                    self.end.lane.take_ring(self.consumer.sequence()).expect("the ring was sent before the link")
                }
                Kind::Back => {
                    note(|seen| seen.back += 1);
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

    /// A look at the ring, and the copy: `RecvHalf::copy_out`.
    pub(crate) fn try_recv(&mut self) -> Option<Vec<u8>> {
        // `RecvHalf::straight`, then everything else.
        let straight = self.consumer.straight(self.consumer.look(), Kind::Data);
        let Some(record) = straight.or_else(|| self.peek()) else {
            note(|seen| seen.empty_looks += 1);
            return None;
        };
        let mut data = Vec::new();
        if !has(Fault::ReleaseBeforeCopy) {
            self.consumer.read_to_vec(record, &mut data);
        }
        if self.consumer.release(record) {
            self.end.wake_peer_producer();
        }
        if has(Fault::ReleaseBeforeCopy) {
            self.consumer.read_to_vec(record, &mut data);
        }
        Some(data)
    }

    /// `RecvHalf::recv`, without a deadline. `None`: the end.
    pub(crate) fn recv(&mut self) -> Option<Vec<u8>> {
        while self.end.state() != CLOSED {
            if let Some(data) = self.try_recv() {
                return Some(data);
            }
            if self.end.peer_is_gone() {
                // It may have been gone before that look, or after it and its last post.
                if !self.consumer.has_record() {
                    return None;
                }
                continue;
            }
            self.wait();
        }
        None
    }

    /// `RecvHalf::wait`.
    fn wait(&self) {
        let (end, spin) = (&self.end, Spin::new());
        let waiter = Waiter { doorbell: end.incoming.data(), lane: &end.lane, spin: &spin, deadline: None };
        match waiter.wait(|| self.is_ready(), Some(&|| end.lane.drain())) {
            Ok(Outcome::Ready) => {}
            Ok(Outcome::HungUp) => {
                end.set_state(PEER_GONE);
            }
            outcome => unreachable!("{outcome:?}"),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.consumer.has_record() || self.end.peer_is_gone()
    }

    /// The promise of `AsFd`: `RecvHalf::try_recv` until it says empty, then the user's `poll`, and again. `None`: the end.
    pub(crate) fn recv_by_poll(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(data) = self.try_recv() {
                return Some(data);
            }
            if self.end.peer_is_gone() {
                if !self.consumer.has_record() {
                    return None;
                }
                continue;
            }
            // `RecvHalf::look_at_lane`.
            if !has(Fault::DrainAfterArm) {
                self.end.lane.drain().unwrap();
            }
            doorbell::arm(self.end.incoming.data(), FD);
            if has(Fault::DrainAfterArm) {
                self.end.lane.drain().unwrap();
            }
            if self.is_ready() {
                continue;
            }
            if self.end.lane.hung_up() {
                self.end.set_state(PEER_GONE);
                continue;
            }
            self.end.lane.sleep(Duration::MAX);
        }
    }

    /// `RecvHalf::drop` while the sending half lives on.
    pub(crate) fn drop_half(mut self) {
        self.end.discard_arrivals();
        self.discard();
    }

    /// `transfer::discard_queue`: drops what is unread.
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
pub(crate) fn drop_port((sender, mut receiver): (Sender, Receiver)) {
    receiver.end.close();
    receiver.discard();
    drop(sender);
}
