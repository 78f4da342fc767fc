//! Meeting by name, the side that waits: a listener on a Unix socket, to which clients bring an end of a pair.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::iter::FusedIterator;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, bind, connect as connect_socket, getsockopt,
    listen, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

use super::greeting::{self, BadGreeting};
use super::names::{NameError, path_of};
use crate::error::with_cause;
use crate::port::MessagePort;
use crate::port::message::Message;
use crate::sys::process::io_error;
use crate::sys::{Errno, socket as lane_socket};

/// Clients that have connected and said nothing yet; with more, the one that waits longest is dropped.
const MAX_SILENT: usize = 64;
/// The listening socket's key in the epoll set; clients have their descriptor numbers.
const LISTENING: u64 = u64::MAX;

/// Accepts ports from processes that [`connect`](crate::connect()) to a name.
///
/// A name without a slash is a socket in `$XDG_RUNTIME_DIR/messageport`, or where that is not set in a directory for
/// this user alone under the directory for temporary files; with a slash it is the path of the socket. The socket is
/// open to this user only. A lock file beside it tells whether a listener lives: a socket left behind by one that was
/// killed is replaced. Dropping the listener removes both.
///
/// ```no_run
/// # use messageport::Listener;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = Listener::bind("my-service")?;
/// loop {
///     let client = listener.accept()?;
///     std::thread::spawn(move || {
///         client.port.post_message(&client.greeting.data, [])
///     });
/// }
/// # }
/// ```
///
/// A child that is forked without `exec` and lives on keeps the name in use, even when the parent is gone.
///
/// It can be waited on with `poll` by its descriptor: readable means that [`try_accept`](Self::try_accept) has
/// something to do.
pub struct Listener {
    socket: OwnedFd,
    events: Epoll,
    silent: RefCell<Vec<Silent>>,
    refused: Cell<u64>,
    path: PathBuf,
    options: ListenOptions,
    lock: Lock,
}

/// A client that has not sent its greeting yet.
struct Silent {
    socket: OwnedFd,
    uid: u32,
    pid: i32,
    /// `None`: too far away to be told.
    deadline: Option<Instant>,
}

/// What [`Listener::accept`] returns: a client's port.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The end of a pair that the client sent us.
    pub port: MessagePort,
    /// What came with it: data, and any further ports and buffers.
    pub greeting: Message,
    /// The user that the client's process ran as when it connected.
    pub uid: u32,
    /// The process that connected. It may have ended, and the number may be used again.
    pub pid: i32,
}

/// How to make a [`Listener`].
#[derive(Clone, Debug)]
pub struct ListenOptions {
    greeting_timeout: Duration,
    any_uid: bool,
}

impl ListenOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { greeting_timeout: Duration::from_secs(2), any_uid: false }
    }

    /// How long a client may take to send its greeting: 2 s by default. It holds nobody up.
    pub fn greeting_timeout(mut self, timeout: Duration) -> Self {
        self.greeting_timeout = timeout;
        self
    }

    /// Accept clients of every user; by default they must run as this one. The socket must then be somewhere that they
    /// can reach, with rights that you set.
    pub fn any_uid(mut self, any: bool) -> Self {
        self.any_uid = any;
        self
    }

    /// Starts listening on `name`.
    ///
    /// # Errors
    /// The name cannot be used or is in use, or the system refuses.
    pub fn bind(&self, name: &str) -> Result<Listener, ListenError> {
        let path = path_of(name).map_err(ListenError::Name)?;
        let lock = Lock::take(&path)?;
        let system = |errno| ListenError::System(path.clone(), io_error(errno));
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags(), None).map_err(system)?;
        remove_stale(&path)?;
        // The rights of the socket file are those of the socket when it is bound.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(system)?;
        let address = UnixAddr::new(&path).map_err(system)?;
        bind(socket.as_raw_fd(), &address).map_err(system)?;
        listen(&socket, Backlog::MAXCONN).map_err(system)?;
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system)?;
        events.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, LISTENING)).map_err(system)?;
        let options = self.clone();
        Ok(Listener { socket, events, silent: RefCell::default(), refused: Cell::new(0), path, options, lock })
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl Listener {
    /// Starts listening on `name` with the default options.
    ///
    /// # Errors
    /// The name cannot be used or is in use, or the system refuses.
    pub fn bind(name: &str) -> Result<Self, ListenError> {
        ListenOptions::new().bind(name)
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Clients turned away so far: silent for too long, of another user or version, or with a malformed greeting.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// [`AcceptError::System`], and [`AcceptError::Forked`] in a child that inherited the listener. Clients that misbehave are turned away and counted, and are no error here.
    pub fn accept(&self) -> Result<Incoming, AcceptError> {
        self.accept_until(None)
    }

    /// Returns the next client whose greeting is there, without waiting. After `None` the listener's descriptor is still
    /// readable if clients are left that have to be looked at.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn try_accept(&self) -> Result<Option<Incoming>, AcceptError> {
        match self.accept_until(Some(Instant::now())) {
            Err(AcceptError::TimedOut) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Waits for the next client, at most for `timeout`.
    ///
    /// # Errors
    /// [`AcceptError::TimedOut`], or as for [`accept`](Self::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Incoming, AcceptError> {
        self.accept_until(Instant::now().checked_add(timeout))
    }

    /// The clients that come, one after the other: each step [waits](Self::accept) for the next.
    ///
    /// ```no_run
    /// # use messageport::Listener;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// for client in Listener::bind("my-service")?.incoming() {
    ///     client?.port.post_message(b"hello", [])?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn incoming(&self) -> Clients<'_> {
        Clients { listener: self, over: false }
    }

    /// When the next client has been silent for too long: then an accept has something to do, although nobody comes.
    #[cfg(feature = "tokio")]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.silent.borrow().iter().filter_map(|client| client.deadline).min()
    }

    fn accept_until(&self, deadline: Option<Instant>) -> Result<Incoming, AcceptError> {
        if self.lock.owner != std::process::id() {
            return Err(AcceptError::Forked);
        }
        loop {
            let mut events = [EpollEvent::empty(); 16];
            let now = Instant::now();
            self.drop_late(now);
            let until = self.silent.borrow().iter().filter_map(|client| client.deadline).chain(deadline).min();
            let timeout = until.map_or(EpollTimeout::NONE, |until| {
                let millis = until.saturating_duration_since(now).as_nanos().div_ceil(1_000_000);
                EpollTimeout::try_from(millis.min(i32::MAX as u128) as i32).unwrap_or(EpollTimeout::MAX)
            });
            let count = match self.events.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                result => result.map_err(|errno| AcceptError::System(io_error(errno)))?,
            };
            // Greetings before new connections: a flood of those must not starve who has already spoken.
            for event in events[..count].iter().filter(|event| event.data() != LISTENING) {
                if let Some(incoming) = self.hear(event.data())? {
                    return Ok(incoming);
                }
            }
            if events[..count].iter().any(|event| event.data() == LISTENING)
                && let Some(incoming) = self.admit()?
            {
                return Ok(incoming);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(AcceptError::TimedOut);
            }
        }
    }

    /// Takes one connection off the queue, and its greeting if it is there already.
    fn admit(&self) -> Result<Option<Incoming>, AcceptError> {
        let client = match lane_socket::accept(self.socket.as_fd()) {
            Ok(client) => client,
            Err(Errno::EAGAIN | Errno::ECONNABORTED) => return Ok(None),
            Err(errno) => return Err(AcceptError::System(io_error(errno))),
        };
        let (uid, pid) = match credentials(&client) {
            Ok((uid, pid)) if self.options.any_uid || uid == geteuid().as_raw() => (uid, pid),
            _ => {
                self.refuse(&client);
                return Ok(None);
            }
        };
        let mut silent = self.silent.borrow_mut();
        if silent.len() >= MAX_SILENT {
            let oldest = silent.remove(0);
            self.forget(&oldest.socket);
            self.refuse(&oldest.socket);
        }
        let key = client.as_raw_fd() as u64;
        self.events
            .add(&client, EpollEvent::new(EpollFlags::EPOLLIN, key))
            .map_err(|errno| AcceptError::System(io_error(errno)))?;
        let deadline = Instant::now().checked_add(self.options.greeting_timeout);
        silent.push(Silent { socket: client, uid, pid, deadline });
        drop(silent);
        self.hear(key)
    }

    /// Reads the greeting of a client that has said something.
    fn hear(&self, key: u64) -> Result<Option<Incoming>, AcceptError> {
        let mut silent = self.silent.borrow_mut();
        let Some(index) = silent.iter().position(|client| client.socket.as_raw_fd() as u64 == key) else {
            return Ok(None);
        };
        let result = greeting::receive(silent[index].socket.as_fd());
        if matches!(result, Err(BadGreeting::NotYet)) {
            return Ok(None);
        }
        let Silent { socket, uid, pid, .. } = silent.remove(index);
        self.forget(&socket);
        match result {
            Ok(mut greeting) if !greeting.ports.is_empty() => {
                greeting::answer(socket.as_fd(), true);
                let port = greeting.ports.remove(0);
                Ok(Some(Incoming { port, greeting, uid, pid }))
            }
            Err(BadGreeting::Exhausted(errno)) => {
                self.refuse(&socket);
                Err(AcceptError::System(io_error(errno)))
            }
            _ => {
                self.refuse(&socket);
                Ok(None)
            }
        }
    }

    fn drop_late(&self, now: Instant) {
        self.silent.borrow_mut().retain(|client| {
            let in_time = client.deadline.is_none_or(|deadline| deadline > now);
            if !in_time {
                self.forget(&client.socket);
                self.refuse(&client.socket);
            }
            in_time
        });
    }

    /// Takes a client out of the epoll set. Closing its socket would not, while a forked child holds a copy.
    fn forget(&self, client: &OwnedFd) {
        let _ = self.events.delete(client);
    }

    fn refuse(&self, client: &OwnedFd) {
        greeting::answer(client.as_fd(), false);
        self.refused.set(self.refused.get() + 1);
    }
}

/// The clients of a [`Listener`]; see [`Listener::incoming`].
///
/// The iterator ends only in a child process that inherited the listener by `fork`, with [`AcceptError::Forked`]. Any other
/// error is an item between others.
#[must_use = "accepts nothing until it is iterated over"]
#[derive(Debug)]
pub struct Clients<'a> {
    listener: &'a Listener,
    over: bool,
}

impl Iterator for Clients<'_> {
    type Item = Result<Incoming, AcceptError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let accepted = self.listener.accept();
        self.over = matches!(accepted, Err(AcceptError::Forked));
        Some(accepted)
    }
}

impl FusedIterator for Clients<'_> {}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.0.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Under the lock, so that it cannot be a successor's; and not in a forked child.
        if self.lock.owner == std::process::id() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The lock file beside a socket, held by a living listener (flock(2)).
struct Lock {
    /// Closing it unlocks, when the last copy is closed: a forked child that drops its own changes nothing.
    _file: File,
    path: PathBuf,
    owner: u32,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, ListenError> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let system = |error| ListenError::System(path.clone(), error);
        loop {
            let file = open_private(&path).map_err(system)?;
            file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => ListenError::InUse(socket.to_owned()),
                TryLockError::Error(error) => system(error),
            })?;
            // A listener that ended between our open and our lock has removed the file that we locked.
            let ours = file.metadata().map_err(system)?;
            if fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { _file: file, path, owner: std::process::id() });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Removes a socket that a listener left behind when it was killed. We hold the lock, so no listener of this library
/// lives there; anything else that does, and anything that is no socket, is not ours to remove.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let system = |error| ListenError::System(path.to_owned(), error);
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    let probe = socket(AddressFamily::Unix, SockType::SeqPacket, flags(), None).map_err(|e| system(io_error(e)))?;
    let address = UnixAddr::new(path).map_err(|errno| system(io_error(errno)))?;
    match connect_socket(probe.as_raw_fd(), &address) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(system),
        // Somebody answers, or it is a socket of another kind.
        _ => Err(ListenError::InUse(path.to_owned())),
    }
}

pub(super) fn flags() -> SockFlag {
    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK
}

/// User and process at the other end (`SO_PEERCRED` of unix(7)), as of the time it connected or began to listen.
pub(super) fn credentials(socket: &OwnedFd) -> Result<(u32, i32), Errno> {
    let credentials: UnixCredentials = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok((credentials.uid(), credentials.pid()))
}

/// [`Listener::bind`] failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// The name cannot be used.
    Name(NameError),
    /// Another listener lives on this path.
    InUse(PathBuf),
    /// There is something at the path that is no socket.
    NotASocket(PathBuf),
    /// The system refuses.
    System(PathBuf, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::InUse(path) => write!(f, "{}: another listener uses this name", path.display()),
            Self::NotASocket(path) => write!(f, "{}: is there and is no socket", path.display()),
            Self::System(path, error) => with_cause(f, &format_args!("cannot listen on {}", path.display()), error),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(error) => error.source(),
            Self::InUse(_) | Self::NotASocket(_) => None,
            Self::System(_, error) => Some(error),
        }
    }
}

impl From<ListenError> for io::Error {
    fn from(error: ListenError) -> Self {
        let kind = match error {
            ListenError::Name(error) => return error.into(),
            ListenError::InUse(_) => io::ErrorKind::AddrInUse,
            ListenError::NotASocket(_) => io::ErrorKind::AlreadyExists,
            ListenError::System(_, error) => return error,
        };
        Self::new(kind, error)
    }
}

/// [`Listener::accept`] failed. The listener goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// No client came in time.
    TimedOut,
    /// This listener was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// The system has no memory, descriptors or the like to give.
    System(io::Error),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out waiting for a client"),
            Self::Forked => f.write_str("the listener was inherited by fork and belongs to the parent process"),
            Self::System(error) => with_cause(f, &"cannot accept", error),
        }
    }
}

impl std::error::Error for AcceptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TimedOut | Self::Forked => None,
            Self::System(error) => Some(error),
        }
    }
}

impl From<AcceptError> for io::Error {
    fn from(error: AcceptError) -> Self {
        let kind = match error {
            AcceptError::TimedOut => io::ErrorKind::TimedOut,
            AcceptError::Forked => io::ErrorKind::Unsupported,
            AcceptError::System(error) => return error,
        };
        Self::new(kind, error)
    }
}
