//! What a benchmark is: subjects that are measured in turns, beside each other.

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::figure::{Figure, label};
use crate::link::{Player, Wait};
use crate::session::Session;

/// Measures in its own way.
type Once = fn(&Setting) -> Result<Vec<Figure>>;

type Open = Box<dyn Fn(&Session, usize) -> Result<Box<dyn Player>>>;

/// One thing that is measured.
pub struct Subject {
    /// Who does it.
    pub what: &'static str,
    /// By which call or in which way, if there are several.
    pub call: &'static str,
    /// How the receiver waits.
    pub wait: Wait,
    /// Another number that distinguishes it: its name and value.
    pub at: Option<(&'static str, u64)>,
    /// With what it is compared: that one's label, and its size if it is another one.
    pub against: Option<(String, Option<usize>)>,
    /// Operations that a block has in any case.
    pub(crate) fewest: u64,
    /// Why it is not measured.
    pub(crate) left_out: Option<String>,
    /// True for the sizes that it can do.
    sizes: Box<dyn Fn(usize) -> bool>,
    open: Open,
}

impl Subject {
    /// A subject; `open` is called on both sides.
    pub fn new<P: Player + 'static>(
        what: &'static str,
        call: &'static str,
        wait: Wait,
        open: impl Fn(&Session, usize) -> Result<P> + 'static,
    ) -> Self {
        let open: Open = Box::new(move |session, size| Ok(Box::new(open(session, size)?)));
        Self { what, call, wait, at: None, against: None, fewest: 1, left_out: None, sizes: Box::new(|_| true), open }
    }

    /// Compares it with the subject that has this label, at the same size.
    pub fn against(mut self, label: impl Into<String>) -> Self {
        self.against = Some((label.into(), None));
        self
    }

    /// Compares it with the subject that has this label, at one size.
    pub fn against_size(mut self, label: impl Into<String>, size: usize) -> Self {
        self.against = Some((label.into(), Some(size)));
        self
    }

    /// Another number that distinguishes it.
    pub fn at(mut self, name: &'static str, value: u64) -> Self {
        self.at = Some((name, value));
        self
    }

    /// Only the sizes for which this is true.
    pub fn sizes(mut self, sizes: impl Fn(usize) -> bool + 'static) -> Self {
        self.sizes = Box::new(sizes);
        self
    }

    /// Leaves it out, and says why. Both processes keep its place.
    pub fn leave_out(&mut self, why: impl Into<String>) {
        self.left_out = Some(why.into());
    }

    pub(crate) fn can(&self, size: usize) -> bool {
        self.left_out.is_none() && (self.sizes)(size)
    }

    /// Its name in its bench, the same for all sizes.
    pub fn label(&self) -> String {
        label(self.what, self.call, self.wait.name(), self.at)
    }

    pub(crate) fn open(&self, session: &Session, size: usize) -> Result<Box<dyn Player>> {
        (self.open)(session, size)
    }
}

/// What an operation is, and so which figures say something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Has a duration: a mean, and percentiles from blocks in which each one is timed.
    Latency,
    /// Is one of many that overlap: a rate.
    Rate,
    /// Is timed one by one from process to process; the CPU time used is of interest too.
    Delay,
}

/// What is the same for all benchmarks of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The CPUs of the two processes.
    pub(crate) cpus: [usize; 2],
    /// A look is enough.
    pub(crate) quick: bool,
}

/// A benchmark.
pub struct Bench {
    /// What the user calls it.
    pub name: &'static str,
    /// What it measures, in a few words.
    pub about: &'static str,
    /// What its operations are.
    pub kind: Kind,
    /// Bytes of a message, unless the user says so.
    pub sizes: &'static [usize],
    /// The sizes that the user may ask for; none if messages have one size.
    pub allowed: Option<RangeInclusive<usize>>,
    /// Operations that a block has, unless it would take much longer than others.
    pub fewest: u64,
    /// What is measured in turns.
    pub subjects: Vec<Subject>,
    /// What is measured another way, once.
    pub(crate) once: Option<Once>,
}

impl Bench {
    /// A benchmark of the given kind.
    pub fn new(name: &'static str, about: &'static str, kind: Kind, sizes: &'static [usize]) -> Self {
        Self { name, about, kind, sizes, allowed: None, fewest: 1, subjects: Vec::new(), once: None }
    }
}
