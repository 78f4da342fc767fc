//! Counts the system calls of a process between marks, with ptrace(2).

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};

use crate::error::{Error, Result};

/// Called by the process that is counted: the counts up to here are one section.
pub(crate) fn mark() {
    // A call that nothing else makes.
    let _ = getsid(None);
}

/// Called first by the process that is counted: waits for the one that counts.
pub(crate) fn await_tracer() -> Result<()> {
    std::io::stdin().read_exact(&mut [0]).map_err(Error::of("nobody counts"))
}

/// Starts the command and returns the number of system calls of each of its sections, and what it wrote to its
/// standard output. Only its main thread is counted, and no other process.
pub(crate) fn count(command: &mut Command) -> Result<(Vec<u64>, String)> {
    let refuse = Error::of("cannot count the system calls of a process");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(&refuse)?;
    let pid = Pid::from_raw(child.id() as i32);
    let sections = trace(pid, || {
        let stdin = child.stdin.as_mut().ok_or_else(|| Error::failed("there is no pipe to the process"))?;
        stdin.write_all(&[0]).map_err(&refuse)
    });
    let sections = sections.inspect_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
    })?;
    let mut text = String::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut text).map_err(refuse)?;
    }
    Ok((sections, text))
}

fn trace(pid: Pid, release: impl FnOnce() -> Result<()>) -> Result<Vec<u64>> {
    let refuse = Error::of("cannot count the system calls of a process");
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).map_err(&refuse)?;
    ptrace::interrupt(pid).map_err(&refuse)?;
    waitpid(pid, None).map_err(&refuse)?;
    release()?;
    let (mut sections, mut calls) = (Vec::new(), 0);
    let mut signal: Option<Signal> = None;
    loop {
        ptrace::syscall(pid, signal.take()).map_err(&refuse)?;
        match waitpid(pid, None).map_err(&refuse)? {
            WaitStatus::PtraceSyscall(_) => {
                let info = ptrace::syscall_info(pid).map_err(&refuse)?;
                if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
                    continue;
                }
                match entry_number(&info) {
                    number if number == libc::SYS_getsid as u64 => {
                        sections.push(calls);
                        calls = 0;
                    }
                    _ => calls += 1,
                }
            }
            WaitStatus::Stopped(_, given) => signal = Some(given),
            WaitStatus::Exited(_, 0) => return Ok(sections),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                return Err(Error::failed("the process whose system calls were counted failed"));
            }
            _ => {}
        }
    }
}

#[allow(unsafe_code)]
fn entry_number(info: &libc::ptrace_syscall_info) -> u64 {
    // SAFETY: the caller has seen that the stop is an entry, so the kernel has filled this part.
    unsafe { info.u.entry.nr }
}
