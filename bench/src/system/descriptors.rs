//! Descriptors over a socket: sendmsg(2) and recvmsg(2) with nothing around them.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// Most descriptors in one packet here.
const MOST: usize = 2;

/// Room for the control message that carries them, aligned for its header.
type Control = [u64; 8];

fn header(part: &mut libc::iovec, control: &mut Control, descriptors: usize) -> libc::msghdr {
    assert!(descriptors <= MOST);
    // SAFETY: msghdr is plain data for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    if descriptors > 0 {
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: pure arithmetic.
        header.msg_controllen = unsafe { libc::CMSG_SPACE((descriptors * size_of::<i32>()) as u32) } as _;
    }
    header
}

/// Sends a packet with up to two descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control::default();
    let header = header(&mut part, &mut control, descriptors.len());
    if !descriptors.is_empty() {
        // SAFETY: pure arithmetic on what the header says.
        let message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: the header has room for one control message, so this points into `control`, which is aligned for it.
        let message = unsafe { &mut *message };
        message.cmsg_level = libc::SOL_SOCKET;
        message.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: pure arithmetic.
        message.cmsg_len = unsafe { libc::CMSG_LEN((size_of::<i32>() * descriptors.len()) as u32) } as _;
        // SAFETY: pure arithmetic on the header's address.
        let data = unsafe { libc::CMSG_DATA(message) }.cast::<i32>();
        for (index, descriptor) in descriptors.iter().enumerate() {
            // SAFETY: `control` has room for all of them, says `header`.
            let slot = unsafe { data.add(index) };
            // SAFETY: the same, and write_unaligned needs no alignment.
            unsafe { slot.write_unaligned(descriptor.as_raw_fd()) };
        }
    }
    loop {
        // SAFETY: header, part and control message are valid and outlive the call, which only reads the bytes.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        match Errno::result(sent) {
            Err(Errno::EINTR) => {}
            result => return result.map(drop),
        }
    }
}

/// Takes a packet with up to `room` descriptors; returns the length of its bytes.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    room: usize,
    wait: bool,
) -> nix::Result<(usize, [Option<OwnedFd>; MOST])> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut control = Control::default();
    let mut header = header(&mut part, &mut control, room);
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let len = loop {
        // SAFETY: header, part and control buffer are valid, writable and outlive the call.
        match Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) }) {
            Err(Errno::EINTR) => {}
            result => break result? as usize,
        }
    };
    let mut descriptors = [None, None];
    if room > 0 && header.msg_controllen > 0 {
        // SAFETY: pure arithmetic on what the header says.
        let message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: the kernel filled `control`, which is aligned for it, and says how far.
        let message = unsafe { &*message };
        // SAFETY: pure arithmetic on the header's address.
        let data = unsafe { libc::CMSG_DATA(message) };
        let count = (message.cmsg_len as usize - (data as usize - (&raw const *message) as usize)) / size_of::<i32>();
        for (index, slot) in descriptors.iter_mut().enumerate().take(count) {
            // SAFETY: inside the bytes that cmsg_len covers.
            let from = unsafe { data.cast::<i32>().add(index) };
            // SAFETY: initialised by the kernel; read_unaligned needs no alignment.
            let number = unsafe { from.read_unaligned() };
            // SAFETY: the kernel has just installed this descriptor for us, and nobody else knows of it.
            *slot = Some(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok((len, descriptors))
}
