//! The failure of a command: a line on standard error and an exit status.

use std::fmt::{Display, Write as _};
use std::io::Write;
use std::process::ExitCode;

/// A failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// A failure of a command that had begun: exit status 1.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { status: 1, message: message.to_string() }
    }

    /// An argument, file or name that cannot be used: exit status 2.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self { status: 2, message: message.to_string() }
    }

    /// A peer that closed too early: exit status 3.
    pub(crate) fn peer_gone(message: impl Display) -> Self {
        Self { status: 3, message: message.to_string() }
    }

    /// Returns an adapter for `map_err` that puts `attempt`, for example `cannot post`, before the cause.
    pub(crate) fn of<E: Display>(attempt: &str) -> impl Fn(E) -> Self {
        move |error| Self::failed(format_args!("{attempt}: {error:#}"))
    }

    /// Prints the failure and returns the exit status of the process.
    pub(crate) fn report(&self) -> ExitCode {
        // If standard error is closed, the exit status is all that remains.
        let _ = writeln!(std::io::stderr(), "messageport: {}", Line(&self.message));
        ExitCode::from(self.status)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<messageport_bench::Error> for Failure {
    fn from(error: messageport_bench::Error) -> Self {
        if error.is_refused() { Self::refused(error) } else { Self::failed(error) }
    }
}

/// A text on one line, with its control characters escaped: names, paths and the bytes of a peer may contain some, and
/// a terminal would act on them.
pub(crate) struct Line<'a>(pub(crate) &'a str);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            if letter.is_control() { write!(f, "{}", letter.escape_default())? } else { f.write_char(letter)? }
        }
        Ok(())
    }
}
