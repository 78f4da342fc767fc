//! A second process that is traced with ptrace(2): it brings everything into place and does one operation between two
//! stops. It is the test `victim` of the same program.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use messageport::{MessageChannel, MessagePort, parent_port, spawn_with_port};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::unistd::{Pid, gettid};

/// Long enough for anything that does happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// In the victim, which is none unless `variable` names its role: `bring` brings everything into place, on the port that
/// it gets, and returns the operation.
pub(crate) fn serve(variable: &str, bring: impl FnOnce(&str, MessagePort) -> Box<dyn FnOnce()>) {
    let Ok(role) = std::env::var(variable) else { return };
    let port = parent_port().unwrap();
    let control = port.recv().unwrap().ports.remove(0);
    let operation = bring(&role, port);
    // The thread to trace, or that it cannot be.
    let answer = ptrace::traceme().map_or_else(|errno| -(errno as i32), |()| gettid().as_raw());
    control.post_message(&answer.to_ne_bytes(), []).unwrap();
    if answer < 0 {
        return;
    }
    raise(Signal::SIGSTOP).unwrap();
    operation();
    raise(Signal::SIGSTOP).unwrap();
    unreachable!("the test kills this process at the latest here");
}

/// The first message on the victim's port: what its answer comes by.
pub(crate) fn control(port: &MessagePort) -> MessagePort {
    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
    port.post_message(b"control", [port2.into()]).unwrap();
    port1
}

/// Starts the victim, which gets `port`, and waits until it is about to stop. `None` if it may not be traced.
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
