//! Markdown as GitHub reads it.

use super::{Cell, Column, Results};

pub fn write(results: &Results) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(results.columns.iter().map(title).collect());
    text +=
        &line(results.columns.iter().map(|column| if column.is_number { "--:" } else { ":--" }.to_string()).collect());
    results.rows.iter().for_each(|row| text += &line(row.cells.iter().map(cell).collect()));
    if !results.caption.is_empty() {
        text += &format!("\n{}\n", escaped(&results.caption));
    }
    text
}

fn title(column: &Column) -> String {
    let arrow = match column.higher_is_better {
        Some(true) => " ↑",
        Some(false) => " ↓",
        None => "",
    };
    format!("{}{arrow}", escaped(&column.title))
}

fn cell(cell: &Cell) -> String {
    let text = escaped(&cell.text);
    let text = if cell.is_best { format!("**{text}**") } else { text };
    match &cell.interval {
        Some((low, high)) => format!("{text} [{}, {}]", escaped(low), escaped(high)),
        None => text,
    }
}

/// Text that Markdown shows as it is, on one line.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '#' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
