//! The results of a run as a table for a paper or a README: a file a format.
//!
//! A kind of run says what is in its table ([`Results`]); a row of [`FORMATS`] writes it.

mod latex;
mod markdown;

/// A format that tables are written in.
#[derive(Debug)]
pub struct Format {
    /// What `--to` calls it.
    pub name: &'static str,
    pub write: fn(&Results) -> String,
}

/// All formats.
pub static FORMATS: &[Format] =
    &[Format { name: "latex", write: latex::write }, Format { name: "markdown", write: markdown::write }];

/// The results of a run.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// The run's name: a file's name or a label can be made of it.
    pub name: String,
    /// What stands above or below the table.
    pub caption: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Default)]
pub struct Column {
    pub title: String,
    /// Which way is better, of a metric.
    pub higher_is_better: Option<bool>,
    pub is_number: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Rows of one group stand together.
    pub group: String,
    pub cells: Vec<Cell>,
}

/// A cell: text, or a number with its interval.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    pub text: String,
    /// The ends of the 95 % interval.
    pub interval: Option<(String, String)>,
    /// Of its column and group.
    pub is_best: bool,
}

impl Column {
    pub fn text(title: &str) -> Self {
        Self { title: title.to_string(), ..Self::default() }
    }

    pub fn number(title: &str, higher_is_better: Option<bool>) -> Self {
        Self { title: title.to_string(), higher_is_better, is_number: true }
    }
}

impl Cell {
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// The names that `--to` takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|format| format.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let best =
            Cell { text: "−1.500".into(), interval: Some(("−2.000".into(), "−1.000".into())), is_best: true };
        Results {
            name: "my_run".into(),
            caption: "Is 50 % of {a_b} ~ c\\d & |e| better?".into(),
            columns: vec![
                Column::text("Strategy"),
                Column::number("n", None),
                Column::number("ArtFID", Some(false)),
                Column::number("METEOR", Some(true)),
            ],
            rows: vec![
                Row {
                    group: "x".into(),
                    cells: vec![Cell::plain("a_b*|<i>"), Cell::plain("7"), best, Cell::plain("–")],
                },
                Row { group: "y".into(), cells: ["c", "8", "2.000", "0.5"].map(Cell::plain).into() },
            ],
        }
    }

    #[test]
    fn latex_has_rules_and_no_command_of_a_name() {
        let expected = r"% \usepackage{booktabs}
\begin{table}
  \centering
  \caption{Is 50 \% of \{a\_b\} \textasciitilde{} c\textbackslash{}d \& |e| better?}
  \label{tab:my-run}
  \begin{tabular}{lrrr}
    \toprule
    Strategy & n & ArtFID $\downarrow$ & METEOR $\uparrow$ \\
    \midrule
    a\_b*|\textless{}i\textgreater{} & 7 & \textbf{$-$1.500} {\scriptsize [$-$2.000, $-$1.000]} & -- \\
    \midrule
    c & 8 & 2.000 & 0.5 \\
    \bottomrule
  \end{tabular}
\end{table}
";
        assert_eq!(latex::write(&results()), expected);
    }

    #[test]
    fn markdown_has_a_table_and_no_markup_of_a_name() {
        let expected = "| Strategy | n | ArtFID ↓ | METEOR ↑ |
| :-- | --: | --: | --: |
| a\\_b\\*\\|\\<i\\> | 7 | **−1.500** [−2.000, −1.000] | – |
| c | 8 | 2.000 | 0.5 |

Is 50 % of {a\\_b} \\~ c\\\\d & \\|e\\| better?
";
        assert_eq!(markdown::write(&results()), expected);
    }

    #[test]
    fn line_ends_and_control_characters_stay_in_their_cell() {
        let mut results = results();
        results.rows[0].cells[0] = Cell::plain("a\nb\u{7}\r|");
        for format in FORMATS {
            let text = (format.write)(&results);
            assert!(text.contains("a b ") && !text.contains('\u{7}'), "{}: {text}", format.name);
            assert_eq!(text.lines().count(), (format.write)(&self::results()).lines().count());
        }
    }
}
