//! `Poller`: which of many ports may have a message, without a check of the others.
//!
//! A watched port is in one of four states:
//! ```text
//!  ready    may have a message, and waits for its turn
//!  warm     was found empty a moment ago: a post rings no doorbell, so the poller polls its ring (one load)
//!  cold     has its doorbell armed and its lane in the epoll set: costs nothing until an edge makes it ready
//!  napping  its lane is muted: it was woken without messages (for up to 8 ms), or it cannot receive now, for a
//!           shortage (for 10 ms to 1 s) or, in a set, because it is borrowed (for 10 ms)
//! ```
//! A port in a stream or a ping-pong alternates between ready and warm and makes no system call. Warm ports become cold
//! before the poller sleeps, or when they have been empty for some rounds while others are busy. The epoll set is
//! edge-triggered, so it reports only once a lane that stays readable because it holds descriptors of a record that a
//! stopped sender has not committed.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::end::shortage::ShortageNaps;
use crate::end::spurious::SpuriousWakes;
use crate::end::wait::Spin;
use crate::error::TryRecvError;
use crate::port::RecvHalf;
use crate::sys::Errno;
use crate::sys::epoll::{Epoll, Readiness};
use crate::sys::fork::Home;

/// The first key that is not a port's: the caller uses the keys from here on for descriptors that only end a sleep.
pub(crate) const NO_PORT: u64 = u64::MAX - 16;

/// The keys from here up to [`NO_PORT`] are those of descriptors that the caller watches: the upper half of a port's
/// key is less than `u32::MAX`.
pub(crate) const FIRST_WATCH: u64 = (u32::MAX as u64) << 32;

/// While ports are always ready, the epoll set is still polled every 50 us, so that busy ports do not starve the
/// others.
const EPOLL_INTERVAL: Duration = Duration::from_micros(50);
/// A sleep lasts at most 1 s, in case a peer could not send a wake-up for want of memory. Then every ring is polled.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// A warm port becomes cold after 8 rounds in which it was empty while others were busy.
const WARM_ROUNDS: u8 = 8;
/// The poller spins over at most 16 warm ports before it sleeps; with more, polling all their rings takes too long.
const MAX_SPIN_PORTS: usize = 16;
/// A port that cannot receive because it is borrowed is left alone for 10 ms.
pub(crate) const BORROWED_NAP: Duration = Duration::from_millis(10);

/// The owner of a receiving half.
pub(crate) trait Watchable {
    /// Calls `visit` with the receiving half, unless the half is gone.
    fn with<R>(&self, visit: impl FnOnce(&RecvHalf) -> R) -> Option<R>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WatchState {
    Ready,
    /// Rounds since the port was found empty.
    Warm(u8),
    Cold,
    Napping,
}

struct Watched<T> {
    what: T,
    state: WatchState,
    /// Edges since the last message.
    edges: SpuriousWakes,
    /// Naps since the last message, for want of memory or descriptors.
    naps: ShortageNaps,
}

struct Entry<T> {
    /// Upper half of the key, counted up for each port in this entry, so that no key is used twice.
    generation: u32,
    watched: Option<Watched<T>>,
}

pub(crate) struct Poller<T> {
    set: Arc<Epoll>,
    home: Home,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
    /// Ports in `WatchState::Ready`, in the order of their turns. Each of the three lists may contain stale keys.
    ready: VecDeque<u64>,
    warm: Vec<u64>,
    napping: Vec<(Instant, u64)>,
    /// Memory for the keys that a poll of the epoll set returns.
    found: Vec<(u64, Readiness)>,
    /// The watched descriptors that are ready, by their keys.
    ready_watches: Vec<(u64, Readiness)>,
    /// When the epoll set was last polled.
    polled_at: Instant,
    pub(crate) spin: Spin,
}

impl<T> Poller<T> {
    /// The descriptor of the epoll set.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
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
            ready_watches: Vec::new(),
            polled_at: Instant::now(),
            spin: Spin::new(),
        })
    }

    /// False in a child that inherited the poller by `fork`: the epoll set belongs to the parent.
    pub(crate) fn is_here(&self) -> bool {
        self.home.is_here()
    }

    pub(crate) fn set(&self) -> &Arc<Epoll> {
        &self.set
    }

    /// Adds a descriptor that only ends a sleep. `key` is [`NO_PORT`] or greater.
    pub(crate) fn add_wake_up(&self, descriptor: BorrowedFd<'_>, key: u64) -> Result<(), Errno> {
        self.set.add(descriptor, key)
    }

    /// Adds a port and gives it a turn. Returns its key, which is never used for another port.
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
        self.entries[index].watched =
            Some(Watched { what, state: WatchState::Cold, edges: SpuriousWakes::CONSUMER, naps: ShortageNaps::NEW });
        self.len += 1;
        self.schedule(key);
        Ok(key)
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let entry = entry(&mut self.entries, key)?;
        let Watched { what, .. } = entry.watched.take()?;
        // An entry is retired before its generation could wrap, which would repeat a key.
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

    /// Removes and returns all ports.
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

    /// Gives a port a turn, unless it is napping.
    pub(crate) fn schedule(&mut self, key: u64) {
        if let Some(watched) = watched(&mut self.entries, key)
            && matches!(watched.state, WatchState::Cold | WatchState::Warm(_))
        {
            watched.state = WatchState::Ready;
            self.ready.push_back(key);
        }
    }

    /// True if a port waits for its turn, or a watched descriptor is ready.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.ready_watches.is_empty()
    }

    /// Takes the watched descriptors that are ready.
    pub(crate) fn take_ready_watches(&mut self) -> Vec<(u64, Readiness)> {
        std::mem::take(&mut self.ready_watches)
    }

    /// Number of ports that wait for their turn, including some that may be gone.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// The port whose turn it is. After the turn the caller calls one of [`schedule`](Self::schedule),
    /// [`found_empty`](Self::found_empty), [`nap`](Self::nap) and [`nap_short`](Self::nap_short); a port for which it
    /// calls none has no further turn until it is scheduled.
    pub(crate) fn next(&mut self) -> Option<u64> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(watched) = watched(&mut self.entries, key)
                && watched.state == WatchState::Ready
            {
                watched.state = WatchState::Cold;
                // From here on a receive that finds the queue empty does not arm the doorbell.
                watched.what.with(|half| half.set_polled(false));
                return Some(key);
            }
        }
        None
    }

    /// The turn received a message.
    pub(crate) fn found_message(&mut self, key: u64) {
        if let Some(watched) = watched(&mut self.entries, key) {
            watched.edges.reset();
            watched.naps.reset();
        }
    }

    /// The turn found the queue empty.
    pub(crate) fn found_empty(&mut self, key: u64) {
        if let Some(watched) = watched(&mut self.entries, key)
            && watched.state == WatchState::Cold
        {
            watched.state = WatchState::Warm(0);
            self.warm.push(key);
        }
    }

    /// Mutes a port that cannot receive for want of memory or descriptors: longer with every turn that meets it.
    pub(crate) fn nap_short(&mut self, key: u64) {
        if let Some(watched) = watched(&mut self.entries, key) {
            let time = watched.naps.next();
            self.nap(key, time);
        }
    }

    /// Mutes a port for `time`.
    pub(crate) fn nap(&mut self, key: u64, time: Duration) {
        let Some(watched) = watched(&mut self.entries, key) else { return };
        watched.state = WatchState::Napping;
        watched.what.with(|half| self.set.mute(half.as_lane(), key));
        self.napping.push((Instant::now() + time, key));
    }

    /// When the first nap ends.
    pub(crate) fn next_nap(&self) -> Option<Instant> {
        self.napping.iter().map(|(until, _)| *until).min()
    }

    /// Called after a round of turns: polls the rings of the warm ports, and every [`EPOLL_INTERVAL`] the epoll set.
    pub(crate) fn refresh(&mut self) -> Result<(), Errno> {
        self.poll_warm();
        if Instant::now().duration_since(self.polled_at) >= EPOLL_INTERVAL {
            self.poll_epoll(Duration::ZERO)?;
        }
        Ok(())
    }

    fn poll_warm(&mut self) {
        let busy = self.has_ready();
        let mut index = 0;
        while let Some(&key) = self.warm.get(index) {
            let watched = watched(&mut self.entries, key);
            let stays = watched.is_some_and(|watched| {
                let WatchState::Warm(rounds) = watched.state else { return false };
                if watched.what.with(RecvHalf::has_news).unwrap_or(true) {
                    watched.state = WatchState::Ready;
                    self.ready.push_back(key);
                } else if rounds < WARM_ROUNDS {
                    watched.state = WatchState::Warm(rounds + u8::from(busy));
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

    /// Makes every warm port cold, so that a post to it is an edge; or ready, if it has a message.
    pub(crate) fn settle(&mut self) {
        for key in self.warm.drain(..) {
            if let Some(watched) = watched(&mut self.entries, key)
                && matches!(watched.state, WatchState::Warm(_))
            {
                cool(watched, key, &mut self.ready);
            }
        }
    }

    /// Polls the epoll set for `timeout` and makes the ports that it reports ready, and the ports whose naps are over.
    /// True if a signal ended the sleep.
    pub(crate) fn poll_epoll(&mut self, timeout: Duration) -> Result<bool, Errno> {
        let mut found = std::mem::take(&mut self.found);
        let result = self.set.wait_with(timeout, |key, ready| found.push((key, ready)));
        for (key, ready) in found.drain(..) {
            self.report(key, ready);
        }
        self.found = found;
        let now = Instant::now();
        self.polled_at = now;
        while let Some(index) = self.napping.iter().position(|(until, _)| *until <= now) {
            let (_, key) = self.napping.swap_remove(index);
            if let Some(watched) = watched(&mut self.entries, key)
                && watched.state == WatchState::Napping
            {
                watched.state = WatchState::Ready;
                self.ready.push_back(key);
                watched.what.with(|half| self.set.unmute(half.as_lane(), key));
            }
        }
        result
    }

    fn report(&mut self, key: u64, ready: Readiness) {
        if !(FIRST_WATCH..NO_PORT).contains(&key) {
            self.edge(key);
        } else if let Some((_, known)) = self.ready_watches.iter_mut().find(|(known, _)| *known == key) {
            *known = ready;
        } else {
            self.ready_watches.push((key, ready));
        }
    }

    fn edge(&mut self, key: u64) {
        let Some(watched) = watched(&mut self.entries, key) else { return };
        if watched.state != WatchState::Cold {
            return; // it is ready, polled, or muted
        }
        let nap = watched.edges.add(1);
        let gone = || watched.what.with(|half| half.end().lane().hung_up()).unwrap_or(true);
        match nap {
            Some(time) if !gone() => self.nap(key, time),
            _ => {
                watched.state = WatchState::Ready;
                self.ready.push_back(key);
            }
        }
    }

    /// Waits until a port is ready, `woken` returns true, or `deadline` is over. May also return early. Spins for a
    /// while before it sleeps. True if a signal ended the sleep.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>, woken: impl Fn() -> bool) -> Result<bool, Errno> {
        self.refresh()?;
        if self.has_ready() || woken() {
            return Ok(false);
        }
        if !self.warm.is_empty() && self.warm.len() <= MAX_SPIN_PORTS {
            let news = || {
                let keys = self.warm.iter().copied();
                woken() || keys.filter_map(|key| self.get(key)).any(|what| what.with(RecvHalf::has_news) != Some(false))
            };
            let mut found = Vec::new();
            let poll = || {
                let failed = self.set.wait_with(Duration::ZERO, |key, ready| found.push((key, ready))).is_err();
                failed || !found.is_empty()
            };
            let has_news = self.spin.run(news, deadline, EPOLL_INTERVAL, poll);
            for (key, ready) in found {
                self.report(key, ready);
            }
            if has_news {
                self.poll_warm();
            }
            if self.has_ready() || woken() {
                return Ok(false);
            }
        }
        self.settle();
        if self.has_ready() || woken() {
            return Ok(false);
        }
        self.sleep(deadline)
    }

    fn sleep(&mut self, deadline: Option<Instant>) -> Result<bool, Errno> {
        let now = Instant::now();
        let until = [deadline, self.next_nap()].into_iter().flatten().min();
        let left = until.map_or(MAX_SLEEP, |until| until.saturating_duration_since(now).min(MAX_SLEEP));
        let interrupted = self.poll_epoll(left)?;
        crate::sys::cpu::forget_affinity();
        if left == MAX_SLEEP && !self.has_ready() && self.polled_at.duration_since(now) >= MAX_SLEEP {
            self.poll_cold();
        }
        Ok(interrupted)
    }

    /// Polls the rings of the cold ports, in case a peer could not send a wake-up.
    fn poll_cold(&mut self) {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if let Some(watched) = &mut entry.watched
                && watched.state == WatchState::Cold
                && watched.what.with(RecvHalf::has_news) == Some(true)
            {
                watched.state = WatchState::Ready;
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

/// Arms the doorbell of a warm port, and polls its ring once more: a post that did not ring is found here.
fn cool<T: Watchable>(watched: &mut Watched<T>, key: u64, ready: &mut VecDeque<u64>) {
    let check = |half: &RecvHalf| {
        half.set_polled(true);
        half.check_for_message()
    };
    if matches!(watched.what.with(check), Some(Err(TryRecvError::Empty))) {
        watched.state = WatchState::Cold;
    } else {
        watched.state = WatchState::Ready;
        ready.push_back(key);
    }
}
