//! The connection between the two processes of a run, which gives both sides ports, descriptors and names.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use messageport::{ChannelOptions, MessagePort};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::error::{Error, Result};
use crate::link::Side;
use crate::system::{descriptors, machine};

/// Longest time that a process waits for the other one to finish a turn: 120 seconds.
pub(crate) const TURN_TIMEOUT: Duration = Duration::from_secs(120);

/// One side of the connection between the two processes of a run.
///
/// Both sides must make the calls that return something shared ([`channel`](Self::channel),
/// [`descriptors`](Self::descriptors), [`sockets`](Self::sockets), [`name`](Self::name), [`text`](Self::text)) in the
/// same order.
pub struct Session {
    side: Side,
    cpus: [usize; 2],
    /// Carries ports and texts.
    window: MessagePort,
    /// Carries requests, replies and descriptors.
    socket: OwnedFd,
    /// The process ID of the first process.
    number: u32,
    names: Cell<u32>,
}

impl Session {
    pub(crate) fn new(side: Side, cpus: [usize; 2], window: MessagePort, socket: OwnedFd, number: u32) -> Self {
        Self { side, cpus, window, socket, number, names: Cell::new(0) }
    }

    /// Returns the side of this process.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Returns the CPU of this side and that of the other side.
    pub fn cpus(&self) -> [usize; 2] {
        match self.side {
            Side::First => self.cpus,
            Side::Second => [self.cpus[1], self.cpus[0]],
        }
    }

    /// Returns a name that is unique on this machine and the same on both sides.
    pub fn name(&self) -> String {
        let count = self.names.get();
        self.names.set(count + 1);
        format!("messageport-bench-{}-{count}", self.number)
    }

    /// Returns the text that `make` returns on the first side, on both sides.
    pub fn text(&self, make: impl FnOnce() -> Result<String>) -> Result<String> {
        match self.side {
            Side::First => {
                let text = make()?;
                let posted = self.window.post_message(text.as_bytes(), []);
                posted.map_err(Error::of("cannot send a name to the second process"))?;
                Ok(text)
            }
            Side::Second => {
                let message = self.window.recv().map_err(Error::of("the second process received no name"))?;
                String::from_utf8(message.data).map_err(Error::of("a name is not text"))
            }
        }
    }

    /// Calls `action` while this thread may run on both CPUs, an affinity that new threads and processes inherit.
    pub fn on_both_cpus<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<T> {
        let [ours, _] = self.cpus();
        machine::allow(&self.cpus)?;
        let result = action();
        machine::pin(ours)?;
        result
    }

    /// Creates a channel and returns one of its ports on each side.
    pub fn channel(&self, options: &ChannelOptions) -> Result<MessagePort> {
        match self.side {
            Side::First => {
                let channel = options.create().map_err(Error::of("cannot create a channel"))?;
                let posted = self.window.post_message_timeout(&[], [channel.port2.into()], TURN_TIMEOUT);
                posted.map_err(Error::of("cannot transfer a port to the second process"))?;
                Ok(channel.port1)
            }
            Side::Second => {
                let message = self.window.recv().map_err(Error::of("the second process received no port"))?;
                message.ports.into_iter().next().ok_or_else(|| Error::failed("the second process received no port"))
            }
        }
    }

    /// Calls `make` on the first side, which returns the descriptors for the first and for the second side, at most two
    /// each, and returns them on their sides.
    pub fn descriptors<const N: usize>(
        &self,
        make: impl FnOnce() -> nix::Result<([OwnedFd; N], [OwnedFd; N])>,
    ) -> Result<[OwnedFd; N]> {
        match self.side {
            Side::First => {
                let (ours, theirs) =
                    make().map_err(Error::of("cannot create the descriptors that the processes share"))?;
                descriptors::send(self.socket.as_fd(), &[0], &theirs.each_ref().map(AsFd::as_fd))
                    .map_err(Error::of("cannot pass a descriptor to the second process"))?;
                Ok(ours)
            }
            Side::Second => {
                let missing = "the second process received no descriptor";
                let (_, found) =
                    descriptors::receive(self.socket.as_fd(), &mut [0], N, true).map_err(Error::of(missing))?;
                let found: Vec<OwnedFd> = found.into_iter().flatten().collect();
                found.try_into().map_err(|_| Error::failed(missing))
            }
        }
    }

    /// Creates a Unix socket pair and returns one of its sockets on each side.
    pub fn sockets(&self, kind: SockType) -> Result<OwnedFd> {
        let [socket] = self.descriptors(|| {
            let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
            Ok(([ours], [theirs]))
        })?;
        Ok(socket)
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
