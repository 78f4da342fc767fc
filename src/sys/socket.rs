//! Unix SEQPACKET sockets: packets with descriptors (unix(7), cmsg(3)), never blocking, never raising SIGPIPE.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, accept4, getsockname, getsockopt,
    recv, sendmsg, setsockopt, shutdown, socketpair, sockopt,
};

use super::{Errno, retry};

/// The most descriptors that one packet can carry (`SCM_MAX_FD` of the kernel).
pub(crate) const MAX_DESCRIPTORS: usize = 253;
/// Room for packets that wait unread. The kernel cuts it to `net.core.wmem_max`; the default holds 278.
const SEND_BUFFER: usize = 4 << 20;

/// Control message with a descriptor of the sender's process (Linux 6.5, unix(7)).
const SCM_PIDFD: libc::c_int = 4;

/// Two connected sockets, closed on exec.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    for socket in [&a, &b] {
        setsockopt(socket, sockopt::SndBuf, &SEND_BUFFER)?;
    }
    Ok((a, b))
}

/// Sends one packet with its descriptors, whole or not at all. `EAGAIN`: the socket is full.
pub(crate) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    if descriptors.is_empty() {
        return retry(|| sendmsg::<()>(socket.as_raw_fd(), parts, &[], flags, None)).map(drop);
    }
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    retry(|| sendmsg::<()>(socket.as_raw_fd(), parts, &control, flags, None)).map(drop)
}

/// A packet, or the part of it that there was room for.
pub(crate) struct Received {
    /// Bytes in the buffer; 0 at end-of-file.
    pub(crate) len: usize,
    /// The packet was longer than the buffer.
    pub(crate) cut: bool,
    /// There were more descriptors than fitted, into the room given or into the process.
    pub(crate) descriptors_cut: bool,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Looks at the first packet and leaves it queued. With `room` > 0 its descriptors are duplicated for us.
pub(crate) fn peek(socket: BorrowedFd<'_>, into: &mut [u8], room: usize) -> Result<Received, Errno> {
    receive(socket, into, room, libc::MSG_PEEK)
}

/// Takes the first packet. Descriptors beyond `room` are closed by the kernel. `EAGAIN`: there is none.
pub(crate) fn take(socket: BorrowedFd<'_>, into: &mut [u8], room: usize) -> Result<Received, Errno> {
    receive(socket, into, room, 0)
}

/// Drops the first packet; its descriptors are closed by the kernel. Returns 0 at end-of-file, or if it had no bytes.
/// `EAGAIN`: there is none.
pub(crate) fn skip(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    retry(|| recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT))
}

fn receive(socket: BorrowedFd<'_>, into: &mut [u8], room: usize, flags: libc::c_int) -> Result<Received, Errno> {
    const DESCRIPTOR: usize = size_of::<RawFd>();
    /// For control messages that whoever made the socket may have asked for, such as credentials, which come first.
    const SLACK: usize = 256;
    // SAFETY: pure arithmetic.
    let rights = unsafe { libc::CMSG_SPACE((room * DESCRIPTOR) as u32) } as usize;
    let space = if room == 0 { 0 } else { rights + SLACK };
    let (mut few, mut many) = ([0_u64; 48], Vec::new()); // u64: aligned for cmsghdr
    let control = match space.div_ceil(8) {
        words if words <= few.len() => &mut few[..],
        words => {
            many.resize(words, 0);
            &mut many
        }
    };
    let mut part = IoSliceMut::new(into);
    // SAFETY: msghdr is plain data for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = (&raw mut part).cast(); // IoSliceMut has the layout of iovec
    header.msg_iovlen = 1;
    if room > 0 {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = space as _;
    }
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: header, iovec and both buffers are valid, writable and outlive the call.
    let len = retry(|| Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) }))?;
    let mut received = Received {
        len: len as usize,
        cut: header.msg_flags & libc::MSG_TRUNC != 0,
        descriptors_cut: header.msg_flags & libc::MSG_CTRUNC != 0,
        descriptors: Vec::new(),
    };
    if room == 0 {
        return Ok(received);
    }
    // Walk by each header's own length: padding can let one descriptor more than asked for through.
    // SAFETY: the kernel filled `control` and set msg_controllen; the CMSG macros stay inside it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !next.is_null() {
        // SAFETY: a non-null result of the macros points at a whole header inside `control`, which is aligned for it.
        let control_message = unsafe { &*next };
        // A pidfd comes if whoever made the socket asked for it (SO_PASSPIDFD): not wanted, but ours to close.
        let passed = [libc::SCM_RIGHTS, SCM_PIDFD].contains(&control_message.cmsg_type);
        if control_message.cmsg_level == libc::SOL_SOCKET && passed {
            // SAFETY: pure arithmetic on the header's address.
            let data = unsafe { libc::CMSG_DATA(next) };
            let bytes = (control_message.cmsg_len as usize).saturating_sub(data as usize - next as usize);
            for index in 0..bytes / DESCRIPTOR {
                // SAFETY: inside the bytes that cmsg_len covers.
                let from = unsafe { data.add(index * DESCRIPTOR) };
                // SAFETY: initialised by the kernel; read_unaligned needs no alignment.
                let number = unsafe { from.cast::<RawFd>().read_unaligned() };
                // SAFETY: the kernel has just installed this descriptor for us, and nobody else knows of it.
                let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                if control_message.cmsg_type == libc::SCM_RIGHTS {
                    received.descriptors.push(descriptor);
                }
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Ok(received)
}

/// What poll(2) said of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    /// The other socket is closed everywhere: no holder is left.
    pub(crate) hung_up: bool,
    /// A signal ended the wait.
    pub(crate) interrupted: bool,
}

/// Waits until the socket is readable (or, with `writable`, has room), hung up, or the time is over. Returns early
/// on a signal.
pub(crate) fn wait(socket: BorrowedFd<'_>, writable: bool, timeout: Duration) -> Result<Readiness, Errno> {
    let events = if writable { PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let mut fds = [PollFd::new(socket, events)];
    // Rounded up: a wait must not return before its deadline and then be repeated with zero.
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32;
    let interrupted = match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
        Err(Errno::EINTR) => true,
        result => result.map(|_| false)?,
    };
    let seen = fds[0].revents().unwrap_or(PollFlags::empty());
    Ok(Readiness {
        readable: seen.contains(PollFlags::POLLIN),
        hung_up: seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL),
        interrupted,
    })
}

/// Ends both directions for every holder: wakes whoever waits on either socket. What is queued can still be read.
pub(crate) fn end(socket: BorrowedFd<'_>) {
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both); // fails only if it has ended already
}

/// True for a Unix SEQPACKET socket.
pub(crate) fn is_seqpacket(socket: BorrowedFd<'_>) -> bool {
    let unix = getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok();
    unix && matches!(getsockopt(&socket, sockopt::SockType), Ok(SockType::SeqPacket))
}

/// Takes the next connection of a listening socket.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let raw = retry(|| accept4(listening.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK))?;
    // SAFETY: accept4 has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Makes the descriptor number of `socket` stand for `other` instead, so that we no longer hold the socket while
/// borrowed copies of the number stay valid.
pub(crate) fn replace(socket: &OwnedFd, other: BorrowedFd<'_>) {
    let (from, to) = (other.as_fd().as_raw_fd(), socket.as_raw_fd());
    // SAFETY: both numbers are open and `to` is owned by `socket`, which keeps owning the number. With both open
    // the call fails only for a moment (EBUSY, EINTR).
    while unsafe { libc::dup3(from, to, libc::O_CLOEXEC) } < 0 && matches!(Errno::last(), Errno::EBUSY | Errno::EINTR) {
    }
}
