//! BLIP captioning: a ViT reads the picture, a BERT decoder with cross attention writes the caption.
//!
//! Architecture: <https://github.com/salesforce/BLIP>, as in transformers' `modeling_blip.py` and
//! `modeling_blip_text.py`, whose key names the checkpoints carry.

mod config;
mod image_processor;
mod published;
mod steps;
mod text_decoder;
mod tokenizer;
mod vision;

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use tch::{Device, Kind, Tensor};
use tokenizers::Tokenizer;

use crate::checkpoints::{self, Checkpoint, Weights};
use crate::error::usage;
use crate::images;
use crate::models::captioners::generation::{self, GenerationConfig, GenerationOptions, Prompts, StepModel};
use crate::models::needed_files::{BERT_TOKENIZER, PROCESSOR};
use crate::models::text::tokenizer_file;
use crate::models::{
    Caption, CaptionOptions, Captioner, CaptionerTask, Family, MeasuredBatch, MeasuredCaptioner, Preprocess, Task,
};
use crate::nn::{Library, load_libraries};
use crate::runtime::{Delivered, Runtime, free_memory};

pub use config::Config;
use image_processor::ImageProcessor;
use steps::BlipSteps;
use text_decoder::{CrossAttentionCache, TextDecoder};
use vision::VisionModel;

/// How it is told, loaded and measured.
pub static FAMILY: Family = Family {
    title: "BLIP captioner",
    pipeline_classes: &[],
    model_types: &["blip"],
    tensors: &[],
    is_file: |_, _| Ok(false),
    files: |found, _| {
        found.any_of("", PROCESSOR);
        found.any_of("", BERT_TOKENIZER);
        found.weights("", "model")
    },
    task: Task::Caption(CaptionerTask {
        load: |folder, rt| Ok(Box::new(Blip::load(folder, rt)?)),
        check: Blip::check,
        preprocess: |folder| {
            let side = read_config(folder)?.vision_config.image_size;
            Ok(Some(ImageProcessor::load(folder, side)?.into_preprocess()))
        },
        random: |name, rt| Ok(Box::new(RandomBlip::new(name, rt)?)),
    }),
};

/// Pictures that run at once, at most: more bring nothing.
const MOST_AT_ONCE: usize = 256;

/// The two networks.
pub struct Networks {
    vision: VisionModel,
    decoder: TextDecoder,
    /// What the steps of the last batch used, for the next one of its size.
    spare: RefCell<Option<BlipSteps>>,
}

impl Networks {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        Ok(Self {
            vision: VisionModel::new(&weights.at("vision_model"), &config.vision_config)?,
            decoder: TextDecoder::new(&weights.at("text_decoder"), config)?,
            spare: RefCell::default(),
        })
    }

    /// A published model's size with random weights: for measuring speed.
    pub fn published(name: &str, device: Device, kind: Kind) -> Result<(Self, Config)> {
        let config = published::config(name)
            .ok_or_else(|| usage(format!("the size of {name} is not known: bench blip-base or blip-large")))?;
        Ok((Self::new(&Weights::random(device, kind), &config)?, config))
    }

    /// [batch, 3, side, side], normalised → [batch, 1 + patches, vision hidden]
    pub fn picture_states(&self, pixels: &Tensor) -> Tensor {
        self.vision.forward(pixels)
    }

    /// Reads the pictures for the decoder.
    fn look(&self, pixels: &Tensor, caches: &[CrossAttentionCache]) {
        self.decoder.look(&self.picture_states(pixels), caches);
    }

    /// One batch of captions: its pictures, each text starting with `prompt` (ids, the start token
    /// included), with at most so many tokens to follow.
    pub fn session<'a>(&'a self, pixels: &'a Tensor, prompt: &'a [i64], max_new_tokens: usize) -> Session<'a> {
        Session { networks: self, pixels, prompt, longest: (prompt.len() + max_new_tokens) as i64, steps: None }
    }

    /// New tokens for each picture, each text starting with `prompt`. Texts end at the latest where the
    /// decoder knows no further position.
    pub fn generate(&self, pixels: &Tensor, prompt: &[i64], options: &GenerationOptions) -> Result<Vec<Vec<i64>>> {
        let batch = pixels.size()[0];
        let positions = self.decoder.positions() as usize;
        check_prompt(prompt, positions)?;
        // The last token is not read any more.
        let max_new_tokens = options.max_new_tokens.min(positions - prompt.len() + 1);
        let options = GenerationOptions { max_new_tokens, ..options.clone() };
        let ids = Tensor::from_slice(prompt).unsqueeze(0).repeat([batch, 1]).to_device(pixels.device());
        let prompts = Prompts { ids, padding: vec![0; batch as usize] };
        generation::generate(&mut self.session(pixels, prompt, max_new_tokens), &prompts, &options)
    }
}

/// Random weights at a published size.
struct RandomBlip {
    networks: Networks,
    config: Config,
    device: Device,
    kind: Kind,
}

impl RandomBlip {
    fn new(name: &str, rt: &Runtime) -> Result<Self> {
        let (device, kind) = (rt.device, rt.kind(Kind::Half));
        let (networks, config) = Networks::published(name, device, kind)?;
        Ok(Self { networks, config, device, kind })
    }
}

impl MeasuredCaptioner for RandomBlip {
    fn dtype(&self) -> Kind {
        self.kind
    }

    fn batch(&self, pictures: usize) -> Result<MeasuredBatch<'_>> {
        let side = self.config.vision_config.image_size;
        let pixels = Tensor::randn([pictures as i64, 3, side, side], (self.kind, self.device));
        let prompt = [self.config.text_config.bos_token_id];
        Ok(Box::new(move |tokens| {
            self.networks.generate(&pixels, &prompt, &GenerationOptions::endless(tokens)).map(drop)
        }))
    }

    fn preprocess(&self) -> Option<Preprocess> {
        Some(ImageProcessor::of_side(self.config.vision_config.image_size).into_preprocess())
    }

    /// A batch goes on until its longest text ends.
    fn describe(&self, pictures: &[RgbImage], new_tokens: &[usize]) -> Result<()> {
        let prompt = [self.config.text_config.bos_token_id];
        let processor = ImageProcessor::of_side(self.config.vision_config.image_size);
        let weights = (self.device, self.kind);
        let mut new_tokens = new_tokens;
        in_batches(&processor, pictures, at_once(&self.config, weights, 1), weights, |pixels| {
            let (batch, rest) = new_tokens.split_at(pixels.size()[0] as usize);
            new_tokens = rest;
            let longest = batch.iter().copied().max().unwrap_or(0);
            self.networks.generate(pixels, &prompt, &GenerationOptions::endless(longest)).map(drop)
        })
    }
}

/// One batch of captions on its way.
pub struct Session<'a> {
    networks: &'a Networks,
    pixels: &'a Tensor,
    prompt: &'a [i64],
    /// Longest text, prompt included.
    longest: i64,
    steps: Option<BlipSteps>,
}

impl Session<'_> {
    fn steps(&mut self) -> Result<&mut BlipSteps> {
        self.steps.as_mut().context("the decoder was not started")
    }
}

impl StepModel for Session<'_> {
    fn start(&mut self, copies: i64) -> Result<Tensor> {
        let mut steps = BlipSteps::new(self.networks, self.pixels.size()[0], copies, self.longest);
        steps.look(self.networks, self.pixels)?;
        self.steps.insert(steps).read(self.networks, self.prompt)
    }

    fn step(&mut self, tokens: &Tensor) -> Result<Tensor> {
        let networks = self.networks;
        self.steps()?.step(networks, tokens)
    }

    fn reorder(&mut self, rows: &Tensor) -> Result<()> {
        self.steps()?.reorder(rows);
        Ok(())
    }

    /// Recorded steps have the size of the batch.
    fn may_shrink(&self) -> bool {
        self.steps.as_ref().is_none_or(|steps| !steps.are_captured())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // Only what was recorded is worth its memory.
        if let Some(steps) = self.steps.take_if(|steps| steps.are_captured()) {
            self.networks.spare.replace(Some(steps));
        }
    }
}

/// A BLIP checkpoint, ready to describe pictures.
pub struct Blip {
    networks: Networks,
    config: Config,
    generation: GenerationConfig,
    processor: ImageProcessor,
    tokenizer: Tokenizer,
    /// Of the vocabulary: the tokenizer copies it whole to count them.
    words: i64,
    weights: (Device, Kind),
}

impl Blip {
    /// Loads a folder in the transformers layout; on CUDA in float16 unless another type is asked for.
    pub fn load(folder: &Path, rt: &Runtime) -> Result<Self> {
        let config = read_config(folder)?;
        let (device, kind) = (rt.device, rt.kind(Kind::Half));
        let weights = Checkpoint::open_dir(folder, "model")?.weights(device, kind);
        let _libraries = load_libraries(&[Library::Products, Library::Norms], device, kind);
        let networks = weights.build(|weights| Networks::new(weights, &config))?;
        let processor = ImageProcessor::load(folder, config.vision_config.image_size)?;
        let tokenizer = tokenizer::load(folder)?;
        Ok(Self {
            networks,
            config,
            generation: GenerationConfig::of_folder(folder)?,
            processor,
            words: tokenizer.get_vocab_size(true) as i64,
            tokenizer,
            weights: (device, kind),
        })
    }

    /// Refuses options with which no picture can be described; reads no weights.
    pub fn check(folder: &Path, options: &CaptionOptions) -> Result<()> {
        let Some(prompt) = &options.prompt else { return Ok(()) };
        let text = read_config(folder)?.text_config;
        let ids = prompt_ids(&tokenizer::load(folder)?, text.bos_token_id, Some(prompt))?;
        check_prompt(&ids, text.max_position_embeddings as usize)
    }

    /// The ids that a caption starts with: the start token, then the prompt's words.
    pub fn prompt_ids(&self, prompt: Option<&str>) -> Result<Vec<i64>> {
        prompt_ids(&self.tokenizer, self.config.text_config.bos_token_id, prompt)
    }

    /// The picture as the network sees it: [batch, 3, side, side].
    pub fn pixels(&self, images: &[RgbImage]) -> Tensor {
        self.processor.forward(images, self.weights.0, self.weights.1)
    }

    /// What the decoder attends to: [batch, 1 + patches, vision hidden].
    pub fn picture_states(&self, pixels: &Tensor) -> Tensor {
        self.networks.picture_states(pixels)
    }

    fn options(&self, options: &CaptionOptions) -> Result<GenerationOptions> {
        let text = &self.config.text_config;
        let mut generation = self.generation.options(&[text.sep_token_id], Some(text.pad_token_id))?;
        // The reference passes these two itself, whatever the generation configuration says.
        generation.eos = vec![text.sep_token_id];
        generation.pad = text.pad_token_id;
        generation.max_new_tokens = options.max_new_tokens.unwrap_or(generation.max_new_tokens);
        generation.num_beams = options.num_beams;
        Ok(generation)
    }

    /// What each of the captions says, the prompt included, without special tokens.
    fn decode(&self, prompt: &[i64], said: &[Vec<i64>]) -> Result<Vec<Caption>> {
        let (tokenizer, words) = (&self.tokenizer, self.words);
        images::in_parallel(said, |new| {
            // The start token has no word of its own.
            let ids: Vec<u32> = prompt.iter().chain(new).filter(|&&id| id < words).map(|&id| id as u32).collect();
            let text = tokenizer_file::guarded(|| tokenizer.decode(&ids, true)).context("decoding a caption")?;
            Ok(Caption { text: text.trim().to_string(), tokens: new.len() })
        })
    }
}

impl Captioner for Blip {
    fn caption(&self, images: &[RgbImage], options: &CaptionOptions) -> Result<Vec<Caption>> {
        let _guard = tch::no_grad_guard();
        let prompt = self.prompt_ids(options.prompt.as_deref())?;
        let options = self.options(options)?;
        let at_once = at_once(&self.config, self.weights, options.num_beams);
        let mut captions = Vec::with_capacity(images.len());
        in_batches(&self.processor, images, at_once, self.weights, |pixels| {
            captions.extend(self.decode(&prompt, &self.networks.generate(pixels, &prompt, &options)?)?);
            Ok(())
        })?;
        Ok(captions)
    }
}

/// Pictures that run at once: a quarter of what is free is for their keys and values, the rest for the vision model.
fn at_once(config: &Config, (device, kind): (Device, Kind), num_beams: usize) -> usize {
    let Some(free) = free_memory(device) else { return MOST_AT_ONCE };
    let numbers = config.numbers_per_picture() * num_beams.max(1) as i64;
    let room = (free / 4 / (numbers as u64 * kind.elt_size_in_bytes() as u64).max(1)) as usize;
    // Rounded, so that a little more or less of free memory changes nothing.
    room.checked_next_power_of_two().map_or(MOST_AT_ONCE, |next| next / 2).clamp(1, MOST_AT_ONCE)
}

/// Gives `work` the pixels of so many pictures at once, in their order; the next ones are resized and brought to the device
/// meanwhile on all cores.
fn in_batches(
    processor: &ImageProcessor,
    pictures: &[RgbImage],
    at_once: usize,
    (device, kind): (Device, Kind),
    mut work: impl FnMut(&Tensor) -> Result<()>,
) -> Result<()> {
    let resize = |picture: &RgbImage| Delivered::to(device, &processor.resize(picture));
    images::in_order_ahead(pictures, 2 * at_once, resize, |resized| {
        let mut left = pictures.len();
        while left > 0 {
            let batch = std::iter::from_fn(&mut *resized).take(at_once).map(Delivered::take);
            let batch: Vec<Tensor> = batch.collect::<Result<_>>()?;
            ensure!(!batch.is_empty(), "no picture was made ready");
            left -= batch.len();
            work(&processor.normalise(&batch, device, kind))?;
        }
        Ok(())
    })
}

fn prompt_ids(tokenizer: &Tokenizer, start: i64, prompt: Option<&str>) -> Result<Vec<i64>> {
    let mut ids = vec![start];
    if let Some(prompt) = prompt.filter(|prompt| !prompt.trim().is_empty()) {
        let words = tokenizer_file::encode(tokenizer, prompt, false)?;
        ids.extend(words.get_ids().iter().map(|&id| i64::from(id)));
    }
    Ok(ids)
}

fn check_prompt(ids: &[i64], positions: usize) -> Result<()> {
    if ids.len() > positions {
        return Err(usage(format!("a prompt of {} tokens: this model takes {positions}", ids.len())));
    }
    Ok(())
}

fn read_config(folder: &Path) -> Result<Config> {
    let file = folder.join("config.json");
    let config: Config = checkpoints::config::read(&file)?;
    config.check().with_context(|| file.display().to_string())?;
    Ok(config)
}
