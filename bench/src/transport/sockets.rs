//! Links over Unix sockets and pipes. A message is one packet, or the next bytes of a stream.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockType, recv, send, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::error::{Error, Result};
use crate::link::{Link, PEER_TIMEOUT, Wait, spin_until};
use crate::payload::Payload;
use crate::session::Session;

/// Send buffer of a socket in bytes. The kernel limits it to `net.core.wmem_max`.
const BUFFER: usize = 4 << 20;

/// One end of a socket pair, used with `send` and `recv`.
pub struct SocketLink {
    socket: OwnedFd,
    flags: MsgFlags,
    payload: Payload,
    received: Vec<u8>,
}

impl SocketLink {
    /// Opens one end of a pair of this type. With [`Wait::Spin`], calls use `MSG_DONTWAIT` and are repeated until they
    /// succeed.
    pub fn new(session: &Session, size: usize, kind: SockType, wait: Wait) -> Result<Self> {
        let flags = if wait == Wait::Spin { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
        let socket = socket(session, kind)?;
        Ok(Self { socket, flags, payload: Payload::new(size), received: vec![0; size] })
    }
}

pub(super) fn socket(session: &Session, kind: SockType) -> Result<OwnedFd> {
    let socket = session.sockets(kind)?;
    let failed = Error::of("cannot set up a socket");
    setsockopt(&socket, sockopt::SndBuf, &BUFFER).map_err(&failed)?;
    let timeout = TimeVal::new(PEER_TIMEOUT.as_secs() as i64, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).map_err(&failed)?;
    setsockopt(&socket, sockopt::SendTimeout, &timeout).map_err(failed)?;
    Ok(socket)
}

impl Link for SocketLink {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let (socket, flags) = (self.socket.as_raw_fd(), self.flags | MsgFlags::MSG_NOSIGNAL);
        let mut left = self.payload.stamped(stamp);
        while !left.is_empty() {
            let sent = spin_until(|| ready(send(socket, left, flags), self.flags))?;
            left = &left[sent..];
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<u64> {
        let mut at = 0;
        while at < self.received.len() {
            let into = &mut self.received[at..];
            let len = spin_until(|| ready(recv(self.socket.as_raw_fd(), into, self.flags), self.flags))?;
            if len == 0 {
                return Err(Error::failed("the other process has gone"));
            }
            at += len;
        }
        self.payload.stamp_of(&self.received)
    }
}

/// Converts the result of a system call: `None` if the call must be repeated.
pub(super) fn ready(done: nix::Result<usize>, flags: MsgFlags) -> Result<Option<usize>> {
    match done {
        Ok(len) => Ok(Some(len)),
        Err(Errno::EINTR) => Ok(None),
        Err(Errno::EAGAIN) if flags.contains(MsgFlags::MSG_DONTWAIT) => Ok(None),
        Err(error) => Err(Error::failed(format_args!("a socket failed: {error}"))),
    }
}

/// One end of two pipes, used with blocking `write` and `read`.
pub struct PipeLink {
    incoming: std::io::PipeReader,
    outgoing: std::io::PipeWriter,
    payload: Payload,
    received: Vec<u8>,
}

impl PipeLink {
    /// Opens one end of two pipes.
    pub fn new(session: &Session, size: usize) -> Result<Self> {
        let pipe = || -> nix::Result<(OwnedFd, OwnedFd)> {
            let (reader, writer) = std::io::pipe().map_err(|_| Errno::EMFILE)?;
            // Above `fs.pipe-max-size` this fails, and the pipe keeps its default size.
            let _ = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20));
            Ok((reader.into(), writer.into()))
        };
        let [incoming, outgoing] = session.descriptors(|| {
            let ((theirs_in, ours_out), (ours_in, theirs_out)) = (pipe()?, pipe()?);
            Ok(([ours_in, ours_out], [theirs_in, theirs_out]))
        })?;
        let (payload, received) = (Payload::new(size), vec![0; size]);
        Ok(Self { incoming: incoming.into(), outgoing: outgoing.into(), payload, received })
    }
}

impl Link for PipeLink {
    fn send(&mut self, stamp: u64) -> Result<()> {
        self.outgoing.write_all(self.payload.stamped(stamp)).map_err(Error::of("cannot write to the pipe"))
    }

    fn receive(&mut self) -> Result<u64> {
        self.incoming.read_exact(&mut self.received).map_err(Error::of("cannot read from the pipe"))?;
        self.payload.stamp_of(&self.received)
    }
}
