//! Node's MessagePort between the main thread and a worker of a `node` process, which the first process starts and
//! controls through pipes. The two threads are pinned to the two CPUs; the other threads of node may run on both.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hdrhistogram::Histogram;
use messageport_bench::{Bench, Error, Outcome, Player, Result, Session, Side, Subject, Turn, Wait, pin_thread};

use nix::poll::{PollFd, PollFlags, poll};

use crate::compare::{Skipped, add_subject};

/// Longest time in milliseconds that node may take for a turn.
const TURN_TIMEOUT_MS: u16 = 60_000;

/// The program that node runs.
const SCRIPT: &str = include_str!("threads.js");

/// A subject that node plays. Only the first side has the process.
struct Node {
    process: Option<(Child, ChildStdin, BufReader<ChildStdout>)>,
    pattern: &'static str,
    wait: Wait,
    size: usize,
}

impl Node {
    fn new(session: &Session, size: usize, pattern: &'static str, wait: Wait) -> Result<Self> {
        let mut process = None;
        if session.side() == Side::First {
            let failed = Error::of("cannot start node");
            // The worker loads the file that the main thread was started from, so the script must be a file.
            let path = std::env::temp_dir().join(session.name() + ".js");
            std::fs::write(&path, SCRIPT).map_err(&failed)?;
            let mut command = Command::new("node");
            command.arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = session.on_both_cpus(|| command.spawn().map_err(&failed))?;
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
                return Err(Error::failed("node has no pipes"));
            };
            let mut node = Self { process: Some((child, stdin, BufReader::new(stdout))), pattern, wait, size };
            // Both threads have loaded the file when the first answer arrives.
            let played = node.ask(0, 1).and_then(|_| node.pin_threads(session.cpus()));
            let _ = std::fs::remove_file(path);
            played?;
            process = node.process.take();
        } else {
            session.name(); // keeps the names of both sides in step
        }
        Ok(Self { process, pattern, wait, size })
    }

    /// Pins the two threads that exchange messages to a CPU each. They are the threads with the most CPU time after
    /// some messages.
    fn pin_threads(&mut self, cpus: [usize; 2]) -> Result<()> {
        let pattern = std::mem::replace(&mut self.pattern, "rtt");
        let wait = std::mem::replace(&mut self.wait, Wait::Block);
        self.ask(0, 3000)?;
        (self.pattern, self.wait) = (pattern, wait);
        let Some((child, ..)) = &self.process else { return Ok(()) };
        let worked = |thread: &std::path::Path| {
            let text = std::fs::read_to_string(thread.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id()))
            .map_err(Error::of("cannot list the threads of node"))?;
        let mut threads: Vec<(u64, i32)> = threads
            .filter_map(|thread| {
                let thread = thread.ok()?;
                Some((worked(&thread.path())?, thread.file_name().to_str()?.parse().ok()?))
            })
            .collect();
        threads.sort_unstable();
        for ((_, thread), cpu) in threads.into_iter().rev().zip(cpus) {
            pin_thread(thread, cpu)?;
        }
        Ok(())
    }

    /// Lets node play a turn and returns the duration of its timed part in nanoseconds.
    fn ask(&mut self, warm_up: u64, count: u64) -> Result<f64> {
        let failed = Error::of("node does not answer");
        let (_, stdin, stdout) = self.process.as_mut().ok_or_else(|| Error::failed("this side does not run node"))?;
        let (pattern, wait, size) = (self.pattern, self.wait.name(), self.size);
        writeln!(stdin, "{pattern} {wait} {size} {warm_up} {count}").map_err(&failed)?;
        let mut waits = [PollFd::new(stdout.get_ref().as_fd(), PollFlags::POLLIN)];
        if poll(&mut waits, TURN_TIMEOUT_MS).map_err(Error::of("cannot wait for node"))? == 0 {
            return Err(Error::failed("node does not answer"));
        }
        let mut answer = String::new();
        stdout.read_line(&mut answer).map_err(failed)?;
        answer.trim().parse().map_err(Error::of("node does not answer with a number"))
    }
}

impl Player for Node {
    fn play(&mut self, turn: &Turn, _: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        match turn.side {
            Side::First => Ok(Outcome { nanos: self.ask(turn.warm_up, turn.count)?, cpu: None }),
            Side::Second => Ok(Outcome::default()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((child, ..)) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn add(suite: &mut [Bench], skipped: &mut Vec<Skipped>) {
    if !Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skipped.push(("Node", "`node` is not installed"));
        return;
    }
    for (bench, pattern) in [("rtt", "rtt"), ("throughput", "stream")] {
        for wait in [Wait::Spin, Wait::Block] {
            let node =
                Subject::new("Node", "threads", wait, move |session, size| Node::new(session, size, pattern, wait));
            add_subject(suite, bench, node.sizes(|size| size % 4 == 0));
        }
    }
}
