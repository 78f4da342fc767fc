//! Recycled buffers: the pool of the end that posts them, and the cache of the end that receives them.
//!
//! The first post of a buffer passes its descriptor and assigns it a slot of the direction. From then on both ends keep
//! descriptor and mapping, and a post passes only the number of the slot. When the receiver drops the buffer it leaves
//! a note in the buffer's header, which the owner reads when it needs a buffer; a buffer that the receiver posts back
//! is named by its slot too. Only the owner assigns a slot to another buffer, or makes the peer forget one. Each end
//! relies on its own record of where a buffer is ([`Location`]), so a peer that lies spoils only its own data.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::memory::{Location, Memory, Note};
use crate::layout::{Limits, MAX_CACHED_BUFFERS};
use crate::sys::PAGE;

/// Time, 1 s, after which both ends forget an idle buffer; searches for idle buffers are at least this far apart.
const IDLE: Duration = Duration::from_secs(1);
/// Posts of buffers, 64, from one search for idle buffers to the next.
const POSTS_PER_SEARCH: u32 = 64;

/// The recycled buffers of an end: those that it owns, and those that its peer owns.
pub(crate) struct Buffers {
    /// Identifies this value in [`Memory::set_kept`].
    number: u64,
    pool: Mutex<Pool>,
    cache: Mutex<Cache>,
    /// Posts of buffers, counted by the sending half only.
    posts: AtomicU32,
}

const _: () = assert!(MAX_CACHED_BUFFERS <= 1 << 8, "a slot is a byte, in `Memory::kept` and in a `LoneCapsule`");

/// The number of the newest [`Buffers`] of this process; the first has 1.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Buffers {
    /// An empty pool and an empty cache.
    pub(crate) fn new(limits: &Limits) -> Self {
        // Relaxed: pairs with this call in other threads; each gets its own number, and no other data depends on it.
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed) + 1;
        let pool = Pool { number, limits: *limits, slots: Vec::new(), searched: None };
        let cache = Cache { number, limits: *limits, slots: Vec::new() };
        Self { number, pool: Mutex::new(pool), cache: Mutex::new(cache), posts: AtomicU32::new(0) }
    }

    /// The slot of a buffer that is kept here: in the pool if this end owns it, in the cache if the peer does.
    #[inline]
    pub(crate) fn slot_of(&self, memory: &Memory) -> Option<usize> {
        memory.slot_at(self.number)
    }

    /// Counts a post of buffers. True if it is time to search for idle buffers.
    #[inline]
    pub(crate) fn count_post(&self) -> bool {
        // Relaxed: load and store pair with each other; only the sending half makes them, in one thread at a time.
        let posts = self.posts.load(Ordering::Relaxed).wrapping_add(1);
        self.posts.store(posts, Ordering::Relaxed);
        posts.is_multiple_of(POSTS_PER_SEARCH)
    }

    /// The buffers that this end owns, those of the outgoing direction.
    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The buffers that the peer owns, those of the incoming direction.
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up all buffers, when the end is closed or has been transferred.
    pub(crate) fn give_up(&self) {
        self.pool().give_up();
        self.cache().give_up();
    }
}

/// The buffers that an end owns.
pub(crate) struct Pool {
    /// That of the [`Buffers`].
    number: u64,
    limits: Limits,
    slots: Vec<PoolSlot>,
    /// The time of the latest search for idle buffers.
    searched: Option<Instant>,
}

/// A slot that is reserved for a buffer on a transfer list, which is about to be posted for the first time.
pub(crate) struct Planned {
    pub(crate) slot: usize,
    /// Capacity of the buffer.
    pub(crate) bytes: u64,
}

/// The owner's record of a slot.
#[derive(Clone)]
enum PoolSlot {
    /// Neither end keeps a buffer in it.
    Empty,
    /// The peer keeps a buffer of this many bytes in it, and this end no longer does.
    Stale(u64),
    /// Both ends keep this buffer in it.
    Live(Arc<Memory>),
}

impl PoolSlot {
    /// Bytes that count towards the limit.
    fn bytes(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Stale(bytes) => *bytes,
            Self::Live(memory) => memory.capacity as u64,
        }
    }
}

impl Pool {
    fn live(&self) -> impl Iterator<Item = (usize, &Arc<Memory>)> {
        self.slots.iter().enumerate().filter_map(|(slot, found)| match found {
            PoolSlot::Live(memory) => Some((slot, memory)),
            _ => None,
        })
    }

    /// Replaces the contents of a slot.
    fn put(&mut self, slot: usize, new: PoolSlot) {
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, PoolSlot::Empty);
        }
        if let PoolSlot::Live(memory) = &self.slots[slot] {
            memory.set_kept(None);
        }
        if let PoolSlot::Live(memory) = &new {
            memory.set_kept(Some((self.number, slot)));
        }
        self.slots[slot] = new;
    }

    /// Takes the smallest idle buffer with room for `len` bytes. Skips those with more than four times the room (of
    /// `len`, or of 4 KiB if that is more), and those whose slot is `planned` for another buffer.
    pub(crate) fn take(&mut self, len: usize, planned: &[Planned]) -> Option<Arc<Memory>> {
        let fits = |memory: &Memory| memory.capacity >= len && memory.capacity / 4 <= len.max(4 << 10);
        let mut best: Option<Arc<Memory>> = None;
        for slot in 0..self.slots.len() {
            self.update(slot);
            if let PoolSlot::Live(memory) = &self.slots[slot]
                && memory.location() == Location::Idle
                && planned.iter().all(|planned| planned.slot != slot)
                && fits(memory)
                && best.as_ref().is_none_or(|best| memory.capacity < best.capacity)
            {
                best = Some(Arc::clone(memory));
                if memory.capacity == len.next_multiple_of(PAGE) {
                    break;
                }
            }
        }
        best.inspect(|memory| memory.set_location(Location::Held))
    }

    /// Updates the record of a slot: by the note in its buffer, if the buffer is with the peer, or because the buffer
    /// was posted on another port.
    fn update(&mut self, slot: usize) {
        let PoolSlot::Live(memory) = &self.slots[slot] else { return };
        let note = match memory.location() {
            Location::Held | Location::Idle => return,
            Location::Away => memory.take_note(),
            Location::Left => Note::Gone,
        };
        match note {
            Note::Busy => {}
            Note::Free => memory.set_location(Location::Idle),
            Note::Gone => self.put(slot, PoolSlot::Stale(memory.capacity as u64)),
        }
    }

    /// The best slot for a buffer of `capacity` bytes that is posted for the first time, beside those `planned`. Both
    /// ends then forget the present buffer of the slot, so an empty slot is best and one with an idle buffer the last
    /// choice. `None` if every slot is in use, or the buffers would exceed the limit of bytes.
    pub(crate) fn slot_for(&mut self, capacity: usize, planned: &[Planned]) -> Option<usize> {
        (0..self.slots.len()).for_each(|slot| self.update(slot));
        let rank = |slot: usize| match self.slots.get(slot) {
            None | Some(PoolSlot::Empty) => Some(0),
            Some(PoolSlot::Stale(_)) => Some(1),
            Some(PoolSlot::Live(memory)) if memory.location() == Location::Idle => Some(2),
            Some(PoolSlot::Live(_)) => None,
        };
        let bytes = |slot: usize| match planned.iter().find(|planned| planned.slot == slot) {
            Some(planned) => planned.bytes,
            None => self.slots.get(slot).map_or(0, PoolSlot::bytes),
        };
        let kept: u64 = (0..self.limits.cached_buffers).map(bytes).sum();
        (0..self.limits.cached_buffers)
            .filter(|slot| planned.iter().all(|planned| planned.slot != *slot))
            .filter(|slot| kept - bytes(*slot) + capacity as u64 <= self.limits.cached_bytes)
            .filter_map(|slot| Some((rank(slot)?, slot)))
            .min()
            .map(|(_, slot)| slot)
    }

    /// Keeps a buffer that is about to be posted for the first time, in a slot from [`slot_for`](Self::slot_for).
    pub(crate) fn insert(&mut self, slot: usize, memory: Arc<Memory>) {
        self.put(slot, PoolSlot::Live(memory));
    }

    /// Takes the buffer in `slot`, which the peer has posted back with `len` bytes. `None` if the slot has no buffer,
    /// the peer does not have it, or it is shorter.
    pub(crate) fn returned(&mut self, slot: usize, len: u64) -> Option<Arc<Memory>> {
        let Some(PoolSlot::Live(memory)) = self.slots.get(slot) else { return None };
        if memory.location() != Location::Away || len > memory.capacity as u64 {
            return None;
        }
        memory.set_location(Location::Held);
        Some(Arc::clone(memory))
    }

    /// The slots to be forgotten: stale ones, and those with idle buffers. With `at_once` every idle buffer counts;
    /// otherwise only one that has not been posted since the previous search, at least [`IDLE`] ago.
    pub(crate) fn idle(&mut self, at_once: bool) -> Vec<usize> {
        let now = Instant::now();
        if !at_once && now.duration_since(*self.searched.get_or_insert(now)) < IDLE {
            return Vec::new();
        }
        self.searched = Some(now);
        let mut idle = Vec::new();
        for slot in 0..self.slots.len() {
            self.update(slot);
            match &self.slots[slot] {
                PoolSlot::Empty => {}
                PoolSlot::Stale(_) => idle.push(slot),
                PoolSlot::Live(memory) => {
                    let was_used = memory.was_used();
                    if memory.location() == Location::Idle && (at_once || !was_used) {
                        idle.push(slot);
                    }
                }
            }
        }
        idle
    }

    /// Empties a slot, when the peer is being made to forget its buffer.
    pub(crate) fn forget(&mut self, slot: usize) {
        if slot < self.slots.len() {
            self.put(slot, PoolSlot::Empty);
        }
    }

    /// Frees the idle buffers when the peer is gone. The others keep their slots, because those that the peer has
    /// posted back may still be queued.
    pub(crate) fn release(&mut self) {
        for slot in 0..self.slots.len() {
            self.update(slot);
            if let PoolSlot::Live(memory) = &self.slots[slot]
                && memory.location() == Location::Idle
            {
                self.put(slot, PoolSlot::Empty);
            }
        }
    }

    fn give_up(&mut self) {
        self.live().for_each(|(_, memory)| memory.set_kept(None));
        self.slots.clear();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// The buffers that the peer of an end owns.
pub(crate) struct Cache {
    /// That of the [`Buffers`].
    number: u64,
    limits: Limits,
    slots: Vec<Option<Arc<Memory>>>,
}

impl Cache {
    /// Gives up all buffers, when nothing more will be received.
    pub(crate) fn give_up(&mut self) {
        self.slots.iter().flatten().for_each(|memory| memory.set_kept(None));
        self.slots.clear();
    }

    /// Replaces the contents of a slot.
    fn put(&mut self, slot: usize, new: Option<Arc<Memory>>) {
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, None);
        }
        if let Some(memory) = &self.slots[slot] {
            memory.set_kept(None);
        }
        if let Some(memory) = &new {
            memory.set_kept(Some((self.number, slot)));
        }
        self.slots[slot] = new;
    }

    /// Keeps a buffer that was received for the first time, in place of the present one of the slot. False if there is
    /// no such slot, or the buffers would exceed the limit of bytes.
    pub(crate) fn insert(&mut self, slot: usize, memory: Arc<Memory>) -> bool {
        let others = self.slots.iter().enumerate().filter(|(index, _)| *index != slot);
        let kept: u64 = others.filter_map(|(_, found)| Some(found.as_ref()?.capacity as u64)).sum();
        if slot >= self.limits.cached_buffers || kept + memory.capacity as u64 > self.limits.cached_bytes {
            return false;
        }
        self.put(slot, Some(memory));
        true
    }

    /// Takes the buffer in `slot`, which the owner has posted again with `len` bytes. `None` if the slot has no buffer,
    /// this side has not given it back, or it is shorter.
    pub(crate) fn take(&mut self, slot: usize, len: u64) -> Option<Arc<Memory>> {
        let memory = self.slots.get(slot)?.as_ref()?;
        if memory.location() != Location::Away || len > memory.capacity as u64 {
            return None;
        }
        memory.fetch_note();
        memory.set_location(Location::Held);
        Some(Arc::clone(memory))
    }

    /// Empties a slot, whose buffer the owner no longer keeps. False if there is no such slot.
    pub(crate) fn forget(&mut self, slot: usize) -> bool {
        if slot < self.slots.len() {
            self.put(slot, None);
        }
        slot < self.limits.cached_buffers
    }
}

/// A slot that travels with its port.
pub(crate) enum Moving {
    /// A slot of the cache.
    Cached { slot: usize, memory: Arc<Memory> },
    /// A slot of the pool whose buffer is with the peer and may come back.
    Posted { slot: usize, memory: Arc<Memory> },
    /// A slot of the pool whose buffer the new holder does not keep; the peer still has this many bytes in it.
    Stale { slot: usize, bytes: u64 },
}

impl Buffers {
    /// The slots that travel with the port: those of the cache, and those of the pool whose buffer is with the peer.
    /// The other buffers of the pool are given up.
    pub(crate) fn moving(&self) -> Vec<Moving> {
        let cache = self.cache();
        let cached = cache.slots.iter().enumerate();
        let cached = cached.filter_map(|(slot, memory)| Some(Moving::Cached { slot, memory: memory.clone()? }));
        let mut pool = self.pool();
        (0..pool.slots.len()).for_each(|slot| pool.update(slot));
        let pooled = pool.slots.iter().enumerate().filter_map(|(slot, found)| match found {
            PoolSlot::Empty => None,
            PoolSlot::Stale(bytes) => Some(Moving::Stale { slot, bytes: *bytes }),
            PoolSlot::Live(memory) if memory.location() == Location::Away => {
                Some(Moving::Posted { slot, memory: Arc::clone(memory) })
            }
            PoolSlot::Live(memory) => Some(Moving::Stale { slot, bytes: memory.capacity as u64 }),
        });
        cached.chain(pooled).collect()
    }

    /// Adopts a slot that came with a port. False if there is no such slot, or the buffers would exceed the limit of
    /// bytes.
    pub(crate) fn adopt(&self, moved: Moving) -> bool {
        match moved {
            Moving::Cached { slot, memory } => {
                // A handle of the former holder may still have it. Its owner reads the note, and posts it only once it
                // is free.
                memory.set_location(Location::Away);
                self.cache().insert(slot, memory)
            }
            Moving::Posted { slot, memory } => {
                memory.set_location(Location::Away);
                self.pool().adopt(slot, PoolSlot::Live(memory))
            }
            Moving::Stale { slot, bytes } => self.pool().adopt(slot, PoolSlot::Stale(bytes)),
        }
    }
}

impl Pool {
    fn adopt(&mut self, slot: usize, found: PoolSlot) -> bool {
        let others = self.slots.iter().enumerate().filter(|(index, _)| *index != slot);
        // Saturating: the bytes of stale slots are the peer's claim.
        let kept = others.fold(found.bytes(), |kept, (_, other)| kept.saturating_add(other.bytes()));
        if slot >= self.limits.cached_buffers || kept > self.limits.cached_bytes {
            return false;
        }
        self.put(slot, found);
        true
    }
}
