//! Pictures against Pillow (tests/reference/images.py), byte for byte, and bad files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::RgbImage;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use toolkit::images::faces::{FaceSearch, find_face};
use toolkit::images::{self, Filter, Fit};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images")
}

fn error_of<T>(result: anyhow::Result<T>, path: &Path) -> String {
    let line = toolkit::runtime::one_line(&result.err().expect("an error"));
    assert!(line.contains(path.to_str().unwrap()), "names no file: {line}");
    line
}

#[test]
fn every_kind_of_file_gives_pillows_bytes() {
    let bytes = std::fs::read(golden().join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let mut wrong = Vec::new();
    for (name, view) in expected.tensors() {
        let found = images::load(golden().join(&name)).unwrap();
        assert_eq!(view.shape(), [found.height() as usize, found.width() as usize, 3], "{name}");
        let most = found.as_raw().iter().zip(view.data()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        if most > 0 {
            wrong.push(format!("{name}: up to {most}"));
        }
    }
    assert!(expected.len() > 40);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The picture that the reference script makes too.
fn ramp(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c: u32| {
            let sum = x
                .wrapping_mul(7919)
                .wrapping_add(y.wrapping_mul(104729))
                .wrapping_add(c.wrapping_mul(1299709))
                .wrapping_add(x.wrapping_mul(y).wrapping_mul(31));
            (sum >> 3) as u8
        }))
    })
}

#[derive(serde::Deserialize)]
struct Resize {
    from: (u32, u32),
    to: (u32, u32),
    filter: String,
    sha256: String,
}

fn filters() -> BTreeMap<&'static str, Filter> {
    BTreeMap::from([
        ("nearest", Filter::Nearest),
        ("box", Filter::Box),
        ("bilinear", Filter::Bilinear),
        ("bicubic", Filter::Bicubic),
        ("lanczos", Filter::Lanczos),
    ])
}

#[test]
fn resize_gives_pillows_bytes() {
    let rows: Vec<Resize> = serde_json::from_slice(&std::fs::read(golden().join("resize.json")).unwrap()).unwrap();
    let filters = filters();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let resized =
                images::resize(&ramp(row.from.0, row.from.1), row.to.0, row.to.1, filters[row.filter.as_str()]);
            assert_eq!(resized.dimensions(), row.to);
            let digest = format!("{:x}", Sha256::digest(resized.as_raw()));
            (digest != row.sha256).then(|| format!("{:?} to {:?}, {}", row.from, row.to, row.filter))
        })
        .collect();
    assert!(rows.len() > 90);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_truncated_file_is_an_error_where_pillow_says_so() {
    let shortest: BTreeMap<String, usize> =
        serde_json::from_slice(&std::fs::read(golden().join("shortest.json")).unwrap()).unwrap();
    for (name, shortest) in shortest {
        let bytes = std::fs::read(golden().join(&name)).unwrap();
        for length in 0..=bytes.len() {
            let read = images::decode(&bytes[..length]);
            assert_eq!(read.is_ok(), length >= shortest, "{name}: {length} of {} bytes", bytes.len());
        }
    }
    for name in ["rgb8.png", "palette4.png", "lossless.webp", "lossy.webp"] {
        let bytes = std::fs::read(golden().join(name)).unwrap();
        for length in (0..bytes.len() - 16).step_by(7) {
            assert!(images::decode(&bytes[..length]).is_err(), "{name}: {length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn changed_bytes_never_end_in_a_panic() {
    for name in ["jpeg420.jpg", "progressive422.jpg", "cmyk.jpg", "rgba16.png", "palette4.png", "lossy_alpha.webp"] {
        let bytes = std::fs::read(golden().join(name)).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            if let Err(error) = images::decode(&changed) {
                assert!(!toolkit::runtime::one_line(&error).contains('\n'));
            }
        }
    }
}

#[test]
fn bad_files_are_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photo.png");
    let put = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        error_of(images::load(&path), &path)
    };
    assert!(put(b"").contains("empty"));
    assert!(put(b"just some text\n").contains("not a JPEG, PNG or WebP picture"));
    let jpeg = std::fs::read(golden().join("jpeg420.jpg")).unwrap();
    assert!(put(&jpeg[..jpeg.len() / 2]).contains("truncated"));
    assert!(put(&jpeg[..100]).contains("damaged JPEG"));
    // Told by content, not by name.
    std::fs::write(&path, &jpeg).unwrap();
    images::load(&path).unwrap();
    let missing = dir.path().join("nothing.jpg");
    assert!(error_of(images::load(&missing), &missing).contains("No such file"));
}

#[test]
fn decompression_bombs_are_refused_by_their_header() {
    let mut png = std::fs::read(golden().join("rgb8.png")).unwrap();
    png[16..20].copy_from_slice(&50_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&50_000u32.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());

    let mut jpeg = std::fs::read(golden().join("progressive420.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc2]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);

    for bytes in [png, jpeg] {
        let error = toolkit::runtime::one_line(&images::decode(&bytes).unwrap_err());
        assert!(error.contains("more than the limit of 178956970"), "{error}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn lists_are_sorted_and_mixed_cases_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.JPG", "a.png", "c.WebP", "d.jpeg", "notes.txt", "png"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let found = images::list(dir.path()).unwrap();
    let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.png", "b.JPG", "c.WebP", "d.jpeg"]);
    let empty = tempfile::tempdir().unwrap();
    assert!(error_of(images::list(empty.path()), empty.path()).contains("no pictures here"));
    let missing = dir.path().join("nowhere");
    assert!(error_of(images::list(&missing), &missing).contains("No such file"));
}

#[test]
fn loading_many_keeps_their_order_and_each_failure() {
    let names = ["jpeg444.jpg", "nothing.png", "rgb8.png", "gray.jpg", "lossy.webp"];
    let paths: Vec<PathBuf> = names.iter().map(|name| golden().join(name)).collect();
    let single: Vec<Option<RgbImage>> = paths.iter().map(|path| images::load(path).ok()).collect();
    assert_eq!(single.iter().filter(|image| image.is_none()).count(), 1);
    let all: Vec<_> = images::load_all(&paths).into_iter().map(Result::ok).collect();
    assert_eq!(all, single);
    for ahead in [0, 1, 3, 100] {
        let (order, streamed): (Vec<_>, Vec<_>) =
            images::stream(paths.clone(), ahead).map(|(path, image)| (path, image.ok())).unzip();
        assert_eq!(order, paths);
        assert_eq!(streamed, single);
    }
    // From inside the pool too, and left early.
    rayon::scope(|_| assert_eq!(images::stream(paths.clone(), 2).count(), 5));
    drop(images::stream(paths, 4).next());
}

#[test]
fn saved_pictures_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let image = ramp(31, 17);
    for name in ["a.png", "a.webp", "a.PNG"] {
        let path = dir.path().join(name);
        images::save(&image, &path).unwrap();
        assert_eq!(images::load(&path).unwrap(), image);
    }
    let smooth = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 5, y as u8 * 7, 128]));
    let path = dir.path().join("a.jpg");
    images::save(&smooth, &path).unwrap();
    let read = images::load(&path).unwrap();
    let most = smooth.as_raw().iter().zip(read.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(most < 12, "quality 95 changed a smooth picture by {most}");

    let unknown = dir.path().join("a.xyz");
    let error = images::save(&image, &unknown).unwrap_err();
    assert!(error.downcast_ref::<toolkit::error::UsageError>().is_some());
    let nowhere = dir.path().join("no/folder/a.png");
    error_of(images::save(&image, &nowhere), &nowhere);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "nothing half-written is left");
}

#[test]
fn tensors_and_pictures_are_the_same_bytes() {
    let image = ramp(5, 3);
    let tensor = images::to_tensor(&image);
    assert_eq!(tensor.size(), [3, 3, 5]);
    for (x, y, pixel) in image.enumerate_pixels() {
        for c in 0..3 {
            assert_eq!(tensor.int64_value(&[c, y.into(), x.into()]), i64::from(pixel.0[c as usize]));
        }
    }
    assert_eq!(images::from_tensor(&tensor).unwrap(), image);
    let batch = images::batch_tensor(&[image.clone(), image.clone()]).unwrap();
    assert_eq!(batch.size(), [2, 3, 3, 5]);
    assert_eq!(images::from_tensor(&batch.get(1)).unwrap(), image);
    assert!(images::batch_tensor(&[]).is_err());
    assert!(images::batch_tensor(&[image, ramp(4, 3)]).is_err());
    assert!(images::from_tensor(&tensor.to_kind(tch::Kind::Float)).is_err());
    assert!(images::from_tensor(&batch).is_err());
}

#[test]
fn thumbnails_keep_proportions() {
    assert_eq!(images::thumbnail(&ramp(640, 427), 100).dimensions(), (100, 67));
    assert_eq!(images::thumbnail(&ramp(3, 2000), 50).dimensions(), (1, 50));
    assert_eq!(images::thumbnail(&ramp(30, 20), 50), ramp(30, 20));
}

/// A ramp of a size, or a golden file.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Source {
    Ramp(u32, u32),
    File(String),
}

#[derive(serde::Deserialize)]
struct Fitted {
    from: Source,
    to: (u32, u32),
    filter: String,
    fit: Option<Fit>,
    #[serde(rename = "box")]
    window: Option<[f32; 4]>,
    sha256: String,
}

/// ImageOps.fit, ImageOps.pad and resize with a box (tests/reference/fit.py): odd shapes, one pixel wide, rotated by the camera.
#[test]
fn fits_give_pillows_bytes() {
    let rows: Vec<Fitted> = serde_json::from_slice(&std::fs::read(golden().join("fit.json")).unwrap()).unwrap();
    let filters = filters();
    let mut wrong = Vec::new();
    for Fitted { from, to, filter, fit, window, sha256 } in &rows {
        let picture = match from {
            Source::Ramp(width, height) => ramp(*width, *height),
            Source::File(name) => images::load(golden().join(name)).unwrap(),
        };
        let filter = filters[filter.as_str()];
        let made = match (fit, window) {
            (Some(fit), _) => fit.apply(&picture, *to, *to, filter, None),
            (None, Some([left, top, right, bottom])) => {
                let window = images::Window { left: *left, top: *top, right: *right, bottom: *bottom };
                images::resize_window(&picture, &window, to.0, to.1, filter)
            }
            (None, None) => unreachable!(),
        };
        assert_eq!(made.dimensions(), *to);
        if format!("{:x}", Sha256::digest(made.as_raw())) != *sha256 {
            wrong.push(format!("{fit:?} {window:?}: {:?} to {to:?}, {filter:?}", picture.dimensions()));
        }
    }
    let count = |fit| rows.iter().filter(|row| row.fit == Some(fit)).count();
    assert!(count(Fit::Crop) > 200 && count(Fit::Pad) > 150 && rows.len() > 800);
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), rows.len(), &wrong[..wrong.len().min(20)]);
}

/// Any shape of the photo is taken, and where the shapes are one all fits are.
#[test]
fn every_fit_gives_the_size_that_is_asked_for() {
    for (width, height) in [(1, 1), (1, 300), (300, 1), (61, 97), (97, 61), (64, 64)] {
        let photo = ramp(width, height);
        for fit in [Fit::Squash, Fit::Crop, Fit::Pad, Fit::Face] {
            let face = fit.look_for_face(&photo, (32, 32));
            assert_eq!(face.is_some(), fit == Fit::Face && width != height);
            for to in [(32, 32), (1, 1), (50, 3)] {
                assert_eq!(fit.apply(&photo, (32, 32), to, Filter::Bicubic, None).dimensions(), to);
            }
            let view = fit.view(photo.clone(), (32, 32), None).dimensions();
            if fit != Fit::Squash {
                assert_eq!(view.0, view.1, "{fit:?} of {width}×{height}");
            }
        }
    }
}

/// The window of `face` is that of `crop`, moved to the face as far as the photo goes.
#[test]
fn a_face_beside_the_middle_is_seen_whole() {
    let far = images::load(golden().join("../photo/far.png")).unwrap();
    let Some(FaceSearch::Found(face)) = Fit::Face.look_for_face(&far, (1, 1)) else { panic!("a face") };
    let (middle, side) = (face.left + face.width / 2.0, f64::from(far.height()));
    assert!(middle > 330.0 && middle + side / 2.0 < 640.0, "{face:?}");
    let seen = Fit::Face.apply(&far, (1, 1), (400, 400), Filter::Bicubic, Some(&face));
    let left = (middle - side / 2.0) as f32;
    let window = images::Window { left, top: 0.0, right: left + 400.0, bottom: 400.0 };
    assert_eq!(seen, images::resize_window(&far, &window, 400, 400, Filter::Bicubic));
    let view = Fit::Face.view(far.clone(), (1, 1), Some(&face));
    let found = |picture: &RgbImage| find_face(picture).unwrap().face().unwrap();
    for picture in [&seen, &view] {
        let there = found(picture);
        assert!((there.left + there.width / 2.0 - 200.0).abs() < 8.0, "{there:?}");
    }
    // A face at the edge: the window ends there.
    let edge = image::imageops::crop_imm(&far, 0, 0, (face.left + face.width) as u32 + 4, 400).to_image();
    let at_edge = Fit::Face.view(edge.clone(), (1, 1), Some(&found(&edge)));
    assert_eq!(at_edge, image::imageops::crop_imm(&edge, edge.width() - 400, 0, 400, 400).to_image());
    assert_ne!(at_edge, Fit::Crop.view(edge, (1, 1), None));
}
