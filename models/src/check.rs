//! Runs a model and tallies what happened in it: a model of a sleep in which no thread slept would prove nothing.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::faults::{Fault, inject};

/// An execution has at most 4 preemptions of a running thread. A thread that blocks or ends does not count.
const PREEMPTIONS: usize = 4;
/// An execution of a large model has at most 3 preemptions of a running thread.
const FEWER_PREEMPTIONS: usize = 3;
/// An execution has at most 10 000 steps. More than these mean a loop that does not end.
const MAX_STEPS: usize = 10_000;

/// How often something happened in all executions of a model together.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) executions: usize,
    /// Sleeps on the futex that only a wake-up ends.
    pub(crate) futex_sleeps: usize,
    /// Sleeps in poll(2) on the lane.
    pub(crate) lane_sleeps: usize,
    /// Polls of a consumer that found nothing.
    pub(crate) empty_polls: usize,
    /// Posts for which there was no room.
    pub(crate) full: usize,
    /// Wake-ups that could not be sent.
    pub(crate) unsent: usize,
    /// `Next` links that a consumer followed.
    pub(crate) next: usize,
    /// `Back` links that a consumer followed.
    pub(crate) back: usize,
}

thread_local! {
    // loom runs all threads of a model on the thread that started it.
    static TALLY: Cell<Tally> = const { Cell::new(Tally {
        executions: 0, futex_sleeps: 0, lane_sleeps: 0, empty_polls: 0, full: 0, unsent: 0, next: 0, back: 0,
    }) };
}

/// Adds an event to the tally.
pub(crate) fn note(count: impl FnOnce(&mut Tally)) {
    let mut tally = TALLY.get();
    count(&mut tally);
    TALLY.set(tally);
}

/// Runs every execution of `model`. Panics at the first that fails.
pub(crate) fn check(model: impl Fn() + Send + Sync + 'static) -> Tally {
    run(PREEMPTIONS, model)
}

/// As [`check`], with fewer preemptions, for a model that would have too many executions.
pub(crate) fn check_large(model: impl Fn() + Send + Sync + 'static) -> Tally {
    run(FEWER_PREEMPTIONS, model)
}

fn run(preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> Tally {
    TALLY.set(Tally::default());
    let start = Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = MAX_STEPS;
    // No environment variable cuts the run short.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    builder.check(move || {
        note(|tally| tally.executions += 1);
        model();
    });
    let tally = TALLY.get();
    let name = std::thread::current().name().unwrap_or("model").to_owned();
    println!("{name}: {:.1} s, {tally:?}", start.elapsed().as_secs_f64());
    tally
}

/// Runs `model` with `fault` planted. Returns the message of the first execution that fails, or the tally of a model that
/// did not fail.
pub(crate) fn check_with(fault: Fault, model: impl Fn() + Send + Sync + 'static) -> Result<Tally, String> {
    inject(fault);
    let result = catch_unwind(AssertUnwindSafe(|| run(FEWER_PREEMPTIONS, model)));
    inject(Fault::None);
    result.map_err(|panic| text(panic.as_ref()))
}

fn text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without text".to_owned(),
    }
}
