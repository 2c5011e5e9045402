//! What people said, in the notebook.

use crate::report::notebook::cells::{NotebookCell, Output, code, markdown, plain};
use crate::report::notebook::tables::{NotebookTable, number};
use crate::report::style::StyleRun;
use crate::report::style::export::of_people;
use crate::report::style::people::{Said, said};
use crate::report::table;

/// The cells; none where no one said anything.
pub fn cells(run: &StyleRun, cells: &mut Vec<NotebookCell>) {
    let Some(said) = said(run) else { return };
    cells.push(markdown("people-title", &text(run)));
    if said.ratings > 0 {
        cells.push(code("people", include_str!("people.py"), vec![Output::html(rates(run, &said))]));
    }
}

/// Whether the galleries of the notebook can follow ratings.
pub fn has_ratings(run: &StyleRun) -> bool {
    said(run).is_some_and(|said| said.ratings > 0)
}

/// The success rates, in the order of the results.
fn rates(run: &StyleRun, said: &Said) -> NotebookTable {
    let listed = run.ranking().into_iter().filter(|at| *at < run.listed);
    let row = |at: usize| {
        let of = &said.strategies[at];
        let (share, interval) = of.success?;
        let numbers = [share, interval.low, interval.high].map(|value| number(Some(value)));
        Some([run.results[at].strategy.clone(), of.rated.to_string()].into_iter().chain(numbers).collect())
    };
    let columns = ["strategy", "rated", "success", "low", "high"].map(String::from).into();
    NotebookTable { columns, rows: listed.filter_map(row).collect() }
}

/// What `toolkit report` computed of votes, agreement and metrics.
fn text(run: &StyleRun) -> String {
    let mut text =
        "## What people say\n\nSuccess rates are computed below; the rest is what `toolkit report` computes.\n"
            .to_string();
    for table in of_people(run) {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        text += &format!("\n{}\n\n", plain(&table.caption));
        text += &line(table.columns.iter().map(|column| plain(&column.title)).collect());
        let sides = table.columns.iter().map(|column| if column.is_number { "--:" } else { ":--" }.to_string());
        text += &line(sides.collect());
        table.rows.iter().for_each(|row| text += &line(row.cells.iter().map(cell).collect()));
    }
    text
}

fn cell(cell: &table::Cell) -> String {
    let interval = cell.interval.as_ref().map(|(low, high)| format!(" \\[{}, {}\\]", plain(low), plain(high)));
    format!("{}{}", plain(&cell.text), interval.unwrap_or_default())
}
