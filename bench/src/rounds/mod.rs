//! Rounds: all subjects of a bench are measured in turns, in short blocks.
//!
//! A virtual machine can move the two CPUs closer together or farther apart during a run, and other programs use the
//! machine too. A ratio is therefore the median of the ratios within each round, and only the rounds of the most
//! frequent placement count. For the mean a block is timed as a whole; percentiles come from separate blocks in which
//! every operation is timed.

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

/// Number of rounds of a full run.
const ROUNDS: usize = 40;
/// Number of rounds of a quick run.
const QUICK_ROUNDS: usize = 7;
/// Intended duration of a block in a full run.
const BLOCK: Duration = Duration::from_millis(6);
/// Intended duration of a block in a quick run.
const QUICK_BLOCK: Duration = Duration::from_millis(2);
/// Number of full blocks that calibration plays before it fixes the number of operations.
const WARM_UP_BLOCKS: u32 = 3;

/// Largest number of untimed operations at the start of a block.
const WARM_UP_OPERATIONS: u64 = 100;
/// Largest number of operations in a block.
const MAX_OPERATIONS: u64 = 10_000_000;
/// Number of round trips that determine the placement.
const PROBE_OPERATIONS: u64 = 2000;

/// A subject with one message size, and its results.
struct Case<'a> {
    subject: &'a Subject,
    size: usize,
    player: Box<dyn Player>,
    /// The number under which the second process has opened the subject.
    opened: usize,
    /// Number of timed operations in a block.
    count: u64,
    rounds: Vec<Round>,
    /// The individually timed operations, by placement.
    latencies: [Option<Histogram<u64>>; Placement::ALL.len()],
}

/// The results of one case in one round.
struct Round {
    /// Mean duration of an operation in nanoseconds.
    mean: f64,
    /// CPU time of the receiver as a share of the elapsed time.
    cpu: Option<f64>,
    /// Voluntary context switches per operation.
    sleeps: f64,
    latencies: Option<Histogram<u64>>,
}

/// Measures benches, from the first process.
pub(crate) struct Rounds<'a> {
    second: &'a SecondProcess,
    quick: bool,
    /// The stamp of the next message.
    stamp: u64,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(second: &'a SecondProcess, quick: bool) -> Self {
        Self { second, quick, stamp: 1 }
    }

    /// Measures the bench with index `number` for `sizes`. `probe` is the bench and subject that determine the
    /// placement.
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
            // The order alternates, so that no subject always follows the same neighbour.
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
        let figures = summarize(bench, &cases, &placements);
        drop(cases);
        self.second.together(Request::Close, || Ok(()))?;
        Ok(figures)
    }

    /// Returns the number of operations that fill a block.
    fn calibrate(&mut self, bench: &Bench, case: &mut Case<'_>) -> Result<u64> {
        let block = (if self.quick { QUICK_BLOCK } else { BLOCK } * bench.block_factor).as_nanos() as f64;
        // The gaps between messages are not timed but are part of the block.
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
            // A slow operation must not extend the block to more than four times its intended duration.
            let min_operations = bench.min_operations.min((4.0 * block / one) as u64).max(least);
            count = ((block.max(2.0 * gap) / one) as u64).clamp(min_operations, MAX_OPERATIONS);
            // Calibrate again, because the first blocks include page faults and cold caches.
            if blocks == WARM_UP_BLOCKS {
                return Ok(count);
            }
            blocks += 1;
        }
    }

    /// Plays the blocks of one case in one round.
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

    /// Determines the current placement.
    fn placement(&mut self, probe: &mut Option<(Box<dyn Player>, usize)>) -> Result<Placement> {
        let Some((player, opened)) = probe else {
            return Ok(Placement::Same);
        };
        let turn = self.turn(WARM_UP_OPERATIONS, PROBE_OPERATIONS);
        let mean = self.play(player.as_mut(), *opened, turn, None)?.nanos / PROBE_OPERATIONS as f64;
        Ok(Placement::of(mean))
    }

    /// Returns the next turn, with stamps that have not been used before.
    fn turn(&mut self, warm_up: u64, count: u64) -> Turn {
        let stamp = self.stamp;
        self.stamp += warm_up + count;
        Turn { side: Side::First, warm_up, count, stamp }
    }

    /// Plays a turn on both sides.
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

/// Summarizes the rounds of the most frequent placement.
fn summarize(bench: &Bench, cases: &[Case<'_>], placements: &[Placement]) -> Vec<Figure> {
    let (placement, rounds) = majority(placements);
    cases.iter().map(|case| figure(bench, case, cases, placement, &rounds)).collect()
}

fn figure(bench: &Bench, case: &Case<'_>, cases: &[Case<'_>], placement: Placement, rounds: &[usize]) -> Figure {
    let subject = case.subject;
    let parameter = |wanted| subject.parameter.filter(|(name, _)| *name == wanted).map(|(_, value)| value);
    let of = |value: fn(&Round) -> f64| quartiles(rounds.iter().map(|round| value(&case.rounds[*round])));
    let [low, mean, high] = of(|round| round.mean);
    let mut figure = Figure {
        bench: bench.name.to_owned(),
        what: subject.what.to_owned(),
        call: subject.call.to_owned(),
        wait: subject.wait.name().to_owned(),
        size: case.size,
        ports: parameter("ports"),
        gap_us: parameter("gap_us"),
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
