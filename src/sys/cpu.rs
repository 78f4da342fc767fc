//! Whether spinning can help at all: with one CPU to run on, the peer cannot move while we spin.

use std::cell::Cell;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

thread_local! {
    static MANY_CPUS: Cell<Option<bool>> = const { Cell::new(None) };
}

/// True if the calling thread may run on more than one CPU (sched_getaffinity(2)).
///
/// The answer is kept until [`forget_affinity`], which a thread calls after it slept: threads are rarely moved,
/// and a sleep costs far more than asking again.
#[inline]
pub(crate) fn may_spin() -> bool {
    MANY_CPUS.get().unwrap_or_else(ask)
}

#[cold]
fn ask() -> bool {
    let many = many_cpus();
    MANY_CPUS.set(Some(many));
    many
}

/// Makes the next [`may_spin`] ask the system again.
pub(crate) fn forget_affinity() {
    MANY_CPUS.set(None);
}

fn many_cpus() -> bool {
    // A mask that does not fit the fixed-size set means a machine with very many CPUs.
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return true };
    let allowed = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false));
    allowed.take(2).count() > 1
}
