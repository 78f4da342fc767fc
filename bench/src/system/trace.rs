//! Counts the system calls of a process between marks with ptrace(2).

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use nix::errno::Errno;
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
            WaitStatus::PtraceSyscall(_) => match entered(pid).map_err(&failed)? {
                None => {}
                Some(number) if number == libc::SYS_getsid as u64 => {
                    sections.push(calls);
                    calls = 0;
                }
                Some(_) => calls += 1,
            },
            WaitStatus::Stopped(_, given) => signal = Some(given),
            WaitStatus::Exited(_, 0) => return Ok(sections),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                return Err(Error::failed("the process whose system calls were counted failed"));
            }
            _ => {}
        }
    }
}

/// The beginning of `struct ptrace_syscall_info`, as far as the number of an entered call. The headers of musl do not
/// have it.
#[repr(C)]
#[derive(Default)]
struct SyscallInfo {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    number: u64,
}

const PTRACE_GET_SYSCALL_INFO: i32 = 0x420e;
const PTRACE_SYSCALL_INFO_ENTRY: u8 = 1;

/// The number of the system call that the stopped process is entering; `None` if it is leaving one.
#[allow(unsafe_code)]
fn entered(pid: Pid) -> std::result::Result<Option<u64>, Errno> {
    let mut info = SyscallInfo::default();
    // SAFETY: the kernel writes at most the given number of bytes to `info`, which is plain data.
    let done =
        unsafe { libc::ptrace(PTRACE_GET_SYSCALL_INFO as _, pid.as_raw(), size_of::<SyscallInfo>(), &raw mut info) };
    Errno::result(done)?;
    Ok((info.op == PTRACE_SYSCALL_INFO_ENTRY).then_some(info.number))
}
