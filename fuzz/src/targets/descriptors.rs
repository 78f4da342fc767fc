//! Descriptors of many kinds, and a check that a run leaks none.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;

use crate::buffer::memory::Memory;
use crate::layout::{Limits, MIN_CAPACITY};
use crate::queue::segment::Segment;

/// The check covers 40 descriptor numbers, from the lowest free one on.
const CHECKED: RawFd = 40;

/// Descriptors that no port or buffer can be made of, and some that can. They are made once, and kept.
pub(super) fn odd() -> &'static [OwnedFd] {
    static ODD: OnceLock<Vec<OwnedFd>> = OnceLock::new();
    ODD.get_or_init(|| {
        let socket = |kind| socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).expect("sockets").0;
        let memory = |len, seals| {
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            let file = File::from(memfd_create(c"messageport-odd", flags).expect("a memory file"));
            file.set_len(len).expect("a size");
            fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("seals");
            OwnedFd::from(file)
        };
        let sealed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        let path = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).expect("a path descriptor");
        vec![
            memory(0, SealFlag::empty()),
            memory(4096, sealed),
            memory(4096 + 2 * MIN_CAPACITY as u64, sealed),
            memory(8192, sealed | SealFlag::F_SEAL_WRITE),
            std::io::pipe().expect("a pipe").0.into(),
            socket(SockType::Stream),
            socket(SockType::SeqPacket),
            File::open("/dev/null").expect("/dev/null exists").into(),
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll").0,
            path,
        ]
    })
}

/// The limits of the segments of the targets.
pub(super) const LIMITS: Limits = Limits {
    capacity: MIN_CAPACITY,
    max_capacity: 4 * MIN_CAPACITY,
    max_handles: 20,
    max_message_len: 64 << 10,
    cached_buffers: 2,
    cached_bytes: 1 << 20,
};

/// The memory files of a segment, of the ring that follows its first ones, and of a buffer of 5000 bytes.
pub(super) fn valid() -> &'static [OwnedFd] {
    static VALID: OnceLock<Vec<OwnedFd>> = OnceLock::new();
    VALID.get_or_init(|| {
        let segment = Segment::create(LIMITS, "").expect("a segment");
        let ring = segment.new_ring(2 * MIN_CAPACITY).expect("memory");
        let buffer = Memory::create(5000).expect("a buffer");
        let own = |file: BorrowedFd<'_>| file.try_clone_to_owned().expect("a descriptor");
        vec![own(segment.as_fd()), own(ring.file.as_fd()), own(buffer.file.as_fd())]
    })
}

/// Which descriptor numbers are open in this process, from the lowest free one on.
pub(super) struct OpenDescriptors {
    lowest: RawFd,
    open: Vec<bool>,
}

impl OpenDescriptors {
    pub(super) fn now() -> Self {
        // /dev/null.
        let free = odd()[7].try_clone().expect("a descriptor").as_raw_fd();
        Self { lowest: free, open: Self::open_from(free) }
    }

    #[allow(unsafe_code)]
    fn open_from(lowest: RawFd) -> Vec<bool> {
        // SAFETY: F_GETFD takes numbers only, and changes nothing.
        (lowest..lowest + CHECKED).map(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0).collect()
    }

    pub(super) fn assert_restored(&self) {
        // A thread of the library closes what nobody has asked for.
        let start = Instant::now();
        while Self::open_from(self.lowest) != self.open && start.elapsed() < Duration::from_secs(2) {
            std::thread::yield_now();
        }
        assert!(Self::open_from(self.lowest) == self.open, "the run leaks descriptors");
    }
}
