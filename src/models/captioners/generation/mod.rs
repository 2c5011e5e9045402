//! Turning logits into text tokens: greedy and beam search, with the same length rules and logits
//! processors as transformers' `generate`
//! (<https://github.com/huggingface/transformers/blob/main/src/transformers/generation/utils.py>).
//!
//! Everything per token stays on the device. Where that is CUDA, whether all texts have ended is
//! asked only every few tokens: a question makes the host wait. With the answer, texts that have ended
//! leave the batch once they are a share of it.
//!
//! One difference, on purpose: in transformers the padding of a batch counts as text for the
//! minimum length, the repetition penalty and the n-gram rule. Here only real tokens count, so that
//! a batch gives the same texts as one by one.

mod beam;
mod compaction;
mod processors;
mod slots;

use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use compaction::{Compaction, Next};
use processors::Processors;

use crate::checkpoints::config;

pub use slots::{READ_TOGETHER, SlotModel, generate_in_slots};

/// How often CUDA is asked whether all texts have ended, in tokens.
const QUESTION_INTERVAL: usize = 8;

/// A decoder with its cache, as the search loops see it. A row is one running text.
pub trait StepModel {
    /// Reads the prompts; each of them then runs as `copies` rows, one after another.
    /// Logits of the next token: [prompts · copies, vocabulary].
    fn start(&mut self, copies: i64) -> Result<Tensor>;

    /// Appends one token to each row (`[rows]`, int64, on the device). Logits of the next token:
    /// [rows, vocabulary].
    fn step(&mut self, tokens: &Tensor) -> Result<Tensor>;

    /// From now on row `i` goes on from what row `rows[i]` was (int64, on the device). Rows only change
    /// places among those of one prompt, but all rows of a prompt may leave: then there are fewer.
    fn reorder(&mut self, rows: &Tensor) -> Result<()>;

    /// Whether rows of texts that have ended may leave.
    fn may_shrink(&self) -> bool {
        true
    }
}

/// When beam search stops looking for better texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// When no running beam is likely to beat the worst finished text.
    #[default]
    Heuristic,
    /// As soon as there are as many finished texts as beams.
    WhenFull,
    /// When no running beam can beat the worst finished text.
    Never,
}

/// How texts are made. The names are those of transformers' `GenerationConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    pub max_new_tokens: usize,
    /// Shortest text, the prompt's tokens included; the end token is impossible before.
    pub min_length: usize,
    /// Shortest text without the prompt.
    pub min_new_tokens: usize,
    /// 1 = greedy.
    pub num_beams: usize,
    /// Exponent of the length that a finished beam's score is divided by.
    pub length_penalty: f64,
    pub early_stopping: EarlyStopping,
    /// 1 = none.
    pub repetition_penalty: f64,
    /// No n-gram of this size occurs twice; 0 = no such rule.
    pub no_repeat_ngram_size: usize,
    /// A text ends with any of these.
    pub eos: Vec<i64>,
    pub pad: i64,
}

impl GenerationOptions {
    /// Whether the next token follows from the logits alone, however long the text is and whatever was said before.
    pub fn is_plain_greedy(&self) -> bool {
        self.num_beams == 1
            && self.repetition_penalty == 1.0
            && self.no_repeat_ngram_size == 0
            && (self.eos.is_empty() || (self.min_length == 0 && self.min_new_tokens == 0))
    }

    /// Texts of a length that is known: without an end token each has it. For measuring speed.
    pub fn endless(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, ..Self::default() }
    }
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 20,
            min_length: 0,
            min_new_tokens: 0,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            eos: Vec::new(),
            pad: 0,
        }
    }
}

/// `generation_config.json`, as far as greedy and beam search use it. `do_sample` and its
/// temperatures are left aside: captions are deterministic.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    pub max_new_tokens: Option<usize>,
    pub max_length: Option<usize>,
    pub min_length: Option<usize>,
    pub min_new_tokens: Option<usize>,
    pub num_beams: Option<usize>,
    pub length_penalty: Option<f64>,
    pub early_stopping: Option<serde_json::Value>,
    pub repetition_penalty: Option<f64>,
    pub no_repeat_ngram_size: Option<usize>,
    pub bos_token_id: Option<i64>,
    pub eos_token_id: Option<TokenIds>,
    pub pad_token_id: Option<i64>,
}

/// One token id or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    One(i64),
    Several(Vec<i64>),
}

impl TokenIds {
    pub fn to_vec(&self) -> Vec<i64> {
        match self {
            Self::One(id) => vec![*id],
            Self::Several(ids) => ids.clone(),
        }
    }
}

impl GenerationConfig {
    /// Of a model folder; one without the file has no wishes.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("generation_config.json");
        if !path.exists() {
            return Ok(Self::default());
        }
        config::read(&path)
    }

    /// The wishes of the file over transformers' defaults; `eos` and `pad` where the file is silent.
    pub fn options(&self, eos: &[i64], pad: Option<i64>) -> Result<GenerationOptions> {
        let base = GenerationOptions::default();
        let eos = self.eos_token_id.as_ref().map_or_else(|| eos.to_vec(), TokenIds::to_vec);
        let pad = self.pad_token_id.or(pad).or(eos.first().copied()).unwrap_or(base.pad);
        let early_stopping = match &self.early_stopping {
            None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)) => EarlyStopping::Heuristic,
            Some(serde_json::Value::Bool(true)) => EarlyStopping::WhenFull,
            Some(serde_json::Value::String(text)) if text == "never" => EarlyStopping::Never,
            Some(other) => bail!("generation_config.json: early_stopping is true, false or \"never\", not {other}"),
        };
        Ok(GenerationOptions {
            max_new_tokens: self.max_new_tokens.unwrap_or(base.max_new_tokens),
            min_length: self.min_length.unwrap_or(base.min_length),
            min_new_tokens: self.min_new_tokens.unwrap_or(base.min_new_tokens),
            num_beams: self.num_beams.unwrap_or(base.num_beams),
            length_penalty: self.length_penalty.unwrap_or(base.length_penalty),
            early_stopping,
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(base.no_repeat_ngram_size),
            eos,
            pad,
        })
    }
}

/// The prompts of a batch as token ids, padded on the left to one length.
#[derive(Debug)]
pub struct Prompts {
    /// int64 [prompts, length], on the device of the logits.
    pub ids: Tensor,
    /// How many padding tokens come first in each.
    pub padding: Vec<i64>,
}

/// Runs the model until every text has ended. One list of new tokens for each prompt, up to and with
/// the end token.
pub fn generate(model: &mut dyn StepModel, prompts: &Prompts, options: &GenerationOptions) -> Result<Vec<Vec<i64>>> {
    if options.max_new_tokens == 0 {
        return Ok(vec![Vec::new(); prompts.padding.len()]);
    }
    let tokens = match options.num_beams {
        0 => bail!("the number of beams must be at least 1"),
        1 => greedy(model, prompts, options)?,
        _ => beam::search(model, prompts, options)?,
    };
    rows_to_end(&tokens, &options.eos)
}

/// [prompts, up to max_new_tokens] of int64.
fn greedy(model: &mut dyn StepModel, prompts: &Prompts, options: &GenerationOptions) -> Result<Tensor> {
    let (rows, prompt_length) = prompts.ids.size2()?;
    let device = prompts.ids.device();
    let total = prompt_length + options.max_new_tokens as i64;
    let mut texts = Tensor::full([rows, total], options.pad, (Kind::Int64, device));
    texts.narrow(1, 0, prompt_length).copy_(&prompts.ids);
    let mut compaction = Compaction::new(&texts);
    let mut processors = Processors::new(prompts, options, 1);
    let eos = eos_tensor(options, device);

    let mut logits = model.start(1)?;
    for new in 0..options.max_new_tokens {
        let length = prompt_length + new as i64;
        let scores = processors.apply(logits, &texts.narrow(1, 0, length), new);
        let mut tokens = scores.argmax(-1, false);
        texts.select(1, length).copy_(&tokens);
        let last = new + 1 == options.max_new_tokens;
        if !last && is_time_to_ask(device, new) {
            // A text that has ended may go on being written: it is cut off at its end.
            let ended = Tensor::isin(&texts.narrow(1, prompt_length, new as i64 + 1), &eos, false, false);
            let goes_on = ended.any_dim(1, false).logical_not();
            match compaction.ask(&goes_on, &texts, model.may_shrink())? {
                Next::End => return Ok(compaction.texts(&texts).narrow(1, prompt_length, new as i64 + 1)),
                Next::All => {}
                Next::Only(rows) => {
                    [&mut texts, &mut tokens].into_iter().for_each(|x| *x = x.index_select(0, &rows));
                    processors.keep(&rows);
                    model.reorder(&rows)?;
                }
            }
        }
        if last {
            return Ok(compaction.texts(&texts).narrow(1, prompt_length, options.max_new_tokens as i64));
        }
        logits = model.step(&tokens)?;
    }
    bail!("no token was asked for")
}

/// Every token on the CPU, where asking costs nothing.
fn is_time_to_ask(device: Device, new: usize) -> bool {
    !device.is_cuda() || new % QUESTION_INTERVAL == QUESTION_INTERVAL - 1
}

fn eos_tensor(options: &GenerationOptions, device: Device) -> Tensor {
    Tensor::from_slice(&options.eos).to_device(device)
}

/// Cuts each row after its first end token.
fn rows_to_end(tokens: &Tensor, eos: &[i64]) -> Result<Vec<Vec<i64>>> {
    let rows: Vec<Vec<i64>> = tokens.to_device(Device::Cpu).try_into()?;
    let cut = |mut row: Vec<i64>| {
        if let Some(end) = row.iter().position(|token| eos.contains(token)) {
            row.truncate(end + 1);
        }
        row
    };
    Ok(rows.into_iter().map(cut).collect())
}
