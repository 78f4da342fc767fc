//! Names of listeners, and the paths of their sockets.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::with_cause;
use crate::sys::named_socket::{self, MAX_PATH};

/// A name that cannot be used to listen or connect.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty, `.` or `..`, contains a control character, or ends in `.lock`, the ending of lock files.
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

/// The directories in which a name without a slash is looked up: `messageport` in the user's directory below
/// `/run/user`, if there is one, and `/tmp/messageport-UID`. A listener uses the first one.
///
/// No variable of the environment counts, so that a service and a login shell of the same user meet.
fn directories() -> Vec<PathBuf> {
    let user = named_socket::user();
    let runtime = PathBuf::from(format!("/run/user/{user}"));
    let runtime = named_socket::is_private_directory(&runtime).is_ok_and(|private| private).then_some(runtime);
    let runtime = runtime.map(|directory| directory.join("messageport"));
    runtime.into_iter().chain([PathBuf::from(format!("/tmp/messageport-{user}"))]).collect()
}

/// The path of the socket for `name` if it contains a slash. `None`: the name is to be looked up.
fn own_path(name: &str) -> Result<Option<PathBuf>, NameError> {
    let reserved = [".", ".."].contains(&name) || name.ends_with(".lock");
    if name.is_empty() || reserved || name.contains(char::is_control) {
        return Err(NameError::Invalid);
    }
    if !name.contains('/') {
        return Ok(None);
    }
    // Absolute, so that a later change of the working directory does not change it.
    let path = std::path::absolute(name).map_err(|error| NameError::Directory(PathBuf::from(name), error))?;
    fitting(path).map(Some)
}

fn fitting(path: PathBuf) -> Result<PathBuf, NameError> {
    if path.as_os_str().len() > MAX_PATH { Err(NameError::TooLong(path)) } else { Ok(path) }
}

/// The path at which a listener of `name` binds its socket, and those at which an earlier listener of the same name may
/// be.
///
/// The directory is created if need be, with access for this user only. A directory that another user could have
/// prepared is refused: it must be a directory and not a link, owned by this user, without access for any other.
pub(crate) fn path_to_listen(name: &str) -> Result<(PathBuf, Vec<PathBuf>), NameError> {
    if let Some(path) = own_path(name)? {
        return Ok((path, Vec::new()));
    }
    let mut directories = directories();
    let directory = directories.remove(0);
    match named_socket::make_private_directory(&directory) {
        Ok(true) => {}
        Ok(false) => return Err(NameError::UnsafeDirectory(directory)),
        Err(error) => return Err(NameError::Directory(directory, error)),
    }
    Ok((fitting(directory.join(name))?, directories.into_iter().map(|directory| directory.join(name)).collect()))
}

/// The paths at which a listener of `name` may be, in the order in which to try them. Directories are refused as for
/// [`path_to_listen`], unless they do not exist.
pub(crate) fn paths_to_connect(name: &str) -> Result<Vec<PathBuf>, NameError> {
    if let Some(path) = own_path(name)? {
        return Ok(vec![path]);
    }
    let paths = directories().into_iter().map(|directory| match named_socket::is_private_directory(&directory) {
        Ok(false) => Err(NameError::UnsafeDirectory(directory)),
        Ok(true) => fitting(directory.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fitting(directory.join(name)),
        Err(error) => Err(NameError::Directory(directory, error)),
    });
    paths.collect()
}
