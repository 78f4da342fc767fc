//! The report: a self-contained HTML page.

// Imports point down this list only.
mod dots;
mod lines;
mod summary;
mod palette;
mod axis;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::figure::{Figure, LEGEND, cells};

use axis::{Axis, Unit};
use dots::{Dot, dot_chart};
use lines::{Point, Series, line_chart};
use palette::{OURS, Palette};
use summary::summary;

const STYLE: &str = include_str!("style.css");

/// A fact about the run: its name and its value.
pub(crate) type Fact = (&'static str, String);

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

    pub(crate) fn write(mut self, facts: &[Fact], suite: &[Bench], figures: &[Figure]) -> Result<()> {
        let page = page(facts, suite, figures)?;
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(page.as_bytes()));
        written.map_err(|error| Error::failed(format_args!("cannot write the report {}: {error}", self.path.display())))
    }
}

fn page(facts: &[Fact], suite: &[Bench], figures: &[Figure]) -> Result<String> {
    let palette = Palette::new(suite.iter().flat_map(|bench| &bench.subjects).map(|subject| subject.what));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>messageport: benchmarks</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>messageport: benchmarks</h1>\n"
    );
    page += &list("<ol class=\"summary\">", summary(figures).iter().map(|sentence| escape(sentence)), "</ol>");
    page += "<h3>This run</h3>\n<dl>\n";
    for (name, value) in facts {
        page += &format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value));
    }
    page += "</dl>\n";
    let measured = |bench: &&Bench| figures.iter().any(|figure| figure.bench == bench.name);
    let link = |bench: &Bench| format!("<a href=\"#{0}\">{0}</a>: {1}", escape(bench.name), escape(bench.about));
    let contents = suite.iter().filter(measured).map(link);
    page += &list("<h3>Contents</h3>\n<nav><ul>", contents, "</ul></nav>");
    page += "<h3>How to read it</h3>\n<p>The subjects of a section were measured in turns, in short blocks. A mean is \
             the median of the means of the blocks; a ratio is the median of the ratios within each round. Each \
             implementation has one colour on the whole page. A hollow dot and a row in italics are unreliable: the \
             middle half of their blocks spreads over more than 50 % of the mean.</p>\n";
    page += &list("<ul class=\"faint\">", LEGEND.iter().map(|line| escape(line)), "</ul>");
    for bench in suite.iter().filter(measured) {
        let figures: Vec<Figure> = figures.iter().filter(|figure| figure.bench == bench.name).cloned().collect();
        let section = Section { palette: &palette, figures: &figures };
        page += &format!("<section id=\"{0}\">\n<h2>{0}: {1}</h2>\n", escape(bench.name), escape(bench.about));
        page += &match bench.name {
            "rtt" => section.trips()?,
            "throughput" | "stream" => section.streams()?,
            "buffers" => section.buffers()?,
            "wake" => section.gaps()?,
            _ => section.times(),
        };
        let open = if matches!(bench.name, "memory" | "calls") { " open" } else { "" };
        page += &format!("<details{open}><summary>All figures</summary>\n{}</details>\n</section>\n", table(&figures));
    }
    Ok(page + "</body>\n</html>\n")
}

/// Returns items between the start and the end of a list, or an empty string if there are none.
fn list(start: &str, items: impl Iterator<Item = String>, end: &str) -> String {
    let items: String = items.map(|item| format!("<li>{item}</li>\n")).collect();
    if items.is_empty() { items } else { format!("{start}\n{items}{end}\n") }
}

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
        let ours = if figure.what == OURS { "ours" } else { "" };
        let doubtful = if figure.doubt().is_some() { "doubtful" } else { "" };
        table += &format!("<tr class=\"{ours} {doubtful}\">{}</tr>\n", row(cells, "td"));
    }
    table + "</table></div>\n"
}

const TIME: Axis = Axis { name: "mean time", unit: Unit::Nanoseconds };

/// The figures of one benchmark, which become charts.
struct Section<'a> {
    palette: &'a Palette,
    figures: &'a [Figure],
}

impl Section<'_> {
    /// Returns the charts of round trips: means and percentiles for each size, separately for receivers that spin and
    /// sleep.
    fn trips(&self) -> Result<String> {
        let mut section = String::new();
        for (size, title) in self.sizes() {
            for (wait, sleeps) in [("spinning", false), ("sleeping", true)] {
                let group: Vec<&Figure> = self
                    .figures
                    .iter()
                    .filter(|figure| figure.size == size && (figure.wait == "block") == sleeps)
                    .collect();
                let curves: Vec<Series> = group
                    .iter()
                    .filter(|figure| !figure.curve.is_empty())
                    .map(|figure| Series {
                        points: figure
                            .curve
                            .iter()
                            .map(|(share, ns)| Point { x: -(1.0 - share).log10(), y: *ns as f64, reliable: true })
                            .collect(),
                        ..self.series(figure)
                    })
                    .collect();
                let x = Axis { name: "share of round trips", unit: Unit::Nines };
                let y = Axis { name: "completed within", unit: Unit::Nanoseconds };
                section += &format!(
                    "<h3>{title}, {wait}</h3>\n{}",
                    charts(&[
                        ("Mean of a round trip", self.means(&group)),
                        ("Percentiles of a round trip", line_chart(&curves, &x, &y)?)
                    ])
                );
            }
        }
        Ok(section)
    }

    /// Returns the charts of streams: throughput over message size, and the time per message for each size.
    fn streams(&self) -> Result<String> {
        // Lines of more series than this are not told apart in one chart.
        const TOGETHER: usize = 10;
        let x = Axis { name: "message size", unit: Unit::Bytes };
        let y = Axis { name: "throughput", unit: Unit::BytesPerSecond };
        let mut series = self.series_by(|figure| Some((figure.size as f64, figure.bytes_per_s?)));
        series.retain(|series| series.points.len() > 1);
        let mut lines = Vec::new();
        if series.len() <= TOGETHER {
            lines.push(("Throughput", line_chart(&series, &x, &y)?));
        } else {
            // The others stand beside the first series of messageport.
            let own = |series: &Series| [OURS, "bare-ring", "memcpy"].iter().any(|name| series.name.starts_with(name));
            let (own, others): (Vec<Series>, Vec<Series>) = series.into_iter().partition(own);
            lines.push(("Throughput of messageport", line_chart(&own, &x, &y)?));
            let first = own.iter().find(|series| series.name.starts_with(OURS));
            for part in others.chunks(TOGETHER - 1) {
                let beside: Vec<Series> = first.into_iter().chain(part).cloned().collect();
                lines.push(("Throughput of others", line_chart(&beside, &x, &y)?));
            }
        }
        let mut section = charts(&lines);
        for (size, title) in self.sizes() {
            let group: Vec<&Figure> = self.figures.iter().filter(|figure| figure.size == size).collect();
            section += &format!("<h3>{title}</h3>\n{}", charts(&[("Mean time of a message", self.means(&group))]));
        }
        Ok(section)
    }

    /// Returns the chart of buffers: round trip over buffer size.
    fn buffers(&self) -> Result<String> {
        let x = Axis { name: "buffer size", unit: Unit::Bytes };
        let y = Axis { name: "round trip", unit: Unit::Nanoseconds };
        let series = self.series_by(|figure| Some((figure.size as f64, figure.mean_ns?)));
        Ok(charts(&[("Mean of a round trip", line_chart(&series, &x, &y)?)]))
    }

    /// Returns the charts of messages with gaps: median delay and CPU use over the gap.
    fn gaps(&self) -> Result<String> {
        let x = Axis { name: "gap between messages", unit: Unit::Microseconds };
        let delay = Axis { name: "median delay", unit: Unit::Nanoseconds };
        let share = Axis { name: "CPU use of the receiver", unit: Unit::Share };
        let delays = self.series_by(|figure| Some((figure.gap_us? as f64, figure.p50_ns? as f64)));
        let shares = self.series_by(|figure| Some((figure.gap_us? as f64, figure.cpu?)));
        Ok(charts(&[
            ("Delay of a message", line_chart(&delays, &x, &delay)?),
            ("CPU use while waiting", line_chart(&shares, &x, &share)?),
        ]))
    }

    /// Returns the chart of means for other benchmarks.
    fn times(&self) -> String {
        charts(&[("Mean time", self.means(&self.figures.iter().collect::<Vec<_>>()))])
    }

    /// Returns the sizes in ascending order, each with its title.
    fn sizes(&self) -> impl Iterator<Item = (usize, String)> {
        let sizes: BTreeSet<usize> = self.figures.iter().map(|figure| figure.size).collect();
        sizes.into_iter().map(|size| (size, Unit::Bytes.text(size as f64)))
    }

    /// Returns a chart of means.
    fn means(&self, figures: &[&Figure]) -> String {
        let dot = |figure: &&Figure| {
            let (value, colour) = (figure.mean_ns?, self.palette.colour(figure));
            Some(Dot { name: figure.label(), value, colour, doubt: figure.doubt() })
        };
        dot_chart(figures.iter().filter_map(dot).collect(), &TIME)
    }

    /// Returns the series of a subject, without points.
    fn series(&self, figure: &Figure) -> Series {
        // A gap is a coordinate, not a part of the name.
        let name = |figure: &Figure| Figure { gap_us: None, curve: Vec::new(), ..figure.clone() }.label();
        let mut variants: Vec<String> = Vec::new();
        for other in self.figures.iter().filter(|other| other.what == figure.what).map(name) {
            if !variants.contains(&other) {
                variants.push(other);
            }
        }
        let name = name(figure);
        let variant = variants.iter().position(|variant| *variant == name).unwrap_or(0);
        Series { name, colour: self.palette.colour(figure), variant, points: Vec::new() }
    }

    /// Collects the points of all figures into one series per subject.
    fn series_by(&self, point: fn(&Figure) -> Option<(f64, f64)>) -> Vec<Series> {
        let mut all: Vec<Series> = Vec::new();
        for figure in self.figures {
            let Some((x, y)) = point(figure) else { continue };
            let point = Point { x, y, reliable: figure.doubt().is_none() };
            let new = self.series(figure);
            match all.iter_mut().find(|series| series.name == new.name) {
                Some(series) => series.points.push(point),
                None => all.push(Series { points: vec![point], ..new }),
            }
        }
        all
    }
}

/// Places charts with their titles beside each other, as far as the screen is wide enough.
fn charts(charts: &[(&str, String)]) -> String {
    let figure =
        |(title, chart): &(&str, String)| format!("<figure><figcaption>{title}</figcaption>\n{chart}</figure>\n");
    let drawn: String = charts.iter().filter(|(_, chart)| !chart.is_empty()).map(figure).collect();
    if drawn.is_empty() { drawn } else { format!("<div class=\"figures\">\n{drawn}</div>\n") }
}
