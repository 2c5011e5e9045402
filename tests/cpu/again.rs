//! Pictures drawn again from what their files say: `stylize --from`.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use toolkit::images::{self, read_text};

const PHOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/mini/photos/face-027.png");

/// Exit status and stderr.
fn stylize(arguments: &[&str], folder: &Path) -> (i32, String) {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    command.arg("stylize").args(arguments).current_dir(folder).env_remove("TOOLKIT_HOME");
    let output = command.env("HF_HOME", folder.join("nothing")).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn settings(file: &Path) -> Value {
    serde_json::from_str(&read_text(file, "toolkit").unwrap().expect("a text")).unwrap()
}

#[test]
fn from_its_file_alone_a_picture_is_drawn_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text =
        ["--model", "mini-sd3", "--prompt", "a wömän, 漢字 style", "--steps", "2", "--seed", "7", "--out", "a.png"];
    assert_eq!(stylize(&text, dir.path()), (0, String::new()));
    let said = settings(&at("a.png"));
    assert_eq!((&said["prompt"], &said["seed"], &said["steps"]), (&"a wömän, 漢字 style".into(), &7.into(), &2.into()));
    assert_eq!((&said["sampler"], &said["model"]), (&"flow-match-euler".into(), &"mini-sd3".into()));
    assert!(said["guidance_scale"].as_f64() > Some(1.0) && said["strength"].is_null() && said["photo"].is_null());
    let (width, height) = images::size(at("a.png")).unwrap();
    assert_eq!((&said["width"], &said["height"]), (&width.into(), &height.into()));
    let parameters = read_text(&at("a.png"), "parameters").unwrap().unwrap();
    assert!(parameters.starts_with("a wömän, 漢字 style\nSteps: 2, Sampler: "), "{parameters}");
    assert_eq!(stylize(&["--from", "a.png", "--out", "b.png"], dir.path()), (0, String::new()));
    assert_eq!(fs::read(at("a.png")).unwrap(), fs::read(at("b.png")).unwrap(), "byte for byte");

    // From a photo, which may have moved.
    fs::copy(PHOTO, at("me.png")).unwrap();
    let photo = [
        "--model",
        "mini-sd-v1-5",
        "--prompt",
        "ink",
        "--image",
        "me.png",
        "--strength",
        "0.6",
        "--steps",
        "4",
        "--scheduler",
        "ddim",
        "--out",
        "c.png",
    ];
    assert_eq!(stylize(&photo, dir.path()), (0, String::new()));
    let said = settings(&at("c.png"));
    assert_eq!((&said["strength"], &said["sampler"]), (&0.6.into(), &"ddim".into()));
    assert_eq!(said["photo"]["path"], "me.png");
    fs::create_dir(at("other")).unwrap();
    fs::rename(at("me.png"), at("other/moved.png")).unwrap();
    let (status, stderr) = stylize(&["--from", "c.png", "--out", "d.png"], dir.path());
    assert_eq!((status, stderr.lines().count()), (2, 1), "{stderr}");
    assert!(stderr.contains("me.png, which the picture was drawn from, is not here: give it with --image"), "{stderr}");
    let (status, stderr) = stylize(&["--from", "c.png", "--image", "a.png", "--out", "d.png"], dir.path());
    assert!(status == 2 && stderr.contains("a.png is not the file that the picture was drawn from"), "{stderr}");
    assert_eq!(
        stylize(&["--from", "c.png", "--image", "other/moved.png", "--out", "d.png"], dir.path()),
        (0, String::new())
    );
    assert_eq!(fs::read(at("c.png")).unwrap(), fs::read(at("d.png")).unwrap(), "byte for byte");
}

/// With an IP-Adapter and its pictures, which may have moved too.
#[test]
fn a_picture_drawn_after_others_is_drawn_again() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("image_encoder")).unwrap();
    let adapter = golden.join("ip_adapter/models/ip-adapter_like_v1.safetensors");
    fs::copy(&adapter, at("ip.safetensors")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden.join("ip_adapter/models/image_encoder").join(name), at("image_encoder").join(name)).unwrap();
    }
    for (number, name) in ["one.png", "two.png"].into_iter().enumerate() {
        fs::copy(golden.join(format!("ip_adapter/prompt_1_{number}.png")), at(name)).unwrap();
    }
    let model = golden.join("sd15/like_v1").display().to_string();
    let drawing = ["--model", &model, "--prompt", "ink", "--steps", "2", "--ip-adapter", "ip.safetensors"];
    let shown = ["--ip-image", "one.png", "--ip-image", "two.png", "--ip-scale", "0.7", "--out", "a.png"];
    assert_eq!(stylize(&[&drawing[..], &shown].concat(), dir.path()), (0, String::new()));
    let said = settings(&at("a.png"));
    assert_eq!((&said["ip_adapter"]["path"], &said["ip_adapter"]["weight"]), (&"ip.safetensors".into(), &0.7.into()));
    assert_eq!(said["ip_adapter"]["pictures"][1]["path"], "two.png");
    assert_eq!(stylize(&["--from", "a.png", "--out", "b.png"], dir.path()), (0, String::new()));
    assert_eq!(fs::read(at("a.png")).unwrap(), fs::read(at("b.png")).unwrap(), "byte for byte");
    let plain = [&drawing[..6], &["--out", "plain.png"]].concat();
    assert_eq!(stylize(&plain, dir.path()), (0, String::new()));
    assert!(images::load(at("plain.png")).unwrap() != images::load(at("a.png")).unwrap());
    fs::rename(at("two.png"), at("moved.png")).unwrap();
    for (given, expected) in [
        (&[][..], "two.png, which the picture was drawn from, is not here: give it with --ip-image FILE"),
        (&["--ip-image", "one.png"], "1 times --ip-image, and the picture was drawn after 2"),
        (
            &["--ip-image", "moved.png", "--ip-image", "one.png"],
            "moved.png is not the file that the picture was drawn from",
        ),
    ] {
        let given = if given.is_empty() { vec![] } else { [&["--ip-adapter", "ip.safetensors"], given].concat() };
        let (status, stderr) = stylize(&[&["--from", "a.png", "--out", "c.png"], &given[..]].concat(), dir.path());
        assert_eq!((status, stderr.lines().count()), (2, 1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    let moved = ["--ip-adapter", "ip.safetensors", "--ip-image", "one.png", "--ip-image", "moved.png"];
    assert_eq!(stylize(&[&["--from", "a.png", "--out", "c.png"], &moved[..]].concat(), dir.path()), (0, String::new()));
    assert_eq!(fs::read(at("a.png")).unwrap(), fs::read(at("c.png")).unwrap(), "byte for byte");
    // As a hub's file in the cache, with its encoder, it is the same.
    let snapshot = at("nothing/hub/models--o--n/snapshots").join("0".repeat(40));
    fs::create_dir_all(snapshot.join("models")).unwrap();
    fs::create_dir_all(at("nothing/hub/models--o--n/refs")).unwrap();
    fs::write(at("nothing/hub/models--o--n/refs/main"), "0".repeat(40)).unwrap();
    fs::rename(at("image_encoder"), snapshot.join("models/image_encoder")).unwrap();
    fs::rename(at("ip.safetensors"), snapshot.join("models/ip.safetensors")).unwrap();
    let hub = ["--ip-adapter", "o/n/models/ip.safetensors", "--ip-image", "one.png", "--ip-image", "moved.png"];
    let drawing = [&drawing[..6], &hub, &["--ip-scale", "0.7", "--out", "hub.png"]].concat();
    assert_eq!(stylize(&drawing, dir.path()), (0, String::new()));
    assert_eq!(settings(&at("hub.png"))["ip_adapter"]["path"], "o/n/models/ip.safetensors");
    assert!(images::load(at("hub.png")).unwrap() == images::load(at("a.png")).unwrap());
    assert_eq!(stylize(&["--from", "hub.png", "--out", "again.png"], dir.path()), (0, String::new()));
    assert_eq!(fs::read(at("hub.png")).unwrap(), fs::read(at("again.png")).unwrap(), "byte for byte");
    fs::rename(snapshot.join("models/ip.safetensors"), at("ip.safetensors")).unwrap();
    let (status, stderr) = stylize(&[&["--from", "plain.png", "--out", "c.png"], &moved[..]].concat(), dir.path());
    assert!(status == 2 && stderr.contains("plain.png was drawn without an IP-Adapter"), "{stderr}");
}

/// A photo of another shape is brought to that of the picture, and again so from what the file says.
#[test]
fn a_fitted_photo_is_drawn_from_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let photo = images::load(PHOTO).unwrap();
    let wide = image::RgbImage::from_fn(150, 96, |x, y| *photo.get_pixel(x * 96 / 150, y));
    images::save(&wide, at("wide.png")).unwrap();
    let model =
        ["--model", "mini-sd-v1-5", "--prompt", "ink", "--strength", "0.6", "--steps", "2", "--image", "wide.png"];
    let out = |more: &[&'static str]| stylize(&[&model[..], more].concat(), dir.path());
    assert_eq!(out(&["--fit", "crop", "--out", "a.png"]), (0, String::new()));
    let said = settings(&at("a.png"));
    assert_eq!((&said["fit"], &said["width"], &said["height"]), (&"crop".into(), &96.into(), &96.into()));
    assert_eq!(stylize(&["--from", "a.png", "--out", "b.png"], dir.path()), (0, String::new()));
    assert_eq!(fs::read(at("a.png")).unwrap(), fs::read(at("b.png")).unwrap(), "byte for byte");
    // Cut before by hand, it is the same picture.
    let cut = images::Fit::Crop.apply(&wide, (1, 1), (96, 96), images::Filter::Lanczos, None);
    images::save(&cut, at("wide.png")).unwrap();
    assert_eq!(out(&["--out", "c.png"]), (0, String::new()));
    assert_eq!(images::load(at("a.png")).unwrap(), images::load(at("c.png")).unwrap());
    images::save(&wide, at("wide.png")).unwrap();
    let (status, stderr) = out(&["--width", "96", "--height", "96", "--out", "d.png"]);
    assert_eq!((status, stderr.lines().count()), (0, 1), "{stderr}");
    assert!(stderr.contains("wide.png of 150×96 is squashed to 96×96") && stderr.contains("--fit crop"), "{stderr}");
    assert_eq!(settings(&at("d.png"))["fit"], Value::Null);
    let (status, stderr) =
        stylize(&["--model", "mini-sd3", "--prompt", "x", "--fit", "pad", "--out", "e.png"], dir.path());
    assert!(status == 2 && stderr.contains("--fit is about a photo"), "{stderr}");
}

/// What steered and what was merged is found again, where it was or where it is now.
#[test]
fn a_steered_picture_is_drawn_again() {
    let golden = |name: &str| format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::copy(PHOTO, at("me.png")).unwrap();
    fs::copy(golden("controlnet/steering_0_0.png"), at("lines.png")).unwrap();
    fs::copy(golden("controlnet/single.safetensors"), at("net.safetensors")).unwrap();
    fs::copy(golden("lora/sd15_kohya.safetensors"), at("ink.safetensors")).unwrap();
    let model = golden("sd15/like_v1");
    let draw = |more: &[&str], out: &str| {
        let common =
            ["--model", model.as_str(), "--prompt", "a cat", "--steps", "2", "--width", "32", "--height", "32"];
        let steered = ["--controlnet", "net.safetensors", "--control-end", "0.8", "--lora", "ink.safetensors:0.7"];
        stylize(&[&common[..], &steered, more, &["--out", out]].concat(), dir.path())
    };
    let done = (0, String::new());
    assert_eq!(draw(&["--image", "me.png", "--strength", "0.9", "--control-image", "lineart"], "a.png"), done);
    assert_eq!(draw(&["--control-image", "lines.png", "--control-scale", "0.7"], "b.png"), done);
    let (a, b) = (settings(&at("a.png"))["control"].clone(), settings(&at("b.png"))["control"].clone());
    assert_eq!((&a["map"], &a["end"], &a["image"]), (&"lineart".into(), &0.8.into(), &Value::Null));
    assert_eq!((&b["map"], &b["scale"], &b["image"]["path"]), (&Value::Null, &0.7.into(), &"lines.png".into()));
    let same = |one: &str, other: &str| assert_eq!(fs::read(at(one)).unwrap(), fs::read(at(other)).unwrap(), "{one}");
    for (from, out) in [("a.png", "a2.png"), ("b.png", "b2.png")] {
        assert_eq!(stylize(&["--from", from, "--out", out], dir.path()), done);
        same(from, out);
    }
    fs::create_dir(at("other")).unwrap();
    for name in ["me.png", "lines.png", "net.safetensors", "ink.safetensors"] {
        fs::rename(at(name), at("other").join(name)).unwrap();
    }
    let moved = ["--lora", "other/ink.safetensors", "--controlnet", "other/net.safetensors"];
    let again = |from: &str, more: &[&str]| stylize(&[&["--from", from, "--out", "c.png"], more].concat(), dir.path());
    for (more, expected) in [
        (&[][..], "me.png, which the picture was drawn from, is not here: give it with --image FILE"),
        (
            &["--image", "other/me.png"],
            "ink.safetensors, which the picture was drawn from, is not here: give it with --lora FILE",
        ),
        (&["--image", "other/me.png", "--lora", "other/ink.safetensors"], "net.safetensors: no such ControlNet"),
        (
            &["--image", "other/me.png", "--lora", "other/net.safetensors"],
            "was drawn without the LoRA other/net.safetensors",
        ),
    ] {
        let (status, stderr) = again("a.png", more);
        assert_eq!((status, stderr.lines().count()), (2, 1), "{more:?}: {stderr}");
        assert!(stderr.contains(expected), "{more:?}: {stderr}");
    }
    assert_eq!(again("a.png", &[&moved[..], &["--image", "other/me.png"]].concat()), done);
    same("a.png", "c.png");
    let (status, stderr) = again("b.png", &moved);
    assert!(
        status == 2
            && stderr.contains(
                "lines.png, which the picture was drawn from, is not here: give it with --control-image FILE"
            )
    );
    assert_eq!(again("b.png", &[&moved[..], &["--control-image", "other/lines.png"]].concat()), done);
    same("b.png", "c.png");
}

#[test]
fn what_cannot_be_drawn_again_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = |model: &str, width: &str| {
        let text = format!(
            "{{\"prompt\": \"x\", \"seed\": 1, \"steps\": 2, \"sampler\": \"s\", \"guidance_scale\": 3, \"width\": {width}, \
             \"height\": 64, \"model\": \"{model}\"}}"
        );
        vec![("toolkit", text)]
    };
    let picture = image::RgbImage::new(8, 8);
    images::save(&picture, dir.path().join("plain.png")).unwrap();
    images::save(&picture, dir.path().join("plain.jpg")).unwrap();
    for (name, model, width) in [
        ("gone", "sd3-medium", "64"),
        ("folder", "no/where/at/all", "64"),
        ("size", "mini-sd3", "\"64\""),
        ("odd", "mini-sd3", "63"),
    ] {
        images::save_with(&picture, dir.path().join(format!("{name}.png")), &recipe(model, width)).unwrap();
    }
    for (file, status, expected) in [
        ("plain.png", 2, "plain.png does not say what it was drawn from"),
        ("plain.jpg", 2, "plain.jpg: it is no PNG"),
        ("none.png", 2, "none.png: No such file"),
        ("gone.png", 1, "model sd3-medium is not on this machine: `toolkit models pull sd3-medium`"),
        ("folder.png", 2, "no model, folder or file is called \"no/where/at/all\""),
        ("size.png", 2, "is not what this program writes: invalid type: string"),
        ("odd.png", 2, "width 63 cannot be drawn"),
    ] {
        let (code, stderr) = stylize(&["--from", file, "--out", "out.png"], dir.path());
        assert_eq!((code, stderr.lines().count()), (status, 1), "{file}: {stderr}");
        assert!(stderr.contains(expected), "{file}: {stderr}");
    }
    let (status, stderr) = stylize(&["--from", "odd.png", "--prompt", "x", "--out", "out.png"], dir.path());
    assert!(status == 2 && stderr.contains("cannot be used with"), "{stderr}");
    assert!(!dir.path().join("out.png").exists());
}
