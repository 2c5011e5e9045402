//! Cells and their outputs.

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::tables::NotebookTable;
use crate::report::figure::Figure;

/// What a code cell left behind.
#[derive(Debug)]
pub enum Output {
    /// The value of the cell's last expression.
    Result(Value),
    /// What it displayed on the way.
    Display { data: Value, metadata: Value },
    /// What it printed.
    Stdout(String),
}

impl Output {
    pub fn html(table: NotebookTable) -> Self {
        Self::Result(html_data(table))
    }

    pub fn displayed(table: NotebookTable) -> Self {
        Self::Display { data: html_data(table), metadata: json!({}) }
    }

    pub fn stdout(text: String) -> Self {
        Self::Stdout(text)
    }

    /// A drawing as PNG, shown at the size of the figure, whatever its pixels.
    pub fn figure(figure: &Figure) -> Result<Self> {
        let size = (figure.width as u32, figure.height as u32);
        Ok(Self::picture("image/png", &figure.png()?, size, &figure.alt))
    }

    /// The same of photos, as JPEG: a notebook must not be large.
    pub fn photos(jpeg: &[u8], size: (u32, u32), alt: &str) -> Self {
        Self::picture("image/jpeg", jpeg, size, alt)
    }

    /// `alt` says what it shows to those who do not see it.
    fn picture(format: &str, bytes: &[u8], (width, height): (u32, u32), alt: &str) -> Self {
        Self::Display {
            data: json!({ format: BASE64_STANDARD.encode(bytes), "text/plain": ["<IPython.core.display.Image object>"] }),
            metadata: json!({ format: { "width": width, "height": height, "alt": alt } }),
        }
    }

    fn value(self, count: usize) -> Value {
        match self {
            Self::Result(data) => {
                json!({ "data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result" })
            }
            Self::Display { data, metadata } => {
                json!({ "data": data, "metadata": metadata, "output_type": "display_data" })
            }
            Self::Stdout(text) => json!({ "name": "stdout", "output_type": "stream", "text": lines(&text) }),
        }
    }
}

fn html_data(table: NotebookTable) -> Value {
    json!({ "text/html": lines(&table.html()), "text/plain": ["<IPython.core.display.HTML object>"] })
}

/// A cell before it is numbered.
#[derive(Debug)]
pub struct NotebookCell {
    id: String,
    source: String,
    /// None: text.
    outputs: Option<Vec<Output>>,
}

pub fn markdown(id: &str, text: &str) -> NotebookCell {
    NotebookCell { id: id.to_string(), source: text.trim_end().to_string(), outputs: None }
}

pub fn code(id: &str, source: &str, outputs: Vec<Output>) -> NotebookCell {
    NotebookCell { id: id.to_string(), source: source.trim_end().to_string(), outputs: Some(outputs) }
}

/// The cells as JSON, the code cells counted as if they had been run from top to bottom.
pub fn numbered(cells: Vec<NotebookCell>) -> Vec<Value> {
    let mut count = 0;
    let mut value = |cell: NotebookCell| match cell.outputs {
        None => json!({ "cell_type": "markdown", "id": cell.id, "metadata": {}, "source": lines(&cell.source) }),
        Some(outputs) => {
            count += 1;
            let outputs: Vec<Value> = outputs.into_iter().map(|output| output.value(count)).collect();
            json!({
                "cell_type": "code",
                "execution_count": count,
                "id": cell.id,
                "metadata": {},
                "outputs": outputs,
                "source": lines(&cell.source)
            })
        }
    };
    cells.into_iter().map(&mut value).collect()
}

/// Text as notebooks hold it: a list of lines that keep their line ends.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Text that Markdown shows as it is.
pub fn plain(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            // Formulas are looked for in the source, before Markdown is read: an escape there would not hide one.
            '\\' => escaped += "&#92;",
            '$' => escaped += "&#36;",
            _ if c.is_control() => escaped.push(' '),
            '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Code in a line of Markdown. Text that could end it, or be markup when something ends it, is escaped and put
/// between tags.
pub fn inline_code(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() && !"`<>&".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return format!("`{text}`");
    }
    format!("<code>{}</code>", plain(text))
}

#[cfg(test)]
mod tests {
    #[test]
    fn code_cannot_be_left() {
        assert_eq!(super::inline_code("./toolkit experiment a_b --limit 3"), "`./toolkit experiment a_b --limit 3`");
        let evil = "x` <img src=x onerror=alert(1)> `\n</code><b>";
        let expected = r"<code>x\` &lt;img src=x onerror=alert(1)&gt; \` &lt;/code&gt;&lt;b&gt;</code>";
        assert_eq!(super::inline_code(evil), expected);
    }

    #[test]
    fn text_stays_text_in_markdown() {
        let text = super::plain("a_b *c* <script> [x](y)\n# no & yes");
        assert_eq!(super::plain(r"$x$ \begin{a}"), "&#36;x&#36; &#92;begin{a}");
        assert_eq!(text, r"a\_b \*c\* &lt;script&gt; \[x\](y) \# no &amp; yes");
    }
}
