//! Turns: everything in a bench is measured in short blocks, round after round.
//!
//! Machines move the two processes nearer together or farther apart while it runs, and others use it too. So a ratio is
//! the median of the ratios within each round, and only the rounds of the placement that was seen most often count. A
//! block is timed as a whole for the mean; percentiles come from blocks of their own, where every operation is timed.

mod placement;
mod statistics;

use std::io::IsTerminal;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use crate::bench::{Bench, Metric, Subject};
use crate::error::Result;
use crate::figure::Figure;
use crate::link::{Outcome, Player, Side, Turn, Wait, histogram};
use crate::second::{Request, SecondProcess};
use crate::system::machine;

use placement::{Placement, majority};
use statistics::{curve, quartiles, rounded};

const ROUNDS: usize = 40;
const QUICK_ROUNDS: usize = 7;
const BLOCK: Duration = Duration::from_millis(6);
/// Blocks that are played before they count.
const WARM_UP_BLOCKS: u32 = 3;
const QUICK_BLOCK: Duration = Duration::from_millis(2);

/// Most untimed operations at the start of a block.
const WARM_UP_OPERATIONS: u64 = 100;
/// Most operations of a block.
const MAX_OPERATIONS: u64 = 10_000_000;
/// Operations of the look at the placement.
const PROBE_OPERATIONS: u64 = 2000;

/// A subject with one size, and what was measured of it in each round.
struct Case<'a> {
    subject: &'a Subject,
    size: usize,
    player: Box<dyn Player>,
    opened: usize,
    count: u64,
    rounds: Vec<Round>,
    /// By placement.
    latencies: [Option<Histogram<u64>>; Placement::ALL.len()],
}

/// One block of each kind.
struct Round {
    /// Nanoseconds of an operation.
    mean: f64,
    cpu: Option<f64>,
    sleeps: f64,
    latencies: Option<Histogram<u64>>,
}

/// The first process's view of a run.
pub(crate) struct Rounds<'a> {
    second: &'a SecondProcess,
    quick: bool,
    stamp: u64,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(second: &'a SecondProcess, quick: bool) -> Self {
        Self { second, quick, stamp: 1 }
    }

    /// Measures the bench with this number, and the limit that tells the placement, `probe`.
    pub(crate) fn measure(
        &mut self,
        suite: &[Bench],
        number: usize,
        sizes: &[usize],
        probe: (usize, usize),
    ) -> Result<Vec<Figure>> {
        let bench = &suite[number];
        let shared_cpu = self.second.shares_cpu();
        let mut opened = 0;
        let mut open = |bench: usize, subject: usize, size: usize| {
            let index = opened;
            opened += 1;
            let player = self.second.together(Request::Open { bench, subject, size }, || {
                suite[bench].subjects[subject].open(&self.second.session, size)
            })?;
            Ok((player, index))
        };
        let mut probe = if shared_cpu { None } else { Some(open(probe.0, probe.1, 8)?) };
        let mut cases = Vec::new();
        for size in sizes {
            for (index, subject) in bench.subjects.iter().enumerate() {
                let spins = subject.wait == Wait::Spin;
                if !subject.supports(*size) || (shared_cpu && spins) {
                    continue;
                }
                let (player, opened) = open(number, index, *size)?;
                let (rounds, latencies) = (Vec::new(), Default::default());
                cases.push(Case {
                    subject,
                    size: *size,
                    player,
                    opened,
                    count: bench.min_operations,
                    rounds,
                    latencies,
                });
            }
        }
        for case in &mut cases {
            case.count = self.calibrate(bench, case)?;
        }

        let rounds = if self.quick { QUICK_ROUNDS } else { ROUNDS };
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(rounds as u64) } else { ProgressBar::hidden() };
        let mut placements = Vec::new();
        for round in 0..rounds {
            let before = self.placement(&mut probe)?;
            // Every other round backwards, so that nobody always follows the same neighbour.
            let order: &mut dyn Iterator<Item = &mut Case<'_>> =
                if round % 2 == 0 { &mut cases.iter_mut() } else { &mut cases.iter_mut().rev() };
            for case in order {
                let measured = self.round(bench, case)?;
                case.rounds.push(measured);
            }
            let after = self.placement(&mut probe)?;
            let placement = if before == after { before } else { Placement::Mixed };
            for case in &mut cases {
                if let Some(latencies) = case.rounds.last_mut().and_then(|round| round.latencies.take()) {
                    let all = case.latencies[placement as usize].get_or_insert_with(histogram);
                    all.add(latencies).expect("all histograms have the same bounds");
                }
            }
            placements.push(placement);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let figures = report(bench, &cases, &placements);
        drop(cases);
        self.second.together(Request::Close, || Ok(()))?;
        Ok(figures)
    }

    /// How many operations fill a block.
    fn calibrate(&mut self, bench: &Bench, case: &mut Case<'_>) -> Result<u64> {
        let block = if self.quick { QUICK_BLOCK } else { BLOCK }.as_nanos() as f64;
        // Between messages that are far apart there is nothing to be timed, but time passes.
        let gap =
            case.subject.parameter.filter(|(name, _)| *name == "gap_us").map_or(0.0, |(_, gap)| gap as f64 * 1000.0);
        let least = if self.quick { case.subject.min_operations / 10 } else { case.subject.min_operations }.max(1);
        let (mut count, mut blocks) = (1, 0);
        loop {
            let turn = self.turn(1, count);
            let time = self.play(case.player.as_mut(), case.opened, turn, None)?.nanos + gap * count as f64;
            let one = (time / count as f64).max(0.1);
            if time < block / 8.0 && count < MAX_OPERATIONS {
                count = (count * 8).min(MAX_OPERATIONS);
                continue;
            }
            // What takes long needs no thousand of it.
            let min_operations = bench.min_operations.min((4.0 * block / one) as u64).max(least);
            count = ((block.max(2.0 * gap) / one) as u64).clamp(min_operations, MAX_OPERATIONS);
            // Again: what is done for the first time touches memory for the first time.
            if blocks == WARM_UP_BLOCKS {
                return Ok(count);
            }
            blocks += 1;
        }
    }

    fn round(&mut self, bench: &Bench, case: &mut Case<'_>) -> Result<Round> {
        let warm_up = WARM_UP_OPERATIONS.min(case.count.div_ceil(8));
        let turn = self.turn(warm_up, case.count);
        if bench.metric == Metric::Delay {
            let mut latencies = histogram();
            let outcome = self.play(case.player.as_mut(), case.opened, turn, Some(&mut latencies))?;
            let mean = outcome.nanos / turn.count as f64;
            return Ok(Round { mean, cpu: outcome.cpu, sleeps: 0.0, latencies: Some(latencies) });
        }
        let slept = machine::sleeps()?;
        let outcome = self.play(case.player.as_mut(), case.opened, turn, None)?;
        let sleeps = (machine::sleeps()? - slept) as f64 / (warm_up + turn.count) as f64;
        let mut latencies = None;
        if bench.metric == Metric::Latency {
            let mut histogram = histogram();
            let turn = self.turn(warm_up, (case.count / 2).max(1));
            self.play(case.player.as_mut(), case.opened, turn, Some(&mut histogram))?;
            latencies = Some(histogram);
        }
        Ok(Round { mean: outcome.nanos / turn.count as f64, cpu: outcome.cpu, sleeps, latencies })
    }

    fn placement(&mut self, probe: &mut Option<(Box<dyn Player>, usize)>) -> Result<Placement> {
        let Some((player, opened)) = probe else {
            return Ok(Placement::Same);
        };
        let turn = self.turn(WARM_UP_OPERATIONS, PROBE_OPERATIONS);
        let mean = self.play(player.as_mut(), *opened, turn, None)?.nanos / PROBE_OPERATIONS as f64;
        Ok(Placement::of(mean))
    }

    fn turn(&mut self, warm_up: u64, count: u64) -> Turn {
        let stamp = self.stamp;
        self.stamp += warm_up + count;
        Turn { side: Side::First, warm_up, count, stamp }
    }

    fn play(
        &self,
        player: &mut dyn Player,
        opened: usize,
        turn: Turn,
        latencies: Option<&mut Histogram<u64>>,
    ) -> Result<Outcome> {
        let request = Request::Play { opened, turn, individually: latencies.is_some() };
        self.second.together(request, || player.play(&turn, latencies))
    }
}

fn report(bench: &Bench, cases: &[Case<'_>], placements: &[Placement]) -> Vec<Figure> {
    let (placement, rounds) = majority(placements);
    cases.iter().map(|case| figure(bench, case, cases, placement, &rounds)).collect()
}

fn figure(bench: &Bench, case: &Case<'_>, cases: &[Case<'_>], placement: Placement, rounds: &[usize]) -> Figure {
    let subject = case.subject;
    let at = |wanted| subject.parameter.filter(|(name, _)| *name == wanted).map(|(_, value)| value);
    let of = |value: fn(&Round) -> f64| quartiles(rounds.iter().map(|round| value(&case.rounds[*round])));
    let [low, mean, high] = of(|round| round.mean);
    let mut figure = Figure {
        bench: bench.name.to_owned(),
        what: subject.what.to_owned(),
        call: subject.call.to_owned(),
        wait: subject.wait.name().to_owned(),
        size: case.size,
        ports: at("ports"),
        gap_us: at("gap_us"),
        mean_ns: Some(rounded(mean)),
        spread: Some(rounded((high - low) / mean * 100.0) / 100.0),
        placement: placement.name().to_owned(),
        blocks: Some(rounds.len()),
        ..Figure::default()
    };
    if bench.metric == Metric::Rate {
        figure.msgs_per_s = Some((1e9 / mean).round());
        figure.bytes_per_s = Some((1e9 / mean * case.size as f64).round());
    }
    if bench.metric == Metric::Delay {
        figure.cpu = Some(of(|round| round.cpu.unwrap_or(0.0))[1]);
    } else {
        figure.sleeps = Some(rounded(of(|round| round.sleeps)[1] * 10.0) / 10.0);
    }
    if let Some(latencies) = case.latencies[placement as usize].as_ref().filter(|latencies| !latencies.is_empty()) {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| Some(latencies.value_at_quantile(share)));
        (figure.p50_ns, figure.p99_ns, figure.p999_ns, figure.samples) = (p50, p99, p999, Some(latencies.len()));
        figure.curve = curve(latencies);
    }
    if let Some((label, size)) = &subject.against {
        let wanted = |other: &&Case<'_>| other.subject.label() == *label && other.size == size.unwrap_or(case.size);
        if let Some(other) = cases.iter().find(wanted) {
            let ratios = rounds.iter().map(|round| case.rounds[*round].mean / other.rounds[*round].mean);
            figure.ratio = Some((quartiles(ratios)[1] * 1000.0).round() / 1000.0);
            figure.against = match size {
                Some(size) if *size != case.size => format!("{label} {size} B"),
                _ => label.clone(),
            };
        }
    }
    figure
}
