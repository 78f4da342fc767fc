//! The two processes of a run: this one, and itself started again on the other CPU.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use messageport::{ChannelOptions, MessageChannel, MessagePort, parent_port, spawn_with_port};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::time::TimeVal;

use crate::descriptors;
use crate::error::{Error, Result};
use crate::link::{Player, Side, Turn};
use crate::machine;
use crate::suite::Bench;

/// The first argument of a process that is not the user's.
pub(crate) const ROLE: &str = "bench-role";

/// Longest wait for the end of a turn.
const TURN: Duration = Duration::from_secs(120);

/// What both processes share while the run lasts. Calls that give both sides something must be made by both, in the
/// same order.
pub struct Session {
    side: Side,
    cpus: [usize; 2],
    /// Carries the ports.
    window: MessagePort,
    /// Carries orders, answers and descriptors.
    socket: OwnedFd,
    /// The first process's number, the same on both sides.
    number: u32,
    names: Cell<u32>,
}

impl Session {
    /// Which side this process is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The CPU of this side and that of the other one.
    pub fn cpus(&self) -> [usize; 2] {
        match self.side {
            Side::First => self.cpus,
            Side::Second => [self.cpus[1], self.cpus[0]],
        }
    }

    /// A name that nobody else uses, the same on both sides.
    pub fn name(&self) -> String {
        let count = self.names.get();
        self.names.set(count + 1);
        format!("messageport-bench-{}-{count}", self.number)
    }

    /// A text that the first side makes, for both.
    pub fn text(&self, make: impl FnOnce() -> Result<String>) -> Result<String> {
        match self.side {
            Side::First => {
                let text = make()?;
                let posted = self.window.post_message(text.as_bytes(), []);
                posted.map_err(Error::of("cannot tell the second process a name"))?;
                Ok(text)
            }
            Side::Second => {
                let message = self.window.recv().map_err(Error::of("the second process was told no name"))?;
                String::from_utf8(message.data).map_err(Error::of("a name is not text"))
            }
        }
    }

    /// Does something while this thread may run on both CPUs, which the threads and processes inherit that it starts.
    pub fn on_both_cpus<T>(&self, doing: impl FnOnce() -> Result<T>) -> Result<T> {
        let [ours, _] = self.cpus();
        machine::allow(&self.cpus)?;
        let done = doing();
        machine::pin(ours)?;
        done
    }

    /// Both ends of a new channel, one for each side.
    pub fn channel(&self, options: &ChannelOptions) -> Result<MessagePort> {
        match self.side {
            Side::First => {
                let channel = options.create().map_err(Error::of("cannot make a channel"))?;
                let posted = self.window.post_message_wait(&[], [channel.port2.into()], Some(TURN));
                posted.map_err(Error::of("cannot give a port to the second process"))?;
                Ok(channel.port1)
            }
            Side::Second => {
                let message = self.window.recv().map_err(Error::of("the second process got no port"))?;
                message.ports.into_iter().next().ok_or_else(|| Error::failed("the second process got no port"))
            }
        }
    }

    /// What `make` makes for the first and for the second side, one or two descriptors each.
    pub fn descriptors<const N: usize>(
        &self,
        make: impl FnOnce() -> nix::Result<([OwnedFd; N], [OwnedFd; N])>,
    ) -> Result<[OwnedFd; N]> {
        match self.side {
            Side::First => {
                let (ours, theirs) = make().map_err(Error::of("cannot make what the processes share"))?;
                descriptors::send(self.socket.as_fd(), &[0], &theirs.each_ref().map(AsFd::as_fd))
                    .map_err(Error::of("cannot give a descriptor to the second process"))?;
                Ok(ours)
            }
            Side::Second => {
                let missing = "the second process got no descriptor";
                let (_, found) =
                    descriptors::receive(self.socket.as_fd(), &mut [0], N, true).map_err(Error::of(missing))?;
                let found: Vec<OwnedFd> = found.into_iter().flatten().collect();
                found.try_into().map_err(|_| Error::failed(missing))
            }
        }
    }

    /// Both ends of a Unix socket pair.
    pub fn sockets(&self, kind: SockType) -> Result<OwnedFd> {
        let [socket] = self.descriptors(|| {
            let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
            Ok(([ours], [theirs]))
        })?;
        Ok(socket)
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What is the same for all benchmarks of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The CPUs of the two processes.
    pub(crate) cpus: [usize; 2],
    /// A look is enough.
    pub(crate) quick: bool,
}

/// What the first process tells the second.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Open the subject with this number, of the bench with this number, for messages of this size.
    Open { bench: usize, subject: usize, size: usize },
    /// Play a turn of what was opened.
    Play { opened: usize, turn: Turn, single: bool },
    /// Drop all that was opened.
    Close,
}

impl Order {
    fn encode(self) -> [u8; 48] {
        let words = match self {
            Self::Open { bench, subject, size } => [0, bench as u64, subject as u64, size as u64, 0, 0],
            Self::Play { opened, turn, single } => {
                [1, opened as u64, turn.warm_up, turn.count, turn.stamp, u64::from(single)]
            }
            Self::Close => [2, 0, 0, 0, 0, 0],
        };
        let mut bytes = [0; 48];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_ne_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8; 48]) -> Option<Self> {
        let word = |index: usize| Some(u64::from_ne_bytes(*bytes.as_chunks().0.get(index)?));
        let number = |index: usize| usize::try_from(word(index)?).ok();
        Some(match word(0)? {
            0 => Self::Open { bench: number(1)?, subject: number(2)?, size: number(3)? },
            1 => {
                let turn = Turn { side: Side::Second, warm_up: word(2)?, count: word(3)?, stamp: word(4)? };
                Self::Play { opened: number(1)?, turn, single: word(5)? != 0 }
            }
            2 => Self::Close,
            _ => return None,
        })
    }
}

/// The second process, seen from the first.
pub(crate) struct Second {
    pub(crate) session: Session,
    child: Child,
}

impl Second {
    /// Starts this executable again and pins both processes.
    pub(crate) fn start() -> Result<Self> {
        let cpus = machine::allowed_cpus()?;
        machine::raise_descriptor_limit()?;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(Error::of("cannot make a socket pair"))?;
        let patience = TimeVal::new(TURN.as_secs() as i64, 0);
        setsockopt(&ours, sockopt::ReceiveTimeout, &patience).map_err(Error::of("cannot set a timeout"))?;
        let window = MessageChannel::new().map_err(Error::of("cannot make a channel"))?;
        let number = std::process::id();
        let mut command = role("second")?;
        command.args([number.to_string(), cpus[0].to_string(), cpus[1].to_string()]).stdin(Stdio::from(theirs));
        let child =
            spawn_with_port(&mut command, window.port2).map_err(Error::of("cannot start the second process"))?;
        drop(command); // and with it our copy of the other socket
        let session =
            Session { side: Side::First, cpus, window: window.port1, socket: ours, number, names: Cell::new(0) };
        let second = Self { session, child };
        machine::pin(cpus[0])?;
        Ok(second)
    }

    /// True if there is only one CPU for both.
    pub(crate) fn shares_cpu(&self) -> bool {
        self.session.cpus[0] == self.session.cpus[1]
    }

    /// Gives an order; [`done`](Self::done) is to be called when this side has done its part.
    pub(crate) fn order(&self, order: Order) -> Result<()> {
        descriptors::send(self.session.socket(), &order.encode(), &[]).map_err(Error::of("the second process is gone"))
    }

    /// Waits until the second process has done its part too.
    pub(crate) fn done(&self) -> Result<()> {
        let mut answer = [0; 512];
        let (len, _) = descriptors::receive(self.session.socket(), &mut answer, 0, true)
            .map_err(Error::of("the second process does not answer"))?;
        match &answer[..len] {
            [0] => Ok(()),
            [] => Err(Error::failed("the second process is gone")),
            text => Err(Error::failed(String::from_utf8_lossy(text))),
        }
    }

    /// Does this side's part of an order.
    pub(crate) fn together<T>(&self, order: Order, ours: impl FnOnce() -> Result<T>) -> Result<T> {
        self.order(order)?;
        let result = ours()?;
        self.done()?;
        Ok(result)
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // It has nothing to lose; what it had open is the kernel's to close.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process of this executable that plays a part; its arguments follow.
pub(crate) fn role(name: &str) -> Result<Command> {
    let this = std::env::current_exe().map_err(Error::of("cannot find this executable"))?;
    let mut command = Command::new(this);
    command.args([ROLE, name]);
    Ok(command)
}

/// The second process: does what it is told until the first is gone.
pub(crate) fn second(suite: &[Bench], arguments: &[u64; 3]) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).map_err(Error::of("cannot follow the first process"))?;
    let window = parent_port().map_err(Error::of("the second process has no parent"))?;
    let [number, first, cpu] = arguments.map(|argument| argument as usize);
    machine::raise_descriptor_limit()?;
    machine::pin(cpu)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(Error::of("cannot take the socket"))?;
    let session =
        Session { side: Side::Second, cpus: [first, cpu], window, socket, number: number as u32, names: Cell::new(0) };
    let mut opened = Vec::new();
    loop {
        let mut bytes = [0; 48];
        let (len, _) = descriptors::receive(session.socket(), &mut bytes, 0, true)
            .map_err(Error::of("the first process is gone"))?;
        if len == 0 {
            return Ok(());
        }
        let malformed = || Error::failed("the first process sent a malformed order");
        let order = Order::decode(&bytes).filter(|_| len == bytes.len()).ok_or_else(malformed)?;
        let done = obey(&session, suite, &mut opened, order);
        let answer = match &done {
            Ok(()) => vec![0],
            Err(error) => format!("the second process: {error}").into_bytes(),
        };
        descriptors::send(session.socket(), &answer[..answer.len().min(512)], &[])
            .map_err(Error::of("the first process is gone"))?;
        done?;
    }
}

fn obey(session: &Session, suite: &[Bench], opened: &mut Vec<Box<dyn Player>>, order: Order) -> Result<()> {
    let unknown = || Error::failed("the first process named something unknown");
    match order {
        Order::Open { bench, subject, size } => {
            let subject = suite.get(bench).and_then(|bench| bench.subjects.get(subject)).ok_or_else(unknown)?;
            opened.push(subject.open(session, size)?);
        }
        Order::Play { opened: index, turn, single } => {
            let player = opened.get_mut(index).ok_or_else(unknown)?;
            let mut thrown_away = single.then(crate::rounds::histogram);
            player.play(&turn, thrown_away.as_mut())?;
        }
        Order::Close => opened.clear(),
    }
    Ok(())
}
