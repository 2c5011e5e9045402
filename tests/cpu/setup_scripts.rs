//! Runs the tests of the scripts (`toolkit`, `scripts/`, `experiments/speed/`), which are written in their language.

use std::process::Command;

fn unittest(module: &str) {
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", module])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"))
        .output()
        .expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn libtorch_is_provided() {
    unittest("test_libtorch");
}

#[test]
fn the_launcher_builds_when_it_must() {
    unittest("test_launcher");
}

#[test]
fn speeds_are_compared() {
    unittest("test_speed");
}
