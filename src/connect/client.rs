//! Meeting by name, the side that starts: makes a pair and brings one end of it, with a greeting, to a listener.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use nix::sys::socket::{AddressFamily, SockType, UnixAddr, connect as connect_socket, socket};
use nix::unistd::geteuid;

use super::greeting;
use super::listener::{credentials, flags};
use super::names::{NameError, path_of};
use crate::channel::{ChannelOptions, MessageChannel};
use crate::error::{ChannelError, PostErrorKind};
use crate::layout::VERSION;
use crate::port::MessagePort;
use crate::sys::Errno;
use crate::sys::process::io_error;
use crate::sys::socket as lane_socket;
use crate::transfer::TransferRef;

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
        let deadline = Instant::now().checked_add(self.timeout);
        let path = path_of(name).map_err(ConnectError::Name)?;
        let system = |errno| ConnectError::System(io_error(errno));
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags(), None).map_err(system)?;
        let address = UnixAddr::new(&path).map_err(system)?;
        // EAGAIN: the listener's queue of connections is full; nothing tells when that changes.
        let backoff = Backoff::new();
        while let Err(errno) = connect_socket(socket.as_raw_fd(), &address) {
            match errno {
                Errno::EAGAIN if is_over(deadline) => return Err(ConnectError::TimedOut),
                Errno::EAGAIN if backoff.is_completed() => std::thread::sleep(Duration::from_millis(1)),
                Errno::EAGAIN => backoff.snooze(),
                Errno::EINTR => {}
                Errno::ENOENT | Errno::ECONNREFUSED => return Err(ConnectError::NobodyListens(path)),
                errno => return Err(system(errno)),
            }
        }
        let (uid, _) = credentials(&socket).map_err(system)?;
        if !self.any_uid && uid != geteuid().as_raw() {
            return Err(ConnectError::WrongUser(uid));
        }
        let MessageChannel { port1, port2 } =
            MessageChannel::with_options(&self.channel).map_err(ConnectError::Channel)?;
        match greeting::send(socket.as_fd(), greeting, &[TransferRef::Port(&port2)]) {
            Ok(baggage) => baggage.detach(),
            Err(PostErrorKind::PeerGone(_)) => return Err(ConnectError::Refused), // hung up before we said a word
            Err(error) => return Err(ConnectError::Greeting(error)),
        }
        loop {
            match greeting::read_answer(socket.as_fd()) {
                Ok(Some((true, _))) => return Ok(port1),
                Ok(Some((false, version))) if version != VERSION => {
                    return Err(ConnectError::Version(version));
                }
                Ok(_) | Err(Errno::ECONNRESET | Errno::EPIPE) => return Err(ConnectError::Refused),
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(system(errno)),
            }
            if is_over(deadline) {
                return Err(ConnectError::TimedOut);
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            lane_socket::wait(socket.as_fd(), false, left).map_err(system)?;
        }
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// `None` is a time too far away to be told.
fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
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
            Self::Greeting(error) => write!(f, "cannot send the greeting: {error}"),
            Self::System(error) => write!(f, "cannot connect: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {}
