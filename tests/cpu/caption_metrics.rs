//! Caption metrics against nltk, rouge-score, sacrebleu's tokenizer and pycocoevalcap
//! (`tests/reference/caption_metrics.py`).

use serde_json::Value;
use toolkit::metrics::of_captions;
use toolkit::metrics::text::captions::{self, Caption, Profile, Scores};
use toolkit::metrics::text::meteor::{porter, wordnet::WordNet, words};
use toolkit::metrics::text::{bleu, ptb, rouge};

fn golden(name: &str) -> Value {
    let path = format!("{}/tests/golden/caption_metrics/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn rows(name: &str) -> Vec<Value> {
    golden(name).as_array().unwrap().clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn items() -> Vec<Caption> {
    let caption = |item: &Value| Caption {
        id: text(&item["id"]).to_owned(),
        prediction: text(&item["prediction"]).to_owned(),
        clip: None,
        references: item["references"].as_array().unwrap().iter().map(|r| text(r).to_owned()).collect(),
    };
    golden("items.json").as_array().unwrap().iter().map(caption).collect()
}

/// Fails with the first differences when any of the rows differs.
fn all_equal(what: &str, rows: impl Iterator<Item = (String, String, String)>) {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (input, got, wanted) in rows {
        seen += 1;
        if got != wanted {
            wrong.push(format!("{input:?}\n     got {got:?}\n  wanted {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{what}: {} of {seen} differ\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

#[test]
fn stems_are_those_of_nltk() {
    let rows = rows("stems.json");
    assert!(rows.len() > 5000);
    all_equal(
        "stems",
        rows.iter().map(|row| (text(&row[0]).into(), porter::stem(text(&row[0])), text(&row[1]).into())),
    );
}

#[test]
fn synonyms_are_those_of_wordnet() {
    let found = |word: &str| {
        let mut names = WordNet::embedded().synonyms(word);
        names.sort_unstable();
        names.join(" ")
    };
    let rows = rows("synonyms.json");
    assert!(rows.iter().filter(|row| !text(&row[1]).is_empty()).count() > 900);
    all_equal("synonyms", rows.iter().map(|row| (text(&row[0]).into(), found(text(&row[0])), text(&row[1]).into())));
}

fn check_tokens(what: &str, column: usize, tokenize: fn(&str) -> String) {
    let wanted = |value: &Value| match value {
        Value::Array(tokens) => tokens.iter().map(text).collect::<Vec<_>>().join(" "),
        value => text(value).to_owned(),
    };
    let rows = rows("tokens.json");
    all_equal(what, rows.iter().map(|row| (text(&row[0]).into(), tokenize(text(&row[0])), wanted(&row[column]))));
}

#[test]
fn words_are_those_of_nltk() {
    check_tokens("word_tokenize", 1, words::word_tokenize);
}

#[test]
fn bleu_tokens_are_those_of_mteval_13a() {
    check_tokens("13a", 2, bleu::tokenize_13a);
}

#[test]
fn coco_tokens_are_those_of_the_ptb_tokenizer() {
    check_tokens("ptb", 3, ptb::tokenize_caption);
}

#[test]
fn rouge_tokens_are_those_of_rouge_score() {
    check_tokens("rouge", 4, rouge::tokenize);
}

/// Sums of a few hundred doubles in another order differ by far less than this.
const TOLERANCE: f64 = 1e-9;

#[test]
fn scores_are_those_of_the_reference() {
    let wanted = golden("scores.json");
    let scores = captions::score(&items(), Profile::Coco).unwrap();
    let names: Vec<&str> = scores.metrics.iter().map(|metric| metric.name).collect();
    let of_texts = of_captions().filter(|metric| metric.profile() != Profile::Pictures);
    assert_eq!(names, of_texts.map(|metric| metric.about().name).collect::<Vec<_>>());
    for metric in &scores.metrics {
        let total = wanted["totals"][metric.name].as_f64().unwrap();
        assert!((metric.score - total).abs() < TOLERANCE, "{}: {} instead of {total}", metric.name, metric.score);
        let per_item = wanted["per_item"][metric.name].as_array().unwrap();
        assert_eq!(per_item.len(), metric.per_item.len());
        for ((id, value), wanted) in scores.ids.iter().zip(&metric.per_item).zip(per_item) {
            let wanted = wanted.as_f64().unwrap();
            assert!((value - wanted).abs() < TOLERANCE, "{} of {id}: {value} instead of {wanted}", metric.name);
        }
    }
    // The same draws as NumPy's, so this is not only near.
    for (name, median) in scores.rouge_medians(0) {
        let wanted = wanted["medians"][name].as_f64().unwrap();
        assert!((median - wanted).abs() < TOLERANCE, "median of {name}: {median} instead of {wanted}");
    }
}

fn scored(captions: &[Caption]) -> Scores {
    captions::score(captions, Profile::Hf).unwrap()
}

#[test]
fn intervals_hold_the_score_and_shrink_with_more_items() {
    let items = items();
    let (all, few) = (scored(&items), scored(&items[..30]));
    let width = |scores: &Scores, seed| -> Vec<f64> {
        let intervals = scores.intervals(seed).unwrap();
        for (metric, interval) in scores.metrics.iter().zip(&intervals) {
            assert!(interval.low < metric.score && metric.score < interval.high, "{}", metric.name);
        }
        intervals.iter().map(|interval| interval.high - interval.low).collect()
    };
    let (wide, narrow) = (width(&few, 1), width(&all, 1));
    assert!(wide.iter().zip(&narrow).all(|(wide, narrow)| narrow < wide));
    assert_eq!(all.intervals(7).unwrap(), all.intervals(7).unwrap());
    assert_ne!(all.intervals(7).unwrap(), all.intervals(8).unwrap());
}

#[test]
fn paired_bootstrap_tells_a_better_captioner_from_an_equal_one() {
    let items = items();
    let first = scored(&items);
    let same = captions::paired_bootstrap(&first, &first, 3).unwrap();
    assert!(same.iter().all(|all| all.difference == 0.0 && all.p_value == 1.0 && all.first_better == 0.0));

    // The second says the first reference, in another order of items: they are paired by id.
    let mut oracle = items.clone();
    oracle.iter_mut().for_each(|item| item.prediction = item.references[0].clone());
    oracle.reverse();
    let second = scored(&oracle);
    for all in captions::paired_bootstrap(&first, &second, 3).unwrap() {
        assert!(all.difference < -0.1 && all.interval.high < 0.0 && all.p_value < 0.01, "{all:?}");
    }
    let fewer = scored(&items[1..]);
    assert!(captions::paired_bootstrap(&first, &fewer, 3).is_err());
    assert!(captions::paired_bootstrap(&fewer, &first, 3).is_err());
}

#[test]
fn nothing_divides_by_zero() {
    let item = |prediction: &str, references: &[&str]| Caption {
        id: format!("{prediction}{references:?}"),
        prediction: prediction.to_owned(),
        clip: None,
        references: references.iter().map(|r| (*r).to_owned()).collect(),
    };
    for captions in [
        vec![item("", &["a dog"])],
        vec![item("a dog", &[""])],
        vec![item("", &[""])],
        vec![item("", &["", ""]), item("a", &["b", ""])],
    ] {
        let scores = captions::score(&captions, Profile::Coco).unwrap();
        assert!(scores.metrics.iter().all(|metric| metric.score.is_finite()), "{scores:?}");
        let intervals = scores.intervals(0).unwrap();
        assert!(intervals.iter().all(|interval| interval.low.is_finite() && interval.high.is_finite()));
    }
    assert!(captions::score(&[], Profile::Hf).is_err());
    assert!(captions::score(&[item("a", &[])], Profile::Hf).is_err());
}

/// Runs `toolkit evaluate captions` on two JSON texts: exit status, stdout, stderr.
fn evaluate(predictions: &str, references: &str, more: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.json"), predictions).unwrap();
    std::fs::write(folder.path().join("r.json"), references).unwrap();
    let output = assert_cmd::Command::cargo_bin("toolkit")
        .unwrap()
        .current_dir(folder.path())
        .args(["evaluate", "captions", "--predictions", "p.json", "--references", "r.json"])
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const PREDICTIONS: &str = r#"{"a": "a man rides a wave on a surfboard.", "b": "two dogs play in the snow"}"#;
const REFERENCES: &str =
    r#"{"b": ["Two puppies are playing in snow.", "dogs run"], "a": ["A man riding a wave on top of a surfboard."]}"#;

#[test]
fn the_command_prints_what_the_contract_names() {
    let (status, json, errors) = evaluate(PREDICTIONS, REFERENCES, &["--format", "json"]);
    assert_eq!((status, errors.as_str()), (0, ""));
    let value: Value = serde_json::from_str(&json).unwrap();
    for name in ["bleu", "rouge1", "rouge2", "rougeL", "rougeLsum", "meteor"] {
        assert!((0.0..=1.0).contains(&value[name].as_f64().unwrap()), "{name}");
        assert_eq!(value["interval_95"][name].as_array().unwrap().len(), 2);
    }
    assert_eq!(value["n"], 2);
    assert!(value["cider"].is_null());
    let (_, json, _) = evaluate(PREDICTIONS, REFERENCES, &["--format", "json", "--profile", "coco"]);
    let coco: Value = serde_json::from_str(&json).unwrap();
    for name in ["bleu1", "bleu2", "bleu3", "bleu4", "cider"] {
        assert!(coco[name].as_f64().unwrap() > 0.0, "{name}");
    }
    assert_eq!(coco["meteor"], value["meteor"]);

    let (_, table, _) = evaluate(PREDICTIONS, REFERENCES, &["--format", "csv", "--against", "p.json"]);
    let mut table = csv::Reader::from_reader(table.as_bytes());
    assert!(table.headers().unwrap().iter().any(|name| name == "meteor_p_value"));
    let row = table.records().next().unwrap().unwrap();
    assert_eq!(row[5].parse::<f64>().unwrap(), value["meteor"].as_f64().unwrap());
    let (_, text, _) = evaluate(PREDICTIONS, REFERENCES, &[]);
    assert!(text.contains("meteor") && text.contains("2 captions"), "{text}");
}

#[test]
fn item_scores_are_written_in_the_order_of_the_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.csv");
    let (status, ..) = evaluate(PREDICTIONS, REFERENCES, &["--per-item", file.to_str().unwrap()]);
    assert_eq!(status, 0);
    let mut table = csv::Reader::from_path(file).unwrap();
    let ids: Vec<String> = table.records().map(|row| row.unwrap()[0].to_owned()).collect();
    assert_eq!(ids, ["a", "b"]);
    let (status, _, error) = evaluate(PREDICTIONS, REFERENCES, &["--per-item", "no/folder/items.csv"]);
    assert!(status == 1 && error.contains("no/folder/items.csv"), "{error}");
}

#[test]
fn bad_input_is_one_line_that_names_file_and_id() {
    let cases = [
        ("{", REFERENCES, 1, vec!["p.json", "JSON"]),
        ("[]", REFERENCES, 1, vec!["p.json", "{\"ID\""]),
        ("{}", REFERENCES, 1, vec!["p.json", "no captions"]),
        (r#"{"a": 3, "b": "x"}"#, REFERENCES, 1, vec!["p.json", "\"a\"", "not a text"]),
        (r#"{"a": "x", "a": "y", "b": "z"}"#, REFERENCES, 1, vec!["p.json", "\"a\"", "twice"]),
        (r#"{"a": "x"}"#, REFERENCES, 2, vec!["p.json lacks 1 id (\"b\")"]),
        (r#"{"a": "x", "b": "y", "c": "z"}"#, REFERENCES, 2, vec!["r.json lacks 1 id (\"c\")"]),
        (
            r#"{"a": "x", "c": "z"}"#,
            REFERENCES,
            2,
            vec!["r.json lacks 1 id (\"c\") of p.json; p.json lacks 1 id (\"b\") of r.json"],
        ),
        (PREDICTIONS, r#"{"a": [], "b": ["x"]}"#, 1, vec!["r.json", "\"a\"", "empty list"]),
        (PREDICTIONS, r#"{"a": "x", "b": ["x"]}"#, 1, vec!["r.json", "\"a\"", "list of texts"]),
        (PREDICTIONS, r#"{"a": ["x", null], "b": ["x"]}"#, 1, vec!["r.json", "\"a\"", "list of texts"]),
        (PREDICTIONS, r#"{"a": ["x"], "b": ["x"], "b": ["y"]}"#, 1, vec!["r.json", "\"b\"", "twice"]),
    ];
    for (predictions, references, wanted, parts) in cases {
        let (status, out, error) = evaluate(predictions, references, &[]);
        assert_eq!((status, out.as_str()), (wanted, ""), "{predictions} {references}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{error} lacks one of {parts:?}");
    }
    let (status, _, error) = evaluate(PREDICTIONS, REFERENCES, &["--against", "none.json"]);
    assert!(status == 1 && error.contains("none.json"), "{error}");
}

#[test]
fn empty_captions_and_other_encodings() {
    let (status, json, _) = evaluate(r#"{"a": "", "b": ""}"#, REFERENCES, &["--format", "json", "--profile", "coco"]);
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, value["bleu"].as_f64(), value["meteor"].as_f64()), (0, Some(0.0), Some(0.0)));

    let folder = tempfile::tempdir().unwrap();
    let latin = folder.path().join("latin.json");
    std::fs::write(&latin, b"{\"a\": \"caf\xe9\", \"b\": \"x\"}").unwrap();
    let (status, _, error) = evaluate(PREDICTIONS, REFERENCES, &["--against", latin.to_str().unwrap()]);
    assert!(status == 1 && error.contains("latin.json is not UTF-8"), "{error}");
    let wide: Vec<u8> = PREDICTIONS.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(&latin, [b"\xff\xfe".as_slice(), &wide].concat()).unwrap();
    let (status, _, error) = evaluate(PREDICTIONS, REFERENCES, &["--against", latin.to_str().unwrap()]);
    assert!(status == 1 && error.contains("is not UTF-8 (byte 0): save it as UTF-8"), "{error}");
    let with_mark = format!("\u{feff}{PREDICTIONS}");
    assert_eq!(
        evaluate(&with_mark, REFERENCES, &["--format", "json"]).1,
        evaluate(PREDICTIONS, REFERENCES, &["--format", "json"]).1
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_tokenized(text in "([a-zA-Z0-9 .,:;!?'\"()<>&/@#$%_+*=-]|\\PC|\\s){0,40}") {
        for tokenize in [words::word_tokenize, bleu::tokenize_13a, ptb::tokenize_caption, rouge::tokenize] {
            let tokens = tokenize(&text);
            proptest::prop_assert!(!tokens.starts_with(' ') && !tokens.ends_with(' '), "{:?}", tokens);
        }
    }
}
