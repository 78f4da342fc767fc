//! Capsules: what a thing on a transfer list becomes while it travels in a message.
//!
//! The payload of a carrier record is the data, padded to 8 bytes, then the capsules, and the table's end, which tells how
//! to read the rest. Ports come first, each with the slots of its recycled buffers, then buffers, frozen and shared
//! buffers, and plain descriptors, which have no capsule. The descriptors travel on the lane in the same order: for each
//! port segment, lane, the rings that its directions have grown into, and its recycled buffers; one for each other thing,
//! but none for a buffer that the receiver has already.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytemuck::{AnyBitPattern, Pod, Zeroable, pod_read_unaligned};

use crate::buffer::{Hold, Memory, Role, TransferBuffer};
use crate::direction::Direction;
use crate::end::{End, Parts, Side};
use crate::error::{BadTransfer, Violation};
use crate::frozen::FrozenBuffer;
use crate::lane::Lane;
use crate::pool::Moving;
use crate::ring::{Consumer, Cursors, Producer};
use crate::segment::{NotAdopted, Segment};
use crate::shared::SharedBuffer;
use crate::sys::Errno;

/// Descriptors of a port whose directions have not grown; of any other thing it is one.
const PORT_HANDLES: usize = 2;

/// A port in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct PortCapsule {
    side: u32,
    /// Which end stands in a ring that its direction grew into, whose descriptor comes along: `PRODUCER_GREW`,
    /// `CONSUMER_GREW`.
    grown: u32,
    producer: CursorsCapsule,
    consumer: CursorsCapsule,
    /// Capsules of recycled buffers that follow.
    slots: u32,
    reserved: u32,
}

impl PortCapsule {
    fn grown_rings(&self) -> usize {
        (self.grown & (PRODUCER_GREW | CONSUMER_GREW)).count_ones() as usize
    }
}

const PRODUCER_GREW: u32 = 1;
const CONSUMER_GREW: u32 = 2;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct CursorsCapsule {
    position: u64,
    other: u64,
    sequence: u64,
    ring_start: u64,
}

/// A recycled buffer of a port in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SlotCapsule {
    /// Bytes of its memory.
    capacity: u64,
    slot: u32,
    /// `CACHED`, `POSTED` or `STALE`: see `Moving`. The last comes without a descriptor.
    what: u32,
}

const CACHED: u32 = 1;
const POSTED: u32 = 2;
const STALE: u32 = 3;

/// A buffer in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct BufferCapsule {
    len: u64,
    /// Bytes of its memory.
    capacity: u64,
    /// Its slot, if it has one.
    slot: u32,
    /// How it travels: `Way`.
    way: u32,
}

/// How a buffer travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// By its descriptor, and is not kept.
    Alone,
    /// By its descriptor, and is kept in a slot from now on.
    New(usize),
    /// From the owner to a peer that has it already.
    Known(usize),
    /// Back to its owner.
    Back(usize),
}

const ALONE: u32 = 0;
const NEW: u32 = 1;
const KNOWN: u32 = 2;
const BACK: u32 = 3;

impl Way {
    /// Whether the descriptor comes along.
    pub(crate) fn has_handle(self) -> bool {
        matches!(self, Self::Alone | Self::New(_))
    }
}

impl BufferCapsule {
    /// Whether a descriptor comes along; with a capsule that means nothing too.
    fn has_handle(&self) -> bool {
        self.way().is_none_or(Way::has_handle)
    }

    fn way(&self) -> Option<Way> {
        let slot = self.slot as usize;
        match self.way {
            ALONE if slot == 0 => Some(Way::Alone),
            NEW => Some(Way::New(slot)),
            KNOWN => Some(Way::Known(slot)),
            BACK => Some(Way::Back(slot)),
            _ => None,
        }
    }
}

/// The last word of the payload of a `Kind::Buffer` record, behind the data, which is padded to 8 bytes.
///
/// ```text
/// bits 0..48   bytes of the buffer
/// bits 48..56  its slot
/// bits 56..60  how it travels: `KNOWN` or `BACK`
/// bits 60..64  bytes of padding
/// ```
/// What other lists take 48 bytes for: with little data the message stays on one cache line.
#[derive(Clone, Copy)]
pub(crate) struct KnownCapsule(u64);

impl KnownCapsule {
    /// Bytes of the payload.
    #[inline]
    pub(crate) fn payload_len(data_len: usize) -> usize {
        data_len.next_multiple_of(8) + size_of::<Self>()
    }

    /// `None` if the buffer does not travel by a number.
    #[inline]
    pub(crate) fn of(len: usize, way: Way, data_len: usize) -> Option<Self> {
        let (way, slot) = match way {
            Way::Known(slot) => (KNOWN, slot),
            Way::Back(slot) => (BACK, slot),
            Way::Alone | Way::New(_) => return None,
        };
        let padding = data_len.next_multiple_of(8) - data_len;
        // No file is as long as 48 bits can say.
        Some(Self(len as u64 | (slot as u64) << 48 | u64::from(way) << 56 | (padding as u64) << 60))
    }

    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        self.0.to_ne_bytes()
    }

    /// Checks what a peer has put into the `last` bytes of a payload of `payload_len`.
    #[inline]
    pub(crate) fn parse(last: [u8; 8], payload_len: usize) -> Option<Known> {
        let word = u64::from_ne_bytes(last);
        let (len, slot, padding) = (word & ((1 << 48) - 1), (word >> 48) as usize & 0xff, (word >> 60) as usize);
        let data_len = payload_len.checked_sub(size_of::<Self>() + padding)?;
        let way = match (word >> 56) as u32 & 0xf {
            KNOWN => Way::Known(slot),
            BACK => Way::Back(slot),
            _ => return None,
        };
        (Self::payload_len(data_len) == payload_len).then_some(Known { data_len, len, way })
    }
}

/// A [`KnownCapsule`] that has come.
pub(crate) struct Known {
    pub(crate) data_len: usize,
    /// Of the buffer, as the peer says.
    len: u64,
    way: Way,
}

impl Known {
    /// The buffer. `None` if there is no such.
    #[inline]
    pub(crate) fn take(&self, end: &End) -> Option<TransferBuffer> {
        known_buffer(self.way, self.len, end).map(TransferBuffer::from_hold)
    }
}

/// A frozen or a shared buffer in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MemoryCapsule {
    len: u64,
}

/// The last 24 bytes of a carrier record's payload.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TableEnd {
    data_len: u32,
    ports: u16,
    buffers: u16,
    frozen: u16,
    shared: u16,
    descriptors: u16,
    /// Of all ports.
    slots: u16,
    /// 1: the last buffer is the data of the message.
    body: u16,
    reserved: [u16; 3],
}

/// How many things of each kind a message carries.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) ports: usize,
    pub(crate) buffers: usize,
    pub(crate) frozen: usize,
    pub(crate) shared: usize,
    pub(crate) descriptors: usize,
    /// Recycled buffers of the ports.
    pub(crate) slots: usize,
    /// The last buffer is the data.
    pub(crate) body: bool,
}

impl Counts {
    /// Bytes of the table.
    pub(crate) fn table_len(self) -> usize {
        self.ports * size_of::<PortCapsule>()
            + self.slots * size_of::<SlotCapsule>()
            + self.buffers * size_of::<BufferCapsule>()
            + (self.frozen + self.shared) * size_of::<MemoryCapsule>()
            + size_of::<TableEnd>()
    }

    /// Bytes of a carrier record's payload.
    pub(crate) fn payload_len(self, data_len: usize) -> usize {
        data_len.next_multiple_of(8) + self.table_len()
    }
}

/// Hands a port's capsule, and those of its recycled buffers, to `put`.
pub(crate) fn write_port(
    put: &mut impl FnMut(&[u8]),
    end: &End,
    producer: &Producer,
    consumer: &Consumer,
    buffers: &[Moving],
) {
    let mut capsule = PortCapsule::zeroed();
    capsule.side = end.side() as u32;
    let grew = |direction: &Direction, flag| if direction.is_grown() { flag } else { 0 };
    capsule.grown = grew(producer.direction(), PRODUCER_GREW) | grew(consumer.direction(), CONSUMER_GREW);
    capsule.producer = producer.cursors().into();
    capsule.consumer = consumer.cursors().into();
    capsule.slots = buffers.len() as u32;
    put(bytemuck::bytes_of(&capsule));
    for moving in buffers {
        let (what, slot, capacity) = match moving {
            Moving::Cached { slot, memory } => (CACHED, slot, memory.capacity as u64),
            Moving::Posted { slot, memory } => (POSTED, slot, memory.capacity as u64),
            Moving::Stale { slot, bytes } => (STALE, slot, *bytes),
        };
        put(bytemuck::bytes_of(&SlotCapsule { capacity, slot: *slot as u32, what }));
    }
}

/// The descriptors of a port, in the order of the capsules.
pub(crate) fn port_handles<'a>(
    end: &'a End,
    producer: &'a Producer,
    consumer: &'a Consumer,
    buffers: &'a [Moving],
) -> impl Iterator<Item = BorrowedFd<'a>> {
    let grown = [producer.direction(), consumer.direction()].into_iter().filter_map(Direction::grown);
    let recycled = buffers.iter().filter_map(|moving| match moving {
        Moving::Cached { memory, .. } | Moving::Posted { memory, .. } => Some(memory.file.as_fd()),
        Moving::Stale { .. } => None,
    });
    [end.segment().as_fd(), end.lane().as_fd()].into_iter().chain(grown.map(|ring| ring.file.as_fd())).chain(recycled)
}

/// Hands a buffer's capsule to `put`.
pub(crate) fn write_buffer(put: &mut impl FnMut(&[u8]), memory: &Memory, len: usize, way: Way) {
    let (way, slot) = match way {
        Way::Alone => (ALONE, 0),
        Way::New(slot) => (NEW, slot),
        Way::Known(slot) => (KNOWN, slot),
        Way::Back(slot) => (BACK, slot),
    };
    let capsule = BufferCapsule { len: len as u64, capacity: memory.capacity as u64, slot: slot as u32, way };
    put(bytemuck::bytes_of(&capsule));
}

/// Hands the capsule of a frozen or shared buffer of `len` bytes to `put`.
pub(crate) fn write_memory(put: &mut impl FnMut(&[u8]), len: usize) {
    put(bytemuck::bytes_of(&MemoryCapsule { len: len as u64 }));
}

/// Hands the end of the table to `put`.
pub(crate) fn write_end(put: &mut impl FnMut(&[u8]), data_len: usize, counts: Counts) {
    let end = TableEnd {
        data_len: data_len as u32,
        ports: counts.ports as u16,
        buffers: counts.buffers as u16,
        frozen: counts.frozen as u16,
        shared: counts.shared as u16,
        descriptors: counts.descriptors as u16,
        slots: counts.slots as u16,
        body: counts.body.into(),
        reserved: [0; 3],
    };
    put(bytemuck::bytes_of(&end));
}

/// A table as it was found, checked against the length of its record.
pub(crate) struct Table<'a> {
    pub(crate) data_len: usize,
    counts: Counts,
    capsules: &'a [u8],
}

impl<'a> Table<'a> {
    /// Splits a carrier record's payload, a private copy, into data and table.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Violation> {
        let at = payload.len().checked_sub(size_of::<TableEnd>()).ok_or(Violation::BadTable)?;
        let end: TableEnd = pod_read_unaligned(&payload[at..]);
        let counts = Counts {
            ports: end.ports.into(),
            buffers: end.buffers.into(),
            frozen: end.frozen.into(),
            shared: end.shared.into(),
            descriptors: end.descriptors.into(),
            slots: end.slots.into(),
            body: end.body == 1,
        };
        let data_len = end.data_len as usize;
        let has_body = counts.body && data_len == 0 && counts.buffers > 0;
        if counts.payload_len(data_len) != payload.len() || (end.body, end.reserved) != (has_body.into(), [0; 3]) {
            return Err(Violation::BadTable);
        }
        let table = Self { data_len, counts, capsules: &payload[data_len.next_multiple_of(8)..at] };
        // As many slots as the ports say, no more and no less: from here on all capsules are where they should be.
        let (ports, slots) =
            table.ports().fold((0, 0), |(ports, slots), port| (ports + 1, slots + port.slots as usize));
        if (ports, slots) == (counts.ports, counts.slots) { Ok(table) } else { Err(Violation::BadTable) }
    }

    /// Bytes of the capsules of the ports and their slots, which come first.
    fn ports_len(&self) -> usize {
        self.counts.ports * size_of::<PortCapsule>() + self.counts.slots * size_of::<SlotCapsule>()
    }

    /// Bytes of the capsules of the buffers, which come next.
    fn buffers_len(&self) -> usize {
        self.counts.buffers * size_of::<BufferCapsule>()
    }

    /// The capsules of the ports, which stand between those of their slots.
    fn ports(&self) -> impl Iterator<Item = PortCapsule> {
        let mut rest = &self.capsules[..self.ports_len()];
        (0..self.counts.ports).map_while(move |_| {
            let port: PortCapsule = pod_read_unaligned(rest.split_off(..size_of::<PortCapsule>())?);
            rest.split_off(..(port.slots as usize).checked_mul(size_of::<SlotCapsule>())?)?;
            Some(port)
        })
    }

    /// The capsules of the slots of all ports.
    fn slots(&self) -> impl Iterator<Item = SlotCapsule> {
        let mut rest = self.capsules;
        (0..self.counts.ports).flat_map(move |_| {
            let port: PortCapsule = next(&mut rest);
            let slots: Vec<SlotCapsule> = (0..port.slots).map(|_| next(&mut rest)).collect();
            slots
        })
    }

    /// The capsules of the buffers.
    fn buffers(&self) -> impl Iterator<Item = BufferCapsule> {
        let buffers = &self.capsules[self.ports_len()..][..self.buffers_len()];
        buffers.chunks_exact(size_of::<BufferCapsule>()).map(pod_read_unaligned)
    }

    /// Bytes of data that the message says are in a buffer.
    pub(crate) fn body_len(&self) -> Option<u64> {
        self.buffers().last().filter(|_| self.counts.body).map(|capsule| capsule.len)
    }

    /// Descriptors that belong to the table.
    pub(crate) fn handles(&self) -> usize {
        let buffers = self.buffers().filter(BufferCapsule::has_handle).count();
        self.handles_of_ports() + buffers + self.counts.frozen + self.counts.shared + self.counts.descriptors
    }

    /// Those of the ports, which come first.
    fn handles_of_ports(&self) -> usize {
        let grown: usize = self.ports().map(|port| port.grown_rings()).sum();
        let slots = self.slots().filter(|slot| slot.what != STALE).count();
        self.counts.ports * PORT_HANDLES + grown + slots
    }

    /// Makes things of capsules and descriptors, for a receiver at `end`. After an error `things` holds what had been made,
    /// and if something was bad, pool and cache are as the sender takes them to be.
    pub(crate) fn adopt(&self, handles: Vec<OwnedFd>, end: Option<&End>, things: &mut Things) -> Result<(), NotMade> {
        debug_assert_eq!(handles.len(), self.handles());
        let mut of_ports = handles;
        let mut others = of_ports.split_off(self.handles_of_ports()).into_iter();
        // First what may fail for want of something, and would be tried again; then what changes pool and cache.
        let mut memories = Vec::new();
        for (capsule, file) in self.buffers().filter(BufferCapsule::has_handle).zip(&mut others) {
            memories.push(match Memory::adopt(file, capsule.capacity) {
                Ok(memory) => Ok(memory),
                Err(NotAdopted::Bad(bad)) => Err(BadTransfer::Segment(bad)),
                Err(NotAdopted::Exhausted(errno)) => return Err(NotMade::Exhausted(errno)),
            });
        }
        let mut made = self.adopt_others(of_ports, others, things);
        if let Err(NotMade::Exhausted(_)) = made {
            return made;
        }
        // Each buffer, although something else may be bad, which the sender may have from a third party: what he posts from
        // now on counts on this one.
        let mut memories = memories.into_iter();
        for capsule in self.buffers() {
            let memory = if capsule.has_handle() { memories.next().transpose() } else { Ok(None) };
            match memory.and_then(|memory| adopt_buffer(&capsule, memory, end)) {
                Ok(hold) => things.buffers.push(TransferBuffer::from_hold(hold)),
                Err(reason) => made = made.and(Err(NotMade::Bad(reason))),
            }
        }
        if self.counts.body {
            things.body = things.buffers.pop();
        }
        made
    }

    /// Everything but the buffers.
    fn adopt_others(
        &self,
        of_ports: Vec<OwnedFd>,
        mut others: impl Iterator<Item = OwnedFd>,
        things: &mut Things,
    ) -> Result<(), NotMade> {
        let (mut of_ports, mut capsules) = (of_ports.into_iter(), self.capsules);
        things.ports.reserve_exact(self.counts.ports);
        for _ in 0..self.counts.ports {
            things.ports.push(adopt_port(&mut capsules, &mut of_ports)?);
        }
        capsules = &capsules[self.counts.buffers * size_of::<BufferCapsule>()..];
        for file in others.by_ref().take(self.counts.frozen) {
            let MemoryCapsule { len } = next(&mut capsules);
            things.frozen.push(FrozenBuffer::adopt(file, len)?);
        }
        for file in others.by_ref().take(self.counts.shared) {
            let MemoryCapsule { len } = next(&mut capsules);
            things.shared.push(SharedBuffer::adopt(file, len)?);
        }
        things.descriptors.extend(others);
        Ok(())
    }
}

/// Takes the next capsule; there are as many as the table's end says, which was checked.
fn next<T: AnyBitPattern>(capsules: &mut &[u8]) -> T {
    let (first, rest) = capsules.split_at(size_of::<T>());
    *capsules = rest;
    pod_read_unaligned(first)
}

/// What a message carried.
#[derive(Default)]
pub(crate) struct Things {
    pub(crate) ports: Vec<Parts>,
    pub(crate) buffers: Vec<TransferBuffer>,
    /// The data, if it came in a buffer.
    pub(crate) body: Option<TransferBuffer>,
    pub(crate) frozen: Vec<FrozenBuffer>,
    pub(crate) shared: Vec<SharedBuffer>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Why it could not be made.
pub(crate) enum NotMade {
    /// Never will be.
    Bad(BadTransfer),
    /// Not now.
    Exhausted(Errno),
}

impl From<NotAdopted> for NotMade {
    fn from(not: NotAdopted) -> Self {
        match not {
            NotAdopted::Bad(bad) => Self::Bad(BadTransfer::Segment(bad)),
            NotAdopted::Exhausted(errno) => Self::Exhausted(errno),
        }
    }
}

/// Checks everything that came, and makes it an end of ours.
fn adopt_port(capsules: &mut &[u8], handles: &mut impl Iterator<Item = OwnedFd>) -> Result<Parts, NotMade> {
    let bad = || NotMade::Bad(BadTransfer::Capsule);
    let capsule: PortCapsule = next(capsules);
    let slots: Vec<SlotCapsule> = (0..capsule.slots).map(|_| next(capsules)).collect();
    let mut handle = || handles.next().ok_or(bad());
    let side = match capsule.side {
        0 => Side::A,
        1 => Side::B,
        _ => return Err(bad()),
    };
    let unknown = capsule.grown & !(PRODUCER_GREW | CONSUMER_GREW);
    if (unknown, capsule.consumer.ring_start, capsule.reserved) != (0, 0, 0) {
        return Err(bad());
    }
    let segment = Segment::adopt(handle()?)?;
    let lane = Lane::adopt(handle()?).ok_or(NotMade::Bad(BadTransfer::Lane))?;
    let end = Arc::new(End::new(segment, lane, side));
    let mut place = |direction: &Direction, cursors: CursorsCapsule, flag| {
        let direction = match capsule.grown & flag {
            0 => direction.clone(),
            _ => direction.in_ring(end.segment().adopt_ring(handle()?, None)?),
        };
        let cursors = Cursors::from(cursors);
        if cursors.plausible(direction.capacity()) { Ok((direction, cursors)) } else { Err(bad()) }
    };
    let (outgoing, producer) = place(end.outgoing(), capsule.producer, PRODUCER_GREW)?;
    let (incoming, consumer) = place(end.incoming(), capsule.consumer, CONSUMER_GREW)?;
    for SlotCapsule { capacity, slot, what } in slots {
        let slot = slot as usize;
        let moved = match what {
            STALE => Moving::Stale { slot, bytes: capacity },
            CACHED => Moving::Cached { slot, memory: Arc::new(Memory::adopt(handle()?, capacity)?) },
            POSTED => Moving::Posted { slot, memory: Arc::new(Memory::adopt(handle()?, capacity)?) },
            _ => return Err(bad()),
        };
        if !end.buffers().adopt(moved) {
            return Err(bad());
        }
    }
    Ok(Parts { producer: Producer::new(outgoing, producer), consumer: Consumer::new(incoming, consumer), end })
}

/// The hold of a receiver at `end` on a buffer, whose `memory` is that of the descriptor that came along.
fn adopt_buffer(capsule: &BufferCapsule, memory: Option<Memory>, end: Option<&End>) -> Result<Hold, BadTransfer> {
    let way = capsule.way().ok_or(BadTransfer::Capsule)?;
    let none = BadTransfer::NoSuchBuffer;
    let (memory, role) = match (way, memory, end) {
        (Way::Alone, Some(memory), _) => (Arc::new(memory), Role::Traveller),
        (Way::New(slot), Some(memory), Some(end)) => {
            let memory = Arc::new(memory);
            if !end.buffers().cache().insert(slot, Arc::clone(&memory)) {
                return Err(none);
            }
            (memory, Role::Guest)
        }
        (way, _, Some(end)) => return known_buffer(way, capsule.len, end).ok_or(none),
        _ => return Err(none),
    };
    let len = usize::try_from(capsule.len).ok().filter(|len| *len <= memory.capacity).ok_or(none)?;
    Ok(Hold::new(memory, len, role))
}

/// The same for one that is here already.
#[inline(always)] // a hold is not moved about then
fn known_buffer(way: Way, len: u64, end: &End) -> Option<Hold> {
    let (memory, role) = match way {
        Way::Known(slot) => (end.buffers().cache().take(slot, len)?, Role::Guest),
        Way::Back(slot) => (end.buffers().pool().returned(slot, len)?, Role::Owner),
        Way::Alone | Way::New(_) => return None,
    };
    // The length is below the capacity, says the slot.
    Some(Hold::new(memory, len as usize, role))
}

impl From<Cursors> for CursorsCapsule {
    fn from(cursors: Cursors) -> Self {
        let Cursors { position, other, sequence, ring_start } = cursors;
        Self { position, other, sequence, ring_start }
    }
}

impl From<CursorsCapsule> for Cursors {
    fn from(capsule: CursorsCapsule) -> Self {
        let CursorsCapsule { position, other, sequence, ring_start } = capsule;
        Self { position, other, sequence, ring_start }
    }
}
