//! The peer: whoever holds the other ends, and does there what the test tells it to.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use messageport::{
    CloseReason, FrozenBuffer, Message, MessageChannel, MessagePort, RecvError, SharedBuffer, TransferBuffer,
    Transferable, parent_port, spawn_with_port,
};
use nix::sys::signal::{Signal, raise};
use nix::unistd::alarm;

use super::ledger::Ledger;
use super::ports::{PATIENCE, forgetful_pair};
use super::{SECONDS, Setting, this_program};

/// Something to do at the peer. It captures nothing: what it needs was given to the peer before.
pub(crate) type Step = fn(&mut There);

/// What the peer has.
#[derive(Default)]
pub(crate) struct There {
    /// Given by [`Peer::give`] or kept by an earlier step.
    pub(crate) ports: Vec<MessagePort>,
    pub(crate) buffers: Vec<TransferBuffer>,
    pub(crate) frozen: Vec<FrozenBuffer>,
    pub(crate) shared: Vec<SharedBuffer>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// For numbers that are posted and received in several steps.
    pub(crate) sent: u32,
    pub(crate) seen: u32,
    /// For an amount that is to be the same later.
    pub(crate) kept: u64,
    given_back: Vec<Transferable>,
    is_process: bool,
    is_concurrent: bool,
}

impl There {
    /// The port that was given first.
    pub(crate) fn port(&self) -> &MessagePort {
        &self.ports[0]
    }

    /// Returns something to the test, at the end of the step.
    pub(crate) fn give_back(&mut self, thing: impl Into<Transferable>) {
        self.given_back.push(thing.into());
    }

    /// As [`Peer::is_concurrent`].
    pub(crate) fn is_concurrent(&self) -> bool {
        self.is_concurrent
    }

    /// Ends the process by SIGKILL. Where the peer has none of its own it goes on and loses all it has after the step.
    pub(crate) fn die(&self) {
        if self.is_process {
            raise(Signal::SIGKILL).expect("a process can kill itself");
        }
    }

    fn obey(&mut self, step: Step, things: Vec<Transferable>) -> Vec<Transferable> {
        for thing in things {
            match thing {
                Transferable::Port(port) => self.ports.push(port),
                Transferable::Buffer(buffer) => self.buffers.push(buffer),
                Transferable::Frozen(buffer) => self.frozen.push(buffer),
                Transferable::Shared(buffer) => self.shared.push(buffer),
                Transferable::Descriptor(descriptor) => self.descriptors.push(descriptor),
                other => panic!("{other:?} has no place here"),
            }
        }
        step(self);
        std::mem::take(&mut self.given_back)
    }
}

pub(crate) struct Peer {
    pub(crate) setting: Setting,
    link: Link,
}

enum Link {
    Inline { there: There, answer: Option<Vec<Transferable>> },
    Thread { orders: Sender<(Step, Vec<Transferable>)>, answers: Receiver<Vec<Transferable>>, thread: JoinHandle<()> },
    Process { control: MessagePort, child: Child },
    Ended,
}

impl Peer {
    pub(crate) fn new(setting: Setting) -> Self {
        let link = match setting {
            Setting::OneThread => Link::Inline { there: There::default(), answer: None },
            Setting::TwoThreads => {
                let (orders, orders_there) = mpsc::channel();
                let (answers_there, answers) = mpsc::channel();
                let thread = std::thread::spawn(move || peer_thread(&orders_there, &answers_there));
                Link::Thread { orders, answers, thread }
            }
            Setting::TwoProcesses => {
                let (port1, port2) = forgetful_pair();
                let mut command = this_program("harness::peer::peer_process");
                let child = spawn_with_port(command.stdout(Stdio::null()), port2).expect("a second process");
                Link::Process { control: port1, child }
            }
        };
        Self { setting, link }
    }

    /// One more, in the same setting.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.setting)
    }

    /// True if the peer does something while the test does something else.
    pub(crate) fn is_concurrent(&self) -> bool {
        self.setting != Setting::OneThread
    }

    /// What is seen of a port whose holder is gone with [`kill`](Self::kill): in one process, nobody can end without
    /// dropping what he has.
    pub(crate) fn death(&self) -> CloseReason {
        if self.setting == Setting::TwoProcesses { CloseReason::PeerDied } else { CloseReason::Closed }
    }

    /// A new pair; the peer gets one end.
    pub(crate) fn channel(&mut self) -> MessagePort {
        let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
        self.give(port2);
        port1
    }

    /// A new pair that keeps no buffers to use them again; the peer gets one end.
    pub(crate) fn forgetful_channel(&mut self) -> MessagePort {
        let (port1, port2) = forgetful_pair();
        self.give(port2);
        port1
    }

    /// Adds a port or buffer to what the peer has.
    pub(crate) fn give(&mut self, thing: impl Into<Transferable>) {
        self.give_all([thing.into()]);
    }

    pub(crate) fn give_all(&mut self, things: impl IntoIterator<Item = Transferable>) {
        self.order(things.into_iter().collect(), |_| {});
        self.finish();
    }

    /// Does `step` at the peer. Returns what it gives back.
    #[track_caller]
    pub(crate) fn run(&mut self, step: Step) -> Message {
        self.begin(step);
        self.finish()
    }

    /// The one port that `step` gives back.
    #[track_caller]
    pub(crate) fn run_for_port(&mut self, step: Step) -> MessagePort {
        self.run(step).ports.pop().expect("a port that is given back")
    }

    /// Starts `step` and does not wait for its end. On one thread it is over before the test goes on.
    #[track_caller]
    pub(crate) fn begin(&mut self, step: Step) {
        self.order(Vec::new(), step);
    }

    /// Waits for the end of what was begun.
    #[track_caller]
    pub(crate) fn finish(&mut self) -> Message {
        let mut returned = Message::new();
        let things = match &mut self.link {
            Link::Inline { answer, .. } => answer.take().expect("a step that was begun"),
            Link::Thread { answers, .. } => {
                answers.recv_timeout(2 * PATIENCE).expect("the peer's thread fails or hangs")
            }
            Link::Process { control, .. } => {
                return control.recv_timeout(2 * PATIENCE).expect("the peer's process fails or hangs");
            }
            Link::Ended => panic!("the peer has ended"),
        };
        for thing in things {
            match thing {
                Transferable::Port(port) => returned.ports.push(port),
                Transferable::Buffer(buffer) => returned.buffers.push(buffer),
                Transferable::Frozen(buffer) => returned.frozen.push(buffer),
                Transferable::Shared(buffer) => returned.shared.push(buffer),
                Transferable::Descriptor(descriptor) => returned.descriptors.push(descriptor),
                other => panic!("{other:?} has no place here"),
            }
        }
        returned
    }

    /// Ends the peer in the middle of all it has: a process by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.last(|there| there.die());
    }

    /// Does one last step, which [dies](There::die).
    #[track_caller]
    pub(crate) fn last(&mut self, step: Step) {
        self.begin(step);
        self.await_death();
    }

    /// Waits for the end of a peer that was told to die.
    #[track_caller]
    pub(crate) fn await_death(&mut self) {
        if let Some(status) = self.end() {
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "the peer's process: {status}");
        }
    }

    /// Ends the peer in peace. What it still has is dropped there.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        if let Some(status) = self.end() {
            assert!(status.success(), "the peer's process: {status}");
        }
    }

    #[track_caller]
    fn order(&mut self, things: Vec<Transferable>, step: Step) {
        match &mut self.link {
            Link::Inline { there, answer } => *answer = Some(there.obey(step, things)),
            Link::Thread { orders, .. } => orders.send((step, things)).expect("the peer's thread failed"),
            Link::Process { control, .. } => {
                control.post_message(&address(step).to_ne_bytes(), things).expect("the peer's process lives");
            }
            Link::Ended => panic!("the peer has ended"),
        }
    }

    #[track_caller]
    fn end(&mut self) -> Option<std::process::ExitStatus> {
        match std::mem::replace(&mut self.link, Link::Ended) {
            Link::Inline { there, .. } => drop(there),
            Link::Thread { orders, thread, .. } => {
                drop(orders);
                thread.join().expect("the peer's thread failed");
            }
            Link::Process { control, mut child } => {
                let _ = control.post_message(b"", []); // the order to stop, which a dead one does not need
                return Some(child.wait().expect("a child can be waited for"));
            }
            Link::Ended => {}
        }
        None
    }
}

fn peer_thread(orders: &Receiver<(Step, Vec<Transferable>)>, answers: &Sender<Vec<Transferable>>) {
    let mut there = There { is_concurrent: true, ..There::default() };
    while let Ok((step, things)) = orders.recv() {
        let answer = there.obey(step, things);
        // Nobody waits for the last answer of a peer that is told to die.
        let _ = answers.send(answer);
    }
}

/// Where the second process begins.
#[test]
#[ignore = "the second process of the other tests"]
fn peer_process() {
    let Ok(control) = parent_port() else { return };
    alarm::set(SECONDS);
    let before = Ledger::now();
    let mut there = There { is_process: true, is_concurrent: true, ..There::default() };
    loop {
        match control.recv() {
            Ok(order) if order.data.is_empty() => break,
            Ok(Message { data, ports, buffers, frozen, shared, descriptors, .. }) => {
                let step = step_at(usize::from_ne_bytes(data.try_into().expect("the address of a step")));
                let mut things: Vec<Transferable> = Vec::new();
                things.extend(ports.into_iter().map(Transferable::from));
                things.extend(buffers.into_iter().map(Transferable::from));
                things.extend(frozen.into_iter().map(Transferable::from));
                things.extend(shared.into_iter().map(Transferable::from));
                things.extend(descriptors.into_iter().map(Transferable::from));
                let answer = there.obey(step, things);
                control.post_message(b"", answer).expect("the test lives");
            }
            Err(RecvError::Ended(_)) => return, // the test has failed
            Err(error) => panic!("no more orders: {error}"),
        }
    }
    drop(there);
    before.assert_restored();
}

/// Where a step is, so that the second process finds it: relative to `step_at`, since the two run the same program
/// file, at different addresses.
fn address(step: Step) -> usize {
    (step as *const ()).addr().wrapping_sub((step_at as *const ()).addr())
}

#[allow(unsafe_code)]
fn step_at(address: usize) -> Step {
    let step = (step_at as *const ()).wrapping_byte_add(address);
    // SAFETY: the number comes from `address` in the process that started this one by /proc/self/exe, so this is
    // the same function of the same program file.
    unsafe { std::mem::transmute::<*const (), Step>(step) }
}
