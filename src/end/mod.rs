//! An end of a channel: what its sending and its receiving half share, and how it closes.
#![forbid(unsafe_code)]

pub(crate) mod growth;
pub(crate) mod wait;
pub(crate) mod spurious;
pub(crate) mod shortage;
pub(crate) mod task;
pub(crate) mod lane;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::lane::{Drained, Half, Lane};
use self::task::Tasks;
use crate::buffer::pool::Buffers;
use crate::error::{CloseReason, Violation};
use crate::queue::direction::Direction;
use crate::queue::doorbell;
use crate::queue::ring::{Consumer, Producer};
use crate::queue::segment::Segment;
use crate::sys::Errno;
use crate::sys::epoll::Epoll;
use crate::sys::fork::Home;

/// The end of a channel: A produces into direction 0 and consumes from direction 1, B the other way round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Side {
    A = 0,
    B = 1,
}

impl Side {
    pub(crate) fn outgoing(self) -> usize {
        self as usize
    }

    pub(crate) fn incoming(self) -> usize {
        1 - self as usize
    }
}

/// State word of a side in the segment: the side goes on.
pub(crate) const OPEN: u32 = 0;
/// State word of a side in the segment: its end is closed.
pub(crate) const CLOSED: u32 = 1;
/// State word of a consumer in the segment: the receiving half was dropped, and the sender drops what it posts.
pub(crate) const DISCARDING: u32 = 2;

/// The state of an end in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Open,
    /// Closed by its holder.
    Closed,
    /// Transferred: the end lives on elsewhere, and this handle must not touch it.
    Detached,
    /// The peer closed; what it posted can still be received.
    PeerClosed,
    /// The peer died; what it posted can still be received.
    PeerDied,
    /// The peer broke the format; see `End::violation`.
    Violated,
    /// Lent to a post that is under way; see `End::lend`.
    Lent,
}

/// Flag beside the state while the end is lent.
const LENT: u8 = 0x40;
/// Flag beside `LENT` once the handle has been closed or dropped.
const RECALLED: u8 = 0x20;

/// One end of a channel. Its halves share it, and may be used by two threads.
pub(crate) struct End {
    segment: Segment,
    lane: Arc<Lane>,
    side: Side,
    outgoing: Direction,
    incoming: Direction,
    buffers: Arc<Buffers>,
    /// `State`, or a state that can be lent with the flags `LENT` and `RECALLED`.
    state: AtomicU8,
    violation: OnceLock<Violation>,
    /// True once the port has been split: two threads may then use the halves.
    split: AtomicBool,
    /// True while the sending half is between its load of `state` and its commit.
    posting: AtomicBool,
    /// True in a started port of an event loop, which dispatches what is queued even after a close.
    dispatched: AtomicBool,
    /// True once the close has been announced to the peer.
    announced: AtomicBool,
    /// Halves that have not been dropped.
    halves: AtomicU8,
    /// The consumer of the dropped receiving half, for the half that closes the end.
    parked: Mutex<Option<Consumer>>,
    /// The epoll set that the lane is in while a loop watches it.
    watched: Mutex<Option<Arc<Epoll>>>,
    /// Held while packets are read off the lane, which both halves do.
    reading: Mutex<()>,
    tasks: Tasks,
}

impl End {
    pub(crate) fn new(segment: Segment, lane: Lane, side: Side) -> Self {
        let buffers = Arc::new(Buffers::new(segment.limits()));
        Self::with(segment, Arc::new(lane), side, buffers, State::Open as u8)
    }

    fn with(segment: Segment, lane: Arc<Lane>, side: Side, buffers: Arc<Buffers>, state: u8) -> Self {
        Self {
            outgoing: segment.direction(side.outgoing()),
            incoming: segment.direction(side.incoming()),
            buffers,
            segment,
            lane,
            side,
            state: AtomicU8::new(state),
            violation: OnceLock::new(),
            split: AtomicBool::new(false),
            posting: AtomicBool::new(false),
            dispatched: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            halves: AtomicU8::new(2),
            parked: Mutex::new(None),
            watched: Mutex::new(None),
            reading: Mutex::new(()),
            tasks: Tasks::default(),
        }
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// True if dropping this end closes the lane's socket: false for one that is or was lent.
    pub(crate) fn holds_lane_alone(&self) -> bool {
        Arc::strong_count(&self.lane) == 1
    }

    /// The recycled buffers of both directions.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// The process that this end belongs to.
    #[inline]
    pub(crate) fn home(&self) -> Home {
        self.segment.mapping().home()
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        // Acquire: pairs with the release in `set_state` by the other half, which has set `violation` before.
        match self.state.load(Ordering::Acquire) {
            0 => State::Open,
            1 => State::Closed,
            2 => State::Detached,
            3 => State::PeerClosed,
            4 => State::PeerDied,
            5 => State::Violated,
            _ => State::Lent,
        }
    }

    /// Leaves an open state, to which an end never returns. False if the state does not allow it.
    fn set_state(&self, state: State) -> bool {
        let leave = |old| match old {
            _ if old == State::Open as u8 => Some(state as u8),
            // The peer is gone; now this end is closed or transferred, or its queue turns out to be broken.
            _ if old == State::PeerClosed as u8 || old == State::PeerDied as u8 => match state {
                State::Closed | State::Detached | State::Violated => Some(state as u8),
                _ => None,
            },
            // Posted to a peer that discards: the post has closed the end, and now detaches the handle.
            _ if old == State::Closed as u8 && state == State::Detached => Some(state as u8),
            _ if old & LENT != 0 && state == State::Detached => Some(state as u8),
            _ => None,
        };
        // Release: pairs with the acquire load in `state`.
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, leave).is_ok()
    }

    /// Why the peer is gone, once that is known.
    pub(crate) fn gone(&self) -> Option<CloseReason> {
        match self.state() {
            State::PeerClosed => Some(CloseReason::Closed),
            State::PeerDied => Some(CloseReason::PeerDied),
            State::Violated => {
                Some(CloseReason::ProtocolViolation(self.violation.get().copied().unwrap_or(Violation::UnknownKind)))
            }
            _ => None,
        }
    }

    /// True once the peer has announced its close. Everything it posted is in the ring by then.
    #[inline]
    pub(crate) fn peer_has_closed(&self) -> bool {
        // Acquire: pairs with the release store in `announce_close` of the peer.
        self.incoming.producer_state().load(Ordering::Acquire) == CLOSED
    }

    /// Notes that the peer is gone: it has announced its close, or the lane hung up.
    pub(crate) fn note_peer_gone(&self) -> CloseReason {
        let closed = self.peer_has_closed();
        if self.set_state(if closed { State::PeerClosed } else { State::PeerDied }) {
            self.buffers.pool().release();
        }
        self.gone().unwrap_or(CloseReason::Closed)
    }

    /// Ends the channel because the peer broke the format.
    pub(crate) fn violated(&self, violation: Violation) -> CloseReason {
        let _ = self.violation.set(violation);
        if self.set_state(State::Violated) {
            self.buffers.give_up();
            self.announce_close();
            self.discard_lane();
        }
        CloseReason::ProtocolViolation(violation)
    }

    /// Closes this end, at once and for both halves. What it posted stays in the ring for the peer.
    ///
    /// These are the two steps of the standard's
    /// [`close()`](https://html.spec.whatwg.org/multipage/web-messaging.html#dom-messageport-close).
    pub(crate) fn close(&self) {
        // 1. Detach the port. Deviation: its calls return `PortClosed`, and `Detached` only after a transfer.
        if self.home().is_here() && !self.recall() && self.set_state(State::Closed) {
            if self.is_dispatched() {
                self.buffers.pool().release(); // messages with buffers are still queued
            } else {
                self.buffers.give_up();
            }
            // 2. Disentangle it, which fires `close` at the peer. Deviation: the event carries a reason.
            self.announce_close();
        }
    }

    /// Notes whether an event loop dispatches what is queued, which then outlives a close.
    pub(crate) fn set_dispatched(&self, dispatched: bool) {
        // Relaxed: a close on another thread, through the sending half, may see either value. The queue is touched by
        // the receiving half only, on the thread that stores this.
        self.dispatched.store(dispatched, Ordering::Relaxed);
    }

    /// True if an event loop dispatches what is queued.
    pub(crate) fn is_dispatched(&self) -> bool {
        // Relaxed: as in `set_dispatched`.
        self.dispatched.load(Ordering::Relaxed)
    }

    /// Lends the end to a post that has only a shared reference to the port. The result stands for the same end of the
    /// channel; until [`unlend`](Self::unlend) or [`detach`](Self::detach), the handle of `self` cannot use it. `None`
    /// if the end cannot be transferred.
    #[cfg(feature = "serde")]
    pub(crate) fn lend(&self) -> Option<Self> {
        let lendable = [State::Open, State::PeerClosed, State::PeerDied].map(|state| state as u8);
        let mark = |old| lendable.contains(&old).then_some(old | LENT);
        // AcqRel: pairs with itself and with `unlend` and `recall`, since the handle may have gone to another thread.
        let state = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark).ok()?;
        Some(Self::with(self.segment.clone(), Arc::clone(&self.lane), self.side, Arc::clone(&self.buffers), state))
    }

    /// Returns the end to its handle, as it was. False if the handle was closed or dropped: the borrower is then the
    /// only holder.
    #[cfg(feature = "serde")]
    pub(crate) fn unlend(&self) -> bool {
        let unmark = |old| match old {
            _ if old & RECALLED != 0 => Some(State::Detached as u8),
            _ if old & LENT != 0 => Some(old & !LENT),
            _ => None,
        };
        // AcqRel: as in `lend`.
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, unmark);
        before.is_ok_and(|before| before & RECALLED == 0)
    }

    /// Leaves a lent end to its borrower when its handle is closed or dropped. False if the end is not lent.
    pub(crate) fn recall(&self) -> bool {
        let mark = |old| (old & LENT != 0).then_some(old | RECALLED);
        // AcqRel: as in `lend`.
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark).is_ok()
    }

    /// True if the handle of a lent end was closed or dropped.
    #[cfg(feature = "serde")]
    pub(crate) fn is_recalled(&self) -> bool {
        // Acquire: pairs with the release in `recall`.
        self.state.load(Ordering::Acquire) & RECALLED != 0
    }

    /// Notes that from now on two threads may post and close at the same time.
    pub(crate) fn note_split(&self) {
        // Relaxed: the halves go to other threads behind this store, and take it along.
        self.split.store(true, Ordering::Relaxed);
    }

    /// Marks a post of a split port, from before the load of `state` until after the commit. The announcement of a
    /// close by the other half that falls into it waits for its end, so a message whose post succeeded precedes the
    /// close.
    #[inline]
    pub(crate) fn posting(&self) -> Option<Posting<'_>> {
        // Relaxed: as in `note_split`.
        self.split.load(Ordering::Relaxed).then(|| {
            // SeqCst, with the fence: pairs with the fence in `announce_close`. Either that close sees the mark, or
            // this post sees the state.
            self.posting.store(true, Ordering::SeqCst);
            crate::queue::sync::fence(Ordering::SeqCst);
            Posting(self)
        })
    }

    /// Announces the close to the peer, and wakes every sleeper on both sides, once.
    fn announce_close(&self) {
        // SeqCst: pairs with the fence in `posting`. A post that is under way sees the new state when it ends, and
        // comes here.
        crate::queue::sync::fence(Ordering::SeqCst);
        if self.posting.load(Ordering::SeqCst) || self.announced.swap(true, Ordering::AcqRel) {
            return;
        }
        // Release: pairs with the acquire loads in `peer_has_closed` and `SendHalf::find_peer`. Every commit of this
        // end is visible first.
        self.outgoing.producer_state().store(CLOSED, Ordering::Release);
        self.incoming.consumer_state().store(CLOSED, Ordering::Release);
        crate::queue::sync::fence(Ordering::SeqCst);
        // The peer's two halves ...
        self.wake_peer_consumer();
        self.wake_peer_producer();
        // ... and our own.
        doorbell::ring(self.incoming.data_doorbell(), || true);
        doorbell::ring(self.outgoing.space_doorbell(), || true);
        // Wakes the sleepers on both ends of the lane. What is queued on it can still be read.
        self.lane.hang_up();
    }

    /// Hands the end over to its next holder: from now on this handle touches nothing in the segment or on the lane.
    pub(crate) fn detach(&self) {
        self.unwatch();
        self.set_state(State::Detached);
        self.buffers.give_up();
    }

    /// Makes a second handle of a lent end one that does not touch it.
    #[cfg(feature = "serde")]
    pub(crate) fn disown(&self) {
        self.set_state(State::Detached);
    }

    /// Puts the lane into a set, as `key`, until [`unwatch`](Self::unwatch).
    pub(crate) fn watch(&self, set: &Arc<Epoll>, key: u64) -> Result<(), Errno> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.is_some() {
            return Err(Errno::EEXIST); // in another set, through another way to the same half
        }
        set.add(self.lane.as_fd(), key)?;
        *watched = Some(Arc::clone(set));
        Ok(())
    }

    /// Takes the lane out of its epoll set. That must happen before the end moves: the next holder's descriptor keeps
    /// the socket open, and with it an entry in the set that this process can no longer remove.
    pub(crate) fn unwatch(&self) {
        // A forked child shares the set with its parent.
        if !self.home().is_here() {
            return;
        }
        let set = self.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(set) = set {
            set.delete(self.lane.as_fd());
        }
    }

    /// Lets a detached handle keep the number of the lane's descriptor, which a caller may still poll, but not the
    /// socket behind it, so that the peer sees the end of the next holder.
    pub(crate) fn let_go_of_lane(&self) {
        self.lane.replace_socket(self.segment.clone());
    }

    /// Announces that nothing is received here any more, although the sending half lives on.
    pub(crate) fn discard_arrivals(&self) {
        // Only from OPEN: the other half may have closed the end. Release: pairs with the acquire load in
        // `SendHalf::find_peer`.
        let state = self.incoming.consumer_state();
        let _ = state.compare_exchange(OPEN, DISCARDING, Ordering::Release, Ordering::Relaxed);
        crate::queue::sync::fence(Ordering::SeqCst);
        self.wake_peer_producer();
    }

    /// Counts a half as dropped; true for the last one.
    pub(crate) fn drop_half(&self) -> bool {
        // AcqRel: pairs with itself, so the last half sees what the other one parked.
        self.halves.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// True if the other half has been dropped.
    pub(crate) fn is_last_half(&self) -> bool {
        // Acquire: pairs with the release in `drop_half`.
        self.halves.load(Ordering::Acquire) == 1
    }

    pub(crate) fn park(&self, consumer: Consumer) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = Some(consumer);
    }

    pub(crate) fn unpark(&self) -> Option<Consumer> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Wakes the peer if it sleeps waiting for messages. The caller has committed with a full fence.
    #[inline]
    pub(crate) fn wake_peer_consumer(&self) {
        doorbell::ring_if_asleep(self.outgoing.data_doorbell(), || self.lane.wake(Half::Receiver));
    }

    /// Wakes the peer if it sleeps waiting for space. The caller has announced with a full fence.
    pub(crate) fn wake_peer_producer(&self) {
        doorbell::ring_if_asleep(self.incoming.space_doorbell(), || self.lane.wake(Half::Sender));
    }

    /// Wakes the sending half of this end, if it waits for space.
    pub(crate) fn wake_own_producer(&self) {
        doorbell::ring(self.outgoing.space_doorbell(), || true);
        self.tasks.wake(Half::Sender);
    }

    /// Keeps the other half from taking a packet between this half's peek and its take.
    pub(crate) fn reading(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads off the lane all but the descriptors of record `sequence` or a later one, for half `reader`. Wake-ups for
    /// the other half are passed on.
    pub(crate) fn drain_lane(&self, sequence: u64, reader: Half) -> Result<Drained, Violation> {
        let _reading = self.reading();
        self.lane.drain(sequence, |half| self.on_wake_up(half, reader))
    }

    /// Drops what is left on the lane, once nothing that matters can come any more.
    pub(crate) fn discard_lane(&self) {
        // The lock keeps out a half that drains the lane: it could take packets that it has not seen.
        let _reading = self.reading();
        self.lane.discard_rest();
    }

    /// Passes on a wake-up that half `reader` has read off the lane.
    pub(crate) fn on_wake_up(&self, half: Half, reader: Half) {
        if half == Half::Sender {
            doorbell::ring(self.outgoing.space_doorbell(), || true);
        }
        self.tasks.on_wake_up(half, reader);
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn outgoing(&self) -> &Direction {
        &self.outgoing
    }

    pub(crate) fn incoming(&self) -> &Direction {
        &self.incoming
    }
}

/// A post that is under way; see [`End::posting`].
pub(crate) struct Posting<'a>(&'a End);

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        // SeqCst, with the fence: as in `End::posting`. A close that saw the mark has left its announcement to this
        // post.
        self.0.posting.store(false, Ordering::SeqCst);
        crate::queue::sync::fence(Ordering::SeqCst);
        if matches!(self.0.state(), State::Closed | State::Violated) {
            self.0.announce_close();
        }
    }
}

/// The lane. If its number could not be kept when the end moved, the segment: a descriptor that is open.
impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.lane.is_gone() { self.segment.as_fd() } else { self.lane.as_fd() }
    }
}

/// An end with the cursors of both its directions: a port before it is given to a user.
pub(crate) struct Parts {
    pub(crate) end: Arc<End>,
    pub(crate) producer: Producer,
    pub(crate) consumer: Consumer,
}
