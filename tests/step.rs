//! SIGKILL between any two instructions of an operation, as `kill.rs` does at every system call.
//!
//! The victim is this program again, traced with ptrace(2). One run counts the instructions of the operation. Each
//! further run stops the victim at one of them and kills it there. The points are spread over the operation until the
//! time is used up: `MESSAGEPORT_STEP_SECONDS` for each operation. `all` means every instruction.

#[path = "tools/ledger.rs"]
mod ledger;
#[path = "tools/victim.rs"]
mod victim;

use std::fs;
use std::process::Child;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use messageport::{
    ChannelOptions, CloseReason, Message, MessageChannel, MessagePort, PostErrorKind, RecvError, RecvTimeoutError,
    TransferBuffer,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};

use ledger::{alone, assert_descriptors, descriptors};
use victim::{PATIENCE, serve, start};

/// The environment variable with the operation of the victim.
const ROLE: &str = "MESSAGEPORT_STEPPED";

/// An operation under test.
struct Role {
    name: &'static str,
    /// In the victim: prepares and returns the operation.
    victim: fn(MessagePort) -> Box<dyn FnOnce()>,
    /// In the survivor, before the operation.
    prepare: fn(&mut Survivor),
    /// The message of the survivor when the victim is about to sleep.
    wake: Option<&'static [u8]>,
    /// In the survivor, afterwards: the assertions. The flag is true if the operation was completed.
    check: fn(Survivor, bool),
}

/// The survivor: holds the peer of the victim's port, the peer of a port that travels, and a sleeping thread.
struct Survivor {
    port: Option<MessagePort>,
    other: Option<MessagePort>,
    asleep: Option<JoinHandle<MessagePort>>,
    received: Vec<Message>,
}

impl Survivor {
    fn port(&self) -> &MessagePort {
        self.port.as_ref().unwrap()
    }

    /// Moves the port to a thread that calls `what`, and waits until that thread sleeps.
    fn fall_asleep(&mut self, what: impl FnOnce(&MessagePort) + Send + 'static) {
        let port = self.port.take().unwrap();
        let (tell, told) = mpsc::channel();
        self.asleep = Some(thread::spawn(move || {
            port.set_spin(Duration::ZERO);
            tell.send(gettid()).unwrap();
            what(&port);
            port
        }));
        let stat = format!("/proc/self/task/{}/stat", told.recv().unwrap());
        let start = Instant::now();
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") S ")) && start.elapsed() < PATIENCE {
            thread::yield_now();
        }
    }

    /// Receives every message up to the end. Returns the reason of the end.
    fn rest(&mut self) -> CloseReason {
        if let Some(asleep) = self.asleep.take() {
            self.port = Some(asleep.join().unwrap());
        }
        let port = self.port.as_ref().unwrap();
        loop {
            match port.recv_timeout(PATIENCE) {
                Ok(message) => self.received.push(message),
                Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => {
                    let kind = port.post_message(b"to nobody", []).unwrap_err().kind;
                    assert!(matches!(kind, PostErrorKind::PeerGone(_)), "{kind:?}");
                    return reason;
                }
                Err(error) => panic!("neither a message nor the end: {error:?}"),
            }
        }
    }

    /// Asserts that the messages of a run have arrived: all of them, or all but the last if the operation was not
    /// completed.
    fn assert_received(&self, lens: &[usize], completed: bool) {
        let found: Vec<usize> = self.received.iter().map(|message| message.data.len()).collect();
        assert!(found == lens || !completed && found == lens[..lens.len() - 1], "{found:?}, completed {completed}");
        for message in &self.received {
            assert!(message.data.iter().all(|byte| *byte == message.data.len() as u8), "a message that is not whole");
        }
    }

    fn post_port(&mut self) {
        let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
        port1.post_message(b"in the queue", []).unwrap();
        self.port().post_message(b"", [port2.into(), TransferBuffer::new(5000).unwrap().into()]).unwrap();
        self.other = Some(port1);
    }

    fn assert_other_ended(&self) {
        let result = self.other.as_ref().unwrap().recv_timeout(PATIENCE);
        assert!(matches!(result, Err(RecvTimeoutError::Failed(RecvError::Ended(_)))), "{result:?}");
    }
}

fn post(port: &MessagePort, len: usize) {
    port.post_message(&vec![len as u8; len], []).unwrap();
}

const ROLES: &[Role] = &[
    Role {
        name: "post",
        victim: |port| {
            Box::new(move || {
                post(&port, 100);
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: None,
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            survivor.assert_received(&[100], completed);
        },
    },
    Role {
        name: "post over the end of the ring",
        victim: |port| {
            post(&port, 1700);
            post(&port, 1700);
            Box::new(move || {
                post(&port, 1000);
                std::mem::forget(port);
            })
        },
        prepare: |survivor| {
            for _ in 0..2 {
                let message = survivor.port().recv_timeout(PATIENCE).unwrap();
                survivor.received.push(message);
            }
        },
        wake: None,
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            survivor.assert_received(&[1700, 1700, 1000], completed);
        },
    },
    Role {
        name: "wake",
        victim: |port| {
            Box::new(move || {
                post(&port, 100);
                std::mem::forget(port);
            })
        },
        prepare: |survivor| {
            survivor.fall_asleep(|port| {
                let result = port.recv();
                let whole = result.as_ref().is_ok_and(|message| message.data == [100; 100]);
                assert!(whole || matches!(result, Err(RecvError::Ended(CloseReason::PeerDied))), "{result:?}");
            });
        },
        wake: None,
        check: |mut survivor, _| assert_eq!(survivor.rest(), CloseReason::PeerDied),
    },
    Role {
        name: "receive",
        victim: |port| {
            Box::new(move || {
                assert_eq!(port.recv().unwrap().data, [100; 100]);
                std::mem::forget(port);
            })
        },
        prepare: |survivor| post(survivor.port(), 100),
        wake: None,
        check: |mut survivor, _| assert_eq!(survivor.rest(), CloseReason::PeerDied),
    },
    Role {
        name: "release",
        victim: |port| {
            Box::new(move || {
                // More than an eighth of the ring.
                for _ in 0..2 {
                    assert_eq!(port.recv().unwrap().data.len(), 500);
                }
                std::mem::forget(port);
            })
        },
        prepare: |survivor| {
            let port = survivor.port();
            while port.post_message_timeout(&[500_usize as u8; 500], [], Duration::ZERO).is_ok() {}
            survivor.fall_asleep(|port| {
                let result = port.post_message_wait(&[1; 500], []).map_err(|error| error.kind);
                assert!(matches!(result, Ok(()) | Err(PostErrorKind::PeerGone(_))), "{result:?}");
            });
        },
        wake: None,
        check: |mut survivor, _| assert_eq!(survivor.rest(), CloseReason::PeerDied),
    },
    Role {
        name: "sleep",
        victim: |port| {
            port.set_spin(Duration::ZERO);
            Box::new(move || {
                assert_eq!(port.recv().unwrap().data, b"wake up");
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: Some(b"wake up"),
        check: |mut survivor, _| assert_eq!(survivor.rest(), CloseReason::PeerDied),
    },
    Role {
        name: "close",
        victim: |port| {
            post(&port, 100);
            post(&port, 200);
            Box::new(move || port.close())
        },
        prepare: |_| {},
        wake: None,
        check: |mut survivor, completed| {
            let reason = survivor.rest();
            assert!(reason == CloseReason::Closed || !completed && reason == CloseReason::PeerDied, "{reason}");
            survivor.assert_received(&[100, 200], true);
        },
    },
    Role {
        name: "transfer",
        victim: |port| {
            let mut message = port.recv().unwrap();
            let travelling = message.ports.remove(0);
            Box::new(move || {
                port.post_message(b"", [travelling.into(), message.buffers.remove(0).into()]).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: Survivor::post_port,
        wake: None,
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            let Some(mut message) = survivor.received.pop() else {
                assert!(!completed, "a completed post was not received");
                return survivor.assert_other_ended();
            };
            let (port, other) = (message.ports.remove(0), survivor.other.take().unwrap());
            assert_eq!(message.buffers[0].to_vec().unwrap(), vec![0; 5000]);
            assert_eq!(port.recv_timeout(PATIENCE).unwrap().data, b"in the queue");
            port.post_message(b"it lives", []).unwrap();
            assert_eq!(other.recv_timeout(PATIENCE).unwrap().data, b"it lives");
        },
    },
    Role {
        name: "receive a port",
        victim: |port| Box::new(move || std::mem::forget((port.recv().unwrap(), port))),
        prepare: Survivor::post_port,
        wake: None,
        check: |mut survivor, _| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            survivor.assert_other_ended();
        },
    },
];

/// The second process.
#[test]
#[ignore = "the second process of the other tests"]
fn victim() {
    serve(ROLE, |name, port| (ROLES.iter().find(|role| role.name == name).unwrap().victim)(port));
}

/// The point up to which the victim runs.
#[derive(Clone, Copy)]
enum Until {
    /// The end of the operation. The run counts the instructions.
    End,
    /// A number of system calls, and then a number of instructions.
    Point(usize, usize),
}

/// A traced thread, stopped.
struct Traced<'a> {
    thread: Pid,
    role: &'a Role,
    survivor: &'a Survivor,
    woken: bool,
}

impl Traced<'_> {
    fn stopped(&self) -> Result<WaitStatus, Errno> {
        waitpid(self.thread, Some(WaitPidFlag::__WALL))
    }

    /// Runs up to the end of the next system call. Returns false at the end of the operation.
    fn system_call(&mut self) -> Result<bool, Errno> {
        for entering in [true, false] {
            ptrace::syscall(self.thread, None)?;
            match self.stopped()? {
                WaitStatus::PtraceSyscall(_) if entering => {
                    self.wake_before(ptrace::getregs(self.thread)?.orig_rax)?;
                }
                WaitStatus::PtraceSyscall(_) => {}
                WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(false),
                other => panic!("{}: the victim failed: {other:?}", self.role.name),
            }
        }
        Ok(true)
    }

    /// Runs one instruction. Returns `None` at the end of the operation, and true if the instruction was a system call.
    fn step(&mut self, look: bool) -> Result<Option<bool>, Errno> {
        let mut is_call = false;
        if look || self.role.wake.is_some() {
            let registers = ptrace::getregs(self.thread)?;
            let code = ptrace::read(self.thread, registers.rip as ptrace::AddressType)?;
            is_call = code as u16 == 0x050F;
            if is_call {
                self.wake_before(registers.rax)?;
            }
        }
        ptrace::step(self.thread, None)?;
        match self.stopped()? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(Some(is_call)),
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(None),
            other => panic!("{}: the victim failed: {other:?}", self.role.name),
        }
    }

    fn wake_before(&mut self, call: u64) -> Result<(), Errno> {
        if let Some(data) = self.role.wake
            && call == libc::SYS_futex as u64
            && !std::mem::replace(&mut self.woken, true)
        {
            self.survivor.port().post_message(data, []).expect("room");
        }
        Ok(())
    }
}

/// The outcome of a run.
enum Run {
    Killed,
    /// The numbers of instructions between the system calls of the operation.
    Completed(Vec<usize>),
    NotPermitted,
}

fn run(role: &Role, until: Until) -> Run {
    let options = ChannelOptions::new().capacity(4096);
    let MessageChannel { port1, port2 } = options.create().unwrap();
    let control = victim::control(&port1);
    let mut survivor = Survivor { port: Some(port1), other: None, asleep: None, received: Vec::new() };
    // The messages for these operations must be there before the victim prepares. A sleeping thread in the survivor
    // must come after that, since the victim may use the port to prepare.
    let early = role.name.starts_with("receive") || role.name == "transfer";
    if early {
        (role.prepare)(&mut survivor);
    }
    let Some((mut child, thread)) = start(ROLE, role.name, port2, &control) else { return Run::NotPermitted };
    if !early {
        (role.prepare)(&mut survivor);
    }
    let run = drive(&survivor, role, &mut child, thread, until).unwrap();
    // A traced thread stays until its tracer has waited for it. Only then can the process end.
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    child.wait().unwrap();
    (role.check)(survivor, matches!(run, Run::Completed(_)));
    run
}

fn drive(survivor: &Survivor, role: &Role, child: &mut Child, thread: Pid, until: Until) -> Result<Run, Errno> {
    let mut traced = Traced { thread, role, survivor, woken: false };
    assert_eq!(traced.stopped()?, WaitStatus::Stopped(thread, Signal::SIGSTOP));
    ptrace::setoptions(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
    let mut segments = vec![0];
    match until {
        Until::End => {
            while let Some(is_call) = traced.step(true)? {
                match is_call {
                    true => segments.push(0),
                    false => *segments.last_mut().unwrap() += 1,
                }
            }
        }
        Until::Point(calls, steps) => {
            let mut there = true;
            for _ in 0..calls {
                there = there && traced.system_call()?;
            }
            for _ in 0..steps {
                there = there && traced.step(false)?.is_some();
            }
            segments.clear();
            if there {
                segments.push(0);
            }
        }
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL)?;
    let killed = matches!(until, Until::Point(..)) && !segments.is_empty();
    Ok(if killed { Run::Killed } else { Run::Completed(segments) })
}

/// The time for each operation. `None` means every instruction.
fn budget() -> Option<Duration> {
    match std::env::var("MESSAGEPORT_STEP_SECONDS").as_deref() {
        Ok("all") => None,
        Ok(seconds) => Some(Duration::from_secs_f64(seconds.parse().expect("a number of seconds"))),
        Err(_) => Some(Duration::from_secs(2)),
    }
}

fn kill_between_instructions(name: &str) {
    let _alone = alone();
    if cfg!(not(target_arch = "x86_64")) {
        return println!("{name}: SKIPPED, it knows the instructions of x86-64 only");
    }
    let role = ROLES.iter().find(|role| role.name == name).unwrap();
    let before = descriptors();
    let segments = match run(role, Until::End) {
        Run::Completed(segments) => segments,
        Run::NotPermitted => return println!("{name}: SKIPPED, ptrace is not permitted here"),
        Run::Killed => unreachable!("a run without a kill"),
    };
    let points: Vec<(usize, usize)> =
        (0..).zip(&segments).flat_map(|(calls, len)| (0..=*len).map(move |at| (calls, at))).collect();
    // A stride coprime to the number of points visits each point once, and covers the operation early.
    let stride = (points.len() * 3 / 5..).find(|stride| divisor(*stride, points.len()) == 1).unwrap();
    let (start, mut tried, mut killed) = (Instant::now(), 0, 0);
    while tried < points.len() && budget().is_none_or(|budget| start.elapsed() < budget) {
        let (calls, steps) = points[tried * stride % points.len()];
        killed += usize::from(matches!(run(role, Until::Point(calls, steps)), Run::Killed));
        tried += 1;
        assert_descriptors(before, &format!("{name}: after a kill at {calls}, {steps}"));
    }
    println!("{name}: killed at {killed} of {} instructions and {} system calls", points.len(), segments.len() - 1);
    assert!(killed > 0, "never killed");
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

macro_rules! kills {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            kill_between_instructions($name);
        })*
    };
}

kills! {
    killed_in_post: "post",
    killed_in_post_over_the_end_of_the_ring: "post over the end of the ring",
    killed_in_wake: "wake",
    killed_in_receive: "receive",
    killed_in_release: "release",
    killed_in_sleep: "sleep",
    killed_in_close: "close",
    killed_in_transfer: "transfer",
    killed_in_receive_a_port: "receive a port",
}
