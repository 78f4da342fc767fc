//! The machine: its description, CPU affinity, clocks, resource use and limits.

use std::fmt;
use std::fs::read_to_string;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// A description of the machine, displayed as one line.
#[derive(Debug)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    governor: Option<String>,
    memory_gib: u64,
}

impl Machine {
    /// Describes this machine.
    pub(crate) fn here() -> Self {
        let line = |file: &str, name: &str| {
            let text = read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let governor = read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok();
        Self {
            processor: line("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            governor: governor.map(|governor| governor.trim().to_owned()),
            memory_gib: line("/proc/meminfo", "MemTotal").and_then(parse_kib).unwrap_or(0) >> 30,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel, governor, memory_gib } = self;
        let governor = governor.as_deref().unwrap_or("unknown");
        write!(f, "{processor}, {cores} CPUs, {memory_gib} GiB, Linux {kernel}, frequency governor {governor}")
    }
}

/// Returns the available memory of the machine in bytes (`MemAvailable`), or `None` if it cannot be read.
pub fn available_memory() -> Option<u64> {
    let meminfo = read_to_string("/proc/meminfo").ok()?;
    meminfo.lines().find_map(|line| parse_kib(line.strip_prefix("MemAvailable:")?.to_owned()))
}

/// Returns the average number of running tasks in the last minute (`/proc/loadavg`), or `None` if it cannot be read.
pub(crate) fn load_average() -> Option<String> {
    Some(read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.to_owned())
}

/// Returns the resident memory of this process in bytes. It reads `smaps_rollup`, since `VmRSS` in `status` can be off
/// by several hundred KiB.
pub(crate) fn resident_memory() -> Result<u64> {
    let maps = read_to_string("/proc/self/smaps_rollup").map_err(Error::of("cannot read the resident memory"))?;
    let resident = maps.lines().find_map(|line| parse_kib(line.strip_prefix("Rss:")?.to_owned()));
    resident.ok_or_else(|| Error::failed("smaps_rollup does not contain the resident memory"))
}

/// Converts a size like `12 kB`, as in `/proc`, to bytes.
fn parse_kib(text: String) -> Option<u64> {
    text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the first two CPUs that this process may use, or one CPU twice if no other is allowed.
pub(crate) fn allowed_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(Error::of("cannot read the CPU affinity"))?;
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let first = cpus.next().ok_or_else(|| Error::failed("no CPU is allowed"))?;
    Ok([first, cpus.next().unwrap_or(first)])
}

/// Pins the calling thread to one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    allow(&[cpu])
}

/// Pins a thread, given by its ID and of any process of this user, to one CPU.
pub fn pin_thread(thread: i32, cpu: usize) -> Result<()> {
    allow_thread(thread, &[cpu])
}

/// Restricts the calling thread to these CPUs.
pub(crate) fn allow(cpus: &[usize]) -> Result<()> {
    allow_thread(0, cpus)
}

fn allow_thread(thread: i32, cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu)).map_err(Error::of("no such CPU"))?;
    sched_setaffinity(Pid::from_raw(thread), &set).map_err(Error::of("cannot set the CPU affinity"))
}

/// Returns the time of the monotonic clock in nanoseconds. All processes share its origin.
#[inline]
pub(crate) fn now() -> u64 {
    nanos(ClockId::CLOCK_MONOTONIC)
}

/// Returns the CPU time of this process in nanoseconds.
pub(crate) fn cpu_time() -> u64 {
    nanos(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

#[inline]
fn nanos(clock: ClockId) -> u64 {
    // Reading these two clocks cannot fail on Linux.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// Returns the number of voluntary context switches of this process.
pub(crate) fn sleeps() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(Error::of("cannot read the number of context switches"))?;
    Ok(usage.voluntary_context_switches().unsigned_abs())
}

/// Returns the hard limit of open descriptors.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard)
}

/// Raises the soft limit of open descriptors to the hard limit.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let limit = descriptor_limit();
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).map_err(Error::of("cannot raise the descriptor limit"))
}
