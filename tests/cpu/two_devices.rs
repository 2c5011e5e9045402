//! One picture on two devices, a half of guidance each, with the CPU as both: the pictures of the reference, and but for
//! rounding those of one device.

use std::path::Path;

use assert_cmd::Command;
use tch::Device;
use toolkit::images;
use toolkit::models::{Generator, load_generator};

use crate::diffusion::{Golden, apart, cpu};

fn load(golden: &Golden, pipeline: &str) -> Box<dyn Generator> {
    load_generator(golden.path(pipeline).to_str().unwrap(), &cpu()).unwrap()
}

/// From text and from photos, every scheduler of the cases, batches, with and without guidance.
#[test]
fn the_same_seed_gives_the_same_picture() {
    for golden in [Golden("sd15"), Golden("sd3")] {
        golden.check_cases(|pipeline| {
            let mut generator = load(&golden, pipeline);
            generator.share_guidance(Device::Cpu).unwrap();
            generator
        });
    }
}

/// A batch of two rows may be summed in another order than two of one.
#[test]
fn two_devices_draw_what_one_draws() {
    for golden in [Golden("sd15"), Golden("sd3")] {
        for (number, case) in golden.cases().iter().enumerate() {
            let mut generator = load(&golden, &case.pipeline);
            let one = generator.generate(&golden.request(case)).unwrap();
            generator.share_guidance(Device::Cpu).unwrap();
            let two = generator.generate(&golden.request(case)).unwrap();
            assert_eq!(one.len(), two.len());
            for (one, two) in one.iter().zip(&two) {
                let apart = apart(&one.image, &two.image);
                println!("{} {number}: {apart}", golden.0);
                assert!(apart <= 1, "{} {number}: {apart} grey levels", golden.0);
            }
        }
    }
}

/// Exit status and stderr.
fn toolkit(arguments: &[&str], folder: &Path) -> (i32, String) {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn stylize_and_bench_use_two_devices() {
    let dir = tempfile::tempdir().unwrap();
    let draw = |device: &str, guidance: &str, out: &str| {
        let drawing = ["stylize", "--model", "mini-sd3", "--prompt", "a red bird", "--steps", "2"];
        let (status, said) = toolkit(
            &[&drawing[..], &["-v", "--device", device, "--guidance-scale", guidance, "--out", out]].concat(),
            dir.path(),
        );
        assert_eq!(status, 0, "{said}");
        (images::load(dir.path().join(out)).unwrap(), said)
    };
    let (one, said) = draw("cpu", "5", "one.png");
    assert!(!said.contains("guidance"), "{said}");
    let (two, said) = draw("cpu,cpu", "5", "two.png");
    assert!(said.contains("Cpu computes the unwanted half of the guidance"), "{said}");
    assert!(apart(&one, &two) <= 1);
    let (plain, _) = draw("cpu", "1", "plain.png");
    let (alone, said) = draw("cpu,cpu", "1", "alone.png");
    assert!(said.contains("without guidance one device draws"), "{said}");
    assert!(plain == alone && apart(&plain, &one) > 1);
    // A picture of two devices can be drawn again by one, and by two.
    let (status, said) =
        toolkit(&["-v", "--device", "cpu,cpu", "stylize", "--from", "two.png", "--out", "again.png"], dir.path());
    assert!(status == 0 && said.contains("unwanted half"), "{said}");
    assert!(images::load(dir.path().join("again.png")).unwrap() == two);

    let bench = ["--device", "cpu,cpu", "bench", "mini-sd-v1-5", "--steps", "2", "--repeat", "1", "--format", "json"];
    let output = Command::cargo_bin("toolkit").unwrap().args(bench).output().unwrap();
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["device"].as_str().unwrap().matches("cpu").count(), 2, "{figures}");
}

#[test]
fn bench_pictures_says_what_a_core_does() {
    let bench = ["bench", "pictures", "--repeat", "1", "--width", "384", "--height", "256", "--threads", "2"];
    let output = Command::cargo_bin("toolkit").unwrap().args(bench).output().unwrap();
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for work in ["jpeg_decode", "resize", "png_decode", "png_write"] {
        assert!(figures[format!("{work}_seconds")].as_f64() > Some(0.0), "{figures}");
        assert!(figures[format!("{work}_per_second")].as_f64() > Some(0.0), "{figures}");
    }
    assert_eq!(figures["cores"], 2);
    // A PNG holds every value of the noise, a JPEG not: neither is empty, nor as large as the pixels.
    let bytes = |name: &str| figures[name].as_u64().unwrap();
    assert!(bytes("jpeg_bytes") > 500 && bytes("jpeg_bytes") < bytes("png_bytes"));
    assert!(bytes("png_bytes") < 384 * 256 * 3);
}
