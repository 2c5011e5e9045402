//! What `evaluate --size --fit` ask for, and what is said of pictures of several sizes.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result, anyhow};
use serde_json::{Map, Value, json};

use crate::cli::SizeArgs;
use crate::error::usage;
use crate::images;
use crate::metrics::image::pictures::{SizesDiffer, Square, check_headers, check_readable};

/// The sizes of the pictures that are compared.
pub struct Sizes {
    /// What they become; None where they must have one size.
    pub square: Option<Square>,
    /// Whether it was said how.
    is_said: bool,
    /// Pictures that were looked at, and those among them that are not square.
    seen: [usize; 2],
}

impl Sizes {
    /// `least` is the smallest width and height that the network takes.
    pub fn new(args: &SizeArgs, least: u32) -> Result<Self> {
        if let Some(side) = args.size.filter(|side| *side < least) {
            return Err(usage(format!("--size {side} is too small for this network (at least {least})")));
        }
        let square = args.size.map(|side| Square::new(side, args.fit.unwrap_or_default()));
        Ok(Self { square, is_said: args.fit.is_some(), seen: [0, 0] })
    }

    /// What is wrong with a picture is said before a network is loaded. `least` is None for networks that take pictures of
    /// any sizes; `folders` are what was named on the command line.
    pub fn check<P: AsRef<Path> + Sync>(&mut self, files: &[P], least: Option<u32>, folders: &[&Path]) -> Result<()> {
        if let Some(least) = least.filter(|_| self.square.is_none()) {
            return check_headers(files, least).map_err(|error| remedy(error, folders));
        }
        let sizes = check_readable(files)?;
        self.seen[0] += sizes.len();
        self.seen[1] += sizes.iter().filter(|(width, height)| width != height).count();
        Ok(())
    }

    /// Says, when all pictures were looked at, how many are squeezed where nothing is said of them.
    pub fn say_if_squeezed(&self) {
        let [all, others] = self.seen;
        if self.square.is_some() && !self.is_said && others > 0 {
            tracing::warn!(
                "{others} of {all} pictures are not square and are squashed: --fit crop, pad or face keeps their proportions"
            );
        }
    }

    /// Says, when all pictures were measured, in how many a face was looked for in vain.
    pub fn say_without_face(&self) {
        let count = self.square.as_ref().map_or(0, Square::without_face);
        if count > 0 {
            tracing::warn!(
                "--fit face: no face was found in {count} of {} pictures: their middle is taken",
                self.seen[0]
            );
        }
    }

    /// For the results.
    pub fn note(&self, json: &mut Map<String, Value>) {
        if let Some(Square { side, fit, .. }) = &self.square {
            json.extend([("size".to_string(), json!(side)), ("fit".to_string(), json!(fit))]);
        }
    }
}

/// What helps against several sizes, and where a run keeps pictures of one.
fn remedy(error: Error, folders: &[&Path]) -> Error {
    if !error.is::<SizesDiffer>() {
        return error;
    }
    let mut text =
        format!("{error}: --size {USUAL} brings them to one, with --fit crop, pad or face in their own proportions");
    let in_run = folders.iter().find_map(|folder| Some((*folder, run_of(folder)?)));
    if let Some((folder, run)) = in_run {
        let photos = run.join("photos");
        let size = first_size(&photos).map(|(width, height)| format!(" at {width}×{height}")).unwrap_or_default();
        let drawn = folder.strip_prefix(run.join("drawn")).ok().filter(|strategy| strategy.components().count() == 1);
        text += &match drawn {
            Some(strategy) => {
                let images = run.join("images").join(strategy);
                format!(
                    "; that run keeps its photos{size} in {}, these pictures too in {}",
                    photos.display(),
                    images.display()
                )
            }
            None => format!("; that run keeps its photos{size} in {}", photos.display()),
        };
    }
    anyhow!(text)
}

/// The size at which runs compare pictures, unless they are told another.
const USUAL: u32 = 224;

/// The run folder that a folder of pictures is part of.
fn run_of(folder: &Path) -> Option<PathBuf> {
    let is_run = |place: &&Path| place.join("items.csv").is_file() && place.join("photos").is_dir();
    folder.ancestors().skip(1).take(2).find(is_run).map(Path::to_path_buf)
}

fn first_size(folder: &Path) -> Option<(u32, u32)> {
    images::size(images::list(folder).ok()?.first()?).ok()
}
