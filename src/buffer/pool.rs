//! Recycled buffers: the pool of the side that posts them, the cache of the side that gets them.
//!
//! The first post of a buffer passes its descriptor and gives it a slot in the direction; from then on both sides keep
//! descriptor and mapping, and a post is the number of the slot. The receiver's drop leaves a note in the buffer's
//! header, and the owner finds it when it looks for a buffer to use again; a buffer posted back comes by its number too.
//! Only the owner gives a slot to another buffer or has the peer forget one. Each side goes by its own knowledge of where
//! a buffer is (`Place`), so a peer that lies can spoil its own data and nothing else.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::memory::{Memory, Note, Place};
use crate::layout::{Limits, MAX_CACHED_BUFFERS};

/// A buffer that waits longer than this is forgotten,
const IDLE: Duration = Duration::from_secs(1);
/// which is looked at once in so many posts of buffers.
const LOOKS: u32 = 64;

/// The recycled buffers of an end.
pub(crate) struct Buffers {
    /// By which a memory says that it is kept here.
    number: u64,
    pool: Mutex<Pool>,
    cache: Mutex<Cache>,
    /// Of buffers; written by the sending half only.
    posts: AtomicU32,
}

const _: () = assert!(MAX_CACHED_BUFFERS <= 1 << 8, "a slot is a byte, in `Memory::kept` and in a `KnownCapsule`");

/// The last number that was given to a `Buffers` of this process.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Buffers {
    pub(crate) fn new(limits: &Limits) -> Self {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed) + 1; // a number, no data
        let pool = Pool { number, limits: *limits, slots: Vec::new(), looked: None };
        let cache = Cache { number, limits: *limits, slots: Vec::new() };
        Self { number, pool: Mutex::new(pool), cache: Mutex::new(cache), posts: AtomicU32::new(0) }
    }

    /// The slot of a buffer in the pool, if it is ours, or in the cache, if it is the peer's.
    #[inline]
    pub(crate) fn slot_of(&self, memory: &Memory) -> Option<usize> {
        memory.slot_at(self.number)
    }

    /// Counts a post. True if it is time for another look at what is idle.
    #[inline]
    pub(crate) fn count_post(&self) -> bool {
        let posts = self.posts.load(Ordering::Relaxed).wrapping_add(1);
        self.posts.store(posts, Ordering::Relaxed);
        posts.is_multiple_of(LOOKS)
    }

    /// Those of the outgoing direction.
    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the incoming direction.
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of all of them: the end is closed, or lives on elsewhere.
    pub(crate) fn give_up(&self) {
        self.pool().give_up();
        self.cache().give_up();
    }
}

/// What an end that posts keeps.
pub(crate) struct Pool {
    number: u64,
    limits: Limits,
    slots: Vec<Slot>,
    looked: Option<Instant>,
}

/// A slot for a buffer that is about to be posted for the first time.
pub(crate) struct Planned {
    pub(crate) slot: usize,
    pub(crate) bytes: u64,
}

/// What the owner knows of a slot.
#[derive(Clone)]
pub(crate) enum Slot {
    Empty,
    /// The peer keeps so many bytes, and we do not any more.
    Stale(u64),
    Live(Arc<Memory>),
}

impl Slot {
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
            Slot::Live(memory) => Some((slot, memory)),
            _ => None,
        })
    }

    /// Changes what is in a slot.
    fn put(&mut self, slot: usize, new: Slot) {
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, Slot::Empty);
        }
        if let Slot::Live(memory) = &self.slots[slot] {
            memory.set_kept(None);
        }
        if let Slot::Live(memory) = &new {
            memory.set_kept(Some((self.number, slot)));
        }
        self.slots[slot] = new;
    }

    /// A buffer for `len` bytes that came back, the smallest; not one of very many times the size, nor one whose slot is
    /// `planned` for another.
    pub(crate) fn take(&mut self, len: usize, planned: &[Planned]) -> Option<Arc<Memory>> {
        let fits = |memory: &Memory| memory.capacity >= len && memory.capacity / 4 <= len.max(4 << 10);
        let mut best: Option<Arc<Memory>> = None;
        for slot in 0..self.slots.len() {
            self.note_what_came_back(slot);
            if let Slot::Live(memory) = &self.slots[slot]
                && memory.place() == Place::Idle
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
        best.inspect(|memory| memory.set_place(Place::Held))
    }

    /// Reads the note of the peer in a buffer that was posted to it.
    fn note_what_came_back(&mut self, slot: usize) {
        if let Slot::Live(memory) = &self.slots[slot]
            && memory.place() == Place::Away
        {
            match memory.take_note() {
                Note::Busy => {}
                Note::Free => memory.set_place(Place::Idle),
                Note::Gone => self.put(slot, Slot::Stale(memory.capacity as u64)),
            }
        }
    }

    /// A slot for a buffer of `capacity` bytes that is posted for the first time, beside those `planned`.
    /// What is in the slot then is forgotten by both sides, so an empty one is best.
    pub(crate) fn slot_for(&mut self, capacity: usize, planned: &[Planned]) -> Option<usize> {
        (0..self.slots.len()).for_each(|slot| self.note_what_came_back(slot));
        let rank = |slot: usize| match self.slots.get(slot) {
            None | Some(Slot::Empty) => Some(0),
            Some(Slot::Stale(_)) => Some(1),
            Some(Slot::Live(memory)) if memory.place() == Place::Idle => Some(2),
            Some(Slot::Live(_)) => None,
        };
        let bytes = |slot: usize| match planned.iter().find(|planned| planned.slot == slot) {
            Some(planned) => planned.bytes,
            None => self.slots.get(slot).map_or(0, Slot::bytes),
        };
        let kept: u64 = (0..self.limits.cached_buffers).map(bytes).sum();
        (0..self.limits.cached_buffers)
            .filter(|slot| planned.iter().all(|planned| planned.slot != *slot))
            .filter(|slot| kept - bytes(*slot) + capacity as u64 <= self.limits.cached_bytes)
            .filter_map(|slot| Some((rank(slot)?, slot)))
            .min()
            .map(|(_, slot)| slot)
    }

    /// Keeps a buffer that is about to be posted for the first time.
    pub(crate) fn insert(&mut self, slot: usize, memory: Arc<Memory>) {
        self.put(slot, Slot::Live(memory));
    }

    /// A buffer that the peer has posted back, of `len` bytes. `None` if there is none, or the peer has not got it.
    pub(crate) fn returned(&mut self, slot: usize, len: u64) -> Option<Arc<Memory>> {
        let Some(Slot::Live(memory)) = self.slots.get(slot) else { return None };
        if memory.place() != Place::Away || len > memory.capacity as u64 {
            return None;
        }
        memory.set_place(Place::Held);
        Some(Arc::clone(memory))
    }

    /// The slots that have not been used for a while; or at once all that wait.
    pub(crate) fn idle(&mut self, at_once: bool) -> Vec<usize> {
        let now = Instant::now();
        if !at_once && now.duration_since(*self.looked.get_or_insert(now)) < IDLE {
            return Vec::new();
        }
        self.looked = Some(now);
        let mut idle = Vec::new();
        for slot in 0..self.slots.len() {
            self.note_what_came_back(slot);
            match &self.slots[slot] {
                Slot::Empty => {}
                Slot::Stale(_) => idle.push(slot),
                Slot::Live(memory) => {
                    let was_used = memory.was_used();
                    if memory.place() == Place::Idle && (at_once || !was_used) {
                        idle.push(slot);
                    }
                }
            }
        }
        idle
    }

    /// The peer is told to forget it.
    pub(crate) fn forget(&mut self, slot: usize) {
        if slot < self.slots.len() {
            self.put(slot, Slot::Empty);
        }
    }

    /// The peer is gone: what waits is of no use any more, and what is held can be posted elsewhere. What the peer posted
    /// back may still be queued.
    pub(crate) fn release(&mut self) {
        for slot in 0..self.slots.len() {
            self.note_what_came_back(slot);
            match &self.slots[slot] {
                Slot::Live(memory) if memory.place() == Place::Idle => self.put(slot, Slot::Empty),
                Slot::Live(memory) => memory.set_orphan(),
                Slot::Empty | Slot::Stale(_) => {}
            }
        }
    }

    fn give_up(&mut self) {
        self.live().for_each(|(_, memory)| {
            memory.set_orphan();
            memory.set_kept(None);
        });
        self.slots.clear();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// What an end that receives keeps.
pub(crate) struct Cache {
    number: u64,
    limits: Limits,
    slots: Vec<Option<Arc<Memory>>>,
}

impl Cache {
    /// Lets go of all: nothing is received any more.
    pub(crate) fn give_up(&mut self) {
        self.slots.iter().flatten().for_each(|memory| memory.set_kept(None));
        self.slots.clear();
    }

    /// Changes what is in a slot.
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

    /// Keeps a buffer that came for the first time, in place of what was there. False if there is no such slot, or no room.
    pub(crate) fn insert(&mut self, slot: usize, memory: Arc<Memory>) -> bool {
        let others = self.slots.iter().enumerate().filter(|(index, _)| *index != slot);
        let kept: u64 = others.filter_map(|(_, found)| Some(found.as_ref()?.capacity as u64)).sum();
        if slot >= self.limits.cached_buffers || kept + memory.capacity as u64 > self.limits.cached_bytes {
            return false;
        }
        self.put(slot, Some(memory));
        true
    }

    /// A buffer that comes again, for `len` bytes. `None` if there is none, or it has not been given back.
    pub(crate) fn take(&mut self, slot: usize, len: u64) -> Option<Arc<Memory>> {
        let memory = self.slots.get(slot)?.as_ref()?;
        if memory.place() != Place::Away || len > memory.capacity as u64 {
            return None;
        }
        memory.fetch_note();
        memory.set_place(Place::Held);
        Some(Arc::clone(memory))
    }

    /// The owner wants it back. False if there is no such slot.
    pub(crate) fn forget(&mut self, slot: usize) -> bool {
        if slot < self.slots.len() {
            self.put(slot, None);
        }
        slot < self.limits.cached_buffers
    }
}

/// A slot whose port is in transit.
pub(crate) enum Moving {
    /// Of the cache.
    Cached { slot: usize, memory: Arc<Memory> },
    /// Of the pool, with the peer: it may come back.
    Posted { slot: usize, memory: Arc<Memory> },
    /// Of the pool, and not kept on: the peer has so many bytes of it.
    Stale { slot: usize, bytes: u64 },
}

impl Buffers {
    /// What moves with the port: what is cached, and of the pool what is with the peer. The rest of the pool is given up.
    pub(crate) fn moving(&self) -> Vec<Moving> {
        let cache = self.cache();
        let cached = cache.slots.iter().enumerate();
        let cached = cached.filter_map(|(slot, memory)| Some(Moving::Cached { slot, memory: memory.clone()? }));
        let mut pool = self.pool();
        (0..pool.slots.len()).for_each(|slot| pool.note_what_came_back(slot));
        let pooled = pool.slots.iter().enumerate().filter_map(|(slot, found)| match found {
            Slot::Empty => None,
            Slot::Stale(bytes) => Some(Moving::Stale { slot, bytes: *bytes }),
            Slot::Live(memory) if memory.place() == Place::Away => {
                Some(Moving::Posted { slot, memory: Arc::clone(memory) })
            }
            Slot::Live(memory) => Some(Moving::Stale { slot, bytes: memory.capacity as u64 }),
        });
        cached.chain(pooled).collect()
    }

    /// Takes over what came with a port. False if it cannot be so.
    pub(crate) fn adopt(&self, moved: Moving) -> bool {
        match moved {
            Moving::Cached { slot, memory } => {
                // A handle elsewhere may still have it; its owner knows when it is free again.
                memory.set_place(Place::Away);
                self.cache().insert(slot, memory)
            }
            Moving::Posted { slot, memory } => {
                memory.set_place(Place::Away);
                self.pool().adopt(slot, Slot::Live(memory))
            }
            Moving::Stale { slot, bytes } => self.pool().adopt(slot, Slot::Stale(bytes)),
        }
    }
}

impl Pool {
    fn adopt(&mut self, slot: usize, found: Slot) -> bool {
        let others = self.slots.iter().enumerate().filter(|(index, _)| *index != slot);
        let kept: u64 = others.map(|(_, found)| found.bytes()).sum();
        // Each was checked, so that the sum does not overflow.
        if slot >= self.limits.cached_buffers || found.bytes() > self.limits.cached_bytes.saturating_sub(kept) {
            return false;
        }
        let others = self.slots.iter().enumerate().filter(|(index, _)| *index != slot);
        let kept = others.fold(found.bytes(), |kept, (_, other)| kept.saturating_add(other.bytes()));
        if kept > self.limits.cached_bytes {
            return false;
        }
        self.put(slot, found);
        true
    }
}

/// Memory is allocated in pages, so a buffer has room to their end.
pub(crate) const PAGE: usize = 4096;
