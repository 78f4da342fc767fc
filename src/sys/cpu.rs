//! Whether spinning can help: the peer cannot run while this thread spins on a single CPU, or on one that it needs.

use std::cell::Cell;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

thread_local! {
    /// Whether this thread may run on more than one CPU; `None` until the system is queried.
    static MANY_CPUS: Cell<Option<bool>> = const { Cell::new(None) };
}

/// True if the calling thread may run on more than one CPU (sched_getaffinity(2)).
///
/// The result is kept until [`forget_affinity`], which a thread calls after it has slept: affinities rarely change, and
/// a sleep costs far more than the system call.
#[inline]
pub(crate) fn may_spin() -> bool {
    MANY_CPUS.get().unwrap_or_else(query)
}

#[cold]
fn query() -> bool {
    let many = many_cpus();
    MANY_CPUS.set(Some(many));
    many
}

/// Makes the next [`may_spin`] of this thread query the system again.
pub(crate) fn forget_affinity() {
    MANY_CPUS.set(None);
}

/// How often the calling thread has lost its CPU to another one while it could have gone on (getrusage(2)).
pub(crate) fn preemptions() -> u64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.involuntary_context_switches() as u64)
}

fn many_cpus() -> bool {
    // The call fails if the machine has more CPUs than the fixed-size set has bits, so there are many.
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return true };
    let allowed = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false));
    allowed.take(2).count() > 1
}
