//! Charts of one value for each subject: a dot on a logarithmic axis, as HTML that fits a screen of any width.

use super::axis::{Axis, Scale};
use super::escape;
use super::palette::Colour;

/// A row of a chart.
pub(crate) struct Dot {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) colour: Colour,
    /// What makes the value unreliable.
    pub(crate) doubt: Option<String>,
}

/// Returns a chart, the smallest value first, or an empty string without dots.
pub(crate) fn dot_chart(mut dots: Vec<Dot>, axis: &Axis) -> String {
    dots.retain(|dot| dot.value > 0.0);
    dots.sort_by(|one, other| one.value.total_cmp(&other.value));
    if dots.is_empty() {
        return String::new();
    }
    let scale = axis.scale(&dots.iter().map(|dot| dot.value).collect::<Vec<_>>());
    let percent = |value: f64| 100.0 * scale.place(value);
    let grid: String =
        scale.ticks.iter().map(|tick| format!("<u style=\"left:{:.2}%\"></u>", percent(*tick))).collect();
    let mut chart = String::from("<div class=\"dots\">\n");
    for Dot { name, value, colour, doubt } in &dots {
        let text = axis.unit.text(*value);
        let doubtful = if doubt.is_some() { " doubtful" } else { "" };
        let doubt = doubt.as_ref().map(|doubt| format!(" <em>{}</em>", escape(doubt))).unwrap_or_default();
        chart += &format!(
            "<div class=\"row{doubtful}\"><span class=\"name\">{}{doubt}</span><span class=\"track\">{grid}\
             <i style=\"left:{:.2}%;--dot:{colour}\"></i></span><span class=\"value\">{text}</span></div>\n",
            escape(name),
            percent(*value),
        );
    }
    chart + &ticks(axis, &scale) + "</div>\n"
}

fn ticks(axis: &Axis, scale: &Scale) -> String {
    let label =
        |tick: &f64| format!("<b style=\"left:{:.2}%\">{}</b>", 100.0 * scale.place(*tick), axis.unit.text(*tick));
    let labels: String = scale.ticks.iter().map(label).collect();
    let note = if scale.logarithmic { ", logarithmic" } else { "" };
    format!(
        "<div class=\"row axis\"><span class=\"name\">{}{note}</span><span class=\"track\">{labels}</span>\
         <span class=\"value\"></span></div>\n",
        axis.name
    )
}
