//! The table that a run prints.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::measure::Times;

/// One figure beside what it is to be compared with.
#[derive(Debug)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// Over how much.
    pub(crate) size: String,
    /// How long it took.
    pub(crate) figure: Figure,
    /// What it must not exceed, in the figure's unit.
    pub(crate) target: Option<f64>,
    /// Something of the same run, and its median.
    pub(crate) beside: Option<(String, f64)>,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Figure {
    /// Microseconds.
    Times(Times),
    /// Bytes.
    Bytes(u64),
}

impl Line {
    /// A line of times without a target or anything beside.
    pub(crate) fn new(what: impl Into<String>, size: impl Into<String>, times: Times) -> Self {
        Self { what: what.into(), size: size.into(), figure: Figure::Times(times), target: None, beside: None }
    }

    /// Its 99th percentile must not exceed so many microseconds.
    pub(crate) fn within(self, micros: f64) -> Self {
        Self { target: Some(micros), ..self }
    }

    /// Compares medians.
    pub(crate) fn beside(self, what: &str, times: Times) -> Self {
        Self { beside: Some((what.to_owned(), times.p50)), ..self }
    }

    /// The part of the target that is used; above 1 it is missed.
    fn share(&self) -> Option<f64> {
        let figure = match self.figure {
            Figure::Times(times) => times.p99,
            #[expect(clippy::cast_precision_loss, reason = "a table shows two digits")]
            Figure::Bytes(bytes) => bytes as f64,
        };
        self.target.map(|target| figure / target)
    }

    /// Whether it exceeds its target.
    pub(crate) fn is_missed(&self) -> bool {
        self.share().is_some_and(|share| share > 1.0)
    }

    fn cells(&self) -> Vec<Cell> {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let (p50, p99, wall, target) = match self.figure {
            Figure::Times(Times { p50, p99, p99_wall }) => (micros(p50), micros(p99), micros(p99_wall), self.target.map(micros)),
            Figure::Bytes(size) => {
                (String::new(), bytes(size), String::new(), self.target.map(|target| format!("{:.0} MB", target / 1e6)))
            }
        };
        let share = number(self.share().map_or_else(String::new, |share| format!("{share:.2}")));
        let ratio = self.beside.as_ref().zip(self.median()).map(|((what, beside), own)| format!("{:.2} × {what}", own / beside));
        let (what, size, ratio) = (Cell::new(&self.what), Cell::new(&self.size), Cell::new(ratio.unwrap_or_default()));
        vec![what, size, number(p50), number(p99), number(wall), number(target.unwrap_or_default()), share, ratio]
    }

    fn median(&self) -> Option<f64> {
        match self.figure {
            Figure::Times(times) => Some(times.p50),
            Figure::Bytes(_) => None,
        }
    }
}

/// The lines as text.
pub(crate) fn table(lines: &[Line]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["WHAT", "SIZE", "P50", "P99", "WALL P99", "TARGET", "P99/TARGET", "P50 BESIDE"]);
    table.add_rows(lines.iter().map(Line::cells));
    table
}

fn micros(micros: f64) -> String {
    if micros >= 10_000.0 {
        format!("{:.1} ms", micros / 1000.0)
    } else if micros >= 100.0 {
        format!("{micros:.0} µs")
    } else {
        format!("{micros:.1} µs")
    }
}

fn bytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
