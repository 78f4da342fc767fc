//! Line charts, as SVG without a background. Text has the colour of the page's text.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;

use crate::error::{Error, Result};

use super::axis::{Axis, Scale};
use super::escape;
use super::palette::Colour;

/// Width and height of a chart in pixels. A phone shows it a quarter smaller.
const SIZE: (u32, u32) = (440, 320);
/// Its letters are a fifth smaller than this number of pixels.
const FONT: (&str, i32) = ("sans-serif", 17);
/// Colour of the grid and of the axes.
const GREY: RGBColor = RGBColor(128, 128, 128);
/// Lengths in pixels of the dashes and of the spaces between them; the first line of a colour is solid.
const DASHES: [(i32, i32); 6] = [(0, 0), (7, 4), (2, 4), (14, 4), (4, 9), (14, 10)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn refuse<E: std::fmt::Display>(error: E) -> Error {
    Error::failed(format_args!("cannot draw a chart: {error}"))
}

/// A line of a chart.
#[derive(Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) colour: Colour,
    /// The number of the series among those of the same colour, which determines its dashes.
    pub(crate) variant: usize,
    pub(crate) points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// False for a value that is marked as unreliable.
    pub(crate) reliable: bool,
}

impl Series {
    fn dashes(&self) -> (i32, i32) {
        DASHES[self.variant % DASHES.len()]
    }
}

/// Returns a line chart with a legend, or an empty string if there are no points.
pub(crate) fn line_chart(series: &[Series], x: &Axis, y: &Axis) -> Result<String> {
    let values =
        |of: fn(&Point) -> f64| -> Vec<f64> { series.iter().flat_map(|series| &series.points).map(of).collect() };
    let (xs, ys) = (values(|point| point.x), values(|point| point.y));
    if xs.is_empty() {
        return Ok(String::new());
    }
    let mut svg = String::new();
    {
        let area: Area<'_> = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&area, series, (x.scale(&xs), x), (y.scale(&ys), y))?;
        area.present().map_err(refuse)?;
    }
    Ok(svg + &legend(series))
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + (self.place(*value) * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

fn draw(area: &Area<'_>, series: &[Series], (xs, x): (Scale, &Axis), (ys, y): (Scale, &Axis)) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(30)
        .x_label_area_size(48)
        .y_label_area_size(88)
        .build_cartesian_2d(xs, ys)
        .map_err(refuse)?;
    chart
        .configure_mesh()
        .bold_line_style(GREY.mix(0.35))
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .x_desc(x.name)
        .y_desc(y.name)
        .label_style(FONT)
        .x_label_formatter(&|value| x.unit.text(*value))
        .y_label_formatter(&|value| y.unit.text(*value))
        .draw()
        .map_err(refuse)?;
    for series in series {
        let Colour(red, green, blue) = series.colour;
        let colour = RGBColor(red, green, blue);
        let points: Vec<(f64, f64)> = series.points.iter().map(|point| (point.x, point.y)).collect();
        match series.dashes() {
            (0, _) => chart.draw_series(LineSeries::new(points, colour.stroke_width(2))),
            (dash, space) => chart.draw_series(DashedLineSeries::new(points, dash, space, colour.stroke_width(2))),
        }
        .map_err(refuse)?;
        if series.points.len() < 12 {
            let dot = |point: &Point| {
                let style = if point.reliable { colour.filled() } else { colour.stroke_width(1) };
                Circle::new((point.x, point.y), if point.reliable { 3 } else { 5 }, style)
            };
            chart.draw_series(series.points.iter().map(dot)).map_err(refuse)?;
        }
    }
    Ok(())
}

fn legend(series: &[Series]) -> String {
    let entry = |series: &Series| {
        let (dash, space) = series.dashes();
        let dashes = if dash == 0 { String::new() } else { format!(" stroke-dasharray=\"{dash} {space}\"") };
        format!(
            "<span><svg class=\"key\" width=\"36\" height=\"8\"><line x1=\"0\" y1=\"4\" x2=\"36\" y2=\"4\" \
             stroke=\"{}\" stroke-width=\"2\"{dashes}/></svg>{}</span> ",
            series.colour,
            escape(&series.name)
        )
    };
    format!("<p class=\"legend\">{}</p>\n", series.iter().map(entry).collect::<String>())
}
