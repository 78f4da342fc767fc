//! Segments: the memory file with the two first rings of a channel, and the files of the rings that its directions grow
//! into. A file belongs to no process; it lives while any process has it open or mapped.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use bytemuck::{Pod, Zeroable};

use super::direction::{Direction, GrownRing};
use super::record::RECORD_HEADER_LEN;
use super::sync::AtomicU32;
use crate::error::{BadSegment, Rejection, not_mapped};
use crate::layout::{
    CANCELLABLE_CALLS, CANCELLATIONS, HEADER_LEN, Limits, MAX_CAPACITY, MIN_CAPACITY, Preamble, RING_MAGIC,
    RingConstants, SEGMENT_MAGIC, SegmentConstants, largest_capacity, ring, segment_len,
};
use crate::sys::mapping::Mapping;
use crate::sys::memfd::{Checked, FileId, SEALED};
use crate::sys::passed::Passed;
use crate::sys::{Errno, memfd};

/// Bytes, 32, of the longest name of a channel.
pub(crate) const MAX_NAME: usize = 32;

/// A mapped segment. Clones share the mapping and the descriptor.
#[derive(Clone)]
pub(crate) struct Segment {
    file: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
    limits: Limits,
    /// Set once it is known.
    id: OnceLock<FileId>,
}

impl Segment {
    /// A new segment with two empty rings, sealed before any other process can get its descriptor.
    /// `name` is that of the channel, without a zero byte, or empty.
    pub(crate) fn create(limits: Limits, name: &str) -> Result<Self, Errno> {
        let constants = SegmentConstants::new(SEGMENT_MAGIC, &limits);
        let (file, mapping) = create("messageport", name, segment_len(limits.capacity), &constants)?;
        Ok(Self { file: Arc::new(file), mapping: Arc::new(mapping), limits, id: OnceLock::new() })
    }

    /// Adopts a received segment. Nothing about it is trusted: the file is checked first, so that it can neither shrink
    /// nor raise a signal afterwards, and then its constants are copied once and checked.
    pub(crate) fn adopt(passed: &mut Passed) -> Result<Self, Rejection<BadSegment>> {
        let (file, Checked { id, len, .. }) = passed.check(check)?;
        if !(segment_len(MIN_CAPACITY) as u64..=segment_len(MAX_CAPACITY) as u64).contains(&len) {
            return Err(BadSegment::WrongSize.into());
        }
        let (mapping, constants) = map(file.as_fd(), len as usize)?;
        let limits = check_constants(&constants, len)?;
        Ok(Self { file: Arc::new(file), mapping: Arc::new(mapping), limits, id: id.into() })
    }

    /// Direction `index` (0 or 1), in its first ring.
    pub(crate) fn direction(&self, index: usize) -> Direction {
        Direction::new(Arc::clone(&self.mapping), index, self.limits.capacity, self.limits.max_message_len)
    }

    /// A new ring of `capacity` bytes, a power of two, for a direction that goes on in it. `ENOMEM` if a large one
    /// exceeds what the system and the memory cgroups leave, as far as that can be seen.
    pub(crate) fn new_ring(&self, capacity: usize) -> Result<GrownRing, Errno> {
        memfd::look_for(capacity as u64)?;
        let constants =
            RingConstants { preamble: Preamble::new(RING_MAGIC), capacity: capacity as u64, ..RingConstants::zeroed() };
        let (file, mapping) = create("messageport-ring", &self.name(), HEADER_LEN + capacity, &constants)?;
        Ok(GrownRing { file, mapping, capacity })
    }

    /// Adopts a received ring of one of this segment's directions, with the checks of [`adopt`](Self::adopt). Its
    /// capacity must be a power of two that is larger than `after` and allowed by the limits of the channel.
    pub(crate) fn adopt_ring(&self, passed: &mut Passed, after: usize) -> Result<GrownRing, Rejection<BadSegment>> {
        let (file, Checked { len, .. }) = passed.check(check)?;
        let largest = largest_capacity(self.limits.capacity, self.limits.max_capacity) as u64;
        let capacity = len
            .checked_sub(HEADER_LEN as u64)
            .filter(|capacity| capacity.is_power_of_two() && (after as u64 + 1..=largest).contains(capacity))
            .ok_or(BadSegment::WrongSize)? as usize;
        let (mapping, constants): (_, RingConstants) = map(file.as_fd(), len as usize)?;
        constants.preamble.check(RING_MAGIC).map_err(BadSegment::from)?;
        if constants.capacity != capacity as u64 {
            return Err(BadSegment::BadConstants.into());
        }
        Ok(GrownRing { file, mapping, capacity })
    }

    /// The name of the channel, which is part of its file's name. Empty if it has none or one that is too long, or if
    /// that cannot be found out.
    pub(crate) fn name(&self) -> String {
        let name = memfd::name(self.file.as_fd());
        let name = name.and_then(|name| name.strip_prefix("messageport:").map(str::to_owned));
        name.filter(|name| name.len() <= MAX_NAME).unwrap_or_default()
    }

    /// The limits of the channel.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes of each of the first rings.
    pub(crate) fn capacity(&self) -> usize {
        self.limits.capacity
    }

    /// True if both are segments of one channel, however this process came by them.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same_file = || self.id().is_ok_and(|id| other.id() == Ok(id)); // fstat(2) of an open file does not fail
        Arc::ptr_eq(&self.file, &other.file) || same_file()
    }

    /// The identity of the file: equal at both ends of a channel, in every process, and unlike that of any other
    /// channel.
    fn id(&self) -> Result<FileId, Errno> {
        match self.id.get() {
            Some(id) => Ok(*id),
            None => memfd::id(self.file.as_fd()).inspect(|id| _ = self.id.set(*id)),
        }
    }

    /// True if the first header of direction `index` is zero. A consumer that has read nothing then has nothing to
    /// read. A read by mapping would cost a page of memory.
    pub(crate) fn is_untouched(&self, index: usize) -> bool {
        let mut header = [0; RECORD_HEADER_LEN];
        let read = memfd::read(self.file.as_fd(), ring(index, self.limits.capacity), &mut header);
        read.is_ok() && header == [0; RECORD_HEADER_LEN]
    }

    /// The word of an entry in the client's table of calls, for its cancelled calls. `None` for an entry without one.
    pub(crate) fn cancellation(&self, entry: usize) -> Option<&AtomicU32> {
        (entry < CANCELLABLE_CALLS).then(|| self.mapping.word(CANCELLATIONS + 4 * entry))
    }

    /// The mapping of the whole segment.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A new sealed file of `len` bytes and its mapping, with `constants` at its start. It is named by its kind and by the
/// channel, if that has a name.
fn create<Constants: Pod>(
    kind: &str,
    channel: &str,
    len: usize,
    constants: &Constants,
) -> Result<(OwnedFd, Mapping), Errno> {
    let name = if channel.is_empty() { kind.to_owned() } else { format!("{kind}:{channel}") };
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let file = memfd::create(&name, len, SEALED)?;
    let mapping = Mapping::sparse(file.as_fd(), len)?;
    mapping.write(0, bytemuck::bytes_of(constants));
    Ok((file, mapping))
}

/// Checks that a received file is a sealed memory file.
fn check(file: BorrowedFd<'_>) -> Result<Checked, Rejection<BadSegment>> {
    let checked = memfd::check(file, None).map_err(Rejection::Shortage)?;
    Ok(checked.map_err(BadSegment::from)?)
}

/// Maps a received file that passed [`check`], and copies the constants at its start. They are not read again: a
/// hostile holder can change them at any time.
fn map<Constants: Pod>(file: BorrowedFd<'_>, len: usize) -> Result<(Mapping, Constants), Rejection<BadSegment>> {
    let mapping = Mapping::sparse(file, len).map_err(not_mapped)?;
    let mut constants = Constants::zeroed();
    mapping.read(0, bytemuck::bytes_of_mut(&mut constants));
    Ok((mapping, constants))
}

/// Checks the constants of a received segment whose file has `len` bytes.
fn check_constants(constants: &SegmentConstants, len: u64) -> Result<Limits, BadSegment> {
    constants.preamble.check(SEGMENT_MAGIC)?;
    let limits = constants.limits();
    if limits.check().is_some() {
        return Err(BadSegment::BadConstants);
    }
    if segment_len(limits.capacity) as u64 != len {
        return Err(BadSegment::WrongSize);
    }
    Ok(limits)
}
