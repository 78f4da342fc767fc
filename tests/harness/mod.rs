//! One test body, three settings: both ends on one thread, the peer on a second thread, the peer in a second process.
//!
//! Each test runs in a process of its own. A crash or a hang belongs to that test, and the ledger is exact: after the
//! body this process and the peer's process hold the descriptors, mappings and threads that they held before.

#[path = "../tools/events.rs"]
pub(crate) mod events;
#[path = "../tools/ledger.rs"]
mod ledger;
#[path = "../tools/luggage.rs"]
pub(crate) mod luggage;
#[path = "../tools/memory.rs"]
mod memory;
mod peer;
#[path = "../tools/ports.rs"]
mod ports;

use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::alarm;

use ledger::Ledger;
#[allow(unused_imports)] // each test program uses a part
pub(crate) use memory::{Watch, newest_memory, open_memory};
#[allow(unused_imports)] // as above
pub(crate) use peer::{Peer, Step, There};
pub(crate) use ports::*;

/// Where the steps of the peer run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Setting {
    OneThread,
    TwoThreads,
    TwoProcesses,
}

/// Turns each named body into three tests, one for each setting.
macro_rules! rules {
    ($($body:ident),* $(,)?) => {
        $crate::harness::rules!(mod one_thread, Setting::OneThread: $($body),*);
        $crate::harness::rules!(mod two_threads, Setting::TwoThreads: $($body),*);
        $crate::harness::rules!(mod two_processes, Setting::TwoProcesses: $($body),*);
    };
    (mod $module:ident, Setting::$setting:ident: $($body:ident),*) => {
        mod $module {
            $(#[test]
            fn $body() {
                let name = concat!(module_path!(), "::", stringify!($body));
                $crate::harness::check(name, $crate::harness::Setting::$setting, super::$body);
            })*
        }
    };
}
pub(crate) use rules;

/// The environment variable of a process that runs a single test.
const ALONE: &str = "MESSAGEPORT_TEST_ALONE";
/// Seconds after which the kernel ends the process of a test: the test hangs.
const SECONDS: u32 = 90;

/// Runs `body` in a process of its own.
pub(crate) fn check(path: &str, setting: Setting, body: fn(&mut Peer)) {
    if std::env::var_os(ALONE).is_none() {
        return run_alone(path);
    }
    alarm::set(SECONDS);
    // The soft limit also bounds the descriptors in flight, which all processes of a user share.
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit of descriptors");
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).expect("the limit can be raised");
    let before = Holdings::now();
    let mut peer = Peer::new(setting);
    body(&mut peer);
    peer.stop();
    before.assert_restored();
}

fn run_alone(path: &str) {
    let (_crate, name) = path.split_once("::").expect("a path with a crate");
    let output = this_program(name).env(ALONE, "1").output().expect("the test program starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{out}{err}");
    assert!(output.status.success() && out.contains("1 passed"), "{name} in its own process: {}", output.status);
}

/// A command that runs one test of this program.
fn this_program(test: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// The ledger of a process that runs a single test, with its threads.
struct Holdings {
    ledger: Ledger,
    threads: usize,
}

impl Holdings {
    fn now() -> Self {
        Self { ledger: Ledger::now(), threads: threads() }
    }

    /// Asserts that the process holds what it held at the time of `now`.
    #[track_caller]
    fn assert_restored(&self) {
        let start = Instant::now();
        // A thread that has been joined leaves the list a moment later.
        while threads() != self.threads && start.elapsed() < PATIENCE / 4 {
            std::thread::yield_now();
        }
        assert_eq!(threads(), self.threads, "threads after the test (left) and before it (right)");
        assert_eq!(Ledger::now(), self.ledger, "holdings after the test (left) and before it (right)");
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("/proc/self/task").count()
}
