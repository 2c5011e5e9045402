//! LaTeX with the rules of the package booktabs.

use super::{Cell, Column, Results};

pub fn write(results: &Results) -> String {
    let align: String = results.columns.iter().map(|column| if column.is_number { 'r' } else { 'l' }).collect();
    let line = |cells: Vec<String>| format!("    {} \\\\\n", cells.join(" & "));
    let mut text = String::from("% \\usepackage{booktabs}\n\\begin{table}\n  \\centering\n");
    text += &format!("  \\caption{{{}}}\n  \\label{{tab:{}}}\n", escaped(&results.caption), label(&results.name));
    text += &format!("  \\begin{{tabular}}{{{align}}}\n    \\toprule\n");
    text += &line(results.columns.iter().map(title).collect());
    let mut group: Option<&str> = None;
    for row in &results.rows {
        if group != Some(&row.group) {
            text += "    \\midrule\n";
            group = Some(&row.group);
        }
        text += &line(row.cells.iter().map(cell).collect());
    }
    text + "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n"
}

fn title(column: &Column) -> String {
    let arrow = match column.higher_is_better {
        Some(true) => " $\\uparrow$",
        Some(false) => " $\\downarrow$",
        None => "",
    };
    format!("{}{arrow}", escaped(&column.title))
}

fn cell(cell: &Cell) -> String {
    let text = escaped(&cell.text);
    let text = if cell.is_best { format!("\\textbf{{{text}}}") } else { text };
    match &cell.interval {
        Some((low, high)) => format!("{text} {{\\scriptsize [{}, {}]}}", escaped(low), escaped(high)),
        None => text,
    }
}

/// Text that LaTeX sets as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '\\' => escaped += "\\textbackslash{}",
            '<' => escaped += "\\textless{}",
            '>' => escaped += "\\textgreater{}",
            '−' => escaped += "$-$",
            '–' => escaped += "--",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A label of letters, digits and hyphens.
fn label(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
