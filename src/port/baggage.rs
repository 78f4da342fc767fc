//! A transfer list on its way out: checked, encoded, handed over, detached.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::collections::TryReserveError;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::PortGuard;
use super::transfer::{TransferRef, count};
use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::memory::{Hold, Location, Role};
use crate::buffer::pool::{Moving, Planned};
use crate::capsule::Counts;
use crate::capsule::buffer::{LoneCapsule, Way, write_buffer, write_memory};
use crate::capsule::discard::{discard, sharing};
use crate::capsule::port::{port_handles, write_port};
use crate::end::{End, State};
use crate::error::PostErrorKind;
use crate::queue::ring::Cursors;
use crate::sys::{Errno, PAGE};

/// A checked transfer list. Everything on it is borrowed, so nothing can happen to it until it has left or the baggage
/// is dropped.
#[derive(Default)]
pub(crate) struct Baggage<'a> {
    /// In the order of the list; [`write_table`](Self::write_table) puts them into the order of the table.
    items: Vec<Item<'a>>,
    /// The data of the message, if it does not fit any ring. In the table it is the last buffer.
    body: Option<(Hold, Way)>,
    counts: Counts,
    /// Descriptors.
    handles: usize,
    /// Slots that buffers on the list get, and the body cannot get.
    planned: Vec<Planned>,
}

/// One thing of a list, borrowed. The order of the variants is that of the table.
enum Item<'a> {
    Port { port: PortGuard<'a>, moving: Vec<Moving> },
    Buffer { hold: RefMut<'a, Option<Hold>>, way: Way },
    Frozen(&'a FrozenBuffer),
    Shared { file: BorrowedFd<'a>, len: usize },
    Descriptor(BorrowedFd<'a>),
}

impl<'a> Baggage<'a> {
    /// Makes the checks that need no space and no system call. They come in a fixed order: the port itself, its peer,
    /// duplicates, then each thing in the order of the list.
    ///
    /// `via` is the end over which the list will travel; a greeting has none. The peer is recognised by the identity of
    /// the segment, which a number inside the segment could not prove.
    pub(crate) fn check(list: &[TransferRef<'a>], via: Option<&Arc<End>>) -> Result<Self, PostErrorKind> {
        let ports = || {
            let items = list.iter().enumerate();
            items.filter_map(
                |(index, item)| if let TransferRef::Port(port) = item { Some((index, *port)) } else { None },
            )
        };
        if let Some(via) = via {
            // Step 2 of the message port post message steps, and step 4, which is an error here.
            if let Some((index, _)) = ports().find(|(_, port)| Arc::ptr_eq(port.end(), via)) {
                return Err(PostErrorKind::ContainsSelf { index });
            }
            if let Some((index, _)) = ports().find(|(_, port)| port.end().segment().is(via.segment())) {
                return Err(PostErrorKind::ContainsPeer { index });
            }
        }
        if let Some(index) = find_duplicate(list)? {
            return Err(PostErrorKind::Duplicate { index });
        }
        // Step 5: what structured serialising with transfer refuses.
        let mut baggage = Self { counts: count(list), ..Self::default() };
        baggage.items.try_reserve_exact(list.len())?;
        for (index, item) in list.iter().enumerate() {
            baggage.add(index, *item, via.map(|end| &**end))?;
        }
        Ok(baggage)
    }

    fn add(&mut self, index: usize, item: TransferRef<'a>, via: Option<&End>) -> Result<(), PostErrorKind> {
        let unusable = || PostErrorKind::Unusable { index };
        let item = match item {
            TransferRef::Port(port) => {
                let usable = port.end().home().is_here()
                    && matches!(port.end().state(), State::Open | State::PeerClosed | State::PeerDied);
                let port = port.guard().filter(|_| usable).ok_or_else(unusable)?;
                let moving = port.end.buffers().moving();
                self.counts.slots += moving.len();
                Item::Port { port, moving }
            }
            TransferRef::Buffer(buffer) => {
                let hold = buffer.hold().try_borrow_mut().map_err(|_| unusable())?;
                let found = hold.as_ref().filter(|hold| hold.is_usable()).ok_or_else(unusable)?;
                let way = self.way(found, via);
                Item::Buffer { hold, way }
            }
            TransferRef::Frozen(buffer) => Item::Frozen(buffer),
            TransferRef::Shared(buffer) => {
                Item::Shared { file: buffer.file().ok_or_else(unusable)?, len: buffer.len() }
            }
            TransferRef::Descriptor(descriptor) => Item::Descriptor(descriptor),
        };
        self.handles += item.descriptors().count();
        self.items.push(item);
        Ok(())
    }

    /// How a buffer travels over `via`. A buffer of another port's pool or cache leaves that: it travels once.
    fn way(&mut self, hold: &Hold, via: Option<&End>) -> Way {
        let Hold { memory, role, .. } = hold;
        let buffers = via.map(End::buffers);
        match role {
            Role::New => {
                let slot = buffers.and_then(|buffers| buffers.pool().slot_for(memory.capacity, &self.planned));
                self.planned.extend(slot.map(|slot| Planned { slot, bytes: memory.capacity as u64 }));
                slot.map_or(Way::Once, Way::First)
            }
            Role::Owner => buffers.and_then(|buffers| buffers.slot_of(memory)).map_or(Way::Once, Way::Again),
            Role::Guest => buffers.and_then(|buffers| buffers.slot_of(memory)).map_or(Way::Once, Way::Back),
            Role::Traveller => Way::Once,
        }
    }

    /// Copies buffers of at most a page into the record that would travel by a descriptor and not be recycled: an
    /// unread descriptor counts towards limits of the system, which the memory of a ring does not. The payload stays
    /// within `max` bytes.
    pub(crate) fn copy_small(&mut self, data_len: usize, max: usize) {
        self.copy(data_len, max, |way, len| way == Way::Once && len <= PAGE);
    }

    /// Copies all buffers into the record that would travel by a descriptor, as long as the payload stays within `max`
    /// bytes. True if the list then needs no descriptor.
    pub(crate) fn copy_all(&mut self, data_len: usize, max: usize) -> bool {
        self.copy(data_len, max, |way, _| way.has_handle());
        self.handles == 0
    }

    fn copy(&mut self, data_len: usize, max: usize, which: impl Fn(Way, usize) -> bool) {
        let mut left = max.saturating_sub(self.payload_len(data_len));
        for item in &mut self.items {
            if let Item::Buffer { hold, way } = item
                && let Some(len) = hold.as_ref().map(|hold| hold.len).filter(|len| which(*way, *len))
                && let Some(rest) = left.checked_sub(len.next_multiple_of(8))
            {
                *way = Way::Copied;
                self.counts.copied += left - rest;
                self.handles -= 1;
                left = rest;
            }
        }
    }

    /// Counts the data as a buffer, which [`set_body`](Self::set_body) will bring.
    pub(crate) fn expect_body(&mut self) {
        self.counts.body = true;
        self.counts.buffers += 1;
    }

    /// Slots that the buffers on the list get, and the data cannot get.
    pub(crate) fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// Adds the data of the message, in a buffer.
    pub(crate) fn set_body(&mut self, hold: Hold, via: &End) {
        let way = self.way(&hold, Some(via));
        self.handles += usize::from(way.has_handle());
        self.body = Some((hold, way));
    }

    /// Descriptors that go with the message.
    pub(crate) fn handles(&self) -> usize {
        self.handles
    }

    /// Bytes of payload of a message with this list and `data_len` bytes of data.
    pub(crate) fn payload_len(&self, data_len: usize) -> usize {
        self.counts.payload_len(data_len)
    }

    /// Hands the table to `put`, part by part. For the present holders nothing changes but the announced cursor of a
    /// port.
    pub(crate) fn write_table(&mut self, data_len: usize, mut put: impl FnMut(&[u8])) {
        self.items.sort_by_key(Item::rank);
        let body_at = self.items.partition_point(Item::precedes_body);
        let mut copy = Vec::new();
        for hold in self.items.iter().filter_map(Item::copied) {
            copy.clear();
            hold.memory.read_to_vec(hold.len, &mut copy);
            copy.resize(hold.len.next_multiple_of(8), 0);
            put(&copy);
        }
        let (front, back) = self.items.split_at_mut(body_at);
        front.iter_mut().for_each(|item| item.encode(&mut put));
        self.body.iter().for_each(|(hold, way)| write_buffer(&mut put, &hold.memory, hold.len, *way));
        back.iter_mut().for_each(|item| item.encode(&mut put));
        self.counts.write_end(&mut put, data_len);
    }

    /// The descriptors of the table, in its order, to be sent at once. New buffers get their last seal here, on every
    /// way out of the process.
    pub(crate) fn descriptors(&self) -> Result<Vec<BorrowedFd<'_>>, Errno> {
        let body = self.body.iter().map(|(hold, way)| (hold, *way));
        for (hold, way) in self.items.iter().filter_map(Item::buffer).chain(body.clone()) {
            if hold.role == Role::New && way.has_handle() {
                hold.memory.seal()?;
            }
        }
        let mut all = Vec::with_capacity(self.handles);
        let (front, back) = self.items.split_at(self.items.partition_point(Item::precedes_body));
        all.extend(front.iter().flat_map(Item::descriptors));
        all.extend(body.filter(|(_, way)| way.has_handle()).map(|(hold, _)| hold.memory.file.as_fd()));
        all.extend(back.iter().flat_map(Item::descriptors));
        Ok(all)
    }

    /// Puts pool and cache in order, just before the commit, which cannot fail any more: from then on the buffers can
    /// come back at any time, to the thread that receives.
    ///
    /// Returns true if it is time to look for buffers that have not been used for long.
    pub(crate) fn note_posted(&self, via: &End) -> bool {
        self.items.iter().for_each(|item| item.note_posted(via));
        self.body.iter().for_each(|(hold, way)| note_posted(hold, *way, via));
        via.buffers().count_post()
    }

    /// Bytes of the buffers on the list.
    pub(crate) fn buffer_bytes(&self) -> u64 {
        let buffers = self.items.iter().filter_map(Item::buffer).filter(|(_, way)| *way != Way::Copied);
        buffers.map(|(hold, _)| hold.len as u64).sum()
    }

    /// Detaches everything, after the commit.
    pub(crate) fn detach(self) {
        self.items.into_iter().for_each(Item::detach);
        self.body.into_iter().for_each(|(hold, way)| detach(hold, way));
    }

    /// Ends everything that a post takes and no peer receives.
    pub(crate) fn discard(self) {
        sharing(|| self.items.into_iter().for_each(Item::discard));
    }
}

impl Item<'_> {
    /// The place among the kinds of the table.
    fn rank(&self) -> u8 {
        match self {
            Self::Port { .. } => 0,
            Self::Buffer { .. } => 1,
            Self::Frozen(_) => 2,
            Self::Shared { .. } => 3,
            Self::Descriptor(_) => 4,
        }
    }

    /// True for what stands in front of the body in the table: ports and buffers.
    fn precedes_body(&self) -> bool {
        matches!(self, Self::Port { .. } | Self::Buffer { .. })
    }

    /// The buffer that is copied.
    fn copied(&self) -> Option<&Hold> {
        self.buffer().filter(|(_, way)| *way == Way::Copied).map(|(hold, _)| hold)
    }

    fn buffer(&self) -> Option<(&Hold, Way)> {
        match self {
            Self::Buffer { hold, way } => hold.as_ref().map(|hold| (hold, *way)),
            Self::Port { .. } | Self::Frozen(_) | Self::Shared { .. } | Self::Descriptor(_) => None,
        }
    }

    /// Hands the capsule to `put`.
    fn encode(&mut self, put: &mut impl FnMut(&[u8])) {
        match self {
            Self::Port { port, moving } => {
                // The next holder starts with an announced cursor. To the present holder that makes no difference.
                let Cursors { position, other: announced, .. } = port.receiving.consumer.cursors();
                if position != announced && port.receiving.consumer.announce() {
                    port.end.wake_peer_producer();
                }
                // The doorbells are awake: nothing waits on a port that is borrowed here. One that is still armed for
                // the `poll` of this holder would only cost a wake-up packet.
                write_port(put, port.end, &port.producer, &port.receiving.consumer, moving);
            }
            Self::Buffer { hold, way } => {
                if let Some(hold) = hold.as_ref() {
                    write_buffer(put, &hold.memory, hold.len, *way);
                }
            }
            Self::Frozen(buffer) => write_memory(put, buffer.len()),
            Self::Shared { len, .. } => write_memory(put, *len),
            Self::Descriptor(_) => {}
        }
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let port = match self {
            Self::Port { port, moving } => {
                Some(port_handles(port.end, &port.producer, &port.receiving.consumer, moving))
            }
            _ => None,
        };
        let other = match self {
            Self::Port { .. } => None,
            Self::Buffer { hold, way } if way.has_handle() => hold.as_ref().map(|hold| hold.memory.file.as_fd()),
            Self::Buffer { .. } => None,
            Self::Frozen(buffer) => Some(buffer.file()),
            Self::Shared { file, .. } => Some(*file),
            Self::Descriptor(descriptor) => Some(*descriptor),
        };
        port.into_iter().flatten().chain(other)
    }

    fn note_posted(&self, via: &End) {
        match self {
            Self::Buffer { hold, way } => hold.iter().for_each(|hold| note_posted(hold, *way, via)),
            // A port is detached after the commit. Of the others the sender keeps its handle.
            Self::Port { .. } | Self::Frozen(_) | Self::Shared { .. } | Self::Descriptor(_) => {}
        }
    }

    fn detach(self) {
        match self {
            Self::Port { port, .. } => port.end.detach(),
            Self::Buffer { mut hold, way } => hold.take().into_iter().for_each(|hold| detach(hold, way)),
            Self::Frozen(_) | Self::Shared { .. } | Self::Descriptor(_) => {}
        }
    }

    fn discard(self) {
        match self {
            Self::Port { mut port, .. } => {
                port.end.close();
                discard(port.end, &mut port.receiving.consumer);
            }
            Self::Buffer { mut hold, .. } => drop(hold.take()),
            Self::Frozen(_) | Self::Shared { .. } | Self::Descriptor(_) => {}
        }
    }
}

/// A list of one buffer that the peer keeps: what a [`Baggage`] of one would be, without a table, an
/// allocation or a lock.
pub(crate) struct LoneBuffer<'a> {
    hold: RefMut<'a, Option<Hold>>,
    way: Way,
}

impl<'a> LoneBuffer<'a> {
    /// `None` for a buffer that the peer does not keep, or that cannot be posted.
    #[inline]
    pub(crate) fn find(buffer: &'a TransferBuffer, via: &End) -> Option<Self> {
        let hold = buffer.hold().try_borrow_mut().ok()?;
        let Hold { memory, role, .. } = hold.as_ref().filter(|hold| hold.is_usable())?;
        let slot = via.buffers().slot_of(memory)?;
        let way = match role {
            Role::Owner => Way::Again(slot),
            Role::Guest => Way::Back(slot),
            Role::New | Role::Traveller => return None,
        };
        Some(Self { hold, way })
    }

    #[inline]
    pub(crate) fn encode(&self, data_len: usize) -> Option<[u8; 8]> {
        LoneCapsule::encode(self.hold.as_ref()?.len, self.way, data_len)
    }

    /// Bytes of the buffer.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.hold.as_ref().map_or(0, |hold| hold.len as u64)
    }

    /// As [`Baggage::note_posted`].
    #[inline]
    pub(crate) fn note_posted(&self, via: &End) -> bool {
        if let Some(hold) = self.hold.as_ref() {
            note_posted(hold, self.way, via);
        }
        via.buffers().count_post()
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
fn note_posted(Hold { memory, .. }: &Hold, way: Way, via: &End) {
    match way {
        Way::Once | Way::Copied => return,
        Way::First(slot) => {
            memory.clear_note();
            via.buffers().pool().insert(slot, Arc::clone(memory));
        }
        Way::Again(_) | Way::Back(_) => {}
    }
    memory.note_used();
    memory.set_location(Location::Away);
}

/// Gives up a hold on a buffer that has been posted.
fn detach(mut hold: Hold, way: Way) {
    hold.set_gone();
    match (hold.role, way) {
        (role, Way::Copied) => hold.memory.give_back(role),
        (Role::Owner, Way::Once) => hold.memory.set_location(Location::Left),
        (Role::Guest, Way::Once) => {
            hold.memory.set_location(Location::Away);
            hold.memory.note_gone();
        }
        _ => {}
    }
}

/// The index of the first thing that is on the list before.
fn find_duplicate(list: &[TransferRef<'_>]) -> Result<Option<usize>, TryReserveError> {
    if list.len() < 2 {
        return Ok(None);
    }
    let mut identities: Vec<(usize, usize)> = Vec::new();
    identities.try_reserve_exact(list.len())?;
    identities.extend(list.iter().enumerate().map(|(index, item)| (item.identity(), index)));
    identities.sort_unstable();
    Ok(identities.windows(2).filter(|two| two[0].0 == two[1].0).map(|two| two[1].1).min())
}
