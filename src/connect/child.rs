//! Starting a child process with an end of a pair.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command};

use super::greeting::{self, BadPacket};
use crate::error::{BadTransfer, PostErrorKind, Refusal, with_cause};
use crate::port::MessagePort;
use crate::port::baggage::Baggage;
use crate::sys::lane_socket::LaneSocket;
use crate::sys::process::{Inherited, NotInherited, spawn_inheriting, take_inherited};
use crate::sys::{io_error, socket};

/// The environment variable with the number of the descriptor that the child inherits.
const VARIABLE: &str = "MESSAGEPORT_PARENT";

/// Starts `command` as a child process and passes it `port`; the child calls [`parent_port`] to take it.
///
/// Keep the other end of the pair. Whenever and however the child ends, that end is informed: by `PeerDied`, or by
/// `Closed` if the child closed its port. No other child inherits a descriptor.
///
/// ```no_run
/// # use std::process::Command;
/// # use messageport::{MessageChannel, spawn_with_port};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = MessageChannel::new()?;
/// let mut child = spawn_with_port(Command::new("worker").arg("--fast"), port2)?;
/// port1.post_message(b"job 1", [])?;
/// println!("{:?}", port1.recv()?.data);
/// # child.wait()?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// The program could not be started, or the port cannot be transferred. The port is in the error.
pub fn spawn_with_port(command: &mut Command, port: MessagePort) -> Result<Child, SpawnError> {
    match spawn(command, &port) {
        Ok(child) => Ok(child),
        Err(kind) => Err(SpawnError::new(kind, port)),
    }
}

/// Queues the port in a socket pair, one socket of which the child inherits. The kernel keeps the port's descriptors
/// open until the child takes them, and closes them if it never does.
fn spawn(command: &mut Command, port: &MessagePort) -> Result<Child, SpawnErrorKind> {
    let (socket, baggage) = queue(port)?;
    let child = spawn_inheriting(command, VARIABLE, socket.as_fd()).map_err(SpawnErrorKind::Spawn)?;
    baggage.detach();
    Ok(child)
}

/// The socket for the child, in which the port waits.
fn queue(port: &MessagePort) -> Result<(OwnedFd, Baggage<'_>), SpawnErrorKind> {
    let (ours, theirs) = socket::pair().map_err(|errno| SpawnErrorKind::Spawn(io_error(errno)))?;
    let baggage = greeting::send_port(ours.as_fd(), port).map_err(SpawnErrorKind::Port)?;
    Ok((theirs, baggage))
}

/// A port on its way to a child process that something other than [`spawn_with_port`] starts.
///
/// The port waits in a descriptor, which the child inherits, and the child calls [`parent_port`] to take it. Drop the
/// `PreparedPort` when the child has been started. As long as it lives, the child's end of the pair has a holder, so
/// the death of a child that has not taken its port remains unnoticed.
///
/// [`prepare`](Self::prepare) passes the descriptor by a [`Command`], and by everything that is made of one:
/// ```no_run
/// # use std::process::Command;
/// # use messageport::{MessageChannel, PreparedPort};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = MessageChannel::new()?;
/// let mut command = Command::new("worker"); // for tokio: `command.as_std_mut()` of its `Command`
/// let mut prepared = PreparedPort::new(port2)?;
/// prepared.prepare(&mut command)?;
/// let mut child = command.spawn()?;
/// drop(prepared);
/// # child.wait()?;
/// # Ok(()) }
/// ```
/// Any other way to start a program: pass the descriptor ([`AsFd`]), which is close-on-exec in this process, to the
/// child under a number above 2, and set [`VARIABLE`](Self::VARIABLE) in the child's environment to that number.
pub struct PreparedPort {
    /// If nobody takes the port, closing the socket closes what waits in the port, too.
    socket: LaneSocket,
    inherited: Vec<Inherited>,
}

impl PreparedPort {
    /// The environment variable with the number of the child's descriptor: `MESSAGEPORT_PARENT`.
    pub const VARIABLE: &'static str = VARIABLE;

    /// Puts `port` into a descriptor for one child.
    ///
    /// # Errors
    /// The port cannot be transferred, or the system has no resources. The port is in the error.
    pub fn new(port: MessagePort) -> Result<Self, SpawnError> {
        match queue(&port).map(|(socket, baggage)| {
            baggage.detach();
            socket
        }) {
            Ok(socket) => Ok(Self { socket: LaneSocket::adopted(socket), inherited: Vec::new() }),
            Err(kind) => Err(Refusal::new(kind, port)),
        }
    }

    /// Makes the child that `command` starts inherit the descriptor, and all standard streams, also those that are
    /// close-on-exec in this process. In place of a stream that is closed here, the child and, until the `PreparedPort`
    /// is dropped, this process have `/dev/null`. Of several children the first one to call [`parent_port`] gets the
    /// port. A child that is started after this has been dropped inherits nothing.
    ///
    /// # Errors
    /// A system call failed. `command` is unchanged.
    pub fn prepare(&mut self, command: &mut Command) -> io::Result<()> {
        self.inherited.push(Inherited::by(command, VARIABLE, self.socket.as_fd())?);
        Ok(())
    }

    /// Takes the port back, for example when no child could be started.
    ///
    /// # Errors
    /// [`ParentPortError::Malformed`] if a child has taken the port; or a system call failed, which drops the port.
    pub fn into_port(self) -> Result<MessagePort, ParentPortError> {
        take_port(self.socket.as_fd())
    }
}

impl fmt::Debug for PreparedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PreparedPort").field(&self.socket.as_fd()).finish()
    }
}

impl AsFd for PreparedPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Takes the port that the parent process passed with [`spawn_with_port`] or a [`PreparedPort`].
///
/// The port can be taken once. Call this early in `main`: afterwards the processes that this one starts do not inherit
/// the descriptor. If this process still has only one thread, the environment variable is removed too; otherwise a
/// child may inherit the variable, and finds no port by it.
///
/// # A program in between
/// The port is inherited as an open descriptor, whose number the environment variable `MESSAGEPORT_PARENT` starts
/// with. A program that this process is started through, such as a script, must pass on both, under the same number:
///
/// | program | closes other descriptors | recipe |
/// |---|---|---|
/// | `sh`, `env`, `nice`, `timeout` | no | nothing to do, but `env -i` removes the variable |
/// | `subprocess` of Python | yes | `subprocess.run(args, pass_fds=[int(os.environ["MESSAGEPORT_PARENT"].split(":")[0])])` |
/// | `os/exec` of Go | yes | the file in `cmd.ExtraFiles`, whose first is 3, and `MESSAGEPORT_PARENT=3` in `cmd.Env` |
/// | `sudo` | yes, from 3 on | `sudo -C N --preserve-env=MESSAGEPORT_PARENT`, `N` above the number, if its policy allows |
///
/// # Errors
/// There is no port, or it was taken before ([`Missing`](ParentPortError::Missing)); a program in between has closed
/// the descriptor ([`Lost`](ParentPortError::Lost)); or what was inherited is not a port.
pub fn parent_port() -> Result<MessagePort, ParentPortError> {
    let socket = take_inherited(VARIABLE).map_err(|reason| match reason {
        NotInherited::Missing => ParentPortError::Missing,
        NotInherited::Lost(descriptor) => ParentPortError::Lost { descriptor },
    })?;
    take_port(socket.as_fd())
}

/// Takes the port that waits in a socket. The parent sends the port before it starts the child, so a port that is not
/// there at this point will not come.
fn take_port(socket: BorrowedFd<'_>) -> Result<MessagePort, ParentPortError> {
    greeting::receive_port(socket).map_err(|bad| match bad {
        BadPacket::NotYet | BadPacket::Silent | BadPacket::Malformed | BadPacket::Overloaded => {
            ParentPortError::Malformed
        }
        BadPacket::Version(version) => ParentPortError::Version(version),
        BadPacket::Contents(bad) => ParentPortError::Contents(bad),
        BadPacket::Exhausted(errno) => ParentPortError::System(io_error(errno)),
    })
}

/// Why a child process was not started.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnErrorKind {
    /// The program could not be started.
    Spawn(io::Error),
    /// The port cannot be transferred. No process was started.
    Port(PostErrorKind),
}

impl fmt::Display for SpawnErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(error) => with_cause(f, &"cannot start the child process", error),
            Self::Port(error) => with_cause(f, &"cannot pass the port to the child process", error),
        }
    }
}

impl std::error::Error for SpawnErrorKind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn(error) => Some(error),
            Self::Port(error) => Some(error),
        }
    }
}

impl From<SpawnErrorKind> for io::Error {
    fn from(error: SpawnErrorKind) -> Self {
        match error {
            SpawnErrorKind::Spawn(error) => error,
            SpawnErrorKind::Port(error) => error.into(),
        }
    }
}

/// [`spawn_with_port`] failed: it gives back the port, unchanged.
pub type SpawnError = Refusal<SpawnErrorKind, MessagePort>;

/// [`parent_port`] failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ParentPortError {
    /// The parent passed no port, or it was taken before.
    Missing,
    /// The parent passed the port, and the descriptor is not open here, or is something else: a program in between, or
    /// earlier code of this process, has closed it. See [`parent_port`] for what such a program must do.
    Lost {
        /// The number of the descriptor that `MESSAGEPORT_PARENT` names.
        descriptor: i32,
    },
    /// What was inherited is not a port.
    Malformed,
    /// The version of the format that the parent uses, which is not the version of this library.
    Version(u32),
    /// The port that was inherited failed the checks.
    Contents(BadTransfer),
    /// A system call failed, for want of memory or descriptors for example.
    System(io::Error),
}

impl fmt::Display for ParentPortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the parent process passed no port, or it was taken before"),
            Self::Lost { descriptor } => write!(
                f,
                "the parent process passed the port as descriptor {descriptor}, which is not a port here: a program in \
                 between has closed it, or has taken the port"
            ),
            Self::Malformed => f.write_str("what was inherited from the parent process is not a port"),
            Self::Version(version) => write!(f, "the parent process uses format version {version}"),
            Self::Contents(bad) => with_cause(f, &"the port from the parent process is unusable", bad),
            Self::System(error) => with_cause(f, &"cannot take over the port", error),
        }
    }
}

impl std::error::Error for ParentPortError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing | Self::Lost { .. } | Self::Malformed | Self::Version(_) => None,
            Self::Contents(bad) => Some(bad),
            Self::System(error) => Some(error),
        }
    }
}

impl From<ParentPortError> for io::Error {
    fn from(error: ParentPortError) -> Self {
        let kind = match error {
            ParentPortError::Missing | ParentPortError::Lost { .. } => io::ErrorKind::NotFound,
            ParentPortError::Malformed | ParentPortError::Contents(_) => io::ErrorKind::InvalidData,
            ParentPortError::Version(_) => io::ErrorKind::Unsupported,
            ParentPortError::System(error) => return error,
        };
        Self::new(kind, error)
    }
}
