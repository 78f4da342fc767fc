//! Receiving: the way of a message from the ring to the caller.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::time::{Duration, Instant};

use super::in_place::MessageRef;
use super::message::Message;
use super::{MessagePort, Receiving, RecvHalf};
use crate::capsule::arrive::{Undeliverable, take};
use crate::capsule::buffer::KnownCapsule;
use crate::capsule::discard::discard;
use crate::capsule::{Table, Things};
use crate::end::lane::Doorbell;
use crate::end::wait::{Outcome, Waiter};
use crate::end::{State, growth};
use crate::error::{RecvError, RecvTimeoutError, Rejection, TryRecvError, exhausted};
use crate::queue::doorbell::{self, FD};
use crate::queue::record::Kind;
use crate::queue::ring::Record;
use crate::sys::Errno;

/// Empty looks between two readings of the clock, for one that only ever looks.
const LOOKS: u32 = 16;
/// Time between two looks at the lane, for the same.
const LANE_INTERVAL: Duration = Duration::from_micros(500);

/// So many messages in a row that were there at once make a stream: see [`Consumer::take_lines`](crate::queue::ring::Consumer).
const STREAM: u32 = 2;
/// One of so many bytes is treated like a stream by itself.
const LARGE: usize = 512;
/// After so many a receiver that has caught up lets some gather before it looks again: to chase the sender line by line
/// is what costs.
const GATHER_AFTER: u32 = 16;

/// How long an operation may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until this instant, or without a deadline.
    Until(Option<Instant>),
}

impl Patience {
    /// A timeout that overflows `Instant` means no deadline.
    pub(crate) fn timeout(timeout: Duration) -> Self {
        Self::Until(Instant::now().checked_add(timeout))
    }

    /// The time that is left; `None` without a deadline.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Self::None => Some(Duration::ZERO),
            Self::Until(deadline) => deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
        }
    }

    #[inline]
    fn waits(self) -> bool {
        matches!(self, Self::Until(_))
    }

    fn is_over(self) -> bool {
        match self {
            Self::None => true,
            Self::Until(deadline) => deadline.is_some_and(|deadline| Instant::now() >= deadline),
        }
    }
}

/// Why there is no message.
enum Missed {
    /// None now, or none in time.
    Nothing,
    Failed(RecvError),
}

impl From<Missed> for TryRecvError {
    #[inline]
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Nothing => Self::Empty,
            Missed::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<Missed> for RecvTimeoutError {
    #[inline]
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Nothing => Self::TimedOut,
            Missed::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<RecvError> for Missed {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

impl MessagePort {
    /// Takes the next message, waiting for it as long as the peer lives.
    ///
    /// # Errors
    /// [`Ended`](RecvError::Ended) with the reason, after the last message; the others say what this port or this
    /// message is.
    pub fn recv(&self) -> Result<Message, RecvError> {
        self.receiver.recv()
    }

    /// Takes the next message if there is one.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty), or as for [`recv`](Self::recv). That the peer's process died is noticed after
    /// 1 ms of empty looks, 16 at least.
    pub fn try_recv(&self) -> Result<Message, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Takes the next message, waiting for it at most for `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvTimeoutError::TimedOut), or as for [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }

    /// As [`recv`](Self::recv), into a message whose memory is used again: nothing is allocated once its `data` has
    /// grown. What was in the message before is dropped.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv); the message is then empty.
    #[inline]
    pub fn recv_into(&self, message: &mut Message) -> Result<(), RecvError> {
        self.receiver.recv_into(message)
    }

    /// As [`try_recv`](Self::try_recv), into a message whose memory is used again.
    ///
    /// # Errors
    /// As for [`try_recv`](Self::try_recv); the message is then empty.
    #[inline]
    pub fn try_recv_into(&self, message: &mut Message) -> Result<(), TryRecvError> {
        self.receiver.try_recv_into(message)
    }

    /// As [`recv_timeout`](Self::recv_timeout), into a message whose memory is used again.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Self::recv_timeout); the message is then empty.
    pub fn recv_into_timeout(&self, message: &mut Message, timeout: Duration) -> Result<(), RecvTimeoutError> {
        self.receiver.recv_into_timeout(message, timeout)
    }

    /// Waits for the next message and reads it in place. Its space is freed, for this message and in order, when the
    /// guard is dropped; until then every other receiving call is [`Borrowed`](RecvError::Borrowed).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    #[inline]
    pub fn recv_ref(&self) -> Result<MessageRef<'_>, RecvError> {
        self.receiver.recv_ref()
    }

    /// As [`recv_ref`](Self::recv_ref) if there is a message.
    ///
    /// # Errors
    /// As for [`try_recv`](Self::try_recv).
    #[inline]
    pub fn try_recv_ref(&self) -> Result<MessageRef<'_>, TryRecvError> {
        self.receiver.try_recv_ref()
    }

    /// As [`recv_ref`](Self::recv_ref), waiting at most for `timeout`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Self::recv_timeout).
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
        self.copy_out(message, Patience::Until(None)).map_err(never_nothing)
    }

    /// See [`MessagePort::try_recv_into`].
    #[inline]
    pub fn try_recv_into(&self, message: &mut Message) -> Result<(), TryRecvError> {
        self.copy_out(message, Patience::None).map_err(TryRecvError::from)
    }

    /// See [`MessagePort::recv_into_timeout`].
    pub fn recv_into_timeout(&self, message: &mut Message, timeout: Duration) -> Result<(), RecvTimeoutError> {
        self.copy_out(message, Patience::timeout(timeout)).map_err(RecvTimeoutError::from)
    }

    /// See [`MessagePort::recv_ref`].
    #[inline]
    pub fn recv_ref(&self) -> Result<MessageRef<'_>, RecvError> {
        self.in_place(Patience::Until(None)).map_err(never_nothing)
    }

    /// See [`MessagePort::try_recv_ref`].
    #[inline]
    pub fn try_recv_ref(&self) -> Result<MessageRef<'_>, TryRecvError> {
        self.in_place(Patience::None).map_err(TryRecvError::from)
    }

    /// See [`MessagePort::recv_ref_timeout`].
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<MessageRef<'_>, RecvTimeoutError> {
        self.in_place(Patience::timeout(timeout)).map_err(RecvTimeoutError::from)
    }

    /// For a loop that may not take a message yet: `Ok` if there is one. Otherwise as [`try_recv`](Self::try_recv).
    pub(crate) fn look(&self) -> Result<(), TryRecvError> {
        let mut receiving = self.open()?;
        for looks in 0.. {
            match self.find_record(&mut receiving, Patience::None, looks) {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(()),
                Err(Missed::Nothing) => break,
                Err(Missed::Failed(error)) => return Err(TryRecvError::Failed(error)),
            }
        }
        Err(TryRecvError::Empty)
    }

    /// True if a look is worth while. Costs a load or two.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        let waits = self.receiving.try_borrow().is_ok_and(|receiving| receiving.consumer.has_record());
        waits || self.end.peer_has_closed()
    }

    /// The way of a message.
    #[inline]
    fn copy_out(&self, message: &mut Message, patience: Patience) -> Result<(), Missed> {
        message.clear();
        for looks in 0.. {
            if self.copy_straight(message, patience.waits()) || self.copy_or_wait(message, patience, looks)? {
                break;
            }
        }
        Ok(())
    }

    /// When nothing stands in the way: a message of plain data is there, or comes at once. False if not; then nothing has
    /// happened. `message` is empty.
    #[inline]
    fn copy_straight(&self, message: &mut Message, waits: bool) -> bool {
        let Some(found) = self.straight(Kind::Data, waits) else { return false };
        self.copy(found, message);
        true
    }

    /// Takes a message of plain data that [`straight`](Self::straight) found. `message` is empty.
    #[inline]
    pub(crate) fn copy(&self, (mut receiving, record): (RefMut<'_, Receiving>, Record), message: &mut Message) {
        receiving.consumer.read_to_vec(record, &mut message.data);
        self.release(&mut receiving, record);
    }

    /// When a message with one buffer is there, and nothing stands in its way; it has been emptied.
    #[inline]
    fn copy_known_straight(&self, message: &mut Message) -> bool {
        let Some((mut receiving, record)) = self.straight(Kind::Buffer, false) else { return false };
        let consumer = &receiving.consumer;
        let mut last = [0; size_of::<KnownCapsule>()];
        let Some(at) = record.len.checked_sub(last.len()) else { return false };
        consumer.read(record, at, &mut last);
        let Some(known) = KnownCapsule::parse(last, record.len) else { return false };
        let Some(buffer) = known.take(&self.end) else { return false };
        consumer.read_to_vec(record.shortened(known.data_len), &mut message.data);
        message.buffers.push(buffer);
        self.release(&mut receiving, record);
        true
    }

    /// Everything else: takes whatever message is there (true), waits for one (false), or says why there is none.
    #[cold]
    fn copy_or_wait(&self, message: &mut Message, patience: Patience, looks: u32) -> Result<bool, Missed> {
        if self.copy_known_straight(message) {
            return Ok(true);
        }
        // 1. Find the next committed record, or wait for it.
        let mut receiving = self.open()?;
        let Some(record) = self.find_record(&mut receiving, patience, looks)? else { return Ok(false) };
        // 2. Copy it out.
        receiving.consumer.read_to_vec(record, &mut message.data);
        // 3. Make ports, buffers and the like of what came with it.
        if record.kind != Kind::Data {
            let table = Some(&message.data).filter(|_| record.kind == Kind::Carrier);
            let body = table.and_then(|data| Table::parse(data).ok()?.body_len()).unwrap_or(0);
            if body <= self.end.segment().limits().max_message_len as u64
                && message.data.try_reserve(body as usize).is_err()
            {
                message.data.clear();
                return Err(RecvError::ResourceExhausted(exhausted(Errno::ENOMEM)).into());
            }
            let things = self.unpack(&mut receiving, record, &mut message.data)?;
            message.unpack(things);
        }
        // 4. Give the space back.
        self.release(&mut receiving, record);
        Ok(true)
    }

    #[inline]
    fn in_place(&self, patience: Patience) -> Result<MessageRef<'_>, Missed> {
        for looks in 0.. {
            if let Some((receiving, record)) = self.straight(Kind::Data, patience.waits()) {
                return Ok(MessageRef::plain(self, receiving, record));
            }
            if let Some(message) = self.refer_or_wait(patience, looks)? {
                return Ok(message);
            }
        }
        Err(Missed::Nothing)
    }

    /// As [`copy_or_wait`](Self::copy_or_wait).
    #[cold]
    fn refer_or_wait(&self, patience: Patience, looks: u32) -> Result<Option<MessageRef<'_>>, Missed> {
        let mut receiving = self.open()?;
        let Some(record) = self.find_record(&mut receiving, patience, looks)? else { return Ok(None) };
        if record.kind == Kind::Data {
            return Ok(Some(MessageRef::plain(self, receiving, record)));
        }
        let mut payload = Vec::new();
        receiving.consumer.read_to_vec(record, &mut payload);
        let things = self.unpack(&mut receiving, record, &mut payload)?;
        Ok(Some(MessageRef::new(self, receiving, record, payload.len(), things)))
    }

    /// The next record, if this half is in order and the record is a message of this kind, `Data` or `Buffer`. One that
    /// waits gives it the time of a round trip to come: what it then does with it starts from here, and not from deep
    /// inside a wait.
    #[inline]
    pub(crate) fn straight(&self, kind: Kind, waits: bool) -> Option<(RefMut<'_, Receiving>, Record)> {
        if !self.end.home().is_here() || self.end.state() != State::Open {
            return None;
        }
        let mut receiving = self.receiving.try_borrow_mut().ok()?;
        let mut run = receiving.run.saturating_add(1);
        let mut word = receiving.consumer.look();
        if word == 0 && waits && receiving.run < GATHER_AFTER {
            run = 1;
            receiving.run = 0;
            receiving.consumer.publish();
            word = self.spin.briefly(|| receiving.consumer.look());
        }
        let record = receiving.consumer.straight(word, kind)?;
        receiving.run = run;
        Some((receiving, record))
    }

    /// The consumer, if this half can be used here and now.
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

    /// What the sending half's `close` has left to this one.
    #[cold]
    fn drop_queue_of_closed(&self) {
        if self.end.state() == State::Closed
            && let Ok(mut receiving) = self.receiving.try_borrow_mut()
        {
            discard(&self.end, &mut receiving.consumer);
        }
    }

    /// The next record, which stays queued until it is released; or none, after waiting for one.
    #[cold]
    fn find_record(&self, receiving: &mut Receiving, patience: Patience, looks: u32) -> Result<Option<Record>, Missed> {
        match growth::peek(&self.end, &mut receiving.consumer) {
            Ok(Some(record)) => {
                receiving.empty_looks = 0;
                Ok(Some(record))
            }
            // It was there and is gone again, more than once: only a hostile peer takes back what it committed.
            Ok(None) if looks > 2 && patience.is_over() => Err(Missed::Nothing),
            Ok(None) => {
                let run = std::mem::take(&mut receiving.run);
                if run >= GATHER_AFTER && matches!(patience, Patience::Until(_)) {
                    self.spin.gather();
                }
                self.wait(receiving, patience).map(|()| None)
            }
            Err(Rejection::Invalid(violation)) => Err(RecvError::Ended(self.end.violated(violation)).into()),
            Err(Rejection::Shortage(errno)) => Err(RecvError::ResourceExhausted(exhausted(errno)).into()),
        }
    }

    /// After a look that found nothing: waits until another look is worth while.
    fn wait(&self, receiving: &mut Receiving, patience: Patience) -> Result<(), Missed> {
        let consumer = &receiving.consumer;
        if self.peer_is_gone() {
            // It said so, or was seen to be gone, after its last post. One more look, then this is the end.
            if consumer.has_record() {
                return Ok(());
            }
            receiving.finished = true;
            self.end.buffers().give_up();
            self.end.lane().discard_rest();
            return Err(self.ended().into());
        }
        let Patience::Until(deadline) = patience else {
            return self.look_at_lane(receiving);
        };
        let ready = || consumer.has_record() || self.peer_is_gone();
        let drain = || self.end.drain_lane(consumer.sequence(), Doorbell::Data);
        let doorbell = self.end.incoming().data();
        let waiter = Waiter { doorbell, lane: self.end.lane(), spin: &self.spin, deadline };
        match waiter.wait(ready, Some(&drain)) {
            Ok(Outcome::Ready) => Ok(()),
            Ok(Outcome::TimedOut) => Err(Missed::Nothing),
            Ok(Outcome::HungUp) => {
                self.end.note_peer_gone();
                Ok(())
            }
            Err(violation) => Err(RecvError::Ended(self.end.violated(violation)).into()),
        }
    }

    /// For one that does not wait: sees now and then whether the peer died, and keeps the promise of `AsFd`.
    /// `Ok`: look again.
    fn look_at_lane(&self, receiving: &mut Receiving) -> Result<(), Missed> {
        let consumer = &receiving.consumer;
        if self.polled.get() {
            self.end
                .drain_lane(consumer.sequence(), Doorbell::Data)
                .map_err(|violation| RecvError::Ended(self.end.violated(violation)))?;
            doorbell::arm(self.end.incoming().data(), FD);
            if consumer.has_record() || self.peer_is_gone() {
                return Ok(());
            }
        } else {
            receiving.empty_looks = receiving.empty_looks.wrapping_add(1);
            if !receiving.empty_looks.is_multiple_of(LOOKS) {
                return Err(Missed::Nothing);
            }
            let now = Instant::now();
            if receiving.lane_seen.is_some_and(|seen| now.duration_since(seen) < LANE_INTERVAL) {
                return Err(Missed::Nothing);
            }
            receiving.lane_seen = Some(now);
        }
        if self.end.lane().hung_up() {
            self.end.note_peer_gone();
            return Ok(());
        }
        Err(Missed::Nothing)
    }

    #[inline]
    fn peer_is_gone(&self) -> bool {
        self.end.peer_has_closed() || self.end.state() != State::Open
    }

    /// The error for a port at its end.
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

    /// Makes ports and buffers of what a carrier record brought, and cuts its table off the copied payload.
    #[cold]
    fn unpack(&self, receiving: &mut Receiving, record: Record, payload: &mut Vec<u8>) -> Result<Things, RecvError> {
        match take(&self.end, &receiving.consumer, record, payload) {
            Ok((data_len, things)) => {
                payload.truncate(data_len);
                Ok(things)
            }
            Err(rejection) => {
                // A message that can never arrive is consumed; on a shortage it stays for the next attempt.
                if matches!(rejection, Rejection::Invalid(Undeliverable::Message { .. })) {
                    self.release(receiving, record);
                }
                Err(rejection.into_error(&self.end, std::mem::take(payload)))
            }
        }
    }

    /// Gives the space of a record back, and wakes the sender if it waits for that.
    #[inline]
    pub(crate) fn release(&self, receiving: &mut Receiving, record: Record) {
        if receiving.run >= STREAM || record.len >= LARGE {
            receiving.consumer.take_lines(record);
        }
        if receiving.consumer.release(record) {
            self.end.wake_peer_producer();
        }
    }
}

/// A wait without a deadline ends with a message or an error.
fn never_nothing(missed: Missed) -> RecvError {
    match missed {
        Missed::Failed(error) => error,
        Missed::Nothing => RecvError::PortClosed,
    }
}
