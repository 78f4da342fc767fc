//! Where the two CPUs are, as the round trip of a bare word tells it.

/// A round trip of a bare word is below this on one physical core, ...
const ONE_CORE_NS: f64 = 45.0;
/// ... and below this where both CPUs share a cache.
const NEAR_NS: f64 = 200.0;

/// Where the two CPUs are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Placement {
    OneCore,
    Near,
    Far,
    /// It changed during the round.
    Mixed,
    /// Both processes share a CPU.
    Same,
}

impl Placement {
    pub(super) const ALL: [Self; 5] = [Self::OneCore, Self::Near, Self::Far, Self::Mixed, Self::Same];

    /// That of a round trip of so many nanoseconds.
    pub(super) fn of(round_trip_ns: f64) -> Self {
        match round_trip_ns {
            ns if ns < ONE_CORE_NS => Self::OneCore,
            ns if ns < NEAR_NS => Self::Near,
            _ => Self::Far,
        }
    }

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

/// The placement that most rounds had, and which rounds those were. A change is a placement only if there is no other.
pub(super) fn majority(placements: &[Placement]) -> (Placement, Vec<usize>) {
    let rounds = |placement| (0..placements.len()).filter(|round| placements[*round] == placement).collect::<Vec<_>>();
    let steady = Placement::ALL.into_iter().filter(|placement| *placement != Placement::Mixed);
    let most = steady.max_by_key(|placement| rounds(*placement).len());
    match most.map(|placement| (placement, rounds(placement))) {
        Some((placement, rounds)) if !rounds.is_empty() => (placement, rounds),
        _ => (Placement::Mixed, rounds(Placement::Mixed)),
    }
}
