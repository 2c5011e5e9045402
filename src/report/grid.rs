//! Every photo of a run under every strategy, as the page and `toolkit view` show it.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Serialize;

use crate::run::guard;

/// What stays as it is in a part of a link.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The grid, for the template `grid.html`.
#[derive(Debug, Default, Serialize)]
pub struct Grid {
    pub strategies: Vec<Strategy>,
    pub rows: Vec<Line>,
    pub metrics: Vec<Measure>,
    /// Photos that are not in it.
    pub left_out: usize,
    /// Whether each source followed by `?2x` is the same picture twice as large, for screens of small pixels.
    pub dense: bool,
    /// What the lightbox, the filter and the order know: JSON that is safe inside a script element.
    pub data: String,
}

/// A column.
#[derive(Debug, Serialize)]
pub struct Strategy {
    pub name: String,
    pub color: String,
    pub style_text: String,
}

/// A photo under all strategies.
#[derive(Debug, Serialize)]
pub struct Line {
    pub id: String,
    /// The source of the photo's small picture.
    pub photo: Option<String>,
    /// Whether it is the first line: Tab finds its first cell.
    pub first: bool,
    pub cells: Vec<Place>,
}

/// A picture in the grid, or why there is none.
#[derive(Debug, Serialize)]
pub struct Place {
    pub strategy: String,
    /// `done`, `failed`, or `missing` where the run has no such item.
    pub status: String,
    pub picture: Option<String>,
    pub alt: String,
    pub missing: String,
    /// In one line.
    pub numbers: String,
}

/// A number that items have.
#[derive(Debug, Clone, Serialize)]
pub struct Measure {
    pub label: String,
    pub higher: bool,
}

/// All that is known of a picture.
#[derive(Debug, Serialize)]
pub struct Facts<'a> {
    pub href: Option<String>,
    pub status: &'a str,
    pub caption: &'a str,
    pub prompt: &'a str,
    pub dropped: &'a str,
    pub seed: String,
    pub error: &'a str,
    pub remark: &'a str,
    /// In the order of [`Grid::metrics`].
    pub values: Vec<Option<f64>>,
}

/// A photo, and its place as a link.
#[derive(Debug, Serialize)]
pub struct Photo<'a> {
    pub id: &'a str,
    pub href: Option<String>,
}

/// The JSON of a grid.
#[derive(Debug, Serialize)]
pub struct Data<'a> {
    pub strategies: Vec<&'a str>,
    pub metrics: &'a [Measure],
    pub photos: Vec<Photo<'a>>,
    /// A list for each photo with an entry for each strategy.
    pub items: Vec<Vec<Option<Facts<'a>>>>,
}

impl Data<'_> {
    /// As text that no script element can end in and no comment can start in.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)?.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
    }
}

/// The link to a file of the run folder from its page; None where it is not there, or leads out of the folder.
pub fn link(dir: &Path, file: &str) -> Option<String> {
    let there = !file.is_empty() && guard::inside(dir, file).is_ok_and(|path| path.is_file());
    let parts = file.split('/').filter(|part| !part.is_empty() && *part != ".");
    let encode = |part: &str| percent_encode(part.as_bytes(), PLAIN).to_string();
    there.then(|| parts.map(encode).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside_and_are_encoded() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir_all(run.join("images/a b")).unwrap();
        std::fs::write(run.join("images/a b/x\"#?.png"), "").unwrap();
        std::fs::write(dir.path().join("secret.png"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.png"), run.join("images/link.png")).unwrap();
        assert_eq!(link(&run, "images/a b/x\"#?.png").as_deref(), Some("images/a%20b/x%22%23%3F.png"));
        for file in ["../secret.png", "images/link.png", "images/none.png", "", "images", "/etc/passwd"] {
            assert_eq!(link(&run, file), None, "{file}");
        }
    }

    #[test]
    fn the_data_cannot_end_its_element() {
        let photo = Photo { id: "</script><!-- <script> &amp;", href: None };
        let data = Data { strategies: vec![], metrics: &[], photos: vec![photo], items: vec![] };
        let json = data.json().unwrap();
        assert!(!json.contains(['<', '>', '&']), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["photos"][0]["id"], "</script><!-- <script> &amp;");
    }
}
