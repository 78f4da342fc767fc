//! `Poller`: which of many ports want to be looked at, in turn, without a look at the others.
//!
//! A port is in one place at a time:
//! ```text
//!  ready    something may be there: it gets a turn, one port after the other
//!  warm     was found empty a moment ago; a post rings no doorbell, so its ring is looked at (one load)
//!  cold     its doorbell is armed, its lane is in the epoll set: it costs nothing until an edge makes it ready
//!  napping  a hostile peer sent wake-ups for nothing: its lane is not listened to for a while
//! ```
//! A port in a stream or a ping-pong goes between ready and warm and makes no system call. Warm ports become cold before
//! the poller sleeps, or when they have been empty for some rounds while others are busy. The epoll set is
//! edge-triggered: a lane that stays readable, since descriptors wait on it for a record that a stopped sender has not
//! committed, is told once.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::end::wait::Spin;
use crate::error::TryRecvError;
use crate::port::RecvHalf;
use crate::sys::Errno;
use crate::sys::epoll::Epoll;
use crate::sys::fork::Home;

/// Keys from here on are the caller's, for descriptors that only end a sleep.
pub(crate) const NO_PORT: u64 = u64::MAX - 16;

/// Longest time in which the epoll set is not asked while there is always something to do without it.
const INTERVAL: Duration = Duration::from_micros(50);
/// Longest sleep, in case a wake-up could not be sent for want of memory. Then every ring is looked at.
const SLICE: Duration = Duration::from_secs(1);
/// Rounds in which a warm port was empty while others were busy, until it becomes cold.
const WARM_ROUNDS: u8 = 8;
/// With more warm ports than these, spinning over all of them is no quick look any more.
const MANY_WARM: usize = 16;
/// So many edges in a row without a message are believed.
const BELIEVED: u32 = 4;
/// Then the port naps for this time, doubled up to three times.
const NAP: Duration = Duration::from_millis(1);

/// Something that has a receiving half, or had one.
pub(crate) trait Watchable {
    fn with<R>(&self, look: impl FnOnce(&RecvHalf) -> R) -> Option<R>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Ready,
    /// Rounds so far.
    Warm(u8),
    Cold,
    Napping,
}

struct Watched<T> {
    what: T,
    place: Place,
    /// Edges since the last message.
    false_alarms: u32,
}

struct Entry<T> {
    /// Part of the key, so that a key is never used again.
    generation: u32,
    watched: Option<Watched<T>>,
}

pub(crate) struct Poller<T> {
    set: Arc<Epoll>,
    home: Home,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
    /// Ports in `Place::Ready`, in turn. Keys in any of the lists may be out of date.
    ready: VecDeque<u64>,
    warm: Vec<u64>,
    napping: Vec<(Instant, u64)>,
    /// What epoll told, while it is being worked on.
    found: Vec<u64>,
    /// When epoll was last asked.
    asked: Instant,
    pub(crate) spin: Spin,
}

impl<T: Watchable> Poller<T> {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            set: Arc::new(Epoll::new()?),
            home: Home::here()?,
            entries: Vec::new(),
            free: Vec::new(),
            len: 0,
            ready: VecDeque::new(),
            warm: Vec::new(),
            napping: Vec::new(),
            found: Vec::new(),
            asked: Instant::now(),
            spin: Spin::new(),
        })
    }

    /// False in a child that inherited the poller by `fork`: the epoll set is the parent's.
    pub(crate) fn is_here(&self) -> bool {
        self.home.is_here()
    }

    pub(crate) fn set(&self) -> &Arc<Epoll> {
        &self.set
    }

    /// Adds a descriptor that only ends a sleep, under a key from [`NO_PORT`] on.
    pub(crate) fn add_wake_up(&self, descriptor: BorrowedFd<'_>, key: u64) -> Result<(), Errno> {
        self.set.add(descriptor, key)
    }

    /// Adds a port, which gets a turn. Its key is never used again.
    pub(crate) fn add(&mut self, what: T) -> Result<u64, (Errno, T)> {
        let index = self.free.last().map_or(self.entries.len(), |index| *index as usize);
        let generation = self.entries.get(index).map_or(0, |entry| entry.generation);
        let key = u64::from(generation) << 32 | index as u64;
        match what.with(|half| half.watch(&self.set, key)) {
            None | Some(Ok(())) => {}
            Some(Err(errno)) => return Err((errno, what)),
        }
        if self.free.pop().is_none() {
            self.entries.push(Entry { generation, watched: None });
        }
        self.entries[index].watched = Some(Watched { what, place: Place::Cold, false_alarms: 0 });
        self.len += 1;
        self.schedule(key);
        Ok(key)
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let entry = entry(&mut self.entries, key)?;
        let Watched { what, .. } = entry.watched.take()?;
        // The key of a place that was used 2^32 times could come again: it is not used any more.
        if let Some(next) = entry.generation.checked_add(1).filter(|next| *next < u32::MAX) {
            entry.generation = next;
            self.free.push(key as u32);
        }
        self.len -= 1;
        what.with(RecvHalf::unwatch);
        Some(what)
    }

    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        let entry = self.entries.get(key as u32 as usize).filter(|entry| u64::from(entry.generation) == key >> 32)?;
        entry.watched.as_ref().map(|watched| &watched.what)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Everything that was added, and the poller is empty.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        let here = self.is_here();
        let all = self.entries.drain(..).filter_map(|entry| Some(entry.watched?.what));
        let all = all
            .inspect(|what| {
                if here {
                    what.with(RecvHalf::unwatch).unwrap_or(())
                }
            })
            .collect();
        (self.len, self.free) = (0, Vec::new());
        all
    }

    /// Gives a port a turn, unless it naps.
    pub(crate) fn schedule(&mut self, key: u64) {
        if let Some(watched) = watched(&mut self.entries, key)
            && matches!(watched.place, Place::Cold | Place::Warm(_))
        {
            watched.place = Place::Ready;
            self.ready.push_back(key);
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Ports that wait for their turn, some of which may be gone.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Whose turn it is. After it, one of [`schedule`](Self::schedule), [`found_empty`](Self::found_empty) and
    /// [`nap`](Self::nap) is due, or none for a port that need not be looked at before somebody schedules it.
    pub(crate) fn next(&mut self) -> Option<u64> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(watched) = watched(&mut self.entries, key)
                && watched.place == Place::Ready
            {
                watched.place = Place::Cold;
                // Empty looks arm no doorbell from here on.
                watched.what.with(|half| half.set_polled(false));
                return Some(key);
            }
        }
        None
    }

    /// A message came of the turn.
    pub(crate) fn found_message(&mut self, key: u64) {
        if let Some(watched) = watched(&mut self.entries, key) {
            watched.false_alarms = 0;
        }
    }

    /// The turn ended with an empty queue.
    pub(crate) fn found_empty(&mut self, key: u64) {
        if let Some(watched) = watched(&mut self.entries, key)
            && watched.place == Place::Cold
        {
            watched.place = Place::Warm(0);
            self.warm.push(key);
        }
    }

    /// Leaves a port alone for a while.
    pub(crate) fn nap(&mut self, key: u64, time: Duration) {
        let Some(watched) = watched(&mut self.entries, key) else { return };
        watched.place = Place::Napping;
        watched.what.with(|half| self.set.mute(half.as_lane(), key));
        self.napping.push((Instant::now() + time, key));
    }

    /// When the first nap is over.
    pub(crate) fn next_nap(&self) -> Option<Instant> {
        self.napping.iter().map(|(until, _)| *until).min()
    }

    /// After a round of turns: looks at the warm ports, and now and then at the others.
    pub(crate) fn refresh(&mut self) -> Result<(), Errno> {
        self.look_at_warm();
        if Instant::now().duration_since(self.asked) >= INTERVAL {
            self.ask(Duration::ZERO)?;
        }
        Ok(())
    }

    fn look_at_warm(&mut self) {
        let busy = self.has_ready();
        let mut index = 0;
        while let Some(&key) = self.warm.get(index) {
            let watched = watched(&mut self.entries, key);
            let stays = watched.is_some_and(|watched| {
                let Place::Warm(rounds) = watched.place else { return false };
                if watched.what.with(RecvHalf::has_news).unwrap_or(true) {
                    watched.place = Place::Ready;
                    self.ready.push_back(key);
                } else if rounds < WARM_ROUNDS {
                    watched.place = Place::Warm(rounds + u8::from(busy));
                    return true;
                } else {
                    cool(watched, key, &mut self.ready);
                }
                false
            });
            if stays {
                index += 1;
            } else {
                self.warm.swap_remove(index);
            }
        }
    }

    /// Makes every warm port cold, so that whatever is posted to it is an edge; or ready, if something is there.
    pub(crate) fn settle(&mut self) {
        for key in self.warm.drain(..) {
            if let Some(watched) = watched(&mut self.entries, key)
                && matches!(watched.place, Place::Warm(_))
            {
                cool(watched, key, &mut self.ready);
            }
        }
    }

    /// Asks epoll, and makes ready what it tells.
    pub(crate) fn ask(&mut self, timeout: Duration) -> Result<(), Errno> {
        let mut found = std::mem::take(&mut self.found);
        let result = self.set.wait(&mut found, timeout);
        for key in found.drain(..) {
            self.edge(key);
        }
        self.found = found;
        let now = Instant::now();
        self.asked = now;
        while let Some(index) = self.napping.iter().position(|(until, _)| *until <= now) {
            let (_, key) = self.napping.swap_remove(index);
            if let Some(watched) = watched(&mut self.entries, key)
                && watched.place == Place::Napping
            {
                watched.place = Place::Ready;
                self.ready.push_back(key);
                watched.what.with(|half| self.set.unmute(half.as_lane(), key));
            }
        }
        result
    }

    fn edge(&mut self, key: u64) {
        let Some(watched) = watched(&mut self.entries, key) else { return };
        if watched.place != Place::Cold {
            return; // it is being looked at anyway
        }
        watched.false_alarms += 1;
        let gone = || watched.what.with(|half| half.end().lane().hung_up()).unwrap_or(true);
        match watched.false_alarms.checked_sub(BELIEVED + 1) {
            Some(excess) if !gone() => self.nap(key, NAP * (1 << excess.min(3))),
            _ => {
                watched.place = Place::Ready;
                self.ready.push_back(key);
            }
        }
    }

    /// Returns when a port is ready or `woken` is true, both perhaps at once; when `deadline` is over; or for no
    /// reason. Spins a little, then sleeps.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>, woken: impl Fn() -> bool) -> Result<(), Errno> {
        self.refresh()?;
        if self.has_ready() || woken() {
            return Ok(());
        }
        if !self.warm.is_empty() && self.warm.len() <= MANY_WARM {
            let news = || {
                let keys = self.warm.iter().copied();
                woken() || keys.filter_map(|key| self.get(key)).any(|what| what.with(RecvHalf::has_news) != Some(false))
            };
            let mut found = Vec::new();
            let ask = || self.set.wait(&mut found, Duration::ZERO).is_err() || !found.is_empty();
            let has_news = self.spin.run(news, deadline, INTERVAL, ask);
            for key in found {
                self.edge(key);
            }
            if has_news {
                self.look_at_warm();
            }
            if self.has_ready() || woken() {
                return Ok(());
            }
        }
        self.settle();
        if self.has_ready() || woken() {
            return Ok(());
        }
        self.sleep(deadline)
    }

    fn sleep(&mut self, deadline: Option<Instant>) -> Result<(), Errno> {
        let now = Instant::now();
        let until = [deadline, self.next_nap()].into_iter().flatten().min();
        let left = until.map_or(SLICE, |until| until.saturating_duration_since(now).min(SLICE));
        self.ask(left)?;
        crate::sys::cpu::forget_affinity();
        if left == SLICE && !self.has_ready() && self.asked.duration_since(now) >= SLICE {
            self.look_at_cold();
        }
        Ok(())
    }

    /// For a peer that could not send its wake-up.
    fn look_at_cold(&mut self) {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if let Some(watched) = &mut entry.watched
                && watched.place == Place::Cold
                && watched.what.with(RecvHalf::has_news) == Some(true)
            {
                watched.place = Place::Ready;
                self.ready.push_back(u64::from(entry.generation) << 32 | index as u64);
            }
        }
    }
}

fn entry<T>(entries: &mut [Entry<T>], key: u64) -> Option<&mut Entry<T>> {
    entries.get_mut(key as u32 as usize).filter(|entry| u64::from(entry.generation) == key >> 32)
}

fn watched<T>(entries: &mut [Entry<T>], key: u64) -> Option<&mut Watched<T>> {
    entry(entries, key)?.watched.as_mut()
}

/// Arms the doorbell of a warm port, and looks once more.
fn cool<T: Watchable>(watched: &mut Watched<T>, key: u64, ready: &mut VecDeque<u64>) {
    let look = |half: &RecvHalf| {
        half.set_polled(true);
        half.look()
    };
    if matches!(watched.what.with(look), Some(Err(TryRecvError::Empty))) {
        watched.place = Place::Cold;
    } else {
        watched.place = Place::Ready;
        ready.push_back(key);
    }
}
