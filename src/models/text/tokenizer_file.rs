//! Tokenizers from files that nobody has checked: the library panics over damaged ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use tokenizers::{Encoding, NormalizedString, Normalizer, Tokenizer};

/// Reads a `tokenizer.json`.
pub fn read(file: &Path) -> Result<Tokenizer> {
    read_guarded(|| Tokenizer::from_file(file)).with_context(|| format!("reading {}", file.display()))
}

/// A tokenizer that `make` reads. Text of all scripts goes through its normalizer once, so that a damaged table is found
/// here, where the file can be named, and not in the middle of a run.
pub fn read_guarded(make: impl FnOnce() -> tokenizers::Result<Tokenizer>) -> Result<Tokenizer> {
    guarded(|| {
        let tokenizer = make()?;
        if let Some(normalizer) = tokenizer.get_normalizer() {
            normalizer.normalize(&mut NormalizedString::from(all_scripts()))?;
        }
        Ok(tokenizer)
    })
}

/// The tokens of a text.
pub fn encode(tokenizer: &Tokenizer, text: &str, add_special_tokens: bool) -> Result<Encoding> {
    guarded(|| tokenizer.encode(text, add_special_tokens)).with_context(|| format!("tokenizing {text:?}"))
}

/// What the library makes of it; a panic becomes an error.
pub fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(made) => made.map_err(|error| anyhow!("{error}")),
        Err(_) => Err(anyhow!("the tokenizer is damaged: put the checkpoint's own file there again")),
    }
}

/// The characters of the common scripts, alone and with marks above them.
fn all_scripts() -> String {
    let ranges = [0x20..0x3000u32, 0xac00..0xac80, 0xf900..0xfffe, 0x1d400..0x1d480, 0x1f300..0x1f380];
    let characters = ranges.into_iter().flatten().filter_map(char::from_u32);
    characters.flat_map(|character| [character, ' ']).collect()
}
