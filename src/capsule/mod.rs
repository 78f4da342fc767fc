//! Capsules: what a thing on a transfer list becomes while it travels in a message.
//!
//! The payload of a carrier record is the data, padded to 8 bytes, then the capsules, and the table's end, which tells how
//! to read the rest. Ports come first, each with the slots of its recycled buffers, then buffers, frozen and shared
//! buffers, and plain descriptors, which have no capsule. The descriptors travel on the lane in the same order: for each
//! port segment, lane, the rings that its directions have grown into, and its recycled buffers; one for each other thing,
//! but none for a buffer that the receiver has already.
#![forbid(unsafe_code)]

pub(crate) mod port;
pub(crate) mod buffer;
pub(crate) mod arrive;
pub(crate) mod discard;

use self::buffer::{BufferCapsule, MemoryCapsule, adopt_buffer};
use self::port::{PORT_HANDLES, PortCapsule, STALE, SlotCapsule, adopt_port};
use std::os::fd::OwnedFd;

use bytemuck::{AnyBitPattern, Pod, Zeroable, pod_read_unaligned};

use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::memory::Memory;
use crate::buffer::shared::SharedBuffer;
use crate::end::{End, Parts};
use crate::error::{BadTransfer, Rejection, Violation};

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
    pub(crate) fn adopt(
        &self,
        handles: Vec<OwnedFd>,
        end: Option<&End>,
        things: &mut Things,
    ) -> Result<(), Rejection<BadTransfer>> {
        debug_assert_eq!(handles.len(), self.handles());
        let mut of_ports = handles;
        let mut others = of_ports.split_off(self.handles_of_ports()).into_iter();
        // First what may fail for want of something, and would be tried again; then what changes pool and cache.
        let mut memories = Vec::new();
        for (capsule, file) in self.buffers().filter(BufferCapsule::has_handle).zip(&mut others) {
            memories.push(match Memory::adopt(file, capsule.capacity) {
                Ok(memory) => Ok(memory),
                Err(Rejection::Invalid(bad)) => Err(BadTransfer::Segment(bad)),
                Err(Rejection::Shortage(errno)) => return Err(Rejection::Shortage(errno)),
            });
        }
        let mut made = self.adopt_others(of_ports, others, things);
        if let Err(Rejection::Shortage(_)) = made {
            return made;
        }
        // Each buffer, although something else may be bad, which the sender may have from a third party: what he posts from
        // now on counts on this one.
        let mut memories = memories.into_iter();
        for capsule in self.buffers() {
            let memory = if capsule.has_handle() { memories.next().transpose() } else { Ok(None) };
            match memory.and_then(|memory| adopt_buffer(&capsule, memory, end)) {
                Ok(hold) => things.buffers.push(TransferBuffer::from_hold(hold)),
                Err(reason) => made = made.and(Err(Rejection::Invalid(reason))),
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
    ) -> Result<(), Rejection<BadTransfer>> {
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
