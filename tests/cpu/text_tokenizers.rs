//! CLIP's and T5's tokenizers against transformers' (`tests/reference/text_tokenizers.py`): equal ids.

use std::path::Path;

use serde::Deserialize;
use toolkit::models::TextTokenizer;

#[derive(Deserialize)]
struct Row {
    tokenizer: String,
    text: String,
    ids: Vec<i64>,
    count: usize,
}

fn golden() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/text_tokenizers"))
}

fn check(folder: &str, tokenizer: &TextTokenizer) {
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(golden().join("ids.json")).unwrap()).unwrap();
    let rows: Vec<Row> = rows.into_iter().filter(|row| row.tokenizer == folder).collect();
    assert!(rows.len() > 20);
    for row in rows {
        assert_eq!(tokenizer.encode(&row.text).unwrap(), row.ids, "{folder}: {:?}", row.text);
        let whole = tokenizer.tokenizer().encode(row.text.as_str(), true).unwrap();
        assert_eq!(whole.len(), row.count, "{folder}: {:?}", row.text);
    }
}

#[test]
fn clip_from_vocab_and_merges() {
    check("clip_l", &TextTokenizer::clip(&golden().join("clip_l"), 77).unwrap());
}

#[test]
fn clip_padded_with_an_exclamation_mark() {
    let tokenizer = TextTokenizer::clip(&golden().join("clip_g"), 77).unwrap();
    assert_eq!(tokenizer.length(), 32, "model_max_length of tokenizer_config.json");
    check("clip_g", &tokenizer);
}

#[test]
fn t5_from_sentencepiece_alone() {
    check("t5", &TextTokenizer::t5(&golden().join("t5"), 48).unwrap());
}

#[test]
fn the_saved_form_gives_the_same_ids() {
    type Load = fn(&Path, usize) -> anyhow::Result<TextTokenizer>;
    for (folder, load, length) in [("clip_l", TextTokenizer::clip as Load, 77), ("t5", TextTokenizer::t5, 48)] {
        let from_vocab = load(&golden().join(folder), length).unwrap();
        let dir = tempfile::tempdir().unwrap();
        from_vocab.tokenizer().save(dir.path().join("tokenizer.json"), false).unwrap();
        check(folder, &load(dir.path(), length).unwrap());
    }
}

#[test]
fn a_damaged_sentencepiece_file_is_one_clear_error() {
    let bytes = std::fs::read(golden().join("t5/spiece.model")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spiece.model");
    for damaged in [&bytes[..bytes.len() / 2], b"not a model at all", b""] {
        std::fs::write(&file, damaged).unwrap();
        let error = format!("{:#}", TextTokenizer::t5(dir.path(), 48).unwrap_err());
        assert!(error.contains("spiece.model"), "{error}");
    }
    let error = format!("{:#}", TextTokenizer::clip(dir.path(), 77).unwrap_err());
    assert!(error.contains("vocab.json"), "{error}");
}
