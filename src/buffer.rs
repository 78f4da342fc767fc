//! `TransferBuffer`: a block of memory that moves between processes by handle and is never copied.

use std::cell::RefCell;
use std::fmt;
use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use bytemuck::Pod;

use crate::buffer_file::{self, Kind, place};
use crate::cursor::{Buffer, BufferCursor, whole};
use crate::error::{BufferError, FreezeError, FreezeErrorKind, exhausted};
use crate::frozen::FrozenBuffer;
use crate::layout::{BufferConstants, HEADER_LEN};
use crate::segment::{NotAdopted, not_mapped};
use crate::sys::mapping::{Mapping, fetch_for_writing};
use crate::sys::{Errno, memfd};

/// A block of memory that can be posted: the native `ArrayBuffer` of a transfer list.
///
/// Posting it hands the memory itself to the receiver, whatever its size: no byte is copied, and the receiver maps the
/// same physical pages. The sender's handle is *detached* by that: its length reads 0 and every access fails. (With
/// [`post_message`](crate::MessagePort::post_message) the handle is gone altogether.) A received buffer can be posted
/// on, over any port, any number of times. Dropping the last handle frees the memory.
///
/// It is transferred whole. A part of it cannot leave on its own: the kernel hands over and seals files, not parts of
/// them, so both sides would go on holding all of it. Where several receivers each need a part, give each a buffer of
/// its own; or [`freeze`](Self::freeze) it, post it to all of them, and say in the messages which part is whose.
///
/// A new buffer is filled with zeroes. All of its memory is allocated by [`new`](Self::new), so that a shortage is an
/// error there and never a signal later.
///
/// The protocol gives a buffer one holder at a time, but a process that once held it and kept its descriptor against
/// the rules can still see and alter the pages. So the safe ways to its bytes are copies: [`read_at`](Self::read_at),
/// [`write_at`](Self::write_at) and what is built on them, for plain data and as a stream. The slices are `unsafe`,
/// or safe in a [frozen](Self::freeze) buffer.
///
/// ```
/// # use messageport::{MessageChannel, TransferBuffer};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = MessageChannel::new()?;
/// let buffer = TransferBuffer::new(1 << 20)?;
/// buffer.write_at(0, b"a megabyte of pixels")?;
/// channel.port1.post_message(b"frame 1", [buffer.into()])?;
///
/// let message = channel.port2.recv()?;
/// let mut start = [0; 9];
/// message.buffers[0].read_at(2, &mut start)?;
/// assert_eq!(&start, b"megabyte ");
/// # Ok(()) }
/// ```
pub struct TransferBuffer {
    /// `None` once detached.
    hold: RefCell<Option<Hold>>,
}

impl TransferBuffer {
    /// A new buffer of `len` bytes, all zero; 0 is allowed. [`MessagePort::buffer`](crate::MessagePort::buffer) may have
    /// one that costs less.
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`]: no memory, no descriptor, or `len` is over 1 TiB or the file size limit.
    pub fn new(len: usize) -> Result<Self, BufferError> {
        let memory = Memory::create(len).map_err(|errno| BufferError::ResourceExhausted(exhausted(errno)))?;
        Ok(Self::from_hold(Hold::new(Arc::new(memory), len, Role::New)))
    }

    #[inline]
    pub(crate) fn from_hold(hold: Hold) -> Self {
        Self { hold: RefCell::new(Some(hold)) }
    }

    /// Copies all bytes out, to the end of `into`.
    pub(crate) fn append_to(&self, into: &mut Vec<u8>) {
        if let Some(hold) = self.hold.borrow().as_ref().filter(|hold| hold.is_usable()) {
            hold.memory.read_to_vec(hold.len, into);
        }
    }

    /// The hold, if this is the only handle and it can be used.
    pub(crate) fn into_hold(self, len: usize) -> Option<Hold> {
        let mut hold = self.hold.take().filter(|hold| hold.is_usable() && hold.is_sole())?;
        hold.len = len.min(hold.len);
        Some(hold)
    }

    /// Lends the buffer to a post: a second handle, to be transferred or dropped, and another hold on its memory, to be
    /// marked as gone in the first case. `None` if the buffer cannot be transferred.
    #[cfg(feature = "serde")]
    pub(crate) fn lend(&self) -> Option<(Self, Hold)> {
        let mut hold = self.hold.try_borrow_mut().ok()?;
        let hold = hold.as_mut().filter(|hold| hold.is_usable())?;
        Some((Self::from_hold(hold.share()), hold.share()))
    }

    /// Bytes in the buffer; 0 for one that was transferred away, as with `ArrayBuffer.byteLength`.
    pub fn len(&self) -> usize {
        self.hold.borrow().as_ref().filter(|hold| !hold.is_gone()).map_or(0, |hold| hold.len)
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`], [`Detached`](BufferError::Detached), [`Forked`](BufferError::Forked); nothing was
    /// copied.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        self.with(offset, into.len(), |memory, place| memory.mapping.read(place, into))
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        self.with(offset, from.len(), |memory, place| memory.mapping.write(place, from))
    }

    /// Copies all bytes out; `into` is as long as the buffer.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at); another length is [`BufferError::OutOfRange`].
    pub fn copy_to_slice(&self, into: &mut [u8]) -> Result<(), BufferError> {
        whole(into.len(), self.len())?;
        self.read_at(0, into)
    }

    /// Copies all bytes in; `from` is as long as the buffer.
    ///
    /// # Errors
    /// As for [`copy_to_slice`](Self::copy_to_slice).
    pub fn copy_from_slice(&self, from: &[u8]) -> Result<(), BufferError> {
        whole(from.len(), self.len())?;
        self.write_at(0, from)
    }

    /// A copy of all bytes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn to_vec(&self) -> Result<Vec<u8>, BufferError> {
        let mut bytes = vec![0; self.len()];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// A value of plain data, copied out from `offset` on, which needs no alignment.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn read_value<T: Pod>(&self, offset: usize) -> Result<T, BufferError> {
        let mut value = T::zeroed();
        self.read_at(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Copies a value of plain data in, from `offset` on, which needs no alignment.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn write_value<T: Pod>(&self, offset: usize, value: &T) -> Result<(), BufferError> {
        self.write_at(offset, bytemuck::bytes_of(value))
    }

    /// Copies values of plain data out, as many as `into` has, from `offset` on, which counts bytes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn read_values<T: Pod>(&self, offset: usize, into: &mut [T]) -> Result<(), BufferError> {
        self.read_at(offset, bytemuck::cast_slice_mut(into))
    }

    /// Copies values of plain data in, from `offset` on, which counts bytes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn write_values<T: Pod>(&self, offset: usize, from: &[T]) -> Result<(), BufferError> {
        self.write_at(offset, bytemuck::cast_slice(from))
    }

    /// The buffer as a stream of bytes, from its beginning.
    pub fn cursor(&self) -> BufferCursor<'_> {
        BufferCursor::new(Buffer::Transfer(self))
    }

    /// Makes the buffer one that nobody can write any more, whose bytes are a plain slice; none is copied.
    ///
    /// # Errors
    /// [`FreezeErrorKind::Received`]: it came over a port, and whoever had it before may have kept a way to its
    /// memory. The buffer is in the error, as it was.
    pub fn freeze(self) -> Result<FrozenBuffer, FreezeError> {
        let fail = |kind, buffer| Err(FreezeError { kind, buffer });
        let Some(hold) = self.hold.take() else { return fail(FreezeErrorKind::Detached, self) };
        if hold.role != Role::New {
            return fail(FreezeErrorKind::Received, Self { hold: RefCell::new(Some(hold)) });
        }
        if !hold.is_sole() {
            return fail(FreezeErrorKind::InUse, Self { hold: RefCell::new(Some(hold)) });
        }
        let (memory, len) = (Arc::clone(&hold.memory), hold.len);
        drop(hold);
        let back = |memory| Self::from_hold(Hold::new(Arc::new(memory), len, Role::New));
        match Arc::try_unwrap(memory).map(|memory| memory.freeze(len)) {
            Ok(Ok(frozen)) => Ok(frozen),
            Ok(Err((kind, memory))) => fail(kind, memory.map_or(Self { hold: RefCell::new(None) }, back)),
            Err(memory) => fail(FreezeErrorKind::InUse, Self::from_hold(Hold::new(memory, len, Role::New))),
        }
    }

    /// The bytes in place. Empty if the buffer is detached or inherited by `fork`.
    ///
    /// # Safety
    /// While the slice lives, no other process writes to the buffer's memory (every one that held it before gave it
    /// up when it posted it, as the protocol demands), and nothing in this process transfers or writes it.
    #[allow(unsafe_code)]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: a shared borrow is never turned into `None` while the slice lives: the caller does not transfer.
        let hold = unsafe { self.hold.try_borrow_unguarded() };
        match hold {
            // SAFETY: nobody writes, says the caller.
            Ok(Some(hold)) if hold.is_usable() => unsafe { hold.memory.mapping.slice(HEADER_LEN, hold.len) },
            _ => &[],
        }
    }

    /// The bytes in place, writable. Empty if the buffer is detached or inherited by `fork`.
    ///
    /// # Safety
    /// While the slice lives, no other process reads or writes the buffer's memory; see [`as_slice`](Self::as_slice).
    #[allow(unsafe_code)]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        match self.hold.get_mut() {
            // A buffer that is lent is nobody's to write.
            Some(hold) if hold.is_usable() && hold.is_sole() => {
                // SAFETY: nobody else reads or writes, says the caller.
                unsafe { hold.memory.mapping.slice_mut(HEADER_LEN, hold.len) }
            }
            _ => &mut [],
        }
    }

    /// The hold on the memory, for the one operation that posts it.
    #[inline]
    pub(crate) fn hold(&self) -> &RefCell<Option<Hold>> {
        &self.hold
    }

    /// The address of the bytes. `None` if the buffer is detached or inherited by `fork`.
    pub(crate) fn pointer(&self) -> Option<NonNull<u8>> {
        let hold = self.hold.borrow();
        let hold = hold.as_ref().filter(|hold| hold.is_usable())?;
        Some(hold.memory.mapping.at(HEADER_LEN, hold.len))
    }

    fn with(&self, offset: usize, len: usize, access: impl FnOnce(&Memory, usize)) -> Result<(), BufferError> {
        let hold = self.hold.borrow();
        let hold = hold.as_ref().filter(|hold| !hold.is_gone()).ok_or(BufferError::Detached)?;
        if !hold.memory.is_here() {
            return Err(BufferError::Forked);
        }
        access(&hold.memory, place(offset, len, hold.len)?);
        Ok(())
    }
}

impl fmt::Debug for TransferBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

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
    fn is_gone(&self) -> bool {
        self.gone || self.shared.as_ref().is_some_and(|gone| gone.load(Ordering::Acquire))
    }

    /// False once transferred, and in a child that inherited the buffer by `fork`.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_gone() && self.memory.is_here()
    }

    /// Another hold on the same memory, which is given up when the last of them is dropped.
    #[cfg(feature = "serde")]
    fn share(&mut self) -> Self {
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
    fn is_sole(&self) -> bool {
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
    mapping: Mapping,
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
        let file = buffer_file::create(Kind::Transfer, capacity)?;
        Self::map(file, capacity).map_err(|(errno, _)| errno)
    }

    /// Takes over memory of `capacity` bytes that came from elsewhere.
    pub(crate) fn adopt(file: OwnedFd, capacity: u64) -> Result<Self, NotAdopted> {
        let mapped_len = buffer_file::adopt(file.as_fd(), Kind::Transfer, capacity)?;
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
    fn freeze(self, len: usize) -> Result<FrozenBuffer, (FreezeErrorKind, Option<Self>)> {
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

    /// Copies bytes in, from the beginning on.
    pub(crate) fn write(&self, from: &[u8]) {
        self.mapping.write(HEADER_LEN, from);
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
