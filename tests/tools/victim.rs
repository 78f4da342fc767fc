//! The victim: a second process, traced with ptrace(2). It prepares an operation and runs it between two stops. The
//! victim is the test `victim` of the same program.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use messageport::{MessageChannel, MessagePort, parent_port, spawn_with_port};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::unistd::{Pid, gettid};

/// Twenty seconds: a call that takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the victim. `prepare` gets the role and the port, and returns the operation. Does nothing in the process of the
/// tests, where `variable` is not set.
pub(crate) fn serve(variable: &str, prepare: impl FnOnce(&str, MessagePort) -> Box<dyn FnOnce()>) {
    let Ok(role) = std::env::var(variable) else { return };
    let port = parent_port().unwrap();
    let control = port.recv().unwrap().ports.remove(0);
    let operation = prepare(&role, port);
    // The thread to trace, or the negative error of `traceme`.
    let answer = ptrace::traceme().map_or_else(|errno| -(errno as i32), |()| gettid().as_raw());
    control.post_message(&answer.to_ne_bytes(), []).unwrap();
    if answer < 0 {
        return;
    }
    raise(Signal::SIGSTOP).unwrap();
    operation();
    raise(Signal::SIGSTOP).unwrap();
    unreachable!("the test kills this process here at the latest");
}

/// Posts the first message on the victim's port: a port for its answer. Returns the other end.
pub(crate) fn control(port: &MessagePort) -> MessagePort {
    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
    port.post_message(b"control", [port2.into()]).unwrap();
    port1
}

/// Starts the victim with `port`, and waits until it is about to stop. `None` if tracing is not permitted.
pub(crate) fn start(variable: &str, role: &str, port: MessagePort, control: &MessagePort) -> Option<(Child, Pid)> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "victim", "--include-ignored", "--nocapture"]).env(variable, role).stdout(Stdio::null());
    let mut child = spawn_with_port(&mut command, port).unwrap();
    let answer = i32::from_ne_bytes(control.recv_timeout(PATIENCE).unwrap().data.try_into().unwrap());
    if answer < 0 {
        assert_eq!(Errno::from_raw(-answer), Errno::EPERM);
        child.wait().unwrap();
        return None;
    }
    Some((child, Pid::from_raw(answer)))
}
