//! Metrics in the features of other networks than art-Inception, against their reference libraries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Tensor};
use toolkit::metrics::image::artfid::ScoreOptions;
use toolkit::metrics::image::embedded::Embedded;
use toolkit::metrics::image::features::FeatureNet;
use toolkit::metrics::image::networks::Network;
use toolkit::metrics::of_pictures;
use toolkit::runtime::{DtypeChoice, Runtime};

use crate::artfid::{
    FEATURES, assert_near, difference, folder, inception_shapes, json, pictures, toolkit, value, write,
};
use crate::gpu;

const RT: Runtime = Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true };

/// A golden value of one of the scripts.
fn golden(subject: &str, name: &str) -> Tensor {
    let file = gpu::root().join("tests/golden").join(subject).join("values.safetensors");
    let all = Tensor::read_safetensors(&file).unwrap();
    all.into_iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no golden value {name}")).1
}

fn number(subject: &str, name: &str) -> f64 {
    golden(subject, name).double_value(&[0])
}

/// pytorch-fid's network by the formula: art-Inception's layers and one classifier.
fn inception_v3(folder: &Path, divisor: usize, classes: i64) -> PathBuf {
    let mut shapes: BTreeMap<String, Vec<i64>> = inception_shapes(divisor);
    let width = 2048 / divisor as i64;
    shapes.extend([("fc.weight".to_string(), vec![classes, width]), ("fc.bias".to_string(), vec![classes])]);
    write(folder, "inception_v3.safetensors", &shapes)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn features_are_those_of_pytorch_fid() {
    let folder = tempfile::tempdir().unwrap();
    let open = |file: &Path| FeatureNet::open(Network::InceptionV3, Some(text(file)), &RT).unwrap();
    let net = open(&inception_v3(folder.path(), 8, 1008));
    for (width, height) in [(64, 40), (224, 224), (299, 299), (400, 310)] {
        let pictures = pictures(&format!("{width}x{height}"), 3, width, height);
        let expected = golden("inception_v3", &format!("features_{width}x{height}"));
        for batch in [1, 3] {
            let off = difference(&net.features(&pictures, batch).unwrap(), &expected);
            assert!(off < FEATURES, "{width}×{height}: {off:e}");
        }
    }
    let net = open(&inception_v3(folder.path(), 1, 1008));
    assert_eq!(net.width(), 2048);
    let off =
        difference(&net.features(&pictures("full", 2, 112, 96), 2).unwrap(), &golden("inception_v3", "features_full"));
    assert!(off < FEATURES, "{off:e}");
}

#[test]
fn fid_in_inception_v3_is_that_of_pytorch_fid() {
    let dir = tempfile::tempdir().unwrap();
    let weights = inception_v3(dir.path(), 8, 1008);
    let (style, stylized) = (folder("style"), folder("stylized"));
    let nets = ["--network", "inception-v3", "--inception", text(&weights)];
    let of = |metric: &str| json(&[&["evaluate", metric, &stylized, &style, "--format", "json"], &nets[..]].concat());
    let fid = of("fid");
    assert_near(fid["fid"].as_f64().unwrap(), number("inception_v3", "fid"), 1e-4);
    assert_eq!((&fid["features"], &fid["network"]), (&256.into(), &"inception-v3".into()));
    for metric in ["kid", "precision", "recall"] {
        let score = of(metric);
        assert_eq!(score["network"], Value::from("inception-v3"), "{score}");
        assert!(score[metric].is_f64(), "{score}");
    }
    // Every form of output names the network.
    for format in ["text", "csv"] {
        let args = [&["evaluate", "kid", &stylized, &style, "--format", format], &nets[..]].concat();
        let output = toolkit(&args).success().get_output().stdout.clone();
        assert!(String::from_utf8(output).unwrap().contains("inception-v3"));
    }
}

#[test]
fn the_wrong_inception_is_called_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let style = folder("style");
    let says = |network: &str, file: &str, code: i32, words: &[&str]| {
        let args = ["evaluate", "fid", &style, &style, "--network", network, "--inception", file];
        let output = toolkit(&args).failure().code(code).get_output().stderr.clone();
        let output = String::from_utf8(output).unwrap();
        let errors: Vec<&str> = output.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && words.iter().all(|word| errors[0].contains(word)), "{output}");
    };
    let art = folder("inception_16.safetensors");
    says("inception-v3", &art, 1, &["art-Inception", "not a", "Inception v3"]);
    let fid = inception_v3(dir.path(), 8, 1008);
    says("art-inception", text(&fid), 1, &["Inception v3", "not a", "art-Inception"]);
    says(
        "inception-v4",
        text(&fid),
        2,
        &["\"inception-v4\"", "did you mean \"inception-v3\"", "art-inception, inception-v3"],
    );
    let torchvision = inception_v3(dir.path(), 8, 1000);
    says("inception-v3", text(&torchvision), 1, &["1000 classes", "torchvision", "1008"]);
}

#[test]
fn precision_and_recall_are_those_of_prdc() {
    let compare = |name: &str| {
        let metric = of_pictures().find(|metric| metric.about().name == name).unwrap();
        metric.of_features().unwrap().compare
    };
    let (precision, recall) = (compare("precision"), compare("recall"));
    let options = ScoreOptions { resamples: 100, ..ScoreOptions::default() };
    let check = |a: &Tensor, b: &Tensor, name: &str| {
        let ours = precision(a, b, &options).unwrap();
        assert_eq!(ours.value.unwrap(), number("inception_v3", &format!("precision_{name}")), "{name}");
        assert!(ours.low <= ours.value && ours.value <= ours.high, "{name}: {ours:?}");
        let ours = recall(a, b, &options).unwrap();
        assert_eq!(ours.value.unwrap(), number("inception_v3", &format!("recall_{name}")), "{name}");
    };
    for name in ["few", "many", "between", "hundred"] {
        let (a, b) = (value(&format!("set_a_{name}")), value(&format!("set_b_{name}")));
        check(&a, &b, name);
        check(&b, &a, &format!("{name}_turned"));
        let every_second = |from: i64| a.slice(0, from, None, 2);
        check(&every_second(1), &every_second(0), &format!("{name}_halves"));
    }
}

fn embeddings(name: &str) -> PathBuf {
    gpu::root().join("tests/golden/embeddings").join(name)
}

fn clip_json() -> Value {
    serde_json::from_slice(&std::fs::read(embeddings("clip_score.json")).unwrap()).unwrap()
}

/// The pictures of the script, of several sizes and shapes.
fn photos() -> Vec<PathBuf> {
    let files = clip_json()["files"].as_array().unwrap().clone();
    files.iter().map(|file| gpu::root().join("tests/golden").join(file.as_str().unwrap())).collect()
}

fn open(network: Network, name: &str) -> FeatureNet {
    FeatureNet::open(network, Some(text(&embeddings(name))), &RT).unwrap()
}

/// Pictures are resized by the same kernel of libtorch; then float32 sums in another order.
const EMBEDDINGS: f64 = 1e-4;

#[track_caller]
fn compare(ours: &Tensor, name: &str) {
    let off = difference(ours, &golden("embeddings", name));
    assert!(off < EMBEDDINGS, "{name}: {off:e}");
}

#[test]
fn pictures_and_texts_are_those_of_transformers() {
    let files = photos();
    let loaded: Vec<image::RgbImage> = files.iter().map(|file| toolkit::images::load(file).unwrap()).collect();
    let texts: Vec<String> = serde_json::from_value(clip_json()["texts"].clone()).unwrap();
    for name in ["clip_a", "clip_b"] {
        let net = open(Network::Clip, name);
        assert_eq!(net.width(), 16);
        compare(&net.describe(&files, None).unwrap(), &format!("{name}_pictures"));
        compare(&net.features(&loaded, 2).unwrap(), &format!("{name}_pictures"));
        compare(&net.texts(&texts).unwrap(), &format!("{name}_texts"));
    }
    for name in ["dinov2_a", "dinov2_b"] {
        let net = open(Network::Dinov2, name);
        compare(&net.describe(&files, Some(2)).unwrap(), &format!("{name}_pictures"));
        assert!(net.texts(&texts).unwrap_err().to_string().contains("pictures only"));
    }
}

/// `wave` of the script, in the same arithmetic.
fn wave(name: &str, shape: &[i64]) -> Tensor {
    let phase = f64::from(name.bytes().map(u32::from).sum::<u32>() % 97);
    let is_norm = shape.len() == 1 && name.ends_with("weight");
    let number = |index: i64| ((index as f64 * 1.7 + phase).sin() * 0.15 + f64::from(u8::from(is_norm))) as f32;
    let numbers: Vec<f32> = (0..shape.iter().product()).map(number).collect();
    Tensor::from_slice(&numbers).view(shape)
}

#[test]
fn styles_are_those_of_csd() {
    let files = photos();
    // The published layout, and a bare state dict of several layers and heads.
    compare(&open(Network::Csd, "csd.pth").describe(&files, None).unwrap(), "csd_small");
    let shapes: BTreeMap<String, Vec<i64>> =
        serde_json::from_slice(&std::fs::read(embeddings("csd_shapes.json")).unwrap()).unwrap();
    let tensors: Vec<(&str, Tensor)> = shapes.iter().map(|(name, shape)| (name.as_str(), wave(name, shape))).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("csd.safetensors");
    Tensor::write_safetensors(&tensors, &file).unwrap();
    let net = FeatureNet::open(Network::Csd, Some(text(&file)), &RT).unwrap();
    assert_eq!(net.width(), 20);
    compare(&net.describe(&files, None).unwrap(), "csd_large");
    // A layer that is not whole is named.
    let damaged: Vec<_> = tensors.iter().filter(|(name, _)| !name.ends_with("resblocks.1.ln_2.bias")).collect();
    let damaged: Vec<(&str, Tensor)> = damaged.iter().map(|(name, x)| (*name, x.shallow_clone())).collect();
    Tensor::write_safetensors(&damaged, &file).unwrap();
    let error = FeatureNet::open(Network::Csd, Some(text(&file)), &RT).err().unwrap();
    assert!(format!("{error:#}").contains("vision_model.encoder.layers.1.layer_norm2.bias is missing"), "{error:#}");
}

/// The features of two golden folders, and the values of single pictures in them.
#[test]
fn values_of_single_pictures_are_those_of_the_definitions() {
    let list = |name: &str| toolkit::images::list(Path::new(&folder(name))).unwrap();
    for (metric, net, beside) in
        [("csd", "csd.pth", "style"), ("dino", "dinov2_a", "content"), ("clip_image", "clip_a", "content")]
    {
        let found = of_pictures().find(|found| found.about().name == metric).unwrap();
        let net = open(found.embedding().unwrap().network, net);
        let describe = |name: &str| net.describe(&list(name), None).unwrap();
        let embedded = Embedded { pictures: describe("stylized"), beside: describe(beside) };
        let ours = found.of_embedded(&embedded).unwrap().unwrap();
        compare(&Tensor::from_slice(&ours), metric);
    }
}

#[test]
fn distances_of_folders_are_those_of_the_definitions() {
    let (style, stylized) = (folder("style"), folder("stylized"));
    for (metric, net) in [("cmmd", "clip_a"), ("fd_dinov2", "dinov2_a")] {
        let net = embeddings(net);
        let score = json(&["evaluate", metric, &stylized, &style, "--model", text(&net), "--format", "json"]);
        let value = score[metric].as_f64().unwrap();
        assert_near(value, number("embeddings", metric), EMBEDDINGS);
        assert!(score[format!("{metric}_low")].as_f64() < Some(value), "{score}");
        assert_eq!((&score["n_a"], &score["network"]), (&10.into(), &text(&net).into()));
    }
}

/// A folder of pictures with the ids of the script, and its captions and references as files.
fn captioned() -> (tempfile::TempDir, Value) {
    let (dir, json) = (tempfile::tempdir().unwrap(), clip_json());
    std::fs::create_dir(dir.path().join("images")).unwrap();
    for file in photos() {
        std::fs::copy(&file, dir.path().join("images").join(file.file_name().unwrap())).unwrap();
    }
    for name in ["captions", "references"] {
        std::fs::write(dir.path().join(format!("{name}.json")), json[name].to_string()).unwrap();
    }
    (dir, json)
}

#[test]
fn clip_scores_are_those_of_the_definition() {
    let (dir, expected) = captioned();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (images, captions, references, model) =
        (at("images"), at("captions.json"), at("references.json"), embeddings("clip_a"));
    let mut args = vec!["evaluate", "clip-score", "--images", &images, "--predictions", &captions];
    args.extend(["--model", text(&model), "--format", "json"]);
    let alone = json(&args);
    assert!(alone.get("ref_clip_score").is_none(), "{alone}");
    args.extend(["--references", &references]);
    let both = json(&args);
    assert_eq!(both["n"], 5);
    for (score, items) in [("clip_score", "per_item"), ("ref_clip_score", "ref_per_item")] {
        let expected = expected[score].as_object().unwrap();
        for (id, value) in expected {
            let (ours, value) = (both[items][id].as_f64().unwrap(), value.as_f64().unwrap());
            assert!((ours - value).abs() <= EMBEDDINGS * value.abs(), "{score} of {id}: {ours} is not {value}");
        }
        let mean = expected.values().filter_map(Value::as_f64).sum::<f64>() / 5.0;
        assert_near(both[score].as_f64().unwrap(), mean, EMBEDDINGS);
    }
    assert_eq!(alone["per_item"], both["per_item"]);
    args.truncate(8);
    let text = String::from_utf8(toolkit(&args).success().get_output().stdout.clone()).unwrap();
    assert!(text.starts_with("clip_score     0.3") && text.contains("5 pictures, in "), "{text}");
}

#[test]
fn clip_score_names_ids_that_lack_and_models_that_are_none() {
    let (dir, _) = captioned();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::remove_file(dir.path().join("images/dark.jpg")).unwrap();
    std::fs::copy(dir.path().join("images/0.png"), dir.path().join("images/more.png")).unwrap();
    let fails = |extra: &[&str], code: i32, words: &[&str]| {
        let (images, captions) = (at("images"), at("captions.json"));
        let args = ["evaluate", "clip-score", "--images", &images, "--predictions", &captions];
        let output = toolkit(&[&args[..], extra].concat()).failure().code(code).get_output().stderr.clone();
        let output = String::from_utf8(output).unwrap();
        let errors: Vec<&str> = output.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && words.iter().all(|word| errors[0].contains(word)), "{output}");
    };
    let clip = embeddings("clip_a");
    fails(&["--model", text(&clip)], 2, &["images lacks 1 id (\"dark\")", "captions.json lacks 1 id (\"more\")"]);
    std::fs::rename(dir.path().join("images/more.png"), dir.path().join("images/dark.png")).unwrap();
    let dino = embeddings("dinov2_a");
    fails(&["--model", text(&dino)], 1, &["DINOv2", "not a", "CLIP"]);
    std::fs::write(dir.path().join("images/0.png"), b"no picture").unwrap();
    fails(&["--model", text(&clip)], 1, &["0.png"]);
}

#[test]
fn models_know_the_networks_of_metrics() {
    for (name, title) in [("clip_a", "CLIP"), ("clip_b", "CLIP"), ("dinov2_b", "DINOv2"), ("csd.pth", "CSD")] {
        let path = embeddings(name);
        let output = toolkit(&["models", "verify", text(&path)]).success().get_output().stdout.clone();
        let output = String::from_utf8(output).unwrap();
        assert!(output.contains(&format!("a metric net {title}")) && output.contains("the model builds"), "{output}");
    }
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "preprocessor_config.json", "vocab.json", "merges.txt", "tokenizer_config.json"] {
        std::fs::copy(embeddings("clip_a").join(file), dir.path().join(file)).unwrap();
    }
    let error = FeatureNet::open(Network::Clip, Some(text(dir.path())), &RT).err().unwrap();
    assert!(format!("{error:#}").contains("no weights here"), "{error:#}");
    let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    for (from, to, word) in
        [("\"patch_size\": 8", "\"patch_size\": 0", "patch"), ("\"image_size\": 32", "\"image_size\": 64", "64")]
    {
        std::fs::write(dir.path().join("config.json"), config.replace(from, to)).unwrap();
        let error = format!("{:#}", FeatureNet::open(Network::Clip, Some(text(dir.path())), &RT).err().unwrap());
        assert!(error.contains(word) && error.contains(text(dir.path())), "{error}");
    }
}
