//! The second GPU of a machine gives what the first one gives, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::{gpu, toolkit};

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
