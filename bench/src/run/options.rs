//! What the user asks for.

use std::path::PathBuf;

use super::baseline::Baseline;
use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::report::Report;

/// Which benchmarks are run, how, and what becomes of the figures.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// The benchmarks to run, all of them if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Bytes of a message or buffer, 8 or more; repeat it for several
    #[arg(long = "size", value_name = "N")]
    pub sizes: Vec<usize>,
    /// Print one JSON object a line, and nothing else on standard output
    #[arg(long)]
    pub json: bool,
    /// Few and short blocks: a look whether it works, or whether something became much slower
    #[arg(long)]
    pub quick: bool,
    /// Write a page with plots of it
    #[arg(long, value_name = "REPORT.html")]
    pub html: Option<PathBuf>,
    /// Compare with what a run with --json has printed: print ratios, this run's time to that one's
    #[arg(long, value_name = "BASELINE.json")]
    pub compare: Option<PathBuf>,
}

/// The largest that a quick run measures without being asked to.
const QUICK_SIZE: usize = 1 << 20;

/// The same, looked at before anything is measured.
pub(crate) struct Plan {
    /// Numbers of the benchmarks, each with its sizes.
    pub(crate) benches: Vec<(usize, Vec<usize>)>,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) report: Option<Report>,
}

impl Plan {
    pub(crate) fn new(options: &Options, suite: &[Bench]) -> Result<Self> {
        let known = |name: &String| suite.iter().any(|bench| bench.name == name);
        if let Some(name) = options.names.iter().find(|name| !known(name)) {
            let names: Vec<_> = suite.iter().map(|bench| bench.name).collect();
            return Err(Error::refused(format_args!("there is no benchmark `{name}`, only {}", names.join(", "))));
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
                return Err(Error::refused(format_args!("sizes for `{}` are {low} to {high}", bench.name)));
            }
            benches.push((number, chosen));
        }
        let baseline = options.compare.as_deref().map(Baseline::read).transpose()?;
        let report = options.html.as_deref().map(Report::open).transpose()?;
        Ok(Self { benches, baseline, report })
    }
}
