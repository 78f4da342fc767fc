//! The backlog: bytes outside the ring that wait with the messages of a direction, as the producer counts them.
#![forbid(unsafe_code)]

/// The producer counts up to 16 unread messages with bytes outside the ring one by one; those behind them count
/// together, until the last of them has been read.
const ENTRIES: usize = 16;

/// Bytes outside the ring.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Outside {
    /// Bytes of plain data that lies in a buffer, since no ring can hold it.
    pub(crate) bodies: u64,
    /// Bytes of the buffers on transfer lists.
    pub(crate) buffers: u64,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// Where the records of the entry end.
    end: u64,
    outside: Outside,
}

/// What waits outside the ring, by the record that it waits with.
#[derive(Clone, Default)]
pub(crate) struct Backlog {
    /// In the order of the ring.
    entries: [Entry; ENTRIES],
    len: usize,
}

impl Backlog {
    /// Adds what waits with a record that ends at `end`.
    pub(crate) fn add(&mut self, end: u64, outside: Outside) {
        if outside == Outside::default() {
            return;
        }
        if self.len == ENTRIES {
            let Entry { outside: last, .. } = self.entries[ENTRIES - 1];
            self.entries[ENTRIES - 1] = Entry { end, outside: last.and(outside) };
        } else {
            self.entries[self.len] = Entry { end, outside };
            self.len += 1;
        }
    }

    /// Drops what the consumer has read, whose cursor is `seen`.
    pub(crate) fn note_read(&mut self, seen: u64) {
        let read = self.entries[..self.len].partition_point(|entry| entry.end <= seen);
        self.entries.copy_within(read..self.len, 0);
        self.len -= read;
    }

    /// Where the last record with something outside ends, if anything waits.
    pub(crate) fn end(&self) -> Option<u64> {
        self.entries[..self.len].last().map(|entry| entry.end)
    }

    /// Everything that waits.
    pub(crate) fn total(&self) -> Outside {
        self.entries[..self.len].iter().fold(Outside::default(), |total, entry| total.and(entry.outside))
    }
}

impl Outside {
    /// Saturating: a hostile holder chooses the numbers of a port that it sends.
    fn and(self, other: Self) -> Self {
        Self { bodies: self.bodies.saturating_add(other.bodies), buffers: self.buffers.saturating_add(other.buffers) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(bodies: u64, buffers: u64) -> Outside {
        Outside { bodies, buffers }
    }

    #[test]
    fn what_was_read_is_not_counted() {
        let mut backlog = Backlog::default();
        backlog.add(8, outside(0, 0));
        for number in 1..=3 {
            backlog.add(number * 100, outside(number, 10 * number));
        }
        assert_eq!(backlog.total(), outside(6, 60));
        backlog.note_read(99);
        assert_eq!(backlog.total(), outside(6, 60));
        backlog.note_read(200);
        assert_eq!(backlog.total(), outside(3, 30));
        backlog.note_read(1000);
        assert_eq!(backlog.total(), Outside::default());
    }

    #[test]
    fn a_long_backlog_counts_never_too_little() {
        let mut backlog = Backlog::default();
        for number in 1..=100 {
            backlog.add(number * 8, outside(1, 2));
        }
        assert_eq!(backlog.total(), outside(100, 200));
        backlog.note_read(15 * 8);
        assert_eq!(backlog.total(), outside(85, 170));
        backlog.note_read(99 * 8);
        assert_eq!(backlog.total(), outside(85, 170));
        backlog.note_read(100 * 8);
        assert_eq!(backlog.total(), Outside::default());
    }

    #[test]
    fn numbers_of_a_hostile_holder_do_not_overflow() {
        let mut backlog = Backlog::default();
        backlog.add(8, outside(u64::MAX, u64::MAX));
        backlog.add(16, outside(1, 1));
        assert_eq!(backlog.total(), outside(u64::MAX, u64::MAX));
    }
}
