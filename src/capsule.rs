//! Capsules: what a thing on a transfer list becomes while it travels in a message.
//!
//! The payload of a carrier record is the data, padded to 8 bytes, then the capsules, and the table's end, which
//! tells how to read the rest. Ports come first, then buffers, frozen and shared buffers, and plain descriptors,
//! which have no capsule. The descriptors travel on the lane in the same order: two for each port, segment and lane,
//! one for each other thing.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable, pod_read_unaligned};

use crate::buffer::{Memory, TransferBuffer};
use crate::end::{End, Parts, Side};
use crate::error::{BadTransfer, Violation};
use crate::frozen::FrozenBuffer;
use crate::lane::Lane;
use crate::ring::{Consumer, Cursors, Producer};
use crate::segment::{NotAdopted, Segment};
use crate::shared::SharedBuffer;
use crate::sys::Errno;

/// Descriptors of a port; of any other thing it is one.
const PORT_HANDLES: usize = 2;

/// A port in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct PortCapsule {
    side: u32,
    /// Reserved for grown queues: segments that follow the first. 0 in this version.
    more_segments: u32,
    producer: CursorsCapsule,
    consumer: CursorsCapsule,
    /// Reserved for recycled buffers: the next number in each direction and the buffers that come along. 0.
    buffer_numbers: [u64; 2],
    cached_buffers: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct CursorsCapsule {
    position: u64,
    other: u64,
    sequence: u64,
}

/// A buffer in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct BufferCapsule {
    len: u64,
    /// Reserved for recycled buffers: its number in this direction. 0: travels by descriptor and has none.
    number: u64,
}

/// A frozen or a shared buffer in transit.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MemoryCapsule {
    len: u64,
}

/// The last 16 bytes of a carrier record's payload.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TableEnd {
    data_len: u32,
    ports: u16,
    buffers: u16,
    frozen: u16,
    shared: u16,
    descriptors: u16,
    reserved: u16,
}

/// How many things of each kind a message carries.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) ports: usize,
    pub(crate) buffers: usize,
    pub(crate) frozen: usize,
    pub(crate) shared: usize,
    pub(crate) descriptors: usize,
}

impl Counts {
    /// Descriptors of all of them.
    pub(crate) fn handles(self) -> usize {
        self.ports * PORT_HANDLES + self.buffers + self.frozen + self.shared + self.descriptors
    }

    /// Bytes of the table.
    pub(crate) fn table_len(self) -> usize {
        self.ports * size_of::<PortCapsule>()
            + self.buffers * size_of::<BufferCapsule>()
            + (self.frozen + self.shared) * size_of::<MemoryCapsule>()
            + size_of::<TableEnd>()
    }

    /// Bytes of a carrier record's payload.
    pub(crate) fn payload_len(self, data_len: usize) -> usize {
        data_len.next_multiple_of(8) + self.table_len()
    }
}

/// Appends a port's capsule to `table`.
pub(crate) fn write_port(table: &mut Vec<u8>, end: &End, producer: Cursors, consumer: Cursors) {
    let mut capsule = PortCapsule::zeroed();
    capsule.side = end.side() as u32;
    capsule.producer = producer.into();
    capsule.consumer = consumer.into();
    table.extend_from_slice(bytemuck::bytes_of(&capsule));
}

/// The descriptors of a port, in the order of the capsule.
pub(crate) fn port_handles(end: &End) -> [BorrowedFd<'_>; PORT_HANDLES] {
    [end.segment().as_fd(), end.lane().as_fd()]
}

/// Appends a buffer's capsule to `table`.
pub(crate) fn write_buffer(table: &mut Vec<u8>, memory: &Memory) {
    table.extend_from_slice(bytemuck::bytes_of(&BufferCapsule { len: memory.len as u64, number: 0 }));
}

/// Appends the capsule of a frozen or shared buffer of `len` bytes to `table`.
pub(crate) fn write_memory(table: &mut Vec<u8>, len: usize) {
    table.extend_from_slice(bytemuck::bytes_of(&MemoryCapsule { len: len as u64 }));
}

/// Completes `table`.
pub(crate) fn write_end(table: &mut Vec<u8>, data_len: usize, counts: Counts) {
    let end = TableEnd {
        data_len: data_len as u32,
        ports: counts.ports as u16,
        buffers: counts.buffers as u16,
        frozen: counts.frozen as u16,
        shared: counts.shared as u16,
        descriptors: counts.descriptors as u16,
        reserved: 0,
    };
    table.extend_from_slice(bytemuck::bytes_of(&end));
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
        };
        let data_len = end.data_len as usize;
        if counts.payload_len(data_len) != payload.len() || end.reserved != 0 {
            return Err(Violation::BadTable);
        }
        Ok(Self { data_len, counts, capsules: &payload[data_len.next_multiple_of(8)..at] })
    }

    /// Descriptors that belong to the table.
    pub(crate) fn handles(&self) -> usize {
        self.counts.handles()
    }

    /// Makes things of capsules and descriptors. After an error `things` holds what had been made.
    pub(crate) fn adopt(&self, handles: Vec<OwnedFd>, things: &mut Things) -> Result<(), NotMade> {
        debug_assert_eq!(handles.len(), self.handles());
        let (mut handles, mut capsules) = (handles.into_iter(), self.capsules);
        for _ in 0..self.counts.ports {
            let (Some(segment), Some(lane)) = (handles.next(), handles.next()) else { break };
            things.ports.push(adopt_port(&next(&mut capsules), segment, lane)?);
        }
        for _ in 0..self.counts.buffers {
            let Some(file) = handles.next() else { break };
            things.buffers.push(adopt_buffer(&next(&mut capsules), file)?);
        }
        for _ in 0..self.counts.frozen {
            let Some(file) = handles.next() else { break };
            let MemoryCapsule { len } = next(&mut capsules);
            things.frozen.push(FrozenBuffer::adopt(file, len)?);
        }
        for _ in 0..self.counts.shared {
            let Some(file) = handles.next() else { break };
            let MemoryCapsule { len } = next(&mut capsules);
            things.shared.push(SharedBuffer::adopt(file, len)?);
        }
        things.descriptors.extend(handles);
        Ok(())
    }
}

/// The first capsule of those that are left; `Table::parse` has counted them.
fn next<T: Pod>(capsules: &mut &[u8]) -> T {
    let (first, rest) = capsules.split_at(size_of::<T>());
    *capsules = rest;
    pod_read_unaligned(first)
}

/// What a message carried.
#[derive(Default)]
pub(crate) struct Things {
    pub(crate) ports: Vec<Parts>,
    pub(crate) buffers: Vec<TransferBuffer>,
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
fn adopt_port(capsule: &PortCapsule, segment: OwnedFd, lane: OwnedFd) -> Result<Parts, NotMade> {
    let side = match capsule.side {
        0 => Side::A,
        1 => Side::B,
        _ => return Err(NotMade::Bad(BadTransfer::Capsule)),
    };
    let (producer, consumer) = (Cursors::from(capsule.producer), Cursors::from(capsule.consumer));
    let segment = Segment::adopt(segment)?;
    let capacity = segment.capacity() as u64;
    let reserved = (capsule.more_segments, capsule.buffer_numbers, capsule.cached_buffers);
    if !producer.plausible(capacity) || !consumer.plausible(capacity) || reserved != (0, [0, 0], 0) {
        return Err(NotMade::Bad(BadTransfer::Capsule));
    }
    let lane = Lane::adopt(lane).ok_or(NotMade::Bad(BadTransfer::Lane))?;
    let end = Arc::new(End::new(segment, lane, side));
    Ok(Parts {
        producer: Producer::new(end.outgoing().clone(), producer),
        consumer: Consumer::new(end.incoming().clone(), consumer),
        end,
    })
}

fn adopt_buffer(capsule: &BufferCapsule, file: OwnedFd) -> Result<TransferBuffer, NotMade> {
    if capsule.number != 0 {
        return Err(NotMade::Bad(BadTransfer::Capsule));
    }
    Ok(TransferBuffer::from_memory(Memory::adopt(file, capsule.len)?))
}

impl From<Cursors> for CursorsCapsule {
    fn from(cursors: Cursors) -> Self {
        let Cursors { position, other, sequence } = cursors;
        Self { position, other, sequence }
    }
}

impl From<CursorsCapsule> for Cursors {
    fn from(capsule: CursorsCapsule) -> Self {
        let CursorsCapsule { position, other, sequence } = capsule;
        Self { position, other, sequence }
    }
}
