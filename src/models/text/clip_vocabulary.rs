//! CLIP's vocabulary, which is the same for every published text encoder and in no single file.
//!
//! Only the merges are kept (`assets/clip`): the tokens follow from them, as in
//! <https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py>.

use std::io::Read;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use tokenizers::models::bpe::{Merges, Vocab};

static MERGES: &[u8] = include_bytes!("../../../assets/clip/merges.txt.gz");

/// Tokens with their ids, and the merges in order.
pub fn clip_vocabulary() -> Result<(Vocab, Merges)> {
    let mut text = String::new();
    GzDecoder::new(MERGES).read_to_string(&mut text).context("the built-in merges are damaged")?;
    let merges = merges_of(&text)?;
    let letters = byte_letters();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let merged = merges.iter().map(|(first, second)| format!("{first}{second}"));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(str::to_string);
    let tokens = letters.iter().map(char::to_string).chain(ends).chain(merged).chain(special);
    Ok((tokens.zip(0..).collect(), merges))
}

/// What is merged, the most common first: two tokens a line.
pub fn merges_of(text: &str) -> Result<Merges> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with("#version"));
    let pair = |(i, line): (usize, &str)| match line.split_once(' ') {
        Some((first, second)) if !second.contains(' ') => Ok((first.to_string(), second.to_string())),
        _ => bail!("line {}: these are not two tokens with a space between", i + 1),
    };
    lines.map(pair).collect()
}

/// The letter that stands for each byte: itself where it can be seen, those first, then letters from
/// 256 on for the others.
fn byte_letters() -> Vec<char> {
    let seen = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let own = (0..256).filter(seen);
    let others = (0..256).filter(|byte| !seen(byte)).enumerate().map(|(i, _)| 256 + i as u32);
    own.chain(others).filter_map(char::from_u32).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use crate::models::TextTokenizer;

    #[derive(Deserialize)]
    struct Row {
        text: String,
        ids: Vec<i64>,
    }

    /// The ids that transformers gives (`tests/reference/single_file.py`).
    #[test]
    fn the_built_in_vocabulary_gives_published_ids() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/single_file/clip_ids.json");
        let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let tokenizer = TextTokenizer::published_clip(77, "<|endoftext|>").unwrap();
        assert_eq!(tokenizer.tokenizer().get_vocab_size(true), 49408);
        for row in &rows {
            assert_eq!(tokenizer.encode(&row.text).unwrap(), row.ids, "{}", row.text);
        }
        // The second encoder of Stable Diffusion 3 is filled with `!`.
        let second = TextTokenizer::published_clip(77, "!").unwrap();
        assert_eq!(second.encode("a photo of a cat").unwrap()[..8], [49406, 320, 1125, 539, 320, 2368, 49407, 0]);
        assert!(rows.len() > 5);
    }
}
