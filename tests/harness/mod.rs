//! One test body, three settings: both ends on one thread, the peer on a second thread, the peer in a second process.
//!
//! Each test runs in a process of its own, so that a crash or a hang is that test's and the [`Ledger`] is exact:
//! descriptors, mappings and threads are the same after the body as before, here and in the peer's process.

mod ledger;
mod memory;
mod peer;
mod ports;

use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::alarm;

use ledger::Ledger;
#[allow(unused_imports)] // each test program uses its part
pub(crate) use memory::{Watch, newest_memory, open_memory};
#[allow(unused_imports)] // the same
pub(crate) use peer::{Peer, Step, There};
pub(crate) use ports::*;

/// Where the peer's steps run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Setting {
    OneThread,
    TwoThreads,
    TwoProcesses,
}

/// Makes a test of each named body for each setting.
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

/// The environment variable that says: this process is for one test only.
const ALONE: &str = "MESSAGEPORT_TEST_ALONE";
/// A process of a test that takes longer is ended by the kernel: it hangs.
const SECONDS: u32 = 90;

/// Runs `body` in a process of its own.
pub(crate) fn check(path: &str, setting: Setting, body: fn(&mut Peer)) {
    if std::env::var_os(ALONE).is_none() {
        return run_alone(path);
    }
    alarm::set(SECONDS);
    // It also limits the descriptors in flight, which all tests of a user share.
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit of descriptors");
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).expect("the limit can be raised");
    let before = Ledger::now();
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

/// This very program, to run one test.
fn this_program(test: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"]);
    command
}
