//! A clock that costs less than the monotonic one and ticks once in 1 to 10 ms.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since the system started, as of the last tick of the kernel (`CLOCK_MONOTONIC_COARSE` of
/// clock_gettime(2)). 0 where there is no such clock.
pub(crate) fn coarse() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
