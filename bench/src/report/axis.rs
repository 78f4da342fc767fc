//! Axes: units, ends and ticks.

/// The unit of an axis, which determines its labels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    BytesPerSecond,
    Microseconds,
    Share,
    /// `-log10` of the rest of a share: 1 is 90 %, 2 is 99 %.
    Nines,
}

impl Unit {
    /// Formats a value with three significant digits and its unit.
    pub(crate) fn text(self, value: f64) -> String {
        let scaled = |units: &[&str], step: f64| {
            let (mut value, mut unit) = (value, 0);
            while value >= step && unit + 1 < units.len() {
                value /= step;
                unit += 1;
            }
            format!("{} {}", digits(value), units[unit])
        };
        match self {
            Self::Nanoseconds => scaled(&["ns", "us", "ms", "s"], 1000.0),
            Self::Microseconds => scaled(&["us", "ms", "s"], 1000.0),
            // A size that is no multiple of 1 KiB is exact in bytes only.
            Self::Bytes if value % 1024.0 != 0.0 && value < 1e6 => format!("{value:.0} B"),
            Self::Bytes => scaled(&["B", "KiB", "MiB", "GiB"], 1024.0),
            Self::BytesPerSecond => scaled(&["B/s", "kB/s", "MB/s", "GB/s"], 1000.0),
            Self::Share => format!("{:.0} %", value * 100.0),
            Self::Nines => {
                let digits = (value.round() as usize).saturating_sub(2);
                format!("{:.digits$} %", (1.0 - 10f64.powf(-value)) * 100.0)
            }
        }
    }
}

/// Formats a number with three significant digits, without trailing zeros.
pub(crate) fn digits(value: f64) -> String {
    let places = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// An axis of a chart.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
}

/// The ends and the labelled ticks of an axis.
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<f64>,
    pub(crate) logarithmic: bool,
}

/// Largest number of ticks of an axis, so that their labels do not touch on a narrow screen.
const MAX_TICKS: usize = 6;

impl Axis {
    /// Returns the scale on which the values of this axis are drawn. Shares begin at zero; all else is logarithmic.
    pub(crate) fn scale(&self, values: &[f64]) -> Scale {
        let low = values.iter().copied().fold(f64::MAX, f64::min);
        let high = values.iter().copied().fold(f64::MIN, f64::max);
        match self.unit {
            Unit::Share => Scale {
                low: 0.0,
                high: high.max(1.0) * 1.04,
                ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0],
                logarithmic: false,
            },
            Unit::Nines => {
                let shares =
                    [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999].map(|share: f64| -(1.0 - share).log10());
                let high = high.max(shares[3]) * 1.04;
                let ticks = shares.into_iter().filter(|nines| *nines < high).collect();
                Scale { low: 0.0, high, ticks, logarithmic: false }
            }
            // What was chosen has its ticks where it was measured.
            Unit::Bytes | Unit::Microseconds => {
                let (low, high) = (low / 1.15, high * 1.15);
                let mut ticks: Vec<f64> = Vec::new();
                let mut sorted = values.to_vec();
                sorted.sort_unstable_by(f64::total_cmp);
                let room = (high / low).powf(1.0 / (MAX_TICKS + 1) as f64);
                for value in sorted {
                    if ticks.last().is_none_or(|last| value >= last * room) {
                        ticks.push(value);
                    }
                }
                Scale { low, high, ticks, logarithmic: true }
            }
            Unit::Nanoseconds | Unit::BytesPerSecond => {
                let (low, high) = (step_below(low), step_above(high));
                let steps = std::iter::successors(Some(low), |step| Some(step_above(*step * 1.01)));
                let steps: Vec<f64> = steps.take_while(|step| *step <= high * 1.01).collect();
                let tens = |step: &f64| (step.log10() - step.log10().round()).abs() < 1e-6;
                let tens: Vec<f64> = steps.iter().copied().filter(tens).collect();
                let ticks = match (steps.len() <= MAX_TICKS, tens.len()) {
                    (true, _) => steps,
                    (false, ..3) => steps.into_iter().step_by(2).collect(),
                    (false, 3..=MAX_TICKS) => tens,
                    (false, _) => tens.into_iter().step_by(2).collect(),
                };
                Scale { low, high, ticks, logarithmic: true }
            }
        }
    }
}

impl Scale {
    /// Returns the place of a value as a share of the axis.
    pub(crate) fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

/// Returns the largest of 1, 2, 5, 10, 20, 50, ... below `value`.
fn step_below(value: f64) -> f64 {
    let ten = 10f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|step| step * ten).find(|step| *step < value).unwrap_or(ten / 2.0)
}

/// Returns the smallest of 1, 2, 5, 10, 20, 50, ... above `value`.
fn step_above(value: f64) -> f64 {
    let ten = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * ten).find(|step| *step > value).unwrap_or(ten * 10.0)
}
