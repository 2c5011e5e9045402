//! Reads a sentencepiece model (`spiece.model`) into a unigram tokenizer, for T5 checkpoints that
//! come without `tokenizer.json`.
//!
//! The file is one protocol buffer, `ModelProto` of
//! <https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto>; four of its
//! fields matter here. The recipe around the model is that of
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/models/t5/tokenization_t5.py>.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokenizers::{AddedToken, Tokenizer};

use super::tokenizer_file;

/// T5's sentinels, which its vocabulary has beyond those in the file, the last one first.
const SENTINELS: usize = 100;
const UNKNOWN_PIECE: u64 = 2;
const UNIGRAM: u64 = 1;

/// What a unigram tokenizer needs of the file.
#[derive(Debug)]
struct Model {
    pieces: Vec<(String, f32)>,
    unknown: usize,
    /// A compiled table of character replacements; empty = none.
    charsmap: Vec<u8>,
}

/// The T5 tokenizer of a `spiece.model`; it ends every text with `</s>`.
pub fn t5_tokenizer(file: &Path) -> Result<Tokenizer> {
    let Model { mut pieces, unknown, charsmap } = Model::parse(&fs::read(file)?)?;
    let Some(eos) = pieces.iter().position(|(piece, _)| piece == "</s>") else {
        bail!("the piece </s> is missing: is this a T5 model?");
    };
    pieces.extend((0..SENTINELS).rev().map(|i| (format!("<extra_id_{i}>"), 0.0)));
    let special: Vec<AddedToken> = ["<pad>", "</s>", "<unk>"]
        .into_iter()
        .filter(|token| pieces.iter().any(|(piece, _)| piece == token))
        .map(|token| AddedToken::from(token, true))
        .collect();
    let normalizer = match charsmap.as_slice() {
        [] => Value::Null,
        map => json!({"type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(map)}),
    };
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let recipe = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [eos], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": unknown, "byte_fallback": false, "vocab": pieces},
    });
    let mut tokenizer = tokenizer_file::read_guarded(|| Ok(serde_json::from_value(recipe)?))?;
    tokenizer.add_special_tokens(&special);
    Ok(tokenizer)
}

impl Model {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut model = Self { pieces: Vec::new(), unknown: usize::MAX, charsmap: Vec::new() };
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => model.push_piece(piece)?,
                (2, Field::Bytes(trainer)) => check_is_unigram(trainer)?,
                (3, Field::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        if let (2, Field::Bytes(map)) = field? {
                            model.charsmap = map.to_vec();
                        }
                    }
                }
                _ => {}
            }
        }
        if model.unknown == usize::MAX {
            bail!("no piece stands for unknown text: not a sentencepiece model, or a damaged one");
        }
        Ok(model)
    }

    fn push_piece(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut text, mut score) = (String::new(), 0.0);
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => text = String::from_utf8(piece.to_vec())?,
                (2, Field::Fixed32(bits)) => score = f32::from_le_bytes(bits),
                (3, Field::Varint(UNKNOWN_PIECE)) => self.unknown = self.pieces.len(),
                _ => {}
            }
        }
        self.pieces.push((text, score));
        Ok(())
    }
}

/// Only the unigram algorithm gives T5's tokens; a BPE model in this place is another model's file.
fn check_is_unigram(trainer: &[u8]) -> Result<()> {
    for field in Fields(trainer) {
        if let (3, Field::Varint(kind)) = field?
            && kind != UNIGRAM
        {
            bail!("a sentencepiece model of type {kind}, T5 needs a unigram model (type 1)");
        }
    }
    Ok(())
}

/// One value of a protocol buffer.
enum Field<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a message, as (number, value).
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.0.split_at_checked(count) else {
            bail!("the file ends inside a field: not a sentencepiece model, or a truncated one");
        };
        self.0 = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a number of more than 64 bits: not a sentencepiece model");
    }

    fn field(&mut self) -> Result<(u64, Field<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed64)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length)?)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Fixed32([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
            other => bail!("wire type {other}: not a sentencepiece model"),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
