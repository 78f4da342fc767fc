//! `PortSet`: receives from many ports without handlers.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::poller::{BORROWED_NAP, NO_PORT, Poller, Watchable};
use crate::end::interrupt::{Interrupter, Interrupts, flag_of};
use crate::end::lane::Half;
use crate::error::{BadTransfer, CloseReason, RecvError, Refusal, TryRecvError, WatchError};
use crate::port::message::Message;
use crate::port::{MessagePort, RecvHalf};
use crate::sys::epoll::Alarm;
use crate::sys::io_error;

/// After 16 turns of ports that are ready, the poller polls the rings of the others.
const TURNS_PER_REFRESH: usize = 16;

/// Receives from many ports: ports with messages take turns.
///
/// ```
/// use messageport::{MessageChannel, PortSet, SetEvent};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (red, blue) = (MessageChannel::new()?, MessageChannel::new()?);
/// let mut set = PortSet::new()?;
/// let red_id = set.add(red.port2)?;
/// let blue_id = set.add(blue.port2)?;
/// blue.port1.post_message(b"hello", [])?;
///
/// let (id, event) = set.wait()?.expect("there are ports");
/// assert_eq!(id, blue_id);
/// assert!(matches!(event, SetEvent::Message(message) if message.data == b"hello"));
/// set.get(id).expect("it is in the set").post_message(b"hello yourself", [])?;
/// assert!(set.remove(red_id).is_some());
/// # Ok(()) }
/// ```
/// A set can contain thousands of ports: an idle port costs nothing while others are busy. A `PortSet<RecvHalf>`
/// contains receiving [halves](MessagePort::split), whose sending halves other threads may use.
///
/// # Order
/// The messages of one port come in the order in which they were posted. Between ports there is no order: if one
/// message is posted on one port and then another on a second port, by two senders or by the same one, the set may
/// return the second first. What must stay in order goes over one port: let the senders post to a process that passes
/// everything on over one port, or hand one port from sender to sender, whose queue keeps the order across the
/// transfer. Or let the messages carry a number, such as one of a counter in a [`SharedBuffer`](crate::SharedBuffer),
/// by which the receiver sorts them.
pub struct PortSet<P = MessagePort> {
    poller: Poller<Member<P>>,
    /// Turns since the last refresh of the poller.
    turns: usize,
    /// Makes the descriptor readable when a port has napped.
    alarm: Alarm,
    /// The descriptor has been requested.
    embedded: Cell<bool>,
    /// The interrupts of the set's waits, which are those of a receiving half.
    interrupts: Arc<Interrupts>,
    /// The bell of the interrupters is in the epoll set.
    has_bell: bool,
}

struct Member<P>(P);

impl<P: AsRef<RecvHalf>> Watchable for Member<P> {
    fn with<R>(&self, visit: impl FnOnce(&RecvHalf) -> R) -> Option<R> {
        Some(visit(self.0.as_ref()))
    }
}

/// Identifies a port of one [`PortSet`]. No other port of the set ever has the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(u64);

/// An event of a port in a [`PortSet`].
#[derive(Debug)]
#[non_exhaustive]
pub enum SetEvent<P = MessagePort> {
    /// The port received a message.
    Message(Message),
    /// A message cannot be made for this receiver. It has been consumed, and what it carried is closed; later messages
    /// are not affected.
    MessageError {
        /// What is wrong with the message.
        reason: BadTransfer,
        /// The data of the message.
        data: Vec<u8>,
    },
    /// The peer is gone, and all its messages have been received. The port has left the set.
    Closed(CloseReason, P),
}

impl<P: AsRef<RecvHalf>> PortSet<P> {
    /// Makes an empty set. Takes two descriptors.
    ///
    /// # Errors
    /// The system has no memory or no descriptors.
    pub fn new() -> io::Result<Self> {
        let (poller, alarm) = (Poller::new().map_err(io_error)?, Alarm::new().map_err(io_error)?);
        poller.add_wake_up(alarm.as_fd(), NO_PORT).map_err(io_error)?;
        Ok(Self { poller, turns: 0, alarm, embedded: Cell::new(false), interrupts: Arc::default(), has_bell: false })
    }

    /// Adds a port, with everything that is queued in it.
    ///
    /// # Errors
    /// The system cannot watch one more descriptor, or this is a forked child; the port is in the error.
    pub fn add(&mut self, port: P) -> Result<PortId, Refusal<WatchError, P>> {
        if !self.poller.is_here() {
            return Err(Refusal::new(WatchError::Forked, port));
        }
        let added = self.poller.add(Member(port));
        added.map(PortId).map_err(|(errno, Member(port))| Refusal::new(WatchError::System(io_error(errno)), port))
    }

    /// Takes a port out of the set, with everything that has not been received. `None`: it is not in the set.
    pub fn remove(&mut self, id: PortId) -> Option<P> {
        self.poller.remove(id.0).map(|member| member.0)
    }

    /// A port of the set, to post on it or for any other use. A port that is closed or transferred leaves the set
    /// without an event.
    pub fn get(&mut self, id: PortId) -> Option<&P> {
        self.poller.schedule(id.0); // the caller may use up the wake-up that the poller waits for
        self.poller.get(id.0).map(|member| &member.0)
    }

    /// Number of ports.
    pub fn len(&self) -> usize {
        self.poller.len()
    }

    /// True if there are no ports.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets how long a wait spins before it sleeps; see [`MessagePort::set_spin`].
    pub fn set_spin(&self, budget: Duration) {
        self.poller.spin.set_budget(budget);
    }

    /// A handle with which other threads end a wait of the set; see [`Interrupter`]. The wait returns an error of the
    /// kind [`Interrupted`](io::ErrorKind::Interrupted), and no event is lost.
    ///
    /// # Errors
    /// The system has no descriptors: the first interrupter takes one. [`Unsupported`](io::ErrorKind::Unsupported) in a
    /// forked child.
    pub fn interrupter(&mut self) -> io::Result<Interrupter> {
        if !self.poller.is_here() {
            return Err(forked());
        }
        let interrupter = Interrupter::new(&self.interrupts, flag_of(Half::Receiver), Weak::new()).map_err(io_error)?;
        if let Some(bell) = self.interrupts.bell(Half::Receiver).filter(|_| !self.has_bell) {
            self.poller.add_wake_up(bell.as_fd(), NO_PORT).map_err(io_error)?;
            self.has_bell = true;
        }
        Ok(interrupter)
    }

    /// Sets whether a signal ends a wait of the set; see [`MessagePort::set_interrupt_on_signal`]. By default it does
    /// not.
    pub fn set_interrupt_on_signal(&self, ends: bool) {
        self.interrupts.set_by_signal(Half::Receiver, ends);
    }

    /// Waits for the next event of any port. `None` if there are no ports.
    ///
    /// # Errors
    /// An error of the kind [`Interrupted`](io::ErrorKind::Interrupted) after an interrupt. The system's error, if a
    /// message cannot be received for want of memory or descriptors: the message stays queued for a later call.
    /// [`Unsupported`](io::ErrorKind::Unsupported) in a forked child.
    pub fn wait(&mut self) -> io::Result<Option<(PortId, SetEvent<P>)>> {
        self.wait_until(None)
    }

    /// Waits for the next event of any port for at most `timeout`. `None` if no event came in time, or if there are no
    /// ports.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> io::Result<Option<(PortId, SetEvent<P>)>> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Returns the next event of any port if there is one, without waiting. `None` if there is none now, or if there
    /// are no ports.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<(PortId, SetEvent<P>)>> {
        self.wait_until(Some(Instant::now()))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> io::Result<Option<(PortId, SetEvent<P>)>> {
        if !self.poller.is_here() {
            return Err(forked());
        }
        let mut waited = false;
        let may_wait = deadline.is_none_or(|deadline| Instant::now() < deadline);
        loop {
            while self.poller.has_ready() {
                self.turns += 1;
                if self.turns > TURNS_PER_REFRESH {
                    self.turns = 0;
                    self.poller.refresh().map_err(io_error)?;
                }
                let Some(key) = self.poller.next() else { break };
                if let Some(event) = self.turn(key)? {
                    return Ok(Some((PortId(key), event)));
                }
            }
            let over = waited && deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if over || self.is_empty() {
                if self.embedded.get() {
                    let now = Instant::now();
                    self.alarm.set(self.poller.next_nap().map(|until| until.saturating_duration_since(now)));
                }
                return Ok(None);
            }
            if may_wait && self.interrupts.is_wanted(Half::Receiver) {
                // What is there precedes the interrupt.
                self.poller.wait(Some(Instant::now()), || false).map_err(io_error)?;
                if self.poller.has_ready() {
                    continue;
                }
                if self.interrupts.take(Half::Receiver) {
                    return Err(interrupted());
                }
            }
            let woken = || may_wait && self.interrupts.is_wanted(Half::Receiver);
            let by_signal = self.poller.wait(deadline, woken).map_err(io_error)?;
            if by_signal && self.interrupts.by_signal(Half::Receiver) && !self.poller.has_ready() {
                return Err(interrupted());
            }
            waited = true;
        }
    }

    /// The turn of one port: receives at most one message.
    fn turn(&mut self, key: u64) -> io::Result<Option<SetEvent<P>>> {
        let Some(member) = self.poller.get(key) else { return Ok(None) };
        let event = match member.0.as_ref().try_recv() {
            Ok(message) => SetEvent::Message(message),
            Err(TryRecvError::Empty) => {
                self.poller.found_empty(key);
                return Ok(None);
            }
            Err(TryRecvError::Failed(RecvError::MessageError { reason, data })) => {
                SetEvent::MessageError { reason, data }
            }
            Err(TryRecvError::Failed(RecvError::Ended(reason))) => {
                return Ok(self.remove(PortId(key)).map(|port| SetEvent::Closed(reason, port)));
            }
            Err(TryRecvError::Failed(RecvError::ResourceExhausted(error))) => {
                self.poller.nap_short(key);
                return Err(error);
            }
            // A message is being read in place through another handle of the port.
            Err(TryRecvError::Failed(RecvError::Borrowed)) => {
                self.poller.nap(key, BORROWED_NAP);
                return Ok(None);
            }
            // A receive that does not wait is not interrupted.
            Err(TryRecvError::Failed(
                RecvError::PortClosed | RecvError::Detached | RecvError::Forked | RecvError::Interrupted,
            )) => {
                self.poller.remove(key);
                return Ok(None);
            }
        };
        self.poller.found_message(key);
        self.poller.schedule(key);
        Ok(Some(event))
    }
}

/// The descriptor to wait on in another program's `poll` or `epoll`, level-triggered: it is readable when a port of the
/// set may have an event. Poll it for reading only.
///
/// **Before each `poll`, call [`try_wait`](PortSet::try_wait) until it returns `None`**: that arms the wake-ups. A port
/// that is added, or from which the program itself receives, needs that too.
impl<P> AsFd for PortSet<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.embedded.set(true);
        self.poller.descriptor()
    }
}

impl<P> fmt::Debug for PortSet<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortSet").finish_non_exhaustive()
    }
}

fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the wait of the set was interrupted")
}

fn forked() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the set was inherited by fork and belongs to the parent process")
}
