//! `--memory-limit` on a GPU: pictures stay the same within it, and what does not fit is said in one line.

use std::fs;
use std::path::Path;

use predicates::str::contains;

use crate::common::{gpu, root, toolkit};

#[test]
fn text_encoders_take_turns_and_the_picture_is_the_same() {
    let Some(_) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("experiments/mini/models/mini-sd3");
    let draw = |name: &str, limit: &[&str]| {
        let out = folder.path().join(name);
        let [model, out] = [&model, &out].map(|path: &std::path::PathBuf| path.to_str().unwrap());
        let fixed = ["--device", "cuda", "stylize", "--model", model, "--prompt", "a man", "--seed", "5", "--out", out];
        let run = toolkit(&[limit, &fixed].concat()).success();
        (fs::read(Path::new(out)).unwrap(), String::from_utf8_lossy(&run.get_output().stderr).into_owned())
    };
    let (expected, plentiful) = draw("a.png", &[]);
    let (drawn, short) = draw("b.png", &["--memory-limit", "1"]);
    assert!(!plentiful.contains("take turns"), "{plentiful}");
    assert!(short.contains("take turns"), "{short}");
    assert!(drawn == expected);
}

#[test]
fn more_than_the_limit_is_not_taken() {
    let Some(_) = gpu() else { return };
    let bench = ["bench", "blip-large", "--random-weights", "--batch-size", "64", "--repeat", "1", "--device", "cuda"];
    toolkit(&[&["--memory-limit", "1"], &bench[..]].concat()).code(1).stderr(contains("the GPU's memory is full"));
    toolkit(&[&["--memory-limit", "20"], &bench[..]].concat()).success();
}

#[test]
fn on_the_cpu_it_is_said_that_nothing_is_limited() {
    let bench = ["bench", "artfid", "--random-weights", "--repeat", "1", "--device", "cpu", "--memory-limit", "1"];
    toolkit(&bench).success().stderr(contains("on the CPU it limits nothing"));
}
