//! The second process of a run: this executable, started again on the other CPU, and the requests that it serves.

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
use crate::session::{Session, TURN_TIMEOUT};
use crate::system::{descriptors, machine, role};

/// Size of an encoded request in bytes.
const REQUEST_SIZE: usize = 48;

/// Longest reply in bytes: a zero byte for success, or the text of an error.
const MAX_REPLY: usize = 512;

/// A request of the first process to the second.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Open a subject, given by its index in a bench and the index of the bench, for messages of `size` bytes.
    Open { bench: usize, subject: usize, size: usize },
    /// Play a turn of the subject that was opened as number `opened`; time its operations `individually` or not.
    Play { opened: usize, turn: Turn, individually: bool },
    /// Drop all open subjects.
    Close,
}

impl Request {
    fn encode(self) -> [u8; REQUEST_SIZE] {
        let words = match self {
            Self::Open { bench, subject, size } => [0, bench as u64, subject as u64, size as u64, 0, 0],
            Self::Play { opened, turn, individually } => {
                [1, opened as u64, turn.warm_up, turn.count, turn.stamp, u64::from(individually)]
            }
            Self::Close => [2, 0, 0, 0, 0, 0],
        };
        let mut bytes = [0; REQUEST_SIZE];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_ne_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8; REQUEST_SIZE]) -> Option<Self> {
        let word = |index: usize| Some(u64::from_ne_bytes(*bytes.as_chunks().0.get(index)?));
        let number = |index: usize| usize::try_from(word(index)?).ok();
        Some(match word(0)? {
            0 => Self::Open { bench: number(1)?, subject: number(2)?, size: number(3)? },
            1 => {
                let turn = Turn { side: Side::Second, warm_up: word(2)?, count: word(3)?, stamp: word(4)? };
                Self::Play { opened: number(1)?, turn, individually: word(5)? != 0 }
            }
            2 => Self::Close,
            _ => return None,
        })
    }
}

/// The first process's handle to the second.
pub(crate) struct SecondProcess {
    pub(crate) session: Session,
    child: Child,
}

impl SecondProcess {
    /// Starts this executable again and pins both processes to their CPUs.
    pub(crate) fn start() -> Result<Self> {
        let cpus = machine::allowed_cpus()?;
        machine::raise_descriptor_limit()?;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(Error::of("cannot create a socket pair"))?;
        let timeout = TimeVal::new(TURN_TIMEOUT.as_secs() as i64, 0);
        setsockopt(&ours, sockopt::ReceiveTimeout, &timeout).map_err(Error::of("cannot set a timeout"))?;
        let window = MessageChannel::new().map_err(Error::of("cannot create a channel"))?;
        let number = std::process::id();
        let mut command = role::command("second")?;
        command.args([number.to_string(), cpus[0].to_string(), cpus[1].to_string()]).stdin(Stdio::from(theirs));
        let child =
            spawn_with_port(&mut command, window.port2).map_err(Error::of("cannot start the second process"))?;
        drop(command); // closes this process's copy of the other socket
        let session = Session::new(Side::First, cpus, window.port1, ours, number);
        let second = Self { session, child };
        machine::pin(cpus[0])?;
        Ok(second)
    }

    /// Returns true if both processes share one CPU because only one is allowed.
    pub(crate) fn shares_cpu(&self) -> bool {
        self.session.cpus()[0] == self.session.cpus()[1]
    }

    /// Sends a request; [`wait_for_reply`](Self::wait_for_reply) must follow when this side has finished its part.
    fn send(&self, request: Request) -> Result<()> {
        descriptors::send(self.session.socket(), &request.encode(), &[])
            .map_err(Error::of("the second process has gone"))
    }

    /// Waits until the second process has finished its part.
    fn wait_for_reply(&self) -> Result<()> {
        let mut reply = [0; MAX_REPLY];
        let (len, _) = descriptors::receive(self.session.socket(), &mut reply, 0, true)
            .map_err(Error::of("the second process does not reply"))?;
        match &reply[..len] {
            [0] => Ok(()),
            [] => Err(Error::failed("the second process has gone")),
            text => Err(Error::failed(String::from_utf8_lossy(text))),
        }
    }

    /// Sends a request, calls `ours` for the part of this side, and waits for the reply.
    pub(crate) fn together<T>(&self, request: Request, ours: impl FnOnce() -> Result<T>) -> Result<T> {
        self.send(request)?;
        let result = ours()?;
        self.wait_for_reply()?;
        Ok(result)
    }
}

impl Drop for SecondProcess {
    fn drop(&mut self) {
        // The second process holds no state worth saving, and the kernel closes its descriptors.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the second process: serves requests until the first process has gone.
pub(crate) fn serve(suite: &[Bench], arguments: &[u64; 3]) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).map_err(Error::of("cannot tie this process to the first one"))?;
    let window = parent_port().map_err(Error::of("the second process has no parent"))?;
    let [number, first, cpu] = arguments.map(|argument| argument as usize);
    machine::raise_descriptor_limit()?;
    machine::pin(cpu)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(Error::of("cannot take the socket"))?;
    let session = Session::new(Side::Second, [first, cpu], window, socket, number as u32);
    let mut opened = Vec::new();
    loop {
        let mut bytes = [0; REQUEST_SIZE];
        let (len, _) = descriptors::receive(session.socket(), &mut bytes, 0, true)
            .map_err(Error::of("the first process has gone"))?;
        if len == 0 {
            return Ok(());
        }
        let malformed = || Error::failed("the first process sent a malformed request");
        let request = Request::decode(&bytes).filter(|_| len == bytes.len()).ok_or_else(malformed)?;
        let done = handle(&session, suite, &mut opened, request);
        let reply = match &done {
            Ok(()) => vec![0],
            Err(error) => format!("the second process: {error}").into_bytes(),
        };
        descriptors::send(session.socket(), &reply[..reply.len().min(MAX_REPLY)], &[])
            .map_err(Error::of("the first process has gone"))?;
        done?;
    }
}

fn handle(session: &Session, suite: &[Bench], opened: &mut Vec<Box<dyn Player>>, request: Request) -> Result<()> {
    let unknown = || Error::failed("the first process named an unknown subject");
    match request {
        Request::Open { bench, subject, size } => {
            let subject = suite.get(bench).and_then(|bench| bench.subjects.get(subject)).ok_or_else(unknown)?;
            opened.push(subject.open(session, size)?);
        }
        Request::Play { opened: index, turn, individually } => {
            let player = opened.get_mut(index).ok_or_else(unknown)?;
            let mut discarded = individually.then(histogram);
            player.play(&turn, discarded.as_mut())?;
        }
        Request::Close => opened.clear(),
    }
    Ok(())
}
