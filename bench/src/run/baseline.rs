//! The comparison of a run with an earlier one.

use std::path::Path;

use crate::error::{Error, Result};
use crate::figure::Figure;

/// The figures of an earlier run.
pub(crate) struct Baseline(Vec<Figure>);

impl Baseline {
    /// Reads the output of a run with `--json`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let refuse = |why: &dyn std::fmt::Display| {
            Error::refused(format_args!("cannot read the baseline {}: {why}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(&error))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let figures: Vec<Figure> =
            lines.map(serde_json::from_str).collect::<std::result::Result<_, _>>().map_err(|error| refuse(&error))?;
        if figures.is_empty() {
            return Err(refuse(&"it contains no figures"));
        }
        Ok(Self(figures))
    }

    /// Returns one line for each figure that both runs contain, with the ratios of this run to the baseline. The ratio
    /// to the limit was measured within each run, so it depends less on the state of the machine than the time does.
    pub(crate) fn lines(&self, figures: &[Figure]) -> Vec<String> {
        let line = |now: &Figure| {
            let then = self.0.iter().find(|then| then.is_same(now))?;
            let mut parts = Vec::new();
            let mut part = |name: &str, now: Option<f64>, then: Option<f64>| {
                if let (Some(now), Some(then)) = (now, then)
                    && then > 0.0
                {
                    parts.push(format!("{name} {:.2}", now / then));
                }
            };
            part("time", now.mean_ns, then.mean_ns);
            if now.against == then.against {
                part("ratio", now.ratio, then.ratio);
            }
            part("cpu", now.cpu, then.cpu);
            part("syscalls", now.syscalls, then.syscalls);
            part("allocations", now.allocations, then.allocations);
            part(
                "resident",
                now.resident_bytes.map(|bytes| bytes as f64),
                then.resident_bytes.map(|bytes| bytes as f64),
            );
            let placement = if now.placement == then.placement {
                String::new()
            } else {
                format!("  (placement {} then, {} now)", then.placement, now.placement)
            };
            let name = format!("{} {} {} B", now.bench, now.label(), now.size);
            (!parts.is_empty()).then(|| format!("{name:<58} x {}{placement}", parts.join(", ")))
        };
        figures.iter().filter_map(line).collect()
    }
}
