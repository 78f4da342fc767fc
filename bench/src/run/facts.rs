//! The facts about a run that its reader needs to judge its figures.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

use super::options::Options;
use crate::figure::Figure;
use crate::report::Fact;
use crate::second::SecondProcess;
use crate::system::machine::{Machine, load_average};

/// Returns the facts that are known before the first measurement.
pub(super) fn before(options: &Options) -> Vec<Fact> {
    let version = format!("messageport {}, commit {}", env!("CARGO_PKG_VERSION"), env!("MESSAGEPORT_COMMIT"));
    let length =
        if options.quick { "--quick: few and short blocks, which show large differences only" } else { "full" };
    let added = if options.loaded { "--loaded: a thread on each CPU computes all the time" } else { "none added" };
    let load = match load_average() {
        Some(average) => format!("{added}; load average {average} before the first measurement"),
        None => added.to_owned(),
    };
    vec![
        ("version", version),
        ("date", humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
        ("command", command_line(std::env::args_os())),
        ("length", length.to_owned()),
        ("load", load),
        ("machine", Machine::here().to_string()),
    ]
}

/// Returns the CPUs of the two processes.
pub(super) fn processes(second: &SecondProcess) -> Fact {
    let [first, other] = second.session.cpus();
    let cpus = if second.shares_cpu() {
        format!("only CPU {first} is allowed: both processes share it, and subjects that spin are skipped")
    } else {
        format!("one process on CPU {first}, the other on CPU {other}")
    };
    ("processes", cpus)
}

/// Returns the distance of the two CPUs in each benchmark that measured it.
pub(super) fn placement(figures: &[Figure]) -> Option<Fact> {
    let mut benches: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for figure in figures.iter().filter(|figure| !figure.placement.is_empty()) {
        let known = benches.entry(&figure.placement).or_default();
        if !known.contains(&&*figure.bench) {
            known.push(&figure.bench);
        }
    }
    let mut placements: Vec<(&str, Vec<&str>)> = benches.into_iter().collect();
    placements.sort_by_key(|(_, benches)| std::cmp::Reverse(benches.len()));
    let text: Vec<String> = match &placements[..] {
        [] => return None,
        [(placement, _)] => vec![format!("{placement} in all benchmarks")],
        several => {
            several.iter().map(|(placement, benches)| format!("{placement} in {}", benches.join(", "))).collect()
        }
    };
    Some(("placement", text.join("; ")))
}

/// Returns a command line, with the name of the program only and with quotes where a shell needs them.
fn command_line(arguments: impl Iterator<Item = OsString>) -> String {
    let word = |(place, argument): (usize, OsString)| {
        let name = Path::new(&argument).file_name().filter(|_| place == 0);
        let text = name.unwrap_or(&argument).to_string_lossy().into_owned();
        let is_plain = |character: char| character.is_alphanumeric() || "-_./=,:+%@".contains(character);
        if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("{text:?}") }
    };
    arguments.enumerate().map(word).collect::<Vec<_>>().join(" ")
}
