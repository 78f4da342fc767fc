//! Quartiles, percentile curves and rounding.

use hdrhistogram::Histogram;

/// Rounds to one decimal.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Returns the points of a percentile curve, eight per nine: the share of operations, and their longest time.
pub(super) fn curve(latencies: &Histogram<u64>) -> Vec<(f64, u64)> {
    let points = (latencies.len() as f64).log10() * 8.0;
    let share = |point: u32| 1.0 - 10f64.powf(-f64::from(point) / 8.0);
    (0..=points as u32).map(|point| (share(point), latencies.value_at_quantile(share(point)))).collect()
}

/// Returns the lower quartile, the median and the upper quartile, interpolated linearly; NaN if there are no values.
pub(super) fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (values.len() - 1) as f64;
        let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
        low + (high - low) * place.fract()
    };
    if values.is_empty() { [f64::NAN; 3] } else { [at(0.25), at(0.5), at(0.75)] }
}
