//! Capsules: what a thing on a transfer list becomes while it travels in a message.
//!
//! The payload of a carrier record is the data, padded to 8 bytes, the bytes of buffers that are copied, each padded
//! to 8 bytes, then the *table*: capsules, and an end that counts them.
//!
//! ```text
//! | data | copied buffers | ports, each with its slots | buffers | frozen | shared | table end |
//! ```
//! Descriptors travel on the lane, in the order of the table. A port has its segment, its lane, the rings that its
//! directions have grown into, and its recycled buffers. Every other item has one descriptor, except a buffer that is
//! copied or that the receiver keeps already. A plain descriptor has no capsule.
//!
//! A new kind of transferable thing needs a count, a capsule and a variant of [`Arrived`] here, a variant of `Item`
//! (`port/baggage.rs`), of `Transferable` and of `TransferRef` (`port/transfer.rs`), and a list in `Message`
//! (`port/message.rs`). The compiler then names every match and every list of counts that lacks it. It does not name
//! the `From` conversions to `Transferable` and `TransferRef`, and `ffi/src/transfer/kind.rs`, which numbers the kinds
//! for C.
#![forbid(unsafe_code)]

pub(crate) mod port;
pub(crate) mod buffer;
pub(crate) mod arrive;
pub(crate) mod discard;

use std::mem::offset_of;
use std::sync::Arc;

use bytemuck::{AnyBitPattern, Pod, Zeroable, pod_read_unaligned};

use self::arrive::Undeliverable;
use self::buffer::{BufferCapsule, MemoryCapsule, adopt_buffer};
use self::port::{PORT_HANDLES, PortCapsule, STALE, SlotCapsule, adopt_port};
use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::memory::Memory;
use crate::buffer::shared::SharedBuffer;
use crate::end::lane::Lane;
use crate::end::{End, Parts};
use crate::error::{Rejection, Violation};
use crate::sys::Errno;
use crate::sys::passed::Passed;

/// The last 24 bytes of a carrier record's payload.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TableEnd {
    /// Bytes of data in front of the table, without the padding.
    data_len: u32,
    ports: u16,
    buffers: u16,
    frozen: u16,
    shared: u16,
    descriptors: u16,
    /// Capsules of recycled buffers, of all ports together.
    slots: u16,
    /// 1 if the last buffer is the data of the message, else 0.
    body: u16,
    /// Zero.
    reserved: u16,
    /// Bytes of the buffers that are copied, with their padding.
    copied: u32,
}

const _: () = {
    assert!(size_of::<TableEnd>() == 24);
    assert!(offset_of!(TableEnd, ports) == 4 && offset_of!(TableEnd, buffers) == 6);
    assert!(offset_of!(TableEnd, frozen) == 8 && offset_of!(TableEnd, shared) == 10);
    assert!(offset_of!(TableEnd, descriptors) == 12 && offset_of!(TableEnd, slots) == 14);
    assert!(offset_of!(TableEnd, body) == 16 && offset_of!(TableEnd, reserved) == 18);
    assert!(offset_of!(TableEnd, copied) == 20);
};

/// How many capsules of each kind a table has.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) ports: usize,
    pub(crate) buffers: usize,
    pub(crate) frozen: usize,
    pub(crate) shared: usize,
    pub(crate) descriptors: usize,
    /// Recycled buffers of the ports.
    pub(crate) slots: usize,
    /// True if the last buffer is the data.
    pub(crate) body: bool,
    /// Bytes of the buffers that are copied, with their padding.
    pub(crate) copied: usize,
}

impl Counts {
    /// The table of a message whose data lies in a buffer.
    pub(crate) const BODY: Self =
        Self { ports: 0, buffers: 1, frozen: 0, shared: 0, descriptors: 0, slots: 0, body: true, copied: 0 };

    /// Bytes of the table.
    fn table_len(self) -> usize {
        let Self { ports: _, buffers, frozen, shared, descriptors: _, slots: _, body: _, copied: _ } = self;
        self.ports_len()
            + buffers * size_of::<BufferCapsule>()
            + (frozen + shared) * size_of::<MemoryCapsule>()
            + size_of::<TableEnd>()
    }

    /// Bytes of the ports' capsules and their slots', which come first.
    fn ports_len(self) -> usize {
        self.ports * size_of::<PortCapsule>() + self.slots * size_of::<SlotCapsule>()
    }

    /// Bytes of a carrier record's payload.
    pub(crate) fn payload_len(self, data_len: usize) -> usize {
        data_len.next_multiple_of(8) + self.copied + self.table_len()
    }

    /// Hands the end of the table to `put`.
    pub(crate) fn write_end(self, put: &mut impl FnMut(&[u8]), data_len: usize) {
        let Self { ports, buffers, frozen, shared, descriptors, slots, body, copied } = self;
        put(bytemuck::bytes_of(&TableEnd {
            data_len: data_len as u32,
            ports: ports as u16,
            buffers: buffers as u16,
            frozen: frozen as u16,
            shared: shared as u16,
            descriptors: descriptors as u16,
            slots: slots as u16,
            body: body.into(),
            reserved: 0,
            copied: copied as u32,
        }));
    }
}

impl From<TableEnd> for Counts {
    fn from(end: TableEnd) -> Self {
        let TableEnd { data_len: _, ports, buffers, frozen, shared, descriptors, slots, body, reserved: _, copied } =
            end;
        Self {
            ports: ports.into(),
            buffers: buffers.into(),
            frozen: frozen.into(),
            shared: shared.into(),
            descriptors: descriptors.into(),
            slots: slots.into(),
            body: body == 1,
            copied: copied as usize,
        }
    }
}

/// The table of a received record, checked against the record's length.
pub(crate) struct Table<'a> {
    pub(crate) data_len: usize,
    counts: Counts,
    /// The bytes of the buffers that are copied.
    copied: &'a [u8],
    /// Without the table's end.
    capsules: &'a [u8],
}

impl<'a> Table<'a> {
    /// Finds and checks the table of a carrier record in its payload, a private copy.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Violation> {
        let at = payload.len().checked_sub(size_of::<TableEnd>()).ok_or(Violation::BadTable)?;
        let end: TableEnd = pod_read_unaligned(&payload[at..]);
        let (counts, data_len) = (Counts::from(end), end.data_len as usize);
        let has_body = counts.body && data_len == 0 && counts.buffers > 0;
        if counts.payload_len(data_len) != payload.len() || (end.body, end.reserved) != (has_body.into(), 0) {
            return Err(Violation::BadTable);
        }
        let (copied, capsules) = payload[data_len.next_multiple_of(8)..at].split_at(counts.copied);
        let table = Self { data_len, counts, copied, capsules };
        // The ports must have exactly as many slots as the end counts: then every capsule lies where its count puts it.
        let (ports, slots) =
            table.ports().fold((0, 0), |(ports, slots), port| (ports + 1, slots + port.slots as usize));
        if (ports, slots) != (counts.ports, counts.slots) {
            return Err(Violation::BadTable);
        }
        // So must the buffers that are copied have their bytes.
        let mut copied = 0_u64;
        for len in table.buffers().filter_map(|capsule| capsule.copied_len()) {
            copied =
                len.checked_next_multiple_of(8).and_then(|len| copied.checked_add(len)).ok_or(Violation::BadTable)?;
        }
        if copied == counts.copied as u64 { Ok(table) } else { Err(Violation::BadTable) }
    }

    /// How many things of each kind the table has.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The capsules of the ports, which stand between those of their slots.
    fn ports(&self) -> impl Iterator<Item = PortCapsule> {
        let mut rest = &self.capsules[..self.counts.ports_len()];
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
            next_slots(&mut rest, &port)
        })
    }

    /// The capsules of the buffers, which come behind those of the ports.
    fn buffers(&self) -> impl Iterator<Item = BufferCapsule> {
        let len = self.counts.buffers * size_of::<BufferCapsule>();
        let buffers = &self.capsules[self.counts.ports_len()..][..len];
        buffers.chunks_exact(size_of::<BufferCapsule>()).map(pod_read_unaligned)
    }

    /// Bytes of data that lie in a buffer, as the peer claims. `None` if the data is in the record.
    pub(crate) fn body_len(&self) -> Option<u64> {
        self.buffers().last().filter(|_| self.counts.body).map(|capsule| capsule.len)
    }

    /// Buffers that are copied: each takes a descriptor of the receiver.
    pub(crate) fn copies(&self) -> usize {
        self.buffers().filter(|capsule| capsule.copied_len().is_some()).count()
    }

    /// Descriptors that belong to the table.
    pub(crate) fn handles(&self) -> usize {
        let Counts { ports: _, buffers: _, frozen, shared, descriptors, slots: _, body: _, copied: _ } = self.counts;
        let buffers = self.buffers().filter(BufferCapsule::has_handle).count();
        self.handles_of_ports() + buffers + frozen + shared + descriptors
    }

    /// Descriptors of the ports, which come first.
    fn handles_of_ports(&self) -> usize {
        let grown: usize = self.ports().map(|port| port.grown_rings()).sum();
        let slots = self.slots().filter(|slot| slot.what != STALE).count();
        self.counts.ports * PORT_HANDLES + grown + slots
    }

    /// Makes ports, buffers and descriptors of the table and its `handles`, for a receiver at `end`.
    ///
    /// After an error `arrival` holds what had been made, and `handles` the rest. If something was invalid, pool and
    /// cache still agree with the sender's. Buffers that are copied are not made if they would be dropped at once.
    pub(crate) fn adopt(
        &self,
        handles: &mut [Passed],
        end: Option<&End>,
        arrival: &mut Arrival,
        make_copies: bool,
    ) -> Result<(), Rejection<Undeliverable>> {
        debug_assert_eq!(handles.len(), self.handles());
        // The peer decides how many things there are, those without a descriptor included.
        let Counts { ports, buffers: buffer_count, frozen, shared, descriptors, slots: _, body: _, copied: _ } =
            self.counts;
        let (mut memories, mut buffers) = (Vec::new(), Vec::new());
        let room = memories.try_reserve_exact(buffer_count);
        room.and_then(|()| buffers.try_reserve_exact(buffer_count))
            .and_then(|()| arrival.items.try_reserve_exact(ports + buffer_count + frozen + shared + descriptors))
            .map_err(|_| Rejection::<Undeliverable>::Shortage(Errno::ENOMEM))?;
        let (of_ports, others) = handles.split_at_mut(self.handles_of_ports());
        let mut others = others.iter_mut();
        let capsules = || self.buffers().filter(|capsule| make_copies || capsule.copied_len().is_none());
        // A shortage must leave pool and cache untouched for the next attempt, so everything that can meet one comes
        // first.
        let mut copied = self.copied;
        for capsule in capsules() {
            memories.push(if let Some(len) = capsule.copied_len() {
                let bytes = copied.split_off(..len.next_multiple_of(8) as usize).unwrap_or_default();
                Ok(Some(Memory::copy(&bytes[..len as usize]).map_err(Rejection::<Undeliverable>::Shortage)?))
            } else if capsule.has_handle()
                && let Some(file) = others.next()
            {
                match Memory::adopt(file, capsule.capacity) {
                    Ok(memory) => Ok(Some(memory)),
                    Err(Rejection::Invalid(bad)) => Err(Undeliverable::from(bad)),
                    Err(Rejection::Shortage(errno)) => return Err(Rejection::Shortage(errno)),
                }
            } else {
                Ok(None)
            });
        }
        let mut made = self.adopt_others(of_ports, others, arrival);
        if let Err(Rejection::Shortage(_)) = made {
            return made;
        }
        // Every buffer is recorded in the slot that the sender assigned, even if another item is invalid: the sender
        // may have that item from a third party, which could otherwise desynchronise the caches of this channel.
        for (capsule, memory) in capsules().zip(memories) {
            match memory.and_then(|memory| Ok(adopt_buffer(&capsule, memory, end)?)) {
                Ok(hold) => buffers.push(TransferBuffer::from_hold(hold)),
                Err(reason) => made = made.and(Err(Rejection::Invalid(reason))),
            }
        }
        arrival.body = if self.counts.body { buffers.pop() } else { None };
        arrival.items.extend(buffers.into_iter().map(Arrived::Buffer));
        made
    }

    /// Makes everything but the buffers.
    fn adopt_others<'p>(
        &self,
        of_ports: &'p mut [Passed],
        mut others: impl Iterator<Item = &'p mut Passed>,
        Arrival { items, kept, .. }: &mut Arrival,
    ) -> Result<(), Rejection<Undeliverable>> {
        let Counts { ports, buffers, frozen, shared, descriptors: _, slots: _, body: _, copied: _ } = self.counts;
        let (mut of_ports, mut capsules) = (of_ports.iter_mut(), self.capsules);
        for _ in 0..ports {
            items.push(Arrived::Port(adopt_port(&mut capsules, &mut of_ports, kept)?));
        }
        capsules = &capsules[buffers * size_of::<BufferCapsule>()..];
        for file in others.by_ref().take(frozen) {
            let MemoryCapsule { len } = next(&mut capsules);
            items.push(Arrived::Frozen(FrozenBuffer::adopt(file, len)?));
        }
        for file in others.by_ref().take(shared) {
            let MemoryCapsule { len } = next(&mut capsules);
            items.push(Arrived::Shared(SharedBuffer::adopt(file, len)?));
        }
        items.extend(others.map(|passed| Arrived::Descriptor(std::mem::take(passed))));
        Ok(())
    }
}

/// Takes the next capsule. `Table::parse` has checked that there are as many as the table's end counts.
fn next<T: AnyBitPattern>(capsules: &mut &[u8]) -> T {
    let (first, rest) = capsules.split_at(size_of::<T>());
    *capsules = rest;
    pod_read_unaligned(first)
}

/// Takes the capsules of the slots that follow the capsule of their port, as checked by `Table::parse`.
fn next_slots<'a>(capsules: &mut &'a [u8], port: &PortCapsule) -> impl Iterator<Item = SlotCapsule> + use<'a> {
    let (slots, rest) = capsules.split_at(port.slots as usize * size_of::<SlotCapsule>());
    *capsules = rest;
    slots.chunks_exact(size_of::<SlotCapsule>()).map(pod_read_unaligned)
}

/// What came with a record, before it becomes the user's message.
#[derive(Default)]
pub(crate) struct Arrival {
    /// What was on the transfer list. Things of one kind are in the order of the list.
    pub(crate) items: Vec<Arrived>,
    /// The data, if it came in a buffer.
    pub(crate) body: Option<TransferBuffer>,
    /// Lanes of ports that could not be made. As long as they are here, taking their packet does not close them.
    kept: Vec<Arc<Lane>>,
}

/// One thing that has arrived.
pub(crate) enum Arrived {
    Port(Parts),
    Buffer(TransferBuffer),
    Frozen(FrozenBuffer),
    Shared(SharedBuffer),
    Descriptor(Passed),
}

impl Arrival {
    /// Number of ports.
    pub(crate) fn ports(&self) -> usize {
        self.items.iter().filter(|item| matches!(item, Arrived::Port(_))).count()
    }

    /// The ports. Everything else is dropped.
    pub(crate) fn into_ports(self) -> impl Iterator<Item = Parts> {
        self.items.into_iter().filter_map(|item| if let Arrived::Port(parts) = item { Some(parts) } else { None })
    }
}
