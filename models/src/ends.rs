//! The two ends of a direction as the library drives them: `post.rs` and `recv.rs`, and the loop of `wait.rs`.

use loom::sync::{Condvar, Mutex};

use crate::direction::Direction;
use crate::doorbell::{self, FD, FUTEX};
use crate::record::Kind;
use crate::ring::{Consumer, Cursors, NoRoom, Producer};
use crate::sync::{Ordering, fence, futex};

/// `producer_state` of an end that was closed.
pub(crate) const CLOSED: u32 = 1;

pub(crate) struct Sender {
    pub(crate) direction: Direction,
    pub(crate) producer: Producer,
}

pub(crate) struct Receiver {
    pub(crate) direction: Direction,
    pub(crate) consumer: Consumer,
}

/// Both ends of a new direction. `skip` messages of no data have gone through it, to start at another offset.
pub(crate) fn ends(capacity: usize, skip: usize) -> (Sender, Receiver) {
    let direction = Direction::new(capacity);
    let mut sender =
        Sender { producer: Producer::new(direction.clone(), Cursors::START), direction: direction.clone() };
    let mut receiver = Receiver { consumer: Consumer::new(direction.clone(), Cursors::START), direction };
    for _ in 0..skip {
        sender.try_post(&[], || true).unwrap();
        receiver.try_recv().unwrap();
        assert_eq!(receiver.try_recv(), None);
    }
    (sender, receiver)
}

/// A message of `len` bytes that can be told from every other one.
pub(crate) fn message(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64 / 8).flat_map(|word| (number * 1000 + word + 1).to_ne_bytes()).collect()
}

impl Sender {
    /// `SendHalf::post`.
    pub(crate) fn try_post(&mut self, data: &[u8], knock: impl FnOnce() -> bool) -> Result<(), NoRoom> {
        let slot = self.producer.reserve(data.len())?;
        self.producer.write(slot, 0, data);
        self.producer.commit(slot, data.len(), Kind::Data, 0);
        doorbell::ring_if_asleep(self.direction.data(), knock);
        Ok(())
    }

    /// `SendHalf::post_message_wait`.
    pub(crate) fn post(&mut self, data: &[u8]) {
        while let Err(no_room) = self.try_post(data, || unreachable!("nobody sleeps on a lane")) {
            assert_eq!(no_room, NoRoom::Full);
            let space = self.direction.space();
            let producer = &mut self.producer;
            doorbell::sleep(space, FUTEX, || producer.reserve(data.len()).is_ok(), || futex::wait(space, FUTEX));
        }
    }

    /// `End::announce_close`, the part that this direction sees.
    pub(crate) fn close(&mut self, knock: impl FnOnce() -> bool) {
        self.direction.producer_state().store(CLOSED, Ordering::Release);
        fence(Ordering::SeqCst);
        doorbell::ring_if_asleep(self.direction.data(), knock);
    }
}

impl Receiver {
    pub(crate) fn try_recv(&mut self) -> Option<Vec<u8>> {
        let record = self.consumer.peek().unwrap()?;
        let mut data = Vec::new();
        self.consumer.read_to_vec(record, &mut data);
        if self.consumer.release(record) {
            doorbell::ring_if_asleep(self.direction.space(), || unreachable!("a producer never sleeps on a lane"));
        }
        Some(data)
    }

    /// `RecvHalf::recv`: `None` at the end.
    pub(crate) fn recv(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(data) = self.try_recv() {
                return Some(data);
            }
            if self.peer_has_closed() {
                return self.try_recv();
            }
            let data = self.direction.data();
            doorbell::sleep(data, FUTEX, || self.is_ready(), || futex::wait(data, FUTEX));
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.consumer.has_record() || self.peer_has_closed()
    }

    pub(crate) fn peer_has_closed(&self) -> bool {
        self.direction.producer_state().load(Ordering::Acquire) == CLOSED
    }

    /// The receiving half is closed: its state, then the sender's doorbell.
    pub(crate) fn close(&mut self) {
        self.direction.consumer_state().store(CLOSED, Ordering::Release);
        fence(Ordering::SeqCst);
        doorbell::ring_if_asleep(self.direction.space(), || true);
    }

    /// `RecvHalf::recv` that has slept its slices on the futex and goes on to sleep on the lane.
    pub(crate) fn recv_on_lane(&mut self, lane: &Lane) -> Vec<u8> {
        // A futex sleep whose time is over at once.
        doorbell::sleep(self.direction.data(), FUTEX, || self.is_ready(), || {});
        loop {
            if let Some(data) = self.try_recv() {
                return data;
            }
            lane.drain();
            doorbell::sleep(self.direction.data(), FD, || self.is_ready(), || lane.poll());
        }
    }
}

/// The lane: packets that make it readable until it is drained.
pub(crate) struct Lane {
    packets: Mutex<u32>,
    readable: Condvar,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self { packets: Mutex::new(0), readable: Condvar::new() }
    }

    pub(crate) fn knock(&self) -> bool {
        *self.packets.lock().unwrap() += 1;
        self.readable.notify_all();
        true
    }

    pub(crate) fn drain(&self) {
        *self.packets.lock().unwrap() = 0;
    }

    pub(crate) fn poll(&self) {
        let mut packets = self.packets.lock().unwrap();
        while *packets == 0 {
            packets = self.readable.wait(packets).unwrap();
        }
    }
}
