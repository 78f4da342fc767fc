//! The charts of the report, as SVG without a background. Text has the colour of the page's text, and lines have
//! colours that are visible on light and on dark pages.

use std::collections::BTreeSet;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::error::{Error, Result};

/// Width of a chart in pixels.
const WIDTH: u32 = 760;
const FONT: (&str, i32) = ("sans-serif", 13);
/// Colour of the grid and of the axes.
const GREY: RGBColor = RGBColor(128, 128, 128);

/// Colours of series, in order.
const COLOURS: [RGBColor; 12] = [
    RGBColor(226, 88, 34),
    RGBColor(46, 134, 222),
    RGBColor(39, 160, 90),
    RGBColor(170, 90, 200),
    RGBColor(200, 150, 20),
    RGBColor(20, 160, 170),
    RGBColor(220, 70, 130),
    RGBColor(120, 130, 60),
    RGBColor(110, 110, 220),
    RGBColor(180, 110, 80),
    RGBColor(90, 150, 190),
    RGBColor(140, 140, 140),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn refuse<E: std::fmt::Display>(error: E) -> Error {
    Error::failed(format_args!("cannot draw a chart: {error}"))
}

/// A line of a line chart.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A bar of a bar chart.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// The text behind the bar.
    pub(crate) text: String,
    /// True for a bar in the first colour.
    pub(crate) highlighted: bool,
}

/// The unit of an axis, which determines its labels.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    BytesPerSecond,
    Microseconds,
    Share,
    /// `-log10` of a share: 1 is 90 %, 2 is 99 %.
    Nines,
}

impl Unit {
    fn text(self, value: f64) -> String {
        let scaled = |units: &[&str], step: f64| {
            let (mut value, mut unit) = (value, 0);
            while value >= step && unit + 1 < units.len() {
                value /= step;
                unit += 1;
            }
            // Three significant digits, without trailing zeros.
            let digits = if value >= 99.95 {
                0
            } else if value >= 9.995 {
                1
            } else {
                2
            };
            let text = format!("{value:.digits$}");
            let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            format!("{text} {}", units[unit])
        };
        match self {
            Self::Nanoseconds => scaled(&["ns", "us", "ms", "s"], 1000.0),
            Self::Microseconds => scaled(&["us", "ms", "s"], 1000.0),
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

/// Formats `value` with its unit.
pub(crate) fn format_value(unit: Unit, value: f64) -> String {
    unit.text(value)
}

/// Returns horizontal bars on a logarithmic scale, the shortest first.
pub(crate) fn bar_chart(mut bars: Vec<Bar>) -> Result<String> {
    // Height of a row, width of the names, and width of the texts behind the bars, in pixels.
    const ROW: i32 = 22;
    const NAMES: i32 = 270;
    const TEXTS: i32 = 110;
    bars.retain(|bar| bar.value > 0.0);
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    let Some(least) = bars.first().map(|bar| bar.value) else {
        return Ok(String::new());
    };
    let most = bars.last().map_or(least, |bar| bar.value);
    let mut svg = String::new();
    {
        let height = bars.len() as i32 * ROW + 8;
        let area: Area<'_> = SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area();
        let room = f64::from(WIDTH as i32 - NAMES - TEXTS);
        for (row, bar) in bars.iter().enumerate() {
            let top = row as i32 * ROW + 4;
            // The shortest bar has a tenth of the full length, so that it is visible.
            let share = if most > least { (bar.value / least).ln() / (most / least).ln() } else { 1.0 };
            let end = NAMES + (room * (0.1 + 0.9 * share)) as i32;
            let colour = if bar.highlighted { COLOURS[0] } else { COLOURS[10] };
            let rectangle = Rectangle::new([(NAMES, top + 2), (end, top + ROW - 4)], colour.filled());
            area.draw(&rectangle).map_err(refuse)?;
            let name = Text::new(bar.name.clone(), (4, top + 3), FONT.into_font());
            area.draw(&name).map_err(refuse)?;
            let value = Text::new(bar.text.clone(), (end + 6, top + 3), FONT.into_font());
            area.draw(&value).map_err(refuse)?;
        }
        area.present().map_err(refuse)?;
    }
    Ok(svg)
}

/// An axis of a line chart.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) logarithmic: bool,
}

impl Axis {
    /// Returns the base of the labels of a logarithmic axis.
    fn base(&self) -> f64 {
        if matches!(self.unit, Unit::Bytes) { 4.0 } else { 10.0 }
    }
}

/// Returns a line chart with a legend, or an empty string if there are no points.
pub(crate) fn line_chart(series: &[Series], x: &Axis, y: &Axis) -> Result<String> {
    let points = || series.iter().flat_map(|series| &series.points);
    if points().next().is_none() {
        return Ok(String::new());
    }
    let range = |of: fn(&(f64, f64)) -> f64, axis: &Axis| {
        let (low, high) =
            points().map(of).fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if axis.logarithmic { low / 1.15..high * 1.15 } else { low.min(0.0)..(high * 1.05).max(low + 0.01) }
    };
    let (xs, ys) = (range(|point| point.0, x), range(|point| point.1, y));
    let mut svg = String::new();
    {
        let area: Area<'_> = SVGBackend::with_string(&mut svg, (WIDTH, 360)).into_drawing_area();
        match (x.logarithmic, y.logarithmic) {
            (true, true) => draw(&area, series, (xs.log_scale().base(x.base()), x), (ys.log_scale(), y)),
            (true, false) => draw(&area, series, (xs.log_scale().base(x.base()), x), (ys, y)),
            (false, true) => draw(&area, series, (xs, x), (ys.log_scale(), y)),
            (false, false) => draw(&area, series, (xs, x), (ys, y)),
        }?;
        area.present().map_err(refuse)?;
    }
    Ok(svg + &legend(series))
}

fn draw<X, Y>(area: &Area<'_>, series: &[Series], (xs, x): (X, &Axis), (ys, y): (Y, &Axis)) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(30)
        .x_label_area_size(42)
        .y_label_area_size(86)
        .build_cartesian_2d(xs, ys)
        .map_err(refuse)?;
    chart
        .configure_mesh()
        .bold_line_style(GREY.mix(0.35))
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .x_desc(x.name)
        .y_desc(y.name)
        .x_labels(9)
        .y_labels(9)
        .label_style(FONT)
        .x_label_formatter(&|value| x.unit.text(*value))
        .y_label_formatter(&|value| y.unit.text(*value))
        .draw()
        .map_err(refuse)?;
    for (index, series) in series.iter().enumerate() {
        let colour = colour(index);
        let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2));
        chart.draw_series(line).map_err(refuse)?;
        if series.points.len() < 12 {
            let dots = series.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots).map_err(refuse)?;
        }
    }
    Ok(())
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

fn legend(series: &[Series]) -> String {
    let entry = |(index, series): (usize, &Series)| {
        let RGBColor(red, green, blue) = colour(index);
        format!("<span><i style=\"background:rgb({red},{green},{blue})\"></i>{}</span>", escape(&series.name))
    };
    format!("<p class=\"legend\">{}</p>", series.iter().enumerate().map(entry).collect::<String>())
}

/// Escapes text for HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns the distinct values in ascending order.
pub(crate) fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> BTreeSet<T> {
    values.collect()
}
