//! Posting: the way of a message from the caller into the ring.
#![forbid(unsafe_code)]

use super::transfer::{PostError, TransferRef, Transferable, count};
use super::{MessagePort, SendHalf};
use crate::buffer::memory::Hold;
use crate::capsule::Counts;
use crate::end::lane::NotSent;
use crate::end::wait::{Outcome, Waiter};
use crate::end::{CLOSED, DISCARDING, End, OPEN, State, growth};
use crate::error::{FullCause, PostErrorKind, exhausted};
use crate::queue::record::Kind;
use crate::queue::ring::{NoRoom, Producer, Slot};
use crate::queue::sync::Ordering;
use std::cell::RefMut;
use std::time::{Duration, Instant};

/// Longest sleep while the lane is full; then the post is tried again.
const LANE_RETRY: Duration = Duration::from_millis(10);

impl MessagePort {
    /// Posts a message: the standard's
    /// [`postMessage(message, transfer)`](https://html.spec.whatwg.org/multipage/web-messaging.html#dom-messageport-postmessage).
    ///
    /// `data` is copied; what is on the transfer list moves to the receiver. When the call returns, the receiver can
    /// take the message, whatever happens to this process afterwards. It never blocks: a queue that is full grows, up to
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
    /// # Errors
    /// In this order: the port itself is unusable; the list contains this port's peer; contains something closed,
    /// detached or borrowed (the list owns its things, so it cannot contain this port or the same thing twice);
    /// [`TooManyHandles`](PostErrorKind::TooManyHandles), [`TooLarge`](PostErrorKind::TooLarge); the peer is known to
    /// be gone; the queue is [`Full`](PostErrorKind::Full); the system has no resources. Nothing was taken then, and
    /// the list is in the error.
    #[inline]
    pub fn post_message(&self, data: &[u8], transfer: impl IntoIterator<Item = Transferable>) -> Result<(), PostError> {
        self.sender.post_message(data, transfer)
    }

    /// Posts a message and, if the queue is full, waits for space: for `timeout`, or for as long as the peer lives. The
    /// queue does not grow by it, so that a stream whose receiver is slower than its sender stays where it is.
    ///
    /// # Errors
    /// As for [`post_message`](Self::post_message), with [`TimedOut`](PostErrorKind::TimedOut) instead of `Full`.
    pub fn post_message_wait(
        &self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Option<Duration>,
    ) -> Result<(), PostError> {
        self.sender.post_message_wait(data, transfer, timeout)
    }

    /// Posts a message with a list of borrowed things, whose ports and buffers are detached if it succeeds: the
    /// standard's way, for callers whose handles stay behind (handlers, other languages).
    ///
    /// # Errors
    /// As for [`post_message`](Self::post_message); since the things are borrowed, also
    /// [`ContainsSelf`](PostErrorKind::ContainsSelf), first, and [`Duplicate`](PostErrorKind::Duplicate), third.
    pub fn post_message_detaching(&self, data: &[u8], transfer: &[TransferRef<'_>]) -> Result<(), PostErrorKind> {
        self.sender.post_message_detaching(data, transfer)
    }

    /// As [`post_message_detaching`](Self::post_message_detaching), waiting for space like
    /// [`post_message_wait`](Self::post_message_wait).
    ///
    /// # Errors
    /// Those of both.
    pub fn post_message_wait_detaching(
        &self,
        data: &[u8],
        transfer: &[TransferRef<'_>],
        timeout: Option<Duration>,
    ) -> Result<(), PostErrorKind> {
        self.sender.post_message_wait_detaching(data, transfer, timeout)
    }

    /// How much waits for the peer.
    pub fn queued(&self) -> Queued {
        self.sender.queued()
    }

    /// The most bytes of data that a message can have: as the channel's maker
    /// [decided](crate::ChannelOptions::max_message_len).
    pub fn max_message_len(&self) -> usize {
        self.sender.max_message_len()
    }

    /// The longest message that travels in the ring itself, 7/16 of the capacity less 8; what is longer goes in a recycled
    /// buffer, which the receiver does not notice. A transfer list takes 80 bytes of it for a port and 16 for each buffer
    /// in the port's caches, 24 for a buffer, 8 for a frozen or shared buffer, none for a descriptor, and 24 besides; or 8
    /// for a lone buffer that the peer has had before.
    pub fn max_inline_len(&self) -> usize {
        self.sender.max_inline_len()
    }
}

impl SendHalf {
    /// See [`MessagePort::post_message`].
    #[inline]
    pub fn post_message(&self, data: &[u8], transfer: impl IntoIterator<Item = Transferable>) -> Result<(), PostError> {
        self.with_list(data, transfer, |list| self.post_anything(data, list, IfFull::Grow))
    }

    /// See [`MessagePort::post_message_wait`].
    pub fn post_message_wait(
        &self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Option<Duration>,
    ) -> Result<(), PostError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.with_list(data, transfer, |list| self.post_patiently(data, list, deadline))
    }

    /// See [`MessagePort::post_message_detaching`].
    pub fn post_message_detaching(&self, data: &[u8], transfer: &[TransferRef<'_>]) -> Result<(), PostErrorKind> {
        self.post(data, transfer)?;
        let_go(transfer);
        Ok(())
    }

    /// See [`MessagePort::post_message_wait_detaching`].
    pub fn post_message_wait_detaching(
        &self,
        data: &[u8],
        transfer: &[TransferRef<'_>],
        timeout: Option<Duration>,
    ) -> Result<(), PostErrorKind> {
        self.post_patiently(data, transfer, timeout.and_then(|timeout| Instant::now().checked_add(timeout)))?;
        let_go(transfer);
        Ok(())
    }

    /// See [`MessagePort::queued`].
    pub fn queued(&self) -> Queued {
        let Ok(mut producer) = self.producer.try_borrow_mut() else { return Queued::default() };
        if !self.end.home().is_here() || matches!(self.end.state(), State::Closed | State::Detached) {
            return Queued::default();
        }
        match producer.unread() {
            Ok(bytes) => Queued {
                bytes: bytes as usize,
                capacity: producer.direction().capacity() as usize,
                high_water: producer.high_water() as usize,
            },
            Err(violation) => {
                self.end.violated(violation);
                Queued::default()
            }
        }
    }

    /// See [`MessagePort::max_message_len`].
    pub fn max_message_len(&self) -> usize {
        let limits = self.end.segment().limits();
        if limits.max_handles > 0 { limits.max_message_len } else { limits.max_message_len.min(self.max_inline_len()) }
    }

    /// See [`MessagePort::max_inline_len`].
    #[inline]
    pub fn max_inline_len(&self) -> usize {
        crate::queue::record::max_payload(self.end.segment().capacity())
    }

    /// Lends `post` the things that `transfer` owns; gives them back if it fails.
    #[inline(always)] // a list is large, and what is inlined need not be moved about
    fn with_list(
        &self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
        post: impl FnOnce(&[TransferRef<'_>]) -> Result<(), PostErrorKind>,
    ) -> Result<(), PostError> {
        let mut transfer = transfer.into_iter();
        let Some(first) = transfer.next() else {
            if self.post_straight(data) {
                return Ok(());
            }
            return post(&[]).map_err(|kind| PostError { kind, transfer: Vec::new() });
        };
        match transfer.next() {
            None => lend_one(first, post),
            Some(second) => lend_all([first, second].into_iter().chain(transfer).collect(), post),
        }
    }

    /// Posts now, and lets the queue grow if it is full.
    #[inline]
    pub(crate) fn post(&self, data: &[u8], list: &[TransferRef<'_>]) -> Result<(), PostErrorKind> {
        if list.is_empty() && self.post_straight(data) {
            return Ok(());
        }
        self.post_anything(data, list, IfFull::Grow)
    }

    /// Posts as soon as there is room, before `deadline`.
    pub(crate) fn post_patiently(
        &self,
        data: &[u8],
        list: &[TransferRef<'_>],
        deadline: Option<Instant>,
    ) -> Result<(), PostErrorKind> {
        loop {
            match self.post_anything(data, list, IfFull::Fail) {
                Err(PostErrorKind::Full(cause)) => self.wait_for_space(cause, data.len(), list, deadline)?,
                result => return result,
            }
        }
    }

    /// The way of a message, when nothing stands in it: plain data, a peer that receives, and room. False if something
    /// does; then nothing has happened, and `post_anything` finds out what it is.
    #[inline]
    fn post_straight(&self, data: &[u8]) -> bool {
        // 1. May this half post at all, and is there a receiver?
        let _posting = self.end.posting();
        let Some(mut producer) = self.straight() else { return false };
        // 2. Copy the data in, which nobody sees yet, and commit it: from there on the receiver has it.
        let posted = producer.put(data);
        if posted {
            self.committed(&mut producer, data.len());
        }
        posted
    }

    /// What is left to do behind a message of `len` bytes, of which nothing can fail.
    #[inline(always)]
    fn committed(&self, producer: &mut Producer, len: usize) {
        // 3. Wake the receiver if it sleeps.
        self.end.wake_peer_consumer();
        // 4. Prepare the memory of the next one.
        producer.clear_ahead(len);
    }

    /// The producer, if this half is in order and its peer receives.
    #[inline]
    pub(crate) fn straight(&self) -> Option<RefMut<'_, Producer>> {
        if !self.end.home().is_here() || self.end.state() != State::Open {
            return None;
        }
        let producer = self.producer.try_borrow_mut().ok()?;
        let peer = self.end.outgoing().consumer_state().load(Ordering::Acquire);
        (peer == OPEN).then_some(producer)
    }

    /// The same in general.
    #[cold]
    pub(crate) fn post_anything(
        &self,
        data: &[u8],
        list: &[TransferRef<'_>],
        if_full: IfFull,
    ) -> Result<(), PostErrorKind> {
        if let [TransferRef::Buffer(buffer)] = list
            && self.post_known_straight(data, buffer)
        {
            return Ok(());
        }
        // 1. May this half post at all?
        let _posting = self.end.posting();
        let mut producer = self.open()?;
        if !list.is_empty() || data.len() > self.max_inline_len() {
            return self.post_carrier(producer, Data::Copy(data), list, if_full);
        }
        // 2. Is there a receiver, and room?
        self.may_be_posted(data.len())?;
        if self.find_peer()? == Peer::Discards {
            return Ok(());
        }
        let slot = self.find_room(&mut producer, data.len(), if_full)?;
        producer.write(slot, 0, data);
        producer.commit(slot, data.len(), Kind::Data, 0);
        self.committed(&mut producer, data.len());
        Ok(())
    }

    /// The producer, if this half can be used here and now.
    #[inline]
    pub(crate) fn open(&self) -> Result<RefMut<'_, Producer>, PostErrorKind> {
        check(&self.end)?;
        self.producer.try_borrow_mut().map_err(|_| PostErrorKind::Borrowed)
    }

    /// Whether anybody will receive a message.
    #[inline]
    pub(crate) fn find_peer(&self) -> Result<Peer, PostErrorKind> {
        if self.end.state() != State::Open
            && let Some(reason) = self.end.gone()
        {
            return Err(PostErrorKind::PeerGone(reason));
        }
        // Acquire, with the release in `End::announce_close`.
        match self.end.outgoing().consumer_state().load(Ordering::Acquire) {
            CLOSED => Err(self.nobody()),
            DISCARDING => Ok(Peer::Discards),
            _ => Ok(Peer::Receives),
        }
    }

    /// What such a message takes of the ring.
    fn inline_len(&self, data_len: usize, counts: Counts) -> usize {
        let len = if counts == Counts::default() { data_len } else { counts.payload_len(data_len) };
        if len <= self.max_inline_len() {
            return len;
        }
        Counts { buffers: counts.buffers + 1, ..counts }.payload_len(0)
    }

    /// Whether the channel allows a message with `len` bytes of data.
    pub(crate) fn may_be_posted(&self, len: usize) -> Result<(), PostErrorKind> {
        let max = self.max_message_len();
        if len > max { Err(PostErrorKind::TooLarge { len, max }) } else { Ok(()) }
    }

    /// Whether the ring takes a record with a payload of `len` bytes.
    pub(crate) fn fits_inline(&self, len: usize) -> Result<(), PostErrorKind> {
        let max = self.max_inline_len();
        if len > max { Err(PostErrorKind::TooLarge { len, max }) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn find_room(
        &self,
        producer: &mut Producer,
        len: usize,
        if_full: IfFull,
    ) -> Result<Slot, PostErrorKind> {
        let violated = |violation| PostErrorKind::PeerGone(self.end.violated(violation));
        if producer.direction().is_grown() {
            growth::shrink(&self.end, producer).map_err(violated)?;
        }
        match producer.reserve(len) {
            Ok(slot) => Ok(slot),
            Err(NoRoom::Violation(violation)) => Err(violated(violation)),
            Err(NoRoom::Full) if if_full == IfFull::Grow => self.make_room(producer, len),
            Err(NoRoom::Full) => Err(self.full(FullCause::Ring)),
        }
    }

    #[cold]
    fn make_room(&self, producer: &mut Producer, len: usize) -> Result<Slot, PostErrorKind> {
        match growth::grow(&self.end, producer) {
            Ok(true) => self.find_room(producer, len, IfFull::Fail),
            Ok(false) => Err(self.full(FullCause::Ring)),
            Err(not_sent) => Err(self.not_sent(not_sent)),
        }
    }

    #[cold]
    pub(crate) fn not_sent(&self, why: NotSent) -> PostErrorKind {
        match why {
            NotSent::Full => self.full(FullCause::Lane),
            NotSent::Gone => self.nobody(),
            NotSent::Shortage(errno) => PostErrorKind::ResourceExhausted(exhausted(errno)),
        }
    }

    /// Full, unless the reason is that nobody reads any more.
    #[cold]
    fn full(&self, cause: FullCause) -> PostErrorKind {
        if self.end.lane().hung_up() { self.nobody() } else { PostErrorKind::Full(cause) }
    }

    /// The error for a message that nobody will receive: the peer is gone, or this end itself is.
    #[cold]
    fn nobody(&self) -> PostErrorKind {
        match self.end.state() {
            State::Closed => PostErrorKind::PortClosed,
            State::Detached => PostErrorKind::Detached,
            _ => PostErrorKind::PeerGone(self.end.note_peer_gone()),
        }
    }

    /// Sleeps until a message that did not fit may fit.
    pub(crate) fn wait_for_space(
        &self,
        cause: FullCause,
        data_len: usize,
        list: &[TransferRef<'_>],
        deadline: Option<Instant>,
    ) -> Result<(), PostErrorKind> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(PostErrorKind::TimedOut);
        }
        if cause == FullCause::Lane {
            self.end.lane().sleep_for_room(left.unwrap_or(LANE_RETRY).min(LANE_RETRY));
            return Ok(());
        }
        let mut counts = count(list);
        for thing in list {
            if let TransferRef::Port(port) = thing {
                counts.slots += port.end().buffers().moving().len();
            }
        }
        let len = self.inline_len(data_len, counts);
        let waiter =
            Waiter { doorbell: self.end.outgoing().space(), lane: self.end.lane(), spin: &self.spin, deadline };
        let ready = || {
            let has_room = self.producer.borrow_mut().reserve(len) != Err(NoRoom::Full);
            has_room || self.end.state() != State::Open || !matches!(self.find_peer(), Ok(Peer::Receives))
        };
        match waiter.wait(ready, None) {
            Ok(Outcome::Ready) => Ok(()),
            Ok(Outcome::TimedOut) => Err(PostErrorKind::TimedOut),
            Ok(Outcome::HungUp) => Err(self.nobody()),
            Err(violation) => Err(PostErrorKind::PeerGone(self.end.violated(violation))),
        }
    }
}

/// Whether the holder of an end can use it here and now.
#[inline]
pub(crate) fn check(end: &End) -> Result<(), PostErrorKind> {
    if !end.home().is_here() {
        return Err(PostErrorKind::Forked);
    }
    match end.state() {
        State::Closed => Err(PostErrorKind::PortClosed),
        State::Detached => Err(PostErrorKind::Detached),
        State::Lent => Err(PostErrorKind::Borrowed),
        // That the peer is gone is told after the list has been checked.
        State::Open | State::PeerClosed | State::PeerDied | State::Violated => Ok(()),
    }
}

#[inline(always)] // as `with_list`
fn lend_one(
    thing: Transferable,
    post: impl FnOnce(&[TransferRef<'_>]) -> Result<(), PostErrorKind>,
) -> Result<(), PostError> {
    match post(&[TransferRef::from(&thing)]) {
        Ok(()) => Ok(()),
        Err(kind) => Err(PostError { kind, transfer: vec![thing] }),
    }
}

#[cold]
fn lend_all(
    transfer: Vec<Transferable>,
    post: impl FnOnce(&[TransferRef<'_>]) -> Result<(), PostErrorKind>,
) -> Result<(), PostError> {
    let list: Vec<TransferRef<'_>> = transfer.iter().map(TransferRef::from).collect();
    post(&list).map_err(|kind| PostError { kind, transfer })
}

/// After a post with borrowed things: the handles stay, but must not keep the lanes of their ports alive, since the end of
/// a new holder would go unnoticed.
fn let_go(transfer: &[TransferRef<'_>]) {
    for thing in transfer {
        if let TransferRef::Port(port) = thing {
            port.end().detach();
            port.end().let_go_of_lane();
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Receives,
    /// The peer dropped its receiving half.
    Discards,
}

/// How full the queue towards the peer is, in bytes; a message takes its length rounded up to 8, and 8 more. All zero for
/// a port that is closed, transferred away, or has a reservation open.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Queued {
    /// What the peer has not read. It tells when its queue is empty, and at every eighth of the capacity, so this may be
    /// more than there is. It changes as the peer reads.
    pub bytes: usize,
    /// What the queue holds before it grows, or grows again.
    pub capacity: usize,
    /// The most that `bytes` has been, whenever the queue seemed full or was asked, since this port was made or received.
    pub high_water: usize,
}

/// What a post does about a full queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IfFull {
    /// Goes on in a larger ring.
    Grow,
    Fail,
}

/// The data of a message.
pub(crate) enum Data<'a> {
    Copy(&'a [u8]),
    /// Written in place.
    InBuffer(Hold),
}

impl Data<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Copy(data) => data.len(),
            Self::InBuffer(hold) => hold.len,
        }
    }
}
