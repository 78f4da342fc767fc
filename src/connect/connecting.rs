//! Meeting by name, the connecting side: sends a greeting to a listener, and receives an end of a pair in the answer.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;

use super::greeting::{self, BadPacket};
use super::names::{NameError, paths_to_connect};
use crate::error::{ChannelError, PostErrorKind, with_cause};
use crate::layout::Limits;
use crate::port::MessagePort;
use crate::port::channel::ChannelOptions;
use crate::sys::named_socket::{self, Connection};
use crate::sys::{Errno, io_error, socket};

/// Sends a greeting to the listener on `name`, which makes a pair, and returns one end of the pair.
///
/// The greeting is the standard's `otherWindow.postMessage("hello", "*", [channel.port2])`; the listener makes the
/// channel, so that a client never holds a descriptor of the listener's end.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let port = messageport::connect("my-service", b"hello")?;
/// println!("{:?}", port.recv()?.data);
/// # Ok(()) }
/// ```
///
/// # Errors
/// See [`ConnectError`]. The listener has 5 s to answer.
pub fn connect(name: &str, greeting: &[u8]) -> Result<MessagePort, ConnectError> {
    ConnectOptions::new().connect(name, greeting)
}

/// Options of [`connect`].
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    timeout: Duration,
    any_uid: bool,
    waits: bool,
    channel: ChannelOptions,
}

impl ConnectOptions {
    /// The default options.
    pub fn new() -> Self {
        Self { timeout: Duration::from_secs(5), any_uid: false, waits: false, channel: ChannelOptions::new() }
    }

    /// Sets how long the listener may take to answer, 5 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Waits for a listener if there is none yet, until the [timeout](Self::timeout) expires; by default the call then
    /// fails at once. The path is tried every 10 ms, since no event reports a listener.
    pub fn wait_for_listener(mut self, wait: bool) -> Self {
        self.waits = wait;
        self
    }

    /// Connects to a listener of any user; by default it must run as the user of this process.
    pub fn any_uid(mut self, any: bool) -> Self {
        self.any_uid = any;
        self
    }

    /// Sets the options of the new pair, which the listener makes.
    pub fn channel(mut self, options: ChannelOptions) -> Self {
        self.channel = options;
        self
    }

    /// Sends a greeting to the listener on `name`; see [`connect`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(&self, name: &str, greeting: &[u8]) -> Result<MessagePort, ConnectError> {
        let mut connecting = self.start(name, greeting)?;
        let backoff = Backoff::new();
        loop {
            if let Some(port) = connecting.step()? {
                return Ok(port);
            }
            if connecting.has_greeted() {
                socket::wait(connecting.as_fd(), false, connecting.left()).map_err(system)?;
            } else if backoff.is_completed() {
                std::thread::sleep(connecting.pause().min(connecting.left()));
            } else {
                backoff.snooze();
            }
        }
    }

    /// Prepares a connection without blocking; [`Connecting::step`] makes it.
    pub(crate) fn start(&self, name: &str, greeting: &[u8]) -> Result<Connecting, ConnectError> {
        let deadline = Instant::now().checked_add(self.timeout);
        let paths = paths_to_connect(name).map_err(ConnectError::Name)?;
        let limits = self.channel.checked().map_err(ConnectError::Channel)?;
        let connection = named_socket::new().and_then(Connection::new).map_err(system)?;
        let (any_uid, waits, greeting) = (self.any_uid, self.waits, greeting.to_vec());
        let (has_greeted, pause) = (false, QUEUE_RETRY);
        Ok(Connecting { any_uid, waits, limits, paths, connection, deadline, greeting, has_greeted, pause })
    }
}

/// Pause of 1 ms between two attempts to connect to a listener whose queue of connections is full; no event reports
/// when there is room again.
const QUEUE_RETRY: Duration = Duration::from_millis(1);
/// Pause of 10 ms between two attempts to connect while there is no listener.
const LISTENER_RETRY: Duration = Duration::from_millis(10);

/// A connection in progress.
pub(crate) struct Connecting {
    any_uid: bool,
    waits: bool,
    /// The limits of the pair that the listener makes.
    limits: Limits,
    /// Where the listener may be, at least one path.
    paths: Vec<PathBuf>,
    connection: Connection,
    /// `None`: a timeout that overflows `Instant`, so no deadline.
    deadline: Option<Instant>,
    greeting: Vec<u8>,
    /// The greeting has been sent.
    has_greeted: bool,
    /// Time until the next attempt to connect.
    pause: Duration,
}

impl Connecting {
    /// Advances as far as possible without blocking. `None`: there is a reason to connect again after a
    /// [pause](Self::pause), since the listener's queue of connections is full or there is no listener yet; or the
    /// greeting [has been sent](Self::has_greeted) and not been answered yet, and the answer makes the descriptor
    /// readable.
    pub(crate) fn step(&mut self) -> Result<Option<MessagePort>, ConnectError> {
        if !self.has_greeted {
            self.pause = match self.greet() {
                Ok(true) => Duration::ZERO,
                Ok(false) if self.left().is_zero() => return Err(ConnectError::TimedOut),
                Ok(false) => QUEUE_RETRY,
                Err(ConnectError::NoListener(_)) if self.waits && !self.left().is_zero() => LISTENER_RETRY,
                Err(error) => return Err(error),
            };
            if !self.has_greeted {
                return Ok(None);
            }
        }
        match greeting::receive_port(self.connection.as_fd()) {
            Ok(port) => Ok(Some(port)),
            Err(BadPacket::NotYet) if self.left().is_zero() => Err(ConnectError::TimedOut),
            Err(BadPacket::NotYet) => Ok(None),
            Err(BadPacket::Version(version)) => Err(ConnectError::Version(version)),
            Err(BadPacket::Overloaded) => Err(ConnectError::Overloaded),
            Err(BadPacket::Silent | BadPacket::Malformed | BadPacket::Contents(_)) => Err(ConnectError::Refused),
            Err(BadPacket::Exhausted(errno)) => Err(system(errno)),
        }
    }

    /// True once the greeting has been sent.
    pub(crate) fn has_greeted(&self) -> bool {
        self.has_greeted
    }

    /// Time to wait before the next [`step`](Self::step) while the greeting has not been sent.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// Connects to the first path that has a listener. False if the listener's queue of connections is full.
    fn find(&self) -> Result<bool, ConnectError> {
        for path in &self.paths {
            match named_socket::connect(self.connection.as_fd(), path) {
                Ok(()) => return Ok(true),
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::ENOENT | Errno::ECONNREFUSED) => named_socket::remove_left_behind(path),
                Err(Errno::EACCES) => {
                    let owner = named_socket::foreign_owner(path);
                    return Err(owner.map_or(system(Errno::EACCES), ConnectError::WrongUser));
                }
                Err(errno) => return Err(system(errno)),
            }
        }
        Err(ConnectError::NoListener(self.paths[0].clone()))
    }

    /// Connects and sends the greeting. False if the listener's queue of connections is full.
    fn greet(&mut self) -> Result<bool, ConnectError> {
        if !self.find()? {
            return Ok(false);
        }
        let uid = named_socket::credentials(self.connection.as_fd()).map_err(system)?.uid;
        if !self.any_uid && uid != named_socket::user() {
            return Err(ConnectError::WrongUser(uid));
        }
        match greeting::send(self.connection.as_fd(), &self.limits, &self.greeting) {
            Ok(()) => self.has_greeted = true,
            Err(PostErrorKind::PeerGone(_)) => return Err(ConnectError::Refused), // it hung up
            Err(error) => return Err(ConnectError::Greeting(error)),
        }
        Ok(true)
    }

    /// Time left until the deadline.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
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
    /// There is no socket with the name, or no listener on it.
    NoListener(PathBuf),
    /// The listener runs as another user, or the socket's path belongs to another user, who gives this one no access.
    WrongUser(u32),
    /// The listener turned this client away, or its answer was not a usable port.
    Refused,
    /// The listener has no memory or descriptors for this client. It may have some later: the call returns at once, and
    /// a program that wants to wait pauses and connects again.
    Overloaded,
    /// The version of the format that the listener uses, which is not the version of this library.
    Version(u32),
    /// The timeout expired before the listener answered.
    TimedOut,
    /// An option of the pair is out of range.
    Channel(ChannelError),
    /// The greeting could not be sent, for example because it is longer than 32 KiB.
    Greeting(PostErrorKind),
    /// A system call failed.
    System(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::NoListener(path) => write!(f, "{}: no listener on this name", path.display()),
            Self::WrongUser(uid) => write!(f, "the listener belongs to another user ({uid})"),
            Self::Refused => f.write_str("the listener refused the connection"),
            Self::Overloaded => f.write_str("the listener has no memory or descriptors left for the connection"),
            Self::Version(version) => write!(f, "the listener uses format version {version}"),
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
            Self::NoListener(_)
            | Self::WrongUser(_)
            | Self::Refused
            | Self::Overloaded
            | Self::Version(_)
            | Self::TimedOut => None,
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match error {
            ConnectError::Name(error) => return error.into(),
            ConnectError::NoListener(_) | ConnectError::Refused => io::ErrorKind::ConnectionRefused,
            ConnectError::Overloaded => io::ErrorKind::ResourceBusy,
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
