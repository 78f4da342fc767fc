//! Transfer lists: what may be on one, how it leaves the sender, and how it arrives.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::buffer::{Hold, Place, Role, TransferBuffer};
use crate::capsule::{self, Counts, KnownCapsule, NotMade, Table, Things, Way};
use crate::end::{End, Parts, State};
use crate::error::{BadTransfer, PostErrorKind, RecvError, Violation, exhausted};
use crate::frozen::FrozenBuffer;
use crate::growth;
use crate::lane::{Doorbell, NotTaken};
use crate::pool::{Moving, Planned};
use crate::port::{MessagePort, PortGuard};
use crate::record::Kind;
use crate::ring::{Consumer, Cursors, Record};
use crate::shared::SharedBuffer;
use crate::sys::Errno;

/// Something that a message can carry to its receiver, in a list that owns it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // a port is large, and lists are short
pub enum Transferable {
    /// A port, with everything queued in it.
    Port(MessagePort),
    /// A buffer, with its memory.
    Buffer(TransferBuffer),
    /// A frozen buffer. Post a clone to keep one.
    Frozen(FrozenBuffer),
    /// A shared buffer, one without a name. Post a clone to keep one.
    Shared(SharedBuffer),
    /// A descriptor of whatever kind: a file, a socket, a pipe, graphics memory.
    Descriptor(OwnedFd),
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

impl From<FrozenBuffer> for Transferable {
    fn from(buffer: FrozenBuffer) -> Self {
        Self::Frozen(buffer)
    }
}

impl From<SharedBuffer> for Transferable {
    fn from(buffer: SharedBuffer) -> Self {
        Self::Shared(buffer)
    }
}

impl From<OwnedFd> for Transferable {
    fn from(descriptor: OwnedFd) -> Self {
        Self::Descriptor(descriptor)
    }
}

/// Something that a message can carry, borrowed until the message is posted. A port or a buffer is then detached; the
/// other things are still usable.
#[derive(Clone, Copy, Debug)]
pub enum TransferRef<'a> {
    /// A port, with everything queued in it.
    Port(&'a MessagePort),
    /// A buffer, with its memory.
    Buffer(&'a TransferBuffer),
    /// A frozen buffer: the receiver gets another handle.
    Frozen(&'a FrozenBuffer),
    /// A shared buffer, one without a name: the receiver gets another handle.
    Shared(&'a SharedBuffer),
    /// A descriptor of whatever kind: the receiver gets a duplicate, and this one is still the caller's to close.
    Descriptor(BorrowedFd<'a>),
}

impl<'a> From<&'a Transferable> for TransferRef<'a> {
    fn from(thing: &'a Transferable) -> Self {
        match thing {
            Transferable::Port(port) => Self::Port(port),
            Transferable::Buffer(buffer) => Self::Buffer(buffer),
            Transferable::Frozen(buffer) => Self::Frozen(buffer),
            Transferable::Shared(buffer) => Self::Shared(buffer),
            Transferable::Descriptor(descriptor) => Self::Descriptor(descriptor.as_fd()),
        }
    }
}

impl TransferRef<'_> {
    /// What no other handle on a list has: its address, or the number of a descriptor.
    fn identity(self) -> usize {
        match self {
            Self::Port(port) => std::ptr::from_ref(port).addr(),
            Self::Buffer(buffer) => std::ptr::from_ref(buffer).addr(),
            Self::Frozen(buffer) => std::ptr::from_ref(buffer).addr(),
            Self::Shared(buffer) => std::ptr::from_ref(buffer).addr(),
            Self::Descriptor(descriptor) => descriptor.as_raw_fd() as usize, // far below any address
        }
    }
}

/// How many things of each kind are on a list.
pub(crate) fn count(list: &[TransferRef<'_>]) -> Counts {
    let mut counts = Counts::default();
    for thing in list {
        *match thing {
            TransferRef::Port(_) => &mut counts.ports,
            TransferRef::Buffer(_) => &mut counts.buffers,
            TransferRef::Frozen(_) => &mut counts.frozen,
            TransferRef::Shared(_) => &mut counts.shared,
            TransferRef::Descriptor(_) => &mut counts.descriptors,
        } += 1;
    }
    counts
}

/// A checked transfer list. Everything on it is borrowed, so nothing can happen to it until it has left or the list
/// is dropped.
pub(crate) struct Baggage<'a> {
    counts: Counts,
    /// Descriptors.
    handles: usize,
    ports: Vec<(PortGuard<'a>, Vec<Moving>)>,
    buffers: Vec<(RefMut<'a, Option<Hold>>, Way)>,
    /// The data of the message, if it does not fit the ring.
    body: Option<(Hold, Way)>,
    frozen: Vec<&'a FrozenBuffer>,
    shared: Vec<(BorrowedFd<'a>, usize)>,
    descriptors: Vec<BorrowedFd<'a>>,
    planned: Vec<Planned>,
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
            if ports().any(|port| port.end().segment().is(carrier.segment())) {
                return Err(PostErrorKind::ContainsPeer);
            }
        }
        if has_duplicates(list) {
            return Err(PostErrorKind::Duplicate);
        }
        let mut baggage = Self {
            counts: count(list),
            handles: 0,
            ports: Vec::new(),
            buffers: Vec::new(),
            body: None,
            planned: Vec::new(),
            frozen: Vec::new(),
            shared: Vec::new(),
            descriptors: Vec::new(),
        };
        for (index, thing) in list.iter().enumerate() {
            baggage.add(*thing, carrier.map(|end| &**end)).map_err(|why| match why {
                Refused::Unusable => PostErrorKind::Unusable { index },
                Refused::PooledElsewhere => PostErrorKind::PooledElsewhere { index },
            })?;
        }
        Ok(baggage)
    }

    fn add(&mut self, thing: TransferRef<'a>, carrier: Option<&End>) -> Result<(), Refused> {
        match thing {
            TransferRef::Port(port) => {
                let usable = port.end().home().is_here()
                    && matches!(port.end().state(), State::Open | State::PeerClosed | State::PeerDied);
                let guard = port.guard().filter(|_| usable).ok_or(Refused::Unusable)?;
                let moving = guard.end.buffers().moving();
                self.counts.slots += moving.len();
                self.handles +=
                    capsule::port_handles(guard.end, &guard.producer, &guard.receiving.consumer, &moving).count();
                self.ports.push((guard, moving));
                return Ok(());
            }
            TransferRef::Buffer(buffer) => {
                let hold = buffer.hold().try_borrow_mut().map_err(|_| Refused::Unusable)?;
                let found = hold.as_ref().filter(|hold| hold.is_usable()).ok_or(Refused::Unusable)?;
                let way = self.way(found, carrier)?;
                self.handles += usize::from(way.has_handle());
                self.buffers.push((hold, way));
                return Ok(());
            }
            TransferRef::Frozen(buffer) => self.frozen.push(buffer),
            TransferRef::Shared(buffer) => self.shared.push((buffer.file().ok_or(Refused::Unusable)?, buffer.len())),
            TransferRef::Descriptor(descriptor) => self.descriptors.push(descriptor),
        }
        self.handles += 1;
        Ok(())
    }

    /// How a buffer will travel over `carrier`.
    fn way(&mut self, hold: &Hold, carrier: Option<&End>) -> Result<Way, Refused> {
        let Hold { memory, role, .. } = hold;
        let buffers = carrier.map(End::buffers);
        match role {
            Role::New => {
                let slot = buffers.and_then(|buffers| buffers.pool().slot_for(memory.capacity, &self.planned));
                self.planned.extend(slot.map(|slot| Planned { slot, bytes: memory.capacity as u64 }));
                Ok(slot.map_or(Way::Alone, Way::New))
            }
            Role::Owner => match buffers.and_then(|buffers| buffers.slot_of(memory)) {
                Some(slot) => Ok(Way::Known(slot)),
                None if memory.is_orphan() => Ok(Way::Alone),
                None => Err(Refused::PooledElsewhere),
            },
            Role::Guest => {
                let slot = buffers.and_then(|buffers| buffers.slot_of(memory));
                Ok(slot.map_or(Way::Alone, Way::Back))
            }
            Role::Traveller => Ok(Way::Alone),
        }
    }

    /// Counts the data as a buffer, which [`set_body`](Self::set_body) will bring.
    pub(crate) fn expect_body(&mut self) {
        self.counts.body = true;
        self.counts.buffers += 1;
    }

    /// Slots that the buffers on the list will have, and the data cannot have.
    pub(crate) fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// The data of the message, in a buffer.
    pub(crate) fn set_body(&mut self, body: Hold, carrier: &End) {
        // One of the carrier's own, or a new one: there is always a way.
        let way = self.way(&body, Some(carrier)).unwrap_or(Way::Alone);
        self.handles += usize::from(way.has_handle());
        self.body = Some((body, way));
    }

    /// The holds on buffers, and how they travel.
    fn holds(&self) -> impl Iterator<Item = (&Hold, Way)> {
        let listed = self.buffers.iter().filter_map(|(hold, way)| Some(((**hold).as_ref()?, *way)));
        listed.chain(self.body.iter().map(|(hold, way)| (hold, *way)))
    }

    pub(crate) fn handles(&self) -> usize {
        self.handles
    }

    /// Bytes of a message with this list and `data_len` bytes of data.
    pub(crate) fn payload_len(&self, data_len: usize) -> usize {
        self.counts.payload_len(data_len)
    }

    /// Puts everything in order for the next holder and hands the table to `put`, part by part. Nothing changes for the
    /// present holder: an announced cursor makes no difference to it.
    pub(crate) fn write_table(&mut self, data_len: usize, mut put: impl FnMut(&[u8])) {
        for (port, moving) in &mut self.ports {
            let Cursors { position, other: announced, .. } = port.receiving.consumer.cursors();
            if position != announced && port.receiving.consumer.announce() {
                port.end.wake_peer_producer();
            }
            // Doorbells are AWAKE: nobody waits on a port that is borrowed here. One left armed for a `poll` of the
            // old holder would only cost a wake-up packet.
            capsule::write_port(&mut put, port.end, &port.producer, &port.receiving.consumer, moving);
        }
        self.holds().for_each(|(hold, way)| capsule::write_buffer(&mut put, &hold.memory, hold.len, way));
        self.frozen.iter().for_each(|buffer| capsule::write_memory(&mut put, buffer.len()));
        self.shared.iter().for_each(|(_, len)| capsule::write_memory(&mut put, *len));
        capsule::write_end(&mut put, data_len, self.counts);
    }

    /// The descriptors that go with the table.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ports = self.ports.iter().flat_map(|(port, moving)| {
            capsule::port_handles(port.end, &port.producer, &port.receiving.consumer, moving)
        });
        let buffers = self.holds().filter(|(_, way)| way.has_handle()).map(|(hold, _)| hold.memory.file.as_fd());
        let frozen = self.frozen.iter().map(|buffer| buffer.file());
        let shared = self.shared.iter().map(|(file, _)| *file);
        ports.chain(buffers).chain(frozen).chain(shared).chain(self.descriptors.iter().copied())
    }

    /// Just before the commit, which cannot fail any more: from then on the buffers may come back at any time, to whatever
    /// thread receives, so that pool and cache must know where they are.
    ///
    /// True if it is time to look for buffers that have not been used for long.
    pub(crate) fn hand_over(&self, carrier: &End) -> bool {
        self.holds().for_each(|(hold, way)| hand_over(hold, way, carrier));
        carrier.buffers().count_post()
    }

    /// The message is on its way: what was on the list is no longer ours.
    pub(crate) fn detach(self) {
        for (port, _) in &self.ports {
            port.end.detach();
        }
        let listed = self.buffers.into_iter().filter_map(|(mut hold, way)| Some((hold.take()?, way)));
        for (mut hold, way) in listed.chain(self.body) {
            hold.set_gone();
            if (hold.role, way) == (Role::Guest, Way::Alone) {
                hold.memory.set_place(Place::Away);
                hold.memory.note_gone();
            }
        }
    }

    /// There is nobody to receive it: what was on the list ends here.
    pub(crate) fn discard(self) {
        for (mut port, _) in self.ports {
            port.end.close();
            discard(port.end, &mut port.receiving.consumer);
        }
        for (mut hold, _) in self.buffers {
            hold.take();
        }
    }
}

/// A list of one buffer that the peer of the carrier knows: as a [`Baggage`] of one, and a fraction of its cost.
pub(crate) struct Known<'a> {
    hold: RefMut<'a, Option<Hold>>,
    way: Way,
}

impl<'a> Known<'a> {
    /// `None` for a buffer that is not like this, or cannot be posted.
    #[inline]
    pub(crate) fn find(buffer: &'a TransferBuffer, carrier: &End) -> Option<Self> {
        let hold = buffer.hold().try_borrow_mut().ok()?;
        let Hold { memory, role, .. } = hold.as_ref().filter(|hold| hold.is_usable())?;
        let slot = carrier.buffers().slot_of(memory)?;
        let way = match role {
            Role::Owner => Way::Known(slot),
            Role::Guest => Way::Back(slot),
            Role::New | Role::Traveller => return None,
        };
        Some(Self { hold, way })
    }

    #[inline]
    pub(crate) fn capsule(&self, data_len: usize) -> Option<KnownCapsule> {
        KnownCapsule::of(self.hold.as_ref()?.len, self.way, data_len)
    }

    /// As [`Baggage::hand_over`].
    #[inline]
    pub(crate) fn hand_over(&self, carrier: &End) -> bool {
        if let Some(hold) = self.hold.as_ref() {
            hand_over(hold, self.way, carrier);
        }
        carrier.buffers().count_post()
    }

    #[inline]
    pub(crate) fn detach(mut self) {
        if let Some(mut hold) = self.hold.take() {
            hold.set_gone();
        }
    }
}

/// Notes that a buffer is with the peer from now on.
#[inline]
fn hand_over(Hold { memory, .. }: &Hold, way: Way, carrier: &End) {
    match way {
        Way::Alone => return,
        Way::New(slot) => {
            memory.clear_note();
            carrier.buffers().pool().insert(slot, Arc::clone(memory));
        }
        Way::Known(_) | Way::Back(_) => {}
    }
    memory.note_used();
    memory.set_place(Place::Away);
}

fn has_duplicates(list: &[TransferRef<'_>]) -> bool {
    if list.len() < 2 {
        return false;
    }
    let mut identities: Vec<usize> = list.iter().map(|thing| thing.identity()).collect();
    identities.sort_unstable();
    identities.windows(2).any(|two| two[0] == two[1])
}

/// Why something on a list cannot be transferred.
pub(crate) enum Refused {
    Unusable,
    PooledElsewhere,
}

/// Takes the things of a record that has some, whose payload has been copied out. Returns the length of the data as well.
///
/// On a shortage the record and its descriptors stay where they are. If the contents are bad the descriptors are gone
/// and the record is the caller's to release.
pub(crate) fn take(
    end: &End,
    consumer: &Consumer,
    record: Record,
    payload: &[u8],
) -> Result<(usize, Things), NotArrived> {
    let max = end.segment().limits().max_message_len;
    if record.kind == Kind::Buffer {
        let last = payload.last_chunk().ok_or(Violation::BadTable)?;
        let known = KnownCapsule::parse(*last, payload.len()).ok_or(Violation::BadTable)?;
        if known.data_len > max {
            return Err(NotArrived::Violation(Violation::BadLength));
        }
        let Some(buffer) = known.take(end) else {
            return Err(NotArrived::Bad { reason: BadTransfer::NoSuchBuffer, data_len: known.data_len });
        };
        return Ok((known.data_len, Things { buffers: vec![buffer], ..Things::default() }));
    }
    let table = Table::parse(payload)?;
    if record.handles != table.handles() || record.handles > end.segment().limits().max_handles {
        return Err(NotArrived::Violation(Violation::BadHandles));
    }
    if table.data_len > max || table.body_len().is_some_and(|len| len > max as u64) {
        return Err(NotArrived::Violation(Violation::BadLength));
    }
    let _reading = (record.handles > 0).then(|| end.reading());
    let handles = match record.handles {
        0 => Ok(Vec::new()),
        count => end.lane().peek_handles(consumer.sequence(), count, |bell| end.heard(bell, Doorbell::Data)),
    };
    let handles = match handles {
        Ok(handles) => handles,
        Err(NotTaken::Violation(violation)) => return Err(NotArrived::Violation(violation)),
        Err(NotTaken::Exhausted(errno)) => return Err(NotArrived::Exhausted(errno)),
    };
    let mut things = Things::default();
    let made = table.adopt(handles, Some(end), &mut things);
    if record.handles > 0 && !matches!(made, Err(NotMade::Exhausted(_))) {
        end.lane().take_handles();
    }
    match made {
        Ok(()) => Ok((table.data_len, things)),
        Err(NotMade::Exhausted(errno)) => Err(NotArrived::Exhausted(errno)),
        Err(NotMade::Bad(reason)) => {
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
        reason: BadTransfer,
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
    discard_queue(end, consumer);
    end.lane().discard_rest();
    // A wake-up for our sending half may have been among it.
    end.wake_own_producer();
    // What was dropped may have come to stay.
    end.buffers().cache().give_up();
}

/// The same for an end that nothing holds but the handle that is being dropped: what is left on the lane goes with the
/// socket.
pub(crate) fn discard_last(end: &End, consumer: &mut Consumer) {
    // A look at a ring that nobody has written to would cost a page of memory.
    if consumer.sequence() > 0 || !end.segment().is_untouched(end.side().incoming()) {
        discard_queue(end, consumer);
    }
}

fn discard_queue(end: &End, consumer: &mut Consumer) {
    let mut left = end.segment().limits().max_capacity;
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
            let left = port.end.segment().limits().max_capacity;
            nested.push((port, left));
        }
    }
}

/// Drops messages up to the first that carries ports, which it returns; none at the end of the queue. A peer that posts
/// as fast as we drop must not keep us here: a full queue, of which `left` bytes are left, is all that can have been
/// unread.
fn discard_message_with_ports(end: &End, consumer: &mut Consumer, left: &mut usize) -> Vec<Parts> {
    let mut ports = Vec::new();
    let mut payload = Vec::new();
    while ports.is_empty()
        && let Ok(Some(record)) = growth::peek(end, consumer)
    {
        let Some(rest) = left.checked_sub(record.len + crate::record::HEADER) else { break };
        *left = rest;
        if record.kind != Kind::Data {
            payload.clear();
            consumer.read_to_vec(record, &mut payload);
            match take(end, consumer, record, &payload) {
                Ok((_, things)) => ports = things.ports,
                Err(NotArrived::Violation(_)) => break,
                // Without descriptors to spare they cannot be closed in our name: the kernel closes them.
                Err(NotArrived::Exhausted(_)) if record.handles > 0 => {
                    let _reading = end.reading();
                    end.lane().take_handles();
                }
                Err(NotArrived::Exhausted(_)) => {}
                Err(NotArrived::Bad { .. }) => {}
            }
        }
        if consumer.release(record) {
            end.wake_peer_producer();
        }
    }
    if ports.is_empty() && consumer.announce() {
        end.wake_peer_producer();
    }
    ports
}
