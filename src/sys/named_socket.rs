//! SEQPACKET sockets with a path (unix(7)), the lock file beside such a socket, and the directory that holds both.
//!
//! The path of a socket outlives the process that bound it. So the lock, which the kernel releases when its holder
//! ends, decides whether the listener of a path lives.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, accept4, bind, connect as connect_socket,
    getsockname, getsockopt, listen as listen_on, setsockopt, socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstat};
use nix::unistd::{Gid, chown, geteuid};

use super::closer;
use super::fork::Home;
use super::on_signal::OnSignal;
use super::socket::{is_seqpacket, peek, shut_down};
use super::standard::{above_standard, copy_above_standard};
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
    above_standard(socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None)?)
}

/// The users that may connect to a socket by its path: the permission bits and, if it is not that of this process, the
/// group of the socket's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
}

impl Access {
    /// This user only.
    pub(crate) const PRIVATE: Self = Self { mode: 0o600, group: None };
}

/// Binds `socket` to `path` and listens (bind(2), listen(2)). Until the file has its rights (chown(2), chmod(2)), only
/// this user has access.
pub(crate) fn listen(socket: BorrowedFd<'_>, path: &Path, access: Access) -> Result<(), Errno> {
    // bind(2) gives the socket's file the mode that the socket has, without what the umask takes away.
    fchmod(socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let opened = give_access(path, access).and_then(|()| listen_on(&socket, Backlog::MAXCONN));
    opened.inspect_err(|_| _ = remove(path))
}

/// Sets the rights of the socket's file, by a descriptor of it: a link that has taken its place is not followed.
fn give_access(path: &Path, access: Access) -> Result<(), Errno> {
    if access.mode == Access::PRIVATE.mode && access.group.is_none() {
        return Ok(());
    }
    let mode = Mode::from_bits(access.mode).ok_or(Errno::EINVAL)?;
    let file = above_standard(open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?)?;
    if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(Errno::EEXIST);
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    chown(&*path, None, access.group.map(Gid::from_raw))?;
    fchmodat(AT_FDCWD, &*path, mode, FchmodatFlags::FollowSymlink)
}

/// The path of a listening Unix SEQPACKET socket; `None` if the descriptor is something else (`SO_ACCEPTCONN` of
/// socket(7), getsockname(2)). The path is empty if the socket has none.
pub(crate) fn listening_path(socket: BorrowedFd<'_>) -> Option<PathBuf> {
    if !is_seqpacket(socket) || getsockopt(&socket, sockopt::AcceptConn) != Ok(true) {
        return None;
    }
    let address = getsockname::<UnixAddr>(socket.as_raw_fd()).ok()?;
    Some(address.path().map(Path::to_owned).unwrap_or_default())
}

/// A descriptor of this process for a socket that another program made. No call on the socket blocks (fcntl(2)).
pub(crate) fn share(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let copy = copy_above_standard(socket)?;
    fcntl(&copy, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(copy)
}

/// Takes the next connection of a listening socket (accept4(2)). `EAGAIN`: there is none.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let raw = retry(|| accept4(listening.as_raw_fd(), FLAGS))?;
    // SAFETY: accept4 has just created this descriptor for this call, so nothing else owns it.
    above_standard(unsafe { OwnedFd::from_raw_fd(raw) })
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

/// Creates `directory` for this user alone (mkdir(2), mode 0700) unless it exists. Returns true if it is
/// [private](is_private_directory).
pub(crate) fn make_private_directory(directory: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => is_private_directory(directory),
    }
}

/// The user that keeps this process from `path`: the owner, if that is another one, of the file or of the lowest
/// directory above it that can be examined (lstat(2)).
pub(crate) fn foreign_owner(path: &Path) -> Option<u32> {
    let found = path.ancestors().find_map(|part| fs::symlink_metadata(part).ok())?;
    (found.uid() != user()).then(|| found.uid())
}

/// True if `directory` is a directory and no link to one, this user owns it, and no other user has access (lstat(2)).
pub(crate) fn is_private_directory(directory: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(directory)?;
    Ok(found.is_dir() && found.uid() == user() && found.mode() & 0o077 == 0)
}

/// The right to a path: a lock file beside it, with `.lock` appended to its name, that this process has locked
/// (flock(2)). Dropping it removes the lock file, and before it the socket that was bound under the lock.
pub(crate) struct LockFile {
    /// The kernel releases the lock when the last copy of this descriptor is closed, so a forked child that closes its
    /// copy changes nothing.
    _file: File,
    socket: PathBuf,
    path: PathBuf,
    /// The process that locked it. A process number would not do: a child in a new pid namespace can have the number of
    /// its parent.
    home: Home,
    /// The socket at the path is that of this holder, or of one that has died.
    owns_socket: bool,
    on_signal: Option<OnSignal>,
}

impl LockFile {
    /// The path of the lock file of a socket.
    pub(crate) fn path_of(socket: &Path) -> PathBuf {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        path.into()
    }

    /// Locks the path of a socket, with a lock file to which this user only has access. `None`: another process holds
    /// the lock.
    pub(crate) fn take(socket: &Path) -> io::Result<Option<Self>> {
        Self::open(socket, File::options().write(true).create(true).truncate(false).mode(0o600))
    }

    /// As [`take`](Self::take), if there is a lock file and it is this user's.
    fn take_existing(socket: &Path) -> io::Result<Option<Self>> {
        if fs::symlink_metadata(Self::path_of(socket))?.uid() != user() {
            return Ok(None);
        }
        Self::open(socket, &mut File::options())
    }

    /// A symbolic link in the place of the lock file is not followed (`O_NOFOLLOW` of open(2)): it could lead to any
    /// file of this user.
    fn open(socket: &Path, options: &mut OpenOptions) -> io::Result<Option<Self>> {
        options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        let home = Home::here().map_err(io_error)?;
        let path = Self::path_of(socket);
        loop {
            let file = above_standard(options.open(&path)?).map_err(io_error)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // A holder that ended between the open and the lock has removed the file that is locked here.
            let locked = file.metadata()?;
            if fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino())) {
                let socket = socket.to_owned();
                return Ok(Some(Self { _file: file, socket, path, home, owns_socket: false, on_signal: None }));
            }
        }
    }

    /// Binds the socket to the path, which is free, and listens; see [`listen`]. With `on_signal` a signal that ends
    /// the process removes what dropping this removes.
    pub(crate) fn listen(&mut self, socket: BorrowedFd<'_>, access: Access, on_signal: bool) -> Result<(), Errno> {
        if on_signal {
            self.on_signal = Some(OnSignal::remove([&self.socket, &self.path])?);
        }
        listen(socket, &self.socket, access)?;
        self.owns_socket = true;
        Ok(())
    }

    /// False in a child that inherited the lock by `fork`.
    pub(crate) fn is_ours(&self) -> bool {
        self.home.is_here()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // This process holds the lock, so the files cannot be a successor's, unless a signal handler has removed them.
        // A forked child does not hold it.
        if !self.is_ours() || self.on_signal.as_ref().is_some_and(|request| !request.cancel()) {
            return;
        }
        // Each fails only if the file has been removed already.
        if self.owns_socket {
            let _ = remove(&self.socket);
        }
        let _ = remove(&self.path);
    }
}

/// Removes what a listener at `socket` left behind, if it has ended without removing it: its socket and its lock file.
/// A listener that starts meanwhile waits for the lock for a moment. Files without a lock file of this user are not
/// those of a listener of this library, and stay.
pub(crate) fn remove_left_behind(socket: &Path) {
    if let Ok(Some(mut lock)) = LockFile::take_existing(socket) {
        lock.owns_socket = matches!(occupant(socket), Ok(Occupant::Stale));
    }
}
