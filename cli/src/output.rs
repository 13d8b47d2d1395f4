//! What goes to stdout: lines, tables, JSON. A reader that has gone ends the command quietly.

use std::io::{ErrorKind, Write};

use serde_json::Value;

use crate::exit::{Failure, Outcome};

pub(crate) fn line(text: impl AsRef<str>) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::quiet(),
        _ => Failure::system("write to stdout", error),
    })
}

pub(crate) fn json(value: &Value) -> Outcome {
    line(format!("{value:#}"))
}

/// Columns wide enough for their widest cell; the first row is the heading.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    pub(crate) fn print(&self) -> Outcome {
        line(self.render())
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(move |row| row.get(column));
            cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let lines: Vec<String> = self
            .rows
            .iter()
            .map(|row| {
                let cells: Vec<String> =
                    row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                cells.join("  ").trim_end().to_owned()
            })
            .collect();
        lines.join("\n")
    }
}

/// `6220800` → `6.2 MB` (powers of ten, as disks and networks are sold).
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `5470` → `5.5 µs`.
pub(crate) fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        assert_eq!(bytes(64), "64 B");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(6_220_800), "6.2 MB");
        assert_eq!(bytes(12_441_600_000), "12.4 GB");
        assert_eq!(nanoseconds(70.4), "70 ns");
        assert_eq!(nanoseconds(5470.0), "5.5 µs");
        assert_eq!(nanoseconds(2.5e9), "2.50 s");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["NAME", "PID"]);
        table.row(["front-camera".into(), "812".into()]);
        assert_eq!(table.render(), "NAME          PID\nfront-camera  812");
    }
}
