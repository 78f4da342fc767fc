//! A segment: the memory file that holds the two rings of a channel, and the file of a ring that a queue grew into. No
//! process owns them.
#![forbid(unsafe_code)]

use super::direction::{Direction, GrownRing};
use crate::error::{BadSegment, Rejection, not_mapped};
use crate::layout::{
    HEADER_LEN, Limits, MAX_CAPACITY, MIN_CAPACITY, RING_MAGIC, RingConstants, SEGMENT_MAGIC, SegmentConstants,
    VERSION, next_capacity, ring, segment_len,
};
use crate::sys::mapping::Mapping;
use crate::sys::memfd::{Checked, FileId, SEALED};
use crate::sys::{Errno, memfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use bytemuck::Zeroable;

/// A mapped segment. Clones share the mapping and the descriptor.
#[derive(Clone)]
pub(crate) struct Segment {
    file: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
    limits: Limits,
    /// Once it is known.
    id: OnceLock<FileId>,
}

impl Segment {
    /// A new segment with two empty rings, sealed before anybody else can see it.
    pub(crate) fn create(limits: Limits) -> Result<Self, Errno> {
        let len = segment_len(limits.capacity);
        let file = memfd::create(c"messageport", len, SEALED)?;
        let mapping = Mapping::new(file.as_fd(), len)?;
        let mut constants = SegmentConstants::zeroed();
        constants.magic = SEGMENT_MAGIC;
        constants.version = VERSION;
        constants.header_len = HEADER_LEN as u32;
        constants.capacity = limits.capacity as u64;
        constants.max_capacity = limits.max_capacity as u64;
        constants.max_handles = limits.max_handles as u32;
        constants.max_message_len = limits.max_message_len as u64;
        constants.max_cached_buffers = limits.cached_buffers as u32;
        constants.max_cached_bytes = limits.cached_bytes;
        mapping.write(0, bytemuck::bytes_of(&constants));
        Ok(Self { file: Arc::new(file), mapping: Arc::new(mapping), limits, id: OnceLock::new() })
    }

    /// Takes over a segment that came from elsewhere. Nothing about it is trusted: first the file is shown to be one
    /// that can neither shrink under us nor raise a signal, then its constants are copied once and checked.
    pub(crate) fn adopt(file: OwnedFd) -> Result<Self, Rejection<BadSegment>> {
        let bad = |bad: BadSegment| Rejection::Invalid(bad);
        let checked = memfd::check(file.as_fd(), None).map_err(Rejection::Shortage)?;
        let Checked { id, len, .. } = checked.map_err(|file| bad(file.into()))?;
        let max_len = segment_len(MAX_CAPACITY) as u64;
        if len < segment_len(MIN_CAPACITY) as u64 || len > max_len {
            return Err(bad(BadSegment::WrongSize));
        }
        let mapping = Mapping::new(file.as_fd(), len as usize).map_err(not_mapped)?;
        let mut constants = SegmentConstants::zeroed();
        mapping.read(0, bytemuck::bytes_of_mut(&mut constants));
        Ok(Self {
            file: Arc::new(file),
            mapping: Arc::new(mapping),
            limits: check_constants(&constants, len).map_err(bad)?,
            id: id.into(),
        })
    }

    /// The ring pair's first (0) or second (1) direction.
    pub(crate) fn direction(&self, index: usize) -> Direction {
        Direction::new(Arc::clone(&self.mapping), index, self.limits.capacity, self.limits.max_message_len)
    }

    /// A new ring for a direction whose present one has `capacity` bytes; `None` if it is at its limit.
    pub(crate) fn next_ring(&self, capacity: usize) -> Result<Option<GrownRing>, Errno> {
        let Some(capacity) = next_capacity(capacity, self.limits.capacity, self.limits.max_capacity) else {
            return Ok(None);
        };
        let file = memfd::create(c"messageport-ring", HEADER_LEN + capacity, SEALED)?;
        let mapping = Mapping::new(file.as_fd(), HEADER_LEN + capacity)?;
        let mut constants = RingConstants::zeroed();
        constants.magic = RING_MAGIC;
        constants.version = VERSION;
        constants.header_len = HEADER_LEN as u32;
        constants.capacity = capacity as u64;
        mapping.write(0, bytemuck::bytes_of(&constants));
        Ok(Some(GrownRing { file, mapping, capacity }))
    }

    /// Takes over a ring that one of this segment's directions grew into, checked like a segment. It is one that
    /// follows a ring of `after` bytes, or any of those that can follow the first.
    pub(crate) fn adopt_ring(&self, file: OwnedFd, after: Option<usize>) -> Result<GrownRing, Rejection<BadSegment>> {
        let bad = |bad: BadSegment| Rejection::Invalid(bad);
        let checked = memfd::check(file.as_fd(), None).map_err(Rejection::Shortage)?;
        let len = checked.map_err(|file| bad(file.into()))?.len;
        let next = |&capacity: &usize| next_capacity(capacity, self.limits.capacity, self.limits.max_capacity);
        let found = std::iter::successors(next(&self.limits.capacity), next)
            .find(|capacity| (HEADER_LEN + capacity) as u64 == len)
            .filter(|&capacity| after.is_none_or(|after| capacity == 2 * after));
        let capacity = found.ok_or(bad(BadSegment::WrongSize))?;
        let mapping = Mapping::new(file.as_fd(), len as usize).map_err(not_mapped)?;
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

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes of each of the first rings.
    pub(crate) fn capacity(&self) -> usize {
        self.limits.capacity
    }

    /// True for the two ends of a channel, wherever they come from.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let one = || self.id().is_ok_and(|id| other.id() == Ok(id)); // of an open file there is always one
        Arc::ptr_eq(&self.file, &other.file) || one()
    }

    /// The same for both ends of a channel, in every process, and for no other channel.
    fn id(&self) -> Result<FileId, Errno> {
        match self.id.get() {
            Some(id) => Ok(*id),
            None => memfd::id(self.file.as_fd()).inspect(|id| _ = self.id.set(*id)),
        }
    }

    /// True if nobody has ever written to the beginning of the ring of direction `index`.
    pub(crate) fn is_untouched(&self, index: usize) -> bool {
        memfd::is_hole(self.file.as_fd(), ring(index, self.limits.capacity))
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

fn check_constants(constants: &SegmentConstants, len: u64) -> Result<Limits, BadSegment> {
    if constants.magic != SEGMENT_MAGIC {
        return Err(BadSegment::NotASegment);
    }
    if constants.version != VERSION {
        return Err(BadSegment::Version { found: constants.version, expected: VERSION });
    }
    let number = |found: u64| usize::try_from(found).unwrap_or(usize::MAX);
    let limits = Limits {
        capacity: number(constants.capacity),
        max_capacity: number(constants.max_capacity),
        max_handles: constants.max_handles as usize,
        max_message_len: number(constants.max_message_len),
        cached_buffers: constants.max_cached_buffers as usize,
        cached_bytes: constants.max_cached_bytes,
    };
    if limits.check().is_some() || constants.header_len != HEADER_LEN as u32 {
        return Err(BadSegment::BadConstants);
    }
    if segment_len(limits.capacity) as u64 != len {
        return Err(BadSegment::WrongSize);
    }
    Ok(limits)
}
