//! A port while it travels, with its recycled buffers.
#![forbid(unsafe_code)]

use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::arrive::Undeliverable;
use super::{next, next_slots};
use crate::buffer::memory::Memory;
use crate::buffer::pool::Moving;
use crate::end::lane::{Lane, NotALane};
use crate::end::{End, Parts, Side};
use crate::error::{BadTransfer, Rejection};
use crate::queue::backlog::Outside;
use crate::queue::direction::Direction;
use crate::queue::ring::{Consumer, Cursors, Producer};
use crate::queue::segment::Segment;
use crate::sys::passed::Passed;

/// Descriptors that a port takes on the lane: segment and lane. Grown rings and recycled buffers add one each.
pub(super) const PORT_HANDLES: usize = 2;

/// A port in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct PortCapsule {
    /// `Side`.
    side: u32,
    /// `PRODUCER_GREW` and `CONSUMER_GREW`: the cursor stands in a ring that its direction grew into, whose descriptor
    /// comes along.
    grown: u32,
    producer: CursorsCapsule,
    consumer: CursorsCapsule,
    /// What waits outside the ring of the producer: [`Outside`].
    bodies: u64,
    buffers: u64,
    /// Capsules of recycled buffers that follow.
    pub(super) slots: u32,
    /// Bytes of the ring, all unread, that the producer has written since the last record with something outside.
    behind: u32,
}

/// Flag in `PortCapsule::grown`: the producer writes to a grown ring.
const PRODUCER_GREW: u32 = 1;
/// Flag in `PortCapsule::grown`: the consumer reads from a grown ring.
const CONSUMER_GREW: u32 = 2;

impl PortCapsule {
    /// Grown rings whose descriptors come along.
    pub(super) fn grown_rings(&self) -> usize {
        (self.grown & (PRODUCER_GREW | CONSUMER_GREW)).count_ones() as usize
    }
}

/// [`Cursors`] in transit.
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
pub(super) struct SlotCapsule {
    /// Bytes of the buffer's memory.
    capacity: u64,
    slot: u32,
    /// `CACHED`, `POSTED` or `STALE`.
    pub(super) what: u32,
}

/// `SlotCapsule::what` of [`Moving::Cached`].
const CACHED: u32 = 1;
/// `SlotCapsule::what` of [`Moving::Posted`].
const POSTED: u32 = 2;
/// `SlotCapsule::what` of [`Moving::Stale`], which comes without a descriptor.
pub(super) const STALE: u32 = 3;

const _: () = {
    assert!(size_of::<PortCapsule>() == 96);
    assert!(offset_of!(PortCapsule, side) == 0 && offset_of!(PortCapsule, grown) == 4);
    assert!(offset_of!(PortCapsule, producer) == 8 && offset_of!(PortCapsule, consumer) == 40);
    assert!(offset_of!(PortCapsule, bodies) == 72 && offset_of!(PortCapsule, buffers) == 80);
    assert!(offset_of!(PortCapsule, slots) == 88 && offset_of!(PortCapsule, behind) == 92);
    assert!(size_of::<CursorsCapsule>() == 32);
    assert!(offset_of!(CursorsCapsule, position) == 0 && offset_of!(CursorsCapsule, other) == 8);
    assert!(offset_of!(CursorsCapsule, sequence) == 16 && offset_of!(CursorsCapsule, ring_start) == 24);
    assert!(size_of::<SlotCapsule>() == 16);
    assert!(offset_of!(SlotCapsule, capacity) == 0 && offset_of!(SlotCapsule, slot) == 8);
    assert!(offset_of!(SlotCapsule, what) == 12);
};

/// Encodes a port: hands its capsule, and those of its recycled buffers, to `put`.
///
/// The standard's [transfer steps of a
/// port](https://html.spec.whatwg.org/multipage/web-messaging.html#transferring-messageport): queue and remote port are
/// in the segment, whose descriptor travels; the capsule adds the private state of this end.
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
    let outside = producer.backlog.total();
    (capsule.bodies, capsule.buffers) = (outside.bodies, outside.buffers);
    let behind = producer.backlog.end().map_or(0, |end| capsule.producer.position - end);
    capsule.behind = u32::try_from(behind).unwrap_or(0); // a distance in rings; at 0 the bytes count for longer
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

/// Decodes a port: checks the capsule and its descriptors, and makes an end of this process from them.
///
/// The standard's [transfer-receiving steps of a
/// port](https://html.spec.whatwg.org/multipage/web-messaging.html#transferring-messageport):
/// 1. *Has been shipped* has no counterpart: every port here can have been shipped, and nothing depends on it.
/// 2. The queue is in the segment, so its messages arrive with the port. As in the standard they wait until the port is
///    started, or received from.
/// 3. The remote port is entangled as before: it stands at the other side of the segment, and never notices.
///
/// After an error `kept` holds the lane, if there is one.
pub(super) fn adopt_port<'p>(
    capsules: &mut &[u8],
    handles: &mut impl Iterator<Item = &'p mut Passed>,
    kept: &mut Vec<Arc<Lane>>,
) -> Result<Parts, Rejection<Undeliverable>> {
    let capsule: PortCapsule = next(capsules);
    let slots = next_slots(capsules, &capsule);
    let side = match capsule.side {
        0 => Side::A,
        1 => Side::B,
        _ => return Err(bad()),
    };
    let unknown = capsule.grown & !(PRODUCER_GREW | CONSUMER_GREW);
    if (unknown, capsule.consumer.ring_start) != (0, 0) {
        return Err(bad());
    }
    let segment = Segment::adopt(handles.next().ok_or(bad())?)?;
    let end = match Lane::adopt(handles.next().ok_or(bad())?) {
        Ok(lane) => Arc::new(End::new(segment, lane, side)),
        Err(NotALane::Kind) => return Err(Undeliverable::WRONG_KIND.into()),
        Err(NotALane::Unfit(lane)) => {
            kept.push(Arc::new(lane));
            return Err(Undeliverable::Message(BadTransfer::Lane).into());
        }
    };
    let lane = Arc::clone(end.lane());
    adopt_rest(end, capsule, slots, handles).inspect_err(|_| kept.push(lane))
}

/// Adopts what belongs to a port beside its segment and its lane.
fn adopt_rest<'p>(
    end: Arc<End>,
    capsule: PortCapsule,
    slots: impl Iterator<Item = SlotCapsule>,
    handles: &mut impl Iterator<Item = &'p mut Passed>,
) -> Result<Parts, Rejection<Undeliverable>> {
    let mut handle = || handles.next().ok_or(bad());
    let mut place = |direction: &Direction, cursors: CursorsCapsule, flag| {
        let direction = match capsule.grown & flag {
            0 => direction.clone(),
            _ => direction.in_ring(end.segment().adopt_ring(handle()?, end.segment().capacity())?),
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
    let behind = u64::from(capsule.behind);
    if behind > producer.position - producer.other {
        return Err(bad());
    }
    let outside_ends = producer.position - behind;
    let mut producer = Producer::new(outgoing, producer);
    producer.backlog.add(outside_ends, Outside { bodies: capsule.bodies, buffers: capsule.buffers });
    Ok(Parts { producer, consumer: Consumer::new(incoming, consumer), end })
}

fn bad() -> Rejection<Undeliverable> {
    Undeliverable::Message(BadTransfer::Capsule).into()
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
