//! What the user asks for.

use std::path::PathBuf;

use crate::compare::Baseline;
use crate::error::{Error, Result};
use crate::report::Report;
use crate::suite::Bench;

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
            // A benchmark whose messages have one size is not asked.
            let asked = !sizes.is_empty() && !bench.allowed.is_empty();
            let chosen: Vec<usize> = if asked {
                sizes.iter().copied().filter(|size| bench.allowed.contains(size)).collect()
            } else {
                bench.sizes.iter().copied().filter(|size| !options.quick || *size <= QUICK_SIZE).collect()
            };
            if asked && chosen.is_empty() {
                // Asked for by its name, it has to be able to do something.
                if !options.names.is_empty() {
                    let (low, high) = (bench.allowed.start(), bench.allowed.end());
                    return Err(Error::refused(format_args!("sizes for `{}` are {low} to {high}", bench.name)));
                }
                continue;
            }
            benches.push((number, chosen));
        }
        let baseline = options.compare.as_deref().map(Baseline::read).transpose()?;
        let report = options.html.as_deref().map(Report::open).transpose()?;
        Ok(Self { benches, baseline, report })
    }
}
