//! Tables for Markdown.

use std::fmt::Write as _;

/// Cells in a form that Markdown shows as a table, the first row being its head.
pub(super) fn markdown<R: AsRef<[String]>>(rows: &[R]) -> String {
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let width = |column: usize| rows.iter().map(|row| row.as_ref()[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.as_ref().iter().zip(&widths) {
            write!(text, "| {cell:>width$} ").ok();
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                write!(text, "|{:->width$}:", "", width = width + 1).ok();
            }
            text.push_str("|\n");
        }
    }
    text
}
