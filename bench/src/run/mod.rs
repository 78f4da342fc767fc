//! A whole run: benchmark after benchmark, and what is said about it.

mod baseline;
mod options;

use std::io::Write;

use crate::bench::{Bench, Setting};
use crate::error::{Error, Result};
use crate::figure::{Figure, table};
use crate::rounds::Rounds;
use crate::second::SecondProcess;
use crate::system::machine::Machine;

pub use options::Options;
use options::Plan;

/// Runs what was asked for; `line` gets what belongs on standard output.
pub fn run(suite: &[Bench], options: &Options, mut line: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let plan = Plan::new(options, suite)?;
    // The limit of round trips tells where the two CPUs are.
    let probe = suite.iter().position(|bench| bench.name == "rtt").map(|bench| (bench, 0));
    let probe = probe.ok_or_else(|| Error::failed("there is no limit to tell the placement by"))?;
    let machine = Machine::here(); // before this process has only one CPU of it
    let second = SecondProcess::start()?;
    let setting = Setting { cpus: second.session.cpus(), quick: options.quick };
    let [first, other] = setting.cpus;
    let heading = [
        machine.to_string(),
        if second.shares_cpu() {
            format!("only CPU {first} is allowed: both processes share it, and nothing that spins is measured")
        } else {
            format!("one process on CPU {first}, the other on CPU {other}")
        },
    ];
    heading.iter().try_for_each(|text| remark(options, text, &mut line))?;
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
        let about: Vec<(&str, &str)> = suite.iter().map(|bench| (bench.name, bench.about)).collect();
        report.write(&heading, &about, &figures)?;
    }
    if let Some(baseline) = &plan.baseline {
        let lines = baseline.lines(&figures);
        if lines.is_empty() {
            return Err(Error::refused("the baseline has no figure of this run"));
        }
        for text in ["", "this run to the baseline; `ratio` is the change of the ratio within each run"] {
            remark(options, text, &mut line)?;
        }
        lines.iter().try_for_each(|text| remark(options, text, &mut line))?;
    }
    Ok(())
}

/// What is no figure: beside standard output if that is for programs.
fn remark(options: &Options, text: &str, line: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
    if options.json {
        // With standard error closed there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "{text}");
        return Ok(());
    }
    line(text)
}
