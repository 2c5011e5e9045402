//! The pictures of a run: drawn and measured batch by batch, recorded as each batch ends.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, absolute};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::StyleTransfer;
use super::batches::{Job, batches, jobs, photos_of, request};
use super::describe::Descriptions;
use super::features::{Features, key};
use super::models::ImageScorer;
use super::photos::{Photos, drawn_size};
use super::plan::Cell;
use super::record::{Drawn, Finished, Recorder};
use super::results::{StyleMean, column};
use crate::axes::{control, generator, ip_adapter, lora, strength, style_text};
use crate::datasets::Photo;
use crate::experiment::kind::{Inputs, Item, Work};
use crate::experiment::models::{Needed, Role};
use crate::experiment::stage::{Decoded, Pass, decode};
use crate::images::{self, Filter, Text, resize};
use crate::metrics::image::photo::PhotoMeasures;
use crate::metrics::{Values, of_pictures};
use crate::models::{Generated, Generator};
use crate::pipelines::{FileOrigin, Origin, Recipe, draw, each};
use crate::prompts::TokenBudget;
use crate::run::layout::{image_path, photo_path, way};
use crate::run::style::ItemRow;
use crate::runtime::{during, one_line};
use crate::workers::{Ledger, Stage};

/// Of its bar.
pub const LABEL: &str = "drawing";

/// Pictures that are drawn together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Places of cell and photo in the plan.
    jobs: Vec<(usize, usize)>,
    /// Of each, what was said of the photo, or why nothing was.
    said: Vec<Result<String, String>>,
}

/// A photo as a batch needs it.
#[derive(Debug)]
struct Pixels {
    /// At the size of the comparison.
    small: RgbImage,
    /// Where pictures start from it.
    start: Option<RgbImage>,
    /// What file that is, for those that start from it.
    origin: Option<FileOrigin>,
    measures: PhotoMeasures,
}

/// The work of generator and scorer.
pub struct Draw<'a> {
    inputs: Inputs<'a, StyleTransfer>,
    scorer: &'a dyn ImageScorer,
    /// What the pictures of each generator have in common, by its name and adapters.
    origins: Origins,
    photos: Arc<Photos>,
}

impl<'a> Draw<'a> {
    pub fn new(
        inputs: Inputs<'a, StyleTransfer>,
        scorer: &'a dyn ImageScorer,
        origins: Origins,
        photos: Arc<Photos>,
    ) -> Self {
        Self { inputs, scorer, origins, photos }
    }

    fn jobs(&self, batch: &Batch) -> Vec<Job<'a>> {
        jobs(self.inputs.plan, &batch.jobs)
    }
}

impl Stage for Draw<'_> {
    const LABEL: &'static str = LABEL;
    type Batch = Batch;
    type Ready = Decoded;
    type Model = Box<dyn Generator>;
    type Made = Finished;

    fn model(&self, batch: &Batch) -> String {
        self.jobs(batch)[0].cell.text(&generator::AXIS).to_string()
    }

    fn load(&self, name: &str) -> Result<Box<dyn Generator>> {
        self.inputs.models.generator(name)
    }

    fn prepare(&self, batch: &Batch) -> Decoded {
        decode(photos_of(&self.jobs(batch)).into_iter().map(|photo| photo.path.clone()).collect())
    }

    /// One batch: photos and descriptions to pictures, rows and features.
    fn work(&self, batch: &Batch, decoded: Decoded, generator: &Box<dyn Generator>) -> Result<Finished> {
        let mut finished = Finished::default();
        let jobs = self.jobs(batch);
        let decoded = during("decoding", || decoded.collect());
        let photos = during("resizing", || self.look_at(&jobs, decoded, generator.own_size()));
        for (id, pixels) in &photos {
            if let Ok(pixels) = pixels {
                let image = pixels.small.clone();
                finished.pictures.push(Drawn { path: photo_path(id), image, texts: Vec::new() });
            }
        }
        let mut tasks = Vec::new();
        for (job, said) in jobs.iter().zip(&batch.said) {
            let mut row = job.row();
            let photo = photos.iter().find(|(id, _)| *id == job.photo.id).map(|(_, photo)| photo);
            match prepare(job, said, photo, generator.token_budget(), &mut row) {
                Ok(photo) => tasks.push((job, row, photo)),
                Err(error) => finished.rows.push(failed(row, error)),
            }
        }
        self.draw_and_measure(tasks, generator.as_ref(), &mut finished);
        Ok(finished)
    }

    fn lost(&self, batch: &Batch, reason: &str) -> Result<Finished> {
        let name = self.model(batch);
        let row = |job: &Job| failed(job.row(), format!("{name} cannot draw it: {reason}"));
        Ok(Finished { rows: self.jobs(batch).iter().map(row).collect(), ..Finished::default() })
    }
}

/// The pass that draws.
pub struct Drawing<'a> {
    pub work: &'a Work<'a, StyleTransfer>,
    pub stage: Draw<'a>,
    pub descriptions: &'a Descriptions,
    pub style: &'a StyleMean,
    pub recorder: Recorder,
    /// What was drawn: the rows, and the features by name.
    pub rows: Vec<ItemRow>,
    pub features: Features,
    /// Photos that were handed over: each is saved once.
    pub saved: BTreeSet<String>,
    /// Photos and reasons of failures that were said.
    pub said: BTreeSet<(String, String)>,
}

impl Drawing<'_> {
    /// Says what failed as soon as it is known, a photo that fails in the same way under all strategies once; a photo
    /// whose header cannot be read was spoken of before the run.
    fn say_failures(&mut self, jobs: &[Job], rows: &[ItemRow]) {
        for row in rows.iter().filter(|row| !row.is_done()) {
            if self.said.insert((row.id.clone(), row.error.clone())) {
                let path = jobs.iter().find(|job| job.photo.id == row.id).map(|job| &job.photo.path);
                if path.is_none_or(|path| images::probe(path).is_ok()) {
                    tracing::warn!("{} under {} failed: {}", row.id, row.strategy, row.error);
                }
            }
        }
    }
}

impl<'a> Ledger for Drawing<'a> {
    type Stage = Draw<'a>;

    fn stage(&self) -> &Draw<'a> {
        &self.stage
    }

    fn record(&mut self, batch: &Batch, mut finished: Finished) -> Result<usize> {
        let jobs = self.stage.jobs(batch);
        // A batch is drawn whole, so that a picture never depends on where a run was stopped;
        // what was recorded before stays.
        finished.rows.retain(|row| !self.work.done.contains(&row.key()));
        self.say_failures(&jobs, &finished.rows);
        for row in &mut finished.rows {
            let feature = finished.features.get(&key(&row.strategy, &row.id));
            row.style_distance = feature.and_then(|feature| column(self.style.distance(feature)));
        }
        let photos: BTreeSet<String> = jobs.iter().map(|job| photo_path(&job.photo.id)).collect();
        finished.pictures.retain(|drawn| !photos.contains(&drawn.path) || self.saved.insert(drawn.path.clone()));
        let count = finished.rows.len();
        self.rows.extend(finished.rows.iter().cloned());
        self.features.extend(finished.features.iter().map(|(key, feature)| (key.clone(), feature.clone())));
        self.recorder.send(finished)?;
        Ok(count)
    }
}

impl Pass for Drawing<'_> {
    fn batches(&self) -> Vec<Batch> {
        let plan = self.work.plan;
        let said = |&(cell, photo): &(usize, usize)| {
            self.descriptions.get(&plan.cells[cell], &plan.photos[photo]).map(str::to_string)
        };
        let batches = batches(plan, self.stage.inputs.batch_size).into_iter();
        batches.map(|jobs| Batch { said: jobs.iter().map(said).collect(), jobs }).collect()
    }

    fn is_pending(&self, batch: &Batch) -> bool {
        is_pending(self.work, &batch.jobs)
    }

    fn extent(&self, _pending: &[Batch]) -> (usize, usize) {
        (self.work.plan.len(), self.work.done.len())
    }
}

/// The generator that draws first, before anything is described; None where nothing is to be drawn.
pub fn first_generator(work: &Work<StyleTransfer>) -> Option<String> {
    let batches = batches(work.plan, work.batch_size()).into_iter();
    let first = batches.filter(|jobs| is_pending(work, jobs)).flatten().next()?;
    Some(work.plan.cells[first.0].text(&generator::AXIS).to_string())
}

fn is_pending(work: &Work<StyleTransfer>, batch: &[(usize, usize)]) -> bool {
    jobs(work.plan, batch).iter().any(|job| !work.done.contains(&job.key()))
}

/// Where pictures lie in a run folder, as deep as they do elsewhere in it.
const PICTURES: &str = "images/strategy";

/// The photo as seen from a picture drawn in the run folder, so that a run says the same wherever both lie.
fn origin_of(photo: &Photo, dir: &Path) -> Result<FileOrigin> {
    let path = way(&absolute(dir)?.join(PICTURES), &absolute(&photo.path)?);
    Ok(FileOrigin { path: path.into(), ..FileOrigin::of(&photo.id, &photo.path)? })
}

impl Draw<'_> {
    /// The photos of a batch, with their ids.
    fn look_at<'j>(
        &self,
        jobs: &[Job<'j>],
        decoded: Vec<Result<RgbImage>>,
        own_size: (usize, usize),
    ) -> Vec<(&'j str, Result<Pixels, String>)> {
        let side = self.inputs.config.comparison_size;
        // From a photo the picture starts, or what is computed of it steers.
        let starts = |job: &Job| [&strength::AXIS, &control::AXIS].iter().any(|axis| !job.cell.get(axis).is_none());
        let starts = jobs.iter().any(starts);
        let drawn = drawn_size(self.inputs.config, own_size);
        let (known, dir) = (self.photos.as_ref(), self.inputs.dir);
        let look = |(photo, decoded): (&'j Photo, Result<RgbImage>)| {
            let pixels = decoded.and_then(|whole| {
                let measures = known.measures(&photo.id, &whole);
                Ok(Pixels {
                    small: known.at(&whole, &measures, (side, side), Filter::Bicubic),
                    measures,
                    start: starts.then(|| known.start(whole, &measures, drawn)),
                    origin: starts.then(|| origin_of(photo, dir)).transpose()?,
                })
            });
            (photo.id.as_str(), pixels.map_err(|error| one_line(&error)))
        };
        photos_of(jobs).into_par_iter().zip(decoded).map(look).collect()
    }

    fn draw_and_measure(
        &self,
        tasks: Vec<(&Job, ItemRow, &Pixels)>,
        generator: &dyn Generator,
        finished: &mut Finished,
    ) {
        let Some((first, _, _)) = tasks.first() else { return };
        let mut request = request(first.cell, self.inputs.config, generator.own_size());
        request.prompts = tasks.iter().map(|(_, row, _)| row.prompt.clone()).collect();
        request.seeds = tasks.iter().map(|(_, row, _)| row.seed).collect();
        let photos = || tasks.iter().filter_map(|(.., photo)| photo.start.clone()).collect();
        if request.strength.is_some() {
            request.images = photos();
        }
        if let Some(control) = &mut request.control {
            control.images = photos();
        }
        let start = Instant::now();
        let drawn = draw(generator, &request);
        let seconds = start.elapsed().as_secs_f64() / tasks.len() as f64;
        let side = self.inputs.config.comparison_size;
        // The device waits for this: a large picture takes a core a fiftieth of a second.
        let small = |drawn: &Result<Generated>| {
            drawn.as_ref().ok().map(|drawn| resize(&drawn.image, side, side, Filter::Bicubic))
        };
        let small: Vec<Option<RgbImage>> = during("resizing", || drawn.par_iter().map(small).collect());
        let (mut rows, mut photos, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (((job, mut row, photo), result), small)) in tasks.into_iter().zip(drawn).zip(small).enumerate() {
            row.seconds = Some(seconds);
            let texts = || {
                let settled = generator.settled(&request, at)?;
                let origin = self.origins.get(&origin_key(job.cell)).context("a generator that is not of the plan")?;
                let uses_it = settled.strength.is_some() || request.control.is_some();
                let photo = photo.origin.clone().filter(|_| uses_it);
                let photo = photo.map(|photo| (photo, self.photos.fit));
                Recipe::of(&request, at, &settled, origin, photo).texts()
            };
            let small = || small.context("a picture that was not drawn");
            match result.and_then(|drawn| Ok((drawn, small()?, texts()?))) {
                Ok((Generated { image, remark }, small, texts)) => {
                    row.remark = remark.unwrap_or_default();
                    photos.push(photo.small.clone());
                    pictures.push((small, texts.clone()));
                    if self.inputs.config.keep_drawn {
                        let path = format!("drawn/{}/{}.png", row.strategy, row.id);
                        finished.pictures.push(Drawn { path, image, texts });
                    }
                    rows.push(row);
                }
                Err(error) => {
                    let error = format!("{} cannot draw it: {}", job.cell.text(&generator::AXIS), one_line(&error));
                    finished.rows.push(failed(row, error));
                }
            }
        }
        self.measure(rows, &photos, pictures, finished);
    }

    /// The values of single pictures, and the feature, of pictures that were drawn.
    fn measure(
        &self,
        rows: Vec<ItemRow>,
        photos: &[RgbImage],
        pictures: Vec<(RgbImage, Vec<Text>)>,
        finished: &mut Finished,
    ) {
        let (pictures, texts): (Vec<RgbImage>, Vec<Vec<Text>>) = pictures.into_iter().unzip();
        let measures = each(pictures.len(), |range| {
            let (photos, pictures) = (&photos[range.clone()], &pictures[range]);
            let mut values = vec![Values::default(); pictures.len()];
            for metric in of_pictures() {
                let Some(measured) = metric.of_items(self.scorer, photos, pictures) else { continue };
                for (values, value) in values.iter_mut().zip(measured?) {
                    values.set_value(metric.about().name, column(value));
                }
            }
            Ok(values.into_iter().zip(self.scorer.features(pictures)?).collect())
        });
        for (((mut row, image), texts), measure) in rows.into_iter().zip(pictures).zip(texts).zip(measures) {
            row.image = image_path(&row.strategy, &row.id);
            row.photo = photo_path(&row.id);
            finished.pictures.push(Drawn { path: row.image.clone(), image, texts });
            match measure {
                Ok((values, feature)) => {
                    row.values = values;
                    row.status = "done".to_string();
                    finished.features.insert(key(&row.strategy, &row.id), feature);
                    finished.rows.push(row);
                }
                Err(error) => {
                    let error = format!("the picture cannot be measured: {}", one_line(&error));
                    finished.rows.push(failed(row, error));
                }
            }
        }
    }
}

/// By a generator's name, and what is put onto it.
pub type Origins = BTreeMap<[String; 4], Origin>;

fn origin_key(cell: &Cell) -> [String; 4] {
    [&generator::AXIS, &lora::AXIS, &control::AXIS, &ip_adapter::AXIS].map(|axis| cell.text(axis).to_string())
}

/// What the pictures of a plan's generators say of them.
pub fn origins(work: Inputs<StyleTransfer>) -> Result<Origins> {
    let mut origins = Origins::new();
    for cell in &work.plan.cells {
        if let Entry::Vacant(new) = origins.entry(origin_key(cell)) {
            let generator = cell.text(&generator::AXIS);
            let path = work.models.find(&Needed::new(generator, Role::Generator))?;
            // Of any size: that is no part of it.
            let origin = Origin::new(generator, &path, work.models.place(), &request(cell, work.config, (1, 1)))?;
            let pictures = absolute(work.dir)?.join(PICTURES);
            new.insert(origin.with_paths(|path| way(&pictures, path)));
        }
    }
    Ok(origins)
}

/// The photo; fills in what is known of it and what the generator is to be told.
fn prepare<'p>(
    job: &Job,
    said: &Result<String, String>,
    photo: Option<&'p Result<Pixels, String>>,
    budget: &TokenBudget,
    row: &mut ItemRow,
) -> Result<&'p Pixels, String> {
    let photo = photo.ok_or("it was not decoded")?.as_ref().map_err(Clone::clone)?;
    row.photo_luma = column(photo.measures.luma);
    row.photo_sharpness = photo.measures.sharpness.and_then(column);
    row.face_share = photo.measures.face_share;
    row.caption = said.clone()?;
    let composed = budget.compose(&row.caption, job.cell.text(&style_text::AXIS)).map_err(|error| one_line(&error))?;
    row.prompt = composed.prompt;
    row.dropped = composed.dropped;
    Ok(photo)
}

fn failed(row: ItemRow, error: String) -> ItemRow {
    ItemRow { status: "failed".to_string(), error, ..row }
}
