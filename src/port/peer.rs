//! Whether the peer is there, without a message; and how another thread ends a wait.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{MessagePort, RecvHalf, SendHalf};
use crate::end::End;
use crate::end::interrupt::{Interrupter, WHOLE, flag_of};
use crate::end::lane::Half;
use crate::end::wait::Deadline;
use crate::error::{CloseReason, RecvError, RecvTimeoutError};
use crate::sys::io_error;

impl MessagePort {
    /// Why the peer is gone; `None` while it is there. Takes no message and posts none: what the peer posted before it
    /// went can still be received.
    ///
    /// The answer is the kernel's at this moment: the death of a process shows once the kernel has closed its
    /// descriptors. A peer in transit is there. Makes one system call, unless the reason is known already. A post
    /// notices the end by itself, after at most 64 posts or 10 ms of posting, whichever comes later.
    ///
    /// # Errors
    /// This port is closed, transferred, being posted, or inherited by `fork`.
    pub fn peer_state(&self) -> Result<Option<CloseReason>, RecvError> {
        self.sender.peer_state()
    }

    /// Waits until the peer is gone, and returns why. Takes no message and posts none.
    ///
    /// # Errors
    /// Those of [`peer_state`](Self::peer_state), and [`Interrupted`](RecvError::Interrupted).
    pub fn closed(&self) -> Result<CloseReason, RecvError> {
        self.receiver.closed()
    }

    /// Waits until the peer is gone for at most `timeout`, and returns why.
    ///
    /// # Errors
    /// [`TimedOut`](RecvTimeoutError::TimedOut), or as for [`closed`](Self::closed).
    pub fn closed_timeout(&self, timeout: Duration) -> Result<CloseReason, RecvTimeoutError> {
        self.receiver.closed_timeout(timeout)
    }

    /// A handle with which other threads end a wait on this port: a receive, a post that waits for space, a wait for
    /// the end of the peer. See [`Interrupter`].
    ///
    /// After a [`split`](Self::split) an interrupt ends one wait of either half, whichever takes it first; the halves
    /// have interrupters of their own.
    ///
    /// ```
    /// # use messageport::{MessageChannel, RecvError};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// let interrupter = port1.interrupter()?;
    /// std::thread::spawn(move || interrupter.interrupt());
    /// assert!(matches!(port1.recv(), Err(RecvError::Interrupted)));
    /// port2.post_message(b"hello", [])?;
    /// assert_eq!(port1.recv()?.data, b"hello");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The system has no descriptors: the first interrupter of a port takes two, that of a half one, which stay open
    /// until the port and its interrupters are dropped. [`Unsupported`](io::ErrorKind::Unsupported) if the port was
    /// inherited by `fork`.
    pub fn interrupter(&self) -> io::Result<Interrupter> {
        interrupter(&self.sender.end, WHOLE)
    }

    /// Sets whether a signal ends a wait on this port with `Interrupted`, after its handler has run: a receive, a post
    /// that waits for space, a wait for the end of the peer. By default it does not.
    ///
    /// Only a signal that arrives while the thread sleeps in the kernel ends the wait; the handler's flags
    /// (`SA_RESTART` of sigaction(2)) do not matter. One that arrives just before the thread falls asleep does not. A
    /// handler that calls [`Interrupter::interrupt`] misses nothing.
    pub fn set_interrupt_on_signal(&self, ends: bool) {
        self.sender.set_interrupt_on_signal(ends);
        self.receiver.set_interrupt_on_signal(ends);
    }
}

impl SendHalf {
    /// See [`MessagePort::peer_state`].
    pub fn peer_state(&self) -> Result<Option<CloseReason>, RecvError> {
        self.end.peer_state()
    }

    /// See [`MessagePort::closed`].
    pub fn closed(&self) -> Result<CloseReason, RecvError> {
        closed(&self.end, Half::Sender)
    }

    /// See [`MessagePort::closed_timeout`].
    pub fn closed_timeout(&self, timeout: Duration) -> Result<CloseReason, RecvTimeoutError> {
        closed_timeout(&self.end, Half::Sender, timeout)
    }

    /// A handle with which other threads end a wait of this half; see [`MessagePort::interrupter`].
    ///
    /// # Errors
    /// Those of [`MessagePort::interrupter`].
    pub fn interrupter(&self) -> io::Result<Interrupter> {
        interrupter(&self.end, flag_of(Half::Sender))
    }

    /// Sets whether a signal ends a wait of this half; see [`MessagePort::set_interrupt_on_signal`].
    pub fn set_interrupt_on_signal(&self, ends: bool) {
        self.end.interrupts().set_by_signal(Half::Sender, ends);
    }
}

impl RecvHalf {
    /// See [`MessagePort::peer_state`].
    pub fn peer_state(&self) -> Result<Option<CloseReason>, RecvError> {
        self.end.peer_state()
    }

    /// See [`MessagePort::closed`].
    pub fn closed(&self) -> Result<CloseReason, RecvError> {
        closed(&self.end, Half::Receiver)
    }

    /// See [`MessagePort::closed_timeout`].
    pub fn closed_timeout(&self, timeout: Duration) -> Result<CloseReason, RecvTimeoutError> {
        closed_timeout(&self.end, Half::Receiver, timeout)
    }

    /// A handle with which other threads end a wait of this half; see [`MessagePort::interrupter`].
    ///
    /// # Errors
    /// Those of [`MessagePort::interrupter`].
    pub fn interrupter(&self) -> io::Result<Interrupter> {
        interrupter(&self.end, flag_of(Half::Receiver))
    }

    /// Sets whether a signal ends a wait of this half; see [`MessagePort::set_interrupt_on_signal`].
    pub fn set_interrupt_on_signal(&self, ends: bool) {
        self.end.interrupts().set_by_signal(Half::Receiver, ends);
    }
}

fn closed(end: &End, half: Half) -> Result<CloseReason, RecvError> {
    loop {
        if let Some(reason) = end.wait_for_end(half, Deadline::Never)? {
            return Ok(reason);
        }
    }
}

fn closed_timeout(end: &End, half: Half, timeout: Duration) -> Result<CloseReason, RecvTimeoutError> {
    end.wait_for_end(half, Deadline::after(timeout))?.ok_or(RecvTimeoutError::TimedOut)
}

/// An interrupter of the waits on `end` that take one of `flags`.
pub(crate) fn interrupter(end: &Arc<End>, flags: u8) -> io::Result<Interrupter> {
    if !end.home().is_here() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, RecvError::Forked));
    }
    Interrupter::new(end.interrupts(), flags, Arc::downgrade(end)).map_err(io_error)
}
