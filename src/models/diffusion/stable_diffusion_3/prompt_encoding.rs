//! Prompts as the denoiser reads them: two CLIP encoders beside each other, then T5.
//!
//! Source: `encode_prompt` of
//! <https://github.com/huggingface/diffusers/blob/main/src/diffusers/pipelines/stable_diffusion_3/pipeline_stable_diffusion_3.py>

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::config::{CLIP_G, CLIP_L, T5};
use crate::error::usage;
use crate::models::TextTokenizer;
use crate::models::diffusion::lora::{Adaptable, Lora};
use crate::models::diffusion::pipeline_part::Part;
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::text::clip_text::{self, ClipText};
use crate::models::text::t5_encoder::{self, T5Encoder};
use crate::models::text::text_tokenizer::{CLIP_TOKENS, clip_budget, synthetic_ids};
use crate::prompts::TokenBudget;
use crate::runtime::{CapturedFunction, Coming, log_moment};

/// Tokens that T5 reads, as in the pipeline.
pub const T5_TOKENS: usize = 256;
/// The most bytes of encoded prompts that are kept, in main memory; the oldest go first.
const CACHE_BYTES: usize = 1 << 30;

/// Prompts as tensors on the device.
#[derive(Debug)]
pub struct Embeddings {
    /// [batch, CLIP tokens + T5 tokens, joint_attention_dim]
    pub prompt: Tensor,
    /// [batch, pooled_projection_dim]
    pub pooled: Tensor,
}

/// The three encoders.
#[derive(Debug)]
struct Encoders {
    clip_l: ClipText,
    clip_g: ClipText,
    t5: Option<T5Encoder>,
    encoding: CapturedFunction,
    weights: Vec<Adaptable>,
}

impl Encoders {
    /// `ids`: int64 [texts, tokens] for each encoder. CLIP's states beside each other, both pooled, and T5's states.
    fn forward(&self, ids: &[Tensor]) -> Result<Vec<Tensor>> {
        self.encoding.call(ids, |ids| {
            let (l, g) = (self.clip_l.forward(&ids[0]), self.clip_g.forward(&ids[1]));
            let clip = Tensor::cat(&[l.penultimate, g.penultimate], -1);
            let pooled = Tensor::cat(&[l.pooled, g.pooled], -1);
            [clip, pooled].into_iter().chain(self.t5.iter().map(|t5| t5.forward(&ids[2]))).collect()
        })
    }
}

/// One encoded text, in main memory.
#[derive(Debug)]
struct Cached {
    clip: Tensor,
    pooled: Tensor,
    t5: Option<Tensor>,
}

#[derive(Debug, Default)]
struct Cache {
    texts: HashMap<String, Cached>,
    order: VecDeque<String>,
    bytes: usize,
}

/// From a text to token ids.
#[derive(Debug)]
enum Tokenization {
    Files {
        clip: Vec<TextTokenizer>,
        t5: Option<TextTokenizer>,
    },
    /// For random weights: ids that are nothing but numbers in range.
    Synthetic,
}

impl Tokenization {
    fn of(source: &PipelineSource, has_t5: bool) -> Result<Self> {
        if source.is_random() {
            return Ok(Self::Synthetic);
        }
        let t5 = || has_t5.then(|| source.t5_tokenizer(T5_TOKENS)).transpose();
        let (clip, t5) = rayon::join(|| source.clip_tokenizers(), t5);
        let files = Self::Files { clip: clip?, t5: t5? };
        log_moment("the tokenizers are read");
        Ok(files)
    }
}

/// Encodes each text once, and keeps what it made.
#[derive(Debug)]
pub struct PromptEncoder {
    source: PipelineSource,
    device: Device,
    kind: Kind,
    tokenization: Coming<Tokenization>,
    has_t5: bool,
    joint_dim: i64,
    encoders: RefCell<Option<Encoders>>,
    /// What is merged into the encoders, also into those that come later.
    loras: RefCell<Rc<Vec<Lora>>>,
    cache: RefCell<Cache>,
}

impl PromptEncoder {
    /// Reads configurations, and begins to read tokenizers; the encoders are loaded by [`Self::load`].
    /// `joint_dim` and `pooled_dim` are what the denoiser reads.
    pub fn new(source: &PipelineSource, device: Device, kind: Kind, joint_dim: i64, pooled_dim: i64) -> Result<Self> {
        let has_t5 = source.has(T5.folder)?;
        let (l, g): (clip_text::Config, clip_text::Config) =
            (source.config(CLIP_L.folder)?, source.config(CLIP_G.folder)?);
        let pooled = l.projection_dim + g.projection_dim;
        if pooled != pooled_dim || l.hidden_size + g.hidden_size > joint_dim {
            return Err(usage(format!(
                "the CLIP encoders give {} and {pooled} values (hidden_size and projection_dim of text_encoder and \
                 text_encoder_2) and the transformer reads {joint_dim} and {pooled_dim} (joint_attention_dim, \
                 pooled_projection_dim)",
                l.hidden_size + g.hidden_size
            )));
        }
        if has_t5 {
            let t5: t5_encoder::Config = source.config(T5.folder)?;
            if t5.d_model != joint_dim {
                return Err(usage(format!(
                    "T5 gives {} values (d_model of text_encoder_3) and the transformer reads {joint_dim} (joint_attention_dim)",
                    t5.d_model
                )));
            }
        }
        let files = source.clone();
        // Large vocabularies, read beside the weights.
        let tokenization = Coming::start(move || Tokenization::of(&files, has_t5));
        let (encoders, loras, cache) = (RefCell::default(), RefCell::default(), RefCell::default());
        Ok(Self { source: source.clone(), device, kind, tokenization, has_t5, joint_dim, encoders, loras, cache })
    }

    /// The limit that both CLIP encoders set.
    pub fn budget(&self) -> Result<TokenBudget> {
        Ok(match self.tokenization.get()? {
            Tokenization::Synthetic => TokenBudget::new(Vec::new(), CLIP_TOKENS),
            Tokenization::Files { clip, .. } => clip_budget(clip),
        })
    }

    /// Bytes that the encoders take on the device.
    pub fn bytes(&self) -> Result<u64> {
        let t5 = if self.has_t5 { self.source.bytes(T5, self.kind)? } else { 0 };
        Ok(self.source.bytes(CLIP_L, self.kind)? + self.source.bytes(CLIP_G, self.kind)? + t5)
    }

    /// Whether a text among these is new, so that the encoders will be needed.
    pub fn needs_encoders(&self, texts: &[String]) -> bool {
        let cache = self.cache.borrow();
        texts.iter().any(|text| !cache.texts.contains_key(text))
    }

    pub fn is_loaded(&self) -> bool {
        self.encoders.borrow().is_some()
    }

    /// Brings the encoders to the device, if they are not there.
    pub fn load(&self) -> Result<()> {
        if self.is_loaded() {
            return Ok(());
        }
        let (source, device, kind) = (self.source.clone(), self.device, self.kind);
        let clip = move |part: Part| {
            let config: clip_text::Config = source.config(part.folder)?;
            source.build_adaptable(part, device, kind, |weights| ClipText::new(weights, &config, true))
        };
        let clips = move || anyhow::Ok((clip(CLIP_L)?, clip(CLIP_G)?));
        let t5 = || {
            let config: t5_encoder::Config = self.source.config(T5.folder)?;
            self.source.build_adaptable(T5, self.device, self.kind, |weights| T5Encoder::new(weights, &config))
        };
        // To a GPU they come beside each other; random numbers are drawn one after another.
        let (clips, t5) = if self.device.is_cuda() && !self.source.is_random() {
            let clips = Coming::start(move || tch::no_grad(clips));
            let t5 = self.has_t5.then(t5).transpose();
            (clips.take()?, t5?)
        } else {
            (clips()?, self.has_t5.then(t5).transpose()?)
        };
        let (((clip_l, weights_l), (clip_g, weights_g)), (t5, weights_t5)) = (clips, t5.unzip());
        let weights: Vec<Adaptable> = [weights_l, weights_g].into_iter().chain(weights_t5).collect();
        weights.iter().try_for_each(|weights| weights.merge(&self.loras.borrow()).map(drop))?;
        let encoding = CapturedFunction::default();
        *self.encoders.borrow_mut() = Some(Encoders { clip_l, clip_g, t5, encoding, weights });
        Ok(())
    }

    /// Merges low-rank adapters into the encoders; what they encoded without them is forgotten.
    pub fn adapt(&self, loras: Rc<Vec<Lora>>) -> Result<()> {
        let before = self.loras.replace(loras.clone());
        if let Some(encoders) = self.encoders.borrow().as_ref() {
            encoders.weights.iter().try_for_each(|weights| weights.merge(&loras).map(drop))?;
        }
        let touched = |lora: &Lora| [CLIP_L, CLIP_G, T5].iter().any(|part| lora.touches(part.folder));
        if before.iter().chain(loras.iter()).any(touched) {
            self.forget();
        }
        Ok(())
    }

    /// Takes the encoders off the device; what they encoded stays.
    pub fn unload(&self) {
        *self.encoders.borrow_mut() = None;
    }

    /// Forgets what was encoded.
    pub fn forget(&self) {
        *self.cache.borrow_mut() = Cache::default();
    }

    /// These texts, one row each; new ones are encoded, and need the encoders on the device.
    pub fn encode(&self, texts: &[String]) -> Result<Embeddings> {
        let mut new: Vec<String> =
            texts.iter().filter(|text| !self.cache.borrow().texts.contains_key(*text)).cloned().collect();
        new.sort();
        new.dedup();
        let mut fresh = HashMap::new();
        // One at a time: a batch of another size rounds differently, and what a text becomes (so the
        // picture of a seed) must not depend on which texts are new with it. T5's 256 tokens keep a
        // device busy alone.
        for text in &new {
            let encoded = self.encode_batch(std::slice::from_ref(text))?;
            fresh.extend(std::iter::once(text.clone()).zip(encoded));
        }
        let embeddings = {
            let cache = self.cache.borrow();
            let rows: Option<Vec<&Cached>> =
                texts.iter().map(|text| fresh.get(text).or_else(|| cache.texts.get(text))).collect();
            self.assemble(&rows.context("a text that was not encoded")?)
        };
        self.cache.borrow_mut().keep(fresh);
        Ok(embeddings)
    }

    fn encode_batch(&self, texts: &[String]) -> Result<Vec<Cached>> {
        let encoders = self.encoders.borrow();
        let encoders = encoders.as_ref().context("the text encoders are not loaded")?;
        let count = if encoders.t5.is_some() { 3 } else { 2 };
        let ids: Vec<Tensor> = (0..count).map(|encoder| self.ids(texts, encoder)).collect::<Result<_>>()?;
        let encoded = encoders.forward(&ids)?;
        let mut encoded = encoded.into_iter().map(|x| x.to_device(Device::Cpu).unbind(0).into_iter());
        let (clip, pooled) = (encoded.next().context("no states")?, encoded.next().context("no pooled states")?);
        let t5: Vec<Option<Tensor>> = match encoded.next() {
            Some(states) => states.map(Some).collect(),
            None => texts.iter().map(|_| None).collect(),
        };
        Ok(clip.zip(pooled).zip(t5).map(|((clip, pooled), t5)| Cached { clip, pooled, t5 }).collect())
    }

    /// Ids for encoder 0, 1 (CLIP) or 2 (T5): int64 [texts, tokens] on the device.
    fn ids(&self, texts: &[String], encoder: usize) -> Result<Tensor> {
        let rows: Vec<Vec<i64>> = match (self.tokenization.get()?, encoder) {
            (Tokenization::Files { t5: Some(t5), .. }, 2) => {
                texts.iter().map(|text| t5.encode(text)).collect::<Result<_>>()?
            }
            (Tokenization::Files { clip, .. }, _) => {
                let tokenizer = clip.get(encoder).context("the tokenizer is missing")?;
                texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<_>>()?
            }
            (Tokenization::Synthetic, _) => {
                let length = if encoder == 2 { T5_TOKENS } else { CLIP_TOKENS };
                texts.iter().map(|text| synthetic_ids(text, length)).collect()
            }
        };
        let shape = [rows.len() as i64, rows.first().map_or(0, Vec::len) as i64];
        Ok(Tensor::from_slice(&rows.concat()).view(shape).to_device(self.device))
    }

    /// CLIP's features filled with zeros to T5's width, then T5's tokens, zeros where there is no T5.
    fn assemble(&self, rows: &[&Cached]) -> Embeddings {
        let stack = |pick: &dyn Fn(&Cached) -> Tensor| {
            // Each by itself to the device, so that only that copies them.
            Tensor::stack(&rows.iter().map(|row| pick(row).to_device(self.device)).collect::<Vec<_>>(), 0)
        };
        let clip = stack(&|row| row.clip.shallow_clone());
        let clip = clip.constant_pad_nd([0, self.joint_dim - clip.size()[2]]);
        let none = Tensor::zeros([T5_TOKENS as i64, self.joint_dim], (self.kind, Device::Cpu));
        let t5 = stack(&|row| row.t5.as_ref().unwrap_or(&none).shallow_clone());
        let pooled = stack(&|row| row.pooled.shallow_clone());
        Embeddings { prompt: Tensor::cat(&[clip, t5], 1), pooled }
    }
}

impl Cache {
    fn keep(&mut self, fresh: HashMap<String, Cached>) {
        let size = |cached: &Cached| {
            let bytes = |x: &Tensor| x.numel() * x.kind().elt_size_in_bytes();
            bytes(&cached.clip) + bytes(&cached.pooled) + cached.t5.as_ref().map_or(0, bytes)
        };
        for (text, cached) in fresh {
            self.bytes += size(&cached);
            self.order.push_back(text.clone());
            self.texts.insert(text, cached);
        }
        while self.bytes > CACHE_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            self.bytes -= self.texts.remove(&oldest).map_or(0, |cached| size(&cached));
        }
    }
}
