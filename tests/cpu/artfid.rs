//! Metric networks and scores against art-fid, lpips and scipy: `tests/reference/artfid.py`.

use crate::gpu;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::metrics::image::artfid::{ArtFidNets, Mode, ScoreOptions, score};
use toolkit::metrics::image::features::FeatureNet;
use toolkit::metrics::image::frechet::{self, Gaussian};
use toolkit::metrics::image::kid::kid;
use toolkit::metrics::image::lpips::{LpipsNet, numbers};
use toolkit::metrics::image::pictures::{Decoding, pairs};
use toolkit::models::metric_nets::inception::MIN_SIZE;

pub(crate) fn golden(name: &str) -> PathBuf {
    gpu::root().join("tests/golden/artfid").join(name)
}

pub(crate) fn value(name: &str) -> Tensor {
    let all = Tensor::read_safetensors(golden("values.safetensors")).unwrap();
    all.into_iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no golden value {name}")).1
}

fn number(name: &str) -> f64 {
    value(name).double_value(&[0])
}

/// Largest difference, relative to the largest value.
pub(crate) fn difference(ours: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(ours.size(), expected.size());
    let worst = (ours - expected).abs().max().double_value(&[]);
    worst / expected.abs().max().double_value(&[])
}

pub(crate) fn assert_near(ours: f64, expected: f64, relative: f64) {
    assert!((ours / expected - 1.0).abs() <= relative, "{ours} is not {expected}");
}

/// `formula` of the script, in the same arithmetic.
fn formula(name: &str, shape: &[i64], low: f64, high: f64) -> Tensor {
    let mut seed = 0xcbf29ce484222325u64;
    for byte in name.bytes() {
        seed = (seed ^ u64::from(byte)).wrapping_mul(0x100000001b3);
    }
    let count: i64 = shape.iter().product();
    let numbers: Vec<f32> = (1..=count as u64)
        .map(|index| {
            let mut z = seed.wrapping_add(index.wrapping_mul(0x9e3779b97f4a7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
            z ^= z >> 31;
            (low + (high - low) * ((z >> 40) as f64 / 16777216.0)) as f32
        })
        .collect();
    Tensor::from_slice(&numbers).view(shape)
}

/// `fill` of the script.
fn weight(name: &str, shape: &[i64]) -> Tensor {
    if shape.len() > 1 {
        let bound = (6.0 / shape[1..].iter().product::<i64>() as f64).sqrt();
        formula(name, shape, -bound, bound)
    } else if name.ends_with("running_var") {
        formula(name, shape, 0.5, 1.5)
    } else if name.ends_with("bn.weight") {
        formula(name, shape, 0.9, 1.4)
    } else {
        formula(name, shape, -0.1, 0.1)
    }
}

pub(crate) fn write(folder: &Path, name: &str, shapes: &BTreeMap<String, Vec<i64>>) -> PathBuf {
    let tensors: Vec<(&str, Tensor)> =
        shapes.iter().map(|(name, shape)| (name.as_str(), weight(name, shape))).collect();
    let file = folder.join(name);
    Tensor::write_safetensors(&tensors, &file).unwrap();
    file
}

pub(crate) fn inception_shapes(divisor: usize) -> BTreeMap<String, Vec<i64>> {
    let text = std::fs::read_to_string(golden("shapes.json")).unwrap();
    let all: BTreeMap<String, BTreeMap<String, Vec<i64>>> = serde_json::from_str(&text).unwrap();
    all[&format!("inception_{divisor}")].clone()
}

/// `formula_pictures` of the script.
pub(crate) fn pictures(name: &str, count: u32, width: u32, height: u32) -> Vec<RgbImage> {
    let shape = [count.into(), height.into(), width.into(), 3];
    let noise = Vec::<f32>::try_from(formula(name, &shape, 0.0, 256.0).view([-1])).unwrap();
    let step = (255.0 / f64::from(width)) as f32;
    let mut noise = noise.into_iter();
    (0..count)
        .map(|i| {
            let share = (i + 1) as f32 / (count + 1) as f32;
            let pixels = (0..height * width * 3)
                .map(|at| {
                    let x = ((at / 3) % width) as f32 * step;
                    (noise.next().unwrap() * share + x * (1.0 - share)).floor() as u8
                })
                .collect();
            RgbImage::from_raw(width, height, pixels).unwrap()
        })
        .collect()
}

/// float32 sums in another order, through up to 40 layers: a few 1e-6 of the largest feature. A
/// padding, a pool or a folded norm that is wrong moves features by percents.
pub(crate) const FEATURES: f64 = 2e-5;

#[test]
fn features_of_narrow_networks_are_those_of_art_fid() {
    let folder = tempfile::tempdir().unwrap();
    let formula_made = write(folder.path(), "inception_8.safetensors", &inception_shapes(8));
    for (divisor, file) in [(16, golden("inception_16.safetensors")), (8, formula_made)] {
        let net = FeatureNet::load(&file, Device::Cpu, Kind::Float).unwrap();
        assert_eq!(net.width(), 2048 / divisor);
        for (width, height) in [(75, 100), (128, 128), (224, 224), (97, 131)] {
            let pictures = pictures(&format!("{width}x{height}"), 3, width, height);
            let expected = value(&format!("features_{divisor}_{width}x{height}"));
            for batch in [1, 2, 8] {
                let off = difference(&net.features(&pictures, batch).unwrap(), &expected);
                assert!(off < FEATURES, "1/{divisor} of the width, {width}×{height}, batch {batch}: {off:e}");
            }
        }
    }
}

#[test]
fn features_of_the_published_widths_are_those_of_art_fid() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "art_inception.safetensors", &inception_shapes(1));
    let net = FeatureNet::load(&file, Device::Cpu, Kind::Float).unwrap();
    let off = difference(&net.features(&pictures("full", 4, 112, 96), 4).unwrap(), &value("features_full"));
    assert!(off < FEATURES, "{off:e}");
}

/// AlexNet's convolutions by the formula.
fn alexnet(folder: &Path) -> PathBuf {
    let convolutions = [
        (0, [64, 3, 11, 11]),
        (3, [192, 64, 5, 5]),
        (6, [384, 192, 3, 3]),
        (8, [256, 384, 3, 3]),
        (10, [256, 256, 3, 3]),
    ];
    let mut shapes = BTreeMap::new();
    for (place, shape) in convolutions {
        shapes.insert(format!("features.{place}.weight"), shape.to_vec());
        shapes.insert(format!("features.{place}.bias"), vec![shape[0]]);
    }
    // Part of torchvision's file, and nothing that LPIPS needs.
    shapes.insert("classifier.6.bias".to_string(), vec![10]);
    write(folder, "alexnet.safetensors", &shapes)
}

#[test]
fn lpips_with_the_published_heads_is_that_of_lpips() {
    let folder = tempfile::tempdir().unwrap();
    let heads = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/lpips/alex.pth");
    let net = LpipsNet::load(&alexnet(folder.path()), &heads, Device::Cpu, Kind::Float).unwrap();
    for (width, height) in [(224, 224), (75, 100), (64, 31)] {
        let [a, b] = ["a", "b"].map(|name| pictures(&format!("{name}{width}x{height}"), 3, width, height));
        let expected = Vec::<f64>::try_from(value(&format!("lpips_full_{width}x{height}"))).unwrap();
        for batch in [1, 2, 3] {
            for (ours, expected) in net.distances(&a, &b, batch).unwrap().into_iter().zip(&expected) {
                assert_near(ours, *expected, 1e-5);
            }
        }
        assert!(net.distances(&a, &a, 3).unwrap().iter().all(|distance| *distance == 0.0));
    }
}

#[test]
fn fid_is_that_of_scipy_for_few_many_and_unequal_counts() {
    for name in ["few", "many", "between", "hundred"] {
        let (a, b) = (value(&format!("set_a_{name}")), value(&format!("set_b_{name}")));
        let (a, b) = (Gaussian::fit(&a).unwrap(), Gaussian::fit(&b).unwrap());
        let expected = number(&format!("fid_{name}"));
        // scipy's root of a singular product is only this exact (it warns); ours has no such step.
        assert_near(frechet::distance(&a, &b).unwrap(), expected, 1e-5);
        assert_near(frechet::distance_with_influence(&a, &b).unwrap().0, expected, 1e-5);
    }
}

#[test]
fn extrapolation_is_that_of_art_fid_for_the_same_samples() {
    let orders = value("extrapolated_orders");
    let sizes = frechet::sample_sizes(20, 60, orders.size()[0] as usize);
    let samples: Vec<(Tensor, Tensor)> = sizes
        .iter()
        .enumerate()
        .map(|(point, &size)| {
            let rows = orders.get(point as i64).narrow(0, 0, size as i64);
            (rows.shallow_clone(), rows)
        })
        .collect();
    let (style, stylized) = (value("extrapolated_style"), value("extrapolated_stylized"));
    let ours = frechet::extrapolated(&style, &stylized, &sizes, &samples).unwrap();
    assert_near(ours, number("extrapolated"), 1e-6);
    // The seeded samples are others, and estimate the same thing.
    let options = |seed| ScoreOptions { min_sample: 20, points: 40, seed, resamples: 0, mode: Mode::ArtFidInf };
    let lpips = vec![0.0; 60];
    let fid = |seed| score(&style, &stylized, &lpips, &options(seed)).unwrap().fid;
    assert_eq!(fid(1), fid(1));
    assert_ne!(fid(1), fid(2));
    let plain = score(&style, &stylized, &lpips, &ScoreOptions { mode: Mode::ArtFid, ..options(1) }).unwrap().fid;
    assert!(fid(1) < plain, "extrapolation takes the upward bias away: {} {plain}", fid(1));
    assert!((fid(1) - ours).abs() < 0.15 * ours, "{} {ours}", fid(1));
}

pub(crate) fn folder(kind: &str) -> String {
    golden(kind).display().to_string()
}

fn nets() -> [String; 6] {
    let [inception, backbone, linear] =
        ["inception_16.safetensors", "alexnet.safetensors", "alex.safetensors"].map(folder);
    ["--inception".into(), inception, "--lpips-backbone".into(), backbone, "--lpips-linear".into(), linear]
}

pub(crate) fn toolkit(args: &[&str]) -> assert_cmd::assert::Assert {
    assert_cmd::Command::cargo_bin("toolkit").unwrap().args(args).args(["--device", "cpu", "--offline"]).assert()
}

pub(crate) fn json(args: &[&str]) -> Value {
    let output = toolkit(args).success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn evaluate_artfid_gives_what_art_fid_gives() {
    let nets = nets();
    let (content, style, stylized) = (folder("content"), folder("style"), folder("stylized"));
    for (mode, batch) in [("art_fid", "1"), ("art_fid_inf", "4"), ("art_fid", "64")] {
        let mut args = vec!["evaluate", "artfid", "--content", &content, "--style", &style, "--stylized", &stylized];
        args.extend(nets.iter().map(String::as_str));
        args.extend(["--format", "json", "--mode", mode, "--batch-size", batch]);
        let scores = json(&args);
        let of = |name: &str| scores[name].as_f64().unwrap();
        assert_near(of("artfid"), number(mode), 1e-4);
        assert_near(of("fid"), number("fid"), 1e-4);
        assert_near(of("lpips"), number("lpips"), 1e-5);
        assert_eq!((scores["n"].as_u64(), scores["mode"].as_str()), (Some(10), Some(mode)));
        for name in ["artfid", "fid", "lpips"] {
            let (low, high) = (of(&format!("{name}_low")), of(&format!("{name}_high")));
            assert!(low < of(name) && of(name) < high, "{name}: {low} {high}");
        }
        assert_eq!(scores["per_image"].as_object().unwrap().len(), 10);
        assert!(scores["per_image"]["p03"]["style_distance"].as_f64().unwrap() > 0.0);
        assert!(scores["warnings"].to_string().contains("10 stylized and 10 style pictures are few"));
    }
}

#[test]
fn evaluate_fid_and_lpips_give_the_halves() {
    let (content, style, stylized) = (folder("content"), folder("style"), folder("stylized"));
    let nets = nets();
    let fid = json(&["evaluate", "fid", &stylized, &style, &nets[0], &nets[1], "--format", "json"]);
    assert_near(fid["fid"].as_f64().unwrap(), number("fid"), 1e-4);
    assert_eq!((&fid["n_a"], &fid["n_b"], &fid["network"]), (&10.into(), &10.into(), &"art-inception".into()));
    let mut args = vec!["evaluate", "lpips", "--content", &content, "--stylized", &stylized, "--format", "json"];
    args.extend(nets[2..].iter().map(String::as_str));
    let lpips = json(&args);
    assert_near(lpips["lpips"].as_f64().unwrap(), number("lpips"), 1e-5);
    let per_image: Vec<f64> = lpips["per_image"].as_object().unwrap().values().filter_map(Value::as_f64).collect();
    assert_near(per_image.iter().sum::<f64>() / 10.0, lpips["lpips"].as_f64().unwrap(), 1e-9);
}

#[test]
fn kid_is_that_of_torchmetrics() {
    let text = std::fs::read_to_string(gpu::root().join("tests/golden/kid/values.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let expected = |name: &str| expected[name].as_f64().unwrap();
    for name in ["few", "many", "between", "hundred"] {
        let (a, b) = (value(&format!("set_a_{name}")), value(&format!("set_b_{name}")));
        let least = a.size()[0].min(b.size()[0]);
        let equal = (a.narrow(0, 0, least), b.narrow(0, 0, least));
        for ((a, b), name) in [((a, b), name.to_string()), (equal, format!("{name}_equal"))] {
            let ours = kid(&a, &b, 100, 0).unwrap();
            // The same sums of float64, in another order.
            assert_near(ours.value.unwrap(), expected(&name), 1e-12);
            assert!(ours.low < ours.value && ours.value < ours.high, "{name}: {ours:?}");
        }
    }
    let (content, style, stylized) = (folder("content"), folder("style"), folder("stylized"));
    let nets = nets();
    let of = |a: &str, b: &str| json(&["evaluate", "kid", a, b, &nets[0], &nets[1], "--format", "json"]);
    let ours = of(&stylized, &style);
    // A small difference of large sums over features that are float32.
    let (score, golden) = (ours["kid"].as_f64().unwrap(), expected("folders"));
    assert!((score - golden).abs() < 1e-5, "{score} is not {golden}");
    assert!(ours["kid_low"].as_f64() < Some(score) && Some(score) < ours["kid_high"].as_f64(), "{ours}");
    assert_eq!((&ours["n_a"], &ours["n_b"], &ours["network"]), (&10.into(), &10.into(), &"art-inception".into()));
    // Two sets that are one: unbiased, it falls below 0 by what each picture has in common with itself.
    assert!(of(&content, &content)["kid"].as_f64().unwrap() < 0.0);
    let text =
        toolkit(&["evaluate", "kid", &content, &style, &nets[0], &nets[1]]).success().get_output().stdout.clone();
    assert!(String::from_utf8(text).unwrap().starts_with("KID    "));
}

#[test]
fn bad_folders_and_weights_are_one_clear_line() {
    let other = tempfile::tempdir().unwrap();
    for name in ["p00.png", "p01.png"] {
        std::fs::copy(golden("content").join(name), other.path().join(name)).unwrap();
    }
    RgbImage::new(90, 90).save(other.path().join("p02.png")).unwrap();
    let other = other.path().display().to_string();
    let (content, style) = (folder("content"), folder("style"));
    let nets = nets();
    let fails = |args: &[&str], words: &[&str]| {
        let output = toolkit(args).failure().code(1).get_output().stderr.clone();
        let text = String::from_utf8(output).unwrap();
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{text}");
        assert!(words.iter().all(|word| errors[0].contains(word)), "{text}");
    };
    let lpips = ["evaluate", "lpips", "--content", &content, "--stylized", &other];
    fails(&[&lpips[..], &[&nets[2], &nets[3], &nets[4], &nets[5]]].concat(), &["10 pictures", "3", &content, &other]);
    fails(&["evaluate", "fid", &other, &style, &nets[0], &nets[1]], &["p02.png is 90×90", "80×88"]);
    fails(&["evaluate", "fid", &content, &style, &nets[0], &nets[3]], &["LPIPS", "not a", "art-Inception"]);
}

#[test]
fn a_missing_an_extra_and_a_misshapen_tensor_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = inception_shapes(8);
    let load = |shapes: &BTreeMap<String, Vec<i64>>| {
        let file = write(folder.path(), "changed.safetensors", shapes);
        let error = FeatureNet::load(&file, Device::Cpu, Kind::Float).err().unwrap();
        format!("{error:#}")
    };
    let key = "Mixed_6c.branch7x7_2.conv.weight".to_string();
    let mut missing = shapes.clone();
    missing.remove(&key);
    assert!(load(&missing).contains(&format!("{key} is missing")), "{}", load(&missing));
    let mut extra = shapes.clone();
    extra.insert("Mixed_8a.conv.weight".to_string(), vec![1]);
    assert!(load(&extra).contains("Mixed_8a.conv.weight"));
    let mut misshapen = shapes.clone();
    misshapen.insert(key.clone(), vec![20, 20, 7, 1]);
    let text = load(&misshapen);
    assert!(text.contains(&key) && text.contains("[20, 20, 7, 1]"), "{text}");
    assert!(Checkpoint::open(&[golden("inception_16.safetensors")]).is_ok());
}

#[test]
fn memory_and_files_give_the_same() {
    let [inception, backbone, linear] =
        ["inception_16.safetensors", "alexnet.safetensors", "alex.safetensors"].map(golden);
    let nets = ArtFidNets::load(&inception, &backbone, &linear, Device::Cpu, Kind::Float).unwrap();
    let pairs = pairs(&golden("content"), &golden("stylized")).unwrap();
    let load = |files: Vec<PathBuf>| -> Vec<RgbImage> {
        toolkit::images::load_all(&files).into_iter().collect::<Result<_, _>>().unwrap()
    };
    let content = load(pairs.iter().map(|pair| pair.content.clone()).collect());
    let stylized = load(pairs.iter().map(|pair| pair.stylized.clone()).collect());
    for for_gpu in [false, true] {
        let batches = Decoding::pairs(&pairs, MIN_SIZE, None, for_gpu).batches(Some(4), Device::Cpu, Kind::Float);
        let (features, lpips) = nets.measure_files(batches).unwrap();
        assert!(difference(&nets.features(&stylized, 3).unwrap(), &features) < FEATURES);
        for (a, b) in nets.lpips(&content, &stylized, 3).unwrap().iter().zip(&numbers(&[lpips]).unwrap()) {
            assert_near(*a, *b, 1e-5);
        }
    }
    let short = nets.lpips(&content[1..], &stylized, 3).unwrap_err().to_string();
    assert!(short.contains("9 content and 10 stylized"), "{short}");
}

/// Batches that do not come out even, so that the last one is filled up.
#[test]
fn a_gpu_measures_what_the_cpu_measures() {
    let Some(device) = gpu::gpu() else { return };
    toolkit::runtime::shim::allow_tf32(false);
    let [inception, backbone, linear] =
        ["inception_16.safetensors", "alexnet.safetensors", "alex.safetensors"].map(golden);
    let pairs = pairs(&golden("content"), &golden("stylized")).unwrap();
    let measured = [Device::Cpu, device].map(|device| {
        let nets = ArtFidNets::load(&inception, &backbone, &linear, device, Kind::Float).unwrap();
        let decoding = Decoding::pairs(&pairs, MIN_SIZE, None, device.is_cuda());
        let (features, lpips) = nets.measure_files(decoding.batches(Some(4), device, Kind::Float)).unwrap();
        (features.to_device(Device::Cpu), numbers(&[lpips]).unwrap())
    });
    let [(expected, distances), (ours, our_distances)] = measured;
    assert!(difference(&ours, &expected) < FEATURES);
    for (ours, expected) in our_distances.into_iter().zip(distances) {
        assert_near(ours, expected, 1e-5);
    }
    for name in ["few", "many", "between", "hundred"] {
        let sets = [Device::Cpu, device].map(|device| {
            let fit = |set: &str| Gaussian::fit(&value(&format!("set_{set}_{name}")).to_device(device)).unwrap();
            frechet::distance_with_influence(&fit("a"), &fit("b")).unwrap()
        });
        let [(expected, influence), (ours, our_influence)] = sets;
        assert_near(ours, expected, 1e-8);
        let largest = influence.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        let apart = influence.iter().zip(&our_influence).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f64::max) < 1e-8 * largest);
    }
}

#[test]
fn evaluate_has_a_command_for_each_metric_between_two_folders() {
    let help = String::from_utf8(toolkit(&["evaluate", "--help"]).success().get_output().stdout.clone()).unwrap();
    let order = ["artfid", "fid", "kid", "precision", "recall", "lpips", "captions"]
        .map(|name| help.find(&format!("\n  {name} ")));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{help}");
    assert!(help.contains("  Fréchet distance between two folders of pictures"), "{help}");
    toolkit(&["evaluate", "kidd", "a", "b"]).code(2).stderr(predicates::str::contains("kid"));
}

#[test]
fn metrics_list_says_what_each_compares_and_needs() {
    let list = json(&["metrics", "list", "--format", "json"]);
    let of = |name: &str| list.as_array().unwrap().iter().find(|metric| metric["name"] == name).unwrap().clone();
    assert_eq!(list.as_array().unwrap().len(), toolkit::metrics::METRICS.len());
    let (artfid, meteor) = (of("artfid"), of("meteor"));
    assert_eq!((&artfid["higher_is_better"], &meteor["higher_is_better"]), (&false.into(), &true.into()));
    assert_eq!(artfid["needs"], serde_json::json!(["art-inception", "lpips-alex"]));
    assert_eq!((&meteor["needs"], &meteor["compares"]), (&serde_json::json!([]), &"captions with references".into()));
    let text = String::from_utf8(toolkit(&["metrics", "list"]).success().get_output().stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), toolkit::metrics::METRICS.len());
    assert!(text.contains("lower  is better") && text.contains("needs art-inception, lpips-alex"), "{text}");
    let csv = toolkit(&["metrics", "list", "--format", "csv"]).success().get_output().stdout.clone();
    assert_eq!(csv::Reader::from_reader(csv.as_slice()).records().count(), toolkit::metrics::METRICS.len());
}

#[test]
fn bench_artfid_prints_its_figures() {
    let figures = json(&["bench", "artfid", "--random-weights", "--batch-size", "1", "--repeat", "1"]);
    for name in ["images_per_second", "fid_seconds", "load_seconds", "peak_memory_bytes"] {
        assert!(figures[name].as_f64().unwrap() > 0.0, "{name}");
    }
    assert_eq!(figures["dtype"], "float32");
    assert!(figures.get("evaluate_seconds").is_none());
}

#[test]
fn bench_artfid_evaluates_folders() {
    let figures =
        json(&["bench", "artfid", "--random-weights", "--batch-size", "2", "--repeat", "1", "--pictures", "3"]);
    assert_eq!(figures["pictures"], 3);
    // Three times three pictures take longer than one batch of two, or on a GPU as long; no two times are equal.
    let networks = 2.0 / figures["images_per_second"].as_f64().unwrap();
    let whole = figures["evaluate_seconds"].as_f64().unwrap();
    assert!(whole > 0.5 * networks, "{whole} {networks}");
}

#[test]
fn what_bench_cannot_do_is_said_at_once() {
    for (arguments, text) in [
        (&["artfid", "--pictures", "1"][..], "--pictures must be at least 2"),
        (&["sd-v1-5", "--pictures", "9"][..], "--pictures is for artfid and captioners"),
        (&["artfid", "--shortest-text", "9"][..], "--shortest-text is for captioners"),
        (&["artfid", "--memory-limit", "0"][..], "--memory-limit must be more than 0 GiB"),
    ] {
        let run = [&["bench", "--random-weights"][..], arguments].concat();
        toolkit(&run).code(2).stderr(predicates::str::contains(text));
    }
}
