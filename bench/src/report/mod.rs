//! The report: a self-contained HTML page.

mod plots;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::figure::{Figure, cells};

use plots::{Axis, Bar, Series, Unit, bar_chart, distinct, escape, format_value, line_chart};

const STYLE: &str = "
:root { color-scheme: light dark; --page: #fff; --text: #1c1c1c; --faint: #6a6a6a; --line: #d8d8d8; --ours: #fdf0ea }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181c; --text: #e6e6e6; --faint: #a0a0a0; --line: #3a3d44; --ours: #33241c }
}
body { background: var(--page); color: var(--text); font: 15px/1.5 sans-serif; max-width: 1000px; margin: 2em auto;
  padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.25em; margin-top: 2.2em } h3 { font-size: 1em; margin: 1.6em 0 .3em }
svg { max-width: 100%; height: auto; display: block } svg text { fill: var(--text) }
.legend span { display: inline-block; margin-right: 1.2em; white-space: nowrap }
.legend i { display: inline-block; width: 1.4em; height: .35em; margin-right: .4em; vertical-align: middle }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .85em }
th, td { padding: .15em .7em; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { color: var(--faint); font-weight: normal } td:first-child { text-align: left }
.text { text-align: left }
tr.ours td { background: var(--ours) } p.faint { color: var(--faint) } summary { cursor: pointer }
";

/// The file for the report, opened before the first measurement so that a bad path is refused early.
pub(crate) struct Report {
    path: PathBuf,
    file: File,
}

impl Report {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // An existing report is kept until the new one is complete.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        match file {
            Ok(file) => Ok(Self { path: path.to_owned(), file }),
            Err(error) => Err(Error::refused(format_args!("cannot write the report {}: {error}", path.display()))),
        }
    }

    pub(crate) fn write(mut self, heading: &[String], about: &[(&str, &str)], figures: &[Figure]) -> Result<()> {
        let page = page(heading, about, figures)?;
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(page.as_bytes()));
        written.map_err(|error| Error::failed(format_args!("cannot write the report {}: {error}", self.path.display())))
    }
}

fn page(heading: &[String], about: &[(&str, &str)], figures: &[Figure]) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>messageport: benchmarks</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>messageport: benchmarks</h1>\n"
    );
    for line in heading {
        page += &format!("<p class=\"faint\">{}</p>\n", escape(line));
    }
    page += "<p>The subjects of a section were measured in turns, in short blocks. A mean is the median of the means of \
             the blocks; a ratio is the median of the ratios within each round. Bars have a logarithmic scale.</p>\n";
    for (bench, about) in about {
        let figures: Vec<Figure> = figures.iter().filter(|figure| figure.bench == *bench).cloned().collect();
        if figures.is_empty() {
            continue;
        }
        page += &format!("<h2>{}: {}</h2>\n", escape(bench), escape(about));
        page += &match *bench {
            "rtt" => trips(&figures)?,
            "throughput" => streams(&figures)?,
            "buffers" => buffers(&figures)?,
            "wake" => gaps(&figures)?,
            _ => times(&figures)?,
        };
        let open = if matches!(*bench, "rtt" | "throughput" | "wake" | "buffers") { "" } else { " open" };
        page += &format!("<details{open}><summary>All figures</summary>\n{}</details>\n", table(&figures));
    }
    Ok(page + "</body>\n</html>\n")
}

fn table(figures: &[Figure]) -> String {
    let (titles, rows) = cells(figures);
    let is_text = |column: usize| titles[column] == "ratio" || titles[column] == "placement";
    let row = |cells: &[String], cell: &str| -> String {
        let cell = |(column, text): (usize, &String)| {
            let class = if is_text(column) { " class=\"text\"" } else { "" };
            format!("<{cell}{class}>{}</{cell}>", escape(text))
        };
        cells.iter().enumerate().map(cell).collect()
    };
    let mut table = format!("<div class=\"scroll\"><table>\n<tr>{}</tr>\n", row(&titles, "th"));
    for (cells, figure) in rows.iter().zip(figures) {
        let class = if is_ours(figure) { " class=\"ours\"" } else { "" };
        table += &format!("<tr{class}>{}</tr>\n", row(cells, "td"));
    }
    table + "</table></div>\n"
}

/// Returns true for figures of messageport, which are highlighted.
fn is_ours(figure: &Figure) -> bool {
    figure.what == "messageport"
}

/// Returns the charts of round trips: means and percentiles for each size, separately for receivers that spin and
/// sleep.
fn trips(figures: &[Figure]) -> Result<String> {
    let mut section = String::new();
    for size in distinct(figures.iter().map(|figure| figure.size)) {
        let size_text = format_value(Unit::Bytes, size as f64);
        for (title, sleeps) in [("spinning", false), ("sleeping", true)] {
            let group: Vec<&Figure> =
                figures.iter().filter(|figure| figure.size == size && (figure.wait == "block") == sleeps).collect();
            if group.is_empty() {
                continue;
            }
            section += &format!("<h3>{size_text}, {title}: mean</h3>\n{}", means(&group)?);
            let series: Vec<Series> = group
                .iter()
                .filter(|figure| !figure.curve.is_empty())
                .map(|figure| Series {
                    name: figure.label(),
                    points: figure.curve.iter().map(|(share, ns)| (-(1.0 - share).log10(), *ns as f64)).collect(),
                })
                .collect();
            let x = Axis { name: "share of round trips", unit: Unit::Nines, logarithmic: false };
            let y = Axis { name: "completed within", unit: Unit::Nanoseconds, logarithmic: true };
            section += &format!("<h3>{size_text}, {title}: percentiles</h3>\n{}", line_chart(&series, &x, &y)?);
        }
    }
    Ok(section)
}

/// Returns a bar chart of means.
fn means(figures: &[&Figure]) -> Result<String> {
    let bar = |figure: &&Figure| {
        let value = figure.mean_ns?;
        let name = figure.label();
        Some(Bar { name, value, text: format_value(Unit::Nanoseconds, value), highlighted: is_ours(figure) })
    };
    bar_chart(figures.iter().filter_map(bar).collect())
}

/// Collects the points of all figures into one series per name.
fn series_by(figures: &[Figure], name: fn(&Figure) -> String, point: fn(&Figure) -> Option<(f64, f64)>) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for figure in figures {
        let Some(point) = point(figure) else { continue };
        let name = name(figure);
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name, points: vec![point] }),
        }
    }
    series
}

/// Returns the charts of streams: throughput over message size, and the time per message for each size.
fn streams(figures: &[Figure]) -> Result<String> {
    let x = Axis { name: "message size", unit: Unit::Bytes, logarithmic: true };
    let y = Axis { name: "throughput", unit: Unit::BytesPerSecond, logarithmic: true };
    let mut section = String::new();
    // A chart has at most twelve colours, so the other subjects are split into several charts.
    let series = series_by(figures, Figure::label, |figure| Some((figure.size as f64, figure.bytes_per_s?)));
    if series.iter().any(|series| series.points.len() > 1) {
        let (ours, others): (Vec<Series>, Vec<Series>) = series.into_iter().partition(|series| {
            ["messageport", "bare-ring", "memcpy"].iter().any(|name| series.name.starts_with(name))
        });
        section += &line_chart(&ours, &x, &y)?;
        let reference = ours.into_iter().filter(|series| series.name == "messageport recv_into spin");
        let others: Vec<Series> = reference.chain(others).collect();
        if others.len() > 2 {
            for part in others[1..].chunks(10) {
                let beside: Vec<Series> = std::iter::once(&others[0])
                    .chain(part)
                    .map(|series| Series { name: series.name.clone(), points: series.points.clone() })
                    .collect();
                section += &line_chart(&beside, &x, &y)?;
            }
        }
    }
    for size in distinct(figures.iter().map(|figure| figure.size)) {
        let group: Vec<&Figure> = figures.iter().filter(|figure| figure.size == size).collect();
        let title = format_value(Unit::Bytes, size as f64);
        section += &format!("<h3>{title}: time per message in a stream</h3>\n{}", means(&group)?);
    }
    Ok(section)
}

/// Returns the chart of buffers: round trip over buffer size.
fn buffers(figures: &[Figure]) -> Result<String> {
    let x = Axis { name: "buffer size", unit: Unit::Bytes, logarithmic: true };
    let y = Axis { name: "round trip", unit: Unit::Nanoseconds, logarithmic: true };
    let series = series_by(figures, Figure::label, |figure| Some((figure.size as f64, figure.mean_ns?)));
    line_chart(&series, &x, &y)
}

/// Returns the charts of messages with gaps: median delay and CPU use over the gap.
fn gaps(figures: &[Figure]) -> Result<String> {
    let x = Axis { name: "gap between messages", unit: Unit::Microseconds, logarithmic: true };
    let delay = Axis { name: "median delay", unit: Unit::Nanoseconds, logarithmic: true };
    let share = Axis { name: "CPU use of the receiver", unit: Unit::Share, logarithmic: false };
    let name = |figure: &Figure| Figure { gap_us: None, ..figure.clone() }.label();
    let delays = series_by(figures, name, |figure| Some((figure.gap_us? as f64, figure.p50_ns? as f64)));
    let shares = series_by(figures, name, |figure| Some((figure.gap_us? as f64, figure.cpu?)));
    Ok(line_chart(&delays, &x, &delay)? + &line_chart(&shares, &x, &share)?)
}

/// Returns the chart of means for other benchmarks.
fn times(figures: &[Figure]) -> Result<String> {
    means(&figures.iter().collect::<Vec<_>>())
}
