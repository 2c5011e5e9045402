//! Measures of photos, against Pillow and NumPy (tests/reference/photo.py), and faces of real people.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::imageops;
use serde::Deserialize;
use toolkit::images::load;
use toolkit::metrics::image::photo::measure;

#[derive(Debug, Deserialize)]
struct Expected {
    luma: f64,
    sharpness: f64,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/photo").join(name)
}

#[test]
fn luma_and_sharpness_are_those_of_numpy() {
    let expected: BTreeMap<String, Expected> =
        serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap();
    assert_eq!(expected.len(), 5);
    for (name, expected) in expected {
        let measured = measure(&load(golden(&name)).unwrap());
        // Whole numbers summed in another order: float64 rounding only.
        assert!((measured.luma - expected.luma).abs() < 1e-9, "{name}: {measured:?}, {expected:?}");
        let sharpness = measured.sharpness.unwrap();
        assert!((sharpness / expected.sharpness - 1.0).abs() < 1e-9, "{name}: {measured:?}, {expected:?}");
    }
}

#[test]
fn darkness_does_not_pass_for_blur() {
    let sharpness = |name: &str| measure(&load(golden(name)).unwrap()).sharpness.unwrap();
    assert!(sharpness("dark.jpg") > 0.05 && sharpness("front.jpg") > 0.05 && sharpness("blurred.jpg") < 0.002);
}

#[test]
fn a_face_is_found_and_its_share_measured() {
    let share = |name: &str| measure(&load(golden(name)).unwrap()).face_share.unwrap();
    let front = share("front.jpg");
    assert!((0.05..0.4).contains(&front), "{front}");
    // The same face on a canvas of 640 x 400, pasted at 180 x 171.
    let far = share("far.png");
    let expected = front * (180.0 * 171.0) / (640.0 * 400.0);
    assert!((0.6 * expected..1.7 * expected).contains(&far), "{far}, expected about {expected}");
    // A man in profile is found as well: a share says nothing of the angle.
    assert!((0.02..0.2).contains(&share("side.jpg")));
    let upside_down = imageops::rotate180(&load(golden("front.jpg")).unwrap());
    assert_eq!(measure(&upside_down).face_share, Some(0.0));
}

#[test]
#[ignore = "prints the measures of the embedded photos"]
fn look() {
    for file in toolkit::images::list("experiments/mini/photos").unwrap() {
        let start = std::time::Instant::now();
        println!("{} {:?} {:?}", file.display(), measure(&load(&file).unwrap()), start.elapsed());
    }
}
