//! A measured result, as a line of JSON and as a row of a table.

use serde::{Deserialize, Serialize};

/// Returns the name of a subject: `what`, `call`, `wait` and `parameter`, without the parts that do not apply.
pub(crate) fn label(what: &str, call: &str, wait: &str, parameter: Option<(&str, u64)>) -> String {
    let mut label = what.to_owned();
    for word in [call, wait] {
        if !word.is_empty() && word != "none" {
            label += " ";
            label += word;
        }
    }
    if let Some((name, value)) = parameter {
        label += &format!(" {name}={value}");
    }
    label
}

/// Largest spread of a reliable mean, as a share of it.
const RELIABLE_SPREAD: f64 = 0.5;

/// What the columns of the table mean, one line for each question.
pub(crate) const LEGEND: [&str; 2] = [
    "mean: whole blocks of operations, +- the middle half of the blocks (? above 50%: unreliable); p50, p99, p999: each \
     operation timed, which adds 20-30 ns to it",
    "near, far: a word goes to the other CPU and back in less, or more, than 200 ns; one core: in less than 45 ns",
];

/// One result: a subject and the figures that apply to it. Times are nanoseconds per operation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figure {
    /// The name of the benchmark.
    pub bench: String,
    /// The implementation that was measured.
    pub what: String,
    /// The call or mode that was measured; empty if the implementation has only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub call: String,
    /// The way in which the receiver waited.
    pub wait: String,
    /// Message size in bytes.
    pub size: usize,
    /// Number of ports that share the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u64>,
    /// Gap between messages in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_us: Option<u64>,
    /// Median of the means of the blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_ns: Option<f64>,
    /// Interquartile range of the means of the blocks, as a share of their median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Median of the individually timed operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<u64>,
    /// 99th percentile of the individually timed operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// 99.9th percentile of the individually timed operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_ns: Option<u64>,
    /// Number of operations behind the percentiles or counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Messages per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msgs_per_s: Option<f64>,
    /// Message bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<f64>,
    /// CPU time of the receiver, as a share of the elapsed time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Voluntary context switches of the first process per operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeps: Option<f64>,
    /// System calls per operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<f64>,
    /// Allocations per operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocations: Option<f64>,
    /// Resident memory of one pair in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Distance of the two CPUs: `one core`, `near`, `far`, `mixed` (it changed) or `same CPU`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub placement: String,
    /// Number of blocks behind the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<usize>,
    /// Median of the ratios within each round: the mean of this subject divided by the mean of `against`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The label of the subject in the denominator of `ratio`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub against: String,
    /// Points of the percentile curve for plots: a share of the operations, and their longest time in nanoseconds.
    #[serde(skip)]
    pub curve: Vec<(f64, u64)>,
}

impl Figure {
    /// Returns the name of the subject within its bench, the same for all sizes.
    pub fn label(&self) -> String {
        let parameter = self.ports.map(|ports| ("ports", ports)).or(self.gap_us.map(|gap| ("gap_us", gap)));
        label(&self.what, &self.call, &self.wait, parameter)
    }

    /// Returns what makes the mean unreliable, if anything does.
    pub(crate) fn doubt(&self) -> Option<String> {
        let spread = self.spread.filter(|spread| *spread > RELIABLE_SPREAD)?;
        Some(format!("unreliable: spread {:.0} %", spread * 100.0))
    }

    /// Returns true if both figures are of the same subject and size, in two runs.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.bench, self.label(), self.size) == (&other.bench, other.label(), other.size)
    }

    /// Returns the figure as one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text always serialize")
    }
}

/// A column of the table: its title, and the text of its cell for a figure.
type Column = (&'static str, fn(&Figure) -> Option<String>);

const COLUMNS: [Column; 15] = [
    ("bytes", |figure| (figure.size > 0).then(|| figure.size.to_string())),
    ("mean ns", |figure| figure.mean_ns.map(|ns| if ns < 10_000.0 { format!("{ns:.1}") } else { format!("{ns:.0}") })),
    ("+-", |figure| figure.spread.map(|spread| spread_cell(figure, spread))),
    ("p50 ns", |figure| figure.p50_ns.map(|ns| ns.to_string())),
    ("p99 ns", |figure| figure.p99_ns.map(|ns| ns.to_string())),
    ("p999 ns", |figure| figure.p999_ns.map(|ns| ns.to_string())),
    ("M msg/s", |figure| figure.msgs_per_s.map(|rate| format!("{:.3}", rate / 1e6))),
    ("GiB/s", |figure| figure.bytes_per_s.map(|rate| format!("{:.2}", rate / (1u64 << 30) as f64))),
    ("cpu", |figure| figure.cpu.map(|share| format!("{:.2}%", share * 100.0))),
    ("sleeps", |figure| figure.sleeps.map(|count| format!("{count:.2}"))),
    ("syscalls", |figure| figure.syscalls.map(|count| format!("{count:.4}"))),
    ("allocations", |figure| figure.allocations.map(|count| format!("{count:.4}"))),
    ("resident", |figure| figure.resident_bytes.map(|bytes| bytes.to_string())),
    ("placement", |figure| Some(figure.placement.clone()).filter(|placement| !placement.is_empty())),
    ("ratio", |figure| figure.ratio.map(|ratio| format!("{ratio:.2} x {}", figure.against))),
];

fn spread_cell(figure: &Figure, spread: f64) -> String {
    let mark = if figure.doubt().is_some() { "?" } else { "" };
    format!("{:.0}%{mark}", spread * 100.0)
}

/// Returns the figures of one bench as column titles and rows of cells, without empty columns.
pub(crate) fn cells(figures: &[Figure]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut titles = vec![String::new()];
    let mut rows: Vec<Vec<String>> = figures.iter().map(|figure| vec![figure.label()]).collect();
    for (title, cell) in COLUMNS {
        let column: Vec<Option<String>> = figures.iter().map(cell).collect();
        if column.iter().any(Option::is_some) {
            titles.push(title.to_owned());
            for (row, cell) in rows.iter_mut().zip(column) {
                row.push(cell.unwrap_or_else(|| "-".to_owned()));
            }
        }
    }
    (titles, rows)
}

/// Returns the figures of one bench as lines of text, the titles first.
pub(crate) fn table(figures: &[Figure]) -> Vec<String> {
    let (titles, mut rows) = cells(figures);
    let ratio = titles.iter().position(|title| title == "ratio");
    rows.insert(0, titles);
    let width_of = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cell = |(column, cell): (usize, &String)| {
            // Names and ratios, which end in a name, are aligned to the left.
            let width = width_of(column);
            if column == 0 {
                format!("{cell:width$}")
            } else if Some(column) == ratio {
                format!("  {cell}")
            } else {
                format!("  {cell:>width$}")
            }
        };
        row.iter().enumerate().map(cell).collect()
    };
    rows.iter().map(line).collect()
}
