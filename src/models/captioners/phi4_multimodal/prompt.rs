//! `<|user|>` picture, question `<|end|><|assistant|>` as token ids.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use tokenizers::Tokenizer;

use crate::error::usage;
use crate::models::text::tokenizer_file;

/// Stands for the picture in the text of the original layout.
const IMAGE_TOKEN: &str = "<|endoftext10|>";
const USER: &str = "<|user|>";
const END: &str = "<|end|>";
const ASSISTANT: &str = "<|assistant|>";
const END_OF_TEXT: &str = "<|endoftext|>";

/// The chat format and the tokenizer.
pub struct Prompt {
    tokenizer: Tokenizer,
    image_token: String,
    image_token_id: u32,
}

/// A prompt's token ids, around the place where the picture's tokens go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptIds {
    pub before: Vec<i64>,
    pub after: Vec<i64>,
}

impl Prompt {
    /// Reads `tokenizer.json`. `image_token_id` is config.json's, if it has one.
    pub fn of_folder(folder: &Path, image_token_id: Option<i64>) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let named = |what: String| anyhow!("{}: {what}", path.display());
        let mut tokenizer = tokenizer_file::read(&path)?;
        // Settings of a training run that may have been saved with it.
        tokenizer.with_truncation(None).map_err(|error| named(error.to_string()))?;
        tokenizer.with_padding(None);
        for token in [USER, END, ASSISTANT] {
            if tokenizer.token_to_id(token).is_none() {
                return Err(named(format!("no token {token}: is it another model's tokenizer?")));
            }
        }
        let image = match image_token_id {
            Some(id) => u32::try_from(id).ok().and_then(|id| Some((tokenizer.id_to_token(id)?, id))),
            None => tokenizer.token_to_id(IMAGE_TOKEN).map(|id| (IMAGE_TOKEN.to_string(), id)),
        };
        let Some((image_token, image_token_id)) = image else {
            let missing = image_token_id.map_or(IMAGE_TOKEN.to_string(), |id| format!("with the id {id}"));
            return Err(named(format!("no image token {missing}")));
        };
        Ok(Self { tokenizer, image_token, image_token_id })
    }

    /// Any text that contains a special token's name is read as that token, as in the reference
    /// library; one that names the image token is wrong usage.
    pub fn encode(&self, question: &str) -> Result<PromptIds> {
        let text = format!("{USER}{}{question}{END}{ASSISTANT}", self.image_token);
        let encoding = tokenizer_file::encode(&self.tokenizer, &text, true)?;
        let ids = encoding.get_ids();
        let mut parts = ids.split(|id| *id == self.image_token_id);
        let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(usage(format!("the prompt must not contain {}", self.image_token)));
        };
        let wide = |ids: &[u32]| ids.iter().copied().map(i64::from).collect();
        Ok(PromptIds { before: wide(before), after: wide(after) })
    }

    pub fn image_token_id(&self) -> i64 {
        i64::from(self.image_token_id)
    }

    /// The tokens that end an answer, for a checkpoint that does not name them.
    pub fn end_tokens(&self) -> Vec<i64> {
        [END, END_OF_TEXT].iter().filter_map(|token| self.tokenizer.token_to_id(token)).map(i64::from).collect()
    }

    /// The text without special tokens.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().map(|id| u32::try_from(*id)).collect::<Result<_, _>>()?;
        tokenizer_file::guarded(|| self.tokenizer.decode(&ids, true)).context("cannot turn tokens into text")
    }
}
