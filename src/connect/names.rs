//! Names of listeners, and the paths of their sockets.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::with_cause;
use crate::sys::named_socket::{self, MAX_PATH};

/// A name that cannot be used to listen or connect.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty, `.` or `..`, contains a zero byte, or ends in `.lock`, the ending of lock files.
    Invalid,
    /// The path of the socket is longer than 107 bytes, the limit of unix(7).
    TooLong(PathBuf),
    /// The directory of the sockets belongs to another user, or other users have access to it.
    UnsafeDirectory(PathBuf),
    /// The directory of the sockets cannot be created or examined.
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

/// The path of the socket for `name`: `name` itself if it contains a slash, otherwise
/// `$XDG_RUNTIME_DIR/messageport/NAME`, or without that variable `messageport-UID/NAME` in the directory for temporary
/// files.
///
/// The directory is created if need be, with access for this user only. A directory that another user could have
/// prepared is refused: it must be a directory and not a link, owned by this user, without access for any other.
pub(crate) fn path_of(name: &str) -> Result<PathBuf, NameError> {
    if name.is_empty() || name == "." || name == ".." || name.contains('\0') || name.ends_with(".lock") {
        return Err(NameError::Invalid);
    }
    let path = if name.contains('/') {
        // Absolute, so that a later change of the working directory does not change it.
        std::path::absolute(name).map_err(|error| NameError::Directory(PathBuf::from(name), error))?
    } else {
        let directory = match std::env::var_os("XDG_RUNTIME_DIR").filter(|value| Path::new(value).is_absolute()) {
            Some(runtime) => PathBuf::from(runtime).join("messageport"),
            None => std::env::temp_dir().join(format!("messageport-{}", named_socket::user())),
        };
        match named_socket::make_private_directory(&directory) {
            Ok(true) => directory.join(name),
            Ok(false) => return Err(NameError::UnsafeDirectory(directory)),
            Err(error) => return Err(NameError::Directory(directory, error)),
        }
    };
    if path.as_os_str().len() > MAX_PATH { Err(NameError::TooLong(path)) } else { Ok(path) }
}
