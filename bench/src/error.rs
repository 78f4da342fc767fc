//! The error type of this crate.

use std::fmt;

/// The reason why a run ended without figures, in one line.
#[derive(Debug)]
pub struct Error {
    refused: bool,
    message: String,
}

impl Error {
    /// An error of a run that had begun.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { refused: false, message: message.to_string() }
    }

    /// An error in what the user asked for: a bad argument, or a file that cannot be used.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { refused: true, message: message.to_string() }
    }

    /// Returns an adapter for `map_err` that puts `attempt`, for example `cannot post`, before the cause.
    pub fn of<E: fmt::Display>(attempt: &str) -> impl Fn(E) -> Self {
        move |error| Self::failed(format_args!("{attempt}: {error:#}"))
    }

    /// Returns true for an error made by [`refused`](Self::refused).
    pub fn is_refused(&self) -> bool {
        self.refused
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;
