//! Transfer lists: what may be on one, how it leaves the sender, and how it arrives.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::buffer::{Memory, TransferBuffer};
use crate::capsule::{self, NotMade, Table, Things};
use crate::end::{End, Parts, State};
use crate::error::{PostErrorKind, RecvError, Violation, exhausted};
use crate::lane::{Doorbell, NotTaken};
use crate::port::{MessagePort, PortGuard};
use crate::record::Kind;
use crate::ring::{Consumer, Record};
use crate::sys::Errno;

/// Something that a message can carry to its receiver, in a list that owns it.
#[derive(Debug)]
pub enum Transferable {
    /// A port, with everything queued in it.
    Port(MessagePort),
    /// A buffer, with its memory.
    Buffer(TransferBuffer),
}

impl From<MessagePort> for Transferable {
    fn from(port: MessagePort) -> Self {
        Self::Port(port)
    }
}

impl From<TransferBuffer> for Transferable {
    fn from(buffer: TransferBuffer) -> Self {
        Self::Buffer(buffer)
    }
}

/// Something that a message can carry, borrowed until the message is posted and then detached.
#[derive(Clone, Copy, Debug)]
pub enum TransferRef<'a> {
    /// A port, with everything queued in it.
    Port(&'a MessagePort),
    /// A buffer, with its memory.
    Buffer(&'a TransferBuffer),
}

impl<'a> From<&'a Transferable> for TransferRef<'a> {
    fn from(thing: &'a Transferable) -> Self {
        match thing {
            Transferable::Port(port) => Self::Port(port),
            Transferable::Buffer(buffer) => Self::Buffer(buffer),
        }
    }
}

impl TransferRef<'_> {
    fn address(self) -> usize {
        match self {
            Self::Port(port) => std::ptr::from_ref(port).addr(),
            Self::Buffer(buffer) => std::ptr::from_ref(buffer).addr(),
        }
    }
}

/// A checked transfer list. Everything on it is borrowed, so nothing can happen to it until it has left or the list
/// is dropped.
pub(crate) struct Baggage<'a> {
    ports: Vec<PortGuard<'a>>,
    buffers: Vec<RefMut<'a, Option<Memory>>>,
}

impl<'a> Baggage<'a> {
    /// Makes the checks that need no space and no system call, in the order that SEMANTICS rule S10 fixes.
    ///
    /// "Its own peer" is told by the identity of the segment, which a number in the segment could not prove.
    pub(crate) fn check(list: &[TransferRef<'a>], carrier: Option<&Arc<End>>) -> Result<Self, PostErrorKind> {
        let ports =
            || list.iter().filter_map(|thing| if let TransferRef::Port(port) = thing { Some(*port) } else { None });
        if let Some(carrier) = carrier {
            if ports().any(|port| Arc::ptr_eq(port.end(), carrier)) {
                return Err(PostErrorKind::ContainsSelf);
            }
            if ports().any(|port| port.end().segment().id() == carrier.segment().id()) {
                return Err(PostErrorKind::ContainsPeer);
            }
        }
        let mut addresses: Vec<usize> = list.iter().map(|thing| thing.address()).collect();
        addresses.sort_unstable();
        if addresses.windows(2).any(|two| two[0] == two[1]) {
            return Err(PostErrorKind::Duplicate);
        }
        let mut baggage = Self { ports: Vec::new(), buffers: Vec::new() };
        for (index, thing) in list.iter().enumerate() {
            baggage.add(*thing).ok_or(PostErrorKind::Unusable { index })?;
        }
        Ok(baggage)
    }

    fn add(&mut self, thing: TransferRef<'a>) -> Option<()> {
        match thing {
            TransferRef::Port(port) => {
                let usable = port.end().home().is_here()
                    && matches!(port.end().state(), State::Open | State::PeerClosed | State::PeerDied);
                self.ports.push(port.guard().filter(|_| usable)?);
            }
            TransferRef::Buffer(buffer) => {
                let memory = buffer.memory().try_borrow_mut().ok()?;
                if !memory.as_ref()?.is_here() {
                    return None;
                }
                self.buffers.push(memory);
            }
        }
        Some(())
    }

    pub(crate) fn handles(&self) -> usize {
        self.ports.len() * capsule::PORT_HANDLES + self.buffers.len() * capsule::BUFFER_HANDLES
    }

    /// Bytes of a message with this list and `data_len` bytes of data.
    pub(crate) fn payload_len(&self, data_len: usize) -> usize {
        capsule::payload_len(data_len, self.ports.len(), self.buffers.len())
    }

    /// Puts everything in order for the next holder and writes the table. Fails before anything has changed for the
    /// present one: an announced cursor and one seal more make no difference to it.
    pub(crate) fn table(&mut self, data_len: usize) -> Result<Vec<u8>, Errno> {
        let mut table = Vec::with_capacity(capsule::table_len(self.ports.len(), self.buffers.len()));
        for port in &mut self.ports {
            if port.receiving.consumer.announce() {
                port.end.wake_peer_producer();
            }
            // Doorbells are AWAKE: nobody waits on a port that is borrowed here. One left armed for a `poll` of the
            // old holder would only cost a wake-up packet.
            let (producer, consumer) = (port.producer.cursors(), port.receiving.consumer.cursors());
            capsule::write_port(&mut table, port.end, producer, consumer);
        }
        for memory in self.buffers.iter().filter_map(|memory| memory.as_ref()) {
            memory.seal()?;
            capsule::write_buffer(&mut table, memory);
        }
        capsule::write_end(&mut table, data_len, self.ports.len(), self.buffers.len());
        Ok(table)
    }

    /// The descriptors that go with the table.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        let ports = self.ports.iter().flat_map(|port| capsule::port_handles(port.end));
        let buffers = self.buffers.iter().filter_map(|memory| Some(memory.as_ref()?.file.as_fd()));
        ports.chain(buffers).collect()
    }

    /// The message is on its way: what was on the list is no longer ours.
    pub(crate) fn detach(self) {
        for port in &self.ports {
            port.end.detach();
        }
        for mut memory in self.buffers {
            memory.take();
        }
    }

    /// There is nobody to receive it: what was on the list ends here.
    pub(crate) fn discard(self) {
        for mut port in self.ports {
            port.end.close();
            discard(port.end, &mut port.receiving.consumer);
        }
        for mut memory in self.buffers {
            memory.take();
        }
    }
}

/// Takes the things of a carrier record, whose payload has been copied out. Returns the length of the data as well.
///
/// On a shortage the record and its descriptors stay where they are. If the contents are bad the descriptors are gone
/// and the record is the caller's to release.
pub(crate) fn take(
    end: &End,
    consumer: &Consumer,
    record: Record,
    payload: &[u8],
) -> Result<(usize, Things), NotArrived> {
    let table = Table::parse(payload)?;
    if record.handles != table.handles() || record.handles > end.segment().max_handles() {
        return Err(NotArrived::Violation(Violation::BadHandles));
    }
    if record.handles == 0 {
        return Ok((table.data_len, Things::default()));
    }
    let _reading = end.reading();
    let wake = |doorbell| end.heard(doorbell, Doorbell::Data);
    let handles = match end.lane().peek_handles(consumer.sequence(), record.handles, wake) {
        Ok(handles) => handles,
        Err(NotTaken::Violation(violation)) => return Err(NotArrived::Violation(violation)),
        Err(NotTaken::Exhausted(errno)) => return Err(NotArrived::Exhausted(errno)),
    };
    let mut things = Things::default();
    match table.adopt(handles, &mut things) {
        Ok(()) => {
            end.lane().take_handles();
            Ok((table.data_len, things))
        }
        Err(NotMade::Exhausted(errno)) => Err(NotArrived::Exhausted(errno)),
        Err(NotMade::Bad(reason)) => {
            end.lane().take_handles();
            things.close();
            Err(NotArrived::Bad { reason, data_len: table.data_len })
        }
    }
}

impl Things {
    /// Ends what came with a message that its receiver cannot have.
    pub(crate) fn close(self) {
        for Parts { end, mut consumer, .. } in self.ports {
            end.close();
            discard(&end, &mut consumer);
        }
    }
}

/// Why the things of a message did not arrive.
pub(crate) enum NotArrived {
    Violation(Violation),
    /// Still queued, for a later attempt.
    Exhausted(Errno),
    Bad {
        reason: crate::error::BadTransfer,
        data_len: usize,
    },
}

impl From<Violation> for NotArrived {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl NotArrived {
    /// As the receiver of the message is told; `data` is the payload that was copied out.
    pub(crate) fn into_error(self, end: &End, mut data: Vec<u8>) -> RecvError {
        match self {
            Self::Violation(violation) => RecvError::Ended(end.violated(violation)),
            Self::Exhausted(errno) => RecvError::ResourceExhausted(exhausted(errno)),
            Self::Bad { reason, data_len } => {
                data.truncate(data_len);
                RecvError::MessageError { reason, data }
            }
        }
    }
}

/// Most ports that are closed one by one when a queue is dropped: a peer could nest new ones as fast as we close them.
const MAX_CLOSED: usize = 4096;

/// Drops what is queued for an end that nobody reads any more. Ports in the queue are closed and their queues dropped
/// in turn, those of one message before the next message is looked at: so few descriptors are needed at a time. By a
/// list of work and not by recursion, since a peer decides how deep they are nested.
pub(crate) fn discard(end: &Arc<End>, consumer: &mut Consumer) {
    let mut left = end.segment().capacity();
    let mut nested: Vec<(Parts, usize)> = Vec::new();
    let mut total = 0;
    loop {
        let ports = match nested.last_mut() {
            Some((parts, left)) => discard_message_with_ports(&parts.end, &mut parts.consumer, left),
            None => discard_message_with_ports(end, consumer, &mut left),
        };
        if ports.is_empty() && nested.pop().is_none() {
            return;
        }
        total += ports.len();
        if total > MAX_CLOSED {
            return; // what is left in `nested` is closed by the kernel
        }
        for port in ports {
            port.end.close();
            let left = port.end.segment().capacity();
            nested.push((port, left));
        }
    }
}

/// Drops messages up to the first that carries ports, which it returns; none at the end of the queue. A peer that posts
/// as fast as we drop must not keep us here: one ring full, of which `left` bytes are left, is all that can have been
/// unread.
fn discard_message_with_ports(end: &End, consumer: &mut Consumer, left: &mut usize) -> Vec<Parts> {
    let mut ports = Vec::new();
    let mut payload = Vec::new();
    while ports.is_empty()
        && let Ok(Some(record)) = consumer.peek()
    {
        let Some(rest) = left.checked_sub(record.len + crate::record::HEADER) else { break };
        *left = rest;
        if record.kind == Kind::Carrier {
            payload.clear();
            consumer.read_to_vec(record, &mut payload);
            match take(end, consumer, record, &payload) {
                Ok((_, things)) => ports = things.ports,
                Err(NotArrived::Violation(_)) => break,
                // Without descriptors to spare they cannot be closed in our name: the kernel closes them.
                Err(NotArrived::Exhausted(_)) => {
                    let _reading = end.reading();
                    end.lane().take_handles();
                }
                Err(NotArrived::Bad { .. }) => {}
            }
        }
        if consumer.release(record) {
            end.wake_peer_producer();
        }
    }
    if ports.is_empty() {
        if consumer.announce() {
            end.wake_peer_producer();
        }
        end.lane().discard_rest();
        // A wake-up for our sending half may have been among it.
        end.wake_own_producer();
    }
    ports
}
