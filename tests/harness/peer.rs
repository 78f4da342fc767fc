//! The peer: the holder of the other ends, which runs the steps of a test on one thread, on a second thread or in a
//! second process.

use std::ops::{Deref, DerefMut};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use messageport::{
    CloseReason, Message, MessageChannel, MessagePort, RecvError, Transferable, parent_port, spawn_with_port,
};
use nix::sys::signal::{Signal, raise};
use nix::unistd::alarm;

use super::ports::{PATIENCE, forgetful_pair};
use super::{Holdings, SECONDS, Setting, this_program};

/// A step of the peer. It captures nothing: [`Peer::give`] passes what it needs.
pub(crate) type Step = fn(&mut There);

/// The state of the peer: the things that it holds, as the lists of a message.
#[derive(Default)]
pub(crate) struct There {
    things: Message,
    /// Numbers posted in earlier steps.
    pub(crate) sent: u32,
    /// Numbers received in earlier steps.
    pub(crate) seen: u32,
    /// An amount to compare in a later step.
    pub(crate) kept: u64,
    given_back: Vec<Transferable>,
    is_process: bool,
    is_concurrent: bool,
}

/// The things that were given to the peer, or kept by an earlier step.
impl Deref for There {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.things
    }
}

impl DerefMut for There {
    fn deref_mut(&mut self) -> &mut Message {
        &mut self.things
    }
}

impl There {
    /// The first port that was given to the peer.
    pub(crate) fn port(&self) -> &MessagePort {
        &self.ports[0]
    }

    /// Returns `thing` to the test, at the end of the step.
    pub(crate) fn give_back(&mut self, thing: impl Into<Transferable>) {
        self.given_back.push(thing.into());
    }

    /// As [`Peer::is_concurrent`].
    pub(crate) fn is_concurrent(&self) -> bool {
        self.is_concurrent
    }

    /// Ends the peer's process by SIGKILL. A peer without a process of its own drops all that it holds after the step.
    pub(crate) fn die(&self) {
        if self.is_process {
            raise(Signal::SIGKILL).expect("a process can kill itself");
        }
    }

    fn obey(&mut self, step: Step, things: Vec<Transferable>) -> Vec<Transferable> {
        self.things.extend(things);
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

    /// Another peer, in the same setting.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.setting)
    }

    /// True if a step runs at the same time as the test.
    pub(crate) fn is_concurrent(&self) -> bool {
        self.setting != Setting::OneThread
    }

    /// The end that a port reports after its holder was [killed](Self::kill). A peer within this process cannot end
    /// without dropping its ports.
    pub(crate) fn death(&self) -> CloseReason {
        if self.setting == Setting::TwoProcesses { CloseReason::PeerDied } else { CloseReason::Closed }
    }

    /// A new pair, one end of which is given to the peer.
    pub(crate) fn channel(&mut self) -> MessagePort {
        let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
        self.give(port2);
        port1
    }

    /// A new pair that recycles no buffers, one end of which is given to the peer.
    pub(crate) fn forgetful_channel(&mut self) -> MessagePort {
        let (port1, port2) = forgetful_pair();
        self.give(port2);
        port1
    }

    /// Adds `thing` to what the peer holds.
    pub(crate) fn give(&mut self, thing: impl Into<Transferable>) {
        self.give_all([thing.into()]);
    }

    pub(crate) fn give_all(&mut self, things: impl IntoIterator<Item = Transferable>) {
        self.order(things.into_iter().collect(), |_| {});
        self.finish();
    }

    /// Runs `step` at the peer. Returns what the step gives back.
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

    /// Starts `step` and does not wait for its end. On one thread the step has ended when this returns.
    #[track_caller]
    pub(crate) fn begin(&mut self, step: Step) {
        self.order(Vec::new(), step);
    }

    /// Waits for the end of the step that was begun. Returns what the step gives back.
    #[track_caller]
    pub(crate) fn finish(&mut self) -> Message {
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
        let mut returned = Message::new();
        returned.extend(things);
        returned
    }

    /// Ends the peer, which closes nothing before: a process by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.last(|there| there.die());
    }

    /// Runs a last step, which [dies](There::die).
    #[track_caller]
    pub(crate) fn last(&mut self, step: Step) {
        self.begin(step);
        self.await_death();
    }

    /// Waits for the end of a peer whose step dies.
    #[track_caller]
    pub(crate) fn await_death(&mut self) {
        if let Some(status) = self.end() {
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "the peer's process: {status}");
        }
    }

    /// Ends the peer, which drops what it still holds.
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
                let _ = control.post_message(b"", []); // the order to stop; a killed peer needs none
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
        // The test does not wait for the answer of a step that dies.
        let _ = answers.send(answer);
    }
}

/// The second process: runs steps until it is told to stop.
#[test]
#[ignore = "the second process of the other tests"]
fn peer_process() {
    let Ok(control) = parent_port() else { return };
    alarm::set(SECONDS);
    let before = Holdings::now();
    let mut there = There { is_process: true, is_concurrent: true, ..There::default() };
    loop {
        match control.recv() {
            Ok(order) if order.data.is_empty() => break,
            Ok(mut order) => {
                let things = order.take_transfer_list();
                let step = step_at(usize::from_ne_bytes(order.data.try_into().expect("the address of a step")));
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

/// The address of a step relative to `step_at`: both processes run the same program file, at different addresses.
fn address(step: Step) -> usize {
    (step as *const ()).addr().wrapping_sub((step_at as *const ()).addr())
}

#[allow(unsafe_code)]
fn step_at(address: usize) -> Step {
    let step = (step_at as *const ()).wrapping_byte_add(address);
    // SAFETY: `address` made the number in the process that started this one from /proc/self/exe, so it leads to the
    // same function of the same program file.
    unsafe { std::mem::transmute::<*const (), Step>(step) }
}
