//! Plots of rows a second over bundle size, as SVG: a panel for each id, a line for each way.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::BenchError;
use crate::figures::{Figure, ROWS_PER_SECOND, WAYS, WayName};
use crate::work::WORK;

/// File, title, and how the ids begin that are in it.
pub const PLOTS: [(&str, &str, &str); 2] =
    [("benchmarks-rust.svg", "Rust UDFs", "rust-"), ("benchmarks-python.svg", "Python UDFs", "python-")];

const PANEL: (u32, u32) = (420, 300);
const COLUMNS: usize = 2;
const HEAD: u32 = 56;

fn look(way: WayName) -> (&'static str, RGBColor) {
    match way {
        WayName::Wasmill => ("Wasmill", RGBColor(0x1b, 0x5f, 0xc1)),
        WayName::Process => ("worker process", RGBColor(0xd5, 0x6a, 0x00)),
        WayName::Native => ("native", RGBColor(0x77, 0x77, 0x77)),
    }
}

/// Draws what of `figures` belongs into the plot whose ids begin with `prefix`.
///
/// # Errors
/// [`BenchError::Plot`].
pub fn draw(path: &Path, title: &str, prefix: &str, figures: &[Figure]) -> Result<(), BenchError> {
    let mut panels: Vec<(&str, &str)> = Vec::new();
    // Work for one or two bundle sizes is a table, not a line.
    for work in WORK.iter().filter(|work| work.id.starts_with(prefix) && work.bundles.len() > 2) {
        panels.push((work.id, work.stat));
    }
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, HEAD + PANEL.1 * rows as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| BenchError::Plot { path: path.to_owned(), problem: error.to_string() };
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let (head, body) = area.split_vertically(HEAD);
    heading(&head, title).map_err(|error| failed(&*error))?;
    for ((id, stat), place) in panels.iter().zip(body.split_evenly((rows, COLUMNS))) {
        panel(&place, id, stat, figures).map_err(|error| failed(&*error))?;
    }
    area.present().map_err(|error| failed(&error))
}

type Drawn<'a> = Result<(), Box<dyn std::error::Error + 'a>>;

fn heading<'a>(area: &DrawingArea<SVGBackend<'a>, Shift>, title: &str) -> Drawn<'a> {
    let bold = ("sans-serif", 17).into_font().style(FontStyle::Bold);
    area.draw(&Text::new(format!("{title}: rows/s over rows a call"), (12, 10), bold))?;
    let mut x = 12;
    for way in WAYS {
        let (name, color) = look(way);
        area.draw(&PathElement::new([(x, 42), (x + 24, 42)], color.stroke_width(2)))?;
        area.draw(&Circle::new((x + 12, 42), 3, color.filled()))?;
        area.draw(&Text::new(name, (x + 30, 35), ("sans-serif", 13).into_font()))?;
        x += 150;
    }
    Ok(())
}

fn panel<'a>(area: &DrawingArea<SVGBackend<'a>, Shift>, id: &str, stat: &str, figures: &[Figure]) -> Drawn<'a> {
    let points = |way: WayName| {
        let own = figures.iter().filter(move |figure| {
            figure.id == id && figure.stat == stat && figure.way == way && figure.unit == ROWS_PER_SECOND
        });
        own.map(|figure| (figure.bundle as f64, figure.value)).collect::<Vec<_>>()
    };
    let all = || WAYS.into_iter().flat_map(points);
    let (least, most) = all().fold((f64::MAX, 0.0_f64), |(least, most), (_, y)| (least.min(y), most.max(y)));
    if most == 0.0 {
        return Ok(());
    }
    // Whole powers of ten, as the grid has them.
    let (low, high) = (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()));
    let name = if stat == crate::work::PLAIN { id.to_owned() } else { format!("{id}, {stat}") };
    let mut chart = ChartBuilder::on(area)
        .caption(name, ("sans-serif", 15))
        .margin(8)
        .margin_right(20)
        .x_label_area_size(26)
        .y_label_area_size(52)
        .build_cartesian_2d((0.8..12_500.0).log_scale(), (low..high).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .x_label_formatter(&|rows| format!("{rows:.0}"))
        .y_label_formatter(&|pace| short(*pace))
        .label_style(("sans-serif", 12))
        .draw()?;
    for way in WAYS {
        let color = look(way).1;
        chart.draw_series(LineSeries::new(points(way), color.stroke_width(2)))?;
        chart.draw_series(points(way).into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
    }
    Ok(())
}

/// `20 M`.
fn short(value: f64) -> String {
    match value {
        1e9.. => format!("{:.0} G", value / 1e9),
        1e6.. => format!("{:.0} M", value / 1e6),
        _ => format!("{:.0} k", value / 1e3),
    }
}
