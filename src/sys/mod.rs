//! System calls and raw memory: the bottom of the stack, and the only part that knows the operating system.
//!
//! Together with [`crate::direction`]'s few lines this is where `unsafe` lives; everything above is safe code.
#![allow(unsafe_code)]

pub(crate) mod cpu;
pub(crate) mod epoll;
pub(crate) mod fork;
pub(crate) mod frozen;
pub(crate) mod futex;
pub(crate) mod mapping;
pub(crate) mod memfd;
pub(crate) mod named;
pub(crate) mod process;
#[cfg(feature = "tokio")]
pub(crate) mod readiness;
pub(crate) mod shared;
pub(crate) mod socket;

pub(crate) use nix::errno::Errno;

/// Repeats a system call for as long as a signal interrupts it, so that `EINTR` is never seen above.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            result => return result,
        }
    }
}
