//! Capsules: what a port or a buffer becomes while it travels in a message.
//!
//! The payload of a carrier record is the data, padded to 8 bytes, then one capsule per port, one per buffer, and the
//! table's end, which tells how to read the rest. The descriptors travel on the lane: for each port segment, lane, and
//! the rings that its directions have grown into; then one for each buffer.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable, pod_read_unaligned};

use crate::buffer::{Memory, TransferBuffer};
use crate::direction::Direction;
use crate::end::{End, Parts, Side};
use crate::error::{BadTransfer, Violation};
use crate::lane::Lane;
use crate::ring::{Consumer, Cursors, Producer};
use crate::segment::{NotAdopted, Segment};
use crate::sys::Errno;

/// Descriptors of a port whose directions have not grown, and of a buffer.
const PORT_HANDLES: usize = 2;
const BUFFER_HANDLES: usize = 1;

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
    /// Reserved for recycled buffers: the next number in each direction and the buffers that come along. 0.
    buffer_numbers: [u64; 2],
    cached_buffers: u32,
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

/// A buffer in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct BufferCapsule {
    len: u64,
    /// Reserved for recycled buffers: its number in this direction. 0: travels by descriptor and has none.
    number: u64,
}

/// The last 8 bytes of a carrier record's payload.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct TableEnd {
    pub(crate) data_len: u32,
    pub(crate) ports: u16,
    pub(crate) buffers: u16,
}

/// Bytes of a table.
pub(crate) fn table_len(ports: usize, buffers: usize) -> usize {
    ports * size_of::<PortCapsule>() + buffers * size_of::<BufferCapsule>() + size_of::<TableEnd>()
}

/// Bytes of a carrier record's payload.
pub(crate) fn payload_len(data_len: usize, ports: usize, buffers: usize) -> usize {
    data_len.next_multiple_of(8) + table_len(ports, buffers)
}

/// Appends a port's capsule to `table`.
pub(crate) fn write_port(table: &mut Vec<u8>, end: &End, producer: &Producer, consumer: &Consumer) {
    let mut capsule = PortCapsule::zeroed();
    capsule.side = end.side() as u32;
    let grew = |direction: &Direction, flag| if direction.grown().is_some() { flag } else { 0 };
    capsule.grown = grew(producer.direction(), PRODUCER_GREW) | grew(consumer.direction(), CONSUMER_GREW);
    capsule.producer = producer.cursors().into();
    capsule.consumer = consumer.cursors().into();
    table.extend_from_slice(bytemuck::bytes_of(&capsule));
}

/// The descriptors of a port, in the order of the capsule.
pub(crate) fn port_handles<'a>(
    end: &'a End,
    producer: &'a Producer,
    consumer: &'a Consumer,
) -> impl Iterator<Item = BorrowedFd<'a>> {
    let grown = [producer.direction(), consumer.direction()].into_iter().filter_map(Direction::grown);
    [end.segment().as_fd(), end.lane().as_fd()].into_iter().chain(grown.map(|ring| ring.file.as_fd()))
}

/// Appends a buffer's capsule to `table`.
pub(crate) fn write_buffer(table: &mut Vec<u8>, memory: &Memory) {
    table.extend_from_slice(bytemuck::bytes_of(&BufferCapsule { len: memory.len as u64, number: 0 }));
}

/// Completes `table`.
pub(crate) fn write_end(table: &mut Vec<u8>, data_len: usize, ports: usize, buffers: usize) {
    let end = TableEnd { data_len: data_len as u32, ports: ports as u16, buffers: buffers as u16 };
    table.extend_from_slice(bytemuck::bytes_of(&end));
}

/// A table as it was found, checked against the length of its record.
pub(crate) struct Table<'a> {
    pub(crate) data_len: usize,
    ports: &'a [u8],
    buffers: &'a [u8],
}

impl<'a> Table<'a> {
    /// Splits a carrier record's payload, a private copy, into data and table.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Violation> {
        let at = payload.len().checked_sub(size_of::<TableEnd>()).ok_or(Violation::BadTable)?;
        let end: TableEnd = pod_read_unaligned(&payload[at..]);
        let (ports, buffers) = (usize::from(end.ports), usize::from(end.buffers));
        let data_len = end.data_len as usize;
        if payload_len(data_len, ports, buffers) != payload.len() {
            return Err(Violation::BadTable);
        }
        let capsules = &payload[data_len.next_multiple_of(8)..at];
        let (ports, buffers) = capsules.split_at(ports * size_of::<PortCapsule>());
        Ok(Self { data_len, ports, buffers })
    }

    /// Descriptors that belong to the table.
    pub(crate) fn handles(&self) -> usize {
        let port = |capsule: &[u8]| PORT_HANDLES + pod_read_unaligned::<PortCapsule>(capsule).grown_rings();
        self.ports.chunks_exact(size_of::<PortCapsule>()).map(port).sum::<usize>()
            + self.buffers.len() / size_of::<BufferCapsule>() * BUFFER_HANDLES
    }

    /// Makes ports and buffers of capsules and descriptors. After an error `things` holds what had been made.
    pub(crate) fn adopt(&self, handles: Vec<OwnedFd>, things: &mut Things) -> Result<(), NotMade> {
        debug_assert_eq!(handles.len(), self.handles());
        let mut handles = handles.into_iter();
        for capsule in self.ports.chunks_exact(size_of::<PortCapsule>()) {
            things.ports.push(adopt_port(&pod_read_unaligned(capsule), &mut handles)?);
        }
        for capsule in self.buffers.chunks_exact(size_of::<BufferCapsule>()) {
            let Some(file) = handles.next() else { break };
            things.buffers.push(adopt_buffer(&pod_read_unaligned(capsule), file)?);
        }
        Ok(())
    }
}

/// What a message carried.
#[derive(Default)]
pub(crate) struct Things {
    pub(crate) ports: Vec<Parts>,
    pub(crate) buffers: Vec<TransferBuffer>,
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
fn adopt_port(capsule: &PortCapsule, handles: &mut impl Iterator<Item = OwnedFd>) -> Result<Parts, NotMade> {
    let bad = || NotMade::Bad(BadTransfer::Capsule);
    let mut handle = || handles.next().ok_or(bad());
    let side = match capsule.side {
        0 => Side::A,
        1 => Side::B,
        _ => return Err(bad()),
    };
    let unknown = capsule.grown & !(PRODUCER_GREW | CONSUMER_GREW);
    if (unknown, capsule.consumer.ring_start, capsule.buffer_numbers, capsule.cached_buffers) != (0, 0, [0, 0], 0) {
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
    Ok(Parts { producer: Producer::new(outgoing, producer), consumer: Consumer::new(incoming, consumer), end })
}

fn adopt_buffer(capsule: &BufferCapsule, file: OwnedFd) -> Result<TransferBuffer, NotMade> {
    if capsule.number != 0 {
        return Err(NotMade::Bad(BadTransfer::Capsule));
    }
    Ok(TransferBuffer::from_memory(Memory::adopt(file, capsule.len)?))
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
