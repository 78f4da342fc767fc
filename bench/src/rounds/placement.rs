//! The distance of the two CPUs, derived from the round trip of a word.

/// Round trip of a word in nanoseconds below which the two CPUs are threads of one core.
const ONE_CORE_NS: f64 = 45.0;
/// Round trip of a word in nanoseconds below which the two CPUs share a cache.
const NEAR_NS: f64 = 200.0;

/// The distance of the two CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Placement {
    OneCore,
    Near,
    Far,
    /// The distance changed during the round.
    Mixed,
    /// Both processes share one CPU.
    Same,
}

impl Placement {
    pub(super) const ALL: [Self; 5] = [Self::OneCore, Self::Near, Self::Far, Self::Mixed, Self::Same];

    /// Returns the placement for a round trip of a word in nanoseconds.
    pub(super) fn of(round_trip_ns: f64) -> Self {
        match round_trip_ns {
            ns if ns < ONE_CORE_NS => Self::OneCore,
            ns if ns < NEAR_NS => Self::Near,
            _ => Self::Far,
        }
    }

    /// Returns the name in tables and in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OneCore => "one core",
            Self::Near => "near",
            Self::Far => "far",
            Self::Mixed => "mixed",
            Self::Same => "same CPU",
        }
    }
}

/// Returns the most frequent placement and the indices of its rounds. `Mixed` is returned only if every round is mixed.
pub(super) fn majority(placements: &[Placement]) -> (Placement, Vec<usize>) {
    let rounds = |placement| (0..placements.len()).filter(|round| placements[*round] == placement).collect::<Vec<_>>();
    let steady = Placement::ALL.into_iter().filter(|placement| *placement != Placement::Mixed);
    let most = steady.max_by_key(|placement| rounds(*placement).len());
    match most.map(|placement| (placement, rounds(placement))) {
        Some((placement, rounds)) if !rounds.is_empty() => (placement, rounds),
        _ => (Placement::Mixed, rounds(Placement::Mixed)),
    }
}
