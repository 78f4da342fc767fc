//! A whole run: benchmark after benchmark, and what is said about it.

use std::io::Write;

use crate::error::{Error, Result};
use crate::figure::{Figure, table};
use crate::machine::Machine;
use crate::options::{Options, Plan};
use crate::rounds::Rounds;
use crate::session::{Second, Setting};
use crate::suite::Bench;

/// Runs what was asked for; `line` gets what belongs on standard output.
pub fn run(suite: &[Bench], options: &Options, mut line: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let plan = Plan::new(options, suite)?;
    // The limit of round trips tells where the two CPUs are.
    let probe = suite.iter().position(|bench| bench.name == "rtt").map(|bench| (bench, 0));
    let probe = probe.ok_or_else(|| Error::failed("there is no limit to tell the placement by"))?;
    let machine = Machine::here(); // before this process has only one CPU of it
    let second = Second::start()?;
    let setting = Setting { cpus: second.session.cpus(), quick: options.quick };
    let mut remark = |text: &str| {
        if options.json {
            let _ = writeln!(std::io::stderr(), "{text}");
            Ok(())
        } else {
            line(text)
        }
    };
    remark(&machine.to_string())?;
    let [first, other] = setting.cpus;
    remark(&if second.shares_cpu() {
        format!("only CPU {first} is allowed: both processes share it, and nothing that spins is measured")
    } else {
        format!("one process on CPU {first}, the other on CPU {other}")
    })?;
    let mut rounds = Rounds::new(&second, options.quick);
    let mut figures: Vec<Figure> = Vec::new();
    for (number, sizes) in &plan.benches {
        let bench = &suite[*number];
        let measured = match bench.once {
            Some(once) => match once(&setting) {
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
    if let Some(baseline) = &plan.baseline {
        let lines = baseline.lines(&figures);
        if lines.is_empty() {
            return Err(Error::refused("the baseline has no figure of this run"));
        }
        let mut compared = |text: &str| {
            if options.json {
                let _ = writeln!(std::io::stderr(), "{text}");
                Ok(())
            } else {
                line(text)
            }
        };
        compared("")?;
        compared("this run to the baseline; `ratio` is the change of the ratio within each run")?;
        lines.iter().try_for_each(|text| compared(text))?;
    }
    Ok(())
}
