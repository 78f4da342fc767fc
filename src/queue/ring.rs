//! The ring: a lock-free queue of records with one producer and one consumer, in memory that both share.
//!
//! ```text
//!        read cursor                      write cursor
//!            v                                v
//! | free ... | record | record | ... | record | 0 | free ... |
//! ```
//! Positions count bytes since the channel was made and never wrap; `position % capacity` is the offset in the ring. A
//! record is a header word and a payload padded to 8 bytes, in one piece. If the next record does not fit before the
//! end of the ring, a pad fills that end. The header is the commit word: zero until the record is complete. So a small
//! message moves in one cache line, and the swap of its header is the one point at which the consumer gets it.
//!
//! A queue that grows goes on in another ring: the last record of the full one is a link. Positions go on counting, so
//! all rings of a direction share its cursors. The producer writes at most one ring, and the consumer reads at most
//! one, which is that ring or an older one.
//!
//! Both sides keep their cursors in private memory. The producer never publishes its cursor; the consumer publishes its
//! own lazily. Every value from shared memory is read once and checked before use: the peer may be hostile.
#![forbid(unsafe_code)]

use super::backlog::{Backlog, Outside};
use super::direction::Direction;
use super::doorbell::AWAKE;
use super::record::{RECORD_HEADER_LEN, RecordHeader, RecordKind, max_payload, record_len};
use super::sync::{AtomicU64, Ordering, store_and_fence};
use crate::violation::Violation;

/// A cache line has 64 bytes.
const CACHE_LINE: u64 = 64;
/// The producer zeroes memory up to 192 bytes behind the start of the write cursor's cache line: that line and the two
/// behind it, which hold the next small record and the header that follows it.
const PREPARED: u64 = 3 * CACHE_LINE;

/// A producer that sleeps wants half of its ring, or 512 KiB if that is less, so that the two sides do not wake each
/// other for every message.
const ROOM_WANTED: u64 = 512 << 10;
/// A producer that stays in a grown ring goes back to the first one after 1024 records that would have fitted there.
const CALM: u64 = 1024;

/// A consumer passes over at most 128 records in a row that are not messages; see [`Consumer::pass`].
pub(crate) const MAX_PASSED: u32 = 128;

/// The sending end of a direction.
#[derive(Clone)]
pub(crate) struct Producer {
    direction: Direction,
    /// Where the next record starts. The header there is zero.
    write_cursor: u64,
    /// Where this ring's first record started.
    ring_start: u64,
    /// The consumer's cursor as last read.
    seen: u64,
    /// Everything before it may be overwritten: `seen`, or `ring_start` while the consumer is in an older ring.
    free_until: u64,
    /// Every word from `write_cursor` to here is zero, free, and lies in one piece.
    zero_until: u64,
    /// Number of the next record.
    sequence: u64,
    /// The most bytes that were unread at any refresh.
    high_water: u64,
    /// What waits outside the ring.
    pub(crate) backlog: Backlog,
    /// The write cursor from which on a claim in a grown ring is left to the general case; see
    /// [`is_done_with_ring`](Self::is_done_with_ring). `u64::MAX` in the first ring.
    look_at: u64,
    /// The number of the record since which what is queued would have fitted the first ring, if the producer stays in
    /// a grown ring.
    calm_since: Option<u64>,
}

/// Room for one record, which the consumer cannot see before the commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    /// The write cursor. If the record starts behind it, a pad comes first.
    cursor: u64,
    start: u64,
    /// Bytes of payload that fit.
    room: usize,
    /// `Producer::zero_until` after the commit.
    zero_until: u64,
}

impl Claim {
    /// The position of the payload.
    pub(crate) fn payload(self) -> u64 {
        self.start + RECORD_HEADER_LEN as u64
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
        let look_at = if direction.is_grown() { 0 } else { u64::MAX };
        Self {
            direction,
            write_cursor: position,
            ring_start,
            seen: other,
            free_until,
            zero_until: position,
            sequence,
            high_water: 0,
            backlog: Backlog::default(),
            look_at,
            calm_since: None,
        }
    }

    pub(crate) fn cursors(&self) -> Cursors {
        let Self { write_cursor: position, seen: other, sequence, ring_start, .. } = *self;
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

    /// Claims room for a message of `len` bytes, which the caller fills and commits, in memory that is prepared: free,
    /// zero and in one piece. `None` if it is not, or the channel does not allow so many bytes.
    #[inline(always)]
    pub(crate) fn claim_prepared(&self, len: usize) -> Option<Claim> {
        let upto = self.write_cursor + record_len(len) + RECORD_HEADER_LEN as u64;
        let prepared = len <= self.direction.max_data_len() && upto <= self.zero_until;
        prepared.then_some(Claim {
            cursor: self.write_cursor,
            start: self.write_cursor,
            room: len,
            zero_until: self.zero_until,
        })
    }

    /// As [`claim_prepared`](Self::claim_prepared), in any memory of the ring. `None` also if the queue is full, or is
    /// to be checked for whether it still needs a grown ring.
    #[inline]
    pub(crate) fn try_claim(&mut self, len: usize) -> Option<Claim> {
        let general = len > self.direction.max_data_len() || self.write_cursor >= self.look_at;
        if general { None } else { self.claim(len).ok() }
    }

    /// Claims room for a payload of `len` bytes, at most [`max_payload`] of the ring. A claim that is not committed
    /// leaves no trace.
    #[inline(always)] // the result stays in registers
    pub(crate) fn claim(&mut self, len: usize) -> Result<Claim, NoRoom> {
        debug_assert!(len <= max_payload(self.direction.capacity() as usize));
        let record = record_len(len);
        let end = self.direction.until_end(self.write_cursor);
        let pad = if record > end { end } else { 0 };
        // The record, and the zero header behind it that marks the end of the queue.
        let upto = self.write_cursor + pad + record + RECORD_HEADER_LEN as u64;
        if upto - self.free_until > self.direction.capacity() {
            self.refresh().map_err(NoRoom::Violation)?;
            if upto - self.free_until > self.direction.capacity() {
                return Err(NoRoom::Full);
            }
        }
        if upto > self.zero_until {
            // Before the payload is written: this header is often on another line than the record, whose line the
            // consumer polls. So that line is taken from the consumer once, not twice. Relaxed: published by the
            // commit.
            self.direction.header(upto - RECORD_HEADER_LEN as u64).store(0, Ordering::Relaxed);
        }
        // The claim may be written and then dropped: until a commit nothing from the cursor on counts as zero.
        let zero_until = std::mem::replace(&mut self.zero_until, self.write_cursor).max(upto);
        Ok(Claim { cursor: self.write_cursor, start: self.write_cursor + pad, room: len, zero_until })
    }

    /// Reads the consumer's cursor, which only grows, and never passes the write cursor.
    #[cold]
    fn refresh(&mut self) -> Result<(), Violation> {
        // Acquire: pairs with the release stores in `Consumer::publish` and `Consumer::announce`, so the consumer's
        // reads of what is overwritten next are over.
        let seen = self.direction.read_cursor().load(Ordering::Acquire);
        if !seen.is_multiple_of(8) || seen < self.seen || seen > self.write_cursor {
            return Err(Violation::BadCursor);
        }
        self.seen = seen;
        self.free_until = seen.max(self.ring_start);
        self.backlog.note_read(seen);
        let unread = (self.write_cursor - seen).saturating_add(self.backlog.total().bodies);
        self.high_water = self.high_water.max(unread);
        Ok(())
    }

    /// Leaves a note for the consumer before the producer sleeps for want of room for a record with `len` bytes of
    /// payload: the cursor at which it is to be woken. `None` stands for any progress.
    pub(crate) fn want(&self, len: Option<usize>) {
        let capacity = self.direction.capacity();
        let wanted = len.map_or(0, |len| {
            let (end, record) = (self.direction.until_end(self.write_cursor), record_len(len));
            let pad = if record > end { end } else { 0 };
            let room = (pad + record + RECORD_HEADER_LEN as u64).max(ROOM_WANTED.min(capacity / 2));
            (self.write_cursor + room).saturating_sub(capacity)
        });
        // Relaxed: the swap of the doorbell in `doorbell::arm` publishes it to the load in `Consumer::announce`.
        self.direction.wanted().store(wanted, Ordering::Relaxed);
    }

    /// Bytes that the consumer has not read, as far as it has published.
    pub(crate) fn unread(&mut self) -> Result<u64, Violation> {
        self.refresh()?;
        Ok(self.write_cursor - self.seen)
    }

    pub(crate) fn high_water(&self) -> u64 {
        self.high_water
    }

    /// Copies the whole payload of a claim in.
    #[inline(always)]
    pub(crate) fn fill(&self, claim: Claim, data: &[u8]) {
        if let Ok(word) = data.try_into() {
            self.direction.write_word(claim.payload(), u64::from_ne_bytes(word));
        } else {
            self.write(claim, 0, data);
        }
    }

    /// Copies payload into a claim, from `offset` on.
    #[inline(always)]
    pub(crate) fn write(&self, claim: Claim, offset: usize, from: &[u8]) {
        debug_assert!(offset <= claim.room && from.len() <= claim.room - offset, "outside the claim");
        self.direction.write(claim.payload() + offset as u64, from);
    }

    /// Makes a record visible, with the first `len` bytes of the claim's payload, followed by a full fence.
    #[inline(always)]
    pub(crate) fn commit(&mut self, claim: Claim, len: usize, kind: RecordKind, handles: u8) {
        self.commit_with(claim, len, kind, handles, store_and_fence);
    }

    /// As [`commit`](Self::commit), without the fence: the caller puts one after the last of several records. Release:
    /// pairs with the acquire load in `Consumer::poll`.
    #[inline(always)]
    pub(crate) fn commit_unfenced(&mut self, claim: Claim, len: usize, kind: RecordKind, handles: u8) {
        self.commit_with(claim, len, kind, handles, |word, value| word.store(value, Ordering::Release));
    }

    /// `store` has at least release semantics, which pair with the acquire load in `Consumer::poll`.
    #[inline(always)]
    fn commit_with(
        &mut self,
        claim: Claim,
        len: usize,
        kind: RecordKind,
        handles: u8,
        store: impl Fn(&AtomicU64, u64),
    ) {
        debug_assert!(claim.cursor == self.write_cursor && len <= claim.room);
        let Claim { cursor, start, room, zero_until } = claim;
        let sequence = self.sequence as u16;
        let header = RecordHeader { kind, len: len as u32, handles, sequence }.encode();
        let next = start + record_len(len);
        if len < room {
            // The record ends earlier than was claimed. Relaxed: published, like the payload, by the commit below.
            self.direction.header(next).store(0, Ordering::Relaxed);
        }
        if start == cursor {
            store(self.direction.header(cursor), header);
        } else {
            let len = (start - cursor - RECORD_HEADER_LEN as u64) as u32;
            let pad = RecordHeader { kind: RecordKind::Pad, len, handles: 0, sequence }.encode();
            // Relaxed: published by the commit of the pad, which is the commit of both.
            self.direction.header(start).store(header, Ordering::Relaxed);
            store(self.direction.header(cursor), pad);
        }
        self.write_cursor = next;
        self.zero_until = if len < room { next + RECORD_HEADER_LEN as u64 } else { zero_until };
        self.sequence += 1;
    }

    /// Counts what waits outside the ring with the record that was committed last.
    pub(crate) fn note_outside(&mut self, outside: Outside) {
        self.backlog.add(self.write_cursor, outside);
    }

    /// Prepares the memory of the next small record, after a record of `len` bytes of payload has been committed: its
    /// headers are zero and its cache lines are in this core's cache before there is a message to post.
    ///
    /// Behind a large record nothing is prepared, since a stream of them passes over these lines at once; nor in a
    /// grown ring, which the producer leaves soon.
    #[inline]
    pub(crate) fn prepare_next(&mut self, len: usize) {
        if len as u64 > CACHE_LINE || self.direction.is_grown() {
            return;
        }
        let end = self.write_cursor + self.direction.until_end(self.write_cursor);
        let wanted = ((self.write_cursor + PREPARED) & !(CACHE_LINE - 1)).min(end);
        if self.zero_until < wanted && wanted - self.free_until <= self.direction.capacity() {
            let mut position = self.zero_until.max(self.write_cursor);
            while position < wanted {
                // Relaxed: published by the commit of the record in front.
                self.direction.header(position).store(0, Ordering::Relaxed);
                position += RECORD_HEADER_LEN as u64;
            }
            self.zero_until = wanted;
        }
    }

    /// True if a producer in a grown ring should go back to the first one, which it can do once everything has been
    /// read. Every post in a grown ring that is not on the fast path asks.
    ///
    /// A producer that stays, for a stream or for long messages, first waits for [`CALM`] records in a row that would
    /// have fitted the first ring: a new ring costs system calls and page faults.
    pub(crate) fn is_done_with_ring(&mut self) -> Result<bool, Violation> {
        let unread = self.unread()?;
        let Some(calm_since) = self.calm_since else { return Ok(unread == 0) };
        let quarter = self.direction.first_capacity() as u64 / 4;
        // A claim beyond `look_at` is left to the general case, so one record may lie between the two.
        let last = self.write_cursor.saturating_sub(self.look_at);
        if unread > 2 * quarter || last > quarter * 3 / 2 {
            self.calm_since = Some(self.sequence);
            self.look_at = self.write_cursor + quarter;
            return Ok(false);
        }
        self.look_at = self.write_cursor;
        Ok(unread == 0 && self.sequence - calm_since >= CALM)
    }

    /// Lets the producer stay in its grown ring for as long as that is in use.
    pub(crate) fn stay(&mut self) {
        self.calm_since = Some(self.sequence);
    }

    /// Goes on in another ring, which is empty for both sides: a new one (`RecordKind::Next`), or the first one once
    /// the consumer has read everything (`RecordKind::Back`). The link takes the room that every claim leaves for one
    /// header.
    pub(crate) fn go_on_in(&mut self, ring: Direction, link: RecordKind) {
        let handles = u8::from(link == RecordKind::Next);
        let header = RecordHeader { kind: link, len: 0, handles, sequence: self.sequence as u16 }.encode();
        let next = self.write_cursor + RECORD_HEADER_LEN as u64;
        // An old header may be left here. Relaxed: published by the link.
        ring.header(next).store(0, Ordering::Relaxed);
        // Release: pairs with the acquire load in `Consumer::poll`.
        store_and_fence(self.direction.header(self.write_cursor), header);
        self.direction = ring;
        self.write_cursor = next;
        self.ring_start = next;
        self.free_until = next;
        self.zero_until = next + RECORD_HEADER_LEN as u64;
        self.sequence += 1;
        if link == RecordKind::Next {
            self.look_at = next;
        } else {
            self.look_at = u64::MAX;
            self.calm_since = None;
        }
    }
}

/// The receiving end of a direction.
#[derive(Clone)]
pub(crate) struct Consumer {
    direction: Direction,
    /// Where the next record starts.
    read_cursor: u64,
    /// The cursor as last published.
    published: u64,
    /// The cursor as last published with a fence after it; see `release`.
    announced: u64,
    /// Number of the next record.
    sequence: u64,
    /// Records in a row that are not messages, and the number of the record behind the last of them; see `pass`.
    passed: (u32, u64),
}

/// A committed record, checked. Its payload stays in place until it is released.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    start: u64,
    pub(crate) len: usize,
    pub(crate) kind: RecordKind,
    /// Descriptors that wait on the lane.
    pub(crate) handles: u8,
}

impl Record {
    /// The position of the payload.
    #[inline]
    pub(crate) fn payload(self) -> u64 {
        self.start + RECORD_HEADER_LEN as u64
    }

    /// The beginning of the record, with at most `len` bytes of payload.
    pub(crate) fn shortened(self, len: usize) -> Self {
        Self { len: len.min(self.len), ..self }
    }
}

impl Consumer {
    pub(crate) fn new(direction: Direction, cursors: Cursors) -> Self {
        let Cursors { position, other, sequence, .. } = cursors;
        Self { direction, read_cursor: position, published: other, announced: other, sequence, passed: (0, 0) }
    }

    pub(crate) fn cursors(&self) -> Cursors {
        Cursors { position: self.read_cursor, other: self.announced, sequence: self.sequence, ring_start: 0 }
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
        self.poll() != 0
    }

    /// The word at the cursor: 0 if nothing has been committed there.
    #[inline]
    pub(crate) fn poll(&self) -> u64 {
        // Acquire: pairs with the release stores of `Producer::commit_with` and `Producer::go_on_in`, so the payload is
        // complete.
        self.direction.header(self.read_cursor).load(Ordering::Acquire)
    }

    /// The next record, if `word`, which a poll has returned, is the header of plain data or of a lone buffer. `None`
    /// if it is anything else, valid or not: see [`next_record`](Self::next_record).
    #[inline(always)]
    pub(crate) fn decode_common(&self, word: u64) -> Option<Record> {
        let sequence = self.sequence as u16;
        let (kind, len) = match RecordHeader::len_of(RecordKind::Data, word, sequence) {
            Some(len) => (RecordKind::Data, len),
            None => (RecordKind::Buffer, RecordHeader::len_of(RecordKind::Buffer, word, sequence)?),
        };
        let fits =
            len <= self.direction.max_data_len() && record_len(len) <= self.direction.until_end(self.read_cursor);
        fits.then_some(Record { start: self.read_cursor, len, kind, handles: 0 })
    }

    /// The next record, if one has been committed.
    pub(crate) fn next_record(&mut self) -> Result<Option<Record>, Violation> {
        let word = self.poll();
        if word == 0 {
            self.publish();
            return Ok(None);
        }
        let mut header = self.check(word)?;
        if header.kind == RecordKind::Pad {
            let rest = self.direction.until_end(self.read_cursor);
            if rest == self.direction.capacity() || record_len(header.len as usize) != rest || header.handles != 0 {
                return Err(Violation::BadPad);
            }
            self.read_cursor += rest;
            // Relaxed: committed together with the pad, which the poll has acquired.
            header = self.check(self.direction.header(self.read_cursor).load(Ordering::Relaxed))?;
            if header.kind == RecordKind::Pad {
                return Err(Violation::BadPad);
            }
        }
        let (len, handles) = (header.len as usize, header.handles);
        if !self.may_be_here(len) || (header.kind == RecordKind::Data && len > self.direction.max_data_len()) {
            return Err(Violation::BadLength);
        }
        if handles > 0 && header.kind != RecordKind::Carrier && (header.kind, len, handles) != (RecordKind::Next, 0, 1)
        {
            return Err(Violation::BadHandles);
        }
        Ok(Some(Record { start: self.read_cursor, len, kind: header.kind, handles }))
    }

    /// True if a payload of `len` bytes can lie at the cursor.
    #[inline]
    fn may_be_here(&self, len: usize) -> bool {
        len <= max_payload(self.direction.capacity() as usize)
            && record_len(len) <= self.direction.until_end(self.read_cursor)
    }

    #[inline]
    fn check(&self, word: u64) -> Result<RecordHeader, Violation> {
        let header = RecordHeader::decode(word)?;
        if header.sequence == self.sequence as u16 { Ok(header) } else { Err(Violation::BadSequence) }
    }

    /// Publishes the cursor after a poll that returned 0, which makes the queue empty for the producer too.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.published != self.read_cursor {
            self.published = self.read_cursor;
            // Release: pairs with the acquire load in `Producer::refresh`; every read of the records is over.
            self.direction.read_cursor().store(self.read_cursor, Ordering::Release);
        }
    }

    /// Copies payload out of a record that has not been released.
    #[inline]
    pub(crate) fn read(&self, record: Record, offset: usize, into: &mut [u8]) {
        assert!(offset <= record.len && into.len() <= record.len - offset, "outside the record");
        self.direction.read(record.payload() + offset as u64, into);
    }

    /// Copies the whole payload out, to the end of `into`.
    #[inline]
    pub(crate) fn read_to_vec(&self, record: Record, into: &mut Vec<u8>) {
        if record.len == size_of::<u64>() {
            let word = self.direction.read_word(record.payload());
            return into.extend_from_slice(&word.to_ne_bytes());
        }
        self.direction.read_to_vec(record.payload(), record.len, into);
    }

    /// Writes to each cache line of a record that has been read, so that this core owns the line when the producer next
    /// writes it: a line that this core has only read costs the producer far more. It speeds up streams and large
    /// messages, and would only cost time behind a lone small message.
    #[inline]
    pub(crate) fn own_lines(&self, record: Record) {
        let end = record.start + record_len(record.len);
        let mut position = record.start;
        while position < end {
            // Relaxed: the record is the consumer's until its cursor is published, with release, behind it.
            self.direction.header(position).store(0, Ordering::Relaxed);
            position = (position + CACHE_LINE) & !(CACHE_LINE - 1);
        }
    }

    /// Goes on to the next record: the memory of this one belongs to the producer again. Returns true if the producer
    /// sleeps and must be woken.
    ///
    /// The cursor is published lazily, since each publication later costs the producer a cache line:
    /// - when 1/8 of the ring has been read since the last announcement, with a fence before the doorbell is read;
    /// - when the producer is seen to sleep, so that it goes on at once;
    /// - when a poll returns 0, so that an emptied queue is empty for the producer too. (Polling the next header here
    ///   would fetch its line from the producer, and the answer would wait for it.)
    ///
    /// The first publication alone wakes every sleeping producer: it sleeps only after it armed its doorbell, put a
    /// fence, and found no room for what the *last announced* cursor left free. If everything has been read by now,
    /// less than 2/16 of the ring is unannounced and at most 14/16 is wanted (see [`max_payload`]), so the producer has
    /// room. If not everything has been read, an announcement is still to come, and that one reads the doorbell.
    ///
    /// A producer is woken only at the cursor that it wants (see [`Producer::want`]). That is at least 1/8 of the ring
    /// behind the write cursor, so the last announcement reaches it. If the consumer stops before, where the message
    /// of the sleeper has room already, the sleeper finds that out by itself, since it sleeps in slices.
    #[inline]
    pub(crate) fn release(&mut self, record: Record) -> bool {
        self.read_cursor = record.start + record_len(record.len);
        self.sequence += 1;
        // Relaxed: a hint. The waker swaps the doorbell before it acts.
        let producer_sleeps = self.direction.space_doorbell().load(Ordering::Relaxed) != AWAKE;
        if producer_sleeps || self.read_cursor - self.announced >= self.direction.capacity() / 8 {
            return self.announce();
        }
        false
    }

    /// Publishes the cursor, followed by a fence. Returns true if the producer sleeps and must be woken.
    pub(crate) fn announce(&mut self) -> bool {
        self.announced = self.read_cursor;
        self.published = self.read_cursor;
        // Release: pairs with the acquire load in `Producer::refresh`. Fence: pairs with the one in `doorbell::arm`, so
        // that either this side sees the doorbell or the producer sees the cursor.
        store_and_fence(self.direction.read_cursor(), self.read_cursor);
        // SeqCst: pairs with the swap in `doorbell::arm`, behind which lies the store in `Producer::want`. The value is
        // the sleeper's own business: a wrong one delays nobody else.
        self.direction.space_doorbell().load(Ordering::SeqCst) != AWAKE
            && self.direction.wanted().load(Ordering::Relaxed) <= self.read_cursor
    }

    /// Lets the next release announce the cursor: what it frees lies outside the ring too.
    pub(crate) fn announce_next(&mut self) {
        self.announced = 0;
    }

    /// Counts the next record as one that is not a message, before it is passed over. An honest producer commits few of
    /// them in a row: one `Forget` for each recycled buffer, and one link in front of a message. So every search for a
    /// message ends.
    pub(crate) fn pass(&mut self) -> Result<(), Violation> {
        let (count, next) = self.passed;
        let count = if next == self.sequence { count + 1 } else { 1 };
        self.passed = (count, self.sequence + 1);
        if count > MAX_PASSED { Err(Violation::BadLink) } else { Ok(()) }
    }

    /// Follows a link into another ring. Returns true if the producer sleeps and must be woken.
    pub(crate) fn go_on_in(&mut self, ring: Direction, link: Record) -> bool {
        self.direction = ring;
        self.read_cursor = link.start + RECORD_HEADER_LEN as u64;
        self.sequence += 1;
        self.announce()
    }
}

/// The private cursors of one end of a direction: all that moves with its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cursors {
    /// Producer: where it writes next. Consumer: where it reads next.
    pub(crate) position: u64,
    /// Producer: the consumer's cursor as last read. Consumer: its own cursor as last announced.
    pub(crate) other: u64,
    /// Number of the next record.
    pub(crate) sequence: u64,
    /// Producer: where the first record of its ring started. Consumer: 0.
    pub(crate) ring_start: u64,
}

impl Cursors {
    pub(crate) const START: Self = Self { position: 0, other: 0, sequence: 0, ring_start: 0 };

    /// True if an end can have these cursors, in a ring of `capacity` bytes.
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
