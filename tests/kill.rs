//! SIGKILL at every system call of every operation: the survivor gets a documented answer.
//!
//! The victim is this program again. It stops before and after the operation under test. In between, the test steps it
//! from system call to system call with ptrace(2), in each run one stop further, and kills it there.

#[path = "tools/ledger.rs"]
mod ledger;
#[path = "tools/victim.rs"]
mod victim;

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::Duration;

use messageport::{
    ChannelOptions, CloseReason, FrozenBuffer, Message, MessageChannel, MessagePort, NamedBufferError, RecvError,
    RecvTimeoutError, SharedBuffer, TransferBuffer, Transferable,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use ledger::{alone, assert_descriptors, descriptors};
use victim::{PATIENCE, serve, start};

/// The environment variable with the operation of the victim.
const ROLE: &str = "MESSAGEPORT_VICTIM";

/// An operation under test.
struct Role {
    name: &'static str,
    /// In the victim: prepares and returns the operation.
    victim: fn(MessagePort) -> Box<dyn FnOnce()>,
    /// In the survivor, before the operation.
    prepare: fn(&mut Survivor),
    /// In the survivor, when the victim is about to sleep: wakes it.
    wake: fn(&mut Survivor),
    /// In the survivor, afterwards: the assertions. The flag is true if the operation was completed.
    check: fn(Survivor, bool),
}

/// The survivor: holds the peer of the victim's port, and the peer of a port that travels.
struct Survivor {
    port: MessagePort,
    other: Option<MessagePort>,
    shared: Option<SharedBuffer>,
    pipe: Option<PipeReader>,
    received: Vec<Message>,
}

impl Survivor {
    /// Asserts that the first messages of `fill` have arrived, as many as `counts` allows, and all of them if the
    /// operation was completed.
    fn assert_filled(&self, counts: std::ops::RangeInclusive<usize>, completed: bool) {
        for (number, message) in self.received.iter().enumerate() {
            assert_eq!(message.data, [number as u8; 1000], "message {number}");
        }
        let count = self.received.len();
        assert!(counts.contains(&count) && (!completed || count == *counts.end()), "{count} messages of {counts:?}");
    }

    /// Posts a message with one thing of each kind, and keeps the other end or a handle of each.
    fn post_things(&mut self) {
        let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
        let buffer = TransferBuffer::new(10_000).unwrap();
        let frozen = FrozenBuffer::from_bytes(b"weights").unwrap();
        let shared = SharedBuffer::new(10_000).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let list = [port2.into(), buffer.into(), frozen.into(), shared.clone().into(), OwnedFd::from(writer).into()];
        self.port.post_message(b"things", list).unwrap();
        self.other = Some(port1);
        self.shared = Some(shared);
        self.pipe = Some(reader);
    }

    /// Posts a port with buffers in its queue, and behind them more messages than fit its first ring.
    fn post_laden_port(&mut self) {
        let options = ChannelOptions::new().capacity(4096).max_capacity(64 << 10);
        let MessageChannel { port1, port2 } = options.create().unwrap();
        let list: Vec<_> = (0..2).map(|_| port1.buffer(10_000).unwrap().into()).collect();
        port1.post_message(b"", list).unwrap();
        for number in 0..100_u8 {
            port1.post_message(&[number; 100], []).unwrap();
        }
        self.port.post_message(b"", [port2.into()]).unwrap();
        self.other = Some(port1);
    }

    /// Receives every message that is there.
    fn read_all(&mut self) {
        while let Ok(message) = self.port.try_recv() {
            self.received.push(message);
        }
    }

    /// Receives every message up to the end. Returns the reason of the end.
    fn rest(&mut self) -> CloseReason {
        loop {
            match self.port.recv_timeout(PATIENCE) {
                Ok(message) => self.received.push(message),
                Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => return reason,
                Err(error) => panic!("neither a message nor the end: {error:?}"),
            }
        }
    }

    /// Asserts the end of the peer of the travelling port, which has no holder any more.
    fn assert_other_ended(&self) {
        let result = self.other.as_ref().unwrap().recv_timeout(PATIENCE);
        let Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) = result else { panic!("{result:?}") };
        assert!(matches!(reason, CloseReason::PeerDied | CloseReason::Closed), "{reason}");
        assert_eq!(self.pipe.as_ref().unwrap().read(&mut [0]).unwrap(), 0);
    }

    fn texts(&self) -> Vec<&[u8]> {
        self.received.iter().map(|message| &message.data[..]).collect()
    }
}

/// The port in a message of [`Survivor::post_laden_port`], after its buffers went into its cache, its sending queue
/// grew as well, and a buffer of its own went to the peer.
fn laden(mut message: Message) -> MessagePort {
    let port = message.ports.remove(0);
    assert_eq!(port.recv().unwrap().buffers.len(), 2);
    for number in 0..100_u8 {
        port.post_message(&[number; 100], []).unwrap();
    }
    port.post_message(b"", [port.buffer(10_000).unwrap().into()]).unwrap();
    assert!(port.queued().capacity > 4096);
    port
}

/// Posts numbered messages until the queue would have to grow: 65, or 64 in a queue that is not empty.
fn fill(port: &MessagePort) -> u8 {
    let mut count = 0;
    while port.post_message_timeout(&[count; 1000], [], Duration::ZERO).is_ok() {
        count += 1;
    }
    assert!(matches!(count, 64 | 65), "{count}");
    count
}

const ROLES: &[Role] = &[
    Role {
        name: "post",
        victim: |port| {
            port.post_message(b"before", []).unwrap();
            Box::new(move || {
                port.post_message(b"now", []).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: |_| {},
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            let texts = survivor.texts();
            assert!(texts == [b"before"] && !completed || texts == [&b"before"[..], b"now"], "{texts:?}");
        },
    },
    Role {
        name: "post with things",
        victim: |port| {
            let mut message = port.recv().unwrap();
            let (travelling, buffer) = (message.ports.remove(0), message.buffers.remove(0));
            let (frozen, shared) = (message.frozen.remove(0), message.shared.remove(0));
            let pipe = message.descriptors.remove(0);
            port.post_message(b"before", []).unwrap();
            Box::new(move || {
                let list = [travelling.into(), buffer.into(), frozen.into(), shared.into(), pipe.into()];
                port.post_message(b"now", list).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: Survivor::post_things,
        wake: |_| {},
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            assert_eq!(survivor.received.remove(0).data, b"before");
            match survivor.received.pop() {
                // The message arrived whole, and its things work here.
                Some(message) => {
                    assert_eq!((&*message.data, message.buffers[0].len()), (&b"now"[..], 10_000));
                    survivor.other.as_ref().unwrap().post_message(b"hello", []).unwrap();
                    assert_eq!(message.ports[0].recv_timeout(PATIENCE).unwrap().data, b"hello");
                    assert_eq!(message.frozen[0][..], *b"weights");
                    survivor.shared.unwrap().write_at(9_995, b"again").unwrap();
                    assert_eq!(&message.shared[0].to_vec().unwrap()[9_995..], b"again");
                    File::from(message.descriptors.into_iter().next().unwrap()).write_all(b"x").unwrap();
                    let mut written = Vec::new();
                    survivor.pipe.unwrap().read_to_end(&mut written).unwrap();
                    assert_eq!(written, b"x");
                }
                None => {
                    assert!(!completed, "a completed post was not received");
                    survivor.assert_other_ended();
                }
            }
        },
    },
    Role {
        name: "receive",
        victim: |port| {
            Box::new(move || {
                assert_eq!(port.recv().unwrap().data, b"data");
                std::mem::forget(port);
            })
        },
        prepare: |survivor| survivor.port.post_message(b"data", []).unwrap(),
        wake: |_| {},
        check: |mut survivor, _| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            assert!(survivor.received.is_empty());
        },
    },
    Role {
        name: "receive things",
        victim: |port| Box::new(move || std::mem::forget((port.recv().unwrap(), port))),
        prepare: Survivor::post_things,
        wake: |_| {},
        check: |mut survivor, _| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            survivor.assert_other_ended();
        },
    },
    Role {
        name: "close",
        victim: |port| {
            port.post_message(b"before", []).unwrap();
            Box::new(move || {
                port.close();
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: |_| {},
        check: |mut survivor, completed| {
            let reason = survivor.rest();
            assert!(reason == CloseReason::Closed || !completed && reason == CloseReason::PeerDied, "{reason}");
            assert_eq!(survivor.texts(), [b"before"]);
        },
    },
    Role {
        name: "drop with things in the queue",
        victim: |port| Box::new(move || drop(port)),
        prepare: Survivor::post_things,
        wake: |_| {},
        check: |mut survivor, completed| {
            let reason = survivor.rest();
            assert!(reason == CloseReason::Closed || !completed && reason == CloseReason::PeerDied, "{reason}");
            survivor.assert_other_ended();
        },
    },
    Role {
        name: "sleep in receive",
        victim: |port| {
            port.set_spin(Duration::ZERO);
            Box::new(move || {
                assert_eq!(port.recv().unwrap().data, b"good morning");
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: |survivor| survivor.port.post_message(b"good morning", []).unwrap(),
        check: |mut survivor, _| assert_eq!(survivor.rest(), CloseReason::PeerDied),
    },
    Role {
        name: "sleep in post",
        victim: |port| {
            port.set_spin(Duration::ZERO);
            let count = fill(&port);
            Box::new(move || {
                port.post_message_wait(&[count; 1000], []).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: Survivor::read_all,
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            // The last message is the one that waited.
            survivor.assert_filled(65..=66, completed);
        },
    },
    Role {
        name: "grow",
        victim: |port| {
            let count = fill(&port);
            Box::new(move || {
                port.post_message(&[count; 1000], []).unwrap();
                port.post_message(&[count + 1; 1000], []).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: |_| {},
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            survivor.assert_filled(65..=67, completed);
        },
    },
    Role {
        name: "go back after growing",
        victim: |port| {
            port.set_spin(Duration::ZERO);
            let count = fill(&port);
            port.post_message(&[count; 1000], []).unwrap();
            Box::new(move || {
                assert_eq!(port.recv().unwrap().data, b"everything has been read");
                port.post_message(&[count + 1; 1000], []).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: |survivor| {
            survivor.read_all();
            survivor.port.post_message(b"everything has been read", []).unwrap();
        },
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            survivor.assert_filled(66..=67, completed);
        },
    },
    Role {
        name: "follow into a larger ring",
        victim: |port| {
            Box::new(move || {
                for number in 0..=64 {
                    assert_eq!(port.recv().unwrap().data, [number; 1000]);
                }
                std::mem::forget(port);
            })
        },
        prepare: |survivor| {
            let count = fill(&survivor.port); // behind the message with the control port
            survivor.port.post_message(&[count; 1000], []).unwrap();
        },
        wake: |_| {},
        check: |mut survivor, _| assert_eq!(survivor.rest(), CloseReason::PeerDied),
    },
    Role {
        name: "post a recycled buffer",
        victim: |port| {
            port.set_spin(Duration::ZERO);
            Box::new(move || {
                for _ in 0..2 {
                    let buffer = port.buffer(10_000).unwrap();
                    buffer.write_at(9_995, b"whole").unwrap();
                    port.post_message(b"a buffer", [buffer.into()]).unwrap();
                    assert_eq!(port.recv().unwrap().data, b"it is free again");
                }
                let buffer = port.buffer(10_000).unwrap();
                port.post_message(b"the last", [buffer.into()]).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: |survivor| survivor.port.post_message(b"it is free again", []).unwrap(), // before it has arrived
        wake: |survivor| {
            while let Ok(message) = survivor.port.try_recv() {
                assert_eq!(&message.buffers[0].to_vec().unwrap()[9_995..], b"whole");
            }
            survivor.port.post_message(b"it is free again", []).unwrap();
        },
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            assert!(survivor.received.len() <= 2);
            for message in &survivor.received {
                assert_eq!(&message.buffers[0].to_vec().unwrap()[9_995..], b"whole");
            }
            let last = survivor.received.last().is_some_and(|message| message.data == b"the last");
            assert!(last || !completed);
        },
    },
    Role {
        name: "give a buffer back",
        victim: |port| {
            let buffer = port.recv().unwrap().buffers.remove(0);
            let dropped = port.recv().unwrap();
            Box::new(move || {
                buffer.write_at(9_995, b"whole").unwrap();
                port.post_message(b"back", [buffer.into()]).unwrap();
                drop(dropped);
                std::mem::forget(port);
            })
        },
        prepare: |survivor| {
            for _ in 0..2 {
                let buffer = survivor.port.buffer(10_000).unwrap();
                survivor.port.post_message(b"", [buffer.into()]).unwrap();
            }
        },
        wake: |_| {},
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            match survivor.received.pop() {
                Some(mut message) => {
                    let buffer = message.buffers.remove(0);
                    assert_eq!(&buffer.to_vec().unwrap()[9_995..], b"whole");
                    // The buffer has no other holder: it may go over any port.
                    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
                    port1.post_message(b"", [buffer.into()]).unwrap();
                    assert_eq!(port2.recv().unwrap().buffers[0].len(), 10_000);
                }
                None => assert!(!completed, "a completed post was not received"),
            }
        },
    },
    Role {
        name: "post more than the ring holds",
        victim: |port| {
            Box::new(move || {
                port.post_message(&[7; 100_000], []).unwrap();
                let mut reservation = port.reserve(100_000).unwrap();
                reservation.write_at(0, &[7; 100_000]).unwrap();
                reservation.commit().unwrap();
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: |_| {},
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            assert!(survivor.received.iter().all(|message| message.data == [7; 100_000]));
            assert!(survivor.received.len() <= 2 && (!completed || survivor.received.len() == 2));
        },
    },
    Role {
        name: "receive more than the ring holds",
        victim: |port| {
            Box::new(move || {
                assert_eq!(port.recv().unwrap().data, [7; 100_000]);
                assert_eq!(port.recv_ref().unwrap().len(), 100_000);
                std::mem::forget(port);
            })
        },
        prepare: |survivor| (0..2).for_each(|_| survivor.port.post_message(&[7; 100_000], []).unwrap()),
        wake: |_| {},
        check: |mut survivor, _| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            assert!(survivor.received.is_empty());
        },
    },
    Role {
        name: "transfer a laden port",
        victim: |port| {
            let travelling = laden(port.recv().unwrap());
            Box::new(move || {
                port.post_message(b"now", [travelling.into()]).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: Survivor::post_laden_port,
        wake: |_| {},
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            let other = survivor.other.as_ref().unwrap();
            for number in 0..100_u8 {
                assert_eq!(other.recv_timeout(PATIENCE).unwrap().data, [number; 100]);
            }
            let buffers = other.recv_timeout(PATIENCE).unwrap().buffers;
            assert_eq!(buffers[0].len(), 10_000);
            match survivor.received.pop() {
                Some(mut message) => {
                    let port = message.ports.remove(0);
                    for number in 0..100_u8 {
                        assert_eq!(port.recv_timeout(PATIENCE).unwrap().data, [number; 100]);
                    }
                    // Its buffers work in both directions.
                    other.post_message(b"", buffers.into_iter().map(Transferable::from)).unwrap();
                    assert_eq!(port.recv_timeout(PATIENCE).unwrap().buffers[0].len(), 10_000);
                    other.post_message(b"", [other.buffer(10_000).unwrap().into()]).unwrap();
                    assert_eq!(port.recv_timeout(PATIENCE).unwrap().buffers[0].len(), 10_000);
                }
                None => {
                    assert!(!completed, "a completed post was not received");
                    let result = other.recv_timeout(PATIENCE);
                    let ended = matches!(result, Err(RecvTimeoutError::Failed(RecvError::Ended(_))));
                    assert!(ended, "{result:?}");
                }
            }
        },
    },
    Role {
        name: "receive a laden port",
        victim: |port| Box::new(move || std::mem::forget((laden(port.recv().unwrap()), port))),
        prepare: Survivor::post_laden_port,
        wake: |_| {},
        check: |mut survivor, _| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            let other = survivor.other.as_ref().unwrap();
            loop {
                match other.recv_timeout(PATIENCE) {
                    Ok(message) => assert!(message.data.len() == 100 || message.buffers.len() == 1),
                    Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::PeerDied))) => break,
                    Err(error) => panic!("neither a message nor the end: {error:?}"),
                }
            }
        },
    },
    Role {
        name: "freeze a buffer",
        victim: |port| {
            Box::new(move || {
                let frozen = TransferBuffer::new(10_000).unwrap().freeze().unwrap();
                port.post_message(b"frozen", [frozen.into()]).unwrap();
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: |_| {},
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            let frozen = survivor.received.pop().map(|message| message.frozen[0].to_vec());
            assert!(frozen.is_none() && !completed || frozen == Some(vec![0; 10_000]));
        },
    },
    Role {
        name: "make a named buffer",
        victim: |port| {
            let name = format!("kill-{}", std::process::id());
            port.post_message(name.as_bytes(), []).unwrap();
            Box::new(move || {
                let buffer = SharedBuffer::create_named(&name, 10_000).unwrap();
                buffer.write_at(9_995, b"there").unwrap();
                std::mem::forget((buffer, port));
            })
        },
        prepare: |_| {},
        wake: |_| {},
        check: |mut survivor, completed| {
            assert_eq!(survivor.rest(), CloseReason::PeerDied);
            let name = String::from_utf8(survivor.received.remove(0).data).unwrap();
            let found = SharedBuffer::open_named(&name, 10_000);
            let removed = SharedBuffer::remove_name(&name);
            match found {
                Ok(buffer) => {
                    let last = &buffer.to_vec().unwrap()[9_995..];
                    assert!(last == b"there" || !completed && last == [0; 5], "{last:?}");
                    removed.unwrap();
                }
                Err(NamedBufferError::Unfinished) if !completed => removed.unwrap(),
                Err(NamedBufferError::Missing) if !completed => {
                    assert!(matches!(removed, Err(NamedBufferError::Missing)), "{removed:?}");
                }
                Err(error) => panic!("completed {completed}: {error:?}"),
            }
            drop(SharedBuffer::create_named(&name, 1).unwrap());
        },
    },
    Role {
        name: "make a channel",
        victim: |port| {
            Box::new(move || {
                drop(MessageChannel::new().unwrap());
                std::mem::forget(port);
            })
        },
        prepare: |_| {},
        wake: |_| {},
        check: |mut survivor, _| assert_eq!(survivor.rest(), CloseReason::PeerDied),
    },
];

/// The second process.
#[test]
#[ignore = "the second process of the other tests"]
fn victim() {
    serve(ROLE, |name, port| (ROLES.iter().find(|role| role.name == name).unwrap().victim)(port));
}

/// The outcome of a run.
#[derive(PartialEq, Eq)]
enum Run {
    Killed,
    /// The operation ended before the stop.
    Completed,
    NotPermitted,
}

/// Runs the operation of `role` up to its `stop`-th stop, and kills the victim there. Each system call has two stops,
/// before and after it.
fn run(role: &Role, stop: usize) -> Run {
    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
    let control = victim::control(&port1);
    let mut survivor = Survivor { port: port1, other: None, shared: None, pipe: None, received: Vec::new() };
    (role.prepare)(&mut survivor);
    let Some((mut child, thread)) = start(ROLE, role.name, port2, &control) else { return Run::NotPermitted };
    let run = step(&mut survivor, role, &mut child, thread, stop).unwrap();
    child.kill().unwrap();
    // A traced thread stays until its tracer has waited for it. Only then can the process end.
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    child.wait().unwrap();
    (role.check)(survivor, run == Run::Completed);
    run
}

fn step(survivor: &mut Survivor, role: &Role, child: &mut Child, thread: Pid, stop: usize) -> Result<Run, Errno> {
    let next = || waitpid(thread, Some(WaitPidFlag::__WALL));
    assert_eq!(next()?, WaitStatus::Stopped(thread, Signal::SIGSTOP));
    ptrace::setoptions(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
    let (mut entering, mut woken) = (true, false);
    for count in 0.. {
        if count == stop {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL)?;
            return Ok(Run::Killed);
        }
        ptrace::syscall(thread, None)?;
        match next()? {
            WaitStatus::PtraceSyscall(_) => {
                // A victim that is about to sleep is woken once, before or while it sleeps.
                if entering && !woken && is_futex(thread)? {
                    (role.wake)(survivor);
                    woken = true;
                }
                entering = !entering;
            }
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL)?;
                return Ok(Run::Completed);
            }
            other => panic!("{}: the victim failed: {other:?}", role.name),
        }
    }
    unreachable!()
}

#[cfg(target_arch = "x86_64")]
fn is_futex(thread: Pid) -> Result<bool, Errno> {
    Ok(ptrace::getregs(thread)?.orig_rax == libc::SYS_futex as u64)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_futex(_: Pid) -> Result<bool, Errno> {
    Ok(true)
}

fn kill_at_every_system_call(name: &str) {
    let _alone = alone();
    let role = ROLES.iter().find(|role| role.name == name).unwrap();
    let before = descriptors();
    for stop in 0.. {
        let run = run(role, stop);
        assert_descriptors(before, &format!("{name}: after a kill at stop {stop}"));
        match run {
            Run::Killed => {}
            Run::Completed => return println!("{name}: killed at {stop} points"),
            Run::NotPermitted => return println!("{name}: SKIPPED, ptrace is not permitted here"),
        }
    }
}

macro_rules! kills {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            kill_at_every_system_call($name);
        })*
    };
}

kills! {
    killed_in_post: "post",
    killed_in_post_with_things: "post with things",
    killed_in_receive: "receive",
    killed_in_receive_things: "receive things",
    killed_in_close: "close",
    killed_in_drop_with_things_in_the_queue: "drop with things in the queue",
    killed_in_a_sleep_in_receive: "sleep in receive",
    killed_in_a_sleep_in_post: "sleep in post",
    killed_in_freeze_a_buffer: "freeze a buffer",
    killed_in_make_a_named_buffer: "make a named buffer",
    killed_in_make_a_channel: "make a channel",
    killed_in_grow: "grow",
    killed_in_go_back_after_growing: "go back after growing",
    killed_in_follow_into_a_larger_ring: "follow into a larger ring",
    killed_in_post_a_recycled_buffer: "post a recycled buffer",
    killed_in_give_a_buffer_back: "give a buffer back",
    killed_in_post_more_than_the_ring_holds: "post more than the ring holds",
    killed_in_receive_more_than_the_ring_holds: "receive more than the ring holds",
    killed_in_transfer_a_laden_port: "transfer a laden port",
    killed_in_receive_a_laden_port: "receive a laden port",
}
