//! `bench`: runs the benchmarks of the package `messageport-bench`.

use messageport_bench::{Error, Options, suite};

use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let mut out = Output::default();
    messageport_bench::run(&suite(), options, |line| out.line(line).map_err(Error::failed))?;
    Ok(())
}

/// Runs the part of this process if a benchmark started it; returns `None` in a process that the user started.
pub(crate) fn role() -> Option<Result<(), Failure>> {
    messageport_bench::role(suite).map(|played| played.map_err(Failure::from))
}
