//! The lane: packets that make an end readable until it is drained, the rings in transit, and the hang-up.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};

use crate::check::note;
use crate::queue::direction::Direction;
use crate::violation::Violation;

/// What is left on a lane after it was drained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drained {
    Empty,
    Handles,
}

/// The half that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Half {
    Receiver,
    Sender,
}

/// What ended a sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code)] // neither a bell nor a signal ends one here
pub(crate) enum Woken {
    Bell,
    Signal,
    Other,
}

/// The bell of an interrupter: there is none.
pub(crate) enum Bell {}

/// One end of a lane.
pub(crate) struct Lane {
    ours: Arc<Inbox>,
    theirs: Arc<Inbox>,
}

struct Inbox {
    /// Rings that directions grew into, by the number of the link. Here they do not make the lane readable, so that no
    /// receiver loops while the link is still uncommitted.
    rings: Mutex<Vec<(u64, Direction)>>,
    state: Mutex<InboxState>,
    readable: Condvar,
}

#[derive(Clone, Copy, Default)]
struct InboxState {
    packets: u32,
    hung_up: bool,
    /// Packets to come that will be refused, as by a kernel without memory.
    refuses: u32,
}

impl Lane {
    pub(crate) fn pair() -> (Self, Self) {
        let inbox = || {
            Arc::new(Inbox {
                rings: Mutex::new(Vec::new()),
                state: Mutex::new(InboxState::default()),
                readable: Condvar::new(),
            })
        };
        let (a, b) = (inbox(), inbox());
        (Self { ours: Arc::clone(&a), theirs: Arc::clone(&b) }, Self { ours: b, theirs: a })
    }

    /// Wakes a peer that sleeps in poll(2). True if the lane holds a packet for it.
    pub(crate) fn wake(&self) -> bool {
        let sent = self.theirs.change(|state| {
            if state.hung_up || state.refuses > 0 {
                state.refuses = state.refuses.saturating_sub(1);
                return false;
            }
            state.packets += 1;
            true
        });
        if !sent {
            note(|tally| tally.unsent += 1);
        }
        sent
    }

    /// Sends the ring of the link with this number.
    pub(crate) fn send_ring(&self, sequence: u64, ring: &Direction) {
        self.theirs.rings.lock().unwrap().push((sequence, ring.clone()));
    }

    /// Takes the ring of the link with this number off the lane.
    pub(crate) fn take_ring(&self, sequence: u64) -> Option<Direction> {
        let mut rings = self.ours.rings.lock().unwrap();
        let index = rings.iter().position(|(number, _)| *number == sequence)?;
        Some(rings.swap_remove(index).1)
    }

    /// Refuses the next `packets` packets to this end.
    pub(crate) fn refuse(&self, packets: u32) {
        self.ours.change(|state| state.refuses = packets);
    }

    pub(crate) fn drain(&self) -> Result<Drained, Violation> {
        self.ours.change(|state| state.packets = 0);
        Ok(Drained::Empty)
    }

    pub(crate) fn hung_up(&self) -> bool {
        self.ours.state.lock().unwrap().hung_up
    }

    /// Sleeps until the lane is readable or hung up. No timeout and no signal ends the sleep.
    pub(crate) fn sleep(&self, _timeout: Duration, _bell: Option<&Bell>) -> Woken {
        let mut state = self.ours.state.lock().unwrap();
        while state.packets == 0 && !state.hung_up {
            note(|tally| tally.lane_sleeps += 1);
            state = self.ours.readable.wait(state).unwrap();
        }
        Woken::Other
    }

    /// Hangs up for both sides. What is queued can still be read.
    pub(crate) fn hang_up(&self) {
        for inbox in [&self.theirs, &self.ours] {
            inbox.change(|state| state.hung_up = true);
        }
    }
}

impl Inbox {
    fn change<T>(&self, change: impl FnOnce(&mut InboxState) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        let result = change(&mut state);
        drop(state);
        self.readable.notify_all();
        result
    }
}
