//! Counts the system calls of a process between marks with ptrace(2).

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};

use crate::error::{Error, Result};

/// Ends a section of the calling process, whose system calls [`count`] counts.
pub(crate) fn mark() {
    // The tracer takes getsid(2), which nothing else here calls, as the mark.
    let _ = getsid(None);
}

/// Waits until the tracer is attached. A process that [`count`] starts must call it first.
pub(crate) fn await_tracer() -> Result<()> {
    std::io::stdin().read_exact(&mut [0]).map_err(Error::of("no tracer is attached"))
}

/// Runs the command and returns the number of system calls in each of its sections, and its standard output. Other
/// threads and child processes are not counted.
pub(crate) fn count(command: &mut Command) -> Result<(Vec<u64>, String)> {
    let failed = Error::of("cannot count the system calls of a process");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(&failed)?;
    let pid = Pid::from_raw(child.id() as i32);
    let sections = trace(pid, || {
        let stdin = child.stdin.as_mut().ok_or_else(|| Error::failed("there is no pipe to the process"))?;
        stdin.write_all(&[0]).map_err(&failed)
    });
    let sections = sections.inspect_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
    })?;
    let mut text = String::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut text).map_err(failed)?;
    }
    Ok((sections, text))
}

fn trace(pid: Pid, release: impl FnOnce() -> Result<()>) -> Result<Vec<u64>> {
    let failed = Error::of("cannot count the system calls of a process");
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).map_err(&failed)?;
    ptrace::interrupt(pid).map_err(&failed)?;
    waitpid(pid, None).map_err(&failed)?;
    release()?;
    let (mut sections, mut calls) = (Vec::new(), 0);
    let mut signal: Option<Signal> = None;
    loop {
        ptrace::syscall(pid, signal.take()).map_err(&failed)?;
        match waitpid(pid, None).map_err(&failed)? {
            WaitStatus::PtraceSyscall(_) => {
                let info = ptrace::syscall_info(pid).map_err(&failed)?;
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
    // SAFETY: the caller checked that `op` is PTRACE_SYSCALL_INFO_ENTRY, so the kernel has filled `entry`.
    unsafe { info.u.entry.nr }
}
