//! What the robustness tests share: processes with one role, the ledger of descriptors, the attacker's tools.
#![allow(dead_code)] // each test program uses its part

pub(crate) mod attacker;
pub(crate) mod child;
pub(crate) mod ledger;
pub(crate) mod random;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use messageport::{ChannelOptions, CloseReason, MessageChannel, MessagePort, RecvError, RecvTimeoutError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Long enough for everything that does happen: a call that takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A new pair whose queues do not grow.
pub(crate) fn pair() -> (MessagePort, MessagePort) {
    let options = ChannelOptions::new().max_capacity(64 << 10);
    let MessageChannel { port1, port2 } = options.create().expect("a channel");
    (port1, port2)
}

/// A new pair whose queues hold `capacity` bytes, do not grow, and take what fits them.
pub(crate) fn pair_of(capacity: usize) -> (MessagePort, MessagePort) {
    let fits = capacity / 16 * 7 - 8;
    let options = ChannelOptions::new().capacity(capacity).max_capacity(capacity).max_message_len(fits);
    let MessageChannel { port1, port2 } = options.create().expect("a channel");
    (port1, port2)
}

/// The data of the next message, as text.
#[track_caller]
pub(crate) fn text(port: &MessagePort) -> String {
    let message = port.recv_timeout(PATIENCE).expect("a message");
    String::from_utf8(message.data).expect("text")
}

/// The two ports are the ends of one pair, and it works.
#[track_caller]
pub(crate) fn assert_entangled(port1: &MessagePort, port2: &MessagePort) {
    for (from, to) in [(port1, port2), (port2, port1)] {
        from.post_message(b"are you there?", []).expect("a peer");
        assert_eq!(text(to), "are you there?");
    }
}

/// The reason for which a port has ended. No message comes before it.
#[track_caller]
pub(crate) fn end_of(port: &MessagePort) -> CloseReason {
    match port.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => reason,
        other => panic!("instead of the end: {other:?}"),
    }
}

/// True if the port's descriptor is readable before `timeout` is over.
pub(crate) fn readable(port: &impl AsFd, timeout: Duration) -> bool {
    let timeout = PollTimeout::try_from(timeout).expect("a time that poll takes");
    let mut descriptors = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, timeout).expect("poll") > 0
}

/// What a call took of the clock and of the CPU.
pub(crate) struct Cost {
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
}

/// Measures a call of this thread.
pub(crate) fn cost_of<T>(call: impl FnOnce() -> T) -> (T, Cost) {
    let (start, before) = (Instant::now(), cpu_of_thread());
    let result = call();
    (result, Cost { time: start.elapsed(), cpu: cpu_of_thread() - before })
}

fn cpu_of_thread() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the usage of this thread");
    let duration = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    duration(usage.user_time()) + duration(usage.system_time())
}

/// Runs `body` on a thread, and fails if it takes longer than `limit`: a hang then does not hang the tests.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(limit: Duration, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(body());
    });
    match result.recv_timeout(limit) {
        Ok(result) => {
            thread.join().expect("it has ended");
            result
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("hangs for more than {limit:?}"),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it has failed"))
        }
    }
}
