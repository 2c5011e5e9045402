//! Photos of other shapes than the pictures: the key `fit`.

use crate::artfid::golden;
use crate::doubles::{Doubles, World, assert_same_runs, merge, run_in};

use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde_json::Value;
use toolkit::error::UsageError;
use toolkit::images::faces::FaceSearch;
use toolkit::images::{Filter, Fit, load, read_text};

const FITS: [Fit; 4] = [Fit::Squash, Fit::Crop, Fit::Pad, Fit::Face];

/// A landscape with a face beside its middle.
fn far() -> PathBuf {
    golden("../photo/far.png")
}

#[test]
fn captioner_generator_and_metrics_see_one_view() {
    for fit in FITS {
        let world = World::new(2);
        fs::copy(far(), world.path("photos/p02.png")).unwrap();
        let doubles = Doubles::new(4);
        let key = format!("fit={}", fit.name());
        let sets = [key.as_str(), "strength=0.5", "style_text={ plain = 'in ink' }"];
        assert_eq!(world.run("run", &sets, &doubles).unwrap().failed.len(), 0);
        for (at, id) in ["p00", "p01", "p02"].into_iter().enumerate() {
            let whole = load(world.path(&format!("photos/{id}.png"))).unwrap();
            let face = fit.look_for_face(&whole, (1, 1)).and_then(FaceSearch::face);
            assert_eq!(face.is_some(), fit == Fit::Face && id == "p02");
            let at_size = |side, filter| fit.apply(&whole, (1, 1), (side, side), filter, face.as_ref());
            let compared = load(world.path(&format!("run/photos/{id}.png"))).unwrap();
            assert!(compared == at_size(80, Filter::Bicubic), "{fit:?}: {id} as it is compared");
            let shown = &doubles.shown.lock().unwrap()[at];
            assert!(*shown == fit.view(whole.clone(), (1, 1), face.as_ref()), "{fit:?}: {id} as it is described");
            // What is squeezed the generator squeezes, as before.
            let start = if fit == Fit::Squash { whole.clone() } else { at_size(100, Filter::Lanczos) };
            assert!(doubles.starts.lock().unwrap()[at] == start, "{fit:?}: {id} as it is drawn from");
            let text = read_text(&world.path(&format!("run/drawn/plain/{id}.png")), "toolkit").unwrap().unwrap();
            let recipe: Value = serde_json::from_str(&text).unwrap();
            let expected = if fit == Fit::Squash { Value::Null } else { fit.name().into() };
            assert_eq!(recipe["fit"], expected);
        }
    }
}

#[test]
fn a_run_goes_on_with_its_own_fit_alone() {
    let world = World::new(3);
    let doubles = || Doubles::new(2);
    world.run("run", &["limit=1", "fit=crop"], &doubles()).unwrap();
    assert!(fs::read_to_string(world.path("run/config.toml")).unwrap().contains("fit = \"crop\""));
    for (sets, here) in [(&["fit=pad"][..], "\"pad\" here"), (&[], "not set here")] {
        let error = world.run("run", sets, &doubles()).unwrap_err();
        assert!(error.is::<UsageError>());
        assert!(error.to_string().contains(&format!("fit is \"crop\" there and {here}")), "{error}");
    }
    world.run("run", &["fit=crop"], &doubles()).unwrap();
    world.run("whole", &["fit=crop"], &doubles()).unwrap();
    assert_same_runs(&world.path("run"), &world.path("whole"));
    // Not said, it is squash, and no run is another for saying so.
    world.run("usual", &["limit=1"], &doubles()).unwrap();
    assert!(!fs::read_to_string(world.path("usual/config.toml")).unwrap().contains("fit"));
    world.run("usual", &["fit=squash"], &doubles()).unwrap();
    world.run("usual", &[], &doubles()).unwrap();
    let shards = ["1/2", "2/2"].map(|shard| {
        let out = world.path(&format!("part-shard-{}", &shard[..1]));
        run_in(&out, &world.config(&["fit=crop", &format!("shard={shard}")]), &doubles()).unwrap();
        out
    });
    merge(&shards, &world.path("merged")).unwrap();
    assert_same_runs(&world.path("merged"), &world.path("whole"));
    let wide = world.run("wide", &["fit=crop", "generator=['painter', 'wide']"], &doubles()).unwrap_err();
    assert!(wide.is::<UsageError>());
    assert!(wide.to_string().contains("painter draws 100×100 and wide 200×100: set width and height"), "{wide}");
}

/// Exit status and stderr of a dry run over a folder of photos.
fn dry_run(photos: &Path, sets: &[&str]) -> (i32, String) {
    let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
    command.args(["experiment", "style_ablation", "--dry-run", "--offline", "--device", "cpu"]);
    command.args(["--set", &format!("photos={}", photos.display())]);
    let output = command.args(sets.iter().flat_map(|set| ["--set", set])).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn photos_that_are_squeezed_are_spoken_of_once() {
    let dir = tempfile::tempdir().unwrap();
    for (name, width, height) in [("a", 30, 20), ("b", 20, 31), ("c", 24, 24)] {
        RgbImage::new(width, height).save(dir.path().join(format!("{name}.png"))).unwrap();
    }
    let (status, stderr) = dry_run(dir.path(), &[]);
    assert_eq!((status, stderr.lines().count()), (0, 1), "{stderr}");
    assert!(stderr.contains("2 of 3 photos are not square and are squashed") && stderr.contains("fit = \"crop\""));
    for fit in FITS {
        assert_eq!(dry_run(dir.path(), &[&format!("fit={}", fit.name())]), (0, String::new()));
    }
    let (status, stderr) = dry_run(dir.path(), &["width=96", "height=64"]);
    assert!(status == 0 && stderr.contains("2 of 3 photos are not of the shape 96×64"), "{stderr}");
    let (status, stderr) = dry_run(dir.path(), &["fit=corp"]);
    assert_eq!((status, stderr.lines().count()), (2, 1), "{stderr}");
    let expected = "fit = \"corp\" is not known, did you mean \"crop\"? (known: squash, crop, pad, face)";
    assert!(stderr.contains(expected), "{stderr}");
    let (status, stderr) = dry_run(dir.path(), &["fit=3"]);
    assert!(status == 2 && stderr.contains("it must be a text (key \"fit\")"), "{stderr}");
    ["a", "b"].iter().for_each(|name| fs::remove_file(dir.path().join(format!("{name}.png"))).unwrap());
    assert_eq!(dry_run(dir.path(), &[]), (0, String::new()));
}
