//! Lines on standard output, and the format of sizes and rates.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use indicatif::HumanBytes;

use crate::failure::Failure;

/// Standard output. Once its reader has closed it, further lines are dropped; the command continues, and its exit
/// status reports the result.
#[derive(Default)]
pub(crate) struct Output {
    closed: bool,
}

impl Output {
    /// Writes a line and flushes it.
    pub(crate) fn line(&mut self, line: impl AsRef<[u8]>) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        let written =
            stdout.write_all(line.as_ref()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
            Err(error) => return Err(Failure::failed(format_args!("cannot write to standard output: {error}"))),
            Ok(()) => {}
        }
        Ok(())
    }
}

/// Formats a size with a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Formats a time in microseconds, milliseconds or seconds with three significant digits.
pub(crate) fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        micros if micros < 999.5 => (micros, "us"),
        micros if micros < 999.5e3 => (micros / 1e3, "ms"),
        micros => (micros / 1e6, "s"),
    };
    let places = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.places$} {unit}")
}

/// Formats the rate of `bytes` in `time` with a binary unit.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let per_second = bytes as f64 / time.as_secs_f64().max(1e-9);
    format!("{}/s", HumanBytes(per_second as u64))
}
