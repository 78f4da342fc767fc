//! What takes part in the benchmark: ways for two processes to send each other a stamped message.

use std::os::fd::{AsRawFd, BorrowedFd};

use messageport::{Message, MessagePort};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use crate::failure::Failure;

/// One side of a link. A message is as long as the link's size and begins with its stamp.
pub(crate) trait Link {
    fn send(&mut self, stamp: u64) -> Result<(), Failure>;

    /// Waits for the next message, copies it out and checks its stamp.
    fn receive(&mut self, stamp: u64) -> Result<(), Failure>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    Limit,
    PortSpin,
    Futex,
    PortBlock,
    Unix,
}

impl Contestant {
    /// In the order of their turns: each port beside what it is compared with.
    pub(crate) const ALL: [Self; 5] = [Self::Limit, Self::PortSpin, Self::Futex, Self::PortBlock, Self::Unix];

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::PortSpin | Self::PortBlock => "messageport",
            Self::Futex => "futex",
            Self::Unix => "unix",
        }
    }

    pub(crate) fn wait(self) -> &'static str {
        if self.spins() { "spin" } else { "block" }
    }

    pub(crate) fn spins(self) -> bool {
        matches!(self, Self::Limit | Self::PortSpin)
    }

    pub(crate) fn compared_with(self) -> Option<Self> {
        match self {
            Self::PortSpin => Some(Self::Limit),
            Self::PortBlock => Some(Self::Futex),
            Self::Limit | Self::Futex | Self::Unix => None,
        }
    }
}

/// A port, receiving into one message that is used again and again.
pub(crate) struct Port<'a> {
    port: &'a MessagePort,
    payload: Vec<u8>,
    message: Message,
}

impl<'a> Port<'a> {
    pub(crate) fn new(port: &'a MessagePort, size: usize) -> Self {
        Self { port, payload: vec![0; size], message: Message::default() }
    }
}

impl Link for Port<'_> {
    fn send(&mut self, stamp: u64) -> Result<(), Failure> {
        write_stamp(&mut self.payload, stamp);
        self.port.post_message(&self.payload, []).map_err(Failure::of("cannot post"))
    }

    fn receive(&mut self, stamp: u64) -> Result<(), Failure> {
        self.port.recv_into(&mut self.message).map_err(Failure::of("cannot receive"))?;
        check_stamp(&self.message.data, self.payload.len(), stamp)
    }
}

/// One end of a SEQPACKET socket pair, blocking.
pub(crate) struct Unix<'a> {
    socket: BorrowedFd<'a>,
    payload: Vec<u8>,
    received: Vec<u8>,
}

impl<'a> Unix<'a> {
    pub(crate) fn new(socket: BorrowedFd<'a>, size: usize) -> Self {
        Self { socket, payload: vec![0; size], received: vec![0; size] }
    }
}

impl Link for Unix<'_> {
    fn send(&mut self, stamp: u64) -> Result<(), Failure> {
        write_stamp(&mut self.payload, stamp);
        unless_interrupted(|| send(self.socket.as_raw_fd(), &self.payload, MsgFlags::MSG_NOSIGNAL))
            .map_err(Failure::of("cannot send on the socket"))?;
        Ok(())
    }

    fn receive(&mut self, stamp: u64) -> Result<(), Failure> {
        let len = unless_interrupted(|| recv(self.socket.as_raw_fd(), &mut self.received, MsgFlags::empty()))
            .map_err(Failure::of("cannot receive on the socket"))?;
        check_stamp(&self.received[..len], self.payload.len(), stamp)
    }
}

fn unless_interrupted(mut call: impl FnMut() -> nix::Result<usize>) -> nix::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

fn write_stamp(payload: &mut [u8], stamp: u64) {
    payload[..8].copy_from_slice(&stamp.to_ne_bytes());
}

fn check_stamp(data: &[u8], size: usize, stamp: u64) -> Result<(), Failure> {
    if data.len() == size && data.first_chunk() == Some(&stamp.to_ne_bytes()) {
        return Ok(());
    }
    Err(Failure::failed(format_args!("a wrong message of {} bytes arrived, or the peer is gone", data.len())))
}
