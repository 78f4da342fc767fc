//! SEQPACKET sockets with a path (unix(7)), the lock file beside such a socket, and the directory that holds both.
//!
//! The path of a socket outlives the process that bound it. So the lock, which the kernel releases when its holder
//! ends, decides whether the listener of a path lives.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, accept4, bind, connect as connect_socket,
    getsockopt, listen as listen_on, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

use super::closer;
use super::fork::Home;
use super::socket::{peek, shut_down};
use super::{Errno, io_error, retry};

/// Longest path of a socket in bytes: `sun_path` of unix(7) without its terminating zero.
pub(crate) const MAX_PATH: usize = 107;

/// The flags of every socket here: closed on exec, and no call on it blocks.
const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

/// The effective user of this process (geteuid(2)).
pub(crate) fn user() -> u32 {
    geteuid().as_raw()
}

/// A connection with a process that is not trusted. Dropping it hangs up; what the other side has sent and this side
/// has not read may contain descriptors of any kind, whose closing may wait, and is closed where no caller waits for
/// it.
pub(crate) struct Connection {
    socket: ManuallyDrop<OwnedFd>,
    home: Home,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Result<Self, Errno> {
        Ok(Self { socket: ManuallyDrop::new(socket), home: Home::here()? })
    }

    /// Hangs up, and returns true if a packet is left unread. No further packet can come then.
    fn ends_unread(socket: BorrowedFd<'_>) -> bool {
        shut_down(socket);
        // With this option every packet has credentials. There is no room for them, so a peek at a packet reports that
        // something was cut off, and end-of-file does not.
        let marked = setsockopt(&socket, sockopt::PassCred, &true);
        marked.is_err() || peek(socket, &mut [0], 0).is_ok_and(|received| received.descriptors_cut)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the field is not used again, since this is the drop of the connection.
        let socket = unsafe { ManuallyDrop::take(&mut self.socket) };
        // In a forked child the connection is the parent's.
        if self.home.is_here() && Self::ends_unread(socket.as_fd()) {
            closer::elsewhere(move || drop(socket));
        }
    }
}

/// A new socket (socket(2)), to be passed to [`listen`] or [`connect`].
pub(crate) fn new() -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None)
}

/// Binds `socket` to `path`, with access for this user only, and listens (fchmod(2), bind(2), listen(2)).
pub(crate) fn listen(socket: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    // bind(2) gives the socket's file the mode that the socket has.
    fchmod(socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen_on(&socket, Backlog::MAXCONN).inspect_err(|_| _ = remove(path))
}

/// Takes the next connection of a listening socket (accept4(2)). `EAGAIN`: there is none.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let raw = retry(|| accept4(listening.as_raw_fd(), FLAGS))?;
    // SAFETY: accept4 has just created this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Connects `socket` to the listener at `path` (connect(2)). `EAGAIN`: its queue of connections is full. `ENOENT`,
/// `ECONNREFUSED`: there is no listener.
pub(crate) fn connect(socket: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let address = UnixAddr::new(path)?;
    retry(|| connect_socket(socket.as_raw_fd(), &address))
}

/// The user and process at the other end of a connection, as of the call of connect(2) or listen(2) there.
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    pub(crate) pid: Option<i32>,
}

/// The credentials of the other end of a connection (`SO_PEERCRED` of unix(7)).
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> Result<Credentials, Errno> {
    let found: UnixCredentials = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(Credentials { uid: found.uid(), pid: Some(found.pid()).filter(|&pid| pid != 0) })
}

/// The contents of the path of a socket, before the socket is bound.
pub(crate) enum Occupant {
    /// Nothing.
    Free,
    /// A socket without a listener.
    Stale,
    /// A socket that accepts connections, or one of another type.
    Listener,
    /// Something other than a socket.
    NotASocket,
}

/// Examines `path` (lstat(2)), and a socket there by connecting to it.
pub(crate) fn occupant(path: &Path) -> io::Result<Occupant> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(Occupant::Free),
        Ok(found) if !found.file_type().is_socket() => return Ok(Occupant::NotASocket),
        Ok(_) => {}
    }
    let probe = new().map_err(io_error)?;
    match connect(probe.as_fd(), path) {
        Err(Errno::ECONNREFUSED) => Ok(Occupant::Stale),
        _ => Ok(Occupant::Listener),
    }
}

/// Removes the file at `path` (unlink(2)).
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Creates `directory` for this user alone (mkdir(2), mode 0700) unless it exists. Returns true if it is a directory
/// and no link to one, this user owns it, and no other user has access (lstat(2)).
pub(crate) fn make_private_directory(directory: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(directory)?;
    Ok(found.is_dir() && found.uid() == user() && found.mode() & 0o077 == 0)
}

/// A lock file that this process has locked (flock(2)). Dropping it removes the file.
pub(crate) struct LockFile {
    /// The kernel releases the lock when the last copy of this descriptor is closed, so a forked child that closes its
    /// copy changes nothing.
    _file: File,
    path: PathBuf,
    /// The process that locked it. A process number would not do: a child in a new pid namespace can have the number of
    /// its parent.
    home: Home,
}

impl LockFile {
    /// Creates the file at `path`, with access for this user only, and locks it. A symbolic link at `path` is not
    /// followed (`O_NOFOLLOW` of open(2)): it could lead to any file of this user. `None`: another process holds the
    /// lock.
    pub(crate) fn take(path: PathBuf) -> io::Result<Option<Self>> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let home = Home::here().map_err(io_error)?;
        loop {
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // A holder that ended between the open and the lock has removed the file that is locked here.
            let locked = file.metadata()?;
            if fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Some(Self { _file: file, path, home }));
            }
        }
    }

    /// False in a child that inherited the lock by `fork`.
    pub(crate) fn is_ours(&self) -> bool {
        self.home.is_here()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = remove(&self.path); // fails only if the file has been removed already
        }
    }
}
