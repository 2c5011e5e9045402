//! BERT's WordPiece tokenizer: from `tokenizer.json`, or from `vocab.txt` alone.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::checkpoints;
use crate::models::text::tokenizer_file;

/// What `tokenizer_config.json` may change; the defaults are transformers' `BertTokenizer`'s.
#[derive(Deserialize)]
#[serde(default)]
struct Options {
    do_lower_case: bool,
    tokenize_chinese_chars: bool,
    strip_accents: Option<bool>,
    unk_token: String,
    sep_token: String,
    pad_token: String,
    cls_token: String,
    mask_token: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            do_lower_case: true,
            tokenize_chinese_chars: true,
            strip_accents: None,
            unk_token: "[UNK]".into(),
            sep_token: "[SEP]".into(),
            pad_token: "[PAD]".into(),
            cls_token: "[CLS]".into(),
            mask_token: "[MASK]".into(),
        }
    }
}

/// Loads the tokenizer of a model folder.
pub fn load(folder: &Path) -> Result<Tokenizer> {
    let whole = folder.join("tokenizer.json");
    if whole.exists() {
        return tokenizer_file::read(&whole);
    }
    let vocab = folder.join("vocab.txt");
    from_vocab(folder, &vocab).with_context(|| format!("reading {}", vocab.display()))
}

fn from_vocab(folder: &Path, vocab: &Path) -> Result<Tokenizer> {
    let config = folder.join("tokenizer_config.json");
    let options = if config.exists() { checkpoints::config::read(&config)? } else { Options::default() };
    let file = vocab.to_str().context("its path is not Unicode")?;
    let model = tokenizer_file::guarded(|| WordPiece::from_file(file).unk_token(options.unk_token.clone()).build())?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::new(
        true,
        options.tokenize_chinese_chars,
        options.strip_accents,
        options.do_lower_case,
    )));
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(WordPieceDecoder::new("##".into(), true)));
    let id = |token: &str| tokenizer.token_to_id(token).with_context(|| format!("it has no word {token}"));
    let (sep, cls) = (id(&options.sep_token)?, id(&options.cls_token)?);
    tokenizer.with_post_processor(Some(BertProcessing::new(
        (options.sep_token.clone(), sep),
        (options.cls_token.clone(), cls),
    )));
    let special = [options.unk_token, options.sep_token, options.pad_token, options.cls_token, options.mask_token];
    let special: Vec<AddedToken> = special.into_iter().map(|token| AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(&special);
    Ok(tokenizer)
}
