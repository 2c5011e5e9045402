//! The tokenizers of text-to-image models, from the files that their checkpoints carry.
//!
//! CLIP: lower-case byte-level BPE with `</w>` at word ends, from `vocab.json` and `merges.txt`, the
//! recipe of <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/tokenization_clip.py>.
//! T5: a sentencepiece unigram model, see [`super::sentencepiece`].

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::{AddedToken, Tokenizer, TruncationDirection};

use super::clip_vocabulary::{clip_vocabulary, merges_of};
use super::sentencepiece;
use super::tokenizer_file;
use crate::checkpoints;
use crate::prompts::TokenBudget;

/// Tokens that the published CLIP encoders read.
pub const CLIP_TOKENS: usize = 77;
/// An id that every published vocabulary has.
const SYNTHETIC_FILL: i64 = 30_000;

/// Ids of a text for random weights, where there is no vocabulary: nothing but `length` numbers in range.
pub fn synthetic_ids(text: &str, length: usize) -> Vec<i64> {
    let mut ids: Vec<i64> = text.bytes().take(length).map(i64::from).collect();
    ids.resize(length, SYNTHETIC_FILL);
    ids
}

/// A tokenizer that fills or cuts every text to one length, as text-to-image pipelines do.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Arc<Tokenizer>,
    length: usize,
    pad: i64,
}

impl TextTokenizer {
    /// CLIP's, from a `tokenizer` folder: `vocab.json` + `merges.txt`, or `tokenizer.json` without
    /// them. `positions` is what the text encoder reads; `model_max_length` in
    /// `tokenizer_config.json` may make it less.
    pub fn clip(dir: &Path, positions: usize) -> Result<Self> {
        let config = optional_json(&dir.join("tokenizer_config.json"))?;
        let special = SpecialTokens::read(dir, &config)?;
        let (vocab, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
        let tokenizer = if vocab.exists() && merges.exists() {
            clip_from_files(&vocab, &merges, &special)
        } else {
            from_tokenizer_json(dir, "vocab.json and merges.txt, nor tokenizer.json,")
        };
        let mut tokenizer = tokenizer.with_context(|| format!("{}: not a CLIP tokenizer", dir.display()))?;
        tokenizer.add_special_tokens(&special.all);
        let length = config["model_max_length"].as_f64().unwrap_or(f64::MAX).min(positions as f64) as usize;
        Self::new(tokenizer, length, &special.pad, dir)
    }

    /// The one that every published CLIP encoder has, built in. `pad` fills a text up.
    pub(in crate::models) fn published_clip(positions: usize, pad: &str) -> Result<Self> {
        let (vocabulary, merges) = clip_vocabulary()?;
        let roles = json!({"pad_token": pad});
        let special = SpecialTokens::of(&roles, &Value::Null);
        let mut tokenizer = clip_from_vocab(vocabulary, merges, &special).context("the built-in vocabulary")?;
        tokenizer.add_special_tokens(&special.all);
        Self::new(tokenizer, positions, &special.pad, Path::new("the built-in vocabulary"))
    }

    /// Of another length.
    pub(in crate::models) fn with_length(self, length: usize) -> Self {
        Self { length, ..self }
    }

    /// T5's, from a `tokenizer` folder: `tokenizer.json`, or `spiece.model` alone.
    pub fn t5(dir: &Path, length: usize) -> Result<Self> {
        let (json, model) = (dir.join("tokenizer.json"), dir.join("spiece.model"));
        let tokenizer = if !json.exists() && model.exists() {
            sentencepiece::t5_tokenizer(&model).with_context(|| format!("reading {}", model.display()))?
        } else {
            from_tokenizer_json(dir, "tokenizer.json or spiece.model")?
        };
        let pad = optional_json(&dir.join("tokenizer_config.json"))?;
        let pad = added_token(&pad["pad_token"]).map_or_else(|| "<pad>".to_string(), |token| token.content);
        Self::new(tokenizer, length, &pad, dir)
    }

    fn new(mut tokenizer: Tokenizer, length: usize, pad: &str, dir: &Path) -> Result<Self> {
        // A tokenizer.json may carry the truncation and padding of its last use.
        tokenizer.with_truncation(None).map_err(|error| anyhow!("{error}"))?.with_padding(None);
        let Some(id) = tokenizer.token_to_id(pad) else {
            bail!("{}: the padding token {pad:?} is not in the vocabulary", dir.display());
        };
        let added = special_count(&tokenizer);
        if length <= added {
            bail!("{}: a length of {length} tokens leaves no room for text", dir.display());
        }
        Ok(Self { tokenizer: Arc::new(tokenizer), length, pad: id as i64 })
    }

    /// The ids of a text, cut or filled to [`Self::length`].
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let mut encoding = tokenizer_file::encode(&self.tokenizer, text, false)?;
        encoding.truncate(self.length - special_count(&self.tokenizer), 0, TruncationDirection::Right);
        let encoding = tokenizer_file::guarded(|| self.tokenizer.post_process(encoding, None, true))
            .with_context(|| format!("tokenizing {text:?}"))?;
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| id as i64).collect();
        ids.resize(self.length, self.pad);
        Ok(ids)
    }

    /// Tokens of every encoded text.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The tokenizer itself, which neither cuts nor fills.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }
}

/// The CLIP tokenizers of a pipeline's folder (diffusers layout): `tokenizer`, and `tokenizer_2`
/// where there is one, each for the `text_encoder` of the same number. All take the first one's
/// length, as the pipelines do.
pub fn clip_tokenizers(pipeline: &Path) -> Result<Vec<TextTokenizer>> {
    let read = |(tokenizer, encoder): (&str, &str)| {
        let (tokenizer, config) = (pipeline.join(tokenizer), pipeline.join(encoder).join("config.json"));
        let positions: Value = if config.is_file() { checkpoints::config::read(&config)? } else { Value::Null };
        let Some(positions) = positions["max_position_embeddings"].as_u64() else {
            bail!("{}: no max_position_embeddings: is {} a pipeline's folder?", config.display(), pipeline.display());
        };
        TextTokenizer::clip(&tokenizer, positions as usize)
    };
    let has_second = pipeline.join("tokenizer_2").is_dir();
    let second = || has_second.then(|| read(("tokenizer_2", "text_encoder_2"))).transpose();
    let (first, second) = rayon::join(|| read(("tokenizer", "text_encoder")), second);
    let first = first?;
    let length = first.length;
    Ok([first].into_iter().chain(second?.map(|second| second.with_length(length))).collect())
}

/// How many tokens are put around a text.
fn special_count(tokenizer: &Tokenizer) -> usize {
    use tokenizers::PostProcessor;
    tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
}

fn from_tokenizer_json(dir: &Path, wanted: &str) -> Result<Tokenizer> {
    let file = dir.join("tokenizer.json");
    if !file.exists() {
        bail!("{}: no {wanted} here", dir.display());
    }
    tokenizer_file::read(&file)
}

/// The special tokens by role, and all that are found in a text before it is cut into words.
struct SpecialTokens {
    bos: String,
    eos: String,
    unk: String,
    pad: String,
    /// Where `!` is the padding token, a `!` in a prompt is padding, in the reference library too.
    all: Vec<AddedToken>,
}

impl SpecialTokens {
    /// From `tokenizer_config.json`, else `special_tokens_map.json`, else CLIP's own.
    fn read(dir: &Path, config: &Value) -> Result<Self> {
        Ok(Self::of(config, &optional_json(&dir.join("special_tokens_map.json"))?))
    }

    fn of(config: &Value, map: &Value) -> Self {
        let role = |role: &str, default: &str| {
            [&config[role], &map[role]]
                .into_iter()
                .find_map(added_token)
                .unwrap_or_else(|| AddedToken::from(default, true))
        };
        let (bos, eos) = (role("bos_token", "<|startoftext|>"), role("eos_token", "<|endoftext|>"));
        let (unk, pad) = (role("unk_token", "<|endoftext|>"), role("pad_token", "<|endoftext|>"));
        // What the file lists by id comes first and counts; a role adds what is not there yet. Of two
        // roles with one text the plain string comes last and wins, as in the reference library.
        let listed = config["added_tokens_decoder"].as_object();
        let mut all: Vec<AddedToken> =
            listed.into_iter().flat_map(|tokens| tokens.values()).filter_map(added_token).collect();
        for token in [&bos, &eos, &unk, &pad] {
            let same = |other: &AddedToken| other.content == token.content;
            if listed.is_some_and(|_| all.iter().any(same)) {
                continue;
            }
            all.retain(|other| !same(other));
            all.push(token.clone());
        }
        Self { bos: bos.content, eos: eos.content, unk: unk.content, pad: pad.content, all }
    }
}

/// A token is a string, or an object with its `content` and how it is matched.
fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |name: &str| value[name].as_bool().unwrap_or(false);
    match value {
        Value::String(text) => Some(AddedToken::from(text.as_str(), true)),
        Value::Object(_) => Some(
            AddedToken::from(value["content"].as_str()?, true)
                .normalized(flag("normalized"))
                .lstrip(flag("lstrip"))
                .rstrip(flag("rstrip"))
                .single_word(flag("single_word")),
        ),
        _ => None,
    }
}

/// The limit that CLIP encoders with these tokenizers set together.
pub(in crate::models) fn clip_budget(tokenizers: &[TextTokenizer]) -> TokenBudget {
    let limit = tokenizers.iter().map(TextTokenizer::length).min().unwrap_or(0);
    TokenBudget::new(tokenizers.iter().map(|tokenizer| tokenizer.tokenizer().clone()).collect(), limit)
}

/// The file as JSON; `null` where there is no file.
pub(in crate::models) fn optional_json(file: &Path) -> Result<Value> {
    if !file.exists() {
        return Ok(Value::Null);
    }
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: not JSON", file.display()))
}

fn clip_from_files(vocab: &Path, merges: &Path, special: &SpecialTokens) -> Result<Tokenizer> {
    let read = |file: &Path| fs::read_to_string(file).with_context(|| format!("reading {}", file.display()));
    let (vocabulary, pairs) = (read(vocab)?, read(merges)?);
    let vocabulary = serde_json::from_str(&vocabulary)
        .with_context(|| format!("{}: not JSON of tokens and their numbers", vocab.display()))?;
    let pairs = merges_of(&pairs).with_context(|| merges.display().to_string())?;
    clip_from_vocab(vocabulary, pairs, special).with_context(|| format!("{} and {}", vocab.display(), merges.display()))
}

/// The model is put together here: by way of JSON, as the recipe around it, it takes three times as long.
fn clip_from_vocab(vocabulary: Vocab, merges: Merges, special: &SpecialTokens) -> Result<Tokenizer> {
    let id = |token: &str| match vocabulary.get(token) {
        Some(id) => Ok(*id),
        None => Err(anyhow!("token {token:?} is missing in the vocabulary")),
    };
    let recipe = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"},
                "behavior": "Removed",
                "invert": true,
            },
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [special.eos, id(&special.eos)?],
            "cls": [special.bos, id(&special.bos)?],
            "trim_offsets": false,
            "add_prefix_space": false,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    });
    tokenizer_file::read_guarded(|| {
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .unk_token(special.unk.clone())
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_string());
        let mut tokenizer: Tokenizer = serde_json::from_value(recipe)?;
        tokenizer.with_model(model.build()?);
        Ok(tokenizer)
    })
}
