//! Folders of pictures as people have them, and picture files as enemies make them.
//!
//! Memory is measured on this test program itself, started again on the test `child` alone.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::{Compress, Compression, Crc, FlushCompress};
use image::{Rgb, RgbImage};
use serde_json::Value;
use toolkit::images;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Exit status, stdout and stderr.
fn toolkit(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolkit"));
    command.args(arguments).args(["--device", "cpu"]).current_dir(folder);
    command.env_remove("TOOLKIT_HOME").env("HF_HUB_OFFLINE", "1");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn picture(path: impl AsRef<Path>, red: u8) {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_fn(96, 96, |x, y| Rgb([red, (x * 2) as u8, (y * 2) as u8]))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    fs::write(path, bytes.into_inner()).unwrap();
}

/// What macOS leaves beside a file on a shared disk.
const APPLE_DOUBLE: &[u8] = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ";

#[test]
fn caption_takes_a_folder_in_the_order_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    fs::create_dir_all(photos.join("sub.png")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for name in ["b.png", "B.png", "a-2.png", "a.png"] {
        picture(photos.join(name), 9);
    }
    for name in ["._a.png", ".x.jpg", ".DS_Store"] {
        fs::write(photos.join(name), APPLE_DOUBLE).unwrap();
    }
    for name in ["notes.txt", "old.bmp", "scan.TIF", "scan2.tif", "broken.png"] {
        fs::write(photos.join(name), b"x").unwrap();
    }
    std::os::unix::fs::symlink("gone.png", photos.join("link.png")).unwrap();
    let (status, stdout, stderr) =
        toolkit(&["caption", "--model", "mini-blip", "--format", "json", "photos", "photos/a.png"], dir.path());
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["image"].as_str().unwrap()).collect();
    assert_eq!(names, ["photos/B.png", "photos/a-2.png", "photos/a.png", "photos/b.png", "photos/a.png"]);
    assert_eq!(status, 3, "{stderr}");
    assert_eq!(stderr.matches("photos: 3 pictures of other kinds (1 .bmp, 2 .tif) left out").count(), 1, "{stderr}");
    for broken in ["photos/broken.png: not a JPEG, PNG or WebP picture", "photos/link.png: No such file"] {
        assert_eq!(stderr.matches(broken).count(), 1, "{stderr}");
    }
    assert!(!stderr.contains("/._a.png") && !stderr.contains("/.x.jpg"), "{stderr}");

    let (status, _, stderr) = toolkit(&["caption", "--model", "mini-blip", "empty"], dir.path());
    assert_eq!((status, stderr.as_str()), (2, "error: empty: no pictures here (jpg, jpeg, png, webp)\n"));
    // Pictures are looked at before models are looked for.
    let (status, _, stderr) = toolkit(&["caption", "--model", "no-such-model", "photos/broken.png"], dir.path());
    assert_eq!(status, 1);
    assert!(stderr.contains("the picture could not be described") && !stderr.contains("no-such"), "{stderr}");
}

#[test]
fn evaluate_loses_no_picture_whose_name_is_no_text() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["content", "stylized"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        let names: [&[u8]; 3] = [b"a\xfe.png", b"a\xff.png", b"b.png"];
        for (at, name) in names.into_iter().enumerate() {
            let red = if folder == "content" { 0 } else { 60 * at as u8 };
            picture(dir.path().join(folder).join(std::ffi::OsStr::from_bytes(name)), red);
        }
        fs::write(dir.path().join(folder).join("._a.png"), APPLE_DOUBLE).unwrap();
    }
    let nets = ["--lpips-backbone", "mini-lpips", "--lpips-linear", "mini-lpips", "--format", "json"];
    let evaluate = ["evaluate", "lpips", "--content", "content", "--stylized", "stylized"];
    let (status, stdout, stderr) = toolkit(&[&evaluate[..], &nets].concat(), dir.path());
    assert_eq!(status, 0, "{stderr}");
    let scores: Value = serde_json::from_str(&stdout).unwrap();
    let per_image = scores["per_image"].as_object().unwrap();
    assert_eq!(per_image.keys().collect::<Vec<_>>(), ["a%FE", "a%FF", "b"]);
    assert!(per_image["a%FE"].as_f64() < per_image["a%FF"].as_f64(), "{stdout}");
}

#[test]
fn evaluate_looks_at_pictures_before_it_looks_for_networks() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["a", "b"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        (0..3).for_each(|n| picture(dir.path().join(format!("{folder}/{n}.png")), n));
    }
    let fid = ["evaluate", "fid", "a", "b", "--inception", "no-such-network"];
    assert!(toolkit(&fid, dir.path()).2.contains("no-such-network"));
    RgbImage::new(40, 96).save(dir.path().join("b/3.png")).unwrap();
    let (_, _, stderr) = toolkit(&fid, dir.path());
    assert!(stderr.contains("b/3.png is 40×96, but b/0.png is 96×96"), "{stderr}");
    fs::write(dir.path().join("b/3.png"), b"GIF89a").unwrap();
    fs::write(dir.path().join("b/1.png"), b"").unwrap();
    let (status, _, stderr) = toolkit(&fid, dir.path());
    assert_eq!(status, 1);
    assert!(
        stderr.contains("2 of 4 pictures cannot be read: cannot read picture b/1.png: the file is empty; "),
        "{stderr}"
    );
    assert!(stderr.contains("b/3.png: not a JPEG, PNG or WebP picture") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn checkpoints_that_are_hidden_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let net = dir.path().join("net");
    fs::create_dir(&net).unwrap();
    for file in fs::read_dir(root("experiments/mini/models/mini-art-inception")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), net.join(file.file_name())).unwrap();
    }
    fs::write(net.join("._model.safetensors"), APPLE_DOUBLE).unwrap();
    fs::write(net.join("._model.pth"), APPLE_DOUBLE).unwrap();
    let (status, _, stderr) = toolkit(&["models", "verify", "net"], dir.path());
    assert_eq!(status, 0, "{stderr}");
}

// Hostile files.

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
}

/// A PNG of zeros, of RGB or RGBA. `before` are chunks before the pixels.
fn png(path: &Path, (width, height): (u32, u32), depth: u8, colour: u8, before: &[Vec<u8>]) {
    let channels = if colour == 6 { 4 } else { 3 };
    let row = u64::from(width) * channels * u64::from(depth) / 8 + 1;
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = chunk(b"IHDR", &[&size[..], &[depth, colour, 0, 0, 0]].concat());
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&[b"\x89PNG\r\n\x1a\n", &header[..], &before.concat()].concat()).unwrap();
    file.write_all(&chunk(b"IDAT", &zeros(row * u64::from(height)))).unwrap();
    file.write_all(&chunk(b"IEND", b"")).unwrap();
}

/// A zlib stream of so many zeros: one block of them again and again, so that it is made in no time.
fn zeros(count: u64) -> Vec<u8> {
    const BLOCK: u64 = 1 << 20;
    let block = |length: u64, flush| {
        let mut compressed = Vec::with_capacity(length as usize + 1000);
        Compress::new(Compression::best(), false)
            .compress_vec(&vec![0; length as usize], &mut compressed, flush)
            .unwrap();
        compressed
    };
    let mut stream = vec![0x78, 0xda];
    let whole = block(BLOCK, FlushCompress::Full);
    (0..count / BLOCK).for_each(|_| stream.extend_from_slice(&whole));
    stream.extend(block(count % BLOCK, FlushCompress::Finish));
    // Adler-32 of zeros.
    stream.extend(((((count % 65521) << 16) | 1) as u32).to_be_bytes());
    stream
}

/// Decodes what the parent names and says what it took.
#[test]
#[ignore = "a process of the tests below"]
fn child() {
    let Some(path) = std::env::var_os("PICTURE") else { return };
    match images::load(PathBuf::from(path)) {
        Ok(picture) => assert!(picture.as_raw().iter().all(|value| *value == 0)),
        Err(error) => println!("error: {}", toolkit::runtime::one_line(&error)),
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak: {}", peak.trim().trim_end_matches(" kB"));
}

/// The most memory of a process that decodes this file, in MiB, and the error.
fn peak_of_decoding(path: &Path) -> (u64, Option<String>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(["--exact", "picture_files::child", "--ignored", "--nocapture"])
        .env("PICTURE", path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let value = |name: &str| said.lines().find_map(|line| Some(line.split_once(name)?.1.to_string()));
    let peak = value("peak: ").unwrap_or_else(|| panic!("{}: {output:?}", path.display()));
    (peak.parse::<u64>().unwrap() / 1024, value("error: "))
}

#[test]
fn no_picture_takes_more_memory_than_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    RgbImage::new(64, 64).save(file("small.png")).unwrap();
    let (base, error) = peak_of_decoding(&file("small.png"));
    assert_eq!(error, None);

    // 3 MB that unpack to 3 GB: none of it is needed for the pixels.
    let bomb = zeros(3 << 30);
    assert!(bomb.len() < 4_000_000);
    let iccp = chunk(b"iCCP", &[b"profile\0\0", &bomb[..]].concat());
    let ztxt = chunk(b"zTXt", &[b"Comment\0\0", &bomb[..]].concat());
    let itxt = chunk(b"iTXt", &[b"XML:com.adobe.xmp\0\x01\0\0\0", &bomb[..]].concat());
    for (name, before) in [("iccp.png", iccp), ("ztxt.png", ztxt), ("itxt.png", itxt)] {
        png(&file(name), (64, 64), 8, 2, &[before]);
        let (peak, error) = peak_of_decoding(&file(name));
        println!("{name}: {base} MiB for a small picture, {peak} MiB");
        assert!(error.is_none() && peak < base + 50, "{name}: {base} and {peak} MiB: {error:?}");
    }
    // Read as it is, but not without a limit; the file itself is in memory.
    png(&file("exif.png"), (64, 64), 8, 2, &[chunk(b"eXIf", &vec![7; 300 << 20])]);
    let (peak, error) = peak_of_decoding(&file("exif.png"));
    println!("exif.png: {peak} MiB");
    assert!(error.is_some_and(|line| line.contains("exif.png: damaged PNG: it has more than 16 MiB of metadata")));
    assert!(peak < base + 400, "{base} and {peak} MiB");

    // Just under the pixel limit; the pixels themselves are 512 MiB.
    png(&file("deep.png"), (13376, 13376), 16, 6, &[]);
    let (peak, error) = peak_of_decoding(&file("deep.png"));
    println!("deep.png: {peak} MiB");
    assert!(error.is_none() && peak < base + 550, "{base} and {peak} MiB: {error:?}");
}

/// From marker codes and their segments.
fn jpeg(segments: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    for (code, data) in segments {
        bytes.extend([0xff, *code]);
        bytes.extend((data.len() as u16 + 2).to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

fn webp(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = [b"RIFF", &(data.len() as u32 + 12).to_le_bytes()[..], b"WEBP", name].concat();
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

#[test]
fn what_would_take_too_much_is_refused_by_its_header() {
    let dir = tempfile::tempdir().unwrap();
    // 60000 × 2900: precision, height, width, three components without subsampling.
    let frame = |height: u16| {
        let [h, l] = height.to_be_bytes();
        [8, h, l, 0xea, 0x60, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]
    };
    let scan = |components: u8| vec![components; 6];
    let large = |colours: &[u8]| [colours, &[0; 20]].concat();
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("a.jpg", jpeg(&[(0xc2, &frame(2900)), (0xda, &scan(3))]), "a progressive JPEG of 60000×2900 pixels takes 149"),
        (
            "b.jpg",
            jpeg(&[(0xe1, &[0xff; 900]), (0xc0, &frame(2900)), (0xda, &scan(1))]),
            "a multi-scan JPEG of 60000×2900",
        ),
        (
            "c.webp",
            webp(b"VP8L", &large(&[0x2f, 0xc8, 0x32, 0xb2, 0x0c])),
            "a lossless WebP of 13001×13001 pixels takes",
        ),
        (
            "d.webp",
            webp(b"VP8X", &large(&[2, 0, 0, 0, 0x0f, 0x27, 0, 0x0f, 0x27, 0])),
            "an animated WebP of 10000×10000",
        ),
        (
            "e.webp",
            webp(b"VP8X", &large(&[0x10, 0, 0, 0, 0x0f, 0x27, 0, 0x3f, 0x27, 0])),
            "a transparent WebP of 10000×10048",
        ),
        ("f.png", fs::read(root("tests/golden/images/rgb8.png")).unwrap(), "a 16-bit PNG of 178000000×1 pixels takes"),
        (
            "g.jpg",
            [jpeg(&[(0xc2, &frame(1)), (0xda, &scan(3))]), [0xff, 0xda].repeat(600)].concat(),
            "more than 500 scans",
        ),
    ];
    for (name, mut bytes, expected) in cases {
        let path = dir.path().join(name);
        if name == "f.png" {
            bytes[16..26].copy_from_slice(&[&178_000_000u32.to_be_bytes()[..], &[0, 0, 0, 1, 16, 6]].concat());
        }
        fs::write(&path, &bytes).unwrap();
        let error = toolkit::runtime::one_line(&images::load(&path).unwrap_err());
        assert!(error.contains(path.to_str().unwrap()) && error.contains(expected), "{name}: {error}");
        assert!(!error.contains('\n'));
        if name != "g.jpg" {
            assert!(error.contains("above the limit of 1024 MiB for a picture: make it smaller"), "{error}");
            // A look at the folder says the same.
            assert_eq!(toolkit::runtime::one_line(&images::probe(&path).unwrap_err()), error);
        }
    }
    // The same JPEG in one scan is decoded row by row; this one has no data.
    fs::write(dir.path().join("a.jpg"), jpeg(&[(0xc0, &frame(2900)), (0xda, &scan(3))])).unwrap();
    assert_eq!(images::size(dir.path().join("a.jpg")).unwrap(), (60000, 2900));
    let huge = dir.path().join("huge.png");
    fs::File::create(&huge).unwrap().set_len(600 << 20).unwrap();
    let error = toolkit::runtime::one_line(&images::load(&huge).unwrap_err());
    assert!(error.contains("huge.png: the file has 600 MiB or more, above the limit of 512 MiB"), "{error}");
}

/// The header alone says what decoding says.
#[test]
fn probing_agrees_with_decoding() {
    let mut seen = 0;
    for file in images::list(root("tests/golden/images")).unwrap() {
        let probed = images::probe(&file).unwrap();
        let decoded = images::load(&file).unwrap();
        assert_eq!((probed.width, probed.height), decoded.dimensions(), "{}", file.display());
        seen += 1;
    }
    assert!(seen > 40);
    // From every place that a file may be cut off.
    for name in ["progressive420.jpg", "rgba16.png", "lossy_alpha.webp"] {
        let bytes = fs::read(root("tests/golden/images").join(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        for length in (0..bytes.len()).step_by(5) {
            fs::write(&path, &bytes[..length]).unwrap();
            let line = images::probe(&path).map_err(|error| toolkit::runtime::one_line(&error));
            assert!(line.as_ref().err().is_none_or(|line| line.contains(name) && !line.contains('\n')), "{line:?}");
            assert!(line.is_ok() || images::load(&path).is_err(), "{name}: {length} bytes decode");
        }
    }
}
