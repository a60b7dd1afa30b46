//! Utilisation over time, a curve for each policy: an SVG, and a page that needs nothing from elsewhere.

use std::fmt::Write as _;

use plotters::prelude::{
    BLACK, ChartBuilder, Color as _, IntoDrawingArea as _, LineSeries, Palette as _, Palette99, PathElement, SVGBackend,
    SeriesLabelPosition, WHITE,
};

use super::Outcome;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 420;

/// The curves.
///
/// # Errors
/// When the drawing can't be made, which would be a fault of the kit.
pub fn svg(outcomes: &[Outcome]) -> Result<String, String> {
    let mut text = String::new();
    draw(outcomes, &mut text).map_err(|error| format!("drawing the curves: {error}"))?;
    Ok(text)
}

fn draw(outcomes: &[Outcome], text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(text, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    let hours = outcomes.iter().flat_map(|outcome| &outcome.curve).map(|(time, _)| time / 3600.0).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .caption("accelerators at work", ("sans-serif", 18))
        .x_label_area_size(36)
        .y_label_area_size(46)
        .build_cartesian_2d(0.0..hours, 0.0..1.0)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .x_desc("hours")
        .y_label_formatter(&|share: &f64| format!("{:.0}%", share * 100.0))
        .draw()
        .map_err(|error| error.to_string())?;
    for (number, outcome) in outcomes.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let series = chart
            .draw_series(LineSeries::new(steps(&outcome.curve), colour.stroke_width(2)))
            .map_err(|error| error.to_string())?;
        series
            .label(outcome.policy.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .map_err(|error| error.to_string())?;
    area.present().map_err(|error| error.to_string())?;
    Ok(())
}

/// A value holds until the next one.
fn steps(curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(curve.len() * 2);
    for (time, share) in curve {
        let hours = time / 3600.0;
        if let Some((_, before)) = points.last().copied() {
            points.push((hours, before));
        }
        points.push((hours, *share));
    }
    points
}

/// A page with the curves and the figures.
///
/// # Errors
/// As [`svg`].
pub fn html(outcomes: &[Outcome]) -> Result<String, String> {
    let mut rows = String::new();
    for outcome in outcomes {
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{:.1}%</td><td>{:.1}%</td><td>{:.0} s</td><td>{:.0} s</td><td>{}</td><td>{}</td></tr>",
            escaped(&outcome.policy),
            outcome.utilisation * 100.0,
            outcome.fragmentation * 100.0,
            outcome.wait_p50,
            outcome.wait_p99,
            outcome.wedged,
            outcome.never
        );
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Policies compared</title>\n\
         <body style=\"margin:16px;font-family:system-ui,sans-serif\">\n{}\n\
         <table cellpadding=\"6\"><tr align=\"left\"><th>policy</th><th>utilisation</th><th>fragmentation</th><th>wait p50</th><th>wait p99</th>\
         <th>wedged</th><th>never placed</th></tr>\n{rows}</table>\n</body></html>\n",
        svg(outcomes)?
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
