//! The memory of a transfer buffer, and the holds that handles have on it.
#![forbid(unsafe_code)]

use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::file::BufferKind;
use super::frozen::FrozenBuffer;
use super::{FreezeErrorKind, file};
use crate::error::{BadSegment, Rejection, exhausted, not_mapped};
use crate::layout::{BufferConstants, HEADER_LEN};
use crate::sys::mapping::{Mapping, fetch_for_writing};
use crate::sys::passed::Passed;
use crate::sys::{Errno, PAGE, memfd};

/// How a handle came by its memory, which determines what happens to the memory when the handle is dropped or posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Created here, and not posted yet, or only as a copy.
    New,
    /// Taken from the pool of a port of this process, whose peer has it in its cache.
    Owner,
    /// Taken from the cache of a port of this process, whose peer has it in its pool.
    Guest,
    /// Received without a slot in a cache. Its former holder has given it up, and it is never recycled.
    Traveller,
}

/// A handle's hold on its memory. A memory has one hold. While a buffer is lent to a post it has several, which share
/// their fate and count as one.
pub(crate) struct Hold {
    pub(crate) memory: Arc<Memory>,
    /// Bytes of the buffer, at most the capacity of the memory.
    pub(crate) len: usize,
    pub(crate) role: Role,
    /// Posted: dropping this hold does nothing to the memory.
    gone: bool,
    /// `gone` of all holds that share their fate, once the buffer has been lent.
    shared: Option<Arc<AtomicBool>>,
}

impl Hold {
    /// The only hold on a memory that no handle has.
    #[inline]
    pub(crate) fn new(memory: Arc<Memory>, len: usize, role: Role) -> Self {
        debug_assert!(len <= memory.capacity);
        Self { memory, len, role, gone: false, shared: None }
    }

    /// Marks the hold, and those that share its fate, as transferred by a post.
    #[inline]
    pub(crate) fn set_gone(&mut self) {
        self.gone = true;
        if let Some(gone) = &self.shared {
            // Release: pairs with the acquire load in `is_gone`, in whichever thread the other holds are; it then comes
            // after all accesses before the post.
            gone.store(true, Ordering::Release);
        }
    }

    /// True once transferred.
    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        // Acquire: pairs with the release store in `set_gone`.
        self.gone || self.shared.as_ref().is_some_and(|gone| gone.load(Ordering::Acquire))
    }

    /// False once transferred, and in a child that inherited the buffer by `fork`.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_gone() && self.memory.is_here()
    }

    /// Another hold on the memory, which shares the fate of this one. Only the drop of the last of them counts as a
    /// drop.
    #[cfg(feature = "serde")]
    pub(super) fn share(&mut self) -> Self {
        let gone = Arc::clone(self.shared.get_or_insert_default());
        let Self { ref memory, len, role, gone: was_gone, .. } = *self;
        Self { memory: Arc::clone(memory), len, role, gone: was_gone, shared: Some(gone) }
    }

    /// The number of holds that share their fate, this one included.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.shared.as_ref().map_or(1, Arc::strong_count)
    }

    /// True if no other hold shares the fate of this one.
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
                None => return, // another hold is left
            }
        }
        if !self.is_usable() {
            return;
        }
        self.memory.give_back(self.role);
    }
}

/// The memory of a transfer buffer. A pool or a cache may keep it while no handle has it.
pub(crate) struct Memory {
    pub(crate) file: OwnedFd,
    pub(super) mapping: Mapping,
    /// Bytes behind the header.
    pub(crate) capacity: usize,
    /// A [`Location`]: where this side has recorded that a recycled buffer is.
    location: AtomicU8,
    /// The number of the [`Buffers`](super::pool::Buffers) that keep this memory, and in the lowest eight bits its slot
    /// there; 0 if none do. So a post finds the slot without taking a lock.
    kept: AtomicU64,
    /// Posted since its pool last searched for idle buffers.
    used: AtomicBool,
}

/// Where a recycled buffer is, as this side has recorded it. The peer cannot change the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Location {
    /// A handle of this process has it.
    Held,
    /// The pool has it, free to be taken.
    Idle,
    /// The peer has it: it was posted or given back to the peer.
    Away,
    /// It was posted on another port: its pool gives it up at the next look.
    Left,
}

/// Value 0 of the note in a buffer's header: the receiver still has the buffer.
const NOTE_BUSY: u32 = 0;
/// Value 1 of the note in a buffer's header: the receiver has dropped the buffer, so the owner may take it again.
const NOTE_FREE: u32 = 1;
/// Value 2 of the note in a buffer's header: the receiver has posted the buffer on, so the owner gives it up.
const NOTE_GONE: u32 = 2;

/// The note that a receiver leaves in a buffer for its owner. It is a hint, which the owner reads only while the buffer
/// is [`Away`](Location::Away): a peer that lies spoils only its own data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    Busy,
    Free,
    Gone,
}

impl Memory {
    /// New memory of `capacity` bytes, all zero.
    pub(crate) fn create(capacity: usize) -> Result<Self, Errno> {
        let file = file::create(BufferKind::Transfer, capacity)?;
        Self::map(file, capacity).map_err(|(errno, _)| errno)
    }

    /// New memory for a buffer of `bytes`, rounded up to whole pages.
    pub(crate) fn copy(bytes: &[u8]) -> Result<Self, Errno> {
        let memory = Self::create(bytes.len().next_multiple_of(PAGE))?;
        memory.write(0, bytes);
        Ok(memory)
    }

    /// Adopts received memory of `capacity` bytes.
    pub(crate) fn adopt(passed: &mut Passed, capacity: u64) -> Result<Self, Rejection<BadSegment>> {
        let (file, mapped_len) = passed.check(|file| file::adopt(file, BufferKind::Transfer, capacity))?;
        Self::map(file, mapped_len - HEADER_LEN).map_err(|(errno, _)| not_mapped(errno))
    }

    /// Maps the file of a buffer with `capacity` bytes. An error returns the file.
    fn map(file: OwnedFd, capacity: usize) -> Result<Self, (Errno, OwnedFd)> {
        match Mapping::new(file.as_fd(), HEADER_LEN + capacity) {
            Ok(mapping) => {
                mapping.advise_huge();
                Ok(Self::new(file, mapping, capacity))
            }
            Err(errno) => Err((errno, file)),
        }
    }

    fn new(file: OwnedFd, mapping: Mapping, capacity: usize) -> Self {
        Self {
            file,
            mapping,
            capacity,
            location: AtomicU8::new(Location::Held as u8),
            kept: AtomicU64::new(0),
            used: AtomicBool::new(false),
        }
    }

    /// Sets the last seal of the file, before its descriptor is sent for the first time: a receiver refuses a file
    /// without it, and once a peer has the file it can hold the lock that sealing takes.
    pub(crate) fn seal(&self) -> Result<(), Errno> {
        memfd::seal(self.file.as_fd())
    }

    /// Freezes the memory, of which the first `len` bytes are the buffer; or a copy of it, if it has its last seal. An
    /// error returns the memory, or `None` if it could not be mapped again.
    pub(super) fn freeze(self, len: usize) -> Result<FrozenBuffer, (FreezeErrorKind, Option<Self>)> {
        if !self.is_here() {
            return Err((FreezeErrorKind::Forked, Some(self)));
        }
        let kind = |errno| match errno {
            Errno::EBUSY => FreezeErrorKind::InUse,
            errno => FreezeErrorKind::ResourceExhausted(exhausted(errno)),
        };
        match memfd::is_sealed(self.file.as_fd()) {
            Ok(false) => {}
            Ok(true) => return self.frozen_copy(len).map_err(|kind| (kind, Some(self))),
            Err(errno) => return Err((kind(errno), Some(self))),
        }
        let Self { file, mapping, capacity, .. } = self;
        mapping.write(0, bytemuck::bytes_of(&BufferKind::Frozen.header(len)));
        let mut mapping = Some(mapping);
        let (errno, file) = match FrozenBuffer::freeze(file, len, capacity, || drop(mapping.take())) {
            Ok(frozen) => return Ok(frozen),
            Err(failed) => failed,
        };
        let memory = match mapping {
            Some(mapping) => Ok(Self::new(file, mapping, capacity)),
            None => Self::map(file, capacity),
        };
        if let Ok(memory) = &memory {
            memory.mapping.write(0, bytemuck::bytes_of(&BufferKind::Transfer.header(capacity)));
        }
        Err((kind(errno), memory.ok()))
    }

    /// A frozen buffer with a copy of the first `len` bytes.
    fn frozen_copy(&self, len: usize) -> Result<FrozenBuffer, FreezeErrorKind> {
        let read = |start, part: &mut [u8]| {
            self.mapping.read(HEADER_LEN + start, part);
            Ok(())
        };
        FrozenBuffer::copy(len, read, |errno| FreezeErrorKind::ResourceExhausted(exhausted(errno)))
    }

    /// False in a child that inherited the buffer by `fork`.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.mapping.home().is_here()
    }

    /// Where the buffer is.
    #[inline]
    pub(crate) fn location(&self) -> Location {
        // Acquire: pairs with the release store in `set_location`, so that all accesses to the bytes before the move
        // are over.
        match self.location.load(Ordering::Acquire) {
            0 => Location::Held,
            1 => Location::Idle,
            2 => Location::Away,
            _ => Location::Left,
        }
    }

    /// Records that the buffer has moved.
    #[inline]
    pub(crate) fn set_location(&self, location: Location) {
        // Release: pairs with the acquire load in `location`.
        self.location.store(location as u8, Ordering::Release);
    }

    /// Records the [`Buffers`](super::pool::Buffers) that keep this memory, by number, and its slot there; `None` if
    /// none do.
    pub(super) fn set_kept(&self, kept: Option<(u64, usize)>) {
        let kept = kept.map_or(0, |(keeper, slot)| keeper << 8 | slot as u64);
        // Relaxed: pairs with the load in `slot_at`; keeper and slot are one word, and no other data depends on it.
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Its slot, if the [`Buffers`](super::pool::Buffers) with this number keep it.
    #[inline]
    pub(super) fn slot_at(&self, keeper: u64) -> Option<usize> {
        let kept = self.kept.load(Ordering::Relaxed); // relaxed: pairs with the store in `set_kept`
        (kept >> 8 == keeper).then_some(kept as usize & 0xff)
    }

    /// Records that the buffer is about to be posted.
    #[inline]
    pub(crate) fn note_used(&self) {
        // Relaxed: pairs with the swap in `was_used`; it is a hint, and no other data depends on it.
        self.used.store(true, Ordering::Relaxed);
    }

    /// True if the buffer has been posted since the last call.
    pub(crate) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed) // relaxed: pairs with the store in `note_used`
    }

    /// Copies the first `len` bytes out, to the end of `into`.
    pub(crate) fn read_to_vec(&self, len: usize, into: &mut Vec<u8>) {
        self.mapping.read_to_vec(HEADER_LEN, len.min(self.capacity), into);
    }

    /// Copies `from` in, at `offset`. Panics if it does not fit the capacity.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        self.mapping.write(HEADER_LEN + offset, from);
    }

    /// The address of the first `len` bytes, which the capacity must have.
    pub(crate) fn pointer(&self, len: usize) -> NonNull<u8> {
        self.mapping.at(HEADER_LEN, len)
    }

    /// Clears the note, before the owner posts the buffer for the first time.
    pub(crate) fn clear_note(&self) {
        self.write_note(NOTE_BUSY);
    }

    /// Prefetches the line of the note, when a receiver has taken the buffer. If the line has arrived by the time of
    /// the drop, the answer to the message does not wait for it, which saves a tenth of a round trip. A store to the
    /// line here would be worse than nothing: the next locked instruction waits for a store, and not for a prefetch.
    #[inline]
    pub(super) fn fetch_note(&self) {
        fetch_for_writing(self.note_word());
    }

    /// Gives a recycled buffer up, as the drop of its hold does.
    #[inline]
    pub(crate) fn give_back(&self, role: Role) {
        match role {
            Role::New | Role::Traveller => {}
            Role::Owner => self.set_location(Location::Idle),
            Role::Guest => {
                // The note comes last: once the owner has read it, it may post the buffer again.
                self.set_location(Location::Away);
                self.write_note(NOTE_FREE);
            }
        }
    }

    /// Notes that the receiver has posted the buffer on.
    pub(crate) fn note_gone(&self) {
        self.write_note(NOTE_GONE);
    }

    #[inline]
    fn write_note(&self, note: u32) {
        // Release: pairs with the acquire swap in `take_note`, so that all accesses of this side to the bytes are over.
        self.note_word().store(note, Ordering::Release);
    }

    /// Reads the receiver's note and clears it for the next post. One swap does both, so that the line of the note is
    /// transferred once, and not first to be read and then to be written.
    pub(super) fn take_note(&self) -> Note {
        // Acquire: pairs with the release store in `write_note`. The cleared note needs no release: the commit of the
        // next post publishes it.
        match self.note_word().swap(NOTE_BUSY, Ordering::Acquire) {
            NOTE_FREE => Note::Free,
            NOTE_GONE => Note::Gone,
            _ => Note::Busy,
        }
    }

    #[inline]
    fn note_word(&self) -> &AtomicU32 {
        self.mapping.word(offset_of!(BufferConstants, note))
    }
}
