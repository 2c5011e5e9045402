//! Prompts as the U-Net reads them: the last states of CLIP's text encoder, after its final norm.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::config::TEXT_ENCODER;
use crate::models::TextTokenizer;
use crate::models::diffusion::lora::{Adaptable, Lora};
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::text::clip_text::{self, ClipText};
use crate::models::text::text_tokenizer::{CLIP_TOKENS, synthetic_ids};
use crate::prompts::TokenBudget;
use crate::runtime::{CapturedFunction, Coming};

/// The most encoded texts that are kept, on the device: 1024 of 77 × 768 float16 numbers are 120 MB.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
struct Cache {
    texts: HashMap<String, Tensor>,
    order: VecDeque<String>,
}

/// Encodes each text once, and keeps what it made.
#[derive(Debug)]
pub struct PromptEncoder {
    /// None for random weights, which read ids that are nothing but numbers in range.
    tokenizer: Coming<Option<TextTokenizer>>,
    encoder: ClipText,
    weights: Adaptable,
    encoding: CapturedFunction,
    width: i64,
    device: Device,
    cache: RefCell<Cache>,
}

impl PromptEncoder {
    pub fn load(source: &PipelineSource, device: Device, kind: Kind) -> Result<Self> {
        let files = (!source.is_random()).then(|| source.clone());
        let first = |source: PipelineSource| source.clip_tokenizers()?.into_iter().next().context("no tokenizer");
        // A large vocabulary, read beside the weights.
        let tokenizer = Coming::start(move || files.map(first).transpose());
        let config: clip_text::Config = source.config(TEXT_ENCODER.folder)?;
        let new = |weights: &_| ClipText::new(weights, &config, false);
        let (encoder, weights) = source.build_adaptable(TEXT_ENCODER, device, kind, new)?;
        let (encoding, cache) = (CapturedFunction::default(), RefCell::default());
        Ok(Self { tokenizer, encoder, weights, encoding, width: config.hidden_size, device, cache })
    }

    /// Numbers that a token becomes.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// The limit that the encoder sets.
    pub fn budget(&self) -> Result<TokenBudget> {
        Ok(match self.tokenizer.get()? {
            None => TokenBudget::new(Vec::new(), CLIP_TOKENS),
            Some(tokenizer) => TokenBudget::new(vec![tokenizer.tokenizer().clone()], tokenizer.length()),
        })
    }

    /// Merges low-rank adapters into the encoder; what it encoded without them is forgotten.
    pub fn adapt(&self, loras: &[Lora]) -> Result<()> {
        if self.weights.merge(loras)? {
            self.forget();
        }
        Ok(())
    }

    /// Forgets what was encoded.
    pub fn forget(&self) {
        *self.cache.borrow_mut() = Cache::default();
    }

    /// [texts, tokens, width]. New texts are encoded one at a time: a batch of another size rounds differently, and
    /// the picture of a seed must not depend on which texts are new with its own.
    pub fn encode(&self, texts: &[String]) -> Result<Tensor> {
        let mut rows = Vec::with_capacity(texts.len());
        for text in texts {
            let kept = self.cache.borrow().texts.get(text).map(Tensor::shallow_clone);
            let row = match kept {
                Some(row) => row,
                None => self.encode_new(text)?,
            };
            rows.push(row);
        }
        Ok(Tensor::cat(&rows, 0))
    }

    fn encode_new(&self, text: &str) -> Result<Tensor> {
        let ids = match self.tokenizer.get()? {
            Some(tokenizer) => tokenizer.encode(text)?,
            None => synthetic_ids(text, CLIP_TOKENS),
        };
        let ids = Tensor::from_slice(&ids).unsqueeze(0).to_device(self.device);
        let states = self.encoding.call(&[ids], |ids| vec![self.encoder.forward(&ids[0]).last])?;
        let states = states.into_iter().next().context("a text without states")?;
        let mut cache = self.cache.borrow_mut();
        cache.order.push_back(text.to_string());
        cache.texts.insert(text.to_string(), states.shallow_clone());
        if cache.order.len() > KEPT
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.texts.remove(&oldest);
        }
        Ok(states)
    }
}
