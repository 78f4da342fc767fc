//! The ring: a lock-free queue of records with one producer and one consumer, in memory that both share.
//!
//! ```text
//!        read cursor                      write cursor
//!            v                                v
//! | free ... | record | record | ... | record | 0 | free ... |
//! ```
//! Positions count bytes since the channel was made and never wrap; `position % capacity` is the place in the ring.
//! A record is a header word and a payload padded to 8 bytes, in one piece; a pad fills the end of the ring when the
//! next record does not fit there. The header is the commit word: zero until the record is complete. So a small
//! message moves in one cache line, and there is one point before which it never existed and after which the
//! consumer gets it.
//!
//! A queue that grows goes on in another ring: the last record of this one is a link. Positions go on counting, so all
//! rings of a direction share its cursors, and there is at most one ring that the producer writes and one, the same or
//! an older one, that the consumer reads.
//!
//! Both sides keep their cursors in private memory. The producer never publishes its own; the consumer publishes
//! lazily. Whatever is read from shared memory is read once and checked before use: the peer may be hostile.
#![forbid(unsafe_code)]

use super::direction::Direction;
use super::doorbell::AWAKE;
use super::record::{HEADER, Header, Kind, max_payload, record_len};
use super::sync::{AtomicU64, Ordering, store_and_fence};
use crate::violation::Violation;

/// Bytes of a cache line.
const LINE: u64 = 64;
/// How far ahead of the write cursor memory is zeroed: the line that the cursor is on, and the two behind it. With one line
/// less a round trip of 64 bytes takes 118 ns instead of 108; with one more it gains nothing.
const AHEAD: u64 = 3 * LINE;

/// Most records in a row that are no messages; see `Consumer::pass`.
pub(crate) const MOST_PASSED: u32 = 128;

/// The sending end of a direction.
#[derive(Clone)]
pub(crate) struct Producer {
    direction: Direction,
    /// Where the next record starts. The header there is zero.
    write: u64,
    /// Where this ring's first record started.
    ring_start: u64,
    /// The consumer's cursor as last seen.
    seen: u64,
    /// Everything before it may be overwritten: `seen`, or `ring_start` while the consumer is in an older ring.
    free_until: u64,
    /// Every word from `write` to here is zero, may be written, and lies in one piece.
    zero_until: u64,
    /// Number of the next record.
    sequence: u64,
    /// The most that was unread, of what was seen.
    high_water: u64,
}

/// Room for one record, not yet visible to anyone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    start: u64,
    room: usize,
    /// `Producer::zero_until`, if the record is committed.
    zero_until: u64,
}

impl Slot {
    /// The position of the payload.
    pub(crate) fn payload(self) -> u64 {
        self.start + HEADER as u64
    }
}

/// Why there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoRoom {
    Full,
    Violation(Violation),
}

impl Producer {
    pub(crate) fn new(direction: Direction, cursors: Cursors) -> Self {
        let Cursors { position, other, sequence, ring_start } = cursors;
        let free_until = other.max(ring_start);
        Self {
            direction,
            write: position,
            ring_start,
            seen: other,
            free_until,
            zero_until: position,
            sequence,
            high_water: 0,
        }
    }

    pub(crate) fn cursors(&self) -> Cursors {
        let Self { write: position, seen: other, sequence, ring_start, .. } = *self;
        Cursors { position, other, sequence, ring_start }
    }

    pub(crate) fn direction(&self) -> &Direction {
        &self.direction
    }

    /// Number of the record that will be committed next.
    #[inline]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Copies a message of plain data in and commits it, with a full fence behind it. False if there is no room in the
    /// first ring; then nothing has happened.
    #[inline(always)]
    pub(crate) fn put(&mut self, data: &[u8]) -> bool {
        self.put_with(data, store_and_fence)
    }

    /// The same without the fence, for one of several messages: the caller puts one behind the last.
    #[inline(always)]
    pub(crate) fn put_unfenced(&mut self, data: &[u8]) -> bool {
        self.put_with(data, store_release)
    }

    #[inline(always)]
    fn put_with(&mut self, data: &[u8], store: impl Fn(&AtomicU64, u64)) -> bool {
        if data.len() > self.direction.max_data_len() {
            return false;
        }
        let next = self.write + record_len(data.len());
        if next + HEADER as u64 <= self.zero_until {
            // Nothing has to be done first. What follows does the same as the general way, without what it would ask.
            let payload = self.write + HEADER as u64;
            if let Ok(word) = data.try_into() {
                self.direction.write_word(payload, u64::from_ne_bytes(word));
            } else {
                self.direction.write(payload, data);
            }
            let len = data.len() as u32;
            let header = Header { kind: Kind::Data, len, handles: 0, sequence: self.sequence as u16 }.encode();
            // Release, with the acquire in `Consumer::look`.
            store(self.direction.header(self.write), header);
            self.write = next;
            self.sequence += 1;
            return true;
        }
        self.put_anywhere(data, store)
    }

    #[inline(never)] // so that the way of a small message stays a short one
    fn put_anywhere(&mut self, data: &[u8], store: impl Fn(&AtomicU64, u64)) -> bool {
        if self.direction.is_grown() {
            return false;
        }
        let Ok(slot) = self.reserve(data.len()) else { return false };
        self.write(slot, 0, data);
        self.commit_with(slot, data.len(), Kind::Data, 0, store);
        true
    }

    /// Finds room for a payload of `len`, at most [`max_payload`] of the direction's first ring, bytes.
    #[inline(always)] // called by the one path that counts, and results go by register
    pub(crate) fn reserve(&mut self, len: usize) -> Result<Slot, NoRoom> {
        debug_assert!(len <= max_payload(self.direction.first_capacity()));
        let record = record_len(len);
        let end = self.direction.until_end(self.write);
        let pad = if record > end { end } else { 0 };
        // One header more than the record: the zero behind it, which says that nothing follows yet.
        let upto = self.write + pad + record + HEADER as u64;
        if upto - self.free_until > self.direction.capacity() {
            self.refresh().map_err(NoRoom::Violation)?;
            if upto - self.free_until > self.direction.capacity() {
                return Err(NoRoom::Full);
            }
        }
        if upto > self.zero_until {
            // The header behind the record first, which is often on another cache line: the line of the record itself,
            // on which the consumer looks all the time, is then taken from it once and not twice.
            // Relaxed: published by the commit.
            self.direction.header(upto - HEADER as u64).store(0, Ordering::Relaxed);
        }
        // A record that is written and not committed leaves anything behind.
        let zero_until = std::mem::replace(&mut self.zero_until, self.write).max(upto);
        Ok(Slot { start: self.write + pad, room: len, zero_until })
    }

    /// Looks at the consumer's cursor. It only ever grows, and never past what has been written.
    #[cold]
    fn refresh(&mut self) -> Result<(), Violation> {
        // Acquire, with the stores of the cursor in `Consumer`: its reads of what we overwrite next are over.
        let seen = self.direction.read_cursor().load(Ordering::Acquire);
        if !seen.is_multiple_of(8) || seen < self.seen || seen > self.write {
            return Err(Violation::BadCursor);
        }
        self.seen = seen;
        self.free_until = seen.max(self.ring_start);
        self.high_water = self.high_water.max(self.write - seen);
        Ok(())
    }

    /// Bytes that the consumer has not read yet, as far as it has told.
    pub(crate) fn unread(&mut self) -> Result<u64, Violation> {
        self.refresh()?;
        Ok(self.write - self.seen)
    }

    pub(crate) fn high_water(&self) -> u64 {
        self.high_water
    }

    /// Goes on in another ring, which is empty for both sides: a new one (`Kind::Next`), or the first one once the
    /// consumer has read everything (`Kind::Back`). The link takes the room that is always kept for one header.
    pub(crate) fn go_on_in(&mut self, ring: Direction, link: Kind) {
        let handles = u8::from(link == Kind::Next);
        let header = Header { kind: link, len: 0, handles, sequence: self.sequence as u16 }.encode();
        let next = self.write + HEADER as u64;
        // Relaxed: published by the link. A header of long ago may be left here.
        ring.header(next).store(0, Ordering::Relaxed);
        // Release, with the acquire in `Consumer::look`.
        store_and_fence(self.direction.header(self.write), header);
        self.direction = ring;
        self.write = next;
        self.ring_start = next;
        self.free_until = next;
        self.zero_until = next + HEADER as u64;
        self.sequence += 1;
    }

    /// Copies payload into a reserved record.
    #[inline(always)]
    pub(crate) fn write(&self, slot: Slot, offset: usize, from: &[u8]) {
        debug_assert!(offset <= slot.room && from.len() <= slot.room - offset, "outside the reserved record");
        self.direction.write(slot.payload() + offset as u64, from);
    }

    /// Makes the record visible, with the first `len` bytes of its payload, and puts a full fence behind it. A slot
    /// that is not committed has left no trace.
    #[inline(always)]
    pub(crate) fn commit(&mut self, slot: Slot, len: usize, kind: Kind, handles: u8) {
        self.commit_with(slot, len, kind, handles, store_and_fence);
    }

    #[inline(always)]
    fn commit_with(&mut self, slot: Slot, len: usize, kind: Kind, handles: u8, store: impl Fn(&AtomicU64, u64)) {
        debug_assert!(len <= slot.room);
        let sequence = self.sequence as u16;
        let header = Header { kind, len: len as u32, handles, sequence }.encode();
        let next = slot.start + record_len(len);
        if len < slot.room {
            // The record ends earlier than was reserved. Relaxed: published, like the payload, by the commit below.
            self.direction.header(next).store(0, Ordering::Relaxed);
        }
        // The release in both commits pairs with the acquire in `Consumer::look`.
        if slot.start == self.write {
            store(self.direction.header(self.write), header);
        } else {
            let len = (slot.start - self.write - HEADER as u64) as u32;
            let pad = Header { kind: Kind::Pad, len, handles: 0, sequence }.encode();
            // Relaxed: the pad's commit publishes both.
            self.direction.header(slot.start).store(header, Ordering::Relaxed);
            store(self.direction.header(self.write), pad);
        }
        self.write = next;
        self.zero_until = if len < slot.room { next + HEADER as u64 } else { slot.zero_until };
        self.sequence += 1;
    }

    /// Zeroes the memory of the next small record in advance, after the last one, of `len` bytes, has gone out: its
    /// headers are then ready, and its cache lines are ours, before there is a message to be sent. It takes 20 % off a
    /// round trip of 64 bytes; with large records, which pass over these lines at once, it would cost 20 % of a stream.
    /// In a ring that the queue grew into, which it is to leave soon, nothing is prepared.
    #[inline]
    pub(crate) fn clear_ahead(&mut self, len: usize) {
        if len as u64 > LINE || self.direction.is_grown() {
            return;
        }
        let end = self.write + self.direction.until_end(self.write);
        let wanted = ((self.write + AHEAD) & !(LINE - 1)).min(end);
        if self.zero_until < wanted && wanted - self.free_until <= self.direction.capacity() {
            let mut place = self.zero_until.max(self.write);
            while place < wanted {
                // Relaxed: published by the commit of the record before.
                self.direction.header(place).store(0, Ordering::Relaxed);
                place += HEADER as u64;
            }
            self.zero_until = wanted;
        }
    }
}

/// The receiving end of a direction.
#[derive(Clone)]
pub(crate) struct Consumer {
    direction: Direction,
    /// Where the next record starts.
    read: u64,
    /// The cursor as the producer may see it.
    published: u64,
    /// The cursor as last published with a fence behind it; see `release`.
    announced: u64,
    /// Number of the next record.
    sequence: u64,
    /// Records that are no messages, in a row, and the number of the record behind them; see `pass`.
    passed: (u32, u64),
}

/// A committed record, checked. Its payload stays in place until it is released.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    start: u64,
    pub(crate) len: usize,
    pub(crate) kind: Kind,
    pub(crate) handles: usize,
}

impl Record {
    /// The beginning of it, of `len` bytes at most.
    pub(crate) fn shortened(self, len: usize) -> Self {
        Self { len: len.min(self.len), ..self }
    }
}

impl Consumer {
    pub(crate) fn new(direction: Direction, cursors: Cursors) -> Self {
        let Cursors { position, other, sequence, .. } = cursors;
        Self { direction, read: position, published: other, announced: other, sequence, passed: (0, 0) }
    }

    pub(crate) fn cursors(&self) -> Cursors {
        Cursors { position: self.read, other: self.announced, sequence: self.sequence, ring_start: 0 }
    }

    pub(crate) fn direction(&self) -> &Direction {
        &self.direction
    }

    /// Number of the record that comes next.
    #[inline]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// True if something has been committed at the cursor, whatever it is.
    #[inline]
    pub(crate) fn has_record(&self) -> bool {
        self.look() != 0
    }

    /// The word at the cursor: 0 if nothing has been committed there.
    #[inline]
    pub(crate) fn look(&self) -> u64 {
        // Acquire, with the commits in `Producer`: the payload is complete.
        self.direction.header(self.read).load(Ordering::Acquire)
    }

    /// The next record, if `word`, which a look has found, says that it is a message of this kind, `Data` or `Buffer`.
    #[inline(always)]
    pub(crate) fn straight(&self, word: u64, kind: Kind) -> Option<Record> {
        let len = Header::len_of(kind, word, self.sequence as u16)?;
        let fits = len <= self.direction.max_data_len() && record_len(len) <= self.direction.until_end(self.read);
        fits.then_some(Record { start: self.read, len, kind, handles: 0 })
    }

    /// The next record, if one has been committed.
    pub(crate) fn peek(&mut self) -> Result<Option<Record>, Violation> {
        let word = self.look();
        if word == 0 {
            self.publish();
            return Ok(None);
        }
        let mut header = self.check(word)?;
        if header.kind == Kind::Pad {
            let rest = self.direction.until_end(self.read);
            if rest == self.direction.capacity() || record_len(header.len as usize) != rest || header.handles != 0 {
                return Err(Violation::BadPad);
            }
            self.read += rest;
            // Relaxed: committed together with the pad.
            header = self.check(self.direction.header(self.read).load(Ordering::Relaxed))?;
            if header.kind == Kind::Pad {
                return Err(Violation::BadPad);
            }
        }
        let (len, handles) = (header.len as usize, usize::from(header.handles));
        if !self.may_be_here(len) || (header.kind == Kind::Data && len > self.direction.max_data_len()) {
            return Err(Violation::BadLength);
        }
        if handles > 0 && header.kind != Kind::Carrier && (header.kind, len, handles) != (Kind::Next, 0, 1) {
            return Err(Violation::BadHandles);
        }
        Ok(Some(Record { start: self.read, len, kind: header.kind, handles }))
    }

    /// After a look that found nothing: makes the queue empty for the producer too.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.published != self.read {
            self.published = self.read;
            // Release, with the acquire in `Producer::refresh`.
            self.direction.read_cursor().store(self.read, Ordering::Release);
        }
    }

    /// True if a payload of `len` may be at the cursor.
    #[inline]
    fn may_be_here(&self, len: usize) -> bool {
        len <= max_payload(self.direction.first_capacity()) && record_len(len) <= self.direction.until_end(self.read)
    }

    #[inline]
    fn check(&self, word: u64) -> Result<Header, Violation> {
        let header = Header::decode(word)?;
        if header.sequence == self.sequence as u16 { Ok(header) } else { Err(Violation::BadSequence) }
    }

    /// Copies payload out of a record that has not been released.
    #[inline]
    pub(crate) fn read(&self, record: Record, offset: usize, into: &mut [u8]) {
        assert!(offset <= record.len && into.len() <= record.len - offset, "outside the record");
        self.direction.read(payload(record) + offset as u64, into);
    }

    /// Copies the whole payload out, to the end of `into`.
    #[inline]
    pub(crate) fn read_to_vec(&self, record: Record, into: &mut Vec<u8>) {
        if record.len == size_of::<u64>() {
            let word = self.direction.read_word(payload(record));
            return into.extend_from_slice(&word.to_ne_bytes());
        }
        self.direction.read_to_vec(payload(record), record.len, into);
    }

    /// Writes to each cache line of a record that has been read, so that the line is ours alone when the producer comes to
    /// write it again: to take it from one who has only read it costs the producer far more. Makes streams two to five times
    /// as fast, and a round trip of 4 to 16 KiB twice; a small message that is alone would pay for nothing.
    #[inline]
    pub(crate) fn take_lines(&self, record: Record) {
        let end = record.start + record_len(record.len);
        let mut place = record.start;
        while place < end {
            // Relaxed: the record is ours until the cursor is published, by release, behind it.
            self.direction.header(place).store(0, Ordering::Relaxed);
            place = (place + LINE) & !(LINE - 1);
        }
    }

    /// Goes on to the next record. The memory of this one belongs to the producer again.
    ///
    /// Returns true if the producer sleeps and must be woken.
    ///
    /// The cursor is published lazily, since each time costs the producer a cache line later:
    /// - when 1/8 of the ring has been read since the last announcement, with a fence before the look at the doorbell;
    /// - when the producer is seen to sleep, so that it goes on at once;
    /// - when `peek` finds nothing, so that a queue that was emptied is empty for the producer too. (To look ahead for
    ///   that here would fetch the next line from the producer, and the answer would wait for it.)
    ///
    /// The first alone keeps a sleeping producer from being forgotten: it sleeps only after it rang for itself, put a
    /// fence, and found no room for what the *last announced* cursor left free. If by now everything has been read,
    /// less than 2/16 of the ring is unannounced, at most 14/16 is wanted (see [`max_payload`]), so it has room.
    /// If not everything has been read, an announcement is still to come, and that one sees the doorbell.
    #[inline]
    pub(crate) fn release(&mut self, record: Record) -> bool {
        self.read = record.start + record_len(record.len);
        self.sequence += 1;
        // Relaxed: only a hint, whoever acts on it swaps the doorbell.
        let producer_sleeps = self.direction.space().load(Ordering::Relaxed) != AWAKE;
        if producer_sleeps || self.read - self.announced >= self.direction.capacity() / 8 {
            return self.announce();
        }
        false
    }

    /// Notes that the next record is no message. An honest producer commits few of those in a row: for each recycled
    /// buffer it has its peer forget one, and it goes on in another ring to commit a message there. So whoever looks for
    /// a message comes to an end.
    pub(crate) fn pass(&mut self) -> Result<(), Violation> {
        let (count, next) = self.passed;
        let count = if next == self.sequence { count + 1 } else { 1 };
        self.passed = (count, self.sequence + 1);
        if count > MOST_PASSED { Err(Violation::BadLink) } else { Ok(()) }
    }

    /// Follows a link into another ring. Returns true if the producer sleeps and must be woken.
    pub(crate) fn go_on_in(&mut self, ring: Direction, link: Record) -> bool {
        self.direction = ring;
        self.read = link.start + HEADER as u64;
        self.sequence += 1;
        self.announce()
    }

    /// Publishes the cursor with a fence behind it. Returns true if the producer sleeps and must be woken.
    pub(crate) fn announce(&mut self) -> bool {
        self.announced = self.read;
        self.published = self.read;
        // Release, with the acquire in `Producer::refresh`; fence, with the one in `doorbell::arm`.
        store_and_fence(self.direction.read_cursor(), self.read);
        self.direction.space().load(Ordering::SeqCst) != AWAKE
    }
}

#[inline(always)]
fn store_release(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

/// The position of a record's payload.
#[inline]
pub(crate) fn payload(record: Record) -> u64 {
    record.start + HEADER as u64
}

/// The private cursors of one end of a direction: all that must move when its port moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cursors {
    /// Producer: where it writes next. Consumer: where it reads next.
    pub(crate) position: u64,
    /// Producer: the consumer's cursor as last seen. Consumer: its own as last announced.
    pub(crate) other: u64,
    /// Number of the next record.
    pub(crate) sequence: u64,
    /// Producer: where the first record of its ring started. Consumer: 0.
    pub(crate) ring_start: u64,
}

impl Cursors {
    pub(crate) const START: Self = Self { position: 0, other: 0, sequence: 0, ring_start: 0 };

    /// True if an end can stand here, in a ring of `capacity` bytes.
    pub(crate) fn plausible(self, capacity: u64) -> bool {
        self.position.is_multiple_of(8)
            && self.other.is_multiple_of(8)
            && self.ring_start.is_multiple_of(8)
            && self.other <= self.position
            && self.ring_start <= self.position
            && self.position - self.other.max(self.ring_start) <= capacity
            // Far from where counting on would overflow.
            && self.position < u64::MAX / 2
            && self.sequence < u64::MAX / 2
    }
}
