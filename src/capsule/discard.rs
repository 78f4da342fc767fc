//! Discarding: dropping what is queued for an end that nothing reads any more.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Arrival;
use super::arrive::{BodyPlace, Undeliverable, arrive};
use crate::end::shortage::DescriptorShortage;
use crate::end::{End, Parts, growth};
use crate::error::Rejection;
use crate::queue::record::RecordKind;
use crate::queue::ring::Consumer;
use crate::sys::Errno;

/// One discard closes at most 4096 ports: a peer could otherwise nest new ports as fast as they are closed.
const MAX_PORTS: usize = 4096;
/// One discard passes over at most 2^18 records.
const MAX_RECORDS: u64 = 1 << 18;
/// A descriptor that came with a record counts as 16 units of work, and every record as one.
const WORK_PER_HANDLE: u64 = 16;
/// The clock is read once in 1024 units of work.
const WORK_PER_CLOCK: u64 = 1024;
/// The clock of a discard starts after 2^17 units of work, such as 3971 messages with a port each: no pause of the
/// thread can spoil the discard of a smaller queue.
const FREE_WORK: u64 = 1 << 17;
/// A discard ends 50 ms after its clock has started.
const MAX_TIME: Duration = Duration::from_millis(50);
/// The ports of a refused message are discarded within 5 ms, and the clock starts after 1024 units of work: a receiver
/// waits, which may have a deadline.
const MAX_TIME_REFUSED: Duration = Duration::from_millis(5);

/// What one discard may still cost, all nested queues together.
///
/// A peer decides how many records a queue has and how deep ports are nested in it: a ring of 512 KiB with 65 536 empty
/// records never ends, since a header has 16 bits of the record's number. When the budget is used up, the rest is left
/// to the kernel, which closes it with the descriptors. The peer of a port in that rest then sees `PeerDied` instead of
/// `Closed`.
struct Budget {
    records: u64,
    ports: usize,
    /// Units of work until the clock is read.
    until_clock: u64,
    time: Duration,
    /// Set when the clock is first read.
    end: Option<Instant>,
}

impl Budget {
    /// For the queues of what a holder drops or closes.
    fn new() -> Self {
        Self::with(FREE_WORK, MAX_TIME)
    }

    /// For the ports of a message that its receiver refuses.
    fn of_refused_message() -> Self {
        Self::with(WORK_PER_CLOCK, MAX_TIME_REFUSED)
    }

    fn with(until_clock: u64, time: Duration) -> Self {
        Self { records: MAX_RECORDS, ports: MAX_PORTS, until_clock, time, end: None }
    }

    /// Accounts for `records` of which the last has `handles`. False if the budget is used up.
    fn spend(&mut self, records: u64, handles: u8) -> bool {
        self.records = self.records.saturating_sub(records);
        let work = records + u64::from(handles) * WORK_PER_HANDLE;
        if let Some(left) = self.until_clock.checked_sub(work) {
            self.until_clock = left;
        } else {
            self.until_clock = WORK_PER_CLOCK;
            let now = Instant::now();
            if now >= *self.end.get_or_insert(now + self.time) {
                self.records = 0;
            }
        }
        self.records > 0
    }

    /// Accounts for ports that are closed. False if the budget is used up.
    fn spend_ports(&mut self, ports: usize) -> bool {
        let left = self.ports.checked_sub(ports);
        self.ports = left.unwrap_or(0);
        left.is_some()
    }
}

thread_local! {
    /// The budget that the discards of this thread share, while [`sharing`] runs.
    static SHARED: Cell<Option<Budget>> = const { Cell::new(None) };
}

/// Runs `work`, whose discards share one budget, unless they share one already.
pub(crate) fn sharing<R>(work: impl FnOnce() -> R) -> R {
    share(Budget::new(), work)
}

/// As [`sharing`], for a message that its receiver refuses, in 5 ms: the receiver waits, and may have a deadline.
pub(crate) fn refusing<R>(work: impl FnOnce() -> R) -> R {
    share(Budget::of_refused_message(), work)
}

fn share<R>(budget: Budget, work: impl FnOnce() -> R) -> R {
    /// Ends the sharing, after a panic too.
    struct Sharing {
        is_outer: bool,
    }
    impl Drop for Sharing {
        fn drop(&mut self) {
            if self.is_outer {
                let _ = SHARED.try_with(Cell::take);
            }
        }
    }
    let enter = |shared: &Cell<Option<Budget>>| {
        let outer = shared.take();
        let is_outer = outer.is_none();
        shared.set(outer.or(Some(budget)));
        Sharing { is_outer }
    };
    let _sharing = SHARED.try_with(enter); // fails in a thread that is ending, where each discard has its own budget
    work()
}

/// Calls `work` with the budget that this thread shares, or with one of its own.
fn with_budget(work: impl FnOnce(&mut Budget)) {
    match SHARED.try_with(Cell::take).ok().flatten() {
        Some(mut budget) => {
            work(&mut budget);
            let _ = SHARED.try_with(|shared| shared.set(Some(budget)));
        }
        None => work(&mut Budget::new()),
    }
}

/// Drops what is queued for an end. Ports in the queue are closed and their queues dropped in turn, those of one
/// message before the next message, so few descriptors are needed at a time. A list of work stands in for recursion,
/// since a peer decides how deep ports are nested.
pub(crate) fn discard(end: &Arc<End>, consumer: &mut Consumer) {
    with_budget(|budget| discard_queue(end, consumer, budget));
    end.discard_lane();
    // A wake-up for the sending half of this process may have been among the packets.
    end.wake_own_producer();
    // Dropped messages may have put buffers into the cache.
    end.buffers().cache().give_up();
}

/// As [`discard`], for an end that only the handle being dropped holds: what is left on the lane goes with the socket.
pub(crate) fn discard_last(end: &End, consumer: &mut Consumer) {
    // Reading a ring that was never written to would cost a page of memory.
    if consumer.sequence() > 0 || !end.segment().is_untouched(end.side().incoming()) {
        with_budget(|budget| discard_queue(end, consumer, budget));
    }
}

fn discard_queue(end: &End, consumer: &mut Consumer, budget: &mut Budget) {
    let mut walk = Walk::new(consumer);
    let mut nested: Vec<(Parts, Walk)> = Vec::new();
    loop {
        let arrival = match nested.last_mut() {
            Some((parts, walk)) => discard_message_with_ports(&parts.end, &mut parts.consumer, walk, budget),
            None => discard_message_with_ports(end, consumer, &mut walk, budget),
        };
        let ports = arrival.ports();
        if ports == 0 && nested.pop().is_none() {
            return;
        }
        if !budget.spend_ports(ports) || nested.try_reserve(ports).is_err() {
            return; // the kernel closes what is left in `arrival` and `nested`
        }
        for port in arrival.into_ports() {
            port.end.close();
            let walk = Walk::new(&port.consumer);
            nested.push((port, walk));
        }
    }
}

/// How far the walk through one queue may go: over as many bytes as the rings of the queue hold, which are all that can
/// have been unread. A peer that posts as fast as this end drops cannot keep it here.
pub(crate) struct Walk {
    /// The position at which the walk ends.
    end: u64,
    /// Bytes of the largest ring so far. A peer that sends this end back and forth between rings gains nothing.
    largest: u64,
}

impl Walk {
    pub(crate) fn new(consumer: &Consumer) -> Self {
        let capacity = consumer.direction().capacity();
        Self { end: consumer.cursors().position + capacity, largest: capacity }
    }

    /// True if the record at the consumer's cursor belongs to the walk.
    pub(crate) fn includes_next(&mut self, consumer: &Consumer) -> bool {
        let (position, capacity) = (consumer.cursors().position, consumer.direction().capacity());
        if capacity > self.largest {
            *self = Self { end: position + capacity, largest: capacity };
        }
        position < self.end
    }
}

/// Drops messages up to the first that carries ports, and returns what came with it; nothing at the end of the queue,
/// of the walk or of the budget.
fn discard_message_with_ports(end: &End, consumer: &mut Consumer, walk: &mut Walk, budget: &mut Budget) -> Arrival {
    let mut ports = Arrival::default();
    let mut payload = Vec::new();
    let mut first = consumer.sequence();
    while ports.ports() == 0
        && let Ok(Some(record)) = growth::next_message(end, consumer)
        && walk.includes_next(consumer)
        && budget.spend(consumer.sequence() + 1 - first, record.handles)
    {
        first = consumer.sequence() + 1;
        if record.kind != RecordKind::Data {
            payload.clear();
            let arrived = match payload.try_reserve(record.len) {
                Ok(()) => {
                    consumer.read_to_vec(record, &mut payload);
                    arrive(
                        end,
                        consumer,
                        record,
                        &mut payload,
                        BodyPlace::Nowhere,
                        &mut DescriptorShortage::default(),
                        |_| Ok(()),
                    )
                }
                Err(_) => Err(Rejection::Shortage(Errno::ENOMEM)),
            };
            match arrived {
                Ok(arrival) => ports = arrival,
                Err(Rejection::Invalid(Undeliverable::Violation(_))) => break,
                // Without descriptors to spare this process cannot close them itself. They stay on the lane, and are
                // closed with what is left there.
                Err(Rejection::Shortage(_)) if record.handles > 0 => break,
                Err(Rejection::Shortage(_) | Rejection::Invalid(Undeliverable::Message(_))) => {}
            }
        }
        if consumer.release(record) {
            end.wake_peer_producer();
        }
    }
    if ports.ports() == 0 && consumer.announce() {
        end.wake_peer_producer();
    }
    ports
}
