//! Times: nanoseconds in an `int64_t`.

use std::time::{Duration, Instant};

/// The timeout of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timeout {
    /// 0: the call does not wait.
    Poll,
    For(Duration),
    /// Negative, `MSGPORT_FOREVER`: the call waits without limit.
    Forever,
}

impl Timeout {
    pub(crate) fn of(nanoseconds: i64) -> Self {
        match u64::try_from(nanoseconds) {
            Ok(0) => Self::Poll,
            Ok(nanoseconds) => Self::For(Duration::from_nanos(nanoseconds)),
            Err(_) => Self::Forever,
        }
    }

    /// The longest time to wait. `None` is no limit.
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Self::Poll => Some(Duration::ZERO),
            Self::For(time) => Some(time),
            Self::Forever => None,
        }
    }

    /// The value of a time in options, where 0 is the default, which is `None` here.
    pub(crate) fn option(nanoseconds: i64) -> Option<Duration> {
        match Self::of(nanoseconds) {
            Self::Poll => None,
            timeout => Some(timeout.limit().unwrap_or(Duration::MAX)),
        }
    }
}

/// The duration of a spin, where negative is without limit.
pub(crate) fn duration(nanoseconds: i64) -> Duration {
    Timeout::of(nanoseconds).limit().unwrap_or(Duration::MAX)
}

/// One timeout for several waits in a row.
pub(crate) enum Deadline {
    /// No wait has a limit, or none of them waits.
    Each(Timeout),
    Until(Instant),
}

impl Deadline {
    pub(crate) fn of(timeout: Timeout) -> Self {
        match timeout {
            // A timeout that overflows `Instant` means no deadline.
            Timeout::For(time) => Instant::now().checked_add(time).map_or(Self::Each(Timeout::Forever), Self::Until),
            _ => Self::Each(timeout),
        }
    }

    pub(crate) fn left(&self) -> Timeout {
        match self {
            Self::Each(timeout) => *timeout,
            Self::Until(deadline) => Timeout::For(deadline.saturating_duration_since(Instant::now())),
        }
    }
}
