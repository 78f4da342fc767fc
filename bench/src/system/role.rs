//! Processes of this executable that play a part of a benchmark.

use std::process::Command;

use crate::error::{Error, Result};

/// The first argument of a process that is not the user's.
pub(crate) const ROLE: &str = "bench-role";

/// A process of this executable that plays a part; its arguments follow.
pub(crate) fn command(name: &str) -> Result<Command> {
    let this = std::env::current_exe().map_err(Error::of("cannot find this executable"))?;
    let mut command = Command::new(this);
    command.args([ROLE, name]);
    Ok(command)
}
