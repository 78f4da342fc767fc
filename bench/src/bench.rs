//! A benchmark: subjects that are measured in turns, beside each other.

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::figure::{Figure, label};
use crate::link::{Player, Wait};
use crate::session::Session;

/// A measurement without turns, for benchmarks that count instead of timing.
type Measure = fn(&Setting) -> Result<Vec<Figure>>;

type Open = Box<dyn Fn(&Session, usize) -> Result<Box<dyn Player>>>;

/// One implementation that a benchmark measures.
pub struct Subject {
    /// The implementation, for example `messageport` or `futex`.
    pub what: &'static str,
    /// The call or mode that is measured; empty if the implementation has only one.
    pub call: &'static str,
    /// The way in which the receiver waits.
    pub wait: Wait,
    /// The name and value of a further number that distinguishes subjects, for example the number of ports.
    pub parameter: Option<(&'static str, u64)>,
    /// The label of the subject to compare with, and the message size of that subject where it differs.
    pub against: Option<(String, Option<usize>)>,
    /// The lowest number of operations in a block, even if the block then takes longer than the others.
    pub(crate) min_operations: u64,
    /// The reason not to measure this subject.
    pub(crate) skipped: Option<String>,
    /// Returns true for the message sizes that the subject supports.
    sizes: Box<dyn Fn(usize) -> bool>,
    open: Open,
}

impl Subject {
    /// Creates a subject. Both sides call `open` with their session and the message size.
    pub fn new<P: Player + 'static>(
        what: &'static str,
        call: &'static str,
        wait: Wait,
        open: impl Fn(&Session, usize) -> Result<P> + 'static,
    ) -> Self {
        let open: Open = Box::new(move |session, size| Ok(Box::new(open(session, size)?)));
        Self {
            what,
            call,
            wait,
            parameter: None,
            against: None,
            min_operations: 1,
            skipped: None,
            sizes: Box::new(|_| true),
            open,
        }
    }

    /// Compares the subject with the one that has this label, at the same message size.
    pub fn against(mut self, label: impl Into<String>) -> Self {
        self.against = Some((label.into(), None));
        self
    }

    /// Compares the subject with the one that has this label, always at `size`.
    pub fn against_size(mut self, label: impl Into<String>, size: usize) -> Self {
        self.against = Some((label.into(), Some(size)));
        self
    }

    /// Sets the name and value of a number that distinguishes this subject from others with the same name.
    pub fn parameter(mut self, name: &'static str, value: u64) -> Self {
        self.parameter = Some((name, value));
        self
    }

    /// Restricts the subject to the message sizes for which `sizes` returns true.
    pub fn sizes(mut self, sizes: impl Fn(usize) -> bool + 'static) -> Self {
        self.sizes = Box::new(sizes);
        self
    }

    /// Excludes the subject from the run for the given reason. It keeps its index in the bench, by which the two
    /// processes identify subjects.
    pub fn skip(&mut self, why: impl Into<String>) {
        self.skipped = Some(why.into());
    }

    pub(crate) fn supports(&self, size: usize) -> bool {
        self.skipped.is_none() && (self.sizes)(size)
    }

    /// Returns the name of the subject within its bench, the same for all sizes.
    pub fn label(&self) -> String {
        label(self.what, self.call, self.wait.name(), self.parameter)
    }

    pub(crate) fn open(&self, session: &Session, size: usize) -> Result<Box<dyn Player>> {
        (self.open)(session, size)
    }
}

/// The quantity that a benchmark measures, which decides the figures that it reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// The duration of one operation: a mean, and percentiles from blocks in which each operation is timed.
    Latency,
    /// The number of overlapping operations per second.
    Rate,
    /// The time from sending a message in one process to its receipt in the other, and the receiver's CPU time.
    Delay,
}

/// The settings that apply to all benchmarks of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The CPUs of the first and of the second process.
    pub(crate) cpus: [usize; 2],
    /// True for a short run with less precise figures.
    pub(crate) quick: bool,
}

/// A benchmark.
pub struct Bench {
    /// The name on the command line.
    pub name: &'static str,
    /// A description of a few words.
    pub about: &'static str,
    /// The quantity that is measured.
    pub metric: Metric,
    /// The default message sizes in bytes.
    pub sizes: &'static [usize],
    /// The message sizes that the user may choose, in bytes; `None` if the sizes are fixed.
    pub allowed: Option<RangeInclusive<usize>>,
    /// The lowest number of operations in a block, unless the block would take more than four times as long as planned.
    pub min_operations: u64,
    /// The duration of a block, as a multiple of that of other benchmarks.
    pub(crate) block_factor: u32,
    /// The subjects, which are measured in turns.
    pub subjects: Vec<Subject>,
    /// Replaces the turns, for a benchmark without subjects.
    pub(crate) measure: Option<Measure>,
}

impl Bench {
    /// Creates a benchmark without subjects.
    pub fn new(name: &'static str, about: &'static str, metric: Metric, sizes: &'static [usize]) -> Self {
        Self {
            name,
            about,
            metric,
            sizes,
            allowed: None,
            min_operations: 1,
            block_factor: 1,
            subjects: Vec::new(),
            measure: None,
        }
    }
}
