//! Shared by the benchmarks with pinned threads: CPU affinity, timing and quantiles.

use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Returns the CPUs that this process may use.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect()
}

/// Pins the calling thread to one CPU.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Returns the mean duration of `trip` in nanoseconds over `trips` calls, after `warm_up` untimed ones.
pub(crate) fn time(warm_up: u32, trips: u32, mut trip: impl FnMut()) -> f64 {
    (0..warm_up).for_each(|_| trip());
    let start = Instant::now();
    (0..trips).for_each(|_| trip());
    start.elapsed().as_nanos() as f64 / f64::from(trips)
}

/// Returns the given quantile of the values, which must not be empty.
pub(crate) fn quantile(quantile: f64, values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() as f64 * quantile) as usize]
}
