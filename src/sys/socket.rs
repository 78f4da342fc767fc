//! Unix SEQPACKET sockets: packets with descriptors (unix(7), cmsg(3)). No call blocks except [`wait`], and none raises
//! SIGPIPE.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, getpeername, getsockname,
    getsockopt, recv, sendmsg, setsockopt, shutdown, socketpair, sockopt,
};

use super::passed::Passed;
use super::standard::above_standard;
use super::{Errno, millis, retry};

/// Most descriptors in one packet, 253: the limit `SCM_MAX_FD` of unix(7). With more, sendmsg(2) fails.
pub(crate) const MAX_DESCRIPTORS: usize = 253;
/// Size in bytes, 4 MiB, of the send buffer, which bounds the packets that wait unread. The kernel limits it to
/// `net.core.wmem_max`, whose default has room for 555 packets.
const SEND_BUFFER: usize = 4 << 20;

/// Bytes, 16 KiB, of the send buffer that are in reserve, for 42 packets: a queue grows at most 18 times.
const RESERVE: usize = 16 << 10;

/// Type of the control message with a pidfd of the sender's process (`SO_PASSPIDFD` of unix(7), since Linux 6.5).
const SCM_PIDFD: libc::c_int = 4;

/// A pair of connected sockets, closed on exec (socketpair(2)).
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let (a, b) = (above_standard(a)?, above_standard(b)?);
    for socket in [&a, &b] {
        setsockopt(socket, sockopt::SndBuf, &SEND_BUFFER)?;
        set_reserve_aside(socket.as_fd())?;
    }
    Ok((a, b))
}

/// Takes the reserve off a send buffer of the full size. The kernel doubles what `SO_SNDBUF` is set to.
fn set_reserve_aside(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let len = getsockopt(&socket, sockopt::SndBuf)? / 2;
    setsockopt(&socket, sockopt::SndBuf, &len.saturating_sub(RESERVE))
}

/// Calls `send` while the send buffer has its reserve.
pub(crate) fn with_reserve<R>(socket: BorrowedFd<'_>, send: impl FnOnce() -> Result<R, Errno>) -> Result<R, Errno> {
    let len = getsockopt(&socket, sockopt::SndBuf)? / 2;
    setsockopt(&socket, sockopt::SndBuf, &(len + RESERVE))?;
    let sent = send();
    setsockopt(&socket, sockopt::SndBuf, &len)?;
    sent
}

/// About how many packets of a lane can wait unread, by the limit of send buffers. `None` if that cannot be read.
pub(crate) fn packets_that_fit() -> Option<usize> {
    /// Bytes that the kernel counts for a small packet on a 64-bit system.
    const PACKET: usize = 768;
    let limit: usize = std::fs::read_to_string("/proc/sys/net/core/wmem_max").ok()?.trim().parse().ok()?;
    Some(2 * limit.min(SEND_BUFFER).saturating_sub(RESERVE) / PACKET) // the kernel doubles what SO_SNDBUF asks for
}

/// Sends one packet with its descriptors, whole or not at all (sendmsg(2)). `EAGAIN`: the socket is full.
pub(crate) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    if descriptors.is_empty() {
        return retry(|| sendmsg::<()>(socket.as_raw_fd(), parts, &[], flags, None)).map(drop);
    }
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    retry(|| sendmsg::<()>(socket.as_raw_fd(), parts, &control, flags, None)).map(drop)
}

/// A received packet, or the part of it that fitted.
pub(crate) struct Received {
    /// Bytes in the caller's buffer; 0 at end-of-file.
    pub(crate) len: usize,
    /// The packet was longer than the buffer.
    pub(crate) cut: bool,
    /// The packet had more descriptors than the caller asked for, or than this process may open.
    pub(crate) descriptors_cut: bool,
    /// The descriptors, closed on exec.
    pub(crate) descriptors: Vec<Passed>,
}

/// Copies the first packet and leaves it queued (`MSG_PEEK` of recvmsg(2)). If `room` is not 0 its descriptors are
/// duplicated into this process, at most `room` of them.
pub(crate) fn peek(socket: BorrowedFd<'_>, into: &mut [u8], room: usize) -> Result<Received, Errno> {
    receive(socket, into, room, libc::MSG_PEEK)
}

/// Takes the first packet off the queue (recvmsg(2)), with at most `room` descriptors; the kernel closes the others,
/// which can make the call wait. `EAGAIN`: there is no packet.
pub(crate) fn take(socket: BorrowedFd<'_>, into: &mut [u8], room: usize) -> Result<Received, Errno> {
    receive(socket, into, room, 0)
}

/// Drops the first packet (recv(2)); the kernel closes its descriptors, which can make the call wait. Returns 0 at
/// end-of-file, and for a packet without bytes. `EAGAIN`: there is no packet.
pub(crate) fn skip(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    retry(|| recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT))
}

fn receive(socket: BorrowedFd<'_>, into: &mut [u8], room: usize, flags: libc::c_int) -> Result<Received, Errno> {
    const DESCRIPTOR: usize = size_of::<RawFd>();
    /// Bytes of room, 256, for other control messages, such as credentials, that the socket's creator may have enabled;
    /// they come first and would displace the descriptors.
    const SLACK: usize = 256;
    // SAFETY: CMSG_SPACE computes a size and accesses no memory.
    let rights = unsafe { libc::CMSG_SPACE((room * DESCRIPTOR) as u32) } as usize;
    let space = if room == 0 { 0 } else { rights + SLACK };
    let (mut few, mut many) = ([0_u64; 48], Vec::new()); // words, which are aligned for cmsghdr
    let control = match space.div_ceil(8) {
        words if words <= few.len() => &mut few[..],
        words => {
            many.resize(words, 0);
            &mut many
        }
    };
    let mut part = IoSliceMut::new(into);
    // SAFETY: msghdr is plain data, for which all zeroes are a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = (&raw mut part).cast(); // IoSliceMut has the layout of iovec
    header.msg_iovlen = 1;
    if room > 0 {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = space as _;
    }
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `header` points at `part` and `control`, two writable buffers of the lengths it states; all are locals of
    // this function and outlive the call.
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
    // The length in each header counts, not `room`: padding can admit one descriptor more than asked for.
    // SAFETY: the kernel has written whole control messages into `control` and their length into msg_controllen, within
    // which CMSG_FIRSTHDR stays.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !next.is_null() {
        // SAFETY: a pointer from the CMSG macros that is not null points at a whole header inside `control`, whose
        // words are aligned for it and which nothing else accesses meanwhile.
        let control_message = unsafe { &*next };
        // A pidfd arrives if the socket's creator enabled it. It is not used, but this process owns it and must close
        // it.
        let passed = [libc::SCM_RIGHTS, SCM_PIDFD].contains(&control_message.cmsg_type);
        if control_message.cmsg_level == libc::SOL_SOCKET && passed {
            // SAFETY: CMSG_DATA computes an address from that of the header and accesses no memory.
            let data = unsafe { libc::CMSG_DATA(next) };
            let bytes = (control_message.cmsg_len as usize).saturating_sub(data as usize - next as usize);
            for index in 0..bytes / DESCRIPTOR {
                // SAFETY: the offset is below `bytes`, which the kernel has written behind the header, inside
                // `control`.
                let from = unsafe { data.add(index * DESCRIPTOR) };
                // SAFETY: the kernel has written these bytes; read_unaligned needs no alignment.
                let number = unsafe { from.cast::<RawFd>().read_unaligned() };
                if number < 0 {
                    continue; // the error for which there is no pidfd, such as EMFILE
                }
                // SAFETY: recvmsg has just created this descriptor for this call, so nothing else owns it.
                let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                if control_message.cmsg_type == libc::SCM_RIGHTS {
                    match above_standard(Passed::from(descriptor)) {
                        Ok(descriptor) => received.descriptors.push(descriptor),
                        Err(_) => received.descriptors_cut = true, // too many open files, as if the kernel had cut it
                    }
                }
            }
        }
        // SAFETY: `next` is a header inside `control`, and CMSG_NXTHDR stays within msg_controllen, which the kernel
        // set.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Ok(received)
}

/// The state of a socket that poll(2) returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PollState {
    /// A packet or end-of-file can be read.
    pub(crate) readable: bool,
    /// Every descriptor of the other socket is closed: it has no holder.
    pub(crate) hung_up: bool,
    /// A signal ended the wait.
    pub(crate) interrupted: bool,
}

/// Waits until the socket is readable (with `writable`: has room), is hung up, or `timeout` is over (poll(2)). Returns
/// early after a signal.
pub(crate) fn wait(socket: BorrowedFd<'_>, writable: bool, timeout: Duration) -> Result<PollState, Errno> {
    let events = if writable { PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let mut fds = [PollFd::new(socket, events)];
    let interrupted = match poll(&mut fds, PollTimeout::try_from(millis(timeout)).unwrap_or(PollTimeout::MAX)) {
        Err(Errno::EINTR) => true,
        result => result.map(|_| false)?,
    };
    let seen = fds[0].revents().unwrap_or(PollFlags::empty());
    Ok(PollState {
        readable: seen.contains(PollFlags::POLLIN),
        hung_up: seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL),
        interrupted,
    })
}

/// Shuts both directions down for every holder (shutdown(2)), which wakes all waits on either socket. Queued packets
/// can still be read.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) {
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both); // fails only if the sockets have been shut down already
}

/// True for a Unix SEQPACKET socket (getsockname(2), `SO_TYPE` of socket(7)).
pub(crate) fn is_seqpacket(socket: BorrowedFd<'_>) -> bool {
    let unix = getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok();
    unix && matches!(getsockopt(&socket, sockopt::SockType), Ok(SockType::SeqPacket))
}

/// True for a Unix SEQPACKET socket that is connected, or was before its other end was closed (`SO_TYPE` and
/// `SO_DOMAIN` of socket(7), getpeername(2)). The options come first: other kinds of sockets may be locked by whoever
/// sent them, and getpeername(2) waits for that.
pub(crate) fn is_connected_seqpacket(socket: BorrowedFd<'_>) -> bool {
    let option = |name| option(socket, name);
    option(libc::SO_TYPE) == Some(libc::SOCK_SEQPACKET)
        && option(libc::SO_DOMAIN) == Some(libc::AF_UNIX)
        && getpeername::<UnixAddr>(socket.as_raw_fd()).is_ok()
}

/// True if a Unix SEQPACKET socket gets every packet whole: it has no peek offset, and descriptors are passed
/// (`SO_PEEK_OFF` of socket(7), `SO_PASSRIGHTS` of unix(7)). An option that the kernel does not have changes nothing.
/// Neither call waits for the socket's lock, as a look at its filters would.
pub(crate) fn gets_whole_packets(socket: BorrowedFd<'_>) -> bool {
    /// Descriptors are passed (since Linux 6.16).
    const SO_PASSRIGHTS: libc::c_int = 83;
    option(socket, libc::SO_PEEK_OFF).is_none_or(|offset| offset < 0)
        && option(socket, SO_PASSRIGHTS).is_none_or(|passed| passed != 0)
}

/// A number among the options of level `SOL_SOCKET` (getsockopt(2)). `None` if the kernel does not have it, or if the
/// descriptor is no socket.
fn option(socket: BorrowedFd<'_>, name: libc::c_int) -> Option<i32> {
    let mut value = 0_i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, and a length to `len`; both are locals.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut len) };
    (result == 0).then_some(value)
}
