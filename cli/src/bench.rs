//! `bench`: the benchmarks are in a package of their own.

use messageport_bench::{Error, Options, suite};

use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let mut out = Output::default();
    messageport_bench::run(&suite(), options, |line| out.line(line).map_err(Error::failed))?;
    Ok(())
}

/// Plays the part of a process that a benchmark has started, if this is one.
pub(crate) fn role() -> Option<Result<(), Failure>> {
    messageport_bench::role(suite).map(|played| played.map_err(Failure::from))
}
