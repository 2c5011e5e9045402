//! The second GPU of a machine gives what the first one gives, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::RgbImage;
use tch::Device;
use toolkit::models::{ControlRequest, GenerateRequest, LoraChoice, load_generator};
use toolkit::runtime::{DtypeChoice, Runtime, peak_memory, reset_peak_memory};

use crate::common::{gpu, root, toolkit};

/// Columns of times, which differ from run to run.
const TIMES: [&str; 4] = ["seconds", "seconds_per_image", "describe_seconds", "draw_seconds"];

#[test]
fn an_experiment_is_the_same_on_the_second_gpu() {
    let Some(_) = gpu() else { return };
    if tch::Cuda::device_count() < 2 {
        println!("one GPU here: not compared");
        return;
    }
    for experiment in ["style_ablation", "img2img_ablation", "caption_benchmark"] {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["cuda:0", "cuda:1"].map(|device| {
            let out = folder.path().join(device.replace(':', "-"));
            let out = out.to_str().unwrap();
            let run = toolkit(&["--device", device, "experiment", experiment, "--limit", "6", "--out", out]).success();
            let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
            for bad in ["not captured", "without custom kernels", "not recorded"] {
                assert!(!said.contains(bad), "{experiment} on {device}: {said}");
            }
            contents(Path::new(out))
        });
        assert!(first.contains_key("items.csv") && first.contains_key("results.csv"), "{:?}", first.keys());
        assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
        for (name, bytes) in &first {
            assert!(*bytes == second[name], "{experiment}: {name} differs");
        }
    }
}

/// The largest and the mean difference, in grey levels.
fn apart(ours: &RgbImage, theirs: &RgbImage) -> (u8, f64) {
    assert_eq!(ours.dimensions(), theirs.dimensions());
    let pairs = ours.as_raw().iter().zip(theirs.as_raw());
    let all: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    (all.iter().copied().max().unwrap(), all.iter().map(|&value| f64::from(value)).sum::<f64>() / all.len() as f64)
}

/// One picture on two GPUs, with steps that are captured and sizes, guidance, photos, adapters and steering that change,
/// is but for rounding the picture of one, and the same every time.
#[test]
fn the_halves_of_guidance_on_two_gpus_draw_what_one_draws() {
    let Some(device) = gpu() else { return };
    let Device::Cuda(first) = device else { return };
    if tch::Cuda::device_count() < 2 {
        println!("one GPU here: not compared");
        return;
    }
    let second = Device::Cuda(1 - first.min(1));
    let golden = root().join("tests/golden");
    let photo = RgbImage::from_fn(80, 64, |x, y| image::Rgb([x as u8 * 2, y as u8 * 3, 90]));
    for (pipeline, lora) in [("sd15/like_v1", "sd15_kohya.safetensors"), ("sd3/with_t5", "sd3_kohya.safetensors")] {
        let path = golden.join(pipeline).display().to_string();
        let lora = LoraChoice { file: golden.join("lora").join(lora), weight: 0.7 };
        let plain = GenerateRequest {
            prompts: vec!["a red bird".to_string(), "a house".to_string()],
            seeds: vec![1, 7],
            steps: Some(4),
            width: Some(80),
            height: Some(64),
            guidance_scale: Some(4.0),
            ..GenerateRequest::default()
        };
        let one_picture = GenerateRequest { prompts: vec!["a cat".to_string()], seeds: vec![3], ..plain.clone() };
        let mut requests = vec![
            plain.clone(),
            one_picture.clone(),
            GenerateRequest { guidance_scale: Some(1.0), ..plain.clone() },
            GenerateRequest { width: Some(64), guidance_scale: Some(7.0), ..plain.clone() },
            GenerateRequest { images: vec![photo.clone(); 2], strength: Some(0.7), ..plain.clone() },
            GenerateRequest { loras: vec![lora], ..plain.clone() },
            plain.clone(),
        ];
        if pipeline.starts_with("sd15") {
            let control = ControlRequest {
                model: golden.join("controlnet/like_v1").display().to_string(),
                images: vec![photo.clone()],
                ..ControlRequest::default()
            };
            requests.push(GenerateRequest { control: Some(control), ..one_picture });
        }
        for (dtype, most, mean) in [(DtypeChoice::Float32, 3, 0.15), (DtypeChoice::Auto, 255, 4.0)] {
            let rt = Runtime { device, dtype, offline: true };
            let one = load_generator(&path, &rt).unwrap();
            let mut two = load_generator(&path, &rt).unwrap();
            reset_peak_memory(second);
            two.share_guidance(second).unwrap();
            let after_loading = peak_memory(second).unwrap();
            for (number, request) in requests.iter().enumerate() {
                let (expected, ours) = (one.generate(request).unwrap(), two.generate(request).unwrap());
                for (expected, ours) in expected.iter().zip(&ours) {
                    let (largest, average) = apart(&expected.image, &ours.image);
                    println!("{pipeline} {dtype:?} {number}: {largest}, {average:.3} on average");
                    assert!(largest <= most && average <= mean, "{pipeline} {dtype:?} {number}: {largest} {average}");
                }
                let again = two.generate(request).unwrap();
                assert!(ours.iter().zip(&again).all(|(a, b)| a.image == b.image), "{number}: the same again");
            }
            assert!(peak_memory(second).unwrap() > after_loading, "the second GPU has computed");
        }
    }
}

/// Tables without times, and pictures, by their path in the run folder.
fn contents(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(run).unwrap().to_string_lossy().into_owned();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("csv") => drop(found.insert(name, without_times(&path))),
                Some("png") if name.starts_with("images") => drop(found.insert(name, fs::read(&path).unwrap())),
                _ => {}
            }
        }
    }
    found
}

fn without_times(table: &Path) -> Vec<u8> {
    let mut reader = csv::Reader::from_path(table).unwrap();
    let header = reader.headers().unwrap().clone();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let kept: Vec<usize> =
        (0..header.len()).filter(|&i| !TIMES.contains(&&header[i]) && !header[i].contains("per_second")).collect();
    for record in std::iter::once(header.clone()).chain(reader.records().map(Result::unwrap)) {
        writer.write_record(kept.iter().map(|&i| &record[i])).unwrap();
    }
    writer.into_inner().unwrap()
}
