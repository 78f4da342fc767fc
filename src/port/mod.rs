//! `MessagePort` and its two halves: the holders of an end, and when it closes.

pub(crate) mod channel;
pub(crate) mod brief;
pub(crate) mod post;
pub(crate) mod carrier;
pub(crate) mod recv;
pub(crate) mod message;
pub(crate) mod iter;
pub(crate) mod batch;
pub(crate) mod plain;
pub(crate) mod reserve;
pub(crate) mod in_place;
pub(crate) mod peer;
#[cfg(feature = "serde")]
pub(crate) mod loan;
pub(crate) mod transfer;
pub(crate) mod baggage;

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::capsule::discard::{Walk, discard, discard_last};
use crate::end::shortage::DescriptorShortage;
use crate::end::wait::Spin;
use crate::end::{End, Parts, State};
use crate::error::{DifferentPorts, Refusal};
use crate::queue::doorbell::{self, FD};
use crate::queue::ring::{Consumer, Producer};
use crate::sys::Errno;
use crate::sys::epoll::Epoll;

/// One end of a channel: the native
/// [`MessagePort`](https://html.spec.whatwg.org/multipage/comms.html#message-ports).
///
/// What is posted here is received at the other end, in order and exactly once, in this process or another one. A port
/// can itself be posted over another port, with everything that is queued in it; its peer needs to do nothing and
/// notices nothing. Any holder of a port may use it: messages carry no sender identity.
///
/// A port is `Send` but not `Sync`: it has one holder at a time. To send and receive from two threads,
/// [`split`](Self::split) it. Dropping a port closes it.
///
/// After a `fork` without `exec`, the calls on an inherited port return `Forked` in the child, and dropping the port
/// there has no effect. A child that lives on without `exec` keeps the parent's descriptors open, so peers do not see
/// the parent die.
pub struct MessagePort {
    // The order matters: dropping the sending half first lets the receiving half close the end in one go.
    pub(crate) sender: SendHalf,
    pub(crate) receiver: RecvHalf,
}

/// The sending half of a port; see [`MessagePort::split`].
///
/// Dropping it closes nothing while the receiving half lives: the peer gets no more messages.
pub struct SendHalf {
    pub(crate) end: Arc<End>,
    pub(crate) producer: RefCell<Producer>,
    pub(crate) spin: Spin,
    /// When a post last looked whether the peer lives, on the clock of `sys/clock.rs`.
    pub(crate) looked: Cell<u64>,
}

/// The receiving half of a port; see [`MessagePort::split`].
///
/// If it is dropped while the sending half lives, what was queued and what the peer still posts is dropped, as with a
/// started port that has no handler.
pub struct RecvHalf {
    pub(crate) end: Arc<End>,
    pub(crate) receiving: RefCell<Receiving>,
    pub(crate) spin: Spin,
    /// True if a caller polls the descriptor: a receive that finds nothing must then arm the doorbell.
    pub(crate) polled: Cell<bool>,
}

/// The receiving half's private state.
pub(crate) struct Receiving {
    pub(crate) consumer: Consumer,
    /// Messages in a row that were there at once.
    pub(crate) run: u32,
    /// The tick of the coarse clock at the last poll that found nothing.
    pub(crate) tick: u64,
    /// Polls in that tick that found nothing.
    pub(crate) empty_polls: u32,
    /// When one of those last read the exact clock and checked the lane.
    pub(crate) lane_checked: Option<Instant>,
    /// The end of the peer has been reported: nothing comes after it.
    pub(crate) finished: bool,
    /// The failed attempts to receive the next message.
    pub(crate) shortage: DescriptorShortage,
    /// What an event loop may still dispatch after a close.
    pub(crate) rest: Option<Walk>,
}

impl Receiving {
    pub(crate) fn new(consumer: Consumer) -> Self {
        let shortage = DescriptorShortage::default();
        Self { consumer, run: 0, tick: 0, empty_polls: 0, lane_checked: None, finished: false, shortage, rest: None }
    }

    /// Leaves a message that the fast path has found in the queue: it is counted when it is found again.
    pub(crate) fn leave(&mut self) {
        self.run = self.run.saturating_sub(1);
    }
}

impl MessagePort {
    pub(crate) fn from_parts(parts: Parts) -> Self {
        let Parts { end, producer, consumer } = parts;
        Self {
            sender: SendHalf {
                end: Arc::clone(&end),
                producer: RefCell::new(producer),
                spin: Spin::new(),
                looked: Cell::new(0),
            },
            receiver: RecvHalf {
                end,
                receiving: RefCell::new(Receiving::new(consumer)),
                spin: Spin::new(),
                polled: Cell::new(false),
            },
        }
    }

    /// Closes the port: the standard's
    /// [`close()`](https://html.spec.whatwg.org/multipage/web-messaging.html#dom-messageport-close).
    ///
    /// It takes effect at once and never fails; a second call does nothing. What was posted here before still arrives
    /// at the peer, which then sees the end with the reason `Closed`. What is unread here is dropped: ports in it are
    /// closed, buffers freed. Every later call on this port returns `PortClosed`. Dropping the port releases its
    /// descriptors.
    ///
    /// The peer decides how many messages are unread, and how many ports they carry. At most 4096 of these ports are
    /// closed and 2^18 messages dropped, in a fraction of a second; the kernel closes the rest once the port is
    /// dropped, and the peer of a port in the rest then sees `PeerDied` instead of `Closed`.
    pub fn close(&self) {
        self.receiver.close();
    }

    /// Splits the port into a sending and a receiving half, which two threads may use, and which may both be blocked at
    /// the same time. A half cannot be transferred.
    pub fn split(self) -> (SendHalf, RecvHalf) {
        self.end().note_split();
        (self.sender, self.receiver)
    }

    /// Joins the two halves of a port.
    ///
    /// # Errors
    /// The halves belong to different ports; both are in the error.
    pub fn join(sender: SendHalf, receiver: RecvHalf) -> Result<Self, JoinError> {
        if Arc::ptr_eq(&sender.end, &receiver.end) {
            Ok(Self { sender, receiver })
        } else {
            Err(Refusal::new(DifferentPorts, (sender, receiver)))
        }
    }

    /// Sets how long a blocked call spins before it sleeps: 20 us by default, about the cost of a sleep and a wake-up.
    ///
    /// The port spins less while spinning does not help. By default a thread that may run on one CPU only does not
    /// spin; a budget that was set is used in any case, since two threads may be pinned to one CPU each. With
    /// [`Duration::ZERO`] a call sleeps at once.
    pub fn set_spin(&self, budget: Duration) {
        self.sender.set_spin(budget);
        self.receiver.set_spin(budget);
    }

    pub(crate) fn end(&self) -> &Arc<End> {
        &self.sender.end
    }

    /// Lends the port to a post: returns a second handle for the same end, which can be transferred while this one
    /// cannot be used; see [`End::lend`]. `None` if the port cannot be transferred.
    #[cfg(feature = "serde")]
    pub(crate) fn lend(&self) -> Option<Self> {
        if !self.end().home().is_here() {
            return None;
        }
        let guard = self.guard()?;
        let end = Arc::new(guard.end.lend()?);
        let (producer, consumer) = (guard.producer.clone(), guard.receiving.consumer.clone());
        Some(Self::from_parts(Parts { end, producer, consumer }))
    }

    /// Borrows both halves. `None` if one of them is in use.
    pub(crate) fn guard(&self) -> Option<PortGuard<'_>> {
        Some(PortGuard {
            end: self.end(),
            producer: self.sender.producer.try_borrow_mut().ok()?,
            receiving: self.receiver.receiving.try_borrow_mut().ok()?,
        })
    }
}

/// A whole port, borrowed for its transfer.
pub(crate) struct PortGuard<'a> {
    pub(crate) end: &'a Arc<End>,
    pub(crate) producer: RefMut<'a, Producer>,
    pub(crate) receiving: RefMut<'a, Receiving>,
}

impl SendHalf {
    pub(crate) fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// Closes the whole port, the receiving half included; see [`MessagePort::close`]. The receiving half drops what is
    /// queued in its next call, or when it is dropped.
    pub fn close(&self) {
        self.end.close();
    }

    /// Sets how long a blocked call spins; see [`MessagePort::set_spin`].
    pub fn set_spin(&self, budget: Duration) {
        self.spin.set_budget(budget);
    }
}

impl RecvHalf {
    /// Closes the whole port, the sending half included; see [`MessagePort::close`].
    pub fn close(&self) {
        self.end.close();
        // While a message is read in place, the queue stays: its guard drops the rest. A loop that dispatches the queue
        // drops it later.
        if self.end.state() == State::Closed
            && !self.end.is_dispatched()
            && self.end.home().is_here()
            && let Ok(mut receiving) = self.receiving.try_borrow_mut()
        {
            discard(&self.end, &mut receiving.consumer);
        }
    }

    /// Sets how long a blocked call spins; see [`MessagePort::set_spin`].
    pub fn set_spin(&self, budget: Duration) {
        self.spin.set_budget(budget);
    }
}

/// For a [`PortSet`](crate::PortSet), which holds whole ports or receiving halves.
impl AsRef<RecvHalf> for MessagePort {
    fn as_ref(&self) -> &RecvHalf {
        &self.receiver
    }
}

/// See the implementation for [`MessagePort`].
impl AsRef<RecvHalf> for RecvHalf {
    fn as_ref(&self) -> &RecvHalf {
        self
    }
}

/// For a loop that waits for many ports in one epoll set.
impl RecvHalf {
    /// Adds the lane to the epoll set `set`, under `key`.
    pub(crate) fn watch(&self, set: &Arc<Epoll>, key: u64) -> Result<(), Errno> {
        self.end.watch(set, key)
    }

    /// Removes the lane from its epoll set: from now on a receive that finds nothing makes no system call.
    pub(crate) fn unwatch(&self) {
        self.end.unwatch();
        if self.polled.replace(false) && is_ours(&self.end) {
            doorbell::disarm(self.end.incoming().data_doorbell());
        }
    }

    /// Sets whether a receive that finds nothing arms the doorbell, for a sleeper on the lane.
    #[inline]
    pub(crate) fn set_polled(&self, polled: bool) {
        self.polled.set(polled);
    }

    /// As `as_fd`, for a caller that sets `polled` itself.
    pub(crate) fn as_lane(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    pub(crate) fn end(&self) -> &End {
        &self.end
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if is_ours(&self.end) && !self.end.recall() && self.end.drop_half() {
            self.end.close();
            if let Some(mut consumer) = self.end.unpark() {
                discard(&self.end, &mut consumer);
            }
        }
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        if !is_ours(&self.end) || self.end.recall() {
            return;
        }
        let consumer = &mut self.receiving.get_mut().consumer;
        if self.end.is_last_half() {
            self.end.close();
            if Arc::strong_count(&self.end) == 1 && self.end.holds_lane_alone() {
                return discard_last(&self.end, consumer);
            }
        } else {
            self.end.discard_arrivals();
        }
        discard(&self.end, consumer);
        self.end.park(consumer.clone());
        // The sending half may have been dropped meanwhile, and has left the rest to this one.
        if self.end.drop_half() {
            self.end.close();
            discard(&self.end, consumer);
        }
    }
}

/// False for an end that was transferred or inherited by `fork`: dropping it must not touch what is shared.
fn is_ours(end: &End) -> bool {
    end.home().is_here() && end.state() != State::Detached
}

/// The descriptor to wait on in a poll(2) or epoll(7) of your own, level-triggered.
///
/// It becomes readable when a message may be there, and when the peer is gone. Poll it for reading only; never read,
/// write or close it. **Before each `poll`, call [`try_recv`](MessagePort::try_recv) until it returns `Empty`**: that
/// arms the wake-up. Take the descriptor before the first of these calls: taking it arms the wake-up too, but a message
/// that came in between does not make it readable. Remove it from an epoll set before the port is transferred or
/// dropped. Once the descriptor of a port has been taken, each `try_recv` that returns `Empty` makes a system call.
///
/// While the peer is stopped half way through posting a transfer list, the descriptor can stay readable although
/// `try_recv` returns `Empty`; a loop that must not spin then backs off by a timer.
///
/// The number stays in use when the port is transferred by reference. If it is at or above a descriptor limit that was
/// lowered meanwhile, it is closed: polling it returns `POLLNVAL`, and a later call of `as_fd` another descriptor.
impl AsFd for MessagePort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

/// See the implementation for [`MessagePort`].
impl AsFd for RecvHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // From now on a receive that finds nothing arms the doorbell; until the first one, this does. Not in a forked
        // child, nor for an end that was transferred.
        if !self.polled.replace(true) && is_ours(&self.end) {
            doorbell::arm(self.end.incoming().data_doorbell(), FD);
        }
        self.end.as_fd()
    }
}

impl fmt::Debug for MessagePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(&self.sender.end, "MessagePort", f)
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(&self.end, "SendHalf", f)
    }
}

impl fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(&self.end, "RecvHalf", f)
    }
}

fn describe(end: &End, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let state = format_args!("{:?}", end.state());
    let mut text = f.debug_struct(name);
    let channel = end.segment().name();
    if !channel.is_empty() {
        text.field("name", &channel);
    }
    text.field("state", &state).field("side", &end.side()).finish_non_exhaustive()
}

/// [`MessagePort::join`] failed: it gives back the two halves.
pub type JoinError = Refusal<DifferentPorts, (SendHalf, RecvHalf)>;
