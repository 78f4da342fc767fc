//! The policy of a shortage: how long a receiver naps before it tries again, and when it gives a message up.
//!
//! A message can carry more descriptors than this process has room for, and each attempt to receive it takes what room
//! there is, for a moment, from the other threads of the process. So attempts become rare and end, and large ones are
//! preceded by a count.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// The first nap of a receiver that met a shortage lasts 10 ms, and each further one twice as long.
const FIRST_NAP: Duration = Duration::from_millis(10);
/// A nap of a receiver that met a shortage lasts at most 1 s.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// At least 16 attempts for one message fail before it is given up.
const ATTEMPTS: u32 = 16;
/// A message is given up at the earliest 5 s after the first attempt failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The naps of a receiver that tries again by itself.
#[derive(Debug)]
pub(crate) struct ShortageNaps {
    next: Duration,
}

impl ShortageNaps {
    pub(crate) const NEW: Self = Self { next: FIRST_NAP };

    /// How long to nap after an attempt that failed.
    pub(crate) fn next(&mut self) -> Duration {
        let nap = self.next;
        self.next = LONGEST_NAP.min(nap * 2);
        nap
    }

    /// Something was received.
    pub(crate) fn reset(&mut self) {
        *self = Self::NEW;
    }
}

/// The failed attempts to receive the descriptors of one record.
#[derive(Default)]
pub(crate) struct DescriptorShortage {
    failed: Option<Failed>,
}

struct Failed {
    /// The number of the record.
    sequence: u64,
    attempts: u32,
    since: Instant,
}

impl DescriptorShortage {
    /// True if an attempt for the record `sequence` has failed.
    pub(crate) fn is_of(&self, sequence: u64) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.sequence == sequence)
    }

    /// Counts an attempt for the record `sequence` that failed at `now`. True if the message is to be given up.
    pub(crate) fn fail(&mut self, sequence: u64, now: Instant) -> bool {
        let before = self.failed.take().filter(|failed| failed.sequence == sequence);
        let Failed { attempts, since, .. } = before.unwrap_or(Failed { sequence, attempts: 0, since: now });
        let attempts = attempts.saturating_add(1);
        let is_last = attempts >= ATTEMPTS && now.duration_since(since) >= PATIENCE;
        self.failed = (!is_last).then_some(Failed { sequence, attempts, since });
        is_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_double_up_to_a_second_until_something_is_received() {
        let mut naps = ShortageNaps::NEW;
        let lengths: Vec<u128> = (0..9).map(|_| naps.next().as_millis()).collect();
        assert_eq!(lengths, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        naps.reset();
        assert_eq!(naps.next(), FIRST_NAP);
    }

    #[test]
    fn a_message_is_given_up_after_both_the_attempts_and_the_time() {
        let start = Instant::now();
        let mut shortage = DescriptorShortage::default();
        assert!(!shortage.is_of(7));
        // Many attempts in a short time.
        for milliseconds in 0..1000 {
            assert!(!shortage.fail(7, start + Duration::from_millis(milliseconds)));
        }
        assert!(shortage.is_of(7) && !shortage.is_of(8));
        assert!(!shortage.fail(7, start + PATIENCE - Duration::from_millis(1)));
        assert!(shortage.fail(7, start + PATIENCE));
        assert!(!shortage.is_of(7));
        // Few attempts in a long time, for another record.
        for second in 0..15 {
            assert!(!shortage.fail(8, start + Duration::from_secs(10 * second)));
        }
        assert!(shortage.fail(8, start + Duration::from_secs(200)));
    }

    #[test]
    fn each_record_has_its_own_attempts() {
        let start = Instant::now();
        let mut shortage = DescriptorShortage::default();
        for second in 0..15 {
            assert!(!shortage.fail(1, start + Duration::from_secs(second)));
        }
        for second in 15..30 {
            assert!(!shortage.fail(2, start + Duration::from_secs(second)));
        }
        assert!(shortage.fail(2, start + Duration::from_secs(30)));
    }
}
