//! What the two processes of a run share: ports, descriptors, names and texts for both sides.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use messageport::{ChannelOptions, MessageChannel, MessagePort};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::error::{Error, Result};
use crate::link::Side;
use crate::system::{descriptors, machine};

/// Longest wait for the end of a turn.
pub(crate) const TURN: Duration = Duration::from_secs(120);

/// What both processes share while the run lasts. Calls that give both sides something must be made by both, in the
/// same order.
pub struct Session {
    side: Side,
    cpus: [usize; 2],
    /// Carries the ports.
    window: MessagePort,
    /// Carries orders, answers and descriptors.
    socket: OwnedFd,
    /// The first process's number, the same on both sides.
    number: u32,
    names: Cell<u32>,
}

impl Session {
    pub(crate) fn new(side: Side, cpus: [usize; 2], window: MessagePort, socket: OwnedFd, number: u32) -> Self {
        Self { side, cpus, window, socket, number, names: Cell::new(0) }
    }

    /// Which side this process is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The CPU of this side and that of the other one.
    pub fn cpus(&self) -> [usize; 2] {
        match self.side {
            Side::First => self.cpus,
            Side::Second => [self.cpus[1], self.cpus[0]],
        }
    }

    /// A name that nobody else uses, the same on both sides.
    pub fn name(&self) -> String {
        let count = self.names.get();
        self.names.set(count + 1);
        format!("messageport-bench-{}-{count}", self.number)
    }

    /// A text that the first side makes, for both.
    pub fn text(&self, make: impl FnOnce() -> Result<String>) -> Result<String> {
        match self.side {
            Side::First => {
                let text = make()?;
                let posted = self.window.post_message(text.as_bytes(), []);
                posted.map_err(Error::of("cannot tell the second process a name"))?;
                Ok(text)
            }
            Side::Second => {
                let message = self.window.recv().map_err(Error::of("the second process was told no name"))?;
                String::from_utf8(message.data).map_err(Error::of("a name is not text"))
            }
        }
    }

    /// Does something while this thread may run on both CPUs, which the threads and processes inherit that it starts.
    pub fn on_both_cpus<T>(&self, doing: impl FnOnce() -> Result<T>) -> Result<T> {
        let [ours, _] = self.cpus();
        machine::allow(&self.cpus)?;
        let done = doing();
        machine::pin(ours)?;
        done
    }

    /// Both ends of a new channel, one for each side.
    pub fn channel(&self, options: &ChannelOptions) -> Result<MessagePort> {
        match self.side {
            Side::First => {
                let channel = MessageChannel::with_options(options).map_err(Error::of("cannot make a channel"))?;
                let posted = self.window.post_message_wait(&[], [channel.port2.into()], Some(TURN));
                posted.map_err(Error::of("cannot give a port to the second process"))?;
                Ok(channel.port1)
            }
            Side::Second => {
                let message = self.window.recv().map_err(Error::of("the second process got no port"))?;
                message.ports.into_iter().next().ok_or_else(|| Error::failed("the second process got no port"))
            }
        }
    }

    /// What `make` makes for the first and for the second side, one or two descriptors each.
    pub fn descriptors<const N: usize>(
        &self,
        make: impl FnOnce() -> nix::Result<([OwnedFd; N], [OwnedFd; N])>,
    ) -> Result<[OwnedFd; N]> {
        match self.side {
            Side::First => {
                let (ours, theirs) = make().map_err(Error::of("cannot make what the processes share"))?;
                descriptors::send(self.socket.as_fd(), &[0], &theirs.each_ref().map(AsFd::as_fd))
                    .map_err(Error::of("cannot give a descriptor to the second process"))?;
                Ok(ours)
            }
            Side::Second => {
                let missing = "the second process got no descriptor";
                let (_, found) =
                    descriptors::receive(self.socket.as_fd(), &mut [0], N, true).map_err(Error::of(missing))?;
                let found: Vec<OwnedFd> = found.into_iter().flatten().collect();
                found.try_into().map_err(|_| Error::failed(missing))
            }
        }
    }

    /// Both ends of a Unix socket pair.
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
