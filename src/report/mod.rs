//! What a run folder holds as CSV, and everything made from it: plots, the page, the notebook.
//! Nothing here ever touches a model: a run folder is enough.
//!
//! ```text
//! items.csv, results.csv ─► run ─► plots ─► figure ─► plots/*.png, *.svg
//! config.toml, manifest.json ┘  └► gallery ─► sheets ─► gallery/*.png
//!                                      └► page ───► report.html
//! ```
//! [`style`] and [`caption`] read and show the two kinds of runs; what both need is beside them.
//! The same files give the same bytes.

pub mod caption;
pub mod compare;
pub mod contact_sheet;
mod correlations;
mod figure;
mod folder;
pub mod grid;
mod notebook;
mod number;
pub mod page;
mod plots;
pub mod style;
pub mod table;
mod thumbnails;
mod tracked;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use self::figure::Figure;
use self::folder::Folder;
use self::notebook::cells::NotebookCell;
use self::plots::Sheet;
pub use self::tracked::{TrackedEntry, TrackedRun};
use crate::run::guard;
use crate::run::layout::kind_of;
use crate::runtime::write_whole;

/// A run, read from its folder, and what can be made of it.
trait Report {
    fn folder(&self) -> &Folder;

    fn folder_mut(&mut self) -> &mut Folder;

    /// The plots in the order in which the page shows them: file stem and figure.
    fn figures(&self, sheet: Sheet) -> Vec<(&'static str, Figure)>;

    /// Writes pictures for papers into the run folder. Returns the files.
    fn sheets(&self) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// The results as tables for papers.
    fn tables(&self) -> Vec<table::Results>;

    /// What a tracker of experiments is told.
    fn tracked(&self) -> Vec<TrackedEntry>;

    /// `report.html` as text.
    fn html(&self) -> Result<String>;

    /// The cells of the notebook, which goes into this folder (absolute).
    fn cells(&self, folder: &Path) -> Result<Vec<NotebookCell>>;
}

/// Reads a run folder.
type Open = fn(&Path) -> Result<Box<dyn Report>>;

/// How each kind of run is read, by the name of the kind. A folder that names no kind of these is taken for the first.
static KINDS: [(&str, Open); 2] = [
    ("style_transfer", |dir| Ok(Box::new(style::StyleRun::read(dir)?))),
    ("caption", |dir| Ok(Box::new(caption::CaptionRun::read(dir)?))),
];

fn open(dir: &Path) -> Result<Box<dyn Report>> {
    guard::check(dir)?;
    let kind = kind_of(dir);
    let (_, open) = KINDS.iter().find(|(name, _)| *name == kind).unwrap_or(&KINDS[0]);
    open(dir)
}

/// Makes the plots, the gallery sheets and the page of a run folder. Returns the files it wrote.
pub fn render(run_dir: &Path) -> Result<Vec<PathBuf>> {
    render_for(run_dir, run_dir)
}

/// The same for a folder that will lie at `place`, of which the page speaks.
pub fn render_for(run_dir: &Path, place: &Path) -> Result<Vec<PathBuf>> {
    let mut run = open(run_dir)?;
    run.folder_mut().will_lie_at(place);
    let _held = guard::hold_tidied(run_dir)?;
    let mut files = plots::write(&run.folder().dir, &run.figures(Sheet::Wide))?;
    files.extend(run.sheets()?);
    files.push(write_page(run.as_ref())?);
    Ok(files)
}

/// Draws the plots of a run folder into its `plots/`. Returns the files it wrote.
pub fn plot(run_dir: &Path) -> Result<Vec<PathBuf>> {
    let run = open(run_dir)?;
    let _held = guard::hold_tidied(run_dir)?;
    plots::write(run_dir, &run.figures(Sheet::Wide))
}

/// Writes `report.html` of a run folder, without touching its `plots/`. Returns the file.
pub fn page(run_dir: &Path) -> Result<PathBuf> {
    let run = open(run_dir)?;
    let _held = guard::hold_tidied(run_dir)?;
    write_page(run.as_ref())
}

fn write_page(run: &dyn Report) -> Result<PathBuf> {
    let path = run.folder().dir.join("report.html");
    save(&path, run.html()?.as_bytes())?;
    Ok(path)
}

/// Lays the galleries of a style run out as pictures, `gallery/STRATEGY-successes.png` and `-failures.png` where
/// people judged, `-best.png` and `-worst.png` where scores chose; none of a caption run, and none where the pictures are gone. Returns the files it wrote.
pub fn gallery_sheets(run_dir: &Path) -> Result<Vec<PathBuf>> {
    let run = open(run_dir)?;
    let _held = guard::hold_tidied(run_dir)?;
    run.sheets()
}

/// Where notebooks go, below the working folder.
const NOTEBOOKS: &str = "notebooks-export";

/// The results of a run folder as tables in this format, one below the other.
pub fn table(run_dir: &Path, format: &table::Format) -> Result<String> {
    Ok(open(run_dir)?.tables().iter().map(format.write).collect::<Vec<_>>().join("\n"))
}

/// What a run folder tells a tracker of experiments; see [`crate::mlflow`].
pub fn tracked(run_dir: &Path) -> Result<TrackedRun> {
    let run = open(run_dir)?;
    Ok(TrackedRun::new(run.folder(), run.tracked()))
}

/// Writes text as a file, whole or not at all, making its folder first.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    save(path, text.as_bytes())
}

/// Writes a run folder as a Jupyter notebook into `file`, or `notebooks-export/NAME.ipynb`. Returns the file.
pub fn notebook(run_dir: &Path, file: Option<&Path>) -> Result<PathBuf> {
    let run = open(run_dir)?;
    let own = || Path::new(NOTEBOOKS).join(format!("{}.ipynb", run.folder().name));
    let file = file.map_or_else(own, Path::to_path_buf);
    notebook::write(&file, |folder| run.cells(folder))?;
    Ok(file)
}

/// Puts `bytes` at `path`, whole or not at all, making its folder first.
fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write_whole(path, |file| Ok(file.write_all(bytes)?))
}
