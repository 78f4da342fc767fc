//! Descriptor passing over a Unix socket: sendmsg(2) and recvmsg(2) with as little around them as possible.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// Largest number of descriptors in one packet.
const MAX_DESCRIPTORS: usize = 2;

/// A buffer for the control message of [`MAX_DESCRIPTORS`] descriptors, aligned for `cmsghdr`.
type ControlBuffer = [u64; 8];

fn header(part: &mut libc::iovec, control: &mut ControlBuffer, descriptors: usize) -> libc::msghdr {
    assert!(descriptors <= MAX_DESCRIPTORS);
    // SAFETY: msghdr is plain data, for which all zeros are a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    if descriptors > 0 {
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE only computes a size.
        header.msg_controllen = unsafe { libc::CMSG_SPACE((descriptors * size_of::<i32>()) as u32) } as _;
    }
    header
}

/// Sends `bytes` and at most [`MAX_DESCRIPTORS`] descriptors as one packet.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = ControlBuffer::default();
    let header = header(&mut part, &mut control, descriptors.len());
    if !descriptors.is_empty() {
        // SAFETY: CMSG_FIRSTHDR only reads the control buffer's address and length from the header.
        let message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: `header` gave the control buffer room for one control message, so the pointer is valid and aligned.
        let message = unsafe { &mut *message };
        message.cmsg_level = libc::SOL_SOCKET;
        message.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN only computes a size.
        message.cmsg_len = unsafe { libc::CMSG_LEN((size_of::<i32>() * descriptors.len()) as u32) } as _;
        // SAFETY: CMSG_DATA only computes an address within the control message.
        let data = unsafe { libc::CMSG_DATA(message) }.cast::<i32>();
        for (index, descriptor) in descriptors.iter().enumerate() {
            // SAFETY: `header` checked that the control buffer has room for all descriptors.
            let slot = unsafe { data.add(index) };
            // SAFETY: the slot lies in the control buffer, and write_unaligned needs no alignment.
            unsafe { slot.write_unaligned(descriptor.as_raw_fd()) };
        }
    }
    loop {
        // SAFETY: header, bytes and control message outlive the call, which only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        match Errno::result(sent) {
            Err(Errno::EINTR) => {}
            result => return result.map(drop),
        }
    }
}

/// Receives a packet into `into` and returns its length and its descriptors, at most `room`. Without `wait`, returns
/// EAGAIN if there is no packet.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    room: usize,
    wait: bool,
) -> nix::Result<(usize, [Option<OwnedFd>; MAX_DESCRIPTORS])> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut control = ControlBuffer::default();
    let mut header = header(&mut part, &mut control, room);
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let len = loop {
        // SAFETY: header, bytes and control buffer are writable and outlive the call.
        match Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) }) {
            Err(Errno::EINTR) => {}
            result => break result? as usize,
        }
    };
    let mut descriptors = [None, None];
    if room > 0 && header.msg_controllen > 0 {
        // SAFETY: CMSG_FIRSTHDR only reads the control buffer's address and length from the header.
        let message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: msg_controllen is not zero, so the kernel wrote a control message to the buffer, which is aligned.
        let message = unsafe { &*message };
        // SAFETY: CMSG_DATA only computes an address within the control message.
        let data = unsafe { libc::CMSG_DATA(message) };
        let count = (message.cmsg_len as usize - (data as usize - (&raw const *message) as usize)) / size_of::<i32>();
        for (index, slot) in descriptors.iter_mut().enumerate().take(count) {
            // SAFETY: the index is below the number of descriptors that cmsg_len covers.
            let from = unsafe { data.cast::<i32>().add(index) };
            // SAFETY: the kernel wrote this descriptor, and read_unaligned needs no alignment.
            let number = unsafe { from.read_unaligned() };
            // SAFETY: the kernel has just installed this descriptor, and nothing else in the process owns it.
            *slot = Some(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok((len, descriptors))
}
