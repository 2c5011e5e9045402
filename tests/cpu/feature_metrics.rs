//! Metrics in the features of other networks than art-Inception, against their reference libraries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Tensor};
use toolkit::metrics::image::artfid::Options;
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
    let options = Options { resamples: 100, ..Options::default() };
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
