//! Posting: the way of a message from the caller into the ring.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffer::{Hold, Memory, Role, TransferBuffer};
use crate::capsule::Counts;
use crate::end::{CLOSED, DISCARDING, End, OPEN, State};
use crate::error::{BufferError, FullCause, PostError, PostErrorKind, exhausted};
use crate::growth::{self, NotGrown};
use crate::lane::NotSent;
use crate::pool::{PAGE, Planned};
use crate::port::{MessagePort, SendHalf};
use crate::record::{FORGET_LEN, Kind};
use crate::reservation::{Reservation, Room};
use crate::ring::{NoRoom, Producer, Slot};
use crate::sync::Ordering;
use crate::sys::Errno;
use crate::transfer::{Baggage, Known, TransferRef, Transferable, count};
use crate::wait::{Outcome, Waiter};

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

    /// Reserves space for a message of `len` bytes, to write it in place. Nothing is visible before
    /// [`commit`](Reservation::commit); dropping the reservation leaves no trace.
    ///
    /// # Errors
    /// As for [`post_message`](Self::post_message) without a transfer list. One reservation is open at a time: another
    /// one, or a post, is [`Borrowed`](PostErrorKind::Borrowed).
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>, PostErrorKind> {
        self.sender.reserve(len)
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
    /// in the port's caches, 24 for a buffer, 8 for a frozen or shared buffer, none for a descriptor, and 24 besides.
    pub fn max_inline_len(&self) -> usize {
        self.sender.max_inline_len()
    }

    /// A buffer of `len` bytes to be filled and posted here: one that came back, if there is one, or a new one.
    ///
    /// A buffer that was posted on this port before and came back costs no system call and no page fault, and posting
    /// it again costs the same whatever its size: the peer has kept its mapping. It comes back when the peer drops it, or
    /// posts it back over this channel. Its bytes are what was last written to it by either side; a new one is all zero.
    ///
    /// So that this works both sides keep buffers that were posted here, as many as
    /// [`ChannelOptions`](crate::ChannelOptions) allow; a [`TransferBuffer::new`] that is posted joins them. A buffer that the
    /// peer posted on to somebody else is given up. While this port and its peer live, a buffer of this pool cannot be
    /// posted on another port: [`PooledElsewhere`](PostErrorKind::PooledElsewhere).
    ///
    /// ```
    /// # use messageport::MessageChannel;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// for frame in 0..1000_u32 {
    ///     let buffer = port1.buffer(1920 * 1080 * 4)?; // the first is new, the others are that one
    ///     buffer.write_value(0, &frame)?;
    ///     port1.post_message(b"frame", [buffer.into()])?;
    ///     assert_eq!(port2.recv()?.buffers[0].read_value::<u32>(0)?, frame);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`], as for [`TransferBuffer::new`].
    pub fn buffer(&self, len: usize) -> Result<TransferBuffer, BufferError> {
        self.sender.buffer(len)
    }

    /// Gives back the memory of this port's recycled buffers that nobody uses at the moment. Returns how many were let go;
    /// fewer than there are if the queue is full. Those that have not been used for a second are let go as well when other
    /// buffers are posted.
    ///
    /// # Errors
    /// The port cannot be used, or its peer is gone.
    pub fn release_buffers(&self) -> Result<usize, PostErrorKind> {
        self.sender.release_buffers()
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

    /// See [`MessagePort::reserve`].
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>, PostErrorKind> {
        let mut producer = self.open()?;
        self.may_be_posted(len)?;
        self.find_peer()?;
        let room = if len > self.max_inline_len() {
            // Found again by the commit: while the reservation is open nobody else takes it.
            let counts = Counts { buffers: 1, body: true, ..Counts::default() };
            self.find_room(&mut producer, counts.payload_len(0), IfFull::Grow)?;
            let hold = self.hold(len, &[]).map_err(|errno| PostErrorKind::ResourceExhausted(exhausted(errno)))?;
            Room::Buffer(TransferBuffer::from_hold(hold))
        } else {
            Room::Ring(self.find_room(&mut producer, len, IfFull::Grow)?)
        };
        Ok(Reservation::new(self, producer, room, len))
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
        crate::record::max_payload(self.end.segment().capacity())
    }

    /// See [`MessagePort::buffer`].
    pub fn buffer(&self, len: usize) -> Result<TransferBuffer, BufferError> {
        if !self.end.home().is_here() || self.end.state() != State::Open {
            return TransferBuffer::new(len);
        }
        self.hold(len, &[])
            .map(TransferBuffer::from_hold)
            .map_err(|errno| BufferError::ResourceExhausted(exhausted(errno)))
    }

    /// See [`MessagePort::release_buffers`].
    pub fn release_buffers(&self) -> Result<usize, PostErrorKind> {
        let _posting = self.end.posting();
        let mut producer = self.open()?;
        match self.find_peer()? {
            Peer::Receives => Ok(self.forget_idle(&mut producer, true)),
            Peer::Discards => Ok(0),
        }
    }

    /// Lends `post` the things that `transfer` owns; gives them back if it fails.
    #[inline]
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
        let Some(second) = transfer.next() else {
            return post(&[TransferRef::from(&first)]).map_err(|kind| PostError { kind, transfer: vec![first] });
        };
        let transfer: Vec<Transferable> = [first, second].into_iter().chain(transfer).collect();
        let list: Vec<TransferRef<'_>> = transfer.iter().map(TransferRef::from).collect();
        post(&list).map_err(|kind| PostError { kind, transfer })
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
        // 2. Is there room?
        if data.len() > self.longest_straight() {
            return false;
        }
        let Ok(slot) = producer.reserve(data.len()) else { return false };
        // 3. Copy the data in; nobody sees it yet.
        producer.write(slot, 0, data);
        // 4. Commit: from here on the receiver has it.
        producer.commit(slot, data.len(), Kind::Data, 0);
        // 5. Wake the receiver if it sleeps.
        self.end.wake_peer_consumer();
        // 6. Prepare the memory of the next one.
        producer.clear_ahead(data.len());
        true
    }

    /// The same for a list of one buffer that the peer knows.
    fn post_known_straight(&self, data: &[u8], buffer: &TransferBuffer) -> bool {
        let _posting = self.end.posting();
        let Some(mut producer) = self.straight() else { return false };
        let Some(known) = Known::find(buffer, &self.end) else { return false };
        let len = Known::payload_len(data.len());
        if len > self.max_inline_len() || data.len() > self.longest_straight() {
            return false;
        }
        let Ok(slot) = producer.reserve(len) else { return false };
        producer.write(slot, 0, data);
        known.write_table(data.len(), table_writer(&producer, slot, data.len()));
        let look_for_idle = known.hand_over(&self.end);
        producer.commit(slot, len, Kind::Carrier, 0);
        self.end.wake_peer_consumer();
        known.detach();
        if look_for_idle {
            self.forget_idle(&mut producer, false);
        }
        true
    }

    /// The longest message that goes straight.
    #[inline]
    pub(crate) fn longest_straight(&self) -> usize {
        self.max_inline_len().min(self.end.segment().limits().max_message_len)
    }

    /// The producer, if this half is in order, its peer receives, and the queue has not grown.
    #[inline]
    pub(crate) fn straight(&self) -> Option<RefMut<'_, Producer>> {
        if !self.end.home().is_here() || self.end.state() != State::Open {
            return None;
        }
        let producer = self.producer.try_borrow_mut().ok()?;
        let peer = self.end.outgoing().consumer_state().load(Ordering::Acquire);
        (peer == OPEN && producer.direction().grown().is_none()).then_some(producer)
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

    /// The same with a transfer list, or with data that does not fit the ring. Whatever fails, fails before the commit, and
    /// undoes itself by being dropped.
    #[cold]
    pub(crate) fn post_carrier(
        &self,
        mut producer: RefMut<'_, Producer>,
        data: Data<'_>,
        list: &[TransferRef<'_>],
        if_full: IfFull,
    ) -> Result<(), PostErrorKind> {
        let mut baggage = Baggage::check(list, Some(&self.end))?;
        let limits = self.end.segment().limits();
        let has_body = match &data {
            Data::Copy(data) => baggage.payload_len(data.len()) > self.max_inline_len() && limits.max_handles > 0,
            Data::InBuffer(_) => true,
        };
        let at_most = |handles| match limits.max_handles {
            max if handles > max => Err(PostErrorKind::TooManyHandles { handles, max }),
            _ => Ok(()),
        };
        at_most(baggage.handles())?;
        self.may_be_posted(data.len())?;
        // The buffer with the data may turn out to be known to the peer, and to need no descriptor.
        at_most(baggage.handles() + usize::from(has_body))?;
        let data_len = if has_body { 0 } else { data.len() };
        if has_body {
            baggage.expect_body();
        }
        let len = baggage.payload_len(data_len);
        self.fits_inline(len)?;
        if self.find_peer()? == Peer::Discards {
            baggage.discard();
            return Ok(());
        }
        let slot = self.find_room(&mut producer, len, if_full)?;
        match data {
            Data::Copy(data) if has_body => baggage.set_body(self.filled(data, baggage.planned())?, &self.end),
            Data::Copy(data) => producer.write(slot, 0, data),
            Data::InBuffer(hold) => baggage.set_body(hold, &self.end),
        }
        baggage.write_table(data_len, table_writer(&producer, slot, data_len));
        // The descriptors first: whoever sees the record finds them on the lane.
        let handles = baggage.handles();
        if handles > 0 {
            let descriptors: Vec<_> = baggage.descriptors().collect();
            self.end.lane().send_handles(producer.sequence(), &descriptors).map_err(|why| self.not_sent(why))?;
        }
        let look_for_idle = baggage.hand_over(&self.end);
        producer.commit(slot, len, Kind::Carrier, handles as u8);
        self.end.wake_peer_consumer();
        baggage.detach();
        if look_for_idle {
            self.forget_idle(&mut producer, false);
        }
        Ok(())
    }

    /// A buffer with a copy of `data`.
    fn filled(&self, data: &[u8], planned: &[Planned]) -> Result<Hold, PostErrorKind> {
        let hold =
            self.hold(data.len(), planned).map_err(|errno| PostErrorKind::ResourceExhausted(exhausted(errno)))?;
        hold.memory.write(data);
        Ok(hold)
    }

    /// Memory for `len` bytes: some that came back, or new.
    fn hold(&self, len: usize, planned: &[Planned]) -> Result<Hold, Errno> {
        let recycled = self.end.buffers().pool().take(len, planned);
        if let Some(memory) = recycled {
            return Ok(Hold::new(memory, len, Role::Owner));
        }
        let capacity = len.checked_next_multiple_of(PAGE).ok_or(Errno::EFBIG)?;
        Ok(Hold::new(Arc::new(Memory::create(capacity)?), len, Role::New))
    }

    /// Has the peer forget recycled buffers that wait, if there is room to say so. Returns how many.
    fn forget_idle(&self, producer: &mut Producer, at_once: bool) -> usize {
        let idle = self.end.buffers().pool().idle(at_once);
        let mut count = 0;
        for slot in idle {
            let Ok(room) = producer.reserve(FORGET_LEN) else { break };
            producer.write(room, 0, &(slot as u64).to_ne_bytes());
            self.end.buffers().pool().forget(slot);
            producer.commit(room, FORGET_LEN, Kind::Forget, 0);
            self.end.wake_peer_consumer();
            count += 1;
        }
        count
    }

    /// The producer, if this half can be used here and now.
    #[inline]
    fn open(&self) -> Result<RefMut<'_, Producer>, PostErrorKind> {
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
    fn may_be_posted(&self, len: usize) -> Result<(), PostErrorKind> {
        let max = self.max_message_len();
        if len > max { Err(PostErrorKind::TooLarge { len, max }) } else { Ok(()) }
    }

    /// Whether the ring takes a record with a payload of `len` bytes.
    fn fits_inline(&self, len: usize) -> Result<(), PostErrorKind> {
        let max = self.max_inline_len();
        if len > max { Err(PostErrorKind::TooLarge { len, max }) } else { Ok(()) }
    }

    #[inline]
    fn find_room(&self, producer: &mut Producer, len: usize, if_full: IfFull) -> Result<Slot, PostErrorKind> {
        let violated = |violation| PostErrorKind::PeerGone(self.end.violated(violation));
        if producer.direction().grown().is_some() {
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
            Ok(()) => self.find_room(producer, len, IfFull::Fail),
            Err(NotGrown::AtLimit) => Err(self.full(FullCause::Ring)),
            Err(NotGrown::NotSent(not_sent)) => Err(self.not_sent(not_sent)),
        }
    }

    #[cold]
    fn not_sent(&self, why: NotSent) -> PostErrorKind {
        match why {
            NotSent::Full => self.full(FullCause::Lane),
            NotSent::Gone => self.nobody(),
            NotSent::Exhausted(errno) => PostErrorKind::ResourceExhausted(exhausted(errno)),
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

/// Writes the parts of a table behind `data_len` bytes of data.
fn table_writer(producer: &Producer, slot: Slot, data_len: usize) -> impl FnMut(&[u8]) {
    let mut at = data_len.next_multiple_of(8);
    move |part| {
        producer.write(slot, at, part);
        at += part.len();
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

/// The data of a message.
pub(crate) enum Data<'a> {
    Copy(&'a [u8]),
    /// Written in place.
    InBuffer(Hold),
}

impl Data<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Copy(data) => data.len(),
            Self::InBuffer(hold) => hold.len,
        }
    }
}

/// What a post does about a full queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IfFull {
    /// Goes on in a larger ring.
    Grow,
    Fail,
}
