//! Receiving: the path of a message from the ring to the caller.
//!
//! Every receive starts in [`RecvHalf::next_message`], which finds the record or waits for it.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::collections::TryReserveError;
use std::time::{Duration, Instant};

use super::in_place::MessageRef;
use super::message::Message;
use super::transfer::Transferable;
use super::{MessagePort, Receiving, RecvHalf};
use crate::capsule::arrive::{BodyPlace, Undeliverable, arrive};
use crate::capsule::buffer::LoneCapsule;
use crate::capsule::discard::{Walk, discard};
use crate::capsule::{Arrival, Counts};
use crate::end::lane::Half;
use crate::end::wait::{Deadline, Outcome, Waiter};
use crate::end::{State, growth};
use crate::error::{RecvError, RecvTimeoutError, Rejection, TryRecvError, exhausted, out_of_memory};
use crate::queue::doorbell::{self, FD};
use crate::queue::record::RecordKind;
use crate::queue::ring::Record;
use crate::sys::clock;

/// A caller that never waits checks the lane for the peer's death in its first 4 empty polls of each tick of the coarse
/// clock, 1 to 10 ms.
const LOOKS_PER_TICK: u32 = 4;
/// After these it reads the exact clock in one empty poll of 16.
const EMPTY_POLLS_PER_CLOCK: u32 = 16;
/// By the exact clock it checks the lane every 500 us.
const DEATH_CHECK_INTERVAL: Duration = Duration::from_micros(500);

/// From 2 messages in a row that were there at once, the receiver treats them as a stream, and owns the lines it has
/// read; see [`Consumer::own_lines`](crate::queue::ring::Consumer::own_lines).
const STREAM: u32 = 2;
/// A message of 512 bytes or more is treated as a stream by itself.
const LARGE: usize = 512;
/// After 16 messages in a row that were there at once, a receiver that finds the queue empty lets messages gather
/// before it polls again: chasing the sender line by line is slow.
const GATHER_AFTER: u32 = 16;

impl MessagePort {
    /// Takes the next message, waiting for it for as long as the peer lives.
    ///
    /// # Errors
    /// [`Ended`](RecvError::Ended) with the reason, after the last message. The other errors concern this port, or this
    /// message alone.
    pub fn recv(&self) -> Result<Message, RecvError> {
        self.receiver.recv()
    }

    /// Takes the next message if there is one, without waiting.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty), or as for [`recv`](Self::recv). The death of the peer's process is noticed by
    /// the first call after the kernel has closed its descriptors; by a caller that calls more often than four times in
    /// 1 to 10 ms, 0.5 ms and at most 16 calls later.
    pub fn try_recv(&self) -> Result<Message, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Takes the next message, waiting for it for at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvTimeoutError::TimedOut), or as for [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }

    /// As [`recv`](Self::recv), into a message whose memory is reused: nothing is allocated once its `data` has grown.
    /// What the message held before is dropped.
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv); the message is then empty.
    #[inline]
    pub fn recv_into(&self, message: &mut Message) -> Result<(), RecvError> {
        self.receiver.recv_into(message)
    }

    /// As [`try_recv`](Self::try_recv), into a message whose memory is reused.
    ///
    /// # Errors
    /// Those of [`try_recv`](Self::try_recv); the message is then empty.
    #[inline]
    pub fn try_recv_into(&self, message: &mut Message) -> Result<(), TryRecvError> {
        self.receiver.try_recv_into(message)
    }

    /// As [`recv_timeout`](Self::recv_timeout), into a message whose memory is reused.
    ///
    /// # Errors
    /// Those of [`recv_timeout`](Self::recv_timeout); the message is then empty.
    pub fn recv_into_timeout(&self, message: &mut Message, timeout: Duration) -> Result<(), RecvTimeoutError> {
        self.receiver.recv_into_timeout(message, timeout)
    }

    /// Waits for the next message and reads it in place. Dropping the guard frees the space of the message; until then
    /// every other receiving call returns [`Borrowed`](RecvError::Borrowed).
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv).
    #[inline]
    pub fn recv_ref(&self) -> Result<MessageRef<'_>, RecvError> {
        self.receiver.recv_ref()
    }

    /// As [`recv_ref`](Self::recv_ref) if there is a message, without waiting.
    ///
    /// # Errors
    /// Those of [`try_recv`](Self::try_recv).
    #[inline]
    pub fn try_recv_ref(&self) -> Result<MessageRef<'_>, TryRecvError> {
        self.receiver.try_recv_ref()
    }

    /// As [`recv_ref`](Self::recv_ref), waiting for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`recv_timeout`](Self::recv_timeout).
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<MessageRef<'_>, RecvTimeoutError> {
        self.receiver.recv_ref_timeout(timeout)
    }
}

impl RecvHalf {
    /// See [`MessagePort::recv`].
    pub fn recv(&self) -> Result<Message, RecvError> {
        let mut message = Message::new();
        self.recv_into(&mut message)?;
        Ok(message)
    }

    /// See [`MessagePort::try_recv`].
    pub fn try_recv(&self) -> Result<Message, TryRecvError> {
        let mut message = Message::new();
        self.try_recv_into(&mut message)?;
        Ok(message)
    }

    /// See [`MessagePort::recv_timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        let mut message = Message::new();
        self.recv_into_timeout(&mut message, timeout)?;
        Ok(message)
    }

    /// See [`MessagePort::recv_into`].
    #[inline]
    pub fn recv_into(&self, message: &mut Message) -> Result<(), RecvError> {
        while !self.receive(message, Deadline::Never)? {} // false only at a deadline, and there is none
        Ok(())
    }

    /// See [`MessagePort::try_recv_into`].
    #[inline]
    pub fn try_recv_into(&self, message: &mut Message) -> Result<(), TryRecvError> {
        if self.receive(message, Deadline::Now)? { Ok(()) } else { Err(TryRecvError::Empty) }
    }

    /// See [`MessagePort::recv_into_timeout`].
    pub fn recv_into_timeout(&self, message: &mut Message, timeout: Duration) -> Result<(), RecvTimeoutError> {
        if self.receive(message, Deadline::after(timeout))? { Ok(()) } else { Err(RecvTimeoutError::TimedOut) }
    }

    /// See [`MessagePort::recv_ref`].
    #[inline]
    pub fn recv_ref(&self) -> Result<MessageRef<'_>, RecvError> {
        loop {
            if let Some(message) = self.try_refer(true) {
                return Ok(message);
            }
            if let Some(message) = self.refer(Deadline::Never)? {
                return Ok(message);
            }
        }
    }

    /// See [`MessagePort::try_recv_ref`].
    #[inline]
    pub fn try_recv_ref(&self) -> Result<MessageRef<'_>, TryRecvError> {
        match self.try_refer(false) {
            Some(message) => Ok(message),
            None => self.refer(Deadline::Now)?.ok_or(TryRecvError::Empty),
        }
    }

    /// See [`MessagePort::recv_ref_timeout`].
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<MessageRef<'_>, RecvTimeoutError> {
        self.refer(Deadline::after(timeout))?.ok_or(RecvTimeoutError::TimedOut)
    }

    /// For a loop that may not take a message yet: `Ok` if there is one, else the error of
    /// [`try_recv`](Self::try_recv).
    pub(crate) fn check_for_message(&self) -> Result<(), TryRecvError> {
        let mut polls = 0_u32;
        loop {
            match self.next_checked(Deadline::Now, polls)? {
                Search::Message(..) => return Ok(()),
                Search::Nothing => return Err(TryRecvError::Empty),
                Search::Again => polls = polls.saturating_add(1),
            }
        }
    }

    /// For a server that may not receive yet: reads the wake-ups off the lane, so that its descriptor is not readable
    /// for them, and notes the end of the peer.
    pub(crate) fn drain_lane(&self) -> Result<(), RecvError> {
        let sequence = self.open()?.consumer.sequence();
        if let Err(violation) = self.end.drain_lane(sequence, Half::Receiver) {
            return Err(RecvError::Ended(self.end.violated(violation)));
        }
        if self.end.lane().hung_up() {
            self.end.note_peer_gone();
        }
        Ok(())
    }

    /// For an event loop, after a close: takes the next message of those that were queued then. `PortClosed` after the
    /// last.
    #[cold]
    pub(crate) fn take_queued(&self, message: &mut Message) -> Result<(), TryRecvError> {
        if !self.end.is_dispatched() {
            return Err(RecvError::PortClosed.into());
        }
        let mut receiving = self.receiving.try_borrow_mut().map_err(|_| RecvError::Borrowed)?;
        let Receiving { consumer, rest, .. } = &mut *receiving;
        let walk = rest.get_or_insert_with(|| Walk::new(consumer));
        let record = match growth::next_message(&self.end, consumer) {
            Ok(Some(record)) if walk.includes_next(consumer) => record,
            Ok(_) | Err(Rejection::Invalid(_)) => return Err(RecvError::PortClosed.into()),
            Err(Rejection::Shortage(errno)) => return Err(RecvError::ResourceExhausted(exhausted(errno)).into()),
        };
        message.clear();
        if record.kind == RecordKind::Data {
            make_room(&mut message.data, record.len)?;
            receiving.consumer.read_to_vec(record, &mut message.data);
        } else {
            self.unpack(&mut receiving, record, message)?;
        }
        self.release(&mut receiving, record);
        Ok(())
    }

    /// True if a receive would find something: a record, or the end. Costs a load or two.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.has_record() || self.end.peer_has_closed()
    }

    /// True if a record is queued, or a message is being read in place.
    #[inline]
    pub(crate) fn has_record(&self) -> bool {
        self.receiving.try_borrow().map_or(true, |receiving| receiving.consumer.has_record())
    }

    /// Receives the next message. False if none came until `deadline`.
    #[inline]
    fn receive(&self, message: &mut Message, deadline: Deadline) -> Result<bool, RecvError> {
        message.clear();
        // 1. Find the next record, or wait for it.
        let Some((mut receiving, record)) = self.next_message(deadline)? else { return Ok(false) };
        // 2. Copy it out, with what came with it.
        match record.kind {
            RecordKind::Data => {
                make_room(&mut message.data, record.len)?;
                receiving.consumer.read_to_vec(record, &mut message.data);
            }
            RecordKind::Buffer if take_lone_buffer(self, &receiving, record, message).is_some() => {}
            _ => self.unpack(&mut receiving, record, message)?,
        }
        // 3. Give the space back.
        self.release(&mut receiving, record);
        Ok(true)
    }

    /// The fast path of plain data in place.
    #[inline(always)] // a guard is large, and inlined it is built in place
    pub(super) fn try_refer(&self, waits: bool) -> Option<MessageRef<'_>> {
        let (mut receiving, record) = self.try_next(waits)?;
        if record.kind == RecordKind::Data {
            return Some(MessageRef::of_data(self, receiving, record));
        }
        receiving.leave();
        None
    }

    /// As [`receive`](Self::receive), in place, after the fast path.
    #[cold]
    fn refer(&self, deadline: Deadline) -> Result<Option<MessageRef<'_>>, RecvError> {
        let Some((receiving, record)) = self.next_message_checked(deadline)? else { return Ok(None) };
        match record.kind {
            RecordKind::Data => Ok(Some(MessageRef::of_data(self, receiving, record))),
            _ => self.unpack_in_place(receiving, record).map(Some),
        }
    }

    /// The next record that is a message. It stays queued until it is released. `None` if there is none until
    /// `deadline`.
    #[inline(always)] // the result stays in registers
    fn next_message(&self, deadline: Deadline) -> Result<Option<Found<'_>>, RecvError> {
        match self.try_next(deadline.waits()) {
            Some(found) => Ok(Some(found)),
            None => self.next_message_checked(deadline),
        }
    }

    /// As [`next_message`](Self::next_message), after the fast path.
    #[cold]
    fn next_message_checked(&self, deadline: Deadline) -> Result<Option<Found<'_>>, RecvError> {
        let mut polls = 0_u32;
        loop {
            match self.next_checked(deadline, polls)? {
                Search::Message(receiving, record) => return Ok(Some((receiving, record))),
                Search::Nothing => return Ok(None),
                Search::Again => polls = polls.saturating_add(1),
            }
            if let Some(found) = self.try_next(deadline.waits()) {
                return Ok(Some(found));
            }
        }
    }

    /// The fast path: plain data or a lone buffer that is there, or that comes within half a microsecond if `waits`, so
    /// that the common reply is handled here. `None` leaves the general case to [`next_checked`](Self::next_checked).
    #[inline(always)] // the result stays in registers
    pub(super) fn try_next(&self, waits: bool) -> Option<Found<'_>> {
        if !self.end.home().is_here() || self.end.state() != State::Open {
            return None;
        }
        let mut receiving = self.receiving.try_borrow_mut().ok()?;
        let mut run = receiving.run.saturating_add(1);
        let mut word = receiving.consumer.poll();
        if word == 0 && waits && receiving.run < GATHER_AFTER {
            run = 1;
            receiving.run = 0;
            receiving.consumer.publish();
            word = self.spin.briefly(|| receiving.consumer.poll());
        }
        let record = receiving.consumer.decode_common(word)?;
        receiving.run = run;
        Some((receiving, record))
    }

    /// The general case: validates the record, follows the queue to another ring, or waits.
    #[cold]
    fn next_checked(&self, deadline: Deadline, polls: u32) -> Result<Search<'_>, RecvError> {
        let mut receiving = self.open()?;
        match growth::next_message(&self.end, &mut receiving.consumer) {
            Ok(Some(record)) => Ok(Search::Message(receiving, record)),
            // Seen and gone again, several times: only a hostile peer takes back what it committed.
            Ok(None) if polls > 2 && deadline.is_over() => Ok(Search::Nothing),
            Ok(None) => {
                let run = std::mem::take(&mut receiving.run);
                if run >= GATHER_AFTER && deadline.waits() {
                    self.spin.gather();
                }
                self.wait(&mut receiving, deadline)
            }
            Err(Rejection::Invalid(violation)) => Err(RecvError::Ended(self.end.violated(violation))),
            Err(Rejection::Shortage(errno)) => Err(RecvError::ResourceExhausted(exhausted(errno))),
        }
    }

    /// The consumer, if this half can be used.
    #[inline]
    fn open(&self) -> Result<RefMut<'_, Receiving>, RecvError> {
        if !self.end.home().is_here() {
            return Err(RecvError::Forked);
        }
        // What the peer posted before it went can still be received.
        if !matches!(self.end.state(), State::Open | State::PeerClosed | State::PeerDied) {
            self.drop_queue_of_closed();
            return Err(self.ended());
        }
        let receiving = self.receiving.try_borrow_mut().map_err(|_| RecvError::Borrowed)?;
        if receiving.finished { Err(self.ended()) } else { Ok(receiving) }
    }

    /// Drops the queue if the sending half has closed the port, which left that to this half.
    #[cold]
    fn drop_queue_of_closed(&self) {
        if self.end.state() == State::Closed
            && !self.end.is_dispatched()
            && let Ok(mut receiving) = self.receiving.try_borrow_mut()
        {
            discard(&self.end, &mut receiving.consumer);
        }
    }

    /// After a poll that found nothing: waits until another poll is worth while.
    fn wait<'a>(&self, receiving: &mut Receiving, deadline: Deadline) -> Result<Search<'a>, RecvError> {
        let consumer = &receiving.consumer;
        if self.peer_is_gone() {
            // It announced its end, or was seen to be gone, after its last post. One more poll decides.
            if consumer.has_record() {
                return Ok(Search::Again);
            }
            receiving.finished = true;
            self.end.buffers().give_up();
            self.end.discard_lane();
            return Err(self.ended());
        }
        if !deadline.waits() {
            return self.check_lane(receiving);
        }
        let ready = || consumer.has_record() || self.peer_is_gone();
        let drain = || self.end.drain_lane(consumer.sequence(), Half::Receiver);
        let doorbell = self.end.incoming().data_doorbell();
        let (lane, interrupts) = (self.end.lane(), self.end.interrupts());
        let waiter = Waiter { half: Half::Receiver, doorbell, lane, interrupts, spin: &self.spin, deadline };
        match waiter.wait(ready, Some(&drain)) {
            Ok(Outcome::Ready) => Ok(Search::Again),
            Ok(Outcome::TimedOut) => Ok(Search::Nothing),
            Ok(Outcome::Interrupted) => Err(RecvError::Interrupted),
            Ok(Outcome::HungUp) => {
                self.end.note_peer_gone();
                Ok(Search::Again)
            }
            Err(violation) => Err(RecvError::Ended(self.end.violated(violation))),
        }
    }

    /// For a caller that does not wait: checks now and then whether the peer has died, and arms the doorbell if the
    /// descriptor is polled, as `AsFd` promises.
    fn check_lane<'a>(&self, receiving: &mut Receiving) -> Result<Search<'a>, RecvError> {
        let consumer = &receiving.consumer;
        if self.polled.get() {
            self.end
                .drain_lane(consumer.sequence(), Half::Receiver)
                .map_err(|violation| RecvError::Ended(self.end.violated(violation)))?;
            doorbell::arm(self.end.incoming().data_doorbell(), FD);
            if consumer.has_record() || self.peer_is_gone() {
                return Ok(Search::Again);
            }
        } else {
            let tick = clock::coarse();
            if receiving.tick != tick {
                (receiving.tick, receiving.empty_polls) = (tick, 0);
            }
            receiving.empty_polls = receiving.empty_polls.wrapping_add(1);
            // A caller that polls this often in one tick is a spinning one, and a look would cost more than its polls.
            if receiving.empty_polls > LOOKS_PER_TICK {
                if !receiving.empty_polls.is_multiple_of(EMPTY_POLLS_PER_CLOCK) {
                    return Ok(Search::Nothing);
                }
                let now = Instant::now();
                if receiving.lane_checked.is_some_and(|checked| now.duration_since(checked) < DEATH_CHECK_INTERVAL) {
                    return Ok(Search::Nothing);
                }
                receiving.lane_checked = Some(now);
            }
        }
        if self.end.lane().hung_up() {
            self.end.note_peer_gone();
            return Ok(Search::Again);
        }
        Ok(Search::Nothing)
    }

    #[inline]
    fn peer_is_gone(&self) -> bool {
        self.end.peer_has_closed() || self.end.state() != State::Open
    }

    /// The error of a port at its end.
    #[cold]
    fn ended(&self) -> RecvError {
        match self.end.state() {
            State::Closed => RecvError::PortClosed,
            State::Detached => RecvError::Detached,
            State::Lent => RecvError::Borrowed,
            State::Open | State::PeerClosed | State::PeerDied | State::Violated => {
                RecvError::Ended(self.end.note_peer_gone())
            }
        }
    }

    /// Copies a message out that is not plain data, with what came with it.
    #[cold]
    fn unpack(&self, receiving: &mut Receiving, record: Record, message: &mut Message) -> Result<(), RecvError> {
        let mut data = std::mem::take(&mut message.data);
        let taken = self.take_in(receiving, record, &mut data, BodyPlace::Copied, |counts| message.try_reserve(counts));
        message.data = data;
        let Arrival { items, body, .. } = taken?;
        if let Some(body) = body {
            receiving.consumer.announce_next();
            body.append_to(&mut message.data);
        }
        message.extend(items.into_iter().map(Transferable::from));
        Ok(())
    }

    /// Unpacks what came with a message that is read in place.
    #[cold]
    fn unpack_in_place<'a>(
        &'a self,
        mut receiving: RefMut<'a, Receiving>,
        record: Record,
    ) -> Result<MessageRef<'a>, RecvError> {
        let (mut payload, mut transferred) = (Vec::new(), Message::new());
        let make_room = |counts| transferred.try_reserve(counts);
        let Arrival { items, body, .. } =
            self.take_in(&mut receiving, record, &mut payload, BodyPlace::InPlace, make_room)?;
        transferred.extend(items.into_iter().map(Transferable::from));
        if body.is_some() {
            receiving.consumer.announce_next();
        }
        Ok(MessageRef::with_things(self, receiving, record, payload.len(), body, transferred))
    }

    /// Copies the payload of a record out, and makes ports and buffers of what came with it. On success the data is
    /// left in `payload`.
    fn take_in(
        &self,
        receiving: &mut Receiving,
        record: Record,
        payload: &mut Vec<u8>,
        body: BodyPlace,
        make_things_room: impl FnOnce(Counts) -> Result<(), TryReserveError>,
    ) -> Result<Arrival, RecvError> {
        make_room(payload, record.len)?;
        receiving.consumer.read_to_vec(record, payload);
        let Receiving { consumer, shortage, .. } = &mut *receiving;
        arrive(&self.end, consumer, record, payload, body, shortage, make_things_room).map_err(|rejection| {
            // A message that can never be delivered is consumed; after a shortage it stays for the next attempt.
            if matches!(rejection, Rejection::Invalid(Undeliverable::Message(_))) {
                self.release(receiving, record);
            }
            rejection.into_error(&self.end, std::mem::take(payload))
        })
    }

    /// Gives the space of a record back, and wakes the sender if it waits for space.
    #[inline]
    pub(crate) fn release(&self, receiving: &mut Receiving, record: Record) {
        if receiving.run >= STREAM || record.len >= LARGE {
            receiving.consumer.own_lines(record);
        }
        if receiving.consumer.release(record) {
            self.end.wake_peer_producer();
        }
    }
}

/// The receiving half, borrowed, and its next message.
pub(super) type Found<'a> = (RefMut<'a, Receiving>, Record);

/// What a search for the next message comes to.
enum Search<'a> {
    Message(RefMut<'a, Receiving>, Record),
    /// No message until the deadline.
    Nothing,
    /// Poll again.
    Again,
}

/// Makes room for `len` bytes, a number that the peer has chosen. If there is none, the message stays queued.
#[inline(always)] // as `receive`
fn make_room(data: &mut Vec<u8>, len: usize) -> Result<(), RecvError> {
    data.try_reserve(len).map_err(|_| RecvError::ResourceExhausted(out_of_memory()))
}

/// Takes a message with one buffer that this side keeps already, without a table or an allocation. `None` if the
/// capsule or the slot is invalid; then nothing has happened. `message` is empty.
#[inline(never)] // keeps the path of plain data short
fn take_lone_buffer(half: &RecvHalf, receiving: &Receiving, record: Record, message: &mut Message) -> Option<()> {
    let mut last = [0; LoneCapsule::LEN];
    receiving.consumer.read(record, record.len.checked_sub(last.len())?, &mut last);
    let lone = LoneCapsule::decode(last, record.len)?;
    if lone.data_len > half.end.segment().limits().max_message_len {
        return None; // `unpack` reports the violation
    }
    message.data.try_reserve(lone.data_len).ok()?; // and this shortage
    let buffer = lone.take(&half.end)?;
    receiving.consumer.read_to_vec(record.shortened(lone.data_len), &mut message.data);
    message.buffers.push(buffer);
    Some(())
}
