//! The second process of a run: this executable, started again on the other CPU, and the orders that it obeys.

use std::os::fd::AsFd;
use std::process::{Child, Stdio};

use messageport::{MessageChannel, parent_port, spawn_with_port};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::time::TimeVal;

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::link::{Player, Side, Turn, histogram};
use crate::session::{Session, TURN};
use crate::system::{descriptors, machine, role};

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
        let mut command = role::command("second")?;
        command.args([number.to_string(), cpus[0].to_string(), cpus[1].to_string()]).stdin(Stdio::from(theirs));
        let child =
            spawn_with_port(&mut command, window.port2).map_err(Error::of("cannot start the second process"))?;
        drop(command); // and with it our copy of the other socket
        let session = Session::new(Side::First, cpus, window.port1, ours, number);
        let second = Self { session, child };
        machine::pin(cpus[0])?;
        Ok(second)
    }

    /// True if there is only one CPU for both.
    pub(crate) fn shares_cpu(&self) -> bool {
        self.session.cpus()[0] == self.session.cpus()[1]
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

/// The second process: does what it is told until the first is gone.
pub(crate) fn second(suite: &[Bench], arguments: &[u64; 3]) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).map_err(Error::of("cannot follow the first process"))?;
    let window = parent_port().map_err(Error::of("the second process has no parent"))?;
    let [number, first, cpu] = arguments.map(|argument| argument as usize);
    machine::raise_descriptor_limit()?;
    machine::pin(cpu)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(Error::of("cannot take the socket"))?;
    let session = Session::new(Side::Second, [first, cpu], window, socket, number as u32);
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
            let mut thrown_away = single.then(histogram);
            player.play(&turn, thrown_away.as_mut())?;
        }
        Order::Close => opened.clear(),
    }
    Ok(())
}
