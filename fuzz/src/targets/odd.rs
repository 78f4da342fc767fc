//! Descriptors of many kinds, and how many a process holds.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;

use crate::buffer::memory::Memory;
use crate::layout::Limits;
use crate::layout::MIN_CAPACITY;
use crate::queue::segment::Segment;

/// Descriptors above the lowest free one that are looked at.
const LOOKED_AT: RawFd = 40;

/// What no port or buffer is made of, and what one could be made of. Made once, and kept.
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
        let path = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).expect("a place");
        vec![
            memory(0, SealFlag::empty()),
            memory(4096, sealed),
            memory(4096 + 2 * MIN_CAPACITY as u64, sealed),
            memory(8192, sealed | SealFlag::F_SEAL_WRITE),
            std::io::pipe().expect("a pipe").0.into(),
            socket(SockType::Stream),
            socket(SockType::SeqPacket),
            File::open("/dev/null").expect("it is there").into(),
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll").0,
            path,
        ]
    })
}

pub(super) const LIMITS: Limits = Limits {
    capacity: MIN_CAPACITY,
    max_capacity: 4 * MIN_CAPACITY,
    max_handles: 20,
    max_message_len: 64 << 10,
    cached_buffers: 2,
    cached_bytes: 1 << 20,
};

/// The files of a segment, of a ring that follows its first ones, and of a buffer of 5000 bytes.
pub(super) fn good() -> &'static [OwnedFd] {
    static GOOD: OnceLock<Vec<OwnedFd>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let segment = Segment::create(LIMITS).expect("a segment");
        let ring = segment.next_ring(MIN_CAPACITY).expect("memory").expect("below the limit");
        let buffer = Memory::create(5000).expect("a buffer");
        let own = |file: BorrowedFd<'_>| file.try_clone_to_owned().expect("a descriptor");
        vec![own(segment.as_fd()), own(ring.file.as_fd()), own(buffer.file.as_fd())]
    })
}

/// The descriptors of this process from the lowest free number on.
pub(super) struct Held {
    lowest: RawFd,
    open: Vec<bool>,
}

impl Held {
    pub(super) fn now() -> Self {
        let free = odd()[7].try_clone().expect("a descriptor").as_raw_fd();
        Self { lowest: free, open: Self::open_from(free) }
    }

    #[allow(unsafe_code)]
    fn open_from(lowest: RawFd) -> Vec<bool> {
        // SAFETY: takes numbers only.
        (lowest..lowest + LOOKED_AT).map(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0).collect()
    }

    pub(super) fn assert_restored(&self) {
        assert!(Self::open_from(self.lowest) == self.open, "a run keeps descriptors");
    }
}

/// One at a time: descriptors are counted.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
