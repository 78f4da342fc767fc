//! Further processes: this program, started again with one role.
//!
//! A role runs before the test program's `main`, so its process has a single thread: it can `fork`, be traced, and
//! change its environment.

use std::process::{Child, Command, ExitStatus, exit};
use std::time::{Duration, Instant};

use messageport::{MessagePort, parent_port, spawn_with_port};
use nix::unistd::alarm;

use super::{PATIENCE, pair};

/// The environment variable that names the role.
const ROLE: &str = "MESSAGEPORT_TEST_ROLE";
/// Seconds after which the kernel ends a process with a role: it was forgotten.
const SECONDS: u32 = 100;

/// A name, and a function that a process runs instead of `main`. Every test program has a list `ROLES`.
pub(crate) type Role = (&'static str, fn());

extern "C" fn run_role() {
    let Some(role) = std::env::var_os(ROLE) else { return };
    #[allow(unsafe_code)]
    // SAFETY: the process has one thread, this one. Processes that this one starts have no role.
    unsafe {
        std::env::remove_var(ROLE);
    }
    alarm::set(SECONDS);
    let (_, role) = crate::ROLES.iter().find(|(name, _)| role == *name).expect("a role of this program");
    role(); // a panic aborts the process
    exit(0);
}

/// The dynamic loader calls this before `main`.
#[used]
#[allow(unsafe_code)]
// SAFETY: the section holds pointers to functions of the C calling convention, and this is one.
#[unsafe(link_section = ".init_array")]
static RUN_ROLE: extern "C" fn() = run_role;

/// A command that runs `role`.
pub(crate) fn command(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(ROLE, role);
    command
}

/// Runs a role to its end, which must be a success.
#[track_caller]
pub(crate) fn play(role: &str) {
    let (mut process, _port) = Process::start(role);
    process.succeeded();
}

/// A role: posts "ready", and holds its port until the process is killed.
pub(crate) fn hold() {
    let port = parent_port().expect("a port");
    port.post_message(b"ready", []).expect("room");
    loop {
        std::thread::park();
    }
}

/// A role: posts every message back, with its transfer list, until the peer is gone.
pub(crate) fn echo() {
    let port = parent_port().expect("a port");
    while let Ok(mut message) = port.recv() {
        let list = message.take_transfer_list();
        port.post_message_timeout(&message.data, list, PATIENCE).expect("the peer receives its answers");
    }
}

/// A process with a role. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a process that has the peer of the returned port as its `parent_port`.
    pub(crate) fn start(role: &str) -> (Self, MessagePort) {
        let (ours, theirs) = pair();
        (Self::with_port(role, theirs), ours)
    }

    /// Starts a process that has `port` as its `parent_port`.
    pub(crate) fn with_port(role: &str, port: MessagePort) -> Self {
        Self { child: spawn_with_port(&mut command(role), port).expect("a second process") }
    }

    /// Starts a process without a port.
    pub(crate) fn run(command: &mut Command) -> Self {
        Self { child: command.spawn().expect("a second process") }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process by SIGKILL and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asserts that the process ends by itself, with success.
    #[track_caller]
    pub(crate) fn succeeded(&mut self) {
        self.succeeded_within(2 * PATIENCE);
    }

    #[track_caller]
    pub(crate) fn succeeded_within(&mut self, limit: Duration) {
        let status = self.ended(limit);
        assert!(status.success(), "the second process: {status}");
    }

    #[track_caller]
    fn ended(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < limit, "the second process hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
