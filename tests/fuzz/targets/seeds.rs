//! Where fuzzing starts: the tiny golden files of other tests, a few texts here, and what once went wrong, which lies in
//! `tests/fuzz/corpus/TARGET`.

use std::fs;
use std::io::Read;
use std::path::Path;

use toolkit::axes::steps;
use toolkit::run::caption::{CaptionItem, CaptionResult, Comparison};
use toolkit::run::csv;
use toolkit::run::style::{ItemRow, ResultRow};

use super::{Target, repository, scratch};

/// Larger files leave a mutation little chance to hit what matters.
const MOST_BYTES: usize = 32 << 10;

/// Name in a target's folder and place in the repository.
pub const MODEL_FOLDERS: [(&str, &str); 7] = [
    ("blip", "tests/golden/blip/a"),
    ("phi4", "tests/golden/phi4/a/native"),
    ("sd15", "tests/golden/sd15/like_v1"),
    ("sd15_other", "tests/golden/sd15/other"),
    ("sd3", "tests/golden/sd3/with_t5"),
    ("clip", "tests/golden/embeddings/clip_a"),
    ("dinov2", "tests/golden/embeddings/dinov2_a"),
];

pub const TOKENIZER_FILES: [(&str, &str); 7] = [
    ("clip/vocab.json", "tests/golden/text_tokenizers/clip_l/vocab.json"),
    ("clip/merges.txt", "tests/golden/text_tokenizers/clip_l/merges.txt"),
    ("clip/tokenizer_config.json", "tests/golden/text_tokenizers/clip_l/tokenizer_config.json"),
    ("clip_json/tokenizer.json", "tests/golden/sd3/like_sd35/tokenizer/tokenizer.json"),
    ("t5/spiece.model", "tests/golden/sd3/with_t5/tokenizer_3/spiece.model"),
    ("t5_json/tokenizer.json", "tests/golden/sd3/like_sd35/tokenizer_3/tokenizer.json"),
    ("phi4/tokenizer.json", "tests/golden/phi4/a/tokenizer.json"),
];

const FORMATS: [(&str, &str); 7] = [
    ("nlphuji-coco", "raw,split,filename,cocoid\n\"[\"\"a dog\"\", 'it\\'s']\",test,a.png,1\n['x'],val,b.png,2\n"),
    ("nlphuji-flickr30k", "raw,sentids,split,filename,img_id\n\"['a dog', \"\"b\"\"]\",[0],test,a.png,0\n"),
    (
        "karpathy",
        r#"{"images": [{"filepath": "val2014", "filename": "a.png", "imgid": 0, "split": "test", "cocoid": 7,
            "sentences": [{"raw": "a dog", "tokens": ["a", "dog"]}]}], "dataset": "coco"}"#,
    ),
    (
        "coco-captions",
        r#"{"images": [{"id": 1, "file_name": "a.png", "height": 3, "width": 3}],
            "annotations": [{"image_id": 1, "id": 2, "caption": "a dog"}]}"#,
    ),
    ("flickr-token", "a.png#0\tA dog .\na.png#1\tA cat .\nb.png#0\tx\n"),
    ("captions-csv", "image,caption,split\na.png,\"a, dog\",test\nb/a.png,\"two\nlines\",val\n"),
    ("captions-csv", "\u{feff}image,caption\r\na.png,x\r\n"),
];

const STYLE: &str = "mini width=64 axes.steps=3 axes.seed=[1,2]\nname = \"a\"\nkind = \"style_transfer\"\ncomparison_size = 224\n\
                     photos = \"p\"\nstyle_pictures = \"s\"\ncaptioner = \"mini-blip\"\ngenerator = \"mini-sd3\"\n[axes]\nseed = 0\n\
                     strength = [0.5, \"txt2img\"]\n[axes.instruction]\nx = \"Describe.\"\n[axes.style_text]\ny = \"ink\"\n\
                     [profiles.mini]\nlimit = 2\n[profiles.full]\nlimit = 3\n";

/// The inputs of one target.
#[derive(Default)]
pub struct Seeds(Vec<Vec<u8>>);

impl Seeds {
    /// A file, or every file under a folder whose name ends so; the repository's names.
    fn files(&mut self, path: &str, ends: &[&str]) {
        let path = repository(path);
        if !path.is_dir() {
            return self.push(fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
        walk(&path, &mut |file, name| {
            if ends.iter().any(|end| name.ends_with(end)) {
                self.push(fs::read(file).unwrap());
            }
        });
    }

    fn headed(&mut self, head: &str, rest: &[u8]) {
        self.push([head.as_bytes(), b"\n", rest].concat());
    }

    fn push(&mut self, bytes: Vec<u8>) {
        if bytes.len() <= MOST_BYTES && !self.0.contains(&bytes) {
            self.0.push(bytes);
        }
    }
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path, &str)) {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, visit);
        } else {
            visit(&path, path.file_name().unwrap().to_str().unwrap());
        }
    }
}

/// Every input that a target starts from; what once went wrong comes first.
pub fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = Seeds::default();
    let own = repository("tests/fuzz/corpus").join(target.name);
    if own.is_dir() {
        walk(&own, &mut |file, _| seeds.0.push(fs::read(file).unwrap()));
    }
    (target.seeds)(&mut seeds);
    assert!(!seeds.0.is_empty(), "{} has no seeds", target.name);
    seeds.0
}

pub fn safetensors(seeds: &mut Seeds) {
    seeds.files("tests/golden/checkpoints", &[".safetensors"]);
    seeds.files("tests/golden/single_file/float8.safetensors", &[]);
    seeds.files("tests/golden/generation/tables.safetensors", &[]);
}

pub fn archives(seeds: &mut Seeds) {
    seeds
        .files("tests/golden/checkpoints", &[".zip.pt", ".bin", "negated.pt", "lightning.pt", "complex.pt", "sums.pt"]);
}

pub fn legacy(seeds: &mut Seeds) {
    seeds.files("tests/golden/checkpoints", &[".legacy.pt"]);
}

/// Small LoRA files of each layout with the generator that they are for, and IP-Adapters of each.
pub fn adapters(seeds: &mut Seeds) {
    for (folder, start, head) in
        [("lora", "sd15_", "sd15"), ("lora", "sd3_", "sd3"), ("ip_adapter/models", "ip-", "ip")]
    {
        for entry in fs::read_dir(repository("tests/golden").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path.file_name().unwrap().to_string_lossy().starts_with(start) {
                seeds.headed(head, &fs::read(path).unwrap());
            }
        }
    }
    seeds.0.sort();
}

/// The pickles of the archives.
pub fn pickles(seeds: &mut Seeds) {
    let mut whole = Seeds::default();
    archives(&mut whole);
    whole.files("tests/golden/checkpoints", &["protocol4.pt", "whole_module.pt", "lightning_fabric.pt"]);
    for bytes in whole.0 {
        let Ok(mut archive) = zip::ZipArchive::new(std::io::Cursor::new(bytes)) else { continue };
        let name = archive.file_names().find(|name| name.ends_with(".pkl")).map(str::to_string);
        let Some(Ok(mut member)) = name.map(|name| archive.by_name(&name)) else { continue };
        let mut pickle = Vec::new();
        // The archives without sums cannot be read by this library.
        if member.read_to_end(&mut pickle).is_err() {
            continue;
        }
        seeds.push(pickle);
    }
}

pub fn configs(seeds: &mut Seeds) {
    for folder in ["blip/a", "phi4/a", "sd15/like_v1", "sd15/other", "sd3/with_t5", "resaved"] {
        seeds.files(&format!("tests/golden/{folder}"), &["config.json", "model_index.json"]);
    }
}

pub fn models(seeds: &mut Seeds) {
    for (name, golden) in MODEL_FOLDERS {
        let root = repository(golden);
        walk(&root, &mut |file, file_name| {
            let place = file.strip_prefix(&root).unwrap().to_str().unwrap();
            if (file_name.ends_with(".json") || file_name == "vocab.txt") && !file_name.starts_with("expected") {
                seeds.headed(&format!("{name}/{place}"), &fs::read(file).unwrap());
            }
        });
    }
}

pub fn tokenizers(seeds: &mut Seeds) {
    for (name, golden) in TOKENIZER_FILES {
        seeds.headed(name, &fs::read(repository(golden)).unwrap());
    }
}

pub fn experiments(seeds: &mut Seeds) {
    seeds.push(STYLE.into());
    walk(&repository("experiments"), &mut |file, name| {
        if name.ends_with(".toml") {
            let text = fs::read(file).unwrap();
            seeds.headed("mini", &text);
            seeds.headed("full batch_size=2 num_beams=3 coco.split=val axes.steps=[2,3]", &text);
        }
    });
}

pub fn tables(seeds: &mut Seeds) {
    seeds.files("tests/golden/gallery/items.csv", &[]);
    for (name, bytes) in run_files() {
        if name.ends_with(".csv") {
            seeds.push(bytes);
        }
    }
}

pub fn runs(seeds: &mut Seeds) {
    for (name, bytes) in run_files() {
        seeds.headed(name, &bytes);
    }
}

pub fn datasets(seeds: &mut Seeds) {
    for (name, text) in FORMATS {
        seeds.headed(name, text.as_bytes());
    }
    for compression in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(compression);
        zip.start_file("flickr30k-images/a.png", options).unwrap();
        let picture = fs::read(repository("tests/golden/images/gray1.png")).unwrap();
        std::io::Write::write_all(&mut zip, &picture).unwrap();
        seeds.headed("zip", &zip.finish().unwrap().into_inner());
    }
}

pub fn pictures(seeds: &mut Seeds) {
    seeds.files("tests/golden/images", &[".png", ".jpg", ".webp"]);
}

/// The files of a style run and of a caption run, with two rows each.
pub fn run_files() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.to_string();
    let item = |strategy: &str, number: f64| ItemRow {
        id: text("a"),
        strategy: text(strategy),
        status: text("done"),
        style_distance: Some(number),
        seconds: Some(number),
        photo_luma: Some(3.0),
        image: text("images/a.png"),
        ..ItemRow::default()
    };
    let result = |strategy: &str| {
        let mut row = ResultRow { strategy: text(strategy), n: 3, ..ResultRow::default() };
        row.axes.set(&steps::AXIS, 3u64);
        row
    };
    let said = |model: &str| CaptionItem {
        id: text("a"),
        dataset: text("coco"),
        model: text(model),
        caption: text("a \"dog\", <b>"),
        status: text("done"),
        ..CaptionItem::default()
    };
    let score = |model: &str| CaptionResult {
        model: text(model),
        dataset: text("coco"),
        n: 3,
        images_per_second: Some(2.5),
        ..CaptionResult::default()
    };
    let config = "name = \"a\"\nkind = \"style_transfer\"\nquestion = \"Which?\"\n[axes]\nsteps = [3, 5]\n";
    let manifest = r#"{"command": "x", "device": "cpu", "models": {"a": "b"}, "finished": true, "seconds": 3.5}"#;
    vec![
        ("style/items.csv", table(&[item("ink", 0.5), item("oil", 1.5)])),
        ("style/results.csv", table(&[result("ink"), result("oil")])),
        ("style/config.toml", config.into()),
        ("style/manifest.json", manifest.into()),
        ("caption/items.csv", table(&[said("m"), said("n")])),
        ("caption/results.csv", table(&[score("m"), score("n")])),
        ("caption/comparisons.csv", table(&[Comparison::default()])),
        ("caption/config.toml", config.replace("style_transfer", "caption").into()),
        ("caption/manifest.json", manifest.into()),
    ]
}

fn table<T: csv::Row>(rows: &[T]) -> Vec<u8> {
    let dir = scratch();
    let path = dir.path().join("rows.csv");
    csv::write(&path, rows, &["lpips", "bleu4"].map(str::to_string)).unwrap();
    fs::read(path).unwrap()
}
