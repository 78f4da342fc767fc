//! Posting: the way of a message from the caller into the ring.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::capsule;
use crate::end::{CLOSED, DISCARDING, State};
use crate::error::{FullCause, PostError, PostErrorKind, exhausted};
use crate::lane::NotSent;
use crate::port::{MessagePort, SendHalf};
use crate::record::Kind;
use crate::ring::{NoRoom, Producer, Slot};
use crate::sync::Ordering;
use crate::transfer::{Baggage, TransferRef, Transferable};
use crate::wait::{Outcome, Waiter};

/// Longest sleep while the lane is full; then the post is tried again.
const LANE_RETRY: Duration = Duration::from_millis(10);

impl MessagePort {
    /// Posts a message: the standard's
    /// [`postMessage(message, transfer)`](https://html.spec.whatwg.org/multipage/web-messaging.html#dom-messageport-postmessage).
    ///
    /// `data` is copied; what is on the transfer list moves to the receiver. When the call returns, the receiver can
    /// take the message, whatever happens to this process afterwards. It never blocks.
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

    /// Posts a message and, if the queue is full, waits for space: for `timeout`, or for as long as the peer lives.
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

    /// Posts a message with a list of borrowed things, which are detached if it succeeds: the standard's way, for
    /// callers whose handles stay behind (handlers, other languages).
    ///
    /// # Errors
    /// As for [`post_message`](Self::post_message); since the things are borrowed, also
    /// [`ContainsSelf`](PostErrorKind::ContainsSelf), first, and [`Duplicate`](PostErrorKind::Duplicate), third.
    pub fn post_message_detaching(&self, data: &[u8], transfer: &[TransferRef<'_>]) -> Result<(), PostErrorKind> {
        self.sender.post_message_detaching(data, transfer)
    }

    /// Reserves space for a message of `len` bytes, to write it in place. Nothing is visible before
    /// [`commit`](Reservation::commit); dropping the reservation leaves no trace.
    ///
    /// # Errors
    /// As for [`post_message`](Self::post_message) without a transfer list. One reservation is open at a time: another
    /// one, or a post, is [`Borrowed`](PostErrorKind::Borrowed).
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>, PostErrorKind> {
        self.sender.reserve(len)
    }

    /// The longest data that a message without transfer list can have: 7/16 of the capacity, less 8. A transfer list
    /// takes 80 bytes a port, 16 a buffer, and 8 of it.
    pub fn max_message_len(&self) -> usize {
        self.sender.max_message_len()
    }
}

impl SendHalf {
    /// See [`MessagePort::post_message`].
    #[inline]
    pub fn post_message(&self, data: &[u8], transfer: impl IntoIterator<Item = Transferable>) -> Result<(), PostError> {
        self.with_list(transfer, |list| self.post(data, list))
    }

    /// See [`MessagePort::post_message_wait`].
    pub fn post_message_wait(
        &self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Option<Duration>,
    ) -> Result<(), PostError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.with_list(transfer, |list| {
            loop {
                match self.post(data, list) {
                    Err(PostErrorKind::Full(cause)) => self.wait_for_space(cause, data.len(), list, deadline)?,
                    result => return result,
                }
            }
        })
    }

    /// See [`MessagePort::post_message_detaching`].
    pub fn post_message_detaching(&self, data: &[u8], transfer: &[TransferRef<'_>]) -> Result<(), PostErrorKind> {
        self.post(data, transfer)?;
        for thing in transfer {
            if let TransferRef::Port(port) = thing {
                // The handle stays, but must not keep the lane alive: its new holder's end would go unnoticed.
                port.end().detach();
                port.end().let_go_of_lane();
            }
        }
        Ok(())
    }

    /// See [`MessagePort::reserve`].
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>, PostErrorKind> {
        let mut producer = self.open()?;
        fits(&producer, len)?;
        self.find_peer()?;
        let slot = self.find_room(&mut producer, len)?;
        Ok(Reservation { half: self, producer, slot, len, written: 0 })
    }

    /// See [`MessagePort::max_message_len`].
    pub fn max_message_len(&self) -> usize {
        crate::record::max_payload(self.end.segment().capacity())
    }

    /// Lends `post` the things that `transfer` owns; gives them back if it fails.
    #[inline]
    fn with_list(
        &self,
        transfer: impl IntoIterator<Item = Transferable>,
        post: impl FnOnce(&[TransferRef<'_>]) -> Result<(), PostErrorKind>,
    ) -> Result<(), PostError> {
        let mut transfer = transfer.into_iter();
        let Some(first) = transfer.next() else {
            return post(&[]).map_err(|kind| PostError { kind, transfer: Vec::new() });
        };
        let transfer: Vec<Transferable> = std::iter::once(first).chain(transfer).collect();
        let list: Vec<TransferRef<'_>> = transfer.iter().map(TransferRef::from).collect();
        post(&list).map_err(|kind| PostError { kind, transfer })
    }

    /// The way of a message.
    #[inline]
    pub(crate) fn post(&self, data: &[u8], list: &[TransferRef<'_>]) -> Result<(), PostErrorKind> {
        // 1. May this half post at all?
        let _posting = self.end.posting();
        let mut producer = self.open()?;
        if !list.is_empty() {
            return self.post_carrier(producer, data, list);
        }
        // 2. Is there a receiver, and room?
        fits(&producer, data.len())?;
        if self.find_peer()? == Peer::Discards {
            return Ok(());
        }
        let slot = self.find_room(&mut producer, data.len())?;
        // 3. Copy the data in; nobody sees it yet.
        producer.write(slot, 0, data);
        // 4. Commit: from here on the receiver has it.
        producer.commit(slot, data.len(), Kind::Data, 0);
        // 5. Wake the receiver if it sleeps.
        self.end.wake_peer_consumer();
        // 6. Prepare the memory of the next one.
        producer.clear_ahead(data.len());
        Ok(())
    }

    /// The same with a transfer list. Whatever fails, fails before the commit, and undoes itself by being dropped.
    #[cold]
    fn post_carrier(
        &self,
        mut producer: RefMut<'_, Producer>,
        data: &[u8],
        list: &[TransferRef<'_>],
    ) -> Result<(), PostErrorKind> {
        let mut baggage = Baggage::check(list, Some(&self.end))?;
        let (handles, max) = (baggage.handles(), self.end.segment().max_handles());
        if handles > max {
            return Err(PostErrorKind::TooManyHandles { handles, max });
        }
        let len = baggage.payload_len(data.len());
        fits(&producer, len)?;
        if self.find_peer()? == Peer::Discards {
            baggage.discard();
            return Ok(());
        }
        let slot = self.find_room(&mut producer, len)?;
        let out_of = |errno| PostErrorKind::ResourceExhausted(exhausted(errno));
        let table = baggage.table(data.len()).map_err(out_of)?;
        producer.write(slot, 0, data);
        producer.write(slot, data.len().next_multiple_of(8), &table);
        // The descriptors first: whoever sees the record finds them on the lane.
        match self.end.lane().send_handles(producer.sequence(), &baggage.descriptors()) {
            Ok(()) => {}
            Err(NotSent::Full) => return Err(self.full(FullCause::Lane)),
            Err(NotSent::Gone) => return Err(self.nobody()),
            Err(NotSent::Exhausted(errno)) => return Err(out_of(errno)),
        }
        producer.commit(slot, len, Kind::Carrier, handles as u8);
        self.end.wake_peer_consumer();
        baggage.detach();
        Ok(())
    }

    /// The producer, if this half can be used here and now.
    #[inline]
    fn open(&self) -> Result<RefMut<'_, Producer>, PostErrorKind> {
        if !self.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        match self.end.state() {
            State::Closed => return Err(PostErrorKind::PortClosed),
            State::Detached => return Err(PostErrorKind::Detached),
            // That the peer is gone is told after the list has been checked.
            State::Open | State::PeerClosed | State::PeerDied | State::Violated => {}
        }
        self.producer.try_borrow_mut().map_err(|_| PostErrorKind::Borrowed)
    }

    /// Whether anybody will receive a message.
    #[inline]
    fn find_peer(&self) -> Result<Peer, PostErrorKind> {
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

    #[inline]
    fn find_room(&self, producer: &mut Producer, len: usize) -> Result<Slot, PostErrorKind> {
        producer.reserve(len).map_err(|no_room| match no_room {
            NoRoom::Full => self.full(FullCause::Ring),
            NoRoom::Violation(violation) => PostErrorKind::PeerGone(self.end.violated(violation)),
        })
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
    fn wait_for_space(
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
        let buffers = list.iter().filter(|thing| matches!(thing, TransferRef::Buffer(_))).count();
        let len = match list.len() {
            0 => data_len,
            things => capsule::payload_len(data_len, things - buffers, buffers),
        };
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

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    Receives,
    /// The peer dropped its receiving half.
    Discards,
}

fn fits(producer: &Producer, len: usize) -> Result<(), PostErrorKind> {
    let max = producer.max_payload();
    if len > max { Err(PostErrorKind::TooLarge { len, max }) } else { Ok(()) }
}

/// Space for one message, to be written in place; see [`MessagePort::reserve`].
///
/// What was never written is whatever was in the queue before: earlier data of this channel, or zero.
#[must_use = "nothing is posted before `commit`"]
pub struct Reservation<'a> {
    half: &'a SendHalf,
    producer: RefMut<'a, Producer>,
    slot: Slot,
    len: usize,
    /// How far `io::Write` has come.
    written: usize,
}

impl Reservation<'_> {
    /// Bytes reserved.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no bytes are reserved: a message of no data.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `from` to `offset`.
    ///
    /// # Errors
    /// [`TooLarge`](PostErrorKind::TooLarge): not inside the reservation; nothing was written.
    /// [`Forked`](PostErrorKind::Forked): in a child that inherited the reservation.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> Result<(), PostErrorKind> {
        if !self.half.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        let len = offset.saturating_add(from.len());
        if len > self.len {
            return Err(PostErrorKind::TooLarge { len, max: self.len });
        }
        self.producer.write(self.slot, offset, from);
        Ok(())
    }

    /// Posts the message.
    ///
    /// # Errors
    /// The port was closed, or its peer is gone, since the reservation was made; or this is a forked child.
    pub fn commit(self) -> Result<(), PostErrorKind> {
        let len = self.len;
        self.commit_len(len)
    }

    /// Posts only the first `len` bytes.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit), and [`TooLarge`](PostErrorKind::TooLarge) for more than was reserved.
    pub fn commit_len(mut self, len: usize) -> Result<(), PostErrorKind> {
        if !self.half.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        if len > self.len {
            return Err(PostErrorKind::TooLarge { len, max: self.len });
        }
        let _posting = self.half.end.posting();
        if self.half.end.state() == State::Closed {
            return Err(PostErrorKind::PortClosed);
        }
        if self.half.find_peer()? == Peer::Receives {
            self.producer.commit(self.slot, len, Kind::Data, 0);
            self.half.end.wake_peer_consumer();
        }
        Ok(())
    }
}

/// Writes one part after the other, from the beginning; a full reservation takes no more.
impl io::Write for Reservation<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let count = from.len().min(self.len - self.written);
        self.write_at(self.written, &from[..count]).map_err(io::Error::other)?;
        self.written += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("len", &self.len).finish_non_exhaustive()
    }
}
