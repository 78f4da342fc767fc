//! The command line options of a run, and the plan that they result in.

use std::path::PathBuf;

use super::baseline::Baseline;
use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::report::Report;

/// The command line options of a run.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Benchmarks to run [default: all]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Size of messages or buffers in bytes, at least 8; may be repeated
    #[arg(long = "size", value_name = "BYTES")]
    pub sizes: Vec<usize>,
    /// Print figures as JSON, one object per line; everything else goes to standard error
    #[arg(long)]
    pub json: bool,
    /// Measure fewer and shorter blocks, for a smoke test or to find large regressions
    #[arg(long)]
    pub quick: bool,
    /// Keep both CPUs busy with other work while measuring
    #[arg(long)]
    pub loaded: bool,
    /// Write an HTML report with plots to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Compare with the output of an earlier run with --json and print the ratios of this run to it
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// Largest message or buffer in bytes that a quick run measures by default.
const QUICK_SIZE: usize = 1 << 20;

/// The validated options. Everything that can be refused is refused before the first measurement.
pub(crate) struct Plan {
    /// Indices of the benchmarks to run, each with its message sizes.
    pub(crate) benches: Vec<(usize, Vec<usize>)>,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) report: Option<Report>,
}

impl Plan {
    pub(crate) fn new(options: &Options, suite: &[Bench]) -> Result<Self> {
        let known = |name: &String| suite.iter().any(|bench| bench.name == name);
        if let Some(name) = options.names.iter().find(|name| !known(name)) {
            let names: Vec<_> = suite.iter().map(|bench| bench.name).collect();
            return Err(Error::refused(format_args!(
                "unknown benchmark `{name}`; the benchmarks are {}",
                names.join(", ")
            )));
        }
        let mut sizes = options.sizes.clone();
        sizes.sort_unstable();
        sizes.dedup();
        let mut benches = Vec::new();
        for (number, bench) in suite.iter().enumerate() {
            if !options.names.is_empty() && !options.names.iter().any(|name| name == bench.name) {
                continue;
            }
            let Some(allowed) = bench.allowed.as_ref().filter(|_| !sizes.is_empty()) else {
                let quick = |size: &usize| !options.quick || *size <= QUICK_SIZE;
                benches.push((number, bench.sizes.iter().copied().filter(quick).collect()));
                continue;
            };
            let chosen: Vec<usize> = sizes.iter().copied().filter(|size| allowed.contains(size)).collect();
            if chosen.is_empty() && options.names.is_empty() {
                continue;
            }
            if chosen.is_empty() {
                let (low, high) = (allowed.start(), allowed.end());
                return Err(Error::refused(format_args!(
                    "sizes of `{}` must be between {low} and {high} bytes",
                    bench.name
                )));
            }
            benches.push((number, chosen));
        }
        let baseline = options.compare.as_deref().map(Baseline::read).transpose()?;
        let report = options.html.as_deref().map(Report::open).transpose()?;
        Ok(Self { benches, baseline, report })
    }
}
