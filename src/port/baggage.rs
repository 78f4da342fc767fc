//! A transfer list on its way out: checked, encoded, and handed over.
#![forbid(unsafe_code)]

use std::cell::RefMut;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::PortGuard;
use super::transfer::{TransferRef, count};
use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::memory::{Hold, Place, Role};
use crate::buffer::pool::{Moving, Planned};
use crate::capsule::buffer::{KnownCapsule, Way};
use crate::capsule::discard::discard;
use crate::capsule::{self, Counts};
use crate::end::{End, State};
use crate::error::PostErrorKind;
use crate::queue::ring::Cursors;

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
            baggage.add(index, *thing, carrier.map(|end| &**end))?;
        }
        Ok(baggage)
    }

    fn add(&mut self, index: usize, thing: TransferRef<'a>, carrier: Option<&End>) -> Result<(), PostErrorKind> {
        let unusable = PostErrorKind::Unusable { index };
        match thing {
            TransferRef::Port(port) => {
                let usable = port.end().home().is_here()
                    && matches!(port.end().state(), State::Open | State::PeerClosed | State::PeerDied);
                let guard = port.guard().filter(|_| usable).ok_or(unusable)?;
                let moving = guard.end.buffers().moving();
                self.counts.slots += moving.len();
                self.handles +=
                    capsule::port::port_handles(guard.end, &guard.producer, &guard.receiving.consumer, &moving).count();
                self.ports.push((guard, moving));
                return Ok(());
            }
            TransferRef::Buffer(buffer) => {
                let hold = buffer.hold().try_borrow_mut().map_err(|_| PostErrorKind::Unusable { index })?;
                let found = hold.as_ref().filter(|hold| hold.is_usable()).ok_or(unusable)?;
                let way = self.way(found, carrier).ok_or(PostErrorKind::PooledElsewhere { index })?;
                self.handles += usize::from(way.has_handle());
                self.buffers.push((hold, way));
                return Ok(());
            }
            TransferRef::Frozen(buffer) => self.frozen.push(buffer),
            TransferRef::Shared(buffer) => self.shared.push((buffer.file().ok_or(unusable)?, buffer.len())),
            TransferRef::Descriptor(descriptor) => self.descriptors.push(descriptor),
        }
        self.handles += 1;
        Ok(())
    }

    /// How a buffer will travel over `carrier`. `None`: it is in the pool of another port, whose peer lives.
    fn way(&mut self, hold: &Hold, carrier: Option<&End>) -> Option<Way> {
        let Hold { memory, role, .. } = hold;
        let buffers = carrier.map(End::buffers);
        match role {
            Role::New => {
                let slot = buffers.and_then(|buffers| buffers.pool().slot_for(memory.capacity, &self.planned));
                self.planned.extend(slot.map(|slot| Planned { slot, bytes: memory.capacity as u64 }));
                Some(slot.map_or(Way::Alone, Way::New))
            }
            Role::Owner => match buffers.and_then(|buffers| buffers.slot_of(memory)) {
                Some(slot) => Some(Way::Known(slot)),
                None if memory.is_orphan() => Some(Way::Alone),
                None => None,
            },
            Role::Guest => {
                let slot = buffers.and_then(|buffers| buffers.slot_of(memory));
                Some(slot.map_or(Way::Alone, Way::Back))
            }
            Role::Traveller => Some(Way::Alone),
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
            capsule::port::write_port(&mut put, port.end, &port.producer, &port.receiving.consumer, moving);
        }
        self.holds().for_each(|(hold, way)| capsule::buffer::write_buffer(&mut put, &hold.memory, hold.len, way));
        self.frozen.iter().for_each(|buffer| capsule::buffer::write_memory(&mut put, buffer.len()));
        self.shared.iter().for_each(|(_, len)| capsule::buffer::write_memory(&mut put, *len));
        capsule::write_end(&mut put, data_len, self.counts);
    }

    /// The descriptors that go with the table.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ports = self.ports.iter().flat_map(|(port, moving)| {
            capsule::port::port_handles(port.end, &port.producer, &port.receiving.consumer, moving)
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
