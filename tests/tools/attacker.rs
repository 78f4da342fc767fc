//! The attacker: a peer that follows no protocol. It has a second mapping of the segment and a duplicate of the lane,
//! and writes records, packets, capsules and segments by hand. The numbers repeat those of the wire formats on purpose.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use messageport::MessagePort;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};

use super::memory::newest_memory;

pub(crate) const HEADER_LEN: usize = 4096;
pub(crate) const PAD: u8 = 1;
pub(crate) const DATA: u8 = 2;
pub(crate) const CARRIER: u8 = 3;
/// A record with one buffer that the receiver keeps.
pub(crate) const BUFFER: u8 = 7;
pub(crate) const WAKE: u32 = 1;
pub(crate) const HANDLES: u32 = 2;
const LINE: usize = 128;

/// A second mapping of a segment.
pub(crate) struct Pages {
    map: MmapRaw,
}

impl Pages {
    pub(crate) fn of(file: &File) -> Self {
        let len = file.metadata().expect("a file").len() as usize;
        Self { map: MmapOptions::new().len(len).map_raw(file).expect("a second mapping") }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        (self.len() - HEADER_LEN) / 2
    }

    #[allow(unsafe_code)]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len());
        // SAFETY: aligned and inside the mapping, which outlives the reference.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().wrapping_add(offset).cast()) }
    }

    #[allow(unsafe_code)]
    pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len());
        // SAFETY: aligned and inside the mapping, which outlives the reference.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().wrapping_add(offset).cast()) }
    }

    /// The read cursor of a direction.
    pub(crate) fn cursor(&self, direction: usize) -> &AtomicU64 {
        self.word(LINE + direction * 4 * LINE)
    }

    /// The doorbells of a direction, of its consumer and of its producer.
    pub(crate) fn doorbells(&self, direction: usize) -> [&AtomicU32; 2] {
        let lines = LINE + direction * 4 * LINE;
        [self.half_word(lines + LINE), self.half_word(lines + 2 * LINE)]
    }

    /// The read cursor at which the sleeping producer of a direction is to be woken.
    pub(crate) fn wanted(&self, direction: usize) -> &AtomicU64 {
        self.word(LINE + direction * 4 * LINE + 2 * LINE + 8)
    }

    /// The state words of a direction, of its consumer and of its producer.
    pub(crate) fn states(&self, direction: usize) -> [&AtomicU32; 2] {
        let lines = LINE + direction * 4 * LINE;
        [self.half_word(lines + LINE + 4), self.half_word(lines + 2 * LINE + 4)]
    }

    /// A word of a direction's ring.
    pub(crate) fn ring(&self, direction: usize, position: u64) -> &AtomicU64 {
        let capacity = self.capacity();
        self.word(HEADER_LEN + direction * capacity + (position as usize & (capacity - 1) & !7))
    }
}

/// The encoded header of a record.
pub(crate) fn header(kind: u8, len: usize, handles: usize, sequence: u64) -> u64 {
    len as u64 | u64::from(kind) << 32 | (handles as u64) << 40 | sequence << 48
}

/// A packet on a lane.
pub(crate) fn packet(kind: u32, count: u32, sequence: u64) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[..4].copy_from_slice(&kind.to_ne_bytes());
    packet[4..8].copy_from_slice(&count.to_ne_bytes());
    packet[8..].copy_from_slice(&sequence.to_ne_bytes());
    packet
}

/// Sends bytes and descriptors over a socket in one packet.
pub(crate) fn send(socket: &impl AsRawFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &control };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).map(drop)
}

/// Two connected sockets, fit to be a lane.
pub(crate) fn lane() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("sockets")
}

/// The attacker holds side A of a new pair, and the victim side B. Nothing has been posted.
pub(crate) struct Attacker {
    pub(crate) pages: Pages,
    pub(crate) lane: OwnedFd,
    position: u64,
    pub(crate) sequence: u64,
    /// Keeps the end open.
    pub(crate) port: MessagePort,
}

impl Attacker {
    /// The attacker, and the port of the victim. No other thread may make memory files meanwhile.
    pub(crate) fn new(make: impl FnOnce() -> (MessagePort, MessagePort)) -> (Self, MessagePort) {
        let ((port, victim), file) = newest_memory(make);
        let lane = port.as_fd().try_clone_to_owned().expect("a descriptor");
        (Self { pages: Pages::of(&file), lane, position: 0, sequence: 0, port }, victim)
    }

    /// Commits a record, whether there is room or not.
    pub(crate) fn record(&mut self, kind: u8, payload: &[u8], handles: usize) {
        let words = payload.len().div_ceil(8) as u64;
        for index in 0..words {
            let mut word = [0; 8];
            let from = &payload[index as usize * 8..payload.len().min(index as usize * 8 + 8)];
            word[..from.len()].copy_from_slice(from);
            self.pages.ring(0, self.position + 8 + index * 8).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        let next = self.position + 8 + words * 8;
        assert!(next + 8 <= self.pages.capacity() as u64, "the attacker cannot wrap");
        self.pages.ring(0, next).store(0, Ordering::Relaxed);
        let header = header(kind, payload.len(), handles, self.sequence);
        self.pages.ring(0, self.position).store(header, Ordering::SeqCst);
        self.position = next;
        self.sequence += 1;
    }

    pub(crate) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        send(&self.lane, bytes, descriptors)
    }

    /// Posts a message with a transfer table, in the order of an honest peer. The table may be invalid.
    pub(crate) fn post(&mut self, data: &[u8], table: &Table<'_>) {
        let handles = packet(HANDLES, table.descriptors.len() as u32, self.sequence);
        self.send(&handles, &table.descriptors).expect("the descriptors go out");
        self.record(CARRIER, &table.payload(data), table.descriptors.len());
    }
}

/// The table of a message with a transfer list, and its descriptors, in the order of the kinds in `counts`.
#[derive(Default)]
pub(crate) struct Table<'a> {
    capsules: Vec<u8>,
    /// The numbers of ports, buffers, frozen buffers, shared buffers, descriptors and recycled buffers of ports; 1 if
    /// the last buffer is the data; reserved; two halves of the bytes of buffers that are copied.
    pub(crate) counts: [u16; 10],
    descriptors: Vec<BorrowedFd<'a>>,
    /// The bytes of buffers that are copied.
    copied: Vec<u8>,
}

/// Bytes of a port's capsule.
const PORT_CAPSULE: usize = 96;

/// A port in transit: its side and the directions that grew, four words for each direction, the bytes of data and of
/// buffers that wait outside its ring, the number of recycled buffers.
pub(crate) type PortCapsule = [u64; PORT_CAPSULE / 8];

/// The capsule of side B of a new pair.
pub(crate) const NEW_PORT: PortCapsule = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl<'a> Table<'a> {
    /// The payload of a record with this table.
    pub(crate) fn payload(&self, data: &[u8]) -> Vec<u8> {
        let mut payload = data.to_vec();
        payload.resize(data.len().next_multiple_of(8), 0);
        payload.extend_from_slice(&self.copied);
        payload.extend_from_slice(&self.capsules);
        payload.extend_from_slice(&(data.len() as u32).to_ne_bytes());
        payload.extend(self.counts.iter().flat_map(|count| count.to_ne_bytes()));
        payload
    }

    pub(crate) fn handles(&self) -> usize {
        self.descriptors.len()
    }

    pub(crate) fn descriptors(&self) -> &[BorrowedFd<'a>] {
        &self.descriptors
    }

    pub(crate) fn port(mut self, capsule: PortCapsule, segment: &'a impl AsFd, lane: &'a impl AsFd) -> Self {
        self.descriptors.push(segment.as_fd());
        self.add(0, &capsule, lane)
    }

    /// `way`: the way in the upper half, the slot in the lower half.
    pub(crate) fn buffer(self, len: u64, way: u64, file: &'a impl AsFd) -> Self {
        self.add(1, &[len, len, way], file)
    }

    /// A buffer of `len` bytes whose bytes are `bytes`.
    pub(crate) fn copied_buffer(mut self, len: u64, bytes: &[u8]) -> Self {
        self.copied.extend_from_slice(bytes);
        self.counts[8] = self.copied.len() as u16;
        self.counts[1] += 1;
        self.capsules.extend([len, 0, 4 << 32].iter().flat_map(|word| word.to_ne_bytes()));
        self
    }

    /// A buffer that the receiver should keep already.
    pub(crate) fn known_buffer(mut self, len: u64, way: u64) -> Self {
        self.counts[1] += 1;
        self.capsules.extend([len, len, way].iter().flat_map(|word| word.to_ne_bytes()));
        self
    }

    pub(crate) fn frozen(self, len: u64, file: &'a impl AsFd) -> Self {
        self.add(2, &[len], file)
    }

    pub(crate) fn shared(self, len: u64, file: &'a impl AsFd) -> Self {
        self.add(3, &[len], file)
    }

    pub(crate) fn descriptor(self, file: &'a impl AsFd) -> Self {
        self.add(4, &[], file)
    }

    fn add(mut self, kind: usize, capsule: &[u64], file: &'a impl AsFd) -> Self {
        assert!(self.counts[kind + 1..].iter().all(|count| *count == 0), "the kinds must be added in order");
        self.counts[kind] += 1;
        self.capsules.extend(capsule.iter().flat_map(|word| word.to_ne_bytes()));
        self.descriptors.push(file.as_fd());
        self
    }
}
