//! `toolkit caption`.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Device;

use super::print::{self, say};
use super::team::{crew, early_crew, team};
use crate::cli::{CaptionArgs, Format, Global};
use crate::error::{Outcome, usage};
use crate::images;
use crate::models::{
    CaptionOptions, Captioner, Preprocess, captioner_preprocess, check_captions, load_captioner, preprocessed,
};
use crate::pipelines::{captions_at_once, describe};
use crate::runtime::{Runtime, RuntimeOptions, log_moment, log_peak_memory, one_line};
use crate::workers::{self, Crew, Desk, Ledger, Packed, Parcel, Paths, Stage, Team};

/// The part of a worker's task that this command is.
pub const TASK: &str = "caption";

/// One line of the result.
#[derive(Debug, Serialize)]
struct Row {
    image: String,
    caption: String,
    /// New tokens, the end token included.
    tokens: usize,
}

/// On the CPU larger batches gain nothing.
const CPU_BATCH: usize = 4;

pub fn run(args: CaptionArgs, global: &Global) -> Result<Outcome> {
    for (name, value) in [
        ("--num-beams", Some(args.num_beams)),
        ("--batch-size", args.batch_size),
        ("--max-new-tokens", args.max_new_tokens),
    ] {
        if value == Some(0) {
            return Err(usage(format!("{name} must be at least 1")));
        }
    }
    // Pictures are looked at on as many threads as are asked for.
    Runtime::foresee(global)?;
    // CUDA loads meanwhile; of several devices each has a process.
    let early = early_crew(global);
    let team = team(global)?;
    let _loading = if team.is_none() { Runtime::begin(global) } else { None };
    let files = files(&args.images)?;
    let readable = readable(&files);
    if readable.is_empty() {
        bail!(none_of(files.len()));
    }
    let asked = Asked {
        model: args.model,
        prompt: args.prompt,
        max_new_tokens: args.max_new_tokens,
        num_beams: args.num_beams,
        files: Paths(readable),
    };
    let shown = Shown { format: args.format, one_of_several: files.len() > 1 };
    let rows = match team {
        Some((team, options)) => together(&asked, args.batch_size, shown, (early, &team), options)?,
        None => alone(&asked, args.batch_size, shown, Runtime::new(global)?)?,
    };
    print(&rows, args.format)?;
    match files.len() - rows.len() {
        0 => Ok(Outcome::Done),
        _ if rows.is_empty() => bail!(none_of(files.len())),
        _ => Ok(Outcome::SomeFailed),
    }
}

fn none_of(pictures: usize) -> String {
    match pictures {
        1 => "the picture could not be described".to_string(),
        _ => format!("none of the {pictures} pictures could be described"),
    }
}

/// On one device, in this process. The first pictures are decoded while the captioner is loaded.
fn alone(asked: &Asked, batch_size: Option<usize>, shown: Shown, rt: Runtime) -> Result<Vec<Row>> {
    check_captions(&asked.model, &asked.options(), &rt)?;
    log_moment("the request is checked");
    let size = batch_size.unwrap_or_else(|| self::batch_size(rt.device, asked.files.0.len()));
    let mut ledger = Rows::new(Describe::new(asked, rt), shown);
    workers::alone(&mut ledger, &asked.batches(size), |_| ())?;
    log_peak_memory(rt.device);
    Ok(ledger.rows)
}

/// On several devices, in a process each.
fn together(
    asked: &Asked,
    batch_size: Option<usize>,
    shown: Shown,
    (early, team): (Option<Crew>, &Team),
    options: RuntimeOptions,
) -> Result<Vec<Row>> {
    let device = if options.device == "cpu" { Device::Cpu } else { Device::Cuda(0) };
    if let Some(special) = asked.files.0.iter().find(|file| !file.is_file()) {
        return Err(usage(format!("{} is no file: with several devices pictures must be files", special.display())));
    }
    // This process looks for the model, and computes nothing.
    let rt = Runtime { device: Device::Cpu, dtype: options.dtype, offline: options.offline };
    check_captions(&asked.model, &asked.options(), &rt)?;
    let mut crew = crew(early, team, &json!({ TASK: asked }))?;
    log_moment("workers have their task");
    let size = batch_size.unwrap_or_else(|| self::batch_size(device, asked.files.0.len()));
    let mut ledger = Rows::new(Describe::new(asked, rt), shown);
    crew.pass(&mut ledger, &asked.batches(size), None, |_| ())?;
    log_moment("all pictures are described");
    crew.leave();
    Ok(ledger.rows)
}

/// Describes, as a worker, what the command asks for.
pub fn serve(asked: Asked, rt: Runtime, desk: &mut Desk) -> Result<()> {
    while desk.stage().is_some() {
        desk.run(&Describe::new(&asked, rt))?;
    }
    Ok(())
}

/// What is to be described, and how.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    model: String,
    prompt: Option<String>,
    max_new_tokens: Option<usize>,
    num_beams: usize,
    files: Paths,
}

impl Asked {
    fn options(&self) -> CaptionOptions {
        let Self { prompt, max_new_tokens, num_beams, .. } = self;
        CaptionOptions { prompt: prompt.clone(), max_new_tokens: *max_new_tokens, num_beams: *num_beams }
    }

    fn batches(&self, size: usize) -> Vec<Range<usize>> {
        let count = self.files.0.len();
        (0..count).step_by(size).map(|start| start..count.min(start + size)).collect()
    }
}

/// The work of the captioner on some of the files, by their places.
struct Describe<'a> {
    asked: &'a Asked,
    rt: Runtime,
    preprocess: OnceCell<Option<Preprocess>>,
}

impl<'a> Describe<'a> {
    fn new(asked: &'a Asked, rt: Runtime) -> Self {
        Self { asked, rt, preprocess: OnceCell::new() }
    }
}

/// Caption and new tokens of each picture, or why it has none.
struct Said(Vec<Result<(String, usize), String>>);

impl Parcel for Said {
    fn pack(self) -> Result<Packed> {
        Packed::of(&self.0)
    }

    fn unpack(packed: Packed) -> Result<Self> {
        packed.read().map(Self)
    }
}

impl Stage for Describe<'_> {
    const LABEL: &'static str = "describing";
    type Batch = Range<usize>;
    type Ready = images::Prefetch;
    type Model = Box<dyn Captioner>;
    type Made = Said;

    fn model(&self, _batch: &Range<usize>) -> String {
        self.asked.model.clone()
    }

    fn load(&self, name: &str) -> Result<Box<dyn Captioner>> {
        let captioner = load_captioner(name, &self.rt)?;
        log_moment("the captioner is loaded");
        Ok(captioner)
    }

    /// Decodes and preprocesses on all cores.
    fn prepare(&self, batch: &Range<usize>) -> images::Prefetch {
        // What is wrong with it is said where the captioner is loaded.
        let find = || captioner_preprocess(&self.asked.model, &self.rt).ok().flatten();
        let preprocess = self.preprocess.get_or_init(find).clone();
        let files = self.asked.files.0[batch.clone()].to_vec();
        images::stream_with(files, batch.len(), move |file| preprocessed(images::load(file)?, preprocess.as_ref()))
    }

    fn work(&self, _batch: &Range<usize>, decoded: images::Prefetch, captioner: &Box<dyn Captioner>) -> Result<Said> {
        Ok(Said(caption_batch(captioner.as_ref(), decoded.collect(), &self.asked.options())))
    }

    fn lost(&self, batch: &Range<usize>, reason: &str) -> Result<Said> {
        let failed = |file: &PathBuf| Err(format!("{}: {reason}", file.display()));
        Ok(Said(self.asked.files.0[batch.clone()].iter().map(failed).collect()))
    }
}

/// How results are shown as they come.
#[derive(Debug, Clone, Copy)]
struct Shown {
    format: Format,
    one_of_several: bool,
}

/// The rows in the order of the files; batches that come early wait.
struct Rows<'a> {
    stage: Describe<'a>,
    shown: Shown,
    waiting: BTreeMap<usize, Said>,
    /// The file that comes next.
    next: usize,
    rows: Vec<Row>,
}

impl<'a> Rows<'a> {
    fn new(stage: Describe<'a>, shown: Shown) -> Self {
        Self { stage, shown, waiting: BTreeMap::new(), next: 0, rows: Vec::new() }
    }
}

impl<'a> Ledger for Rows<'a> {
    type Stage = Describe<'a>;

    fn stage(&self) -> &Describe<'a> {
        &self.stage
    }

    fn record(&mut self, batch: &Range<usize>, made: Said) -> Result<usize> {
        self.waiting.insert(batch.start, made);
        while let Some(Said(said)) = self.waiting.remove(&self.next) {
            let files = &self.stage.asked.files.0[self.next..self.next + said.len()];
            self.next += said.len();
            for (file, said) in files.iter().zip(said) {
                match said {
                    Ok((caption, tokens)) => {
                        let row = Row { image: images::path_text(file), caption, tokens };
                        if self.shown.format == Format::Text {
                            print_line(&row, self.shown.one_of_several)?;
                        }
                        self.rows.push(row);
                    }
                    Err(error) => tracing::error!("{error}"),
                }
            }
        }
        Ok(batch.len())
    }
}

/// The pictures that are asked for: of a folder each one in it, in the order of `DIR/*`.
fn files(asked: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in asked {
        if path.is_dir() {
            files.extend(images::list(path).map_err(|error| usage(format!("{error:#}")))?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// The files that are pictures by their headers; of the others a line says why, before a model is loaded. Pipes are not
/// looked at: what is read from them is gone.
fn readable(files: &[PathBuf]) -> Vec<PathBuf> {
    let look = |file: &PathBuf| {
        let is_special = file.metadata().is_ok_and(|found| !found.is_file());
        if is_special { Ok(()) } else { images::probe(file).map(drop) }
    };
    let looked: Vec<Result<()>> = files.par_iter().map(look).collect();
    let good = |(file, found): (&PathBuf, Result<()>)| match found {
        Ok(()) => Some(file.clone()),
        // The error names the file.
        Err(error) => {
            tracing::error!("{}", one_line(&error));
            None
        }
    };
    files.iter().zip(looked).filter_map(good).collect()
}

/// What was said of each picture of a batch, or in a line why nothing was.
fn caption_batch(
    captioner: &dyn Captioner,
    batch: Vec<(PathBuf, Result<image::RgbImage>)>,
    options: &CaptionOptions,
) -> Vec<Result<(String, usize), String>> {
    let (mut said, mut places, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (path, decoded)) in batch.into_iter().enumerate() {
        match decoded {
            Ok(picture) => {
                places.push((at, path));
                pictures.push(picture);
                said.push(Err(String::new()));
            }
            // The error names the file.
            Err(error) => said.push(Err(one_line(&error))),
        }
    }
    for ((at, path), caption) in places.into_iter().zip(describe(captioner, &pictures, options)) {
        said[at] = match caption {
            Ok(caption) => Ok((caption.text, caption.tokens)),
            Err(error) => Err(format!("{}: {}", path.display(), one_line(&error))),
        };
    }
    said
}

fn print_line(row: &Row, is_one_of_several: bool) -> Result<()> {
    if is_one_of_several {
        say!("{}: {}", row.image, row.caption);
    } else {
        say!("{}", row.caption);
    }
    Ok(())
}

fn print(rows: &[Row], format: Format) -> Result<()> {
    match format {
        // Already there, line by line.
        Format::Text => {}
        Format::Json => say!("{}", serde_json::to_string_pretty(rows)?),
        Format::Csv => print::table(|table| rows.iter().try_for_each(|row| table.serialize(row)))?,
    }
    Ok(())
}

/// Pictures at a time.
pub fn batch_size(device: Device, pictures: usize) -> usize {
    if device.is_cuda() { captions_at_once(pictures) } else { CPU_BATCH }
}
