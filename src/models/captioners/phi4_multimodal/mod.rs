//! Phi-4-multimodal, for describing pictures: a SigLIP tower over crops, a projector, and Phi-4-mini
//! with the vision LoRA merged in.
//! Source: <https://github.com/huggingface/transformers/tree/main/src/transformers/models/phi4_multimodal>

pub mod config;
pub mod decoder;
pub mod image_processor;
mod keys;
pub mod merge;
pub mod prompt;
pub mod session;
mod slots;
mod steps;
pub mod stream;
pub mod vision;

use std::cell::RefCell;
use std::path::Path;

use anyhow::Result;
use image::RgbImage;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::checkpoints::Weights;
use crate::images::in_parallel;
use crate::models::captioners::generation::{self, GenerationConfig, GenerationOptions, Prompts};
use crate::models::needed_files::{BPE_TOKENIZER, Found};
use crate::models::{
    Caption, CaptionOptions, Captioner, CaptionerTask, Family, MeasuredBatch, MeasuredCaptioner, Task,
};
use crate::nn::{Library, Lora, load_libraries};
use crate::runtime::{Coming, Runtime, upload};
use config::Config;
use decoder::Decoder;
use image_processor::{Crops, ImageProcessor, Shape};
use merge::ImageMerge;
use prompt::{Prompt, PromptIds};
use session::Session;
use steps::Phi4Steps;
use stream::Question;
use vision::{Valid, VisionTower};

/// How it is told, loaded and measured.
pub static FAMILY: Family = Family {
    title: "Phi-4-multimodal captioner",
    pipeline_classes: &[],
    model_types: &["phi4mm", "phi4_multimodal"],
    tensors: &[],
    is_file: |_, _| Ok(false),
    files: needed_files,
    task: Task::Caption(CaptionerTask {
        load: |folder, rt| Ok(Box::new(Phi4Multimodal::load(folder, rt)?)),
        check: Phi4Multimodal::check,
        // Crops of the photo and the whole of it.
        preprocess: |_| Ok(None),
        random: |_, rt| Ok(Box::new(Network::random(rt)?)),
    }),
};

fn needed_files(found: &mut Found, config: &Value) -> Result<()> {
    found.any_of("", BPE_TOKENIZER);
    // This layout keeps the adapter that every picture needs apart, unless it says otherwise.
    if config["model_type"] == "phi4_multimodal" && config.get("vision_lora").is_none() {
        found.texts("vision-lora");
        found.any_of("vision-lora", &[&["adapter_config.json"]]);
        found.weights("vision-lora", "adapter_model")?;
    }
    found.weights("", "model")
}

/// Size of the pictures that its speed is measured with, and the tokens around one, as many as the peer's benchmark has.
const MEASURED_PICTURE: (u32, u32) = (640, 480);
const WORDS_BEFORE: usize = 4;
const WORDS_AFTER: usize = 20;

/// What is asked when nothing is.
const QUESTION: &str = "Describe the picture in one sentence.";
/// Longest answer where neither the user nor generation_config.json says.
const MAX_NEW_TOKENS: usize = 64;

/// config.json of the published checkpoint, as far as it is read.
const PUBLISHED_CONFIG: &str = include_str!("published_config.json");

/// Pictures to answers: everything but the tokenizer.
pub struct Network {
    pub processor: ImageProcessor,
    pub tower: VisionTower,
    pub merge: ImageMerge,
    pub decoder: Decoder,
    pub config: Config,
    /// What the steps of the last batch used, for the next one of its size.
    spare: RefCell<Option<Phi4Steps>>,
}

/// A batch of prompts with their pictures, embedded.
pub struct Embedded {
    /// [pictures, length, hidden], padded on the left.
    pub tokens: Tensor,
    pub prompts: Prompts,
}

impl Network {
    fn new(weights: &Weights, processor: ImageProcessor, config: Config, lora: Option<Lora>) -> Result<Self> {
        let image = weights.at("model").at("embed_tokens_extend").at("image_embed");
        Ok(Self {
            processor,
            tower: VisionTower::new(&image.at("img_processor"), &config.vision, config.layout)?,
            merge: ImageMerge::new(&image, &config)?,
            decoder: Decoder::new(weights, &config.decoder, lora)?,
            config,
            spare: RefCell::default(),
        })
    }

    /// The published sizes with random weights: for measuring speed.
    pub fn random(rt: &Runtime) -> Result<Self> {
        let config = Config::parse(PUBLISHED_CONFIG)?;
        let weights = Weights::random(rt.device, rt.kind(Kind::BFloat16));
        let processor = ImageProcessor::new(&config.vision, config.layout);
        Self::new(&weights, processor, config, None)
    }

    /// Features of all crops of all pictures: [crops, patches, vision hidden].
    pub fn features(&self, crops: &[Crops]) -> Tensor {
        let pixels: Vec<&Tensor> = crops.iter().map(|crops| &crops.pixels).collect();
        let valid: Vec<Valid> = crops.iter().flat_map(|crops| crops.shape.valid_of_crops()).collect();
        self.tower.forward(&Tensor::cat(&pixels, 0), &valid)
    }

    /// For each picture its tokens for the language model: [tokens, hidden].
    pub fn image_tokens(&self, crops: &[Crops]) -> Vec<Tensor> {
        let shapes: Vec<Shape> = crops.iter().map(|crops| crops.shape).collect();
        self.merge.forward(&self.features(crops), &shapes)
    }

    /// The prompt with each of the pictures. `image_token_id` stands for the pictures' tokens and
    /// `pad` for padding in the ids.
    pub fn embed(&self, crops: &[Crops], prompt: &PromptIds, image_token_id: i64, pad: i64) -> Embedded {
        let counts = crops.iter().map(|crops| crops.shape.tokens());
        let (tokens, padding) = self.tokens(crops, prompt, pad);
        let mut ids = Vec::new();
        for (count, padding) in counts.zip(&padding) {
            ids.extend(vec![pad; *padding as usize]);
            ids.extend(&prompt.before);
            ids.extend(vec![image_token_id; count as usize]);
            ids.extend(&prompt.after);
        }
        let ids = upload(&Tensor::from_slice(&ids), self.decoder.device).view([crops.len() as i64, -1]);
        Embedded { tokens, prompts: Prompts { ids, padding } }
    }

    /// The same without the ids: [pictures, length, hidden], and how many places of each are padding.
    fn tokens(&self, crops: &[Crops], prompt: &PromptIds, pad: i64) -> (Tensor, Vec<i64>) {
        let counts: Vec<i64> = crops.iter().map(|crops| crops.shape.tokens()).collect();
        let longest = counts.iter().copied().max().unwrap_or(0);
        let padding: Vec<i64> = counts.iter().map(|count| longest - count).collect();
        let embed = |ids: &[i64]| self.decoder.embed(&upload(&Tensor::from_slice(ids), self.decoder.device));
        let (before, after, pad_row) = (embed(&prompt.before), embed(&prompt.after), embed(&[pad]));
        let images = self.image_tokens(crops);
        let row = |(image, padding): (&Tensor, &i64)| {
            Tensor::cat(&[&pad_row.expand([*padding, -1], false), &before, image, &after], 0)
        };
        let tokens: Vec<Tensor> = images.iter().zip(&padding).map(row).collect();
        (Tensor::stack(&tokens, 0), padding)
    }

    /// New token ids for each prompt.
    pub fn generate(&self, embedded: Embedded, options: &GenerationOptions) -> Result<Vec<Vec<i64>>> {
        let Embedded { tokens, prompts } = embedded;
        let mut session =
            Session::new(&self.decoder, &self.spare, tokens, prompts.padding.clone(), options.max_new_tokens)?;
        generation::generate(&mut session, &prompts, options)
    }
}

impl MeasuredCaptioner for Network {
    fn dtype(&self) -> Kind {
        self.decoder.kind
    }

    fn batch(&self, pictures: usize) -> Result<MeasuredBatch<'_>> {
        let (width, height) = MEASURED_PICTURE;
        let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([x, y, x * y].map(|v| (v % 256) as u8)));
        let one = self.processor.process(&picture)?;
        let crops: Vec<Crops> = (0..pictures).map(|_| one.on(self.decoder.device)).collect();
        let prompt = PromptIds { before: vec![100; WORDS_BEFORE], after: vec![100; WORDS_AFTER] };
        Ok(Box::new(move |tokens| {
            let embedded = self.embed(&crops, &prompt, 0, 0);
            self.generate(embedded, &GenerationOptions::endless(tokens)).map(drop)
        }))
    }

    fn describe(&self, pictures: &[RgbImage], new_tokens: &[usize]) -> Result<()> {
        let prompt = PromptIds { before: vec![100; WORDS_BEFORE], after: vec![100; WORDS_AFTER] };
        let question = Question { prompt: &prompt, image_token_id: 0, pad: 0, longest: new_tokens };
        let longest = new_tokens.iter().copied().max().unwrap_or(0);
        self.answer(pictures, question, &GenerationOptions::endless(longest), None).map(drop)
    }
}

/// The whole model, with its tokenizer.
pub struct Phi4Multimodal {
    pub network: Network,
    pub prompt: Prompt,
    generation: GenerationOptions,
}

impl Phi4Multimodal {
    /// Loads a model folder of either layout. The vision LoRA is merged into the weights.
    pub fn load(folder: &Path, rt: &Runtime) -> Result<Self> {
        tch::no_grad(|| {
            let config = Config::of_folder(folder)?;
            let processor = ImageProcessor::of_folder(folder, &config.vision, config.layout)?;
            let wishes = GenerationConfig::of_folder(folder)?;
            let mut generation = wishes.options(&config.eos, config.pad)?;
            let (of_prompt, image_token_id) = (folder.to_path_buf(), config.image_token_id);
            // Two hundred thousand tokens, read beside the weights.
            let prompt = Coming::start(move || Prompt::of_folder(&of_prompt, image_token_id));
            let (checkpoint, lora) = keys::open(folder, &config)?;
            let weights = checkpoint.weights(rt.device, rt.kind(Kind::BFloat16));
            let _libraries = load_libraries(&[Library::Products, Library::Norms], rt.device, weights.kind());
            let network = weights.build(|weights| Network::new(weights, processor.clone(), config.clone(), lora))?;
            let prompt = prompt.take()?;
            if config.eos.is_empty() {
                generation = wishes.options(&prompt.end_tokens(), config.pad)?;
            }
            generation.max_new_tokens = wishes.max_new_tokens.unwrap_or(MAX_NEW_TOKENS);
            Ok(Self { network, prompt, generation })
        })
    }

    /// Refuses options with which no picture can be described; reads no weights.
    pub fn check(folder: &Path, options: &CaptionOptions) -> Result<()> {
        let Some(question) = &options.prompt else { return Ok(()) };
        let config = Config::of_folder(folder)?;
        Prompt::of_folder(folder, config.image_token_id)?.encode(question).map(drop)
    }

    /// How texts are made with these options.
    pub fn generation_options(&self, options: &CaptionOptions) -> GenerationOptions {
        GenerationOptions {
            max_new_tokens: options.max_new_tokens.unwrap_or(self.generation.max_new_tokens),
            num_beams: options.num_beams,
            ..self.generation.clone()
        }
    }

    /// The pictures cut into crops.
    pub fn process(&self, images: &[RgbImage]) -> Result<Vec<Crops>> {
        self.network.processor.process_all(images, self.network.decoder.device)
    }

    /// The prompt, or this model's own, with each of the pictures.
    pub fn embed(&self, crops: &[Crops], question: Option<&str>) -> Result<Embedded> {
        let prompt = self.prompt.encode(question.unwrap_or(QUESTION))?;
        Ok(self.network.embed(crops, &prompt, self.prompt.image_token_id(), self.generation.pad))
    }
}

impl Captioner for Phi4Multimodal {
    fn caption(&self, images: &[RgbImage], options: &CaptionOptions) -> Result<Vec<Caption>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        tch::no_grad(|| {
            let prompt = self.prompt.encode(options.prompt.as_deref().unwrap_or(QUESTION))?;
            let generation = self.generation_options(options);
            let (image_token_id, pad) = (self.prompt.image_token_id(), self.generation.pad);
            let longest = vec![generation.max_new_tokens; images.len()];
            let question = Question { prompt: &prompt, image_token_id, pad, longest: &longest };
            let answers = match self.network.answer(images, question, &generation, None)? {
                Some(answers) => answers,
                None => {
                    let embedded = self.network.embed(&self.process(images)?, &prompt, image_token_id, pad);
                    self.network.generate(embedded, &generation)?
                }
            };
            let prompt = &self.prompt;
            in_parallel(&answers, |ids| Ok(Caption { text: prompt.decode(ids)?, tokens: ids.len() }))
        })
    }
}
