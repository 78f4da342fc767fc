//! The socket of a lane: a Unix SEQPACKET socket whose other end a hostile process may hold, and how it is let go.
//!
//! Closing the last descriptor of a socket closes the descriptors that are queued in it, which can be of any kind.
//! So a socket that may hold some is closed by the [closer].

use std::fs::File;
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::fork::Home;
use super::{Errno, closer, socket};

/// State of a [`LaneSocket`]: it owns its socket.
const WHOLE: u8 = 0;
/// State of a [`LaneSocket`]: something else has taken the place of the socket, under the same number.
const REPLACED: u8 = 1;
/// State of a [`LaneSocket`]: its number is closed, and it owns nothing.
const GONE: u8 = 2;

/// A socket of a lane.
pub(crate) struct LaneSocket {
    descriptor: ManuallyDrop<OwnedFd>,
    /// No other process has ever held this end. Then a receive does not wait for another one of the same end, which
    /// could last for ever.
    is_own: bool,
    /// `None` for want of memory, which is like a forked child.
    home: Option<Home>,
    /// `WHOLE`, `REPLACED` or `GONE`.
    state: AtomicU8,
}

impl LaneSocket {
    /// A socket that this process made.
    pub(crate) fn own(descriptor: OwnedFd) -> Self {
        Self::new(descriptor, true)
    }

    /// A socket that another process has held.
    pub(crate) fn adopted(descriptor: OwnedFd) -> Self {
        Self::new(descriptor, false)
    }

    fn new(descriptor: OwnedFd, is_own: bool) -> Self {
        let (descriptor, state) = (ManuallyDrop::new(descriptor), AtomicU8::new(WHOLE));
        Self { descriptor, is_own, home: Home::here().ok(), state }
    }

    /// True if descriptors wait in the socket, or if that cannot be found out. Makes one system call if no packet
    /// waits and the socket has not been shut down.
    pub(crate) fn may_hold_descriptors(&self) -> bool {
        let seen = socket::wait(self.as_fd(), false, Duration::ZERO);
        seen.is_ok_and(|seen| seen.readable || seen.hung_up) && queued_descriptors(self.as_fd()).ok() != Some(0)
    }

    /// Makes the descriptor's number refer to `other` (dup3(2)); the process then no longer holds the socket, and
    /// borrowed copies of the number stay valid. A number at or above a limit that was lowered (`RLIMIT_NOFILE`) cannot
    /// be made to refer to anything: it is closed, and [`is_gone`](Self::is_gone) returns true.
    pub(crate) fn replace(&self, other: BorrowedFd<'_>) {
        let (from, to) = (other.as_raw_fd(), self.descriptor.as_raw_fd());
        // Relaxed, here and below: one thread lets go of the socket, and the others then use nothing of it.
        if self.state.load(Ordering::Relaxed) != WHOLE {
            return;
        }
        loop {
            // SAFETY: `other` is open, and `descriptor` owns the number `to`, and goes on owning it.
            if unsafe { libc::dup3(from, to, libc::O_CLOEXEC) } >= 0 {
                return self.state.store(REPLACED, Ordering::Relaxed);
            }
            if !matches!(Errno::last(), Errno::EBUSY | Errno::EINTR) {
                break;
            }
        }
        self.state.store(GONE, Ordering::Relaxed);
        // SAFETY: the number is owned by `descriptor`, which is not dropped in the state `GONE`. The call frees the
        // number whatever it returns.
        unsafe { libc::close(to) };
    }

    /// True if the number of the descriptor is closed.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.load(Ordering::Relaxed) == GONE
    }

    /// True if the socket has been shut down and is empty (`SO_PASSCRED` of unix(7), recvmsg(2)). With the option
    /// each packet has credentials, which have no room here, so that they are reported as cut: this tells a packet of
    /// no bytes from end-of-file.
    fn is_at_end(&self) -> bool {
        setsockopt(&*self.descriptor, sockopt::PassCred, &true).is_ok()
            && socket::peek(self.as_fd(), &mut [0], 0).is_ok_and(|seen| seen.len == 0 && !seen.descriptors_cut)
    }
}

impl Drop for LaneSocket {
    fn drop(&mut self) {
        let state = *self.state.get_mut();
        if state == GONE {
            return;
        }
        // In a forked child the socket is the parent's, and closing this descriptor of it closes nothing else.
        let waits = state == WHOLE && self.home.is_some_and(Home::is_here) && {
            let seen = socket::wait(self.as_fd(), false, Duration::ZERO);
            let may_be_full = !seen.is_ok_and(|seen| !seen.readable && !seen.hung_up);
            let is_at_end = || self.is_own && seen.is_ok_and(|seen| seen.hung_up) && self.is_at_end();
            may_be_full && !is_at_end() && queued_descriptors(self.as_fd()).ok() != Some(0)
        };
        // SAFETY: nothing uses the field after this, and in the states `WHOLE` and `REPLACED` it owns its number.
        let descriptor = unsafe { ManuallyDrop::take(&mut self.descriptor) };
        if waits {
            closer::elsewhere(move || drop(descriptor));
        }
    }
}

/// [`LaneSocket::is_gone`] must be false.
impl AsFd for LaneSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The number of descriptors that wait in a socket (`scm_fds` of proc_pid_fdinfo(5), since Linux 5.6). Unlike a receive
/// this does not wait for another receive of the same end.
fn queued_descriptors(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut text = [0; 512];
    let len = File::open(format!("/proc/thread-self/fdinfo/{}", socket.as_raw_fd()))?.read(&mut text)?;
    let text = String::from_utf8_lossy(&text[..len]);
    let count = text.lines().find_map(|line| line.strip_prefix("scm_fds:")?.trim().parse().ok());
    count.ok_or_else(|| io::ErrorKind::NotFound.into())
}
