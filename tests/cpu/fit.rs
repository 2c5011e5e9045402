//! Photos of other shapes than the pictures: the key `fit`, `stylize --fit`, `evaluate --size --fit`.

use crate::artfid::{folder, golden, json, pictures, toolkit};
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

/// Pictures of several sizes in a folder; as squares of 80, in another.
fn several_sizes(dir: &Path, name: &str, fit: Fit) -> [String; 2] {
    let [whole, squares] = [name.to_string(), format!("{name}-squares")].map(|name| dir.join(name));
    [&whole, &squares].iter().for_each(|folder| fs::create_dir(folder).unwrap());
    for (at, (width, height)) in [(90, 120), (131, 88), (80, 80), (100, 76), (77, 99)].into_iter().enumerate() {
        let picture = pictures(&format!("{name}{at}"), 1, width, height).remove(0);
        picture.save(whole.join(format!("{at}.png"))).unwrap();
        let square = fit.apply(&picture, (1, 1), (80, 80), Filter::Bicubic, None);
        square.save(squares.join(format!("{at}.png"))).unwrap();
    }
    [whole, squares].map(|folder| folder.display().to_string())
}

#[test]
fn folders_of_several_sizes_are_compared_as_squares() {
    let dir = tempfile::tempdir().unwrap();
    let [inception, backbone, linear] =
        ["inception_16.safetensors", "alexnet.safetensors", "alex.safetensors"].map(folder);
    let (inception, nets) = (["--inception", &inception], ["--lpips-backbone", &backbone, "--lpips-linear", &linear]);
    let [a, a_squares] = several_sizes(dir.path(), "a", Fit::Crop);
    let [b, b_squares] = several_sizes(dir.path(), "b", Fit::Crop);
    let json_of = |args: &[&str], more: &[&str]| json(&[&["evaluate"], args, more, &["--format", "json"]].concat());
    let as_squares = ["--size", "80", "--fit", "crop"];
    let fid = json_of(&["fid", &a, &b, "--size", "80", "--fit", "crop"], &inception);
    assert_eq!(fid["fid"], json_of(&["fid", &a_squares, &b_squares], &inception)["fid"]);
    assert_eq!((&fid["size"], &fid["fit"]), (&80.into(), &"crop".into()));
    let lpips = json_of(&[&["lpips", "--content", &a, "--stylized", &b], &as_squares[..]].concat(), &nets);
    let expected = json_of(&["lpips", "--content", &a_squares, "--stylized", &b_squares], &nets);
    assert_eq!((&lpips["per_image"], &expected["fit"]), (&expected["per_image"], &Value::Null));
    // Networks that take any size see the squares, too.
    let clip = format!("{}/tests/golden/embeddings/clip_a", env!("CARGO_MANIFEST_DIR"));
    let cmmd = json_of(&["cmmd", &a, &b, "--model", &clip], &as_squares);
    assert_eq!(cmmd["cmmd"], json_of(&["cmmd", &a_squares, &b_squares, "--model", &clip], &[])["cmmd"]);
    assert_ne!(cmmd["cmmd"], json_of(&["cmmd", &a, &b, "--model", &clip], &[])["cmmd"]);

    let says = |args: &[&str], code: i32, words: &[&str]| {
        let output = toolkit(args).code(code).get_output().stderr.clone();
        let output = String::from_utf8(output).unwrap();
        let lines: Vec<&str> = output.lines().filter(|line| line.contains("WARN") || line.contains("error:")).collect();
        assert!(lines.len() == 1 && words.iter().all(|word| lines[0].contains(word)), "{args:?}: {output}");
    };
    let fid = ["evaluate", "fid", &a, &b, inception[0], inception[1]];
    let with = |more: &[&'static str]| [&fid[..], more].concat();
    says(
        &fid,
        1,
        &["1.png is 131×88, but", "0.png is 90×120", "--size 224 brings them to one", "--fit crop, pad or face"],
    );
    says(&with(&["--size", "80"]), 0, &["8 of 10 pictures are not square and are squashed", "--fit crop"]);
    says(&with(&["--size", "80", "--fit", "face"]), 0, &["no face was found in 8 of 10 pictures"]);
    says(&with(&["--size", "70"]), 2, &["--size 70 is too small for this network (at least 75)"]);
    says(&with(&["--fit", "crop"]), 2, &["required"]);
    says(&with(&["--size", "80", "--fit", "corp"]), 2, &["'corp'"]);
    says(&with(&["--size", "0"]), 2, &["'--size <N>'"]);

    // Of a run it is said where its photos are.
    let run = dir.path().join("run");
    for place in ["photos", "images/ink", "drawn/ink"] {
        fs::create_dir_all(run.join(place)).unwrap();
        let side = if place == "drawn/ink" { 100 } else { 80 };
        (0..5).for_each(|at| RgbImage::new(side, side).save(run.join(place).join(format!("{at}.png"))).unwrap());
    }
    fs::write(run.join("items.csv"), "").unwrap();
    let place = |place: &str| run.join(place).display().to_string();
    let lpips = |stylized: &str| {
        [&["evaluate", "lpips", "--content", &a, "--stylized", stylized], &nets[..]].concat().join("\n")
    };
    let photos = format!("; that run keeps its photos at 80×80 in {}", place("photos"));
    says(&lpips(&place("images/ink")).split('\n').collect::<Vec<_>>(), 1, &[&photos]);
    let images = format!("{photos}, these pictures too in {}", place("images/ink"));
    says(&lpips(&place("drawn/ink")).split('\n').collect::<Vec<_>>(), 1, &[&images]);
}

/// What was made of a photo shows the same part of it as the photo itself.
#[test]
fn pairs_are_cut_at_the_face_of_the_photo() {
    let dir = tempfile::tempdir().unwrap();
    let [content, stylized] = ["content", "stylized"].map(|name| dir.path().join(name));
    [&content, &stylized].iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let photo = load(far()).unwrap();
    let half = toolkit::images::resize(&photo, 320, 200, Filter::Bicubic);
    photo.save(content.join("a.png")).unwrap();
    // Nobody finds a face here, its colours being turned.
    let negative = RgbImage::from_fn(320, 200, |x, y| image::Rgb(half.get_pixel(x, y).0.map(|value| 255 - value)));
    negative.save(stylized.join("a.png")).unwrap();
    let [backbone, linear] = ["alexnet.safetensors", "alex.safetensors"].map(folder);
    let lpips = |content: &Path, stylized: &Path, more: &[&str]| {
        let [content, stylized] = [content, stylized].map(|folder| folder.display().to_string());
        let args = ["evaluate", "lpips", "--content", &content, "--stylized", &stylized, "--format", "json"];
        json(&[&args[..], &["--lpips-backbone", &backbone, "--lpips-linear", &linear], more].concat())["lpips"].clone()
    };
    let face = Fit::Face.look_for_face(&photo, (1, 1)).and_then(FaceSearch::face).unwrap();
    let squares = ["c", "s"].map(|name| dir.path().join(name));
    for (square, picture, face) in [(&squares[0], &photo, face), (&squares[1], &negative, face.scaled(0.5))] {
        fs::create_dir(square).unwrap();
        let seen = Fit::Face.apply(picture, (1, 1), (64, 64), Filter::Bicubic, Some(&face));
        seen.save(square.join("a.png")).unwrap();
    }
    let expected = lpips(&squares[0], &squares[1], &[]);
    assert_eq!(lpips(&content, &stylized, &["--size", "64", "--fit", "face"]), expected);
}

#[test]
fn folders_that_are_too_small_or_no_pairs_are_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let [one, three] = [("one", 1), ("three", 3)].map(|(name, count)| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        (0..count).for_each(|at| RgbImage::new(80, 80).save(folder.join(format!("{at}.png"))).unwrap());
        folder.display().to_string()
    });
    let inception = folder("inception_16.safetensors");
    let says = |args: &[&str], words: &str| {
        let output = toolkit(&[&["evaluate"], args].concat()).failure().code(1).get_output().stderr.clone();
        let output = String::from_utf8(output).unwrap();
        assert!(output.lines().count() == 1 && output.contains(words), "{args:?}: {output}");
    };
    for (metric, label) in [("kid", "KID"), ("fid", "FID"), ("cmmd", "CMMD"), ("fd_dinov2", "FD-DINOv2")] {
        for folders in [[&one, &three], [&three, &one]] {
            let words = format!("{one} has 1 picture: {label} needs at least 2 there");
            says(&[metric, folders[0], folders[1], "--inception", &inception], &words);
        }
    }
    let words = format!("{three} has 3 pictures: precision needs at least 4 there");
    says(&["precision", &one, &three, "--inception", &inception], &words);
    says(&["recall", &three, &one, "--inception", &inception], &words.replace("precision", "recall"));
    let pairs = ["--content", three.as_str(), "--stylized", &one];
    let words = format!("every content picture needs its stylized one; {one} lacks \"1\", \"2\"");
    says(&[&["lpips"], &pairs[..]].concat(), &words);
    let words = format!("{one} has 1 picture: ArtFID needs at least 2 there");
    says(&["artfid", "--content", &one, "--stylized", &one, "--style", &three], &words);
}
