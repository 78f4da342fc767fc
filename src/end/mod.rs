//! An end of a channel: what its sending and its receiving half share, and how it ends.
#![forbid(unsafe_code)]

pub(crate) mod growth;
pub(crate) mod wait;
pub(crate) mod spurious;
pub(crate) mod task;
pub(crate) mod lane;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::lane::{Doorbell, Drained, Lane};
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

/// Which end of the channel: A produces in direction 0 and consumes from direction 1, B the other way round.
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

/// `producer_state` and `consumer_state` in the segment: each side tells the other that it goes on (0), or:
pub(crate) const OPEN: u32 = 0;
/// The end is closed.
pub(crate) const CLOSED: u32 = 1;
/// The receiving half was dropped: what is posted to it is to be dropped by the sender.
pub(crate) const DISCARDING: u32 = 2;

/// What this end knows of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Open,
    /// By its holder.
    Closed,
    /// Transferred: the end lives on elsewhere, and this handle must not touch it.
    Detached,
    /// The peer is gone; what it posted can still be received.
    PeerClosed,
    PeerDied,
    /// The peer broke the format; see `End::violation`.
    Violated,
    /// Lent to a post, which has not come to its end; see `End::lend`.
    Lent,
}

/// Set in the state word, beside the state, while the end is lent.
const LENT: u8 = 0x40;
/// Set as well when the handle was closed or dropped meanwhile.
const RECALLED: u8 = 0x20;

pub(crate) struct End {
    segment: Segment,
    lane: Arc<Lane>,
    side: Side,
    outgoing: Direction,
    incoming: Direction,
    buffers: Arc<Buffers>,
    state: AtomicU8,
    violation: OnceLock<Violation>,
    /// The two halves may be used by two threads.
    split: AtomicBool,
    /// One of them is between its look at `state` and its commit.
    posting: AtomicBool,
    /// The peer has been told that this end is closed.
    announced: AtomicBool,
    /// Halves that have not been dropped.
    halves: AtomicU8,
    /// Where the dropped receiving half stopped reading, for whoever closes the end.
    parked: Mutex<Option<Consumer>>,
    /// The set that the lane is in while a loop watches it.
    watched: Mutex<Option<Arc<Epoll>>>,
    /// Held to read packets off the lane, which both halves may do.
    reading: Mutex<()>,
    tasks: Tasks,
}

impl End {
    pub(crate) fn new(segment: Segment, lane: Lane, side: Side) -> Self {
        Self {
            outgoing: segment.direction(side.outgoing()),
            incoming: segment.direction(side.incoming()),
            buffers: Arc::new(Buffers::new(segment.limits())),
            segment,
            lane: Arc::new(lane),
            side,
            state: AtomicU8::new(State::Open as u8),
            violation: OnceLock::new(),
            split: AtomicBool::new(false),
            posting: AtomicBool::new(false),
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

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// True if the lane's socket goes with this end, which it does unless the end was lent or is.
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
        // Acquire, with the release in `set_state`: the other half may have set it, and `violation` before it.
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

    /// Leaves an open state; an end never comes back to one.
    fn set_state(&self, state: State) -> bool {
        let leave = |old| match old {
            _ if old == State::Open as u8 => Some(state as u8),
            // The peer is gone; now our holder closes too, or sees that the queue is broken.
            _ if old == State::PeerClosed as u8 || old == State::PeerDied as u8 => match state {
                State::Closed | State::Detached | State::Violated => Some(state as u8),
                _ => None,
            },
            // Posted to a peer that discards: closed, and no longer this handle's.
            _ if old == State::Closed as u8 && state == State::Detached => Some(state as u8),
            _ if old & LENT != 0 && state == State::Detached => Some(state as u8),
            _ => None,
        };
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, leave).is_ok()
    }

    /// Why the peer is gone, if it is known to be.
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

    /// True once the peer has said that it closed. Everything it posted is in the ring by then.
    #[inline]
    pub(crate) fn peer_has_closed(&self) -> bool {
        // Acquire, with the release in `announce_close`.
        self.incoming.producer_state().load(Ordering::Acquire) == CLOSED
    }

    /// Notes that the peer is gone: it said so, or the lane did.
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
            self.lane.discard_rest();
        }
        CloseReason::ProtocolViolation(violation)
    }

    /// Closes this end, at once and for both halves. What it posted stays in the ring for the peer.
    pub(crate) fn close(&self) {
        if self.home().is_here() && !self.recall() && self.set_state(State::Closed) {
            self.buffers.give_up();
            self.announce_close();
        }
    }

    /// Lends the end to a post that has only a shared reference to the port: the result stands for the same end of the
    /// channel, and until [`unlend`](Self::unlend) or [`detach`](Self::detach) the handle of `self` can do nothing to
    /// it. `None` if it cannot be transferred.
    #[cfg(feature = "serde")]
    pub(crate) fn lend(&self) -> Option<Self> {
        let lendable = [State::Open, State::PeerClosed, State::PeerDied].map(|state| state as u8);
        let mark = |old| lendable.contains(&old).then_some(old | LENT);
        // AcqRel, here and in the two below: the handle may have gone to another thread.
        let state = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark).ok()?;
        Some(Self {
            segment: self.segment.clone(),
            lane: Arc::clone(&self.lane),
            outgoing: self.outgoing.clone(),
            incoming: self.incoming.clone(),
            buffers: Arc::clone(&self.buffers),
            state: AtomicU8::new(state),
            violation: OnceLock::new(),
            split: AtomicBool::new(false),
            posting: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            halves: AtomicU8::new(2),
            parked: Mutex::new(None),
            watched: Mutex::new(None),
            reading: Mutex::new(()),
            tasks: Tasks::default(),
            side: self.side,
        })
    }

    /// Gives the end back to its handle, as it was. False if the handle was closed or dropped: what was lent is then
    /// all that is left.
    #[cfg(feature = "serde")]
    pub(crate) fn unlend(&self) -> bool {
        let unmark = |old| match old {
            _ if old & RECALLED != 0 => Some(State::Detached as u8),
            _ if old & LENT != 0 => Some(old & !LENT),
            _ => None,
        };
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, unmark);
        before.is_ok_and(|before| before & RECALLED == 0)
    }

    /// For a handle that is closed or dropped: if the end is lent, leaves it to the borrower and returns true.
    pub(crate) fn recall(&self) -> bool {
        let mark = |old| (old & LENT != 0).then_some(old | RECALLED);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark).is_ok()
    }

    /// True if the handle of a lent end was closed or dropped.
    #[cfg(feature = "serde")]
    pub(crate) fn is_recalled(&self) -> bool {
        self.state.load(Ordering::Acquire) & RECALLED != 0
    }

    /// From here on two threads may post and close at the same time.
    pub(crate) fn note_split(&self) {
        self.split.store(true, Ordering::Relaxed);
    }

    /// Marks a post, from before the look at `state` until after the commit: a close by the other half that falls into
    /// it is told to the peer when it is over, so that a message whose post succeeded is there before the end is.
    #[inline]
    pub(crate) fn posting(&self) -> Option<Posting<'_>> {
        self.split.load(Ordering::Relaxed).then(|| {
            // With the fence in `announce_close`: that close sees the mark, or this post sees the state.
            self.posting.store(true, Ordering::SeqCst);
            crate::queue::sync::fence(Ordering::SeqCst);
            Posting(self)
        })
    }

    /// Tells the peer and whoever sleeps on either side, once.
    fn announce_close(&self) {
        // With the fences of `posting`: whoever posts now sees the new state when it is done, and comes here.
        crate::queue::sync::fence(Ordering::SeqCst);
        if self.posting.load(Ordering::SeqCst) || self.announced.swap(true, Ordering::AcqRel) {
            return;
        }
        // Release, with the acquire in `peer_has_closed` and `SendHalf::find_peer`: all that we committed is visible first.
        self.outgoing.producer_state().store(CLOSED, Ordering::Release);
        self.incoming.consumer_state().store(CLOSED, Ordering::Release);
        crate::queue::sync::fence(Ordering::SeqCst);
        // The peer's two halves ...
        self.wake_peer_consumer();
        self.wake_peer_producer();
        // ... and our own.
        doorbell::ring(self.incoming.data(), || true);
        doorbell::ring(self.outgoing.space(), || true);
        // Wakes whoever sleeps on either end of the lane. What is queued on it can still be read.
        self.lane.hang_up();
    }

    /// Hands the end over to its next holder: nothing in the segment or on the lane is touched from now on.
    pub(crate) fn detach(&self) {
        self.unwatch();
        self.set_state(State::Detached);
        self.buffers.give_up();
    }

    /// For a second handle of an end that was lent and is given back: it must not touch the end.
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

    /// Takes the lane out of the set that it is in. It must be out of it before the end moves: whoever holds the lane's
    /// socket then would keep it in the set, out of our reach.
    pub(crate) fn unwatch(&self) {
        let set = self.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(set) = set.filter(|_| self.home().is_here()) {
            set.delete(self.lane.as_fd());
        }
    }

    /// After `detach`, for a handle that stays behind: keeps the number of the lane's descriptor, which somebody may
    /// still poll, and nothing behind it, so that the end of the next holder is noticed.
    pub(crate) fn let_go_of_lane(&self) {
        self.lane.detach(self.segment.as_fd());
    }

    /// Nobody reads here any more, although the sending half lives on.
    pub(crate) fn discard_arrivals(&self) {
        // Only from OPEN: the other half may have closed the end. Release, with the acquire in `SendHalf::find_peer`.
        let state = self.incoming.consumer_state();
        let _ = state.compare_exchange(OPEN, DISCARDING, Ordering::Release, Ordering::Relaxed);
        crate::queue::sync::fence(Ordering::SeqCst);
        self.wake_peer_producer();
    }

    /// Counts a half as dropped; true for the last one.
    pub(crate) fn drop_half(&self) -> bool {
        // AcqRel: the last one sees what the other one parked.
        self.halves.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// True if the other half has been dropped.
    pub(crate) fn is_last_half(&self) -> bool {
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
        doorbell::ring_if_asleep(self.outgoing.data(), || self.lane.wake(Doorbell::Data));
    }

    /// Wakes the peer if it sleeps waiting for space. The caller has announced with a full fence.
    pub(crate) fn wake_peer_producer(&self) {
        doorbell::ring_if_asleep(self.incoming.space(), || self.lane.wake(Doorbell::Space));
    }

    /// Wakes our own sending half, if it waits for space.
    pub(crate) fn wake_own_producer(&self) {
        doorbell::ring(self.outgoing.space(), || true);
        self.tasks.wake(Doorbell::Space);
    }

    /// Held by the half that looks at a packet and then takes it: the other one must not take it in between.
    pub(crate) fn reading(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads off the lane what half `reader` may: all but the descriptors of record `sequence` or a later one. Wake-ups
    /// for the other half are passed on.
    pub(crate) fn drain_lane(&self, sequence: u64, reader: Doorbell) -> Result<Drained, Violation> {
        let _reading = self.reading();
        self.lane.drain(sequence, |doorbell| self.heard(doorbell, reader))
    }

    /// A wake-up came over the lane, and half `reader` has found it.
    pub(crate) fn heard(&self, doorbell: Doorbell, reader: Doorbell) {
        if doorbell == Doorbell::Space {
            doorbell::ring(self.outgoing.space(), || true);
        }
        self.tasks.heard(doorbell, reader);
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

/// A post that is on its way; see [`End::posting`].
pub(crate) struct Posting<'a>(&'a End);

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        self.0.posting.store(false, Ordering::SeqCst);
        crate::queue::sync::fence(Ordering::SeqCst);
        if matches!(self.0.state(), State::Closed | State::Violated) {
            self.0.announce_close();
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lane.as_fd()
    }
}

/// An end with the cursors of both its directions, not yet wrapped in a port.
pub(crate) struct Parts {
    pub(crate) end: Arc<End>,
    pub(crate) producer: Producer,
    pub(crate) consumer: Consumer,
}
