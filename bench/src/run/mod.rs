//! A run: measures the chosen benchmarks one after the other and prints their figures.

mod baseline;
mod facts;
mod options;

use std::io::Write;

use crate::bench::{Bench, Setting};
use crate::error::{Error, Result};
use crate::figure::{Figure, LEGEND, table};
use crate::rounds::Rounds;
use crate::second::SecondProcess;
use crate::system::load::Load;

pub use options::Options;
use options::Plan;

/// Runs the chosen benchmarks. `line` is called with each line for standard output.
///
/// # Errors
/// Fails if an argument or a file cannot be used ([`Error::is_refused`]), or if a benchmark fails.
pub fn run(suite: &[Bench], options: &Options, mut line: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let plan = Plan::new(options, suite)?;
    // The first subject of `rtt`, a bare word, determines the placement of the two CPUs.
    let probe = suite.iter().position(|bench| bench.name == "rtt").map(|bench| (bench, 0));
    let probe =
        probe.ok_or_else(|| Error::failed("the suite has no `rtt` benchmark to determine the placement with"))?;
    let mut facts = facts::before(options); // counts the CPUs, so it must precede the pinning of this process
    let second = SecondProcess::start()?;
    let setting = Setting { cpus: second.session.cpus(), quick: options.quick };
    let _load = options.loaded.then(|| Load::start(setting.cpus)).transpose()?;
    facts.push(facts::processes(&second));
    let heading = facts.iter().map(|(name, value)| format!("{name}: {value}"));
    heading.chain(LEGEND.map(str::to_owned)).try_for_each(|text| remark(options, &text, &mut line))?;
    let mut rounds = Rounds::new(&second, options.quick);
    let mut figures: Vec<Figure> = Vec::new();
    for (number, sizes) in &plan.benches {
        let bench = &suite[*number];
        for subject in &bench.subjects {
            if let Some(why) = &subject.skipped {
                let _ = writeln!(std::io::stderr(), "{}: skipped: {}: {why}", bench.name, subject.label());
            }
        }
        let measured = match bench.measure {
            Some(measure) => match measure(&setting) {
                Ok(measured) => measured,
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "{}: skipped: {error}", bench.name);
                    continue;
                }
            },
            None => rounds.measure(suite, *number, sizes, probe)?,
        };
        if options.json {
            measured.iter().try_for_each(|figure| line(&figure.json()))?;
        } else {
            line("")?;
            line(&format!("{}: {}", bench.name, bench.about))?;
            table(&measured).iter().try_for_each(|text| line(text))?;
        }
        figures.extend(measured);
    }
    if let Some(report) = plan.report {
        facts.extend(facts::placement(&figures));
        report.write(&facts, suite, &figures)?;
    }
    if let Some(baseline) = &plan.baseline {
        let lines = baseline.lines(&figures);
        if lines.is_empty() {
            return Err(Error::refused("the baseline and this run have no figures in common"));
        }
        for text in ["", "ratios of this run to the baseline; `ratio` compares the ratios within each run"] {
            remark(options, text, &mut line)?;
        }
        lines.iter().try_for_each(|text| remark(options, text, &mut line))?;
    }
    Ok(())
}

/// Prints a line that is not a figure: on standard error if standard output is JSON.
fn remark(options: &Options, text: &str, line: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
    if options.json {
        // If standard error is closed, the remark is lost and the run goes on.
        let _ = writeln!(std::io::stderr(), "{text}");
        return Ok(());
    }
    line(text)
}
