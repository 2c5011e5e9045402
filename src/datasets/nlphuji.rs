//! The hub folders <https://huggingface.co/datasets/nlphuji/mscoco_2014_5k_test_image_text_retrieval> and
//! <https://huggingface.co/datasets/nlphuji/flickr30k>: a CSV with a row per picture, and a zip of the pictures.

use std::path::Path;

use anyhow::{Context, Result, bail};
use csv::StringRecord;

use super::captioned::{Annotations, Place, Record, read_text, stem};
use super::python_literal;

/// The names of the files.
pub struct Layout {
    pub csv: &'static str,
    archive: &'static str,
    folder: &'static str,
}

pub const COCO: Layout = Layout {
    csv: "test_5k_mscoco_2014.csv",
    archive: "images_mscoco_2014_5k_test.zip",
    folder: "images_mscoco_2014_5k_test",
};

pub const FLICKR30K: Layout =
    Layout { csv: "flickr_annotations_30k.csv", archive: "flickr30k-images.zip", folder: "flickr30k-images" };

/// Columns: `filename`, `raw` (a list of captions, as JSON or as Python prints it), and where there are any `split`
/// and `cocoid`, which is the id; else that is the file's stem.
pub fn read(file: &Path, layout: &Layout) -> Result<Annotations> {
    let shown = file.display();
    let text = read_text(file)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().with_context(|| format!("{shown}"))?.clone();
    let column = |name: &str| headers.iter().position(|header| header == name);
    let (Some(name), Some(raw)) = (column("filename"), column("raw")) else {
        bail!("{shown}, line 1: the columns filename and raw are needed, there are: {}", join(&headers));
    };
    let (split, id) = (column("split"), column("cocoid"));
    let mut records = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| super::captions_csv::explain(file, &error))?;
        let line = row.position().map_or(0, csv::Position::line);
        let field = |at: Option<usize>| at.and_then(|at| row.get(at)).unwrap_or_default().trim().to_string();
        let file = field(Some(name));
        if file.is_empty() {
            bail!("{shown}, line {line}: filename is empty");
        }
        let references =
            python_literal::strings(&row[raw]).with_context(|| format!("{shown}, line {line}, column raw"))?;
        let id = Some(field(id)).filter(|id| !id.is_empty()).unwrap_or_else(|| stem(&file));
        records.push(Record { id, references, split: field(split), file });
    }
    let pictures = Place::Zip { archive: layout.archive, folder: layout.folder };
    Ok(Annotations { file: file.to_path_buf(), records, pictures })
}

fn join(headers: &StringRecord) -> String {
    headers.iter().collect::<Vec<_>>().join(", ")
}
