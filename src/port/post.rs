//! Posting: the path of a message from the caller into the ring.
//!
//! Every post ends in [`SendHalf::finish_post`], which commits the record, wakes the receiver and prepares the next
//! record.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::time::Duration;

use super::transfer::{PostError, TransferRef, Transferable, count};
use super::{MessagePort, SendHalf};
use crate::buffer::TransferBuffer;
use crate::capsule::Counts;
use crate::end::lane::{Half, NotSent, Woken};
use crate::end::wait::{Deadline, Outcome, Waiter};
use crate::end::{CLOSED, DISCARDING, End, OPEN, State, growth};
use crate::error::{FullCause, PostDataError, PostErrorKind, exhausted};
use crate::layout::{STREAM_CAPACITY, chain_len, largest_capacity};
use crate::queue::backlog::Outside;
use crate::queue::record::{RecordKind, max_payload};
use crate::queue::ring::{Claim, NoRoom, Producer};
use crate::queue::sync::Ordering;
use crate::sys::cancel::Uncancelled;
use crate::sys::clock;
use crate::violation::Violation;

/// A sender that waits while the lane is full tries again after 10 ms at the latest.
const LANE_RETRY: Duration = Duration::from_millis(10);
/// A sender looks at its peer at most every 2 ms, in nanoseconds of the coarse clock. Within 10 ms that clock ticks,
/// and each of its ticks is this long or there are several.
const LOOK_INTERVAL: u64 = 2_000_000;

impl MessagePort {
    /// Posts a message: the standard's [`postMessage(message,
    /// transfer)`](https://html.spec.whatwg.org/multipage/web-messaging.html#dom-messageport-postmessage).
    ///
    /// `data` is copied; what is on the transfer list moves to the receiver. When the call returns, the receiver can
    /// take the message, whatever happens to this process afterwards. It never blocks: a full queue grows, up to
    /// [`max_capacity`](crate::ChannelOptions::max_capacity).
    ///
    /// ```
    /// # use messageport::MessageChannel;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let carrier = MessageChannel::new()?;
    /// let channel = MessageChannel::new()?;
    /// carrier.port1.post_message(b"here is a port", [channel.port2.into()])?;
    ///
    /// let message = carrier.port2.recv()?;
    /// message.ports[0].post_message(b"it works", [])?;
    /// assert_eq!(channel.port1.recv()?.data, b"it works");
    /// # Ok(()) }
    /// ```
    ///
    /// A port whose peer has closed or died can be transferred like any other, with what is queued in it, and its next
    /// holder receives the messages and then the end. (Node and Bun refuse to transfer such a port.)
    ///
    /// # Errors
    /// Nothing was taken, and the list is in the error. Checked in this order: the port itself is unusable; the list
    /// contains this port's peer; an item is closed, detached or borrowed;
    /// [`TooManyHandles`](PostErrorKind::TooManyHandles);
    /// [`TooLarge`](PostErrorKind::TooLarge); the peer is known to be gone; the queue is [`Full`](PostErrorKind::Full);
    /// the system lacks resources. Since the list owns its things, it cannot contain this port, nor the same thing
    /// twice.
    #[inline]
    pub fn post_message(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        self.sender.post_message(data, transfer)
    }

    /// Posts a message, and waits for space for as long as the peer lives if the queue is full. The queue grows to no
    /// more than 1 MiB, or as far as this message needs, so a stream whose receiver is slower than its sender stays in
    /// the cache. A sleeping sender is woken when half of the ring or 512 KiB are free, or at the latest 10 ms after
    /// there is room for its message.
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message) except `Full`.
    pub fn post_message_wait(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        self.sender.post_message_wait(data, transfer)
    }

    /// As [`post_message_wait`](Self::post_message_wait), waiting for at most `timeout`. With a timeout of zero the
    /// queue grows only for a message that its ring is too small for.
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message), with [`TimedOut`](PostErrorKind::TimedOut) instead of `Full`.
    pub fn post_message_timeout(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Duration,
    ) -> Result<(), PostError> {
        self.sender.post_message_timeout(data, transfer, timeout)
    }

    /// Posts a message of data alone: [`post_message`](Self::post_message) without a transfer list.
    ///
    /// ```
    /// # use messageport::MessageChannel;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// port1.post_data("hello")?;
    /// assert_eq!(port2.recv()?.data, b"hello");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message) that are not about a list.
    #[inline]
    pub fn post_data(&self, data: impl AsRef<[u8]>) -> Result<(), PostDataError> {
        self.sender.post_data(data)
    }

    /// Posts a message of data alone, waiting for space like [`post_message_wait`](Self::post_message_wait).
    ///
    /// # Errors
    /// Those of [`post_data`](Self::post_data) except `Full`.
    pub fn post_data_wait(&self, data: impl AsRef<[u8]>) -> Result<(), PostDataError> {
        self.sender.post_data_wait(data)
    }

    /// As [`post_data_wait`](Self::post_data_wait), waiting for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`post_data`](Self::post_data), with [`TimedOut`](PostDataError::TimedOut) instead of `Full`.
    pub fn post_data_timeout(&self, data: impl AsRef<[u8]>, timeout: Duration) -> Result<(), PostDataError> {
        self.sender.post_data_timeout(data, timeout)
    }

    /// Posts a message with a list of borrowed things. Its ports and buffers are detached if the post succeeds, as in
    /// the standard: for callers whose handles stay behind, such as event handlers and other languages.
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message). Since the things are borrowed, also
    /// [`ContainsSelf`](PostErrorKind::ContainsSelf), checked before `ContainsPeer`, and
    /// [`Duplicate`](PostErrorKind::Duplicate), checked after it.
    pub fn post_message_detaching(
        &self,
        data: impl AsRef<[u8]>,
        transfer: &[TransferRef<'_>],
    ) -> Result<(), PostErrorKind> {
        self.sender.post_message_detaching(data, transfer)
    }

    /// As [`post_message_detaching`](Self::post_message_detaching), waiting for space like
    /// [`post_message_wait`](Self::post_message_wait).
    ///
    /// # Errors
    /// Those of [`post_message_detaching`](Self::post_message_detaching) except `Full`.
    pub fn post_message_detaching_wait(
        &self,
        data: impl AsRef<[u8]>,
        transfer: &[TransferRef<'_>],
    ) -> Result<(), PostErrorKind> {
        self.sender.post_message_detaching_wait(data, transfer)
    }

    /// As [`post_message_detaching_wait`](Self::post_message_detaching_wait), waiting for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`post_message_detaching`](Self::post_message_detaching), with [`TimedOut`](PostErrorKind::TimedOut)
    /// instead of `Full`.
    pub fn post_message_detaching_timeout(
        &self,
        data: impl AsRef<[u8]>,
        transfer: &[TransferRef<'_>],
        timeout: Duration,
    ) -> Result<(), PostErrorKind> {
        self.sender.post_message_detaching_timeout(data, transfer, timeout)
    }

    /// How full the queue towards the peer is.
    pub fn queued(&self) -> Queued {
        self.sender.queued()
    }

    /// The most bytes of data that a message can have, as the channel was
    /// [made](crate::ChannelOptions::max_message_len).
    pub fn max_message_len(&self) -> usize {
        self.sender.max_message_len()
    }

    /// The longest message that the queue takes before it grows, in bytes: 7/16 of the capacity less 8. A longer one
    /// makes the queue grow, or travels in a buffer if the queue may not grow so far. The receiver does not notice.
    ///
    /// A transfer list takes its share of these bytes: 24, and 96 for a port, 16 for each recycled buffer that moves
    /// with it, 24 for a buffer, 8 for a frozen or shared buffer, none for a descriptor. A lone buffer that the peer
    /// has had before takes 8 in all. Small buffers whose bytes travel in the message take room that is left.
    pub fn max_inline_len(&self) -> usize {
        self.sender.max_inline_len()
    }
}

impl SendHalf {
    /// See [`MessagePort::post_message`].
    #[inline]
    pub fn post_message(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        let data = data.as_ref();
        with_list(transfer, || self.post_data_or(data, IfFull::Grow), |list| self.post_or(data, list, IfFull::Grow))
    }

    /// See [`MessagePort::post_message_wait`].
    pub fn post_message_wait(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        let data = data.as_ref();
        with_list(
            transfer,
            || self.post_data_by(data, Deadline::Never),
            |list| self.post_by(data, list, Deadline::Never),
        )
    }

    /// See [`MessagePort::post_message_timeout`].
    pub fn post_message_timeout(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Duration,
    ) -> Result<(), PostError> {
        let (data, deadline) = (data.as_ref(), Deadline::after(timeout));
        with_list(transfer, || self.post_data_by(data, deadline), |list| self.post_by(data, list, deadline))
    }

    /// See [`MessagePort::post_data`].
    #[inline]
    pub fn post_data(&self, data: impl AsRef<[u8]>) -> Result<(), PostDataError> {
        self.post_data_or(data.as_ref(), IfFull::Grow)
    }

    /// See [`MessagePort::post_data_wait`].
    pub fn post_data_wait(&self, data: impl AsRef<[u8]>) -> Result<(), PostDataError> {
        self.post_data_by(data.as_ref(), Deadline::Never)
    }

    /// See [`MessagePort::post_data_timeout`].
    pub fn post_data_timeout(&self, data: impl AsRef<[u8]>, timeout: Duration) -> Result<(), PostDataError> {
        self.post_data_by(data.as_ref(), Deadline::after(timeout))
    }

    /// See [`MessagePort::post_message_detaching`].
    pub fn post_message_detaching(
        &self,
        data: impl AsRef<[u8]>,
        transfer: &[TransferRef<'_>],
    ) -> Result<(), PostErrorKind> {
        self.post(data.as_ref(), transfer)?;
        detach_ports(transfer);
        Ok(())
    }

    /// See [`MessagePort::post_message_detaching_wait`].
    pub fn post_message_detaching_wait(
        &self,
        data: impl AsRef<[u8]>,
        transfer: &[TransferRef<'_>],
    ) -> Result<(), PostErrorKind> {
        self.post_by(data.as_ref(), transfer, Deadline::Never)?;
        detach_ports(transfer);
        Ok(())
    }

    /// See [`MessagePort::post_message_detaching_timeout`].
    pub fn post_message_detaching_timeout(
        &self,
        data: impl AsRef<[u8]>,
        transfer: &[TransferRef<'_>],
        timeout: Duration,
    ) -> Result<(), PostErrorKind> {
        self.post_by(data.as_ref(), transfer, Deadline::after(timeout))?;
        detach_ports(transfer);
        Ok(())
    }

    /// See [`MessagePort::queued`].
    pub fn queued(&self) -> Queued {
        let Ok(mut producer) = self.producer.try_borrow_mut() else { return Queued::default() };
        if !self.end.home().is_here() || matches!(self.end.state(), State::Closed | State::Detached) {
            return Queued::default();
        }
        match producer.unread() {
            Ok(bytes) => {
                let Outside { bodies, buffers } = producer.backlog.total();
                let count = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
                Queued {
                    bytes: count(bodies.saturating_add(bytes)),
                    capacity: producer.direction().capacity() as usize,
                    high_water: count(producer.high_water()),
                    transferred: count(buffers),
                }
            }
            Err(violation) => {
                self.end.violated(violation);
                Queued::default()
            }
        }
    }

    /// See [`MessagePort::max_message_len`].
    pub fn max_message_len(&self) -> usize {
        let limits = self.end.segment().limits();
        if limits.max_handles > 0 { limits.max_message_len } else { limits.max_message_len.min(self.longest_in_ring()) }
    }

    /// The longest payload that the largest ring of this direction can have.
    #[inline]
    pub(super) fn longest_in_ring(&self) -> usize {
        let limits = self.end.segment().limits();
        max_payload(largest_capacity(limits.capacity, limits.max_capacity))
    }

    /// See [`MessagePort::max_inline_len`].
    #[inline]
    pub fn max_inline_len(&self) -> usize {
        max_payload(self.end.segment().capacity())
    }

    /// Posts now, and lets a full queue grow.
    #[inline]
    pub(crate) fn post(&self, data: &[u8], list: &[TransferRef<'_>]) -> Result<(), PostErrorKind> {
        self.post_or(data, list, IfFull::Grow)
    }

    /// Posts now: the standard's *message port post message steps*
    /// (<https://html.spec.whatwg.org/multipage/web-messaging.html#message-port-post-message-steps>), from step 2 on.
    #[inline]
    fn post_or(&self, data: &[u8], list: &[TransferRef<'_>], if_full: IfFull) -> Result<(), PostErrorKind> {
        // Steps 2 to 5, and 7. The fast paths first: their conditions include every check of the steps. Deviations: a
        // list that contains the peer (4) is refused, where the standard loses the channel; and a target that is gone
        // (6) is an error, where the standard returns in silence.
        let posted = match list {
            [] => self.try_post_inline(data),
            [TransferRef::Buffer(buffer)] => self.try_post_lone_buffer(data, buffer),
            _ => false,
        };
        if posted { Ok(()) } else { self.post_checked(data, list, if_full) }
    }

    /// As [`post_or`](Self::post_or), without a list.
    #[inline]
    pub(super) fn post_data_or(&self, data: &[u8], if_full: IfFull) -> Result<(), PostDataError> {
        if self.try_post_inline(data) { Ok(()) } else { self.post_data_checked(data, if_full) }
    }

    /// As [`post_by`](Self::post_by), without a list.
    pub(super) fn post_data_by(&self, data: &[u8], deadline: Deadline) -> Result<(), PostDataError> {
        // A post whose time is over does not let the queue grow.
        let mut if_full = IfFull::Fail;
        loop {
            match self.post_data_or(data, if_full) {
                Err(PostDataError::Full(_)) if if_full == IfFull::Fail && !deadline.is_over() => if_full = IfFull::Wait,
                Err(PostDataError::Full(cause)) => self.wait_for_space(cause, data.len(), &[], deadline)?,
                result => return result,
            }
        }
    }

    /// Posts as soon as there is room, until `deadline`. The queue grows into a ring of 1 MiB, or of the least capacity
    /// that the message needs.
    pub(crate) fn post_by(
        &self,
        data: &[u8],
        list: &[TransferRef<'_>],
        deadline: Deadline,
    ) -> Result<(), PostErrorKind> {
        // A post whose time is over does not let the queue grow.
        let mut if_full = IfFull::Fail;
        loop {
            match self.post_or(data, list, if_full) {
                Err(PostErrorKind::Full(_)) if if_full == IfFull::Fail && !deadline.is_over() => if_full = IfFull::Wait,
                Err(PostErrorKind::Full(cause)) => self.wait_for_space(cause, data.len(), list, deadline)?,
                result => return result,
            }
        }
    }

    /// The fast path of plain data. If anything prevents it, such as a full or grown queue or a peer that is gone, it
    /// returns false, nothing has happened, and [`post_checked`](Self::post_checked) handles the general case.
    #[inline]
    pub(super) fn try_post_inline(&self, data: &[u8]) -> bool {
        let _posting = self.end.posting();
        let Some(mut producer) = self.ready_producer() else { return false };
        let Some(claim) = producer.claim_prepared(data.len()) else {
            return self.post_unprepared(&mut producer, data);
        };
        producer.fill(claim, data);
        self.finish_post(&mut producer, claim, data.len(), RecordKind::Data, 0);
        true
    }

    /// As [`try_post_inline`](Self::try_post_inline), where the memory of the record is not prepared.
    #[inline(never)] // keeps the path of a small message short
    fn post_unprepared(&self, producer: &mut Producer, data: &[u8]) -> bool {
        if producer.is_look_due() && !self.look_again(producer) {
            return false;
        }
        let Some(claim) = producer.try_claim(data.len()) else { return false };
        producer.fill(claim, data);
        self.finish_post(producer, claim, data.len(), RecordKind::Data, 0);
        true
    }

    /// The fast path of a message with one buffer that the peer keeps already; as
    /// [`try_post_inline`](Self::try_post_inline).
    #[inline(never)] // keeps the path of plain data short
    fn try_post_lone_buffer(&self, data: &[u8], buffer: &TransferBuffer) -> bool {
        let _posting = self.end.posting();
        let Some(mut producer) = self.ready_producer() else { return false };
        if producer.is_look_due() && !self.look_again(&mut producer) {
            return false;
        }
        self.post_lone_buffer(&mut producer, data, buffer).is_some()
    }

    /// The general case.
    #[cold]
    fn post_checked(&self, data: &[u8], list: &[TransferRef<'_>], if_full: IfFull) -> Result<(), PostErrorKind> {
        if list.is_empty() {
            return Ok(self.post_data_checked(data, if_full)?);
        }
        let _posting = self.end.posting();
        let mut producer = self.usable_producer()?;
        self.post_carrier(&mut producer, data, list, if_full)
    }

    /// The general case of data without a list.
    #[cold]
    fn post_data_checked(&self, data: &[u8], if_full: IfFull) -> Result<(), PostDataError> {
        let _posting = self.end.posting();
        let mut producer = self.usable_producer()?;
        self.check_len(data.len())?;
        if data.len() > self.longest_in_ring() {
            return self.post_large(&mut producer, data, if_full);
        }
        if self.find_peer()? == Peer::Receives {
            let claim = self.find_room(&mut producer, Need::in_ring(data.len()), if_full)?;
            producer.fill(claim, data);
            self.finish_post(&mut producer, claim, data.len(), RecordKind::Data, 0);
        }
        Ok(())
    }

    /// The end of every post: commits the record, from which point on the receiver has the message; wakes the receiver
    /// if it sleeps; and prepares the memory of the next record. Nothing of it can fail.
    #[inline(always)]
    pub(super) fn finish_post(&self, producer: &mut Producer, claim: Claim, len: usize, kind: RecordKind, handles: u8) {
        producer.commit(claim, len, kind, handles);
        self.end.wake_peer_consumer();
        producer.prepare_next(len);
    }

    /// The producer, if this half can post and its peer receives.
    #[inline]
    pub(super) fn ready_producer(&self) -> Option<RefMut<'_, Producer>> {
        if !self.end.home().is_here() || self.end.state() != State::Open {
            return None;
        }
        let producer = self.producer.try_borrow_mut().ok()?;
        // Acquire: as in `find_peer`.
        let peer = self.end.outgoing().consumer_state().load(Ordering::Acquire);
        (peer == OPEN).then_some(producer)
    }

    /// The producer, if this half can be used. A peer that is gone is reported later, after the list has been checked.
    #[inline]
    pub(crate) fn usable_producer(&self) -> Result<RefMut<'_, Producer>, PostDataError> {
        check_usable(&self.end)?;
        let mut producer = self.producer.try_borrow_mut().map_err(|_| PostDataError::Borrowed)?;
        if producer.is_look_due() {
            self.look_again(&mut producer);
        }
        Ok(producer)
    }

    /// Notes the death of a peer that closed nothing, which this half would otherwise not notice before the queue is
    /// full. False if the peer is gone. Makes a system call at most once in [`LOOK_INTERVAL`].
    #[inline(never)] // keeps the paths of the posts short
    pub(super) fn look_again(&self, producer: &mut Producer) -> bool {
        producer.note_look();
        self.look_at_peer()
    }

    /// As [`look_again`](Self::look_again), for a peer to which nothing is committed.
    fn look_at_peer(&self) -> bool {
        let now = clock::coarse();
        if now.saturating_sub(self.looked.get()) < LOOK_INTERVAL {
            return true;
        }
        self.looked.set(now);
        let _uncancelled = Uncancelled::begin();
        if self.end.lane().hung_up() {
            self.end.note_peer_gone();
        }
        self.end.state() == State::Open
    }

    /// Whether the peer receives.
    #[inline]
    pub(crate) fn find_peer(&self) -> Result<Peer, PostDataError> {
        if self.end.state() != State::Open
            && let Some(reason) = self.end.gone()
        {
            return Err(PostDataError::PeerGone(reason));
        }
        // Acquire: pairs with the release stores in `End::announce_close` and `End::discard_arrivals`.
        match self.end.outgoing().consumer_state().load(Ordering::Acquire) {
            CLOSED => Err(self.no_receiver()),
            // Nothing is committed, so no look becomes due by that.
            DISCARDING if self.look_at_peer() => Ok(Peer::Discards),
            DISCARDING => Err(self.no_receiver()),
            _ => Ok(Peer::Receives),
        }
    }

    /// Whether the channel allows a message with `len` bytes of data.
    pub(super) fn check_len(&self, len: usize) -> Result<(), PostDataError> {
        let max = self.max_message_len();
        if len > max { Err(PostDataError::TooLarge { len, max }) } else { Ok(()) }
    }

    /// Claims room for a message in the ring, and lets the queue grow as far as the message and `if_full` want it.
    #[inline]
    pub(super) fn find_room(
        &self,
        producer: &mut Producer,
        need: Need,
        if_full: IfFull,
    ) -> Result<Claim, PostDataError> {
        let violated = |violation| PostDataError::PeerGone(self.end.violated(violation));
        if producer.direction().is_grown() {
            growth::shrink_if_done(&self.end, producer).map_err(violated)?;
        }
        match self.look_for_room(producer, need, if_full).map_err(violated)? {
            Room::Claim(claim) => Ok(claim),
            Room::InNextRing { capacity, needed } => self.grow(producer, need, if_full, capacity, needed),
            Room::None => Err(self.full(FullCause::Ring)),
        }
    }

    /// Looks for room for a message, without growing.
    fn look_for_room(&self, producer: &mut Producer, need: Need, if_full: IfFull) -> Result<Room, Violation> {
        if let Some(body) = need.body
            && !self.has_room_for_body(producer, body)?
        {
            return Ok(Room::None);
        }
        let fits = need.len <= max_payload(producer.direction().capacity() as usize);
        if fits {
            match producer.claim(need.len) {
                Ok(claim) => return Ok(Room::Claim(claim)),
                Err(NoRoom::Violation(violation)) => return Err(violation),
                Err(NoRoom::Full) => {}
            }
        }
        let wanted = match if_full {
            IfFull::Grow => 0,
            IfFull::Wait => STREAM_CAPACITY,
            IfFull::Fail if fits => return Ok(Room::None),
            IfFull::Fail => 0,
        };
        producer.unread()?; // drops what has been read from the backlog, which takes its share of the limit
        let capacity = growth::capacity_after(&self.end, producer, need.len, wanted);
        Ok(match capacity {
            Some(capacity) if !fits || if_full == IfFull::Grow || capacity <= STREAM_CAPACITY => {
                Room::InNextRing { capacity, needed: !fits || if_full == IfFull::Grow }
            }
            _ => Room::None,
        })
    }

    /// Whether data of `len` bytes may wait in a buffer: if it and the rings together stay below the limit of the
    /// direction, or if it is the only one and at most 1/8 of the ring is unread, so that every message can be posted.
    fn has_room_for_body(&self, producer: &mut Producer, len: usize) -> Result<bool, Violation> {
        let unread = producer.unread()?;
        if unread == 0 && producer.direction().is_grown() {
            growth::go_back(&self.end, producer);
        }
        let limits = self.end.segment().limits();
        let (capacity, bodies) = (producer.direction().capacity(), producer.backlog.total().bodies);
        let rings = chain_len(capacity as usize, limits.capacity);
        let total = bodies.saturating_add(rings as u64).saturating_add(len as u64);
        Ok(total <= limits.max_capacity as u64 || (bodies == 0 && unread <= capacity / 8))
    }

    #[cold]
    fn grow(
        &self,
        producer: &mut Producer,
        need: Need,
        if_full: IfFull,
        capacity: usize,
        needed: bool,
    ) -> Result<Claim, PostDataError> {
        match growth::grow(&self.end, producer, capacity) {
            Ok(()) => {
                // A burst of short messages is over once it has been read. A stream and long messages come again.
                if if_full != IfFull::Grow || need.len > self.max_inline_len() {
                    producer.stay();
                }
                self.find_room(producer, need, IfFull::Fail)
            }
            Err(NotSent::Full | NotSent::Shortage(_)) if !needed => Err(self.full(FullCause::Ring)),
            Err(not_sent) => Err(self.not_sent(not_sent)),
        }
    }

    #[cold]
    pub(super) fn not_sent(&self, why: NotSent) -> PostDataError {
        match why {
            NotSent::Full => self.full(FullCause::Lane),
            NotSent::Gone => self.no_receiver(),
            NotSent::Shortage(errno) => PostDataError::ResourceExhausted(exhausted(errno)),
        }
    }

    /// `Full`, unless the queue is full because the peer is gone.
    #[cold]
    fn full(&self, cause: FullCause) -> PostDataError {
        if self.end.lane().hung_up() { self.no_receiver() } else { PostDataError::Full(cause) }
    }

    /// The error of a message that cannot be received: this end was closed or transferred, or the peer is gone.
    #[cold]
    fn no_receiver(&self) -> PostDataError {
        match self.end.state() {
            State::Closed => PostDataError::PortClosed,
            State::Detached => PostDataError::Detached,
            _ => PostDataError::PeerGone(self.end.note_peer_gone()),
        }
    }

    /// Sleeps until a message that did not fit may fit.
    pub(crate) fn wait_for_space(
        &self,
        cause: FullCause,
        data_len: usize,
        list: &[TransferRef<'_>],
        deadline: Deadline,
    ) -> Result<(), PostDataError> {
        let left = deadline.left();
        if left.is_zero() {
            return Err(PostDataError::TimedOut);
        }
        if cause == FullCause::Lane {
            if self.end.interrupts().take(Half::Sender) {
                return Err(PostDataError::Interrupted);
            }
            let woken = self.end.lane().sleep_for_room(left.min(LANE_RETRY));
            if woken == Woken::Signal && self.end.interrupts().by_signal(Half::Sender) {
                return Err(PostDataError::Interrupted);
            }
            return Ok(());
        }
        let need = self.need(data_len, list);
        let waiter = Waiter {
            half: Half::Sender,
            doorbell: self.end.outgoing().space_doorbell(),
            lane: self.end.lane(),
            interrupts: self.end.interrupts(),
            spin: &self.spin,
            deadline,
        };
        self.producer.borrow().want(need.body.is_none().then_some(need.len));
        let may_post = || {
            let room = self.look_for_room(&mut self.producer.borrow_mut(), need, IfFull::Fail);
            let has_room = !matches!(room, Ok(Room::None));
            has_room || self.end.state() != State::Open || !matches!(self.find_peer(), Ok(Peer::Receives))
        };
        match waiter.wait(may_post, None) {
            Ok(Outcome::Ready) => Ok(()),
            Ok(Outcome::TimedOut) => Err(PostDataError::TimedOut),
            Ok(Outcome::HungUp) => Err(self.no_receiver()),
            Ok(Outcome::Interrupted) => Err(PostDataError::Interrupted),
            Err(violation) => Err(PostDataError::PeerGone(self.end.violated(violation))),
        }
    }

    /// Before the space doorbell is armed for a sleeper that is not in [`wait_for_space`](Self::wait_for_space): any
    /// progress of the peer wakes it, whatever an earlier sleeper, or a former holder of the port, has left.
    pub(crate) fn want_any_space(&self) {
        if let Ok(producer) = self.producer.try_borrow() {
            producer.want(None);
        }
    }

    /// What a message needs of the queue.
    fn need(&self, data_len: usize, list: &[TransferRef<'_>]) -> Need {
        let mut counts = count(list);
        for item in list {
            if let TransferRef::Port(port) = item {
                counts.slots += port.end().buffers().moving().len();
            }
        }
        let len = if list.is_empty() { data_len } else { counts.payload_len(data_len) };
        if len <= self.longest_in_ring() {
            return Need::in_ring(len);
        }
        let len = Counts { buffers: counts.buffers + 1, ..counts }.payload_len(0);
        Need { len, body: Some(data_len) }
    }
}

/// Whether the holder of an end can use it. A peer that is gone is reported later, after the list has been checked.
#[inline]
pub(crate) fn check_usable(end: &End) -> Result<(), PostDataError> {
    if !end.home().is_here() {
        return Err(PostDataError::Forked);
    }
    match end.state() {
        State::Closed => Err(PostDataError::PortClosed),
        State::Detached => Err(PostDataError::Detached),
        State::Lent => Err(PostDataError::Borrowed),
        State::Open | State::PeerClosed | State::PeerDied | State::Violated => Ok(()),
    }
}

/// Lends `post` the things that `transfer` owns, and returns them if it fails. Calls `post_data` if there are none.
#[inline(always)] // so that the large list is built in place
fn with_list(
    transfer: impl IntoIterator<Item = Transferable>,
    post_data: impl FnOnce() -> Result<(), PostDataError>,
    post: impl FnOnce(&[TransferRef<'_>]) -> Result<(), PostErrorKind>,
) -> Result<(), PostError> {
    let mut transfer = transfer.into_iter();
    let Some(first) = transfer.next() else {
        drop(transfer); // before the post, so that its destructor is not part of the fast path
        return post_data().map_err(|error| PostError::new(error.into(), Vec::new()));
    };
    match transfer.next() {
        None => with_one(first, post),
        Some(second) => with_all([first, second].into_iter().chain(transfer).collect(), post),
    }
}

#[inline(always)] // as `with_list`
fn with_one(
    item: Transferable,
    post: impl FnOnce(&[TransferRef<'_>]) -> Result<(), PostErrorKind>,
) -> Result<(), PostError> {
    match post(&[TransferRef::from(&item)]) {
        Ok(()) => Ok(()),
        Err(kind) => Err(PostError::new(kind, vec![item])),
    }
}

#[cold]
fn with_all(
    transfer: Vec<Transferable>,
    post: impl FnOnce(&[TransferRef<'_>]) -> Result<(), PostErrorKind>,
) -> Result<(), PostError> {
    let list: Vec<TransferRef<'_>> = transfer.iter().map(TransferRef::from).collect();
    post(&list).map_err(|kind| PostError::new(kind, transfer))
}

/// Detaches the ports of a borrowed list after a post: their handles stay, but must not keep the lanes alive, since the
/// peers would not see the death of the next holder.
fn detach_ports(transfer: &[TransferRef<'_>]) {
    for item in transfer {
        if let TransferRef::Port(port) = item {
            port.end().detach();
            port.end().let_go_of_lane();
        }
    }
}

/// Whether a peer that lives receives messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Receives,
    /// Its receiving half was dropped: the sender drops what it posts.
    Discards,
}

/// What a post does about a full queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IfFull {
    /// It goes on in a larger ring.
    Grow,
    /// It goes on in a larger ring of at most [`STREAM_CAPACITY`], or as large as it must have, and else fails.
    Wait,
    /// It fails, unless its message is too long for the present ring.
    Fail,
}

/// What a message needs of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Need {
    /// Bytes of payload in the ring.
    pub(crate) len: usize,
    /// Bytes of data in a buffer, since no ring can hold them.
    pub(crate) body: Option<usize>,
}

impl Need {
    pub(crate) fn in_ring(len: usize) -> Self {
        Self { len, body: None }
    }

    /// Data of `len` bytes in a buffer, without a transfer list.
    pub(crate) fn body(len: usize) -> Self {
        Self { len: Counts::BODY.payload_len(0), body: Some(len) }
    }
}

/// Where there is room for a message.
enum Room {
    Claim(Claim),
    /// In a larger ring. `needed` unless the post may as well wait.
    InNextRing {
        capacity: usize,
        needed: bool,
    },
    None,
}

/// How full the queue towards the peer is, in bytes. A message takes its length rounded up to 8, and 8 more. All fields
/// are zero for a port that is closed, transferred, or has a reservation open.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Queued {
    /// Bytes that the peer has not read. The peer publishes when its queue is empty, and at every eighth of the
    /// capacity, so this can be more than there is. It changes as the peer reads.
    pub bytes: usize,
    /// Bytes that the queue holds before it grows, or grows again.
    pub capacity: usize,
    /// The most that `bytes` has been since this port was made or received, at the times when the queue seemed full or
    /// `queued` was called.
    pub high_water: usize,
    /// Bytes of the [`TransferBuffer`](crate::TransferBuffer)s on the transfer lists of messages that the peer has not
    /// read. They count apart, and no limit of the channel applies to them. From the seventeenth unread message with a
    /// buffer on, the later ones count until all of them have been read.
    pub transferred: usize,
}
