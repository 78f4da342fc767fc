//! The memory file behind every kind of buffer: a header of one page, then the bytes. Its size is sealed and its memory
//! is allocated, so that no access to a mapping of it raises a signal.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytemuck::Zeroable;

use crate::error::{BadSegment, BufferError, Rejection, exhausted};
use crate::layout::{BUFFER_MAGIC, BufferConstants, FROZEN_MAGIC, HEADER_LEN, Preamble, SHARED_MAGIC};
use crate::sys::presence::is_allocated;
use crate::sys::{Errno, PAGE, memfd};

/// Most bytes of a buffer: 1 TiB. A longer buffer fits no address space, so it is rejected for good.
const MAX_LEN: u64 = 1 << 40;

/// The kind of a buffer, which its magic word states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BufferKind {
    /// One holder at a time, which may write.
    Transfer,
    /// Sealed against writes for ever.
    Frozen,
    /// Every holder may write at the same time.
    Shared,
}

impl BufferKind {
    fn magic(self) -> u64 {
        match self {
            Self::Transfer => BUFFER_MAGIC,
            Self::Frozen => FROZEN_MAGIC,
            Self::Shared => SHARED_MAGIC,
        }
    }

    /// The header of a buffer of this kind with `len` bytes.
    pub(crate) fn header(self, len: usize) -> BufferConstants {
        header(self.magic(), len)
    }
}

/// The header of a buffer with this magic word and `len` bytes.
pub(crate) fn header(magic: u64, len: usize) -> BufferConstants {
    BufferConstants { preamble: Preamble::new(magic), len: len as u64, ..BufferConstants::zeroed() }
}

/// Bytes of the file of a buffer with `len` bytes. `EFBIG`: no buffer may have this many bytes.
pub(crate) fn file_len(len: usize) -> Result<usize, Errno> {
    if len as u64 > MAX_LEN { Err(Errno::EFBIG) } else { Ok(HEADER_LEN + len) }
}

/// A new file for a buffer of `len` bytes, all zero. A shared buffer gets the seal against further seals here, a frozen
/// one when it has been filled, and a transfer buffer just before it leaves the process for the first time, so that it
/// can be frozen until then.
pub(crate) fn create(kind: BufferKind, len: usize) -> Result<OwnedFd, Errno> {
    let file_len = file_len(len)?;
    let file = memfd::create(c"messageport-buffer", file_len, memfd::SEALED_SIZE)?;
    memfd::allocate(file.as_fd(), file_len)?;
    memfd::write(file.as_fd(), 0, bytemuck::bytes_of(&kind.header(len)))?;
    if kind == BufferKind::Shared {
        memfd::seal(file.as_fd())?;
    }
    Ok(file)
}

/// Checks a received file whose sender claims that it is a buffer of this kind with `len` bytes. Returns how many bytes
/// to map.
///
/// Nothing about the file is trusted. It passes if it can neither shrink nor raise a signal for want of memory, if no
/// holder can add a seal, and if its header agrees with the claim. No call waits for a lock that a holder can keep.
pub(crate) fn adopt(file: BorrowedFd<'_>, kind: BufferKind, len: u64) -> Result<usize, Rejection<BadSegment>> {
    if len > MAX_LEN {
        return Err(BadSegment::WrongSize.into());
    }
    let file_len = len + HEADER_LEN as u64;
    // A buffer that was created to be recycled and then frozen has room up to the end of its last page.
    let expected = (kind != BufferKind::Frozen).then_some(file_len);
    let checked = memfd::check(file, expected).map_err(Rejection::Shortage)?.map_err(BadSegment::from)?;
    if ![file_len, file_len.next_multiple_of(PAGE as u64)].contains(&checked.len) {
        return Err(BadSegment::WrongSize.into());
    }
    if kind == BufferKind::Frozen && !checked.frozen {
        return Err(BadSegment::Writable.into());
    }
    let mut found = BufferConstants::zeroed();
    match memfd::read(file, 0, bytemuck::bytes_of_mut(&mut found)) {
        Ok(()) => {}
        Err(Errno::EBADF) => return Err(BadSegment::NotMemory.into()), // open for writing only
        Err(errno) => return Err(Rejection::Shortage(errno)),
    }
    check_header(&found, kind.magic(), len)?;
    // After the seals: those of a frozen buffer forbid giving its memory back.
    if !is_allocated(file, checked.len).map_err(Rejection::Shortage)? {
        return Err(BadSegment::Sparse.into());
    }
    Ok(checked.len as usize)
}

/// Checks the header of a buffer of which this magic word and `len` bytes are expected.
pub(crate) fn check_header(found: &BufferConstants, magic: u64, len: u64) -> Result<(), BadSegment> {
    found.preamble.check(magic)?;
    if found.len == len { Ok(()) } else { Err(BadSegment::BadConstants) }
}

/// The offset in the file of byte `offset` of a buffer of `buffer_len` bytes, if `len` bytes from there on are inside.
pub(crate) fn offset_in_file(offset: usize, len: usize, buffer_len: usize) -> Result<usize, BufferError> {
    if offset > buffer_len || len > buffer_len - offset {
        return Err(BufferError::OutOfRange { offset, len, buffer_len });
    }
    Ok(HEADER_LEN + offset)
}

/// The error of a buffer that could not be created.
pub(crate) fn not_created(errno: Errno) -> BufferError {
    BufferError::ResourceExhausted(exhausted(errno))
}
