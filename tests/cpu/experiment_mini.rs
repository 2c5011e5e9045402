//! The main job with the embedded models, as a user runs it.

use crate::doubles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use doubles::{assert_same_runs, without_times};
use image::{Rgb, RgbImage, imageops};
use serde_json::Value;
use toolkit::axes::instruction;
use toolkit::metrics::image::embedded::cosines;
use toolkit::metrics::image::features::FeatureNet;
use toolkit::metrics::image::networks::Network;
use toolkit::metrics::stats::{Moving, estimates};
use toolkit::models::{CaptionOptions, GenerateRequest, load_captioner, load_generator};
use toolkit::run::people::RatingRow;
use toolkit::run::style::{Comparison, ItemRow, ResultRow};
use toolkit::runtime::{DtypeChoice, Runtime};

/// Pictures are compared at the size at which they are drawn, so that single steps can be held
/// against the run: nothing is resized on the way.
const RUN: [&str; 10] = [
    "experiment",
    "style_ablation",
    "--limit",
    "3",
    "--set",
    "steps=2",
    "--set",
    "comparison_size=96",
    "--device",
    "cpu",
];

fn toolkit(arguments: &[&str], more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolkit"));
    command.args(arguments).args(more).env("HF_HUB_OFFLINE", "1").env_remove("TOOLKIT_HOME");
    command
}

fn ok(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn rows<T: toolkit::run::csv::Row>(file: PathBuf) -> Vec<T> {
    toolkit::run::csv::read(&file, &[]).unwrap()
}

fn mini(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/mini").join(path).display().to_string()
}

#[test]
fn a_run_agrees_with_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = toolkit(&RUN, &["--out", run.to_str().unwrap()]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("strategy "), "results alone");
    let first = stderr.lines().next().unwrap();
    for word in ["style_ablation", "mini-phi-4-multimodal", "mini-sd3", "mini-clip, mini-csd", "3 of", "open-peeps"] {
        assert!(first.contains(word), "{word} in {first}");
    }
    let items: Vec<ItemRow> = rows(run.join("items.csv"));
    assert_eq!(items.len(), 9);
    assert!(items.iter().all(|row| row.status == "done" && !row.prompt.is_empty()));

    let cpu = Runtime { device: tch::Device::Cpu, dtype: DtypeChoice::Auto, offline: true };
    let captioner = load_captioner("mini-phi-4-multimodal", &cpu).unwrap();
    let prompt = Some(rows::<ResultRow>(run.join("results.csv"))[0].axes.get(&instruction::AXIS).to_string());
    let options = CaptionOptions { prompt, max_new_tokens: None, num_beams: 1 };
    for row in &items {
        let photo = toolkit::images::load(mini(&format!("photos/{}.png", row.id))).unwrap();
        assert_eq!(captioner.caption(&[photo], &options).unwrap()[0].text, row.caption);
    }

    let generator = load_generator("mini-sd3", &cpu).unwrap();
    for row in &items {
        let (prompts, seeds) = (vec![row.prompt.clone()], vec![row.seed]);
        let guidance_scale = Some(3.0);
        let request = GenerateRequest { prompts, seeds, steps: Some(2), guidance_scale, ..GenerateRequest::default() };
        let alone = generator.generate(&request).unwrap().remove(0).image;
        assert_eq!(alone.dimensions(), (96, 96));
        let in_run = toolkit::images::load(run.join(&row.image)).unwrap();
        assert!(alone == in_run, "{} under {}: the same seed and prompt, another picture", row.id, row.strategy);
    }

    // evaluate artfid
    for result in rows::<ResultRow>(run.join("results.csv")) {
        let images = run.join("images").join(&result.strategy);
        let (content, style) = (run.join("photos"), mini("styles/open-peeps"));
        let arguments = [
            "evaluate",
            "artfid",
            "--mode",
            "art_fid",
            "--format",
            "json",
            "--style",
            &style,
            "--inception",
            "mini-art-inception",
            "--lpips-backbone",
            "mini-lpips",
            "--lpips-linear",
            "mini-lpips",
        ];
        let folders = ["--content", content.to_str().unwrap(), "--stylized", images.to_str().unwrap()];
        let scores: Value = serde_json::from_str(&ok(toolkit(&arguments, &folders))).unwrap();
        for key in ["artfid", "fid", "lpips"] {
            let value = result.values.value(key);
            let (single, value) = (scores[key].as_f64().unwrap(), value.unwrap());
            // Batches of another size round differently in float32.
            assert!((single - value).abs() <= 1e-5 * value, "{key}: {single} and {value}");
        }
    }
    assert!(run.join("report.html").exists());
}

/// Eight photos are enough to tell a right style text from a wrong one by each metric of style, and too few to tell two
/// right ones apart by ArtFID. CLIP says of each picture that it is not what the other text asks for.
#[test]
fn right_and_wrong_style_texts_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let experiment = ["experiment", "style_ablation", "--limit", "8", "--set", "steps=4", "--device", "cpu"];
    ok(toolkit(&experiment, &["--out", run.to_str().unwrap()]));
    let found: Vec<Comparison> = rows(run.join("comparisons.csv"));
    let pair = |metric: &str, second: &str| {
        let is = |row: &&Comparison| row.metric == metric && row.first == "peanuts" && row.second == second;
        found.iter().find(is).unwrap()
    };
    for metric in ["artfid", "fid", "kid", "csd"] {
        let wrong = pair(metric, "wrong_style");
        let nearer = if metric == "csd" { wrong.low > 0.0 } else { wrong.high < 0.0 };
        assert!(nearer && wrong.p_holm < Some(0.05), "{wrong:?}");
    }
    for metric in ["artfid", "fid"] {
        let right = pair(metric, "peanuts_detailed");
        assert!(right.low < 0.0 && right.high > 0.0 && right.p_holm > Some(0.05), "{right:?}");
    }
    // Each picture follows its own prompt, which `clip_text` is about; held against the other's it does not.
    let items: Vec<ItemRow> = rows(run.join("items.csv"));
    let of = |strategy: &str| items.iter().filter(|row| row.strategy == strategy).collect::<Vec<_>>();
    let (right, wrong) = (of("peanuts"), of("wrong_style"));
    let cpu = Runtime { device: tch::Device::Cpu, dtype: DtypeChoice::Auto, offline: true };
    let clip = FeatureNet::open(Network::Clip, Some("mini-clip"), &cpu).unwrap();
    let pictures = |of: &[&ItemRow]| {
        let files: Vec<PathBuf> = of.iter().map(|row| run.join(&row.image)).collect();
        clip.describe(&files, None).unwrap()
    };
    let prompts = |of: &[&ItemRow]| clip.texts(&of.iter().map(|row| row.prompt.clone()).collect::<Vec<_>>()).unwrap();
    let fits = |pictures: &[&ItemRow], texts: &[&ItemRow], drawn: &tch::Tensor| {
        assert!(pictures.iter().zip(texts).all(|(a, b)| a.id == b.id));
        Moving::mean(cosines(drawn, &prompts(texts)).unwrap())
    };
    for (own, other) in [(&right, &wrong), (&wrong, &right)] {
        let drawn = pictures(own);
        let (follows, strays) = (fits(own, own, &drawn), fits(own, other, &drawn));
        for (value, row) in follows.by_item.iter().zip(own) {
            assert!((row.values.value("clip_text").unwrap() - value).abs() < 1e-5, "{row:?}");
        }
        let apart = estimates(&[&follows.less(&strays)], 1, 0).unwrap()[0];
        assert!(apart.interval.low > 0.0 && apart.p_value < 0.05, "{apart:?}");
    }
}

/// Photos that are no squares, and the part of them that `fit = "crop"` shows.
#[test]
fn killed_and_continued_or_in_shards_it_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let to = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir(path("photos")).unwrap();
    for (at, width) in [150, 98, 120].into_iter().enumerate() {
        let name = format!("face-{:03}.png", at + 1);
        let mut wide = RgbImage::from_pixel(width, 96, Rgb([90, 140, 90]));
        let face = toolkit::images::load(mini(&format!("photos/{name}"))).unwrap();
        imageops::replace(&mut wide, &face, i64::from(width - 96) / 2, 0);
        wide.save(path("photos").join(&name)).unwrap();
    }
    let photos = format!("photos={}", to("photos"));
    let run = [&RUN[..], &["--set", &photos, "--set", "fit=crop"]].concat();
    ok(toolkit(&run, &["--out", &to("whole")]));
    for at in 1..=3 {
        let name = format!("face-{at:03}.png");
        let seen = toolkit::images::load(path("whole/photos").join(&name)).unwrap();
        assert!(seen == toolkit::images::load(mini(&format!("photos/{name}"))).unwrap(), "{name}: the middle");
    }
    let whole = csv_files(&path("whole"));

    let mut child = toolkit(&run, &["--out", &to("killed")]).stdout(Stdio::null()).spawn().unwrap();
    let patience = Instant::now();
    let recorded = || std::fs::read_to_string(path("killed/items.csv")).map_or(0, |text| text.lines().count());
    while recorded() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        assert!(patience.elapsed() < Duration::from_secs(300), "the run does not get on");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    ok(toolkit(&run, &["--out", &to("killed")]));
    assert_eq!(csv_files(&path("killed")), whole);

    for shard in ["1", "2"] {
        ok(toolkit(&run, &["--shard", &format!("{shard}/2"), "--out", &to(&format!("all-shard-{shard}-of-2"))]));
    }
    // What people said of the shards is there afterwards, in the order of its time.
    let rating = |rater: &str, at: &str| RatingRow {
        rater: rater.into(),
        id: "face-001".into(),
        strategy: "peanuts".into(),
        rating: "success".into(),
        at: at.into(),
        ..RatingRow::default()
    };
    let (early, late) = (rating("anna", "2026-05-28T20:26:40Z"), rating("ben", "2026-05-28T20:26:41Z"));
    let said = |name: &str, rows: &[RatingRow]| toolkit::run::csv::write(&path(name).join("ratings.csv"), rows, &[]);
    said("all-shard-1-of-2", std::slice::from_ref(&late)).unwrap();
    said("all-shard-2-of-2", std::slice::from_ref(&early)).unwrap();
    let stdout = ok(toolkit(&["merge", &to("all-shard-1-of-2"), &to("all-shard-2-of-2")], &[]));
    assert!(stdout.contains("peanuts_detailed"), "{stdout}");
    assert_eq!(csv_files(&path("all")), whole);
    assert_eq!(rows::<RatingRow>(path("all").join("ratings.csv")), [early, late]);
    assert!(!path("all").join("votes.csv").exists());
    let page = std::fs::read_to_string(path("all").join("report.html")).unwrap();
    assert!(page.contains("2 raters gave 2 ratings"), "the page of the whole run has it, too");
    for folder in ["images", "photos", "features"] {
        assert_same_runs(&path("all").join(folder), &path("whole").join(folder));
        assert_same_runs(&path("killed").join(folder), &path("whole").join(folder));
    }
}

fn csv_files(run: &Path) -> BTreeMap<String, String> {
    let files = ["items.csv", "results.csv", "captions.csv", "comparisons.csv"];
    files.map(|file| (file.to_string(), without_times(&run.join(file)))).into()
}
