//! Bad things in messages: each is a typed error that names what is wrong, and the carrier goes on.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use messageport::{BadSegment, BadTransfer, CloseReason, MessagePort, RecvError, RecvTimeoutError, TryRecvError};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::path_only;
use crate::tools::attacker::{Attacker, DATA, HEADER_LEN, NEW_PORT, PortCapsule, Table, lane, newest_memory};
use crate::tools::ledger::{Ledger, alone};
use crate::tools::{PATIENCE, assert_entangled, end_of, pair, pair_of, text};

const CAPACITY: u64 = 4096;
const LEN: u64 = HEADER_LEN as u64 + 2 * CAPACITY;
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"msgport\0");
const BUFFER_MAGIC: u64 = u64::from_le_bytes(*b"msgpbuf\0");
const VERSION: u32 = 1;
const SEALED: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// The constants of a segment, which a case alters.
#[derive(Clone, Copy)]
struct Segment {
    magic: u64,
    version: u32,
    header_len: u32,
    capacity: u64,
    max_capacity: u64,
    max_handles: u32,
    max_cached_buffers: u32,
}

const SEGMENT: Segment = Segment {
    magic: SEGMENT_MAGIC,
    version: VERSION,
    header_len: HEADER_LEN as u32,
    capacity: CAPACITY,
    max_capacity: CAPACITY,
    max_handles: 253,
    max_cached_buffers: 0,
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
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"messageport-forged", flags).expect("a memory file"));
    file.set_len(len).expect("a size");
    let fits = header.len().min(len as usize);
    file.write_all_at(&header[..fits], 0).expect("a header");
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("seals");
    file.into()
}

/// The same file by another descriptor, for reading only.
fn read_only(file: &OwnedFd) -> OwnedFd {
    OpenOptions::new().read(true).open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("opened anew").into()
}

fn socket(family: AddressFamily, kind: SockType) -> OwnedFd {
    socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC).expect("sockets").0
}

/// Descriptors that are no memory files.
fn not_memory() -> Vec<(&'static str, OwnedFd)> {
    vec![
        ("a pipe", std::io::pipe().expect("a pipe").0.into()),
        ("a socket", lane().0),
        ("a device", File::open("/dev/null").expect("it is there").into()),
        ("a directory", File::open("/").expect("it is there").into()),
        ("a file of proc", File::open("/proc/self/maps").expect("it is there").into()),
        ("an epoll set", Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll").0),
        ("a place", path_only(c"/dev/null")),
    ]
}

/// What is wrong with the memory of a port.
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
        ("cached buffers", Segment { max_cached_buffers: 1, ..SEGMENT }),
    ] {
        add(name, segment.file(), BadSegment::BadConstants);
    }
    add("a place of a memory file", path_of(&SEGMENT.file()), BadSegment::NotMemory);
    all
}

/// A descriptor that names a memory file, and is none to read, write or map.
fn path_of(file: &OwnedFd) -> OwnedFd {
    path_only(&std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no zeroes"))
}

/// What is no lane.
fn bad_lanes() -> Vec<(&'static str, OwnedFd)> {
    vec![
        ("a stream socket", socket(AddressFamily::Unix, SockType::Stream)),
        ("a datagram socket", socket(AddressFamily::Unix, SockType::Datagram)),
        ("a tcp socket", TcpListener::bind("127.0.0.1:0").expect("a port number").into()),
        ("a pipe", std::io::pipe().expect("a pipe").0.into()),
        ("a segment", SEGMENT.file()),
        ("a device", File::open("/dev/null").expect("it is there").into()),
        ("a place", path_only(c"/dev/null")),
    ]
}

/// What no port can be like: side and what grew, cursors, and what is reserved.
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
        changed(&[(0, 1 | 4 << 32)]), // something else that grew
        changed(&[(8, 8)]),           // a consumer that knows where a ring started
        changed(&[(9, 1)]),           // numbers of buffers
        changed(&[(10, 1)]),
        changed(&[(11, 1)]), // cached buffers
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

/// A carrier on which an attacker posts, with a victim who receives.
struct Carrier {
    attacker: Attacker,
    victim: MessagePort,
}

impl Carrier {
    fn new() -> Self {
        let (attacker, victim) = Attacker::new(|| pair_of(256 << 10));
        Self { attacker, victim }
    }

    /// The victim is told what is wrong, gets the data, and goes on receiving; nothing is left of what came.
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
            other => panic!("{name}: {other:?} instead of {expected:?}"),
        }
        assert_eq!(text(&self.victim), "the next message", "after {name}");
        assert!(matches!(self.victim.try_recv(), Err(TryRecvError::Empty)), "after {name}");
        before.assert_restored(name);
    }
}

/// Descriptors of a port and of a buffer that are in order.
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
fn what_is_in_order_is_adopted() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let good = Good::new();
    let forged = SEGMENT.file();
    let (lane, _lane_of_peer) = lane();
    let table = Table::default().port(NEW_PORT, &good.segment, &good.lane).port(NEW_PORT, &forged, &lane);
    carrier.attacker.post(b"", &table.buffer(10, 0, &good.buffer));
    let message = carrier.victim.recv_timeout(PATIENCE).expect("all of it is in order");
    assert_eq!((message.ports.len(), message.buffers[0].len()), (2, 10));
    assert_entangled(&good.keep, &message.ports[0]);
    message.ports[1].post_message(b"to a forged segment", []).expect("it looks like one");
}

#[test]
fn bad_memory_of_a_port_is_named() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let (lane, _lane_of_peer) = lane();
    let good = Good::new();
    for (name, file, bad) in bad_segments() {
        let expected = BadTransfer::Segment(bad);
        carrier.assert_refused(&name, Table::default().port(NEW_PORT, &file, &lane), expected);
        let table = Table::default().port(NEW_PORT, &good.segment, &good.lane).port(NEW_PORT, &file, &lane);
        carrier.assert_refused(&name, table.buffer(10, 0, &good.buffer), expected);
    }
    // What was good on a refused list is closed with it.
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
fn a_bad_lane_is_named() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let (segment, good) = (SEGMENT.file(), Good::new());
    for (name, lane) in bad_lanes() {
        carrier.assert_refused(name, Table::default().port(NEW_PORT, &segment, &lane), BadTransfer::Lane);
        let table = Table::default().port(NEW_PORT, &good.segment, &good.lane).port(NEW_PORT, &segment, &lane);
        carrier.assert_refused(name, table, BadTransfer::Lane);
    }
}

#[test]
fn an_impossible_capsule_is_named() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let (segment, (lane, _lane_of_peer)) = (SEGMENT.file(), lane());
    for capsule in bad_capsules() {
        let table = Table::default().port(capsule, &segment, &lane);
        carrier.assert_refused(&format!("{capsule:?}"), table, BadTransfer::Capsule);
    }
}

#[test]
fn a_bad_buffer_is_named() {
    let _alone = alone();
    let mut carrier = Carrier::new();
    let of_len = |len| memory(&buffer_header(BUFFER_MAGIC, VERSION, 4096, len), 4096 + len, SEALED);
    let segment_error = BadTransfer::Segment;
    for (name, file) in not_memory() {
        let expected = segment_error(BadSegment::NotMemory);
        carrier.assert_refused(name, Table::default().buffer(0, 0, &file), expected);
    }
    let half_sealed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let header = buffer_header(BUFFER_MAGIC, VERSION, 4096, 10);
    let cases = [
        ("no last seal", memory(&header, 4106, half_sealed), 10, BadSegment::Unsealed),
        ("no seals", memory(&header, 4106, SealFlag::empty()), 10, BadSegment::Unsealed),
        ("sealed against writes", memory(&header, 4106, SEALED | SealFlag::F_SEAL_WRITE), 10, BadSegment::ReadOnly),
        ("read-only", read_only(&of_len(10)), 10, BadSegment::ReadOnly),
        ("shorter than said", of_len(9), 10, BadSegment::WrongSize),
        ("longer than said", of_len(11), 10, BadSegment::WrongSize),
        ("no header", memory(&[], 10, SEALED), 10, BadSegment::WrongSize),
        ("as long as can be", of_len(10), u64::MAX, BadSegment::WrongSize),
        ("almost as long", of_len(10), u64::MAX - 4096, BadSegment::WrongSize),
        ("a segment", SEGMENT.file(), 2 * CAPACITY, BadSegment::NotASegment),
        (
            "version 2",
            memory(&buffer_header(BUFFER_MAGIC, 2, 4096, 10), 4106, SEALED),
            10,
            BadSegment::Version { found: 2, expected: VERSION },
        ),
        (
            "another length",
            memory(&buffer_header(BUFFER_MAGIC, 1, 4096, 9), 4106, SEALED),
            10,
            BadSegment::BadConstants,
        ),
        ("another header", memory(&buffer_header(BUFFER_MAGIC, 1, 64, 10), 4106, SEALED), 10, BadSegment::BadConstants),
        ("a place", path_of(&of_len(10)), 10, BadSegment::NotMemory),
    ];
    for (name, file, len, bad) in &cases {
        carrier.assert_refused(name, Table::default().buffer(*len, 0, file), segment_error(*bad));
    }
    carrier.assert_refused("a number", Table::default().buffer(10, 1, &of_len(10)), BadTransfer::Capsule);
}
