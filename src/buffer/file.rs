//! The memory file behind a buffer of any kind: a header page, then the bytes. Its size is sealed and its memory is
//! allocated, so that touching a mapping of it raises no signal.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytemuck::Zeroable;

use crate::error::{BadSegment, BufferError, Rejection};
use crate::layout::{BUFFER_MAGIC, BufferConstants, FROZEN_MAGIC, HEADER_LEN, SHARED_MAGIC, VERSION};
use crate::sys::{Errno, memfd};

/// Longest buffer, 1 TiB: what no address space holds is refused for good.
const MAX_LEN: u64 = 1 << 40;
const PAGE: u64 = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Has one holder at a time, who may write.
    Transfer,
    /// Nobody writes, ever again.
    Frozen,
    /// Everybody who has it may write.
    Shared,
}

impl Kind {
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

/// The header of a buffer with `len` bytes.
pub(crate) fn header(magic: u64, len: usize) -> BufferConstants {
    let mut constants = BufferConstants::zeroed();
    constants.magic = magic;
    constants.version = VERSION;
    constants.header_len = HEADER_LEN as u32;
    constants.len = len as u64;
    constants
}

/// Bytes of the file of a buffer with `len` bytes.
pub(crate) fn file_len(len: usize) -> Result<usize, Errno> {
    if len as u64 > MAX_LEN { Err(Errno::EFBIG) } else { Ok(HEADER_LEN + len) }
}

/// A new file for `len` bytes, all zero. A shared one gets its last seal here; a frozen one when it has been filled;
/// one that moves in [`adopt`], so that a post which failed leaves it to be frozen.
pub(crate) fn create(kind: Kind, len: usize) -> Result<OwnedFd, Errno> {
    let file_len = file_len(len)?;
    let file = memfd::create(c"messageport-buffer", file_len, memfd::SEALED_SIZE)?;
    memfd::allocate(file.as_fd(), file_len)?;
    memfd::write(file.as_fd(), 0, bytemuck::bytes_of(&kind.header(len)))?;
    if kind == Kind::Shared {
        memfd::seal(file.as_fd())?;
    }
    Ok(file)
}

/// Checks a file that came from elsewhere and is said to be a buffer of `len` bytes. Returns how many bytes to map.
///
/// Nothing about it is trusted: it can neither shrink under us nor raise a signal where memory is missing, nobody can
/// add a seal to it from here on, and it says that it is what it is taken for.
pub(crate) fn adopt(file: BorrowedFd<'_>, kind: Kind, len: u64) -> Result<usize, Rejection<BadSegment>> {
    let bad = |bad: BadSegment| Err(Rejection::Invalid(bad));
    if len > MAX_LEN {
        return bad(BadSegment::WrongSize);
    }
    if kind == Kind::Transfer {
        let _ = memfd::seal(file); // what cannot be sealed does not pass the check
    }
    let file_len = len + HEADER_LEN as u64;
    // One that was made to be recycled, and was frozen instead, has room to the end of its last page.
    let expected = (kind != Kind::Frozen).then_some(file_len);
    let checked = match memfd::check(file, expected).map_err(Rejection::Shortage)? {
        Ok(checked) => checked,
        Err(file) => return bad(file.into()),
    };
    if ![file_len, file_len.next_multiple_of(PAGE)].contains(&checked.len) {
        return bad(BadSegment::WrongSize);
    }
    if kind == Kind::Frozen && !checked.frozen {
        return bad(BadSegment::Writable);
    }
    let mut found = BufferConstants::zeroed();
    match memfd::read(file, 0, bytemuck::bytes_of_mut(&mut found)) {
        Ok(()) => {}
        Err(Errno::EBADF) => return bad(BadSegment::NotMemory), // open for writing only
        Err(errno) => return Err(Rejection::Shortage(errno)),
    }
    check_header(&found, kind.magic(), len).map_err(Rejection::Invalid)?;
    if !checked.allocated {
        return bad(BadSegment::Sparse);
    }
    Ok(checked.len as usize)
}

/// Checks the header of a buffer that is said to have `len` bytes.
pub(crate) fn check_header(found: &BufferConstants, magic: u64, len: u64) -> Result<(), BadSegment> {
    if found.magic != magic {
        return Err(BadSegment::NotASegment);
    }
    if found.version != VERSION {
        return Err(BadSegment::Version { found: found.version, expected: VERSION });
    }
    if found.len != len || found.header_len != HEADER_LEN as u32 {
        return Err(BadSegment::BadConstants);
    }
    Ok(())
}

/// Where byte `offset` of a buffer of `buffer_len` bytes lies in its file, if `len` bytes from there on are inside.
pub(crate) fn place(offset: usize, len: usize, buffer_len: usize) -> Result<usize, BufferError> {
    if offset > buffer_len || len > buffer_len - offset {
        return Err(BufferError::OutOfRange { offset, len, buffer_len });
    }
    Ok(HEADER_LEN + offset)
}
