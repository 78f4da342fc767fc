//! Invalid things in messages: each is a typed error that names the fault, and the carrier goes on. A descriptor of a
//! kind that no honest peer can send ends the carrier.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use messageport::{
    BadSegment, BadTransfer, CloseReason, MessagePort, RecvError, RecvTimeoutError, TryRecvError, Violation,
};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socketpair};

use crate::path_only;
use crate::tools::attacker::{Attacker, CARRIER, DATA, HEADER_LEN, NEW_PORT, PortCapsule, Table, lane};
use crate::tools::ledger::{Ledger, alone};
use crate::tools::memory::newest_memory;
use crate::tools::{PATIENCE, assert_entangled, end_of, pair, pair_of, readable, text};

const CAPACITY: u64 = 4096;
const LEN: u64 = HEADER_LEN as u64 + 2 * CAPACITY;
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"msgport\0");
const BUFFER_MAGIC: u64 = u64::from_le_bytes(*b"msgpbuf\0");
const VERSION: u32 = 1;
const SEALED: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// The constants in the header of a segment. Each case alters one.
#[derive(Clone, Copy)]
struct Segment {
    magic: u64,
    version: u32,
    header_len: u32,
    capacity: u64,
    max_capacity: u64,
    max_handles: u32,
    max_cached_buffers: u32,
    max_cached_bytes: u64,
    max_message_len: u64,
}

const SEGMENT: Segment = Segment {
    magic: SEGMENT_MAGIC,
    version: VERSION,
    header_len: HEADER_LEN as u32,
    capacity: CAPACITY,
    max_capacity: CAPACITY,
    max_handles: 253,
    max_cached_buffers: 0,
    max_cached_bytes: 0,
    max_message_len: 1 << 20,
};

impl Segment {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&self.version.to_ne_bytes());
        bytes.extend_from_slice(&self.header_len.to_ne_bytes());
        bytes.extend_from_slice(&self.capacity.to_ne_bytes());
        bytes.extend_from_slice(&self.max_capacity.to_ne_bytes());
        bytes.extend_from_slice(&self.max_handles.to_ne_bytes());
        bytes.extend_from_slice(&self.max_cached_buffers.to_ne_bytes());
        bytes.extend_from_slice(&self.max_cached_bytes.to_ne_bytes());
        bytes.extend_from_slice(&self.max_message_len.to_ne_bytes());
        bytes
    }

    fn file(&self) -> OwnedFd {
        memory(&self.bytes(), LEN, SEALED)
    }
}

/// The header of a buffer of `len` bytes.
fn buffer_header(magic: u64, version: u32, header_len: u32, len: u64) -> Vec<u8> {
    let mut bytes = magic.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&version.to_ne_bytes());
    bytes.extend_from_slice(&header_len.to_ne_bytes());
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes
}

/// A memory file of `len` bytes that starts with `header`.
fn memory(header: &[u8], len: u64, seals: SealFlag) -> OwnedFd {
    let file = sparse_memory(header, len);
    if len <= 1 << 20 {
        fallocate(&file, FallocateFlags::empty(), 0, len.max(1) as i64).expect("memory");
        file.set_len(len).expect("a size");
    }
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("seals");
    file.into()
}

/// A memory file of `len` bytes that starts with `header`, without seals. Only the header takes memory.
fn sparse_memory(header: &[u8], len: u64) -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"messageport-forged", flags).expect("a memory file"));
    file.set_len(len).expect("a size");
    let fits = header.len().min(len as usize);
    file.write_all_at(&header[..fits], 0).expect("a header");
    file
}

/// A read-only descriptor of the same file.
fn read_only(file: &OwnedFd) -> OwnedFd {
    OpenOptions::new()
        .read(true)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .expect("a second descriptor")
        .into()
}

fn socket(family: AddressFamily, kind: SockType) -> OwnedFd {
    socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC).expect("sockets").0
}

/// Descriptors of anything but memory files.
fn not_memory() -> Vec<(&'static str, OwnedFd)> {
    vec![
        ("a pipe", std::io::pipe().expect("a pipe").0.into()),
        ("a socket", lane().0),
        ("a device", File::open("/dev/null").expect("a file").into()),
        ("a directory", File::open("/").expect("a file").into()),
        ("a file of proc", File::open("/proc/self/maps").expect("a file").into()),
        ("an epoll set", Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll").0),
        ("a place", path_only(c"/dev/null")),
    ]
}

/// Invalid memory of a port, with the error that it must cause.
fn bad_segments() -> Vec<(String, OwnedFd, BadSegment)> {
    let mut all = Vec::new();
    let mut add = |name: &str, file, bad| all.push((name.to_owned(), file, bad));
    for (name, file) in not_memory() {
        add(name, file, BadSegment::NotMemory);
    }
    let good = SEGMENT.bytes();
    for subset in 0..7 {
        let parts = [SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_SEAL];
        let seals =
            (0..3).filter(|bit| subset >> bit & 1 == 1).fold(SealFlag::empty(), |seals, bit| seals | parts[bit]);
        add(&format!("only {seals:?}"), memory(&good, LEN, seals), BadSegment::Unsealed);
    }
    let never_sealable = memfd_create(c"messageport-forged", MFdFlags::MFD_CLOEXEC).expect("a memory file");
    add("a memory file without seals", never_sealable, BadSegment::Unsealed);
    for seal in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_FUTURE_WRITE] {
        add(&format!("{seal:?}"), memory(&good, LEN, SEALED | seal), BadSegment::ReadOnly);
    }
    add("a read-only descriptor", read_only(&SEGMENT.file()), BadSegment::ReadOnly);
    for len in [0, 1, 4096, LEN - 4096, LEN - 1, LEN + 1, LEN + 4096, 1 << 20, 1 << 40] {
        add(&format!("{len} bytes"), memory(&good, len, SEALED), BadSegment::WrongSize);
    }
    add("only zeroes", memory(&[], LEN, SEALED), BadSegment::NotASegment);
    for magic in [0, BUFFER_MAGIC, SEGMENT_MAGIC ^ 1 << 40, u64::MAX] {
        add(&format!("magic word {magic:x}"), Segment { magic, ..SEGMENT }.file(), BadSegment::NotASegment);
    }
    for version in [0, 2, u32::MAX] {
        let bad = BadSegment::Version { found: version, expected: VERSION };
        add(&format!("version {version}"), Segment { version, ..SEGMENT }.file(), bad);
    }
    for capacity in [0, 1, 2048, 4095, 4097, 12288, 1 << 27, 1 << 63, u64::MAX] {
        let segment = Segment { capacity, max_capacity: capacity, ..SEGMENT };
        add(&format!("capacity {capacity}"), segment.file(), BadSegment::BadConstants);
    }
    let doubled = Segment { capacity: 8192, max_capacity: 8192, ..SEGMENT };
    add("twice the capacity", doubled.file(), BadSegment::WrongSize);
    for (name, segment) in [
        ("no header", Segment { header_len: 0, ..SEGMENT }),
        ("a longer header", Segment { header_len: 8192, ..SEGMENT }),
        ("a maximum below the capacity", Segment { max_capacity: 2048, ..SEGMENT }),
        ("a maximum without limit", Segment { max_capacity: 1 << 31, ..SEGMENT }),
        ("254 handles", Segment { max_handles: 254, ..SEGMENT }),
        ("very many handles", Segment { max_handles: u32::MAX, ..SEGMENT }),
        ("65 cached buffers", Segment { max_cached_buffers: 65, ..SEGMENT }),
        ("cached bytes without limit", Segment { max_cached_bytes: u64::MAX, ..SEGMENT }),
        ("messages without limit", Segment { max_message_len: u64::MAX, ..SEGMENT }),
    ] {
        add(name, segment.file(), BadSegment::BadConstants);
    }
    add("a place of a memory file", path_of(&SEGMENT.file()), BadSegment::NotMemory);
    all
}

/// A descriptor that names a memory file, and cannot read, write or map it.
fn path_of(file: &OwnedFd) -> OwnedFd {
    path_only(&std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no zeroes"))
}

/// Descriptors of anything but a lane.
fn bad_lanes() -> Vec<(&'static str, OwnedFd)> {
    vec![
        ("a stream socket", socket(AddressFamily::Unix, SockType::Stream)),
        ("a datagram socket", socket(AddressFamily::Unix, SockType::Datagram)),
        ("a tcp socket", TcpListener::bind("127.0.0.1:0").expect("a port number").into()),
        ("a pipe", std::io::pipe().expect("a pipe").0.into()),
        ("a segment", SEGMENT.file()),
        ("a device", File::open("/dev/null").expect("a file").into()),
        ("a place", path_only(c"/dev/null")),
        ("a socket that is not connected", unconnected()),
        ("a listening socket", listening()),
    ]
}

fn unconnected() -> OwnedFd {
    nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket")
}

fn listening() -> OwnedFd {
    let listening = unconnected();
    bind(listening.as_raw_fd(), &UnixAddr::new_unnamed()).expect("an address");
    listen(&listening, Backlog::new(1).expect("a length")).expect("a socket");
    listening
}

/// Options of a socket by which packets or descriptors get lost: name, number and value.
const BAD_OPTIONS: [(&str, i32, i32); 3] = [
    ("a peek offset", libc::SO_PEEK_OFF, 16),
    ("a peek offset of 0", libc::SO_PEEK_OFF, 0),
    ("no descriptors", 83, 0), // SO_PASSRIGHTS, since Linux 6.16
];

/// Sets an option of a socket. False if the kernel does not have it.
fn set_option(socket: &OwnedFd, option: i32, value: i32) -> bool {
    #[allow(unsafe_code)]
    // SAFETY: the pointer is to an int, and the length is that of an int.
    let result = unsafe {
        let value = (&raw const value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, size_of::<i32>() as u32)
    };
    result == 0
}

/// Capsules that no port has: impossible sides, grown directions, cursors and counts.
fn bad_capsules() -> Vec<PortCapsule> {
    let changed = |changes: &[(usize, u64)]| {
        let mut capsule = NEW_PORT;
        for (index, value) in changes {
            capsule[*index] = *value;
        }
        capsule
    };
    let mut all = vec![
        changed(&[(0, 2)]),
        changed(&[(0, u64::from(u32::MAX))]),
        changed(&[(0, 1 | 4 << 32)]), // a third direction that grew
        changed(&[(8, 8)]),           // a consumer with the start of a ring
        changed(&[(11, 1 << 32)]),    // unread bytes where nothing is unread
    ];
    for cursors in [1, 5] {
        for (position, other, sequence, ring_start) in [
            (4, 0, 0, 0),
            (8, 4, 0, 0),
            (0, 8, 0, 0),
            (CAPACITY + 8, 0, 0, 0),
            (8, 0, 0, 4),
            (8, 0, 0, 16),
            (u64::MAX, u64::MAX, 0, 0),
            (u64::MAX - 7, u64::MAX - 7, 0, 0),
            (1 << 63, 1 << 63, 0, 0),
            (0, 0, u64::MAX, 0),
            (0, 0, 1 << 63, 0),
        ] {
            let values = [position, other, sequence, ring_start];
            all.push(changed(&[0, 1, 2, 3].map(|index| (cursors + index, values[index]))));
        }
    }
    all
}

/// A carrier: the attacker posts on it and the victim receives.
struct Carrier {
    attacker: Attacker,
    victim: MessagePort,
}

impl Carrier {
    fn new() -> Self {
        let (attacker, victim) = Attacker::new(|| pair_of(256 << 10));
        Self { attacker, victim }
    }

    /// Asserts that the victim receives the expected error with the data, goes on receiving, and holds nothing of the
    /// list.
    #[track_caller]
    fn assert_refused(&mut self, name: &str, table: Table<'_>, expected: BadTransfer) {
        let before = Ledger::now();
        self.attacker.post(name.as_bytes(), &table);
        self.attacker.record(DATA, b"the next message", 0);
        match self.victim.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Failed(RecvError::MessageError { reason, data })) => {
                assert_eq!(reason, expected, "{name}");
                assert_eq!(data, name.as_bytes(), "{name}");
            }
            other => panic!("{name}: expected {expected:?}, not {other:?}"),
        }
        assert_eq!(text(&self.victim), "the next message", "after {name}");
        assert!(matches!(self.victim.try_recv(), Err(TryRecvError::Empty)), "after {name}");
        before.assert_restored(name);
    }

    /// Asserts that a list with a descriptor of another kind than its table states ends the channel, and that the
    /// victim holds nothing of it.
    #[track_caller]
    fn assert_ends(name: &str, table: Table<'_>) {
        let before = Ledger::now();
        let mut carrier = Self::new();
        carrier.attacker.post(name.as_bytes(), &table);
        assert_eq!(end_of(&carrier.victim), CloseReason::ProtocolViolation(Violation::BadHandles), "{name}");
        drop(carrier);
        before.assert_restored(name);
    }

    /// As [`assert_refused`](Self::assert_refused) for memory that is `bad`; as [`assert_ends`](Self::assert_ends) for
    /// what is no memory.
    #[track_caller]
    fn assert_bad_memory(&mut self, name: &str, table: Table<'_>, bad: BadSegment) {
        match bad {
            BadSegment::NotMemory => Self::assert_ends(name, table),
            bad => self.assert_refused(name, table, BadTransfer::Segment(bad)),
        }
    }
}

/// Descriptors of a valid port and of a valid buffer.
struct Good {
    keep: MessagePort,
    give: MessagePort,
    segment: OwnedFd,
    lane: OwnedFd,
    buffer: OwnedFd,
}

impl Good {
    fn new() -> Self {
        let ((keep, give), file) = newest_memory(pair);
        let lane = give.as_fd().try_clone_to_owned().expect("a descriptor");
        let buffer =
            memory(&buffer_header(BUFFER_MAGIC, VERSION, HEADER_LEN as u32, 10), HEADER_LEN as u64 + 10, SEALED);
        Self { keep, give, segment: file.into(), lane, buffer }
    }
}

#[test]
fn valid_things_are_adopted() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let good = Good::new();
    let forged = SEGMENT.file();
    let (lane, _lane_of_peer) = lane();
    let table = Table::default().port(NEW_PORT, &good.segment, &good.lane).port(NEW_PORT, &forged, &lane);
    carrier.attacker.post(b"", &table.buffer(10, 0, &good.buffer));
    let message = carrier.victim.recv_timeout(PATIENCE).expect("a valid message");
    assert_eq!((message.ports.len(), message.buffers[0].len()), (2, 10));
    assert_entangled(&good.keep, &message.ports[0]);
    message.ports[1].post_message(b"to a forged segment", []).expect("a forged segment with room");
}

#[test]
fn invalid_memory_of_a_port_is_an_error_with_its_reason() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let (lane, _lane_of_peer) = lane();
    let good = Good::new();
    for (name, file, bad) in bad_segments() {
        carrier.assert_bad_memory(&name, Table::default().port(NEW_PORT, &file, &lane), bad);
        let table = Table::default().port(NEW_PORT, &good.segment, &good.lane).port(NEW_PORT, &file, &lane);
        carrier.assert_bad_memory(&name, table.buffer(10, 0, &good.buffer), bad);
    }
    // The valid things on a refused list are closed with it.
    assert_eq!(end_of(&good.keep), CloseReason::Closed);
    drop(good.give);
}

#[test]
fn huge_page_memory_is_refused() {
    let _alone = alone();
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_HUGETLB;
    let Ok(file) = memfd_create(c"messageport-forged", flags) else {
        return eprintln!("skipped: this system has no huge-page memory files");
    };
    let file = File::from(file);
    if file.set_len(2 << 20).is_err() || fcntl(&file, FcntlArg::F_ADD_SEALS(SEALED)).is_err() {
        return eprintln!("skipped: this system cannot seal huge-page memory files");
    }
    let (lane, _lane_of_peer) = lane();
    let table = Table::default().port(NEW_PORT, &file, &lane);
    Carrier::new().assert_refused("huge pages", table, BadTransfer::Segment(BadSegment::NotTmpfs));
}

#[test]
fn what_is_no_lane_ends_the_carrier() {
    let _alone = alone();
    let (segment, good) = (SEGMENT.file(), Good::new());
    for (name, lane) in bad_lanes() {
        Carrier::assert_ends(name, Table::default().port(NEW_PORT, &segment, &lane));
        let table = Table::default().port(NEW_PORT, &good.segment, &good.lane).port(NEW_PORT, &segment, &lane);
        Carrier::assert_ends(name, table);
    }
}

#[test]
fn a_lane_that_would_lose_packets_is_refused() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let segment = SEGMENT.file();
    for (name, option, value) in BAD_OPTIONS {
        let (lane, _lane_of_peer) = lane();
        if set_option(&lane, option, value) {
            carrier.assert_refused(name, Table::default().port(NEW_PORT, &segment, &lane), BadTransfer::Lane);
        } else {
            eprintln!("skipped: this kernel has no socket option {option}");
        }
    }
}

/// What a former holder may have set and what changes nothing for a pair.
#[test]
fn other_options_of_a_lane_change_nothing() {
    let _alone = alone();
    let options = [
        (libc::SO_PASSCRED, 1),
        (libc::SO_PASSSEC, 1),
        (76, 1), // SO_PASSPIDFD, since Linux 6.5
        (libc::SO_TIMESTAMP, 1),
        (libc::SO_RCVLOWAT, 1 << 20),
        (libc::SO_SNDBUF, 1),
        (libc::SO_RCVBUF, 1),
        (libc::SO_BUSY_POLL, 1000),
        (libc::SO_RXQ_OVFL, 1),
        (libc::SO_PRIORITY, 6),
        (libc::SO_KEEPALIVE, 1),
        (libc::SO_OOBINLINE, 1),
    ];
    let (here, there) = pair();
    let (keep, give) = pair();
    let lane = give.as_fd().try_clone_to_owned().expect("a descriptor");
    options.iter().for_each(|&(option, value)| _ = set_option(&lane, option, value));
    here.post_message(b"", [give.into()]).expect("room");
    let received = there.recv_timeout(PATIENCE).expect("a message").ports.remove(0);
    assert_entangled(&keep, &received);
    // A wake-up, which the sleeper in poll gets as a packet.
    received.as_fd();
    assert!(matches!(received.try_recv(), Err(TryRecvError::Empty)));
    assert!(!readable(&received, Duration::ZERO));
    keep.post_message(b"awake", []).expect("room");
    assert!(readable(&received, PATIENCE));
    assert_eq!(text(&received), "awake");
    assert!(matches!(received.try_recv(), Err(TryRecvError::Empty)));
    for (from, to) in [(&keep, &received), (&received, &keep)] {
        for _ in 0..3 {
            from.post_message(b"", [File::open("/dev/null").expect("a device").into()].map(OwnedFd::into))
                .expect("room");
        }
        for _ in 0..3 {
            assert_eq!(to.recv_timeout(PATIENCE).expect("a message").descriptors.len(), 1);
        }
    }
}

#[test]
fn an_impossible_capsule_is_an_error() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let (segment, (lane, _lane_of_peer)) = (SEGMENT.file(), lane());
    for capsule in bad_capsules() {
        let table = Table::default().port(capsule, &segment, &lane);
        carrier.assert_refused(&format!("{capsule:?}"), table, BadTransfer::Capsule);
    }
}

/// A kind of buffer in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Transfer,
    Frozen,
    Shared,
}

const KINDS: [Kind; 3] = [Kind::Transfer, Kind::Frozen, Kind::Shared];

impl Kind {
    fn magic(self) -> u64 {
        match self {
            Self::Transfer => BUFFER_MAGIC,
            Self::Frozen => u64::from_le_bytes(*b"msgpfrz\0"),
            Self::Shared => u64::from_le_bytes(*b"msgpshr\0"),
        }
    }

    fn seals(self) -> SealFlag {
        if self == Self::Frozen { SEALED | SealFlag::F_SEAL_WRITE } else { SEALED }
    }

    /// A valid file of `len` bytes.
    fn file(self, len: u64) -> OwnedFd {
        memory(&buffer_header(self.magic(), VERSION, 4096, len), 4096 + len, self.seals())
    }

    fn table<'a>(self, len: u64, file: &'a impl AsFd) -> Table<'a> {
        match self {
            Self::Transfer => Table::default().buffer(len, 0, file),
            Self::Frozen => Table::default().frozen(len, file),
            Self::Shared => Table::default().shared(len, file),
        }
    }
}

#[test]
fn an_invalid_buffer_is_an_error_with_its_reason() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    for kind in KINDS {
        let mut refused = |name: &str, file: OwnedFd, len, bad| {
            carrier.assert_bad_memory(&format!("{kind:?}: {name}"), kind.table(len, &file), bad);
        };
        for (name, file) in not_memory() {
            refused(name, file, 0, BadSegment::NotMemory);
        }
        let magic = kind.magic();
        let with = |header: Vec<u8>| memory(&header, 4106, kind.seals());
        refused("shorter than said", kind.file(9), 10, BadSegment::WrongSize);
        refused("longer than said", kind.file(11), 10, BadSegment::WrongSize);
        refused("no header", memory(&[], 10, kind.seals()), 10, BadSegment::WrongSize);
        refused("as long as can be", kind.file(10), u64::MAX, BadSegment::WrongSize);
        refused("almost as long", kind.file(10), u64::MAX - 4096, BadSegment::WrongSize);
        refused("only zeroes", with(Vec::new()), 10, BadSegment::NotASegment);
        for other in [Kind::Transfer, Kind::Frozen, Kind::Shared].into_iter().filter(|other| *other != kind) {
            let file = with(buffer_header(other.magic(), VERSION, 4096, 10));
            refused(&format!("looks like {other:?}"), file, 10, BadSegment::NotASegment);
        }
        let version = BadSegment::Version { found: 2, expected: VERSION };
        refused("version 2", with(buffer_header(magic, 2, 4096, 10)), 10, version);
        refused("another length", with(buffer_header(magic, VERSION, 4096, 9)), 10, BadSegment::BadConstants);
        refused("another header", with(buffer_header(magic, VERSION, 64, 10)), 10, BadSegment::BadConstants);
        refused("a place", path_of(&kind.file(10)), 10, BadSegment::NotMemory);
        // The length is right and the memory is not allocated: a first touch could fail.
        let sparse = sparse_memory(&buffer_header(magic, VERSION, 4096, 1 << 39), 4096 + (1 << 39));
        fcntl(&sparse, FcntlArg::F_ADD_SEALS(kind.seals())).expect("seals");
        refused("half a terabyte of nothing", sparse.into(), 1 << 39, BadSegment::Sparse);
        let hole = sparse_memory(&buffer_header(magic, VERSION, 4096, 3 << 12), 4 << 12);
        for page in [1, 3] {
            hole.write_all_at(&[1], page << 12).expect("a page");
        }
        fcntl(&hole, FcntlArg::F_ADD_SEALS(kind.seals())).expect("seals");
        refused("a hole", hole.into(), 3 << 12, BadSegment::Sparse);
        // As much memory as the file is long, and all but the header behind its end.
        let behind = sparse_memory(&buffer_header(magic, VERSION, 4096, 1 << 20), 4096 + (1 << 20));
        fallocate(&behind, FallocateFlags::FALLOC_FL_KEEP_SIZE, 4096 + (1 << 20), 1 << 20).expect("memory");
        fcntl(&behind, FcntlArg::F_ADD_SEALS(kind.seals())).expect("seals");
        refused("memory behind the end", behind.into(), 1 << 20, BadSegment::Sparse);
        // One page of them all.
        for missing in [1, 255, 256] {
            let all = memory(&buffer_header(magic, VERSION, 4096, 1 << 20), 4096 + (1 << 20), SealFlag::empty());
            let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&all, punch, missing << 12, 4096).expect("a hole");
            fallocate(&all, FallocateFlags::FALLOC_FL_KEEP_SIZE, 4096 + (1 << 20), 4096).expect("memory");
            fcntl(&all, FcntlArg::F_ADD_SEALS(kind.seals())).expect("seals");
            refused(&format!("page {missing} behind the end"), all, 1 << 20, BadSegment::Sparse);
        }
    }
    refused_segment_as_buffer(&mut carrier);
    let number = Kind::Transfer.file(10);
    carrier.assert_refused("a number", Table::default().buffer(10, 1, &number), BadTransfer::Capsule);
}

fn refused_segment_as_buffer(carrier: &mut Carrier) {
    let segment = SEGMENT.file();
    for kind in [Kind::Transfer, Kind::Shared] {
        let table = kind.table(2 * CAPACITY, &segment);
        carrier.assert_refused("a segment", table, BadTransfer::Segment(BadSegment::NotASegment));
    }
}

/// Every set of seals, for every kind of buffer: adopted, or refused with the right reason.
#[test]
fn a_buffer_needs_the_seals_of_its_kind() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let (shrink, grow, last) = (SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_SEAL);
    let (write, future_write) = (SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_FUTURE_WRITE);
    for (kind, read_only_descriptor) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let mut taken = 0;
        for set in 0..1 << 5 {
            let seals = [shrink, grow, last, write, future_write];
            let seals = (0..5).filter(|bit| set >> bit & 1 == 1).fold(SealFlag::empty(), |all, bit| all | seals[bit]);
            let header = buffer_header(kind.magic(), VERSION, 4096, 10);
            let mut file = memory(&header, 4106, seals);
            if read_only_descriptor {
                file = read_only(&file);
            }
            let expected = if !seals.contains(shrink | grow | last) {
                Some(BadSegment::Unsealed)
            } else if kind == Kind::Frozen {
                (!seals.contains(write)).then_some(BadSegment::Writable)
            } else {
                (read_only_descriptor || seals.intersects(write | future_write)).then_some(BadSegment::ReadOnly)
            };
            let name = format!("{kind:?} with {seals:?}, read-only {read_only_descriptor}");
            if let Some(bad) = expected {
                carrier.assert_refused(&name, kind.table(10, &file), BadTransfer::Segment(bad));
                continue;
            }
            taken += 1;
            carrier.attacker.post(b"", &kind.table(10, &file));
            let message = carrier.victim.recv_timeout(PATIENCE).expect(&name);
            assert_eq!(message.buffers.len() + message.frozen.len() + message.shared.len(), 1, "{name}");
            // From here on the maker of the file can no longer change its size or its seals.
            for more in [write, future_write] {
                let _ = fcntl(&file, FcntlArg::F_ADD_SEALS(more)).expect_err(&name);
            }
            assert!(File::from(file).set_len(1).is_err(), "{name}");
            message.shared.iter().for_each(|buffer| buffer.write_at(0, b"still").expect(&name));
            message.buffers.iter().for_each(|buffer| buffer.write_at(0, b"still").expect(&name));
            message.frozen.iter().for_each(|buffer| assert_eq!(buffer[..], [0; 10], "{name}"));
        }
        assert_eq!(taken > 0, kind == Kind::Frozen || !read_only_descriptor, "{kind:?}");
    }
}

#[test]
fn a_frozen_buffer_that_can_still_be_mapped_for_writing_is_refused() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    // The owner has a writable mapping, so the kernel refuses the seal against writes and allows the seal against
    // future ones.
    let file = memory(&buffer_header(Kind::Frozen.magic(), VERSION, 4096, 10), 4106, SealFlag::empty());
    let pages = crate::tools::attacker::Pages::of(&File::from(file.try_clone().expect("a descriptor")));
    let _ = fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).expect_err("a mapping is writable");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALED | SealFlag::F_SEAL_FUTURE_WRITE)).expect("seals");
    let table = Table::default().frozen(10, &file);
    carrier.assert_refused("a mapping", table, BadTransfer::Segment(BadSegment::Writable));
    drop(pages);
}

#[test]
fn descriptors_that_do_not_fit_their_table_end_the_port() {
    let _alone = alone();
    let file = Kind::Shared.file(10);
    let before = Ledger::now();
    let good = || Table::default().shared(10, &file).descriptor(&file);
    // The right number of descriptors, of other kinds than the capsules; none; the maximum.
    for some in [
        &[0, 0, 0, 1, 0][..],
        &[0, 0, 0, 1, 2],
        &[0, 0, 0, 1, u16::MAX],
        &[0, 0, 0, 2, 0],
        &[0, 1, 0, 0, 1],
        &[1, 0, 0, 0, 0],
        &[0, 0, 0, 1, 1, 1],          // recycled buffers without a port
        &[0, 0, 0, 1, 1, 0, 1],       // data in a buffer, without a buffer
        &[0, 0, 0, 1, 1, 0, 0, 0, 1], // reserved
        &[u16::MAX; 10],
    ] {
        let mut counts = [0; 10];
        counts[..some.len()].copy_from_slice(some);
        let (mut attacker, victim) = Attacker::new(pair);
        let mut table = good();
        table.counts = counts;
        attacker.post(b"odd", &table);
        let end = end_of(&victim);
        assert!(matches!(end, CloseReason::ProtocolViolation(_)), "{counts:?}: {end:?}");
    }
    before.assert_restored("after the ends");
    // A frozen and a shared buffer have equal capsules and different files.
    let mut carrier = Carrier::new();
    let mut table = good();
    table.counts[2..4].copy_from_slice(&[1, 0]);
    carrier.assert_refused("exchanged", table, BadTransfer::Segment(BadSegment::Writable));
}

#[test]
fn copied_buffers_that_do_not_fit_their_bytes_end_the_port() {
    let _alone = alone();
    let before = Ledger::now();
    // What a table may have arrives.
    let mut carrier = Carrier::new();
    let good = Table::default().copied_buffer(3, b"one\0\0\0\0\0").copied_buffer(0, b"");
    carrier.attacker.record(CARRIER, &good.payload(b"odd"), 0);
    let message = carrier.victim.recv_timeout(PATIENCE).expect("a message");
    let contents: Vec<_> = message.buffers.iter().map(|buffer| buffer.to_vec().expect("here")).collect();
    assert_eq!((&*message.data, &*contents), (&b"odd"[..], &[b"one".to_vec(), Vec::new()][..]));
    drop((carrier, message));
    let copied = |len| Table::default().copied_buffer(len, b"8 bytes.");
    let with = |count: u16| {
        let mut table = copied(8);
        table.counts[8] = count;
        table
    };
    let many = (0..254).fold(Table::default(), |table, _| table.copied_buffer(0, b""));
    for (name, table) in [
        ("too short", copied(0)),
        ("too long", copied(9)),
        ("endless", copied(u64::MAX)),
        ("without bytes", with(0)),
        ("with more bytes", with(16)),
        ("with other bytes", with(7)),
        ("bytes without a buffer", {
            let mut table = Table::default();
            table.counts[8] = 8;
            table
        }),
        ("endless together", copied(u64::MAX - 7).copied_buffer(8, b"8 bytes.")),
        ("more than a message may have", many),
    ] {
        let (mut attacker, victim) = Attacker::new(pair);
        attacker.record(CARRIER, &table.payload(b"odd"), 0);
        let end = end_of(&victim);
        assert!(matches!(end, CloseReason::ProtocolViolation(_)), "{name}: {end:?}");
    }
    before.assert_restored("after the ends");
}

#[test]
fn a_descriptor_of_any_kind_arrives() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let before = Ledger::now();
    let odd = not_memory();
    let table = odd.iter().fold(Table::default(), |table, (_, file)| table.descriptor(file));
    carrier.attacker.post(b"all kinds", &table);
    let message = carrier.victim.recv_timeout(PATIENCE).expect("descriptors are not inspected");
    assert_eq!(message.descriptors.len(), odd.len());
    for (received, (name, sent)) in message.descriptors.iter().zip(&odd) {
        let id = |file: &OwnedFd| nix::sys::stat::fstat(file).map(|stat| (stat.st_dev, stat.st_ino)).expect(name);
        assert_eq!(id(received), id(sent), "{name}");
    }
    drop((message, odd));
    before.assert_restored("after descriptors of all kinds");
}
