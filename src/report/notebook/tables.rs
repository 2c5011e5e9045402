//! Tables to the letter as `DataFrame.to_html(index=False)` of pandas writes them.

use serde_json::{Map, Value};

use crate::report::number::finite;
use crate::report::page::date;

/// Columns of texts that would be squeezed, as in `preamble.py`.
const WIDE: [&str; 5] = ["caption", "prompt", "dropped", "style_text", "error"];

/// A table of text; numbers are formatted already.
#[derive(Debug)]
pub struct NotebookTable {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl NotebookTable {
    pub fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    pub fn html(&self) -> String {
        let row = |cells: Vec<&str>, tag: &str| -> String {
            let open = |cell: &str| match tag {
                "th" if WIDE.contains(&cell) => "th style=\"min-width: 240px;\"".to_string(),
                _ => tag.to_string(),
            };
            cells.iter().map(|cell| format!("      <{}>{}</{tag}>\n", open(cell), escape(cell))).collect()
        };
        let mut html = String::from("<table border=\"1\" class=\"dataframe\">\n  <thead>\n");
        html += "    <tr style=\"text-align: right;\">\n";
        html += &row(self.columns.iter().map(String::as_str).collect(), "th");
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

/// The plain values of manifest.json, as Python's `str` shows them.
pub fn manifest(manifest: &Map<String, Value>) -> NotebookTable {
    let plain = manifest.iter().filter_map(|(key, value)| {
        let text = match value {
            Value::Number(time) if key == "started" && time.is_u64() => date(time.as_u64().unwrap_or_default()),
            Value::String(text) => text.clone(),
            Value::Bool(true) => "True".to_string(),
            Value::Bool(false) => "False".to_string(),
            Value::Null => "None".to_string(),
            Value::Number(number) => number.to_string(),
            Value::Array(_) | Value::Object(_) => return None,
        };
        Some(vec![key.clone(), text])
    });
    NotebookTable { columns: ["key", "value"].map(String::from).into(), rows: plain.collect() }
}
