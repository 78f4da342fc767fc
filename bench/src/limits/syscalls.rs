//! `bare`: only the system calls that creating a pair, or transferring a port or a buffer, cannot avoid.

use std::os::fd::{AsFd, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::ftruncate;

use crate::error::{Error, Result};
use crate::link::{Link, Side, Wait, spin_until};
use crate::session::Session;
use crate::system::descriptors;

/// Size of a channel's memory file in bytes: a page and two rings of the default capacity.
const SEGMENT: usize = 4096 + 2 * (64 << 10);

fn memory(len: usize) -> nix::Result<OwnedFd> {
    let file = memfd_create(c"messageport-bench", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    ftruncate(&file, len as i64)?;
    Ok(file)
}

fn map(file: &OwnedFd, len: usize) -> Result<MmapRaw> {
    MmapOptions::new().len(len).map_raw(file).map_err(Error::of("cannot map memory"))
}

/// Creates, seals and maps a memory file, writes to its first page, creates a socket pair, and closes everything.
pub(crate) fn create_and_drop() -> Result<()> {
    let failed = Error::of("cannot create a memory file");
    let file = memory(SEGMENT).map_err(&failed)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(failed)?;
    let map = map(&file, SEGMENT)?;
    write_word(&map, 1);
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map(drop)
        .map_err(Error::of("cannot create a socket pair"))
}

#[allow(unsafe_code)]
fn write_word(map: &MmapRaw, word: u64) {
    assert!(map.len() >= size_of::<u64>());
    // SAFETY: the mapping is page aligned and long enough, and only the holder of the parcel accesses it.
    unsafe { map.as_mut_ptr().cast::<u64>().write(word) }
}

#[allow(unsafe_code)]
fn read_word(map: &MmapRaw) -> u64 {
    assert!(map.len() >= size_of::<u64>());
    // SAFETY: the mapping is page aligned and long enough, and only the holder of the parcel accesses it.
    unsafe { map.as_ptr().cast::<u64>().read() }
}

/// The descriptors that a message carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parcel {
    /// Those of a port: a memory file and a socket.
    Port,
    /// That of a buffer: a memory file. The same file goes there and back.
    Buffer,
    /// That of a new buffer for each round trip. The answer carries none.
    FreshBuffer,
}

/// Passes descriptors over a socket: the receiver maps the memory file, the sender unmaps and closes it.
pub(crate) struct DescriptorLink {
    socket: OwnedFd,
    side: Side,
    spins: bool,
    parcel: Parcel,
    len: usize,
    /// The memory file, the socket of a port, and the mapping, on the side that holds them.
    held: Option<(OwnedFd, Option<OwnedFd>, MmapRaw)>,
}

impl DescriptorLink {
    pub(crate) fn new(session: &Session, size: usize, parcel: Parcel, wait: Wait) -> Result<Self> {
        let socket = session.sockets(SockType::SeqPacket)?;
        let len = if parcel == Parcel::Port { SEGMENT } else { size + 4096 };
        let (side, spins) = (session.side(), wait == Wait::Spin);
        let mut link = Self { socket, side, spins, parcel, len, held: None };
        if side == Side::First && parcel != Parcel::FreshBuffer {
            link.held = Some(link.make()?);
        }
        Ok(link)
    }

    fn make(&self) -> Result<(OwnedFd, Option<OwnedFd>, MmapRaw)> {
        let failed = Error::of("cannot create the descriptors to pass");
        let file = memory(self.len).map_err(&failed)?;
        let socket = if self.parcel == Parcel::Port {
            let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
            Some(pair.map_err(failed)?.0)
        } else {
            fallocate(&file, FallocateFlags::empty(), 0, self.len as i64).map_err(failed)?;
            None
        };
        let map = map(&file, self.len)?;
        Ok((file, socket, map))
    }
}

impl Link for DescriptorLink {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let failed = Error::of("cannot pass descriptors");
        let bytes = stamp.to_ne_bytes();
        if self.parcel == Parcel::FreshBuffer && self.side == Side::Second {
            self.held = None;
            return descriptors::send(self.socket.as_fd(), &bytes, &[]).map_err(failed);
        }
        let held = if self.parcel == Parcel::FreshBuffer { Some(self.make()?) } else { self.held.take() };
        let (file, socket, map) =
            held.ok_or_else(|| Error::failed("this side does not hold the descriptors to pass"))?;
        write_word(&map, stamp);
        match &socket {
            Some(socket) => descriptors::send(self.socket.as_fd(), &bytes, &[file.as_fd(), socket.as_fd()]),
            None => descriptors::send(self.socket.as_fd(), &bytes, &[file.as_fd()]),
        }
        .map_err(failed)
    }

    fn receive(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        let mut receive = || match descriptors::receive(self.socket.as_fd(), &mut bytes, 2, !self.spins) {
            Ok((0, _)) => Err(Error::failed("the other process has gone")),
            Ok((_, found)) => Ok(Some(found)),
            Err(nix::errno::Errno::EAGAIN) => Ok(None),
            Err(error) => Err(Error::failed(format_args!("cannot receive descriptors: {error}"))),
        };
        let [file, socket] = spin_until(&mut receive)?;
        let Some(file) = file else {
            return Ok(u64::from_ne_bytes(bytes));
        };
        let map = map(&file, self.len)?;
        let stamp = read_word(&map);
        self.held = Some((file, socket, map));
        Ok(stamp)
    }
}
