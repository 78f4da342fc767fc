//! Where a name lives in the file system.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::error::with_cause;

/// Longest path of a socket: `sun_path` of unix(7), less its terminating zero.
const MAX_PATH: usize = 107;

/// A name that cannot be listened on or connected to.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, `.` or `..`, with a zero byte, or ending in `.lock`, which is used beside the socket.
    Invalid,
    /// The path of the socket is longer than the 107 bytes that the kernel allows.
    TooLong(PathBuf),
    /// The directory for names belongs to somebody else or is open to others.
    UnsafeDirectory(PathBuf),
    /// The directory for names cannot be made or looked at.
    Directory(PathBuf, io::Error),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("not a usable name"),
            Self::TooLong(path) => write!(f, "{} is longer than {MAX_PATH} bytes", path.display()),
            Self::UnsafeDirectory(path) => write!(f, "{} is not a private directory of this user", path.display()),
            Self::Directory(path, error) => {
                with_cause(f, &format_args!("cannot use the directory {}", path.display()), error)
            }
        }
    }
}

impl std::error::Error for NameError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Invalid | Self::TooLong(_) | Self::UnsafeDirectory(_) => None,
            Self::Directory(_, error) => Some(error),
        }
    }
}

impl From<NameError> for io::Error {
    fn from(error: NameError) -> Self {
        let kind = match error {
            NameError::Invalid | NameError::TooLong(_) => io::ErrorKind::InvalidInput,
            NameError::UnsafeDirectory(_) => io::ErrorKind::PermissionDenied,
            NameError::Directory(_, error) => return error,
        };
        Self::new(kind, error)
    }
}

/// The path of the socket for `name`: `name` itself if it contains a slash, else
/// `$XDG_RUNTIME_DIR/messageport/NAME`, else `messageport-UID/NAME` in the directory for temporary files.
///
/// The directory is made if need be, for this user alone. One that others could have prepared is refused: it must be a
/// real directory, owned by this user, with no rights for anybody else.
pub(crate) fn path_of(name: &str) -> Result<PathBuf, NameError> {
    if name.is_empty() || name == "." || name == ".." || name.contains('\0') || name.ends_with(".lock") {
        return Err(NameError::Invalid);
    }
    let path = if name.contains('/') {
        // Absolute, so that it stays the same when the working directory changes.
        std::path::absolute(name).map_err(|error| NameError::Directory(PathBuf::from(name), error))?
    } else {
        let directory = match std::env::var_os("XDG_RUNTIME_DIR").filter(|value| Path::new(value).is_absolute()) {
            Some(runtime) => PathBuf::from(runtime).join("messageport"),
            None => std::env::temp_dir().join(format!("messageport-{}", geteuid())),
        };
        make_private(&directory)?;
        directory.join(name)
    };
    if path.as_os_str().len() > MAX_PATH { Err(NameError::TooLong(path)) } else { Ok(path) }
}

fn make_private(directory: &Path) -> Result<(), NameError> {
    let failed = |error| NameError::Directory(directory.to_owned(), error);
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(directory).map_err(failed)?;
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(NameError::UnsafeDirectory(directory.to_owned()))
    }
}
