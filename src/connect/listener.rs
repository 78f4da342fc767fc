//! Meeting by name, the listening side: clients connect to its socket and send greetings. The listener makes a pair for
//! each and answers with one end of it, so no descriptor of its own end ever leaves this process.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::greeting::{self, BadPacket, Denial, Greeting};
use super::names::{NameError, path_to_listen};
use crate::error::{PostErrorKind, with_cause};
use crate::layout::Limits;
use crate::port::MessagePort;
use crate::port::channel::{MessageChannel, entangle};
use crate::port::message::Message;
use crate::sys::epoll::Epoll;
use crate::sys::fork::Home;
use crate::sys::named_socket::{self, Access, Connection, Credentials, LockFile, Occupant};
use crate::sys::process::activated_socket;
use crate::sys::{Errno, io_error, is_shortage};

/// Most clients, 64, that may be connected without having sent their greeting; one more, and the listener turns away
/// the client that has been silent longest.
const MAX_SILENT: usize = 64;
/// The key of the listening socket in the epoll set, a value that no descriptor has; the key of a client is its
/// descriptor.
const LISTENING: u64 = u64::MAX;
/// Pause of 10 ms between two attempts to take a connection for which this process has no descriptor or no memory.
pub(crate) const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// Accepts processes that [`connect`](crate::connect()) to a name, and makes a pair with each.
///
/// A name without a slash is a socket in `/run/user/UID/messageport` or, if `/run/user/UID` is not a private directory
/// of this user, in `/tmp/messageport-UID`; no variable of the environment counts. A name with a slash is the path of
/// the socket. Only this user has access to the socket, unless [`mode`](ListenOptions::mode) gives access to others. A
/// name in the abstract namespace of unix(7) is not offered: it has no permissions, so any user could take it first.
///
/// A lock file beside the socket shows whether its listener lives. Dropping the listener removes both. A process that
/// ends without dropping it leaves both behind; with [`remove_on_signal`](ListenOptions::remove_on_signal), a process
/// that SIGHUP, SIGINT or SIGTERM ends does not. What was left behind is removed by the next listener on the name, and
/// by the next [`connect`](crate::connect()) that finds no listener there.
///
/// ```no_run
/// # use messageport::Listener;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = Listener::bind("my-service")?;
/// loop {
///     let client = listener.accept()?; // waits out a shortage of descriptors
///     std::thread::spawn(move || {
///         client.port.post_message(&client.greeting.data, [])
///     });
/// }
/// # }
/// ```
///
/// A shortage of descriptors or memory ends no server: [`accept`](Self::accept) goes on when it has passed. Without a
/// free descriptor clients wait; if there are some, but too few for a pair, they are turned away with
/// [`Overloaded`](super::ConnectError::Overloaded). A call with a deadline returns it as an error at the deadline, so
/// that a program can count it, pause and call again. See also
/// [`raise_descriptor_limit`](crate::raise_descriptor_limit).
///
/// A child that is forked without `exec` keeps the name in use for as long as it lives, even after its parent has
/// ended.
///
/// The descriptor of a listener ([`AsFd`]) can be waited on with `poll`: it is readable when
/// [`try_accept`](Self::try_accept) has something to do.
pub struct Listener {
    socket: OwnedFd,
    events: Epoll,
    silent: RefCell<Vec<Silent>>,
    refused: Cell<u64>,
    path: PathBuf,
    options: ListenOptions,
    home: Home,
    /// `None` for a socket that was given to this process: whoever made its file removes it.
    _files: Option<LockFile>,
}

/// A client that has connected and not sent its greeting yet.
struct Silent {
    connection: Connection,
    credentials: Credentials,
    /// The greeting is due then. `None`: a timeout that overflows `Instant`, so never.
    deadline: Option<Instant>,
}

/// A client that [`Listener::accept`] has accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// This side's end of the new pair, whose limits the client has chosen.
    pub port: MessagePort,
    /// The greeting: data, and nothing else.
    pub greeting: Message,
    /// The effective user of the client's process when it connected.
    pub uid: u32,
    /// The process that connected. It may have ended, and its number may have been reused. `None`: the process has no
    /// number here, since it runs in another pid namespace (pid_namespaces(7)).
    pub pid: Option<i32>,
}

/// Options of a [`Listener`].
#[derive(Clone, Debug)]
pub struct ListenOptions {
    greeting_timeout: Duration,
    any_uid: bool,
    access: Access,
    remove_on_signal: bool,
}

impl ListenOptions {
    /// The default options.
    pub fn new() -> Self {
        let greeting_timeout = Duration::from_secs(2);
        Self { greeting_timeout, any_uid: false, access: Access::PRIVATE, remove_on_signal: false }
    }

    /// Sets how long a client may take to send its greeting, 2 s by default. Other clients do not wait for it.
    pub fn greeting_timeout(mut self, timeout: Duration) -> Self {
        self.greeting_timeout = timeout;
        self
    }

    /// Accepts clients of every user; by default a client must run as the user of this process. The socket must then be
    /// where other users can reach it, so its name is a path, and [`mode`](Self::mode) or [`group`](Self::group) must
    /// give them access.
    pub fn any_uid(mut self, any: bool) -> Self {
        self.any_uid = any;
        self
    }

    /// Sets the permission bits of the socket's file, 0o600 by default, whatever the umask; a user who may write to the
    /// file may connect to it (chmod(2)).
    pub fn mode(mut self, mode: u32) -> Self {
        self.access.mode = mode;
        self
    }

    /// Sets the group of the socket's file to a group of this user (chown(2)); by default it is what the directory
    /// gives it. A mode of 0o660 lets its members connect.
    pub fn group(mut self, gid: u32) -> Self {
        self.access.group = Some(gid);
        self
    }

    /// Removes the socket and its lock file also when SIGHUP, SIGINT or SIGTERM ends the process; by default only
    /// dropping the listener removes them. For each of these signals that has its default action, a handler is
    /// installed, which removes the files and then lets the signal end the process (signal(7)). A program with a
    /// handler of its own drops its listener instead; so does the first process of a pid namespace, as of a container,
    /// which these signals do not end without a handler (pid_namespaces(7)). SIGKILL leaves the files behind in any
    /// case.
    pub fn remove_on_signal(mut self, remove: bool) -> Self {
        self.remove_on_signal = remove;
        self
    }

    /// Starts listening on `name`.
    ///
    /// # Errors
    /// The name cannot be used, another listener uses it, or a system call failed.
    pub fn bind(&self, name: &str) -> Result<Listener, ListenError> {
        let (path, others) = path_to_listen(name).map_err(ListenError::Name)?;
        for other in others {
            if matches!(named_socket::occupant(&other), Ok(Occupant::Listener)) {
                return Err(ListenError::InUse(other));
            }
        }
        let mut lock = lock(&path)?;
        let system = |errno| ListenError::System(path.clone(), io_error(errno));
        let socket = named_socket::new().map_err(system)?;
        let mut listener = self.listener(socket, path.clone())?;
        remove_stale(&path)?;
        // Last, so that a failure leaves no socket behind.
        lock.listen(listener.socket.as_fd(), self.access, self.remove_on_signal).map_err(system)?;
        listener._files = Some(lock);
        Ok(listener)
    }

    /// Accepts clients at a socket that listens already, for example one that a service manager has passed to this
    /// process. The listener has a descriptor of its own, and does not remove the socket's file. The socket no longer
    /// waits in accept(2) (`O_NONBLOCK`). [`mode`](Self::mode), [`group`](Self::group) and
    /// [`remove_on_signal`](Self::remove_on_signal) have no effect.
    ///
    /// # Errors
    /// [`ListenError::BadSocket`] for anything but a listening Unix socket of the type `SOCK_SEQPACKET`; or a system
    /// call failed.
    pub fn listen_at(&self, socket: impl AsFd) -> Result<Listener, ListenError> {
        let socket = socket.as_fd();
        let path = named_socket::listening_path(socket).ok_or(ListenError::BadSocket)?;
        let socket = named_socket::share(socket).map_err(|errno| ListenError::System(path.clone(), io_error(errno)))?;
        self.listener(socket, path)
    }

    /// Accepts clients at the socket that the service manager passed to this process: socket activation, see
    /// sd_listen_fds(3). `name` is that of the socket (`FileDescriptorName=` of systemd.socket(5)); without it the
    /// first one is taken. The unit has `ListenSequentialPacket=PATH`. `None`: no such socket was passed, as when the
    /// program was started by hand.
    ///
    /// ```no_run
    /// # use messageport::{ListenError, ListenOptions, Listener};
    /// # fn main() -> Result<(), ListenError> {
    /// let listener = match ListenOptions::new().listen_activated(None)? {
    ///     Some(listener) => listener,
    ///     None => Listener::bind("my-service")?,
    /// };
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`listen_at`](Self::listen_at).
    pub fn listen_activated(&self, name: Option<&str>) -> Result<Option<Listener>, ListenError> {
        let system = |errno| ListenError::System(PathBuf::new(), io_error(errno));
        match activated_socket(name).map_err(system)? {
            Some(socket) => self.listen_at(socket).map(Some),
            None => Ok(None),
        }
    }

    fn listener(&self, socket: OwnedFd, path: PathBuf) -> Result<Listener, ListenError> {
        let system = |errno| ListenError::System(path.clone(), io_error(errno));
        let events = Epoll::new().map_err(system)?;
        events.add_level(socket.as_fd(), LISTENING).map_err(system)?;
        let home = Home::here().map_err(system)?;
        let (silent, refused, options) = (RefCell::default(), Cell::new(0), self.clone());
        Ok(Listener { socket, events, silent, refused, path, options, home, _files: None })
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
    /// The name cannot be used, another listener uses it, or a system call failed.
    pub fn bind(name: &str) -> Result<Self, ListenError> {
        ListenOptions::new().bind(name)
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of clients turned away so far: those that stayed silent too long, run as another user, use another
    /// version of the format, sent a malformed greeting or one with descriptors, or left before they had their port;
    /// and those whose pair could not be made for want of descriptors or memory.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Waits for the next client. A client that misbehaves is turned away and [counted](Self::refused), and the wait
    /// goes on. It also goes on while the system is short of descriptors or memory: clients then wait to be accepted,
    /// or are turned away.
    ///
    /// # Errors
    /// [`AcceptError::Forked`] in a child that inherited the listener, and [`AcceptError::System`], but not for a
    /// shortage.
    pub fn accept(&self) -> Result<Incoming, AcceptError> {
        self.accept_until(None)
    }

    /// Returns the next client whose greeting has arrived, without waiting. After `None` the listener's descriptor is
    /// still readable if other clients have to be dealt with.
    ///
    /// # Errors
    /// Those of [`accept_timeout`](Self::accept_timeout) but `TimedOut`.
    pub fn try_accept(&self) -> Result<Option<Incoming>, AcceptError> {
        match self.accept_until(Some(Instant::now())) {
            Err(AcceptError::TimedOut) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Waits for the next client for at most `timeout`.
    ///
    /// # Errors
    /// [`AcceptError::TimedOut`]; those of [`accept`](Self::accept); and [`AcceptError::System`] instead of `TimedOut`
    /// if a client could not be accepted meanwhile for want of descriptors or memory. A loop that polls the descriptor
    /// should pause after that error: the descriptor stays readable while a client waits.
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Incoming, AcceptError> {
        self.accept_until(Instant::now().checked_add(timeout))
    }

    /// The clients, one after the other: each step [waits](Self::accept) for the next.
    ///
    /// ```no_run
    /// # use messageport::Listener;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// for client in Listener::bind("my-service")?.incoming() {
    ///     let _ = client?.port.post_message(b"hello", []); // fails if the client has left
    /// }
    /// # Ok(()) }
    /// ```
    pub fn incoming(&self) -> IncomingClients<'_> {
        IncomingClients { listener: self, over: false }
    }

    /// The earliest time at which a silent client is late. A call of accept then has work to do, although the
    /// descriptor is not readable.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.silent.borrow().iter().filter_map(|client| client.deadline).min()
    }

    fn accept_until(&self, deadline: Option<Instant>) -> Result<Incoming, AcceptError> {
        if !self.home.is_here() {
            return Err(AcceptError::Forked);
        }
        let mut ready = Vec::new();
        let mut shortage = None;
        loop {
            let now = Instant::now();
            self.refuse_late(now);
            let until = self.next_deadline().into_iter().chain(deadline).min();
            let timeout = until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
            ready.clear();
            self.events.wait(&mut ready, timeout).map_err(system)?;
            // Greetings before new connections, so that a flood of connections does not starve clients that have
            // greeted.
            for client in ready.iter().copied().filter(|key| *key != LISTENING) {
                match self.read_greeting(client) {
                    Ok(Some(incoming)) => return Ok(incoming),
                    Ok(None) => {}
                    Err(errno) => shortage = Some(passing(errno)?),
                }
            }
            if ready.contains(&LISTENING) {
                match named_socket::accept(self.socket.as_fd()).map(|client| self.admit(client)) {
                    Ok(Ok(Some(incoming))) => return Ok(incoming),
                    Ok(Ok(None)) | Err(Errno::EAGAIN | Errno::ECONNABORTED) => {}
                    Ok(Err(errno)) => shortage = Some(passing(errno)?),
                    Err(errno) => {
                        // The connection stays in the queue, and the listening socket readable.
                        shortage = Some(passing(errno)?);
                        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                        std::thread::sleep(left.map_or(SHORTAGE_PAUSE, |left| left.min(SHORTAGE_PAUSE)));
                    }
                }
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(shortage.map_or(AcceptError::TimedOut, system));
            }
        }
    }

    /// Takes in a new connection, and its greeting if that has arrived. After an error the client was turned away.
    fn admit(&self, client: OwnedFd) -> Result<Option<Incoming>, Errno> {
        let key = client.as_raw_fd() as u64;
        let client = Connection::new(client)?;
        let credentials = match named_socket::credentials(client.as_fd()) {
            Ok(found) if self.options.any_uid || found.uid == named_socket::user() => found,
            _ => {
                self.refuse(&client, Denial::TurnedAway);
                return Ok(None);
            }
        };
        self.events.add_level(client.as_fd(), key).inspect_err(|_| self.refuse(&client, Denial::Shortage))?;
        let deadline = Instant::now().checked_add(self.options.greeting_timeout);
        let mut silent = self.silent.borrow_mut();
        if silent.len() >= MAX_SILENT {
            let oldest = silent.remove(0);
            self.unwatch(&oldest.connection);
            self.refuse(&oldest.connection, Denial::TurnedAway);
        }
        silent.push(Silent { connection: client, credentials, deadline });
        drop(silent);
        self.read_greeting(key)
    }

    /// Reads the greeting of the silent client with this key, and answers it. `None`: there is none yet, or the client
    /// was turned away, as it is after an error.
    fn read_greeting(&self, key: u64) -> Result<Option<Incoming>, Errno> {
        let mut silent = self.silent.borrow_mut();
        let Some(index) = silent.iter().position(|client| client.connection.as_fd().as_raw_fd() as u64 == key) else {
            return Ok(None);
        };
        let result = greeting::receive(silent[index].connection.as_fd());
        if matches!(result, Err(BadPacket::NotYet)) {
            return Ok(None);
        }
        let Silent { connection, credentials: Credentials { uid, pid }, .. } = silent.remove(index);
        self.unwatch(&connection);
        let answered = match result {
            Ok(Greeting { limits, data }) => answer(&connection, limits).map(|port| port.zip(Some(data))),
            Err(BadPacket::Exhausted(errno)) => Err(errno),
            Err(_) => Ok(None),
        };
        match answered {
            Ok(Some((port, data))) => Ok(Some(Incoming { port, greeting: Message::from(data), uid, pid })),
            refused => {
                let why = if refused.is_ok() { Denial::TurnedAway } else { Denial::Shortage };
                self.refuse(&connection, why);
                refused.map(|_| None)
            }
        }
    }

    /// Turns away the silent clients whose deadline has passed.
    fn refuse_late(&self, now: Instant) {
        self.silent.borrow_mut().retain(|client| {
            let in_time = client.deadline.is_none_or(|deadline| deadline > now);
            if !in_time {
                self.unwatch(&client.connection);
                self.refuse(&client.connection, Denial::TurnedAway);
            }
            in_time
        });
    }

    /// Removes a client from the epoll set. Closing its socket does not, while a forked child holds a copy of it.
    fn unwatch(&self, client: &Connection) {
        self.events.delete(client.as_fd());
    }

    fn refuse(&self, client: &Connection, why: Denial) {
        greeting::refuse(client.as_fd(), why);
        self.refused.set(self.refused.get() + 1);
    }
}

/// Makes a pair with these limits, and answers the client with one end of it. `None`: the client has left.
fn answer(client: &Connection, limits: Limits) -> Result<Option<MessagePort>, Errno> {
    let MessageChannel { port1, port2 } = entangle(limits, "")?;
    match greeting::send_port(client.as_fd(), &port2) {
        Ok(baggage) => {
            baggage.detach();
            Ok(Some(port1))
        }
        Err(PostErrorKind::ResourceExhausted(error)) => {
            Err(error.raw_os_error().map_or(Errno::ENOMEM, Errno::from_raw))
        }
        Err(_) => Ok(None), // a new port can be transferred, so this is `PeerGone`
    }
}

/// The number of a shortage; an error for any other number.
fn passing(errno: Errno) -> Result<Errno, AcceptError> {
    // `EFBIG` is that of a pair as large as one client asked for, and `EAGAIN` that of a socket that is full.
    if errno == Errno::EAGAIN || is_shortage(&io_error(errno)) { Ok(errno) } else { Err(system(errno)) }
}

fn system(errno: Errno) -> AcceptError {
    AcceptError::System(io_error(errno))
}

/// The clients of a [`Listener`]; see [`Listener::incoming`].
///
/// The iterator ends only in a child process that inherited the listener by `fork`, with [`AcceptError::Forked`]. Any
/// other error is an item between others.
#[must_use = "accepts nothing until it is iterated over"]
#[derive(Debug)]
pub struct IncomingClients<'a> {
    listener: &'a Listener,
    over: bool,
}

impl Iterator for IncomingClients<'_> {
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

impl FusedIterator for IncomingClients<'_> {}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Locks the path of a socket. A client that removes what a killed listener left behind holds the lock for a moment, so
/// this is tried for 100 ms.
fn lock(socket: &Path) -> Result<LockFile, ListenError> {
    for attempt in 0..100 {
        match LockFile::take(socket) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => std::thread::sleep(Duration::from_millis(u64::from(attempt > 0))),
            Err(error) => return Err(ListenError::System(LockFile::path_of(socket), error)),
        }
    }
    Err(ListenError::InUse(socket.to_owned()))
}

/// Removes the socket of a listener that was killed. The caller holds the lock, so no listener of this library uses the
/// path; what other programs use, and what is not a socket, stays.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let system = |error| ListenError::System(path.to_owned(), error);
    match named_socket::occupant(path).map_err(system)? {
        Occupant::Free => Ok(()),
        Occupant::Stale => named_socket::remove(path).map_err(system),
        Occupant::Listener => Err(ListenError::InUse(path.to_owned())),
        Occupant::NotASocket => Err(ListenError::NotASocket(path.to_owned())),
    }
}

/// [`Listener::bind`] failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// The name cannot be used.
    Name(NameError),
    /// Another listener uses this path.
    InUse(PathBuf),
    /// The path exists and is not a socket.
    NotASocket(PathBuf),
    /// What was given to the listener is not a listening Unix socket of the type `SOCK_SEQPACKET`.
    BadSocket,
    /// A system call failed, on the file with this path.
    System(PathBuf, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::InUse(path) => write!(f, "{}: another listener uses this name", path.display()),
            Self::NotASocket(path) => write!(f, "{}: exists and is not a socket", path.display()),
            Self::BadSocket => f.write_str("not a listening Unix socket of the type SOCK_SEQPACKET"),
            Self::System(path, error) => with_cause(f, &format_args!("cannot listen on {}", path.display()), error),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(error) => error.source(),
            Self::InUse(_) | Self::NotASocket(_) | Self::BadSocket => None,
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
            ListenError::BadSocket => io::ErrorKind::InvalidInput,
            ListenError::System(_, error) => return error,
        };
        Self::new(kind, error)
    }
}

/// [`Listener::accept`] failed. The listener can still be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// The timeout expired without a client.
    TimedOut,
    /// The listener was inherited by `fork`; it belongs to the parent process.
    Forked,
    /// A system call failed. After a shortage of memory or descriptors the listener goes on with the next call.
    System(io::Error),
}

impl AcceptError {
    /// True for a shortage of memory or descriptors, after which the listener goes on.
    pub(crate) fn is_shortage(&self) -> bool {
        match self {
            Self::System(error) => error.raw_os_error() == Some(Errno::EAGAIN as i32) || is_shortage(error),
            Self::TimedOut | Self::Forked => false,
        }
    }
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
