//! Meeting by name, the side that starts: makes a pair and brings one end of it, with a greeting, to a listener.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use nix::sys::socket::{AddressFamily, SockType, UnixAddr, connect as connect_socket, socket};
use nix::unistd::geteuid;

use super::greeting;
use super::listener::{credentials, flags};
use super::names::{NameError, path_of};
use crate::error::{ChannelError, PostErrorKind, with_cause};
use crate::layout::VERSION;
use crate::port::MessagePort;
use crate::port::channel::{ChannelOptions, MessageChannel};
use crate::port::transfer::TransferRef;
use crate::sys::process::io_error;
use crate::sys::{Errno, socket as lane_socket};

/// Sends one end of a new pair to the listener on `name`, with a greeting, and returns the other end.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let port = messageport::connect("my-service", b"hello")?;
/// println!("{:?}", port.recv()?.data);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Nobody listens on the name, the listener refuses, speaks another version or does not answer in time (5 s), or the
/// system has no resources.
pub fn connect(name: &str, greeting: &[u8]) -> Result<MessagePort, ConnectError> {
    ConnectOptions::new().connect(name, greeting)
}

/// How to [`connect`].
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    timeout: Duration,
    any_uid: bool,
    channel: ChannelOptions,
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { timeout: Duration::from_secs(5), any_uid: false, channel: ChannelOptions::new() }
    }

    /// How long the listener may take to accept: 5 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connect to a listener of any user; by default it must run as this one.
    pub fn any_uid(mut self, any: bool) -> Self {
        self.any_uid = any;
        self
    }

    /// Options of the pair that is made.
    pub fn channel(mut self, options: ChannelOptions) -> Self {
        self.channel = options;
        self
    }

    /// Sends one end of a new pair to the listener on `name`; see [`connect`].
    ///
    /// # Errors
    /// As for [`connect`].
    pub fn connect(&self, name: &str, greeting: &[u8]) -> Result<MessagePort, ConnectError> {
        let mut connecting = self.start(name, greeting)?;
        let backoff = Backoff::new();
        loop {
            if let Some(port) = connecting.step()? {
                return Ok(port);
            }
            if connecting.has_greeted() {
                lane_socket::wait(connecting.as_fd(), false, connecting.left()).map_err(system)?;
            } else if backoff.is_completed() {
                std::thread::sleep(QUEUE_RETRY);
            } else {
                backoff.snooze();
            }
        }
    }

    /// Nothing of this blocks: it goes on with [`Connecting::step`].
    pub(crate) fn start(&self, name: &str, greeting: &[u8]) -> Result<Connecting, ConnectError> {
        let deadline = Instant::now().checked_add(self.timeout);
        let path = path_of(name).map_err(ConnectError::Name)?;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags(), None).map_err(system)?;
        Ok(Connecting { options: self.clone(), path, socket, deadline, greeting: greeting.to_vec(), port: None })
    }
}

/// Between two attempts on a listener whose queue of connections is full; nothing tells when that changes.
pub(crate) const QUEUE_RETRY: Duration = Duration::from_millis(1);

/// A connection on its way.
pub(crate) struct Connecting {
    options: ConnectOptions,
    path: PathBuf,
    socket: OwnedFd,
    /// `None`: too far away to be told.
    deadline: Option<Instant>,
    greeting: Vec<u8>,
    /// Our end of the pair, once the other one has been sent.
    port: Option<MessagePort>,
}

impl Connecting {
    /// Goes on as far as it does not block. `None`: the listener's queue of connections is full or, once the greeting
    /// [has been sent](Self::has_greeted), there is no answer yet; the descriptor becomes readable with it.
    pub(crate) fn step(&mut self) -> Result<Option<MessagePort>, ConnectError> {
        if self.port.is_none() && !self.greet()? {
            return if self.left().is_zero() { Err(ConnectError::TimedOut) } else { Ok(None) };
        }
        match greeting::read_answer(self.socket.as_fd()) {
            Ok(Some((true, _))) => Ok(self.port.take()),
            Ok(Some((false, version))) if version != VERSION => Err(ConnectError::Version(version)),
            Ok(_) | Err(Errno::ECONNRESET | Errno::EPIPE) => Err(ConnectError::Refused),
            Err(Errno::EAGAIN) if self.left().is_zero() => Err(ConnectError::TimedOut),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(system(errno)),
        }
    }

    pub(crate) fn has_greeted(&self) -> bool {
        self.port.is_some()
    }

    /// Makes the pair and sends one end of it. False if the listener's queue is full.
    fn greet(&mut self) -> Result<bool, ConnectError> {
        let address = UnixAddr::new(&self.path).map_err(system)?;
        while let Err(errno) = connect_socket(self.socket.as_raw_fd(), &address) {
            match errno {
                Errno::EAGAIN => return Ok(false),
                Errno::EINTR => {}
                Errno::ENOENT | Errno::ECONNREFUSED => return Err(ConnectError::NobodyListens(self.path.clone())),
                errno => return Err(system(errno)),
            }
        }
        let (uid, _) = credentials(&self.socket).map_err(system)?;
        if !self.options.any_uid && uid != geteuid().as_raw() {
            return Err(ConnectError::WrongUser(uid));
        }
        let MessageChannel { port1, port2 } = self.options.channel.create().map_err(ConnectError::Channel)?;
        match greeting::send(self.socket.as_fd(), &self.greeting, &[TransferRef::Port(&port2)]) {
            Ok(baggage) => baggage.detach(),
            Err(PostErrorKind::PeerGone(_)) => return Err(ConnectError::Refused), // hung up before we said a word
            Err(error) => return Err(ConnectError::Greeting(error)),
        }
        self.port = Some(port1);
        Ok(true)
    }

    /// Time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn system(errno: Errno) -> ConnectError {
    ConnectError::System(io_error(errno))
}

/// [`connect`] failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name cannot be used.
    Name(NameError),
    /// There is no socket of that name, or its listener is gone.
    NobodyListens(PathBuf),
    /// The listener runs as another user.
    WrongUser(u32),
    /// The listener turned us away.
    Refused,
    /// The listener speaks another version of the format.
    Version(u32),
    /// The listener did not answer in time.
    TimedOut,
    /// The pair could not be made.
    Channel(ChannelError),
    /// The greeting could not be sent; longer than 32 KiB for example.
    Greeting(PostErrorKind),
    /// The system refuses.
    System(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::NobodyListens(path) => write!(f, "{}: nobody listens there", path.display()),
            Self::WrongUser(uid) => write!(f, "the listener runs as another user ({uid})"),
            Self::Refused => f.write_str("the listener refused the connection"),
            Self::Version(version) => write!(f, "the listener speaks format version {version}"),
            Self::TimedOut => f.write_str("the listener did not answer in time"),
            Self::Channel(error) => error.fmt(f),
            Self::Greeting(error) => with_cause(f, &"cannot send the greeting", error),
            Self::System(error) => with_cause(f, &"cannot connect", error),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(error) => error.source(),
            Self::Channel(error) => error.source(),
            Self::Greeting(error) => Some(error),
            Self::System(error) => Some(error),
            Self::NobodyListens(_) | Self::WrongUser(_) | Self::Refused | Self::Version(_) | Self::TimedOut => None,
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match error {
            ConnectError::Name(error) => return error.into(),
            ConnectError::NobodyListens(_) | ConnectError::Refused => io::ErrorKind::ConnectionRefused,
            ConnectError::WrongUser(_) => io::ErrorKind::PermissionDenied,
            ConnectError::Version(_) => io::ErrorKind::Unsupported,
            ConnectError::TimedOut => io::ErrorKind::TimedOut,
            ConnectError::Channel(error) => return error.into(),
            ConnectError::Greeting(error) => return error.into(),
            ConnectError::System(error) => return error,
        };
        Self::new(kind, error)
    }
}
