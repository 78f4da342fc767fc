//! A segment: the memory file that holds the two rings of a channel, and the file of a ring that a queue grew into. No
//! process owns them.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytemuck::Zeroable;

use crate::direction::{Direction, GrownRing};
use crate::error::BadSegment;
use crate::layout::{
    HEADER_LEN, LARGEST_MAX_CAPACITY, MAX_CAPACITY, MIN_CAPACITY, RING_MAGIC, RingConstants, SEGMENT_MAGIC,
    SegmentConstants, VERSION, next_capacity, segment_len,
};
use crate::sys::Errno;
use crate::sys::mapping::Mapping;
use crate::sys::memfd::{self, FileId};
use crate::sys::socket::MAX_DESCRIPTORS;

/// A mapped segment. Clones share the mapping and the descriptor.
#[derive(Clone)]
pub(crate) struct Segment {
    file: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
    capacity: usize,
    max_capacity: usize,
    max_handles: usize,
    id: FileId,
}

/// Why a descriptor was not adopted as a segment.
#[derive(Debug)]
pub(crate) enum NotAdopted {
    Bad(BadSegment),
    Exhausted(Errno),
}

impl Segment {
    /// A new segment with two empty rings of `capacity` bytes, each of which may grow until it and its successors hold
    /// `max_capacity`; sealed before anybody else can see it.
    pub(crate) fn create(capacity: usize, max_capacity: usize, max_handles: usize) -> Result<Self, Errno> {
        let len = segment_len(capacity);
        let file = memfd::create(c"messageport", len)?;
        let mapping = Mapping::new(file.as_fd(), len)?;
        let mut constants = SegmentConstants::zeroed();
        constants.magic = SEGMENT_MAGIC;
        constants.version = VERSION;
        constants.header_len = HEADER_LEN as u32;
        constants.capacity = capacity as u64;
        constants.max_capacity = max_capacity as u64;
        constants.max_handles = max_handles as u32;
        mapping.write(0, bytemuck::bytes_of(&constants));
        memfd::seal(file.as_fd())?;
        let id = memfd::id(file.as_fd())?;
        Ok(Self { file: Arc::new(file), mapping: Arc::new(mapping), capacity, max_capacity, max_handles, id })
    }

    /// Takes over a segment that came from elsewhere. Nothing about it is trusted: first the file is shown to be one
    /// that can neither shrink under us nor raise a signal, then its constants are copied once and checked.
    pub(crate) fn adopt(file: OwnedFd) -> Result<Self, NotAdopted> {
        let bad = |bad: BadSegment| NotAdopted::Bad(bad);
        let checked = memfd::check(file.as_fd(), None).map_err(NotAdopted::Exhausted)?;
        let len = checked.map_err(|file| bad(file.into()))?.len;
        let max_len = segment_len(MAX_CAPACITY) as u64;
        if len < segment_len(MIN_CAPACITY) as u64 || len > max_len {
            return Err(bad(BadSegment::WrongSize));
        }
        let mapping = map(file.as_fd(), len as usize)?;
        let mut constants = SegmentConstants::zeroed();
        mapping.read(0, bytemuck::bytes_of_mut(&mut constants));
        check_constants(&constants, len).map_err(bad)?;
        let id = memfd::id(file.as_fd()).map_err(NotAdopted::Exhausted)?;
        Ok(Self {
            file: Arc::new(file),
            mapping: Arc::new(mapping),
            capacity: constants.capacity as usize,
            max_capacity: constants.max_capacity as usize,
            max_handles: constants.max_handles as usize,
            id,
        })
    }

    /// The ring pair's first (0) or second (1) direction.
    pub(crate) fn direction(&self, index: usize) -> Direction {
        Direction::new(Arc::clone(&self.mapping), index, self.capacity)
    }

    /// A new ring for a direction whose present one has `capacity` bytes; `None` if it is at its limit.
    pub(crate) fn next_ring(&self, capacity: usize) -> Result<Option<GrownRing>, Errno> {
        let Some(capacity) = next_capacity(capacity, self.capacity, self.max_capacity) else { return Ok(None) };
        let file = memfd::create(c"messageport-ring", HEADER_LEN + capacity)?;
        let mapping = Mapping::new(file.as_fd(), HEADER_LEN + capacity)?;
        let mut constants = RingConstants::zeroed();
        constants.magic = RING_MAGIC;
        constants.version = VERSION;
        constants.header_len = HEADER_LEN as u32;
        constants.capacity = capacity as u64;
        mapping.write(0, bytemuck::bytes_of(&constants));
        memfd::seal(file.as_fd())?;
        Ok(Some(GrownRing { file, mapping, capacity }))
    }

    /// Takes over a ring that one of this segment's directions grew into, checked like a segment. It is one that
    /// follows a ring of `after` bytes, or any of those that can follow the first.
    pub(crate) fn adopt_ring(&self, file: OwnedFd, after: Option<usize>) -> Result<GrownRing, NotAdopted> {
        let bad = |bad: BadSegment| NotAdopted::Bad(bad);
        let checked = memfd::check(file.as_fd(), None).map_err(NotAdopted::Exhausted)?;
        let len = checked.map_err(|file| bad(file.into()))?.len;
        let next = |&capacity: &usize| next_capacity(capacity, self.capacity, self.max_capacity);
        let found = std::iter::successors(next(&self.capacity), next)
            .find(|capacity| (HEADER_LEN + capacity) as u64 == len)
            .filter(|&capacity| after.is_none_or(|after| capacity == 2 * after));
        let capacity = found.ok_or(bad(BadSegment::WrongSize))?;
        let mapping = map(file.as_fd(), len as usize)?;
        let mut constants = RingConstants::zeroed();
        mapping.read(0, bytemuck::bytes_of_mut(&mut constants));
        if constants.magic != RING_MAGIC {
            return Err(bad(BadSegment::NotASegment));
        }
        if constants.version != VERSION {
            return Err(bad(BadSegment::Version { found: constants.version, expected: VERSION }));
        }
        if constants.capacity != capacity as u64 || constants.header_len != HEADER_LEN as u32 {
            return Err(bad(BadSegment::BadConstants));
        }
        Ok(GrownRing { file, mapping, capacity })
    }

    /// Bytes of each of the first rings.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that the rings of a direction may have together.
    pub(crate) fn max_capacity(&self) -> usize {
        self.max_capacity
    }

    /// Most descriptors in a message.
    pub(crate) fn max_handles(&self) -> usize {
        self.max_handles
    }

    /// The same for both ends of a channel, in every process, and for no other channel.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Maps a file that came from elsewhere and has been checked.
fn map(file: BorrowedFd<'_>, len: usize) -> Result<Mapping, NotAdopted> {
    Mapping::new(file, len).map_err(|errno| match errno {
        // Sealed against writing, now or in the future.
        Errno::EPERM | Errno::EACCES => NotAdopted::Bad(BadSegment::ReadOnly),
        errno => NotAdopted::Exhausted(errno),
    })
}

fn check_constants(constants: &SegmentConstants, len: u64) -> Result<(), BadSegment> {
    if constants.magic != SEGMENT_MAGIC {
        return Err(BadSegment::NotASegment);
    }
    if constants.version != VERSION {
        return Err(BadSegment::Version { found: constants.version, expected: VERSION });
    }
    let capacity = usize::try_from(constants.capacity).unwrap_or(usize::MAX);
    let in_range = capacity.is_power_of_two() && (MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity);
    let growth = constants.capacity..=LARGEST_MAX_CAPACITY as u64;
    if !in_range || !growth.contains(&constants.max_capacity) || constants.header_len != HEADER_LEN as u32 {
        return Err(BadSegment::BadConstants);
    }
    if segment_len(capacity) as u64 != len {
        return Err(BadSegment::WrongSize);
    }
    if constants.max_handles as usize > MAX_DESCRIPTORS || constants.max_cached_buffers != 0 {
        return Err(BadSegment::BadConstants);
    }
    Ok(())
}
