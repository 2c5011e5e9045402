//! Tables to the letter as `DataFrame.to_html(index=False)` of pandas writes them.

use serde_json::{Map, Value};

use crate::report::Run;
use crate::report::gallery::Choice;
use crate::report::number::finite;
use crate::report::rows::ItemRow;

/// A table of text; numbers are formatted already.
#[derive(Debug)]
pub struct Table {
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    pub fn html(&self) -> String {
        let row = |cells: Vec<&str>, tag: &str| -> String {
            cells.iter().map(|cell| format!("      <{tag}>{}</{tag}>\n", escape(cell))).collect()
        };
        let mut html = String::from("<table border=\"1\" class=\"dataframe\">\n  <thead>\n");
        html += "    <tr style=\"text-align: right;\">\n";
        html += &row(self.columns.clone(), "th");
        html += "    </tr>\n  </thead>\n  <tbody>\n";
        for cells in &self.rows {
            html += &format!("    <tr>\n{}    </tr>\n", row(cells.iter().map(String::as_str).collect(), "td"));
        }
        html + "  </tbody>\n</table>"
    }
}

/// pandas shows line ends and tabs as `\n` and the like, escapes these three only, and takes blanks off both ends.
fn escape(text: &str) -> String {
    let text = text.replace('\t', "\\t").replace('\r', "\\r").replace('\n', "\\n");
    text.trim().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `show` of the notebook: three decimals, a dash where there is no value.
pub fn number(value: Option<f64>) -> String {
    finite(value).map_or("–".to_string(), |value| format!("{value:.3}"))
}

/// The rows of results.csv, best ArtFID first.
pub fn results(run: &Run) -> Table {
    let listed = run.ranking().into_iter().filter(|at| *at < run.listed).map(|at| &run.results[at]);
    let rows = listed.map(|row| {
        let numbers = [row.artfid, row.artfid_low, row.artfid_high, row.fid, row.lpips, row.seconds_per_image];
        let names = [row.strategy.clone(), row.style_text.clone(), row.n.to_string()];
        names.into_iter().chain(numbers.map(number)).collect()
    });
    let columns =
        vec!["strategy", "style_text", "n", "artfid", "artfid_low", "artfid_high", "fid", "lpips", "seconds_per_image"];
    Table { columns, rows: rows.collect() }
}

/// The plain values of manifest.json, as Python's `str` shows them.
pub fn manifest(manifest: &Map<String, Value>) -> Table {
    let plain = manifest.iter().filter_map(|(key, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(true) => "True".to_string(),
            Value::Bool(false) => "False".to_string(),
            Value::Null => "None".to_string(),
            Value::Number(number) => number.to_string(),
            Value::Array(_) | Value::Object(_) => return None,
        };
        Some(vec![key.clone(), text])
    });
    Table { columns: vec!["key", "value"], rows: plain.collect() }
}

/// The chosen pictures of a strategy.
pub fn cases(choice: &Choice) -> Table {
    let row = |case: &str, item: &ItemRow| {
        let measures = [item.lpips, item.style_distance, item.gallery_score].map(number);
        let photo = [item.photo_luma, item.photo_sharpness, item.face_share].map(number);
        let text = [&item.caption, &item.prompt, &item.dropped].map(String::clone);
        let names = [case.to_string(), item.id.clone()];
        names.into_iter().chain(measures).chain(photo).chain(text).collect()
    };
    let successes = choice.successes.iter().map(|item| row("success", item));
    let rows = successes.chain(choice.failures.iter().map(|item| row("failure", item))).collect();
    let columns = vec![
        "case",
        "id",
        "lpips",
        "style_distance",
        "gallery_score",
        "photo_luma",
        "photo_sharpness",
        "face_share",
        "caption",
        "prompt",
        "dropped",
    ];
    Table { columns, rows }
}

/// The pictures that failed.
pub fn failed(run: &Run) -> Table {
    let failed = run.items.iter().filter(|item| item.status == "failed");
    let rows = failed.map(|item| vec![item.id.clone(), item.strategy.clone(), item.error.clone()]).collect();
    Table { columns: vec!["id", "strategy", "error"], rows }
}
