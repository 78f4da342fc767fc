//! The system calls alone: what a pair, or a port or buffer in a message, cannot do without.

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

/// Bytes of a channel's memory file: a page, and two rings of the default capacity.
const SEGMENT: usize = 4096 + 2 * (64 << 10);

fn memory(len: usize) -> nix::Result<OwnedFd> {
    let file = memfd_create(c"messageport-bench", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    ftruncate(&file, len as i64)?;
    Ok(file)
}

fn map(file: &OwnedFd, len: usize) -> Result<MmapRaw> {
    MmapOptions::new().len(len).map_raw(file).map_err(Error::of("cannot map memory"))
}

/// `create`: a sealed memory file, mapped, its first page written, and a socket pair; all of it closed again.
pub(crate) fn create_and_drop() -> Result<()> {
    let failed = Error::of("cannot make a memory file");
    let file = memory(SEGMENT).map_err(&failed)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(failed)?;
    let map = map(&file, SEGMENT)?;
    write_word(&map, 1);
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map(drop)
        .map_err(Error::of("cannot make a socket pair"))
}

#[allow(unsafe_code)]
fn write_word(map: &MmapRaw, word: u64) {
    assert!(map.len() >= size_of::<u64>());
    // SAFETY: inside the mapping, which is page aligned; nobody else has this memory at this time.
    unsafe { map.as_mut_ptr().cast::<u64>().write(word) }
}

#[allow(unsafe_code)]
fn read_word(map: &MmapRaw) -> u64 {
    assert!(map.len() >= size_of::<u64>());
    // SAFETY: inside the mapping, which is page aligned; nobody else has this memory at this time.
    unsafe { map.as_ptr().cast::<u64>().read() }
}

/// What is passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parcel {
    /// What a port is made of: a memory file and a socket.
    Port,
    /// What a buffer is made of: a memory file. It goes there and back.
    Buffer,
    /// A new buffer each time.
    FreshBuffer,
}

/// Descriptors that go over a socket and are mapped where they arrive, unmapped and closed where they leave.
pub(crate) struct DescriptorLink {
    socket: OwnedFd,
    side: Side,
    spins: bool,
    parcel: Parcel,
    len: usize,
    held: Option<(OwnedFd, Option<OwnedFd>, MmapRaw)>,
}

impl DescriptorLink {
    pub(crate) fn new(session: &Session, size: usize, parcel: Parcel, wait: Wait) -> Result<Self> {
        let socket = session.sockets(SockType::SeqPacket)?;
        let len = if parcel == Parcel::Port { SEGMENT } else { size + 4096 };
        let (side, spins) = (session.side(), wait == Wait::Spin);
        let mut passing = Self { socket, side, spins, parcel, len, held: None };
        if side == Side::First && parcel != Parcel::FreshBuffer {
            passing.held = Some(passing.make()?);
        }
        Ok(passing)
    }

    fn make(&self) -> Result<(OwnedFd, Option<OwnedFd>, MmapRaw)> {
        let failed = Error::of("cannot make what is passed");
        let file = memory(self.len).map_err(&failed)?;
        let second = if self.parcel == Parcel::Port {
            let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
            Some(pair.map_err(failed)?.0)
        } else {
            fallocate(&file, FallocateFlags::empty(), 0, self.len as i64).map_err(failed)?;
            None
        };
        let map = map(&file, self.len)?;
        Ok((file, second, map))
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
        let (file, second, map) = held.ok_or_else(|| Error::failed("what is passed is not here"))?;
        write_word(&map, stamp);
        match &second {
            Some(second) => descriptors::send(self.socket.as_fd(), &bytes, &[file.as_fd(), second.as_fd()]),
            None => descriptors::send(self.socket.as_fd(), &bytes, &[file.as_fd()]),
        }
        .map_err(failed)
    }

    fn receive(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        let mut take = || match descriptors::receive(self.socket.as_fd(), &mut bytes, 2, !self.spins) {
            Ok((0, _)) => Err(Error::failed("the other process is gone")),
            Ok((_, found)) => Ok(Some(found)),
            Err(nix::errno::Errno::EAGAIN) => Ok(None),
            Err(error) => Err(Error::failed(format_args!("cannot take descriptors: {error}"))),
        };
        let [file, second] = spin_until(&mut take)?;
        let Some(file) = file else {
            return Ok(u64::from_ne_bytes(bytes));
        };
        let map = map(&file, self.len)?;
        let stamp = read_word(&map);
        self.held = Some((file, second, map));
        Ok(stamp)
    }
}
