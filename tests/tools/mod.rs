//! The tools that the test programs share: pairs, event loops, processes with a role, the ledger, the attacker.
#![allow(dead_code)] // each test program uses a part

pub(crate) mod attacker;
pub(crate) mod child;
pub(crate) mod events;
pub(crate) mod folder;
pub(crate) mod ledger;
pub(crate) mod luggage;
pub(crate) mod memory;
mod ports;
pub(crate) mod random;
pub(crate) mod sandbox;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use messageport::{CloseReason, MessagePort, RecvError, RecvTimeoutError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

pub(crate) use ports::*;

/// Receives the end of a port, before which no message comes. Returns its reason.
#[track_caller]
pub(crate) fn end_of(port: &MessagePort) -> CloseReason {
    match port.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => reason,
        other => panic!("instead of the end: {other:?}"),
    }
}

/// True if the descriptor becomes readable within `timeout`.
pub(crate) fn readable(port: &impl AsFd, timeout: Duration) -> bool {
    let timeout = PollTimeout::try_from(timeout).expect("a timeout in milliseconds");
    let mut descriptors = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, timeout).expect("poll") > 0
}

/// The time of a call, by the clock and by the CPU.
pub(crate) struct Cost {
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
}

/// Measures a call on this thread.
pub(crate) fn cost_of<T>(call: impl FnOnce() -> T) -> (T, Cost) {
    let (start, before) = (Instant::now(), cpu_of_thread());
    let result = call();
    (result, Cost { time: start.elapsed(), cpu: cpu_of_thread() - before })
}

/// Measures a call on this thread, while another thread calls `annoy` without a pause.
pub(crate) fn cost_under<T>(annoy: impl Fn() + Sync, call: impl FnOnce() -> T) -> (T, Cost) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                annoy();
            }
        });
        let result = cost_of(call);
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn cpu_of_thread() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the usage of this thread");
    let duration = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    duration(usage.user_time()) + duration(usage.system_time())
}

/// Runs `body` on a thread, and panics if it takes longer than `limit`, so that a hang fails the test.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(limit: Duration, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(body());
    });
    match result.recv_timeout(limit) {
        Ok(result) => {
            thread.join().expect("no panic");
            result
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("hangs: more than {limit:?}"),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("a panic"))
        }
    }
}
