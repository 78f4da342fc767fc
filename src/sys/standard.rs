//! Keeping the numbers of the standard streams, 0 to 2, for the standard streams.
//!
//! The kernel gives a new descriptor the lowest free number. In a process whose standard streams are closed that is one
//! of theirs, and a `printf` of the program would then write into a channel.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};

use super::Errno;

/// The lowest number of a descriptor of this library, 3.
const LOWEST: RawFd = 3;

/// Moves a descriptor that has the number of a standard stream to a number above them (`F_DUPFD_CLOEXEC` of fcntl(2)).
/// Every descriptor that the library makes or receives, and keeps, passes through here. Any other number costs a
/// comparison.
pub(crate) fn above_standard<D: AsFd + From<OwnedFd>>(descriptor: D) -> Result<D, Errno> {
    if descriptor.as_fd().as_raw_fd() >= LOWEST { Ok(descriptor) } else { moved(descriptor) }
}

#[cold]
fn moved<D: AsFd + From<OwnedFd>>(descriptor: D) -> Result<D, Errno> {
    copy_above_standard(descriptor.as_fd()).map(D::from)
}

/// A second descriptor, closed on exec, with a number above those of the standard streams.
pub(crate) fn copy_above_standard(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(LOWEST))?;
    // SAFETY: fcntl has just created this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Holds those of the numbers 0 to 2 that are free, until it is dropped: for code that opens descriptors and cannot
/// move them.
pub(crate) struct Held {
    _streams: Vec<File>,
}

impl Held {
    /// Opens `/dev/null`, closed on exec, under every free number from 0 to 2.
    pub(crate) fn new() -> io::Result<Self> {
        let mut streams = Vec::new();
        loop {
            let null = File::options().read(true).write(true).open("/dev/null")?;
            if null.as_raw_fd() >= LOWEST {
                return Ok(Self { _streams: streams });
            }
            streams.push(null);
        }
    }
}
