//! The lane: a socket pair beside the rings, for what shared memory cannot do: carry descriptors, wake a sleeper in
//! poll(2), and report that the other end is gone. It is a Unix SEQPACKET socket (unix(7)).
//!
//! A packet arrives whole or not at all. A `HANDLES` packet carries the descriptors of one record and is sent before
//! the record is committed, so a consumer that sees the record finds its packet. A packet whose record was never
//! committed stays unread until the receiver sees the end of its peer, and is then dropped.
//!
//! Whatever takes a packet with descriptors off the lane closes them unless it has duplicates. So a packet that may
//! have none is checked for them before it is taken, and the [closer] takes the packets of no use.
#![forbid(unsafe_code)]

use std::io::IoSlice;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};

use crate::error::{Rejection, Violation};
use crate::sys::cancel::Uncancelled;
use crate::sys::epoll::WakeUp;
use crate::sys::lane_socket::LaneSocket;
use crate::sys::passed::Passed;
use crate::sys::socket::Received;
use crate::sys::{Errno, closer, socket};

/// `Packet::kind` of a wake-up.
const WAKE: u32 = 1;
/// `Packet::kind` of the descriptors of a record.
const HANDLES: u32 = 2;

/// A half reads at most 64 packets before a sleep; an honest peer leaves one. If a hostile peer sends as fast as they
/// are read, the lane stays readable, and the half sleeps on the futex instead.
const DRAIN_LIMIT: usize = 64;
/// At most 4096 packets, more than a lane holds, are passed over on the way to one that must be there.
const SKIP_LIMIT: usize = 4096;
/// A message that is given up for want of descriptors ends its channel if closing its descriptors takes 100 ms.
const SLOW_CLOSE: Duration = Duration::from_millis(100);

/// A packet.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable, PartialEq, Eq, Debug)]
struct Packet {
    kind: u32,
    /// `HANDLES`: the number of descriptors. `WAKE`: the `Half` that it wakes.
    count: u32,
    /// `HANDLES`: the number of the record. `WAKE`: 0.
    sequence: u64,
}

const _: () = {
    assert!(size_of::<Packet>() == 16);
    assert!(offset_of!(Packet, kind) == 0 && offset_of!(Packet, count) == 4 && offset_of!(Packet, sequence) == 8);
};

impl Packet {
    /// The half that a `WAKE` packet wakes.
    fn half(&self) -> Half {
        if self.count == Half::Sender as u32 { Half::Sender } else { Half::Receiver }
    }
}

/// A half of a port. On the wire it names the half that a `WAKE` packet wakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Half {
    /// Sleeps on the data doorbell.
    Receiver = 0,
    /// Sleeps on the space doorbell.
    Sender = 1,
}

/// What is left on a lane after draining it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drained {
    /// Nothing: the lane is not readable, or only because the peer is gone.
    Empty,
    /// The lane stays readable: the descriptors of a record that has not been committed yet wait on it, or packets come
    /// as fast as they are read.
    StillReadable,
}

/// What ended a sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// The bell of an interrupter. It is silent again.
    Bell,
    Signal,
    /// What the sleeper waits for, the end of its time, or nothing.
    Other,
}

/// Why the descriptors of a record were not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotSent {
    /// Too many packets wait unread.
    Full,
    /// The peer is gone.
    Gone,
    Shortage(Errno),
}

impl NotSent {
    /// True if too many descriptors or packets are unread.
    pub(crate) fn is_want_of_room(self) -> bool {
        matches!(self, Self::Full | Self::Shortage(Errno::ETOOMANYREFS))
    }
}

/// Why a descriptor that came from elsewhere is not a lane.
pub(crate) enum NotALane {
    /// It is of another kind than the end of any lane.
    Kind,
    /// It is a socket of the right kind that cannot serve as a lane.
    Unfit(Lane),
}

fn handles_packet(sequence: u64, count: usize) -> Packet {
    Packet { kind: HANDLES, count: count as u32, sequence }
}

fn not_sent(errno: Errno) -> NotSent {
    match errno {
        Errno::EAGAIN => NotSent::Full,
        Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => NotSent::Gone,
        errno => NotSent::Shortage(errno),
    }
}

/// One end of a lane.
pub(crate) struct Lane {
    socket: LaneSocket,
    /// True once the closer takes what is queued. `End::reading` is held while this is read and written.
    is_abandoned: AtomicBool,
}

impl Lane {
    pub(crate) fn pair() -> Result<(Self, Self), Errno> {
        let (a, b) = socket::pair()?;
        Ok((Self::of(LaneSocket::own(a)), Self::of(LaneSocket::own(b))))
    }

    /// Takes in a socket that came from a peer, if it can be a lane.
    pub(crate) fn adopt(passed: &mut Passed) -> Result<Self, NotALane> {
        let (socket, fit) = passed.check(|socket| {
            if socket::is_connected_seqpacket(socket) {
                Ok(socket::gets_whole_packets(socket))
            } else {
                Err(NotALane::Kind)
            }
        })?;
        let lane = Self::inherit(socket);
        if fit { Ok(lane) } else { Err(NotALane::Unfit(lane)) }
    }

    /// Takes in a Unix SEQPACKET socket that another process has held.
    pub(crate) fn inherit(socket: OwnedFd) -> Self {
        Self::of(LaneSocket::adopted(socket))
    }

    fn of(socket: LaneSocket) -> Self {
        Self { socket, is_abandoned: AtomicBool::new(false) }
    }

    /// Wakes a peer that sleeps in poll(2). True if the lane holds a packet for it.
    pub(crate) fn wake(&self, half: Half) -> bool {
        let _uncancelled = Uncancelled::begin();
        let packet = Packet { kind: WAKE, count: half as u32, sequence: 0 };
        // A full lane is readable, which wakes the peer as well.
        matches!(self.send(packet, &[]), Ok(()) | Err(Errno::EAGAIN))
    }

    /// Sends the descriptors of record `sequence`, all or none.
    pub(crate) fn send_handles(&self, sequence: u64, descriptors: &[BorrowedFd<'_>]) -> Result<(), NotSent> {
        self.send(handles_packet(sequence, descriptors.len()), descriptors).map_err(not_sent)
    }

    /// Sends the ring of record `sequence`, for which a full lane has a reserve: a queue grows although as many
    /// transfer lists are unread as fit.
    pub(crate) fn send_ring(&self, sequence: u64, ring: BorrowedFd<'_>) -> Result<(), NotSent> {
        let send = || self.send(handles_packet(sequence, 1), &[ring]);
        let sent = match send() {
            Err(Errno::EAGAIN) => socket::with_reserve(self.as_fd(), send),
            result => result,
        };
        sent.map_err(not_sent)
    }

    fn send(&self, packet: Packet, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let parts = [IoSlice::new(bytemuck::bytes_of(&packet))];
        match socket::send(self.as_fd(), &parts, descriptors) {
            // The kernel reports the reset of a peer that closed with unread packets once, to any call.
            Err(Errno::ECONNRESET) => socket::send(self.as_fd(), &parts, descriptors),
            result => result,
        }
    }

    /// Duplicates the `count` descriptors of record `sequence` into this process. The packet stays queued until
    /// [`take_handles`](Self::take_handles), so that the caller can still fail. `wake` is called for each wake-up on
    /// the way.
    pub(crate) fn peek_handles(
        &self,
        sequence: u64,
        count: usize,
        wake: impl Fn(Half),
    ) -> Result<Vec<Passed>, Rejection<Violation>> {
        for _ in 0..SKIP_LIMIT {
            let (packet, received) = self.peek(count).map_err(Rejection::Invalid)?.ok_or(
                // The packet was sent before the record was committed, so it is here.
                Rejection::Invalid(Violation::NoHandles),
            )?;
            if packet.kind == HANDLES && packet.sequence == sequence {
                if packet.count as usize != count {
                    return Err(Rejection::Invalid(Violation::BadHandles));
                }
                return match received.descriptors.len() {
                    len if len == count => Ok(received.descriptors),
                    // The kernel could not install all of them.
                    len if len < count && received.descriptors_cut => Err(Rejection::Shortage(Errno::EMFILE)),
                    _ => Err(Rejection::Invalid(Violation::BadHandles)),
                };
            }
            if packet.kind != WAKE {
                return Err(Rejection::Invalid(Violation::NoHandles));
            }
            self.take_wake_up(packet, &received, &wake).map_err(Rejection::Invalid)?;
        }
        Err(Rejection::Invalid(Violation::BadPacket))
    }

    /// Takes the packet that [`peek_handles`](Self::peek_handles) has found off the lane.
    pub(crate) fn take_handles(&self) {
        self.skip();
    }

    /// Takes a packet with descriptors off the lane without duplicates of them, so that taking it closes them. False if
    /// that has not ended within [`SLOW_CLOSE`]: what is on the lane is then unknown.
    pub(crate) fn drop_handles(self: &Arc<Self>) -> bool {
        let lane = Arc::clone(self);
        closer::elsewhere_within(SLOW_CLOSE, move || lane.skip())
    }

    /// Reads every packet but the descriptors of record `sequence` or a later one. `wake` is called for each wake-up.
    /// One half at a time calls this: see `End::drain_lane`.
    pub(crate) fn drain(&self, sequence: u64, wake: impl Fn(Half)) -> Result<Drained, Violation> {
        // Relaxed: the lock orders it.
        if self.is_abandoned.load(Ordering::Relaxed) {
            return Ok(Drained::Empty);
        }
        for _ in 0..DRAIN_LIMIT {
            match self.peek(0)? {
                None => return Ok(Drained::Empty),
                Some((packet, received)) => match packet.kind {
                    WAKE => self.take_wake_up(packet, &received, &wake)?,
                    HANDLES if packet.sequence >= sequence => return Ok(Drained::StillReadable),
                    // An honest peer commits the record of one packet before it sends the next.
                    _ => return Err(Violation::BadPacket),
                },
            }
        }
        Ok(Drained::StillReadable)
    }

    /// Takes a `WAKE` packet off the lane, which must have no descriptors.
    fn take_wake_up(&self, packet: Packet, seen: &Received, wake: impl Fn(Half)) -> Result<(), Violation> {
        let is_bare = |seen: &Received| !seen.descriptors_cut && seen.descriptors.is_empty();
        // A former holder may have set an option by which each packet has credentials or a time. Without room they are
        // reported as cut, as descriptors are; the second look has room for both.
        if !is_bare(seen) && !self.peek(1)?.is_some_and(|(again, seen)| again == packet && is_bare(&seen)) {
            return Err(Violation::BadPacket);
        }
        wake(packet.half());
        self.skip();
        Ok(())
    }

    /// Drops what is queued, once the lane has hung up and nothing that matters can come any more. A record that was
    /// never committed has left its descriptors here, whose peers would otherwise not see the end of them.
    pub(crate) fn discard_rest(self: &Arc<Self>) {
        if self.hung_up() && self.socket.may_hold_descriptors() {
            // Relaxed: as in `drain`.
            self.is_abandoned.store(true, Ordering::Relaxed);
            let lane = Arc::clone(self);
            closer::elsewhere(move || lane.take_all());
        }
    }

    fn take_all(&self) {
        for _ in 0..SKIP_LIMIT {
            match socket::skip(self.as_fd()) {
                Ok(0) | Err(Errno::EAGAIN) => return, // what may come behind a packet of no bytes goes with the socket
                Ok(_) | Err(Errno::ECONNRESET) => {}
                Err(_) => return,
            }
        }
    }

    /// The first packet, left queued, with up to `room` of its descriptors. `None` if there is no packet now, or there
    /// never will be one.
    fn peek(&self, room: usize) -> Result<Option<(Packet, Received)>, Violation> {
        let mut packet = Packet::zeroed();
        loop {
            match socket::peek(self.as_fd(), bytemuck::bytes_of_mut(&mut packet), room) {
                // End-of-file, or a packet of no bytes, which would hide whatever comes behind it.
                Ok(received) if received.len == 0 && self.hung_up() => return Ok(None),
                Ok(received) if received.len == size_of::<Packet>() && !received.cut => {
                    return Ok(Some((packet, received)));
                }
                // The kernel reports a reset once, in front of what is still queued.
                Err(Errno::ECONNRESET) => continue,
                Err(Errno::EAGAIN) => return Ok(None),
                Ok(_) | Err(_) => return Err(Violation::BadPacket),
            }
        }
    }

    /// Drops the first packet. A caller that may not wait has duplicates of its descriptors.
    fn skip(&self) {
        // The kernel reports a reset once, in front of what is queued.
        while let Err(Errno::ECONNRESET) = socket::skip(self.as_fd()) {}
    }

    /// True once the other end is closed in every process that held it.
    pub(crate) fn hung_up(&self) -> bool {
        socket::wait(self.as_fd(), false, Duration::ZERO).is_ok_and(|seen| seen.hung_up)
    }

    /// Sleeps until the lane is readable or hung up, until `bell` rings, or for `timeout`.
    pub(crate) fn sleep(&self, timeout: Duration, bell: Option<&WakeUp>) -> Woken {
        self.sleep_for(true, timeout, bell)
    }

    /// Sleeps until the lane is hung up, until `bell` rings, or for `timeout`.
    pub(crate) fn sleep_for_end(&self, timeout: Duration, bell: Option<&WakeUp>) -> Woken {
        self.sleep_for(false, timeout, bell)
    }

    fn sleep_for(&self, readable: bool, timeout: Duration, bell: Option<&WakeUp>) -> Woken {
        let seen = socket::wait_with(self.as_fd(), readable, bell.map(AsFd::as_fd), timeout);
        let Ok((seen, rang)) = seen else { return Woken::Other };
        match bell {
            Some(bell) if rang => {
                bell.silence();
                Woken::Bell
            }
            _ if seen.interrupted => Woken::Signal,
            _ => Woken::Other,
        }
    }

    /// Sleeps until the lane may have room again, or for `timeout`.
    pub(crate) fn sleep_for_room(&self, timeout: Duration) -> Woken {
        let seen = socket::wait(self.as_fd(), true, timeout);
        if seen.is_ok_and(|seen| seen.interrupted) { Woken::Signal } else { Woken::Other }
    }

    /// Hangs up for both sides, and keeps the descriptor.
    pub(crate) fn hang_up(&self) {
        socket::shut_down(self.as_fd());
    }

    /// Gives up the socket, which now belongs to another process, and keeps the descriptor's number, for `stand_in`.
    pub(crate) fn replace_socket(self: &Arc<Self>, stand_in: impl AsFd + Send + 'static) {
        if self.socket.may_hold_descriptors() {
            // The next holder may have closed the socket by then.
            let lane = Arc::clone(self);
            closer::elsewhere(move || lane.socket.replace(stand_in.as_fd()));
        } else {
            self.socket.replace(stand_in.as_fd());
        }
    }

    /// True if the descriptor's number could not be kept when the socket was given up.
    pub(crate) fn is_gone(&self) -> bool {
        self.socket.is_gone()
    }
}

impl AsFd for Lane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
