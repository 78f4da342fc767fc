//! The machine that the figures come from, and what a process can ask of it.

use std::fmt;
use std::fs::read_to_string;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// What is known of the machine; it shows itself in one line.
#[derive(Debug)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    governor: Option<String>,
    memory_gib: u64,
}

impl Machine {
    /// This machine.
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
            memory_gib: line("/proc/meminfo", "MemTotal").and_then(kib).unwrap_or(0) >> 30,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel, governor, memory_gib } = self;
        let governor = governor.as_deref().unwrap_or("not readable");
        write!(f, "{processor}, {cores} CPUs, {memory_gib} GiB, Linux {kernel}, frequency governor {governor}")
    }
}

/// Bytes of memory that can still be had.
pub fn available_memory() -> Option<u64> {
    let meminfo = read_to_string("/proc/meminfo").ok()?;
    meminfo.lines().find_map(|line| kib(line.strip_prefix("MemAvailable:")?.to_owned()))
}

/// Bytes of this process that are in memory now. (`VmRSS` of the status may be off by some hundred KiB.)
pub(crate) fn resident_memory() -> Result<u64> {
    let maps = read_to_string("/proc/self/smaps_rollup").map_err(Error::of("cannot see the resident memory"))?;
    let resident = maps.lines().find_map(|line| kib(line.strip_prefix("Rss:")?.to_owned()));
    resident.ok_or_else(|| Error::failed("the system does not tell the resident memory"))
}

/// `"12 kB"` in bytes.
fn kib(text: String) -> Option<u64> {
    text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The two CPUs to measure on; twice the same one if there is no other.
pub(crate) fn allowed_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(Error::of("cannot see the allowed CPUs"))?;
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let first = cpus.next().ok_or_else(|| Error::failed("no CPU is allowed"))?;
    Ok([first, cpus.next().unwrap_or(first)])
}

/// Keeps the calling thread on one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    allow(&[cpu])
}

/// Keeps a thread of any process of ours on one CPU.
pub fn pin_thread(thread: i32, cpu: usize) -> Result<()> {
    allow_thread(thread, &[cpu])
}

/// Keeps the calling thread on these CPUs.
pub(crate) fn allow(cpus: &[usize]) -> Result<()> {
    allow_thread(0, cpus)
}

fn allow_thread(thread: i32, cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu)).map_err(Error::of("no such CPU"))?;
    sched_setaffinity(Pid::from_raw(thread), &set).map_err(Error::of("cannot stay on a CPU"))
}

/// Nanoseconds of a clock that all processes share.
#[inline]
pub(crate) fn now() -> u64 {
    nanos(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds that this process has had of all CPUs.
pub(crate) fn cpu_time() -> u64 {
    nanos(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

#[inline]
fn nanos(clock: ClockId) -> u64 {
    // Both clocks are there on every Linux.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// How often this process gave up its CPU to wait.
pub(crate) fn sleeps() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(Error::of("cannot count the sleeps"))?;
    Ok(usage.voluntary_context_switches().unsigned_abs())
}

/// Most descriptors that this process can be allowed to have.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard)
}

/// Allows as many descriptors as the system lets us have.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let limit = descriptor_limit();
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).map_err(Error::of("cannot raise the descriptor limit"))
}
