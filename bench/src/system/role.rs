//! Child processes of this executable that run a part of a benchmark.

use std::process::Command;

use crate::error::{Error, Result};

/// The first command line argument of a process that a benchmark started.
pub(crate) const ROLE: &str = "bench-role";

/// Returns a command that runs the named part in this executable. The caller adds three numbers as arguments.
pub(crate) fn command(name: &str) -> Result<Command> {
    let this = std::env::current_exe().map_err(Error::of("cannot find this executable"))?;
    let mut command = Command::new(this);
    command.args([ROLE, name]);
    Ok(command)
}
