//! The memory of a buffer that moves, and the holds that handles have on it.
#![forbid(unsafe_code)]

use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::file::Kind;
use super::frozen::FrozenBuffer;
use super::{FreezeErrorKind, file};
use crate::error::{BadSegment, Rejection, exhausted, not_mapped};
use crate::layout::{BufferConstants, HEADER_LEN};
use crate::sys::mapping::{Mapping, fetch_for_writing};
use crate::sys::{Errno, memfd};

/// How a handle came by its memory, which says what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Made here, and posted nowhere yet.
    New,
    /// From the pool of a port of ours, whose peer knows it.
    Owner,
    /// From the cache of a port of ours, whose peer owns it.
    Guest,
    /// Received without a place in a cache: whoever had it before has given it up, and it is never recycled.
    Traveller,
}

/// A handle's hold on its memory. A memory has one, or while it is lent to a post a few that are one.
pub(crate) struct Hold {
    pub(crate) memory: Arc<Memory>,
    /// Bytes of the buffer, which a recycled one may have more of.
    pub(crate) len: usize,
    pub(crate) role: Role,
    /// Posted: what becomes of the memory is no longer this handle's affair.
    gone: bool,
    /// Since it was first lent: the same for all that share it.
    shared: Option<Arc<AtomicBool>>,
}

impl Hold {
    #[inline]
    pub(crate) fn new(memory: Arc<Memory>, len: usize, role: Role) -> Self {
        debug_assert!(len <= memory.capacity);
        Self { memory, len, role, gone: false, shared: None }
    }

    /// A post has transferred it.
    #[inline]
    pub(crate) fn set_gone(&mut self) {
        self.gone = true;
        if let Some(gone) = &self.shared {
            // Release, with the acquire in `is_gone`: the buffer may have gone to another thread.
            gone.store(true, Ordering::Release);
        }
    }

    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.gone || self.shared.as_ref().is_some_and(|gone| gone.load(Ordering::Acquire))
    }

    /// False once transferred, and in a child that inherited the buffer by `fork`.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_gone() && self.memory.is_here()
    }

    /// Another hold on the same memory, which is given up when the last of them is dropped.
    #[cfg(feature = "serde")]
    pub(super) fn share(&mut self) -> Self {
        let gone = Arc::clone(self.shared.get_or_insert_default());
        let Self { ref memory, len, role, gone: was_gone, .. } = *self;
        Self { memory: Arc::clone(memory), len, role, gone: was_gone, shared: Some(gone) }
    }

    /// How many there are.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.shared.as_ref().map_or(1, Arc::strong_count)
    }

    #[inline]
    pub(super) fn is_sole(&self) -> bool {
        self.count() == 1
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            match Arc::into_inner(shared) {
                Some(gone) => self.gone |= gone.into_inner(),
                None => return, // not the last
            }
        }
        if !self.is_usable() {
            return;
        }
        match self.role {
            Role::New | Role::Traveller => {}
            Role::Owner => self.memory.set_place(Place::Idle),
            Role::Guest => {
                // First for us: when the owner sees the note it may post the buffer again.
                self.memory.set_place(Place::Away);
                self.memory.leave_note(FREE);
            }
        }
    }
}

/// The memory of a buffer. A pool or a cache may keep it while no handle has it.
pub(crate) struct Memory {
    pub(crate) file: OwnedFd,
    pub(super) mapping: Mapping,
    /// Bytes behind the header.
    pub(crate) capacity: usize,
    /// `Place`: where a buffer of a pool or a cache is, as this side knows it.
    place: AtomicU8,
    /// The number of the end whose pool or cache keeps it, and in the lowest eight bits its slot there; 0 if none does. So
    /// a post finds the slot without their locks.
    kept: AtomicU64,
    /// Posted since its pool last looked for idle ones.
    used: AtomicBool,
    /// Its pool is gone, or its pool's peer.
    orphan: AtomicBool,
}

/// Where a recycled buffer is. This side's own knowledge: the peer cannot change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Place {
    /// A handle of this process has it.
    Held,
    /// In the pool, for the next who asks.
    Idle,
    /// With the peer: posted to it, or given back.
    Away,
}

/// The note in a buffer's header, by which a receiver tells the owner what became of it: nothing yet,
const BUSY: u32 = 0;
/// dropped, or
const FREE: u32 = 1;
/// posted on to somebody else. It is a hint, read only while the buffer is `Away`: a peer that lies gets its own data
/// spoilt.
const GONE: u32 = 2;

/// What a note says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    Busy,
    Free,
    Gone,
}

impl Memory {
    pub(crate) fn create(capacity: usize) -> Result<Self, Errno> {
        let file = file::create(Kind::Transfer, capacity)?;
        Self::map(file, capacity).map_err(|(errno, _)| errno)
    }

    /// Takes over memory of `capacity` bytes that came from elsewhere.
    pub(crate) fn adopt(file: OwnedFd, capacity: u64) -> Result<Self, Rejection<BadSegment>> {
        let mapped_len = file::adopt(file.as_fd(), Kind::Transfer, capacity)?;
        Self::map(file, mapped_len - HEADER_LEN).map_err(|(errno, _)| not_mapped(errno))
    }

    fn map(file: OwnedFd, capacity: usize) -> Result<Self, (Errno, OwnedFd)> {
        match Mapping::new(file.as_fd(), HEADER_LEN + capacity) {
            Ok(mapping) => {
                mapping.advise_huge();
                Ok(Self::of(file, mapping, capacity))
            }
            Err(errno) => Err((errno, file)),
        }
    }

    fn of(file: OwnedFd, mapping: Mapping, capacity: usize) -> Self {
        Self {
            file,
            mapping,
            capacity,
            place: AtomicU8::new(Place::Held as u8),
            kept: AtomicU64::new(0),
            used: AtomicBool::new(false),
            orphan: AtomicBool::new(false),
        }
    }

    /// Freezes the memory with its first `len` bytes, or gives it back; `None` if it could not even be mapped again as it
    /// was.
    pub(super) fn freeze(self, len: usize) -> Result<FrozenBuffer, (FreezeErrorKind, Option<Self>)> {
        if !self.is_here() {
            return Err((FreezeErrorKind::Forked, Some(self)));
        }
        let kind = |errno| match errno {
            Errno::EPERM => FreezeErrorKind::Received,
            Errno::EBUSY => FreezeErrorKind::InUse,
            errno => FreezeErrorKind::ResourceExhausted(exhausted(errno)),
        };
        match memfd::is_sealed(self.file.as_fd()) {
            Ok(false) => {}
            Ok(true) => return Err((FreezeErrorKind::Received, Some(self))),
            Err(errno) => return Err((kind(errno), Some(self))),
        }
        let Self { file, mapping, capacity, .. } = self;
        mapping.write(0, bytemuck::bytes_of(&Kind::Frozen.header(len)));
        let mut mapping = Some(mapping);
        let (errno, file) = match FrozenBuffer::freeze(file, len, capacity, || drop(mapping.take())) {
            Ok(frozen) => return Ok(frozen),
            Err(failed) => failed,
        };
        let memory = match mapping {
            Some(mapping) => Ok(Self::of(file, mapping, capacity)),
            None => Self::map(file, capacity),
        };
        if let Ok(memory) = &memory {
            memory.mapping.write(0, bytemuck::bytes_of(&Kind::Transfer.header(capacity)));
        }
        Err((kind(errno), memory.ok()))
    }

    /// False in a child that inherited the buffer by `fork`.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.mapping.home().is_here()
    }

    #[inline]
    pub(crate) fn place(&self) -> Place {
        // Acquire, with the release in `set_place`: whoever changed it has left the bytes.
        match self.place.load(Ordering::Acquire) {
            0 => Place::Held,
            1 => Place::Idle,
            _ => Place::Away,
        }
    }

    #[inline]
    pub(crate) fn set_place(&self, place: Place) {
        self.place.store(place as u8, Ordering::Release);
    }

    /// Put into a slot of the pool or the cache of the end with this number, or taken out of it.
    pub(crate) fn set_kept(&self, kept: Option<(u64, usize)>) {
        let kept = kept.map_or(0, |(keeper, slot)| keeper << 8 | slot as u64);
        self.kept.store(kept, Ordering::Relaxed); // a number, no data
    }

    /// Its slot, if the end with this number keeps it.
    #[inline]
    pub(crate) fn slot_at(&self, keeper: u64) -> Option<usize> {
        let kept = self.kept.load(Ordering::Relaxed);
        (kept >> 8 == keeper).then_some(kept as usize & 0xff)
    }

    /// It is about to be posted.
    #[inline]
    pub(crate) fn note_used(&self) {
        self.used.store(true, Ordering::Relaxed); // a hint, no data
    }

    /// Whether it has been posted since this was last asked.
    pub(crate) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Its pool is gone, or its pool's peer: nobody else has it now who keeps to the rules.
    pub(crate) fn set_orphan(&self) {
        self.orphan.store(true, Ordering::Relaxed); // a permission, no data
    }

    pub(crate) fn is_orphan(&self) -> bool {
        self.orphan.load(Ordering::Relaxed)
    }

    /// Copies the first `len` bytes out, to the end of `into`.
    pub(crate) fn read_to_vec(&self, len: usize, into: &mut Vec<u8>) {
        self.mapping.read_to_vec(HEADER_LEN, len.min(self.capacity), into);
    }

    /// Copies bytes in, from `offset` on.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        self.mapping.write(HEADER_LEN + offset, from);
    }

    /// The address of the first `len` bytes.
    pub(crate) fn pointer(&self, len: usize) -> NonNull<u8> {
        self.mapping.at(HEADER_LEN, len)
    }

    /// Before the owner posts it for the first time.
    pub(crate) fn clear_note(&self) {
        self.leave_note(BUSY);
    }

    /// When a receiver has got it. If the line of the note is here by the time of the drop, the answer to the message need
    /// not wait for it: a tenth of a round trip. To write to it now would be worse than nothing, since the next locked
    /// instruction waits for a write, and not for this.
    #[inline]
    pub(crate) fn fetch_note(&self) {
        fetch_for_writing(self.note_word());
    }

    /// A receiver has posted it on.
    pub(crate) fn note_gone(&self) {
        self.leave_note(GONE);
    }

    #[inline]
    fn leave_note(&self, note: u32) {
        // Release, with the acquire in `take_note`: what this side did to the bytes is over.
        self.note_word().store(note, Ordering::Release);
    }

    /// What the receiver has left. It is read once and then cleared for the next post, by one swap: so its line comes over
    /// once, and not to be read and again to be written.
    pub(crate) fn take_note(&self) -> Note {
        match self.note_word().swap(BUSY, Ordering::Acquire) {
            FREE => Note::Free,
            GONE => Note::Gone,
            _ => Note::Busy,
        }
    }

    #[inline]
    fn note_word(&self) -> &AtomicU32 {
        self.mapping.word(offset_of!(BufferConstants, note))
    }
}
