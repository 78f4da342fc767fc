//! Runs a model, and says what it saw on the way: a model of a sleep in which nobody slept would prove nothing.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::faults::{Fault, inject};

/// Preemptions of a running thread in one execution; a thread that blocks or ends is not counted.
const PREEMPTIONS: usize = 4;
/// The same for models that have too many executions then.
const FEWER_PREEMPTIONS: usize = 3;
/// Steps of one execution. More means that a loop does not end.
const STEPS: usize = 10_000;

/// How often something happened in all executions of a model.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) executions: usize,
    /// Sleeps on the futex that only a wake-up ends.
    pub(crate) futex_sleeps: usize,
    /// Sleeps in `poll` on the lane.
    pub(crate) lane_sleeps: usize,
    /// Looks of a consumer that found nothing.
    pub(crate) empty_looks: usize,
    /// Posts for which there was no room.
    pub(crate) full: usize,
    /// Wake-ups that could not be sent.
    pub(crate) unsent: usize,
    /// Links that were followed, to the next ring and back to the first.
    pub(crate) next: usize,
    pub(crate) back: usize,
}

thread_local! {
    // loom runs all threads of a model on the thread that started it.
    static SEEN: Cell<Seen> = const { Cell::new(Seen {
        executions: 0, futex_sleeps: 0, lane_sleeps: 0, empty_looks: 0, full: 0, unsent: 0, next: 0, back: 0,
    }) };
}

/// Notes that something happened.
pub(crate) fn note(what: impl FnOnce(&mut Seen)) {
    let mut seen = SEEN.get();
    what(&mut seen);
    SEEN.set(seen);
}

/// Runs every execution of `model`; panics at the first that fails.
pub(crate) fn check(model: impl Fn() + Send + Sync + 'static) -> Seen {
    run(PREEMPTIONS, model)
}

/// The same for a large model.
pub(crate) fn check_large(model: impl Fn() + Send + Sync + 'static) -> Seen {
    run(FEWER_PREEMPTIONS, model)
}

fn run(preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> Seen {
    SEEN.set(Seen::default());
    let start = Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = STEPS;
    // Whatever the environment says: all of it.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    builder.check(move || {
        note(|seen| seen.executions += 1);
        model();
    });
    let seen = SEEN.get();
    let name = std::thread::current().name().unwrap_or("model").to_owned();
    println!("{name}: {:.1} s, {seen:?}", start.elapsed().as_secs_f64());
    seen
}

/// The same with `fault` built in: what the first failing execution said, or what a model that did not fail saw.
pub(crate) fn check_with(fault: Fault, model: impl Fn() + Send + Sync + 'static) -> Result<Seen, String> {
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
