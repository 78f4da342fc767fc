//! Why a run ended without figures.

use std::fmt;

/// A benchmark that did not work out, in one line.
#[derive(Debug)]
pub struct Error {
    refused: bool,
    message: String,
}

impl Error {
    /// It was begun and did not work out.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { refused: false, message: message.to_string() }
    }

    /// What the user asked for cannot be done.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { refused: true, message: message.to_string() }
    }

    /// Adapter for `map_err`: says what was attempted and why it failed.
    pub fn of<E: fmt::Display>(attempt: &str) -> impl Fn(E) -> Self {
        move |error| Self::failed(format_args!("{attempt}: {error:#}"))
    }

    /// True if the fault lies with what was asked for.
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

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;
