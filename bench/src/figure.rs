//! What was measured, as a line of JSON and as a line of a table.

use serde::{Deserialize, Serialize};

pub(crate) fn label(what: &str, call: &str, wait: &str, at: Option<(&str, u64)>) -> String {
    let mut label = what.to_owned();
    for word in [call, wait] {
        if !word.is_empty() && word != "none" {
            label += " ";
            label += word;
        }
    }
    if let Some((name, value)) = at {
        label += &format!(" {name}={value}");
    }
    label
}

/// One result: who did what, and the figures that apply. Times are nanoseconds of one operation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figure {
    /// The benchmark.
    pub bench: String,
    /// Who did it.
    pub what: String,
    /// By which call, if there are several.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub call: String,
    /// How the receiver waits.
    pub wait: String,
    /// Bytes of a message.
    pub size: usize,
    /// How many ports share a receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u64>,
    /// Microseconds between messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_us: Option<u64>,
    /// Median of the blocks' means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_ns: Option<f64>,
    /// The middle half of the blocks' means lies within this share of their median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Half of the single operations are faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<u64>,
    /// 99 % are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// 99.9 % are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_ns: Option<u64>,
    /// Operations that were timed one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Messages in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msgs_per_s: Option<f64>,
    /// Bytes of messages in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<f64>,
    /// Share of a CPU that the receiver used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// How often the first process slept for one operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeps: Option<f64>,
    /// System calls of one operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<f64>,
    /// Allocations of one operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocations: Option<f64>,
    /// Resident bytes of one pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Whether the two CPUs were near each other: `one core`, `near`, `far`, or `mixed`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub placement: String,
    /// Blocks that count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<usize>,
    /// Median of the ratios of the means, block by block: this one's to that of `against`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What it is compared with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub against: String,
    /// Pairs of a share of the operations and the time within which they were done, for plots.
    #[serde(skip)]
    pub curve: Vec<(f64, u64)>,
}

impl Figure {
    /// Its name in its bench, the same for all sizes.
    pub fn label(&self) -> String {
        let at = self.ports.map(|ports| ("ports", ports)).or(self.gap_us.map(|gap| ("gap_us", gap)));
        label(&self.what, &self.call, &self.wait, at)
    }

    /// True if both measure the same, in two runs.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.bench, self.label(), self.size) == (&other.bench, other.label(), other.size)
    }

    /// As one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text can be written")
    }
}

/// A column of the table: its title, and what a figure has to say.
type Column = (&'static str, fn(&Figure) -> Option<String>);

const COLUMNS: [Column; 15] = [
    ("bytes", |figure| (figure.size > 0).then(|| figure.size.to_string())),
    ("mean ns", |figure| figure.mean_ns.map(|ns| if ns < 10_000.0 { format!("{ns:.1}") } else { format!("{ns:.0}") })),
    ("+-", |figure| figure.spread.map(|spread| format!("{:.0}%", spread * 100.0))),
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

/// The figures of one bench as titles and rows of cells, without the columns that would be empty.
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

/// The same as lines of text.
pub(crate) fn table(figures: &[Figure]) -> Vec<String> {
    let (titles, mut rows) = cells(figures);
    let ratio = titles.iter().position(|title| title == "ratio");
    rows.insert(0, titles);
    let wide = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cell = |(column, cell): (usize, &String)| {
            // Names and ratios, which end in a name, begin at the left.
            let wide = wide(column);
            if column == 0 {
                format!("{cell:wide$}")
            } else if Some(column) == ratio {
                format!("  {cell}")
            } else {
                format!("  {cell:>wide$}")
            }
        };
        row.iter().enumerate().map(cell).collect()
    };
    rows.iter().map(line).collect()
}
