//! How a command fails: one line on standard error and an exit status.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// It was begun and did not work out.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { status: 1, message: message.to_string() }
    }

    /// What the user asked for cannot be done.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self { status: 2, message: message.to_string() }
    }

    /// The other side was gone too early.
    pub(crate) fn peer_gone(message: impl Display) -> Self {
        Self { status: 3, message: message.to_string() }
    }

    /// Adapter for `map_err`: a failure that says what was attempted and why it failed.
    pub(crate) fn of<E: Display>(attempt: &str) -> impl Fn(E) -> Self {
        move |error| Self::failed(format_args!("{attempt}: {error:#}"))
    }

    pub(crate) fn report(&self) -> ExitCode {
        // With standard error closed there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "messageport: {}", self.message);
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
