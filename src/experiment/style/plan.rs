//! From a configuration to what is to be done: strategies (the cells of the axes) times photos.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::axes::Axes;
use super::config::Config;
use super::ip_images;
use crate::axes::{AXES, Axis, AxisValue, AxisValues, ip_adapter, seed, style_text};
use crate::datasets::{Photo, folder};
use crate::error::usage;
use crate::experiment::shard::Shard;
use crate::images::{self, is_shape};

/// One strategy: a value of every axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// Made of the names of the values on the axes that have several; safe in paths, unique.
    pub strategy: String,
    pub values: AxisValues,
}

impl Cell {
    pub fn get(&self, axis: &Axis) -> &AxisValue {
        self.values.get(axis)
    }

    /// The text on an axis; "" where it is left to the model.
    pub fn text(&self, axis: &Axis) -> &str {
        self.get(axis).text()
    }

    /// The seed of the experiment.
    pub fn seed(&self) -> u64 {
        self.get(&seed::AXIS).whole().unwrap_or_default()
    }

    /// Whether the generator is asked for the pictures of both in the same way, so that they can be drawn in one batch.
    pub fn draws_like(&self, other: &Self) -> bool {
        AXES.iter().all(|axis| axis.shares_a_batch(self.get(axis), other.get(axis)))
    }
}

/// What is to be done in a run.
#[derive(Debug)]
pub struct Plan {
    pub cells: Vec<Cell>,
    /// The photos of this run (after limit and shard), sorted by id.
    pub photos: Vec<Photo>,
    /// Photos in the folder.
    pub photos_found: usize,
    pub style_pictures: Vec<PathBuf>,
}

impl Plan {
    /// Checks the folders and lays out the run.
    pub fn new(config: &Config) -> Result<Self> {
        let all = folder(&config.photos).map_err(|error| usage(format!("photos: {error:#}")))?;
        let style_pictures =
            images::list(&config.style_pictures).map_err(|error| usage(format!("style_pictures: {error:#}")))?;
        let shard = config.shared.shard.as_deref().map(Shard::parse).transpose()?;
        let photos_found = all.len();
        let photos: Vec<Photo> = all
            .into_iter()
            .take(config.shared.limit.unwrap_or(usize::MAX))
            .enumerate()
            .filter(|(at, _)| shard.is_none_or(|shard| shard.has(*at)))
            .map(|(_, photo)| photo)
            .collect();
        if photos.is_empty() {
            return Err(usage(format!(
                "shard {} has no photos: there are only {}",
                config.shared.shard.as_deref().unwrap_or("1/1"),
                photos_found.min(config.shared.limit.unwrap_or(usize::MAX))
            )));
        }
        Ok(Self { cells: cells(&config.axes)?, photos, photos_found, style_pictures })
    }

    /// Looks at the header of every picture. A style picture that cannot be read is wrong usage, since every strategy is
    /// measured against all of them; of photos, which fail alone, it is only said, and so is it of those that are squeezed.
    pub fn probe(&self, config: &Config) -> Result<()> {
        if let Some(broken) = images::broken(&images::probe_all(&self.style_pictures)) {
            return Err(usage(format!("style_pictures: {broken}: mend or remove them")));
        }
        let shown: BTreeSet<&str> = self.cells.iter().map(|cell| cell.text(&ip_adapter::AXIS)).collect();
        ip_images::warn_of_shown(shown.into_iter(), &self.style_pictures)?;
        let photos: Vec<&PathBuf> = self.photos.iter().map(|photo| &photo.path).collect();
        let headers = images::probe_all(&photos);
        if let Some(broken) = images::broken(&headers) {
            tracing::warn!("photos: {broken}: they will fail, the others go on");
        }
        say_if_squeezed(config, headers.iter().flatten().map(|header| (header.width, header.height)));
        Ok(())
    }

    /// Pictures to be drawn.
    pub fn len(&self) -> usize {
        self.cells.len() * self.photos.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Says of photos of another shape than the pictures, where nothing is said of them, that they are squeezed.
fn say_if_squeezed(config: &Config, sizes: impl Iterator<Item = (u32, u32)>) {
    // Generators draw squares by themselves.
    let shape = config.width.zip(config.height).map_or((1, 1), |(width, height)| (width as u32, height as u32));
    let mut counts = [0, 0];
    sizes.for_each(|size| counts[usize::from(!is_shape(size, shape))] += 1);
    let [alike, others] = counts;
    if config.fit.is_some() || others == 0 {
        return;
    }
    let shape = if shape == (1, 1) { "square".to_string() } else { format!("of the shape {}×{}", shape.0, shape.1) };
    tracing::warn!(
        "{others} of {} photos are not {shape} and are squashed, as is usual: fit = \"crop\", \"pad\" or \"face\" keeps their \
         proportions",
        alike + others
    );
}

/// The seed of one picture: the first four bytes (little endian) of the SHA-256 of `SEED/ID`. It
/// does not depend on other photos, so a limit or a shard draws the same picture; and all
/// strategies of one experiment seed start from the same noise, so they are compared fairly.
pub fn picture_seed(seed: u64, id: &str) -> u64 {
    let hash = Sha256::digest(format!("{seed}/{id}"));
    u64::from(u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]))
}

/// Every combination of the axes' values, the last axis fastest.
pub fn cells(axes: &Axes) -> Result<Vec<Cell>> {
    let mut cells = vec![Cell::default()];
    for axis in AXES {
        multiply(&mut cells, axis, &axes.choices(axis));
    }
    let mut names = BTreeSet::new();
    for cell in &cells {
        if !names.insert(cell.strategy.to_lowercase()) {
            return Err(usage(format!("two strategies would both be called {}: name the values apart", cell.strategy)));
        }
        // A folder's name has an upper limit of 255 bytes everywhere.
        if cell.strategy.len() > 200 {
            return Err(usage(format!(
                "the strategy name {} is too long: give the values shorter names",
                cell.strategy
            )));
        }
        if cell.text(&style_text::AXIS).trim().is_empty() {
            return Err(usage(format!("style_text of {} is empty", cell.strategy)));
        }
    }
    Ok(cells)
}

/// Multiplies the cells by the values of one axis; their names show where there are several.
fn multiply(cells: &mut Vec<Cell>, axis: &Axis, choices: &[(&str, &AxisValue)]) {
    let shown = axis.always_named || choices.len() > 1;
    *cells = cells
        .iter()
        .flat_map(|cell| choices.iter().map(move |choice| (cell.clone(), *choice)))
        .map(|(mut cell, (name, value))| {
            if shown {
                let gap = if cell.strategy.is_empty() { "" } else { "__" };
                cell.strategy = format!("{}{gap}{}{name}", cell.strategy, axis.prefix);
            }
            cell.values.set(axis, value.clone());
            cell
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axes::{guidance_scale, steps, strength};

    fn axes(text: &str) -> Axes {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn axes_multiply_and_only_those_with_several_values_show() {
        let axes = axes(
            "style_text = { plain = 'A', long = 'B' }\ncaptioner = 'c'\ngenerator = 'g'\nseed = [0, 1]\nguidance_scale = [4.5, 7]",
        );
        let cells = cells(&axes).unwrap();
        let names: Vec<&str> = cells.iter().map(|cell| cell.strategy.as_str()).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[..3], ["plain__cfg4.5__seed0", "plain__cfg4.5__seed1", "plain__cfg7__seed0"]);
        let last = &cells[7];
        assert_eq!((last.text(&style_text::AXIS), last.seed()), ("B", 1));
        assert_eq!((last.get(&guidance_scale::AXIS), last.get(&steps::AXIS)), (&7.0.into(), &AxisValue::None));
        assert!(cells[0].draws_like(&cells[1]) && !cells[0].draws_like(&cells[2]));
    }

    #[test]
    fn one_axis_mixes_text_and_photo() {
        let of = |strength: &str| {
            let text =
                format!("style_text = {{ plain = 'A' }}\ncaptioner = 'c'\ngenerator = 'g'\nseed = 0\n{strength}");
            let of = |cell: Cell| (cell.get(&strength::AXIS).number(), cell.strategy);
            cells(&axes(&text)).unwrap().into_iter().map(of).map(|(value, name)| (name, value)).collect::<Vec<_>>()
        };
        let cell = |name: &str, strength| (name.to_string(), strength);
        let all = of("strength = ['none', 0.45, 1]");
        assert_eq!(all, [cell("plain__t2i", None), cell("plain__i2i0.45", Some(0.45)), cell("plain__i2i1", Some(1.0))]);
        let named = of("strength = { text_only = 'none', half = 0.5 }");
        assert_eq!(named, [cell("plain__text_only", None), cell("plain__half", Some(0.5))]);
        assert_eq!(of("strength = 0.5"), [cell("plain", Some(0.5))]);
        assert_eq!(of(""), [cell("plain", None)]);
    }

    #[test]
    fn names_that_differ_only_in_case_are_refused() {
        let axes = axes("style_text = { a = 'x', A = 'y' }\ncaptioner = 'c'\ngenerator = 'g'\nseed = 0");
        assert!(cells(&axes).unwrap_err().to_string().contains("both be called"));
    }

    #[test]
    fn seeds_are_those_of_the_documented_function() {
        // python: int.from_bytes(hashlib.sha256(b"0/ada").digest()[:4], "little")
        assert_eq!(picture_seed(0, "ada"), 1845673292);
        assert_ne!(picture_seed(0, "ada"), picture_seed(1, "ada"));
        assert_ne!(picture_seed(0, "ada"), picture_seed(0, "bob"));
    }
}
