//! A segment: the memory file that holds the two rings of a channel. No process owns it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytemuck::Zeroable;

use crate::direction::Direction;
use crate::error::BadSegment;
use crate::layout::{HEADER_LEN, MAX_CAPACITY, MIN_CAPACITY, SEGMENT_MAGIC, SegmentConstants, VERSION, segment_len};
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
    /// A new segment with two empty rings of `capacity` bytes, sealed before anybody else can see it.
    pub(crate) fn create(capacity: usize, max_handles: usize) -> Result<Self, Errno> {
        let len = segment_len(capacity);
        let file = memfd::create(c"messageport", len)?;
        let mapping = Mapping::new(file.as_fd(), len)?;
        let mut constants = SegmentConstants::zeroed();
        constants.magic = SEGMENT_MAGIC;
        constants.version = VERSION;
        constants.header_len = HEADER_LEN as u32;
        constants.capacity = capacity as u64;
        constants.max_capacity = capacity as u64;
        constants.max_handles = max_handles as u32;
        mapping.write(0, bytemuck::bytes_of(&constants));
        memfd::seal(file.as_fd())?;
        let id = memfd::id(file.as_fd())?;
        Ok(Self { file: Arc::new(file), mapping: Arc::new(mapping), capacity, max_handles, id })
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
        let mapping = Mapping::new(file.as_fd(), len as usize).map_err(|errno| match errno {
            // Sealed against writing, now or in the future.
            Errno::EPERM | Errno::EACCES => bad(BadSegment::ReadOnly),
            errno => NotAdopted::Exhausted(errno),
        })?;
        let mut constants = SegmentConstants::zeroed();
        mapping.read(0, bytemuck::bytes_of_mut(&mut constants));
        check_constants(&constants, len).map_err(bad)?;
        let id = memfd::id(file.as_fd()).map_err(NotAdopted::Exhausted)?;
        Ok(Self {
            file: Arc::new(file),
            mapping: Arc::new(mapping),
            capacity: constants.capacity as usize,
            max_handles: constants.max_handles as usize,
            id,
        })
    }

    /// The ring pair's first (0) or second (1) direction.
    pub(crate) fn direction(&self, index: usize) -> Direction {
        Direction::new(Arc::clone(&self.mapping), index, self.capacity)
    }

    /// Bytes of each ring.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
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

fn check_constants(constants: &SegmentConstants, len: u64) -> Result<(), BadSegment> {
    if constants.magic != SEGMENT_MAGIC {
        return Err(BadSegment::NotASegment);
    }
    if constants.version != VERSION {
        return Err(BadSegment::Version { found: constants.version, expected: VERSION });
    }
    let capacity = usize::try_from(constants.capacity).unwrap_or(usize::MAX);
    let in_range = capacity.is_power_of_two() && (MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity);
    if !in_range || constants.max_capacity != constants.capacity || constants.header_len != HEADER_LEN as u32 {
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
