//! Figures beside their references and targets: as a table for people and as JSON.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

/// What a figure has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Shown only.
    None,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figure {
    /// The suite.
    pub(crate) suite: &'static str,
    /// What was measured.
    pub(crate) name: String,
    /// Our value.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// The reference's value in the same unit, measured in the same run.
    pub(crate) reference: Option<f64>,
    /// What is compared with the target: the value itself, or a ratio or difference to the reference.
    pub(crate) compared: f64,
    /// How `compared` comes about, such as `x reference`.
    pub(crate) how: &'static str,
    /// What it has to be.
    pub(crate) target: Target,
    /// Further numbers.
    pub(crate) details: Value,
}

impl Figure {
    /// A value that stands for itself.
    pub(crate) fn new(suite: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let name = name.into();
        let (reference, target) = (None, Target::None);
        Self { suite, name, value, unit, reference, compared: value, how: unit, target, details: Value::Null }
    }

    /// Beside a reference that is only shown.
    pub(crate) fn beside(mut self, reference: f64) -> Self {
        self.reference = Some(reference);
        self
    }

    /// Compared with the target as a multiple of the reference.
    pub(crate) fn times(mut self, reference: f64) -> Self {
        self.reference = Some(reference);
        (self.compared, self.how) = (self.value / reference, "x reference");
        self
    }

    /// Compared with the target by a number that was found otherwise, such as the median of many ratios.
    pub(crate) fn compared(mut self, number: f64, how: &'static str) -> Self {
        (self.compared, self.how) = (number, how);
        self
    }

    /// What it has to reach.
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Further numbers for the JSON.
    pub(crate) fn details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// Whether it reaches its target; a figure without one does.
    pub(crate) fn good(&self) -> bool {
        match self.target {
            Target::AtMost(most) => self.compared <= most,
            Target::AtLeast(least) => self.compared >= least,
            Target::None => true,
        }
    }

    fn row(&self) -> [String; 5] {
        let reference = self.reference.map_or_else(String::new, |value| format!("{} {}", shown(value), self.unit));
        let compared =
            if self.how == self.unit { String::new() } else { format!("{} {}", shown(self.compared), self.how) };
        let target = match self.target {
            Target::AtMost(most) => format!("{} <= {}", verdict(self.good()), shown(most)),
            Target::AtLeast(least) => format!("{} >= {}", verdict(self.good()), shown(least)),
            Target::None => String::new(),
        };
        [
            format!("{}: {}", self.suite, self.name),
            format!("{} {}", shown(self.value), self.unit),
            reference,
            compared,
            target,
        ]
    }
}

fn verdict(good: bool) -> &'static str {
    if good { "ok  " } else { "MISS" }
}

fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The table as text.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["figure", "measured", "reference", "compared", "target"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(figures.iter().map(Figure::row)).collect();
    let mut widths = [0_usize; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes the figures and the machine they were measured on.
pub(crate) fn write(figures: &[Figure], path: &Path) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let text = json!({
        "machine": {"cores": cores, "kernel": kernel.trim(), "loadAverage": load.trim()},
        "figures": figures,
    });
    std::fs::write(path, format!("{text:#}\n")).with_context(|| format!("cannot write {}", path.display()))
}

/// Says something to whoever runs the bench; the figures themselves go to standard output.
pub(crate) fn say(text: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "[bench] {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_held_against_its_target() {
        let figure = Figure::new("s", "n", 30.0, "us").times(10.0).target(Target::AtMost(2.0));
        assert!(!figure.good() && table(&[figure]).contains("3.00 x reference  MISS <= 2.00"));
        let figure = Figure::new("s", "n", 1.5, "us").compared(0.5, "us over").target(Target::AtMost(1.0));
        assert!(figure.good() && table(&[figure]).contains("0.50 us over  ok   <= 1.00"));
        assert!(!Figure::new("s", "n", 0.5, "x").target(Target::AtLeast(0.7)).good());
    }
}
