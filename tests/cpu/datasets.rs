//! Data sets of every format, written here as their authors write them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use rayon::prelude::*;
use tempfile::TempDir;
use toolkit::datasets::{CaptionSet, DATASETS, Request, open};
use toolkit::error::UsageError;

fn png(red: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(9, 5, Rgb([red, 1, 2])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A folder with these text files and, for each name in `pictures`, a picture whose red is its position.
fn folder(texts: &[(&str, &str)], pictures: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    texts.iter().for_each(|(name, text)| put(name, text.as_bytes()));
    pictures.iter().enumerate().for_each(|(at, name)| put(name, &png(at as u8)));
    dir
}

fn zip(path: &Path, names: &[&str], deflated: bool) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let method = if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (at, name) in names.iter().enumerate() {
        zip.start_file(*name, options).unwrap();
        zip.write_all(&png(at as u8)).unwrap();
    }
    zip.finish().unwrap();
}

fn at(path: impl Into<PathBuf>) -> Request {
    Request { path: path.into(), ..Request::default() }
}

fn split(path: impl Into<PathBuf>, split: &str) -> Request {
    Request { split: Some(split.to_string()), ..at(path) }
}

fn error(request: &Request) -> String {
    format!("{:#}", open(request).unwrap_err())
}

fn ids(set: &CaptionSet) -> Vec<&str> {
    set.items.iter().map(|item| item.id.as_str()).collect()
}

/// The red of each picture: which picture it is.
fn reds(set: &CaptionSet) -> Vec<u8> {
    set.items.par_iter().map(|item| item.picture.load().unwrap().get_pixel(0, 0).0[0]).collect()
}

const COCO_CSV: &str = "filename,cocoid,raw,split\n\
    COCO_val2014_000000000042.jpg,42,\"['A dog.', \"\"a dog's 'home'\"\", 'caf\\xe9']\",test\n\
    COCO_val2014_000000000007.jpg,7,\"[\"\"One\\nline. \"\", \"\"two\"\"]\",test\n";

const FLICKR_CSV: &str = "raw,sentids,split,filename,img_id\n\
    \"[\"\"A man.\"\", \"\"A man.\"\"]\",\"[0, 1]\",train,100.jpg,0\n\
    \"[\"\"Ein Mädchen.\n\"\"]\",[2],test,200.jpg,1\n\
    \"[\"\"c\"\"]\",[3],val,300.jpg,2\n";

#[test]
fn nlphuji_folders_are_read_out_of_their_archives() {
    for deflated in [false, true] {
        let dir = folder(&[("test_5k_mscoco_2014.csv", COCO_CSV)], &[]);
        let inside = ["COCO_val2014_000000000007.jpg", "COCO_val2014_000000000042.jpg", "../../evil.jpg"];
        let names: Vec<String> = inside.iter().map(|name| format!("images_mscoco_2014_5k_test/{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        zip(&dir.path().join("images_mscoco_2014_5k_test.zip"), &names, deflated);
        let set = open(&at(dir.path())).unwrap();
        assert_eq!((set.format, set.split.as_str(), ids(&set)), ("nlphuji-coco", "test", vec!["42", "7"]));
        assert_eq!(set.items[0].references, ["A dog.", "a dog's 'home'", "café"]);
        assert_eq!(set.items[1].references, ["One line.", "two"], "line breaks and outer spaces mean nothing");
        assert_eq!(reds(&set), [1, 0], "the pictures of these names, not of this order");
        assert!(set.remarks().is_empty());
    }
}

#[test]
fn many_threads_read_one_archive() {
    let dir = folder(&[], &[]);
    let names: Vec<String> = (0..60).map(|k| format!("flickr30k-images/{k}.jpg")).collect();
    let rows: String = (0..60).rev().map(|k| format!("['{k}'],test,{k}.jpg\n")).collect();
    fs::write(dir.path().join("flickr_annotations_30k.csv"), format!("raw,split,filename\n{rows}")).unwrap();
    zip(&dir.path().join("flickr30k-images.zip"), &names.iter().map(String::as_str).collect::<Vec<_>>(), true);
    let set = open(&at(dir.path())).unwrap();
    for _ in 0..5 {
        assert_eq!(reds(&set), (0..60).rev().collect::<Vec<u8>>());
    }
}

#[test]
fn splits_are_named_and_the_test_split_is_the_default() {
    let dir = folder(
        &[("flickr_annotations_30k.csv", FLICKR_CSV)],
        &["flickr30k-images/100.jpg", "flickr30k-images/200.jpg", "flickr30k-images/300.jpg"],
    );
    let set = open(&at(dir.path())).unwrap();
    assert_eq!((set.split.as_str(), ids(&set)), ("test", vec!["200"]));
    assert_eq!(set.items[0].references, ["Ein Mädchen."]);
    let train = open(&split(dir.path(), "train")).unwrap();
    assert_eq!(train.items[0].references, ["A man.", "A man."], "what two people wrote alike stays twice");
    assert_eq!(ids(&open(&split(dir.path(), "all")).unwrap()), ["100", "200", "300"]);
    let error = error(&split(dir.path(), "dev"));
    assert!(error.contains("no split \"dev\" (there are: test (1), train (1), val (1), all)"), "{error}");
}

#[test]
fn a_missing_or_wrong_archive_is_one_line() {
    let dir = folder(&[("test_5k_mscoco_2014.csv", COCO_CSV)], &[]);
    let archive = dir.path().join("images_mscoco_2014_5k_test.zip");
    let said = error(&at(dir.path()));
    assert!(said.contains("images_mscoco_2014_5k_test.zip is missing") && !said.contains('\n'), "{said}");
    zip(&archive, &["other/COCO_val2014_000000000007.jpg"], false);
    let said = error(&at(dir.path()));
    assert!(said.contains("no files in a folder images_mscoco_2014_5k_test (it has other)"), "{said}");
    let whole = fs::read(&archive).unwrap();
    fs::write(&archive, &whole[..whole.len() - 30]).unwrap();
    let said = error(&at(dir.path()));
    assert!(said.contains("test.zip is no whole zip archive: download it again"), "{said}");
}

/// Names in an archive and in annotations are never paths: nothing outside is read or written.
#[test]
fn names_that_lead_elsewhere_find_nothing() {
    let csv = "filename,raw\n../../secret.png,['x']\n/etc/hostname,['y']\nsub/../secret.png,['z']\na.png,['a']\n";
    let dir = folder(&[("set/flickr_annotations_30k.csv", csv)], &["secret.png"]);
    let set = dir.path().join("set");
    let names = ["flickr30k-images/../../secret.png", "../secret.png", "/etc/hostname", "flickr30k-images/a.png"];
    zip(&set.join("flickr30k-images.zip"), &names, true);
    let before: Vec<_> = fs::read_dir(&set).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let found = open(&at(&set)).unwrap();
    assert_eq!((ids(&found), reds(&found), found.missing.len()), (vec!["a"], vec![3], 3));
    let after: Vec<_> = fs::read_dir(&set).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((before, fs::read_dir(dir.path()).unwrap().count()), (after, 2), "nothing is unpacked");
    // The same from folders: the file is really there, and still is none of the data set's.
    fs::remove_file(set.join("flickr30k-images.zip")).unwrap();
    fs::create_dir_all(set.join("flickr30k-images/sub")).unwrap();
    fs::write(set.join("flickr30k-images/a.png"), png(9)).unwrap();
    let found = open(&at(&set)).unwrap();
    assert_eq!((ids(&found), found.missing.len()), (vec!["a"], 3));
}

#[test]
fn files_of_one_name_in_an_archive_are_told_apart() {
    let text = "image,caption\ntrain/1.png,one\nval/1.png,two\n1.png,which\n2.png,three\n";
    let dir = folder(&[("captions.csv", text)], &[]);
    let archive = dir.path().join("all.zip");
    zip(&archive, &["train/1.png", "val/1.png", "val/2.png"], false);
    let set = open(&Request { images: Some(archive), ..at(dir.path()) }).unwrap();
    assert_eq!((ids(&set), reds(&set)), (vec!["train/1", "val/1", "2"], vec![0, 1, 2]));
    assert_eq!(set.missing, ["1.png"], "no guess between two");
}

#[test]
fn an_archive_cut_off_in_the_middle_is_one_line() {
    let dir = folder(&[("test_5k_mscoco_2014.csv", COCO_CSV)], &[]);
    let archive = dir.path().join("images_mscoco_2014_5k_test.zip");
    zip(&archive, &["images_mscoco_2014_5k_test/COCO_val2014_000000000007.jpg"], false);
    let whole = fs::read(&archive).unwrap();
    for length in [0, 1, 40, whole.len() / 2, whole.len() - 1] {
        fs::write(&archive, &whole[..length]).unwrap();
        let said = error(&at(dir.path()));
        assert!(said.contains("test.zip") && !said.contains('\n'), "{length} bytes: {said}");
    }
}

#[test]
fn a_damaged_picture_in_an_archive_fails_alone() {
    let dir = folder(&[("test_5k_mscoco_2014.csv", COCO_CSV)], &[]);
    let archive = dir.path().join("images_mscoco_2014_5k_test.zip");
    let names = [
        "images_mscoco_2014_5k_test/COCO_val2014_000000000007.jpg",
        "images_mscoco_2014_5k_test/COCO_val2014_000000000042.jpg",
    ];
    zip(&archive, &names, false);
    let mut bytes = fs::read(&archive).unwrap();
    let first = bytes.windows(4).position(|four| four == b"IDAT").unwrap();
    bytes[first + 6] ^= 0xff;
    fs::write(&archive, bytes).unwrap();
    let set = open(&at(dir.path())).unwrap();
    let error = format!("{:#}", set.items[1].picture.load().unwrap_err());
    assert!(error.contains("COCO_val2014_000000000007.jpg in ") && error.contains(".zip"), "{error}");
    assert!(set.items[0].picture.load().is_ok());
}

#[test]
fn karpathy_splits_of_both_data_sets() {
    let coco = r#"{"images": [
        {"filepath": "val2014", "sentids": [1], "filename": "COCO_val2014_5.jpg", "imgid": 0, "split": "test",
         "sentences": [{"tokens": ["a"], "raw": "A\n", "imgid": 0, "sentid": 1}, {"raw": "B"}], "cocoid": 5},
        {"filepath": "train2014", "filename": "COCO_train2014_6.jpg", "split": "restval",
         "sentences": [{"raw": "C"}], "cocoid": 6}], "dataset": "coco"}"#;
    let dir = folder(&[("dataset_coco.json", coco)], &["val2014/COCO_val2014_5.jpg", "train2014/COCO_train2014_6.jpg"]);
    let set = open(&at(dir.path())).unwrap();
    assert_eq!((set.format, ids(&set)), ("karpathy", vec!["5"]));
    assert_eq!((&set.items[0].references[..], reds(&set)), (&["A".to_string(), "B".to_string()][..], vec![0]));
    assert_eq!(reds(&open(&split(dir.path(), "restval")).unwrap()), [1]);

    let flickr = r#"{"images": [{"filename": "100.jpg", "split": "test", "sentences": [{"raw": "A"}]}]}"#;
    let dir = folder(&[("dataset_flickr30k.json", flickr)], &["flickr30k_images/100.jpg"]);
    assert_eq!(ids(&open(&at(dir.path().join("dataset_flickr30k.json"))).unwrap()), ["100"]);
}

const COCO_JSON: &str = r#"{"info": {}, "licenses": [], "images": [
  {"id": 9, "file_name": "COCO_val2014_000000000009.jpg", "height": 5, "width": 9, "license": 1},
  {"id": 3, "file_name": "COCO_val2014_000000000003.jpg"}, {"id": 4, "file_name": "COCO_val2014_000000000004.jpg"},
  {"id": 8, "file_name": "../secret.png"}],
 "annotations": [{"id": 1, "image_id": 3, "caption": "A cat\non a mat. "}, {"id": 2, "image_id": 9, "caption": "猫"},
  {"id": 3, "image_id": 3, "caption": "  "}, {"id": 4, "image_id": 8, "caption": "out"}]}"#;

#[test]
fn coco_captions_lie_beside_their_pictures() {
    let dir = folder(
        &[("coco/annotations/captions_val2014.json", COCO_JSON)],
        &["coco/val2014/COCO_val2014_000000000003.jpg", "secret.png"],
    );
    let set = open(&at(dir.path().join("coco"))).unwrap();
    assert_eq!((set.format, set.split.as_str(), ids(&set)), ("coco-captions", "val2014", vec!["3"]));
    assert_eq!(set.items[0].references, ["A cat on a mat."]);
    assert_eq!(set.missing, ["COCO_val2014_000000000009.jpg", "../secret.png"], "names that lead out find nothing");
    assert_eq!(set.without_references, ["4"]);
    let remarks = set.remarks();
    assert!(
        remarks[0].contains("2 of 4 pictures are missing (COCO_val2014_000000000009.jpg, ../secret.png)"),
        "{remarks:?}"
    );
    assert!(remarks[1].contains("1 of 4 pictures have no reference caption"), "{remarks:?}");

    let elsewhere = folder(&[], &["COCO_val2014_000000000009.jpg"]);
    let images = Some(elsewhere.path().to_path_buf());
    let set = open(&Request { images, ..at(dir.path().join("coco")) }).unwrap();
    assert_eq!((ids(&set), set.items[0].references[0].as_str()), (vec!["9"], "猫"));

    let archive = elsewhere.path().join("val.zip");
    zip(&archive, &["val2014/COCO_val2014_000000000009.jpg"], false);
    assert_eq!(ids(&open(&Request { images: Some(archive), ..at(dir.path().join("coco")) }).unwrap()), ["9"]);
}

#[test]
fn when_every_picture_is_missing_it_is_an_error() {
    let dir = folder(&[("captions_val2014.json", COCO_JSON)], &[]);
    let said = error(&at(dir.path()));
    assert!(said.contains("none of its 4 pictures is there") && said.contains("name the folder"), "{said}");
}

#[test]
fn flickr_token_files() {
    let text = "100.jpg#0\tTwo men , one tall .\n100.jpg#1\tMänner .\n200.jpg#0\tA dog .\n\n";
    let dir = folder(&[("results_20130124.token", text)], &["flickr30k-images/100.jpg", "flickr30k-images/200.jpg"]);
    let set = open(&at(dir.path())).unwrap();
    assert_eq!((set.format, set.split.as_str(), ids(&set)), ("flickr-token", "all", vec!["100", "200"]));
    assert_eq!(set.items[0].references, ["Two men , one tall .", "Männer ."]);
    let said = error(&split(dir.path(), "test"));
    assert!(said.contains("has no splits"), "{said}");
    for (line, expected) in [
        ("100.jpg#0 no tab", "results_20130124.token, line 2: no tab"),
        ("100.jpg\tx", "line 2: \"100.jpg\" is not NAME.jpg#K"),
        ("1.jpg#0\tx", "line 2: 1.jpg#0 is there twice"),
    ] {
        let dir = folder(&[("results_20130124.token", &format!("1.jpg#0\tA\n{line}\n"))], &["1.jpg"]);
        let said = error(&at(dir.path()));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_csv_of_ones_own() {
    let text = "\u{feff}caption,image,split\n\"A dog,\nbarking\",a.png,test\nA dog,a.png,test\nUne fenêtre,sub/b.png,test\nx,b.png,val\n";
    let dir = folder(&[("captions.csv", text)], &["a.png", "sub/b.png", "b.png"]);
    let set = open(&split(dir.path(), "all")).unwrap();
    assert_eq!((set.format, ids(&set), reds(&set)), ("captions-csv", vec!["a", "sub/b", "b"], vec![0, 1, 2]));
    assert_eq!(set.items[0].references, ["A dog, barking", "A dog"]);
    assert_eq!(ids(&open(&at(dir.path())).unwrap()), ["a", "sub/b"]);
    let dir = folder(&[("captions.csv", "image,caption\na.png,x\na.jpg,y\n")], &["a.png", "a.jpg"]);
    assert_eq!(ids(&open(&at(dir.path())).unwrap()), ["a.png", "a.jpg"], "ids stay apart");
}

#[test]
fn mistakes_name_file_and_line() {
    let cases: [(&str, &[u8], &str); 13] = [
        ("captions.csv", b"image,text\n", "captions.csv, line 1: the columns image and caption are needed, there are: image, text"),
        ("captions.csv", b"image,caption\na.png,x\na.png\n", "captions.csv, line 3: 1 fields where the header has 2"),
        ("captions.csv", b"image,caption\na.png,\"x\ny\"\n,z\n", "captions.csv, line 4: image is empty"),
        ("captions.csv", b"image,caption\na.png,x\na.png,\xe9\n", "captions.csv, line 3: not UTF-8"),
        ("captions.csv", b"\xff\xfei\0m\0a\0g\0e\0\n\0", "captions.csv, line 1: not UTF-8"),
        ("dataset_coco.json", b"\xfe\xff\0{\0}", "dataset_coco.json, line 1: not UTF-8"),
        ("captions.csv", b"image,caption,split\na.png,x,test\na.png,y,val\n", "captions.csv, line 3: a.png is in the split \"test\" and in \"val\""),
        ("captions_x.json", b"{\"images\": [],\n \"annotations\": [}\n", "captions_x.json, line 2: "),
        ("captions_x.json", b"{\"images\": [{\"id\": 1, \"file_name\": \"a\"}, {\"id\": 1, \"file_name\": \"b\"}], \"annotations\": []}", "the image id 1 is there twice"),
        ("captions_x.json", b"{\"images\": [], \"annotations\": [{\"image_id\": 2, \"caption\": \"x\"}]}", "a caption is of image 2, which is not under images"),
        ("dataset_coco.json", b"{\"images\": [\n{\"filename\": \"a.png\"}]}", "dataset_coco.json, line 2: missing field `sentences`"),
        ("flickr_annotations_30k.csv", b"raw,filename\n['a'],a.jpg\nabc,b.jpg\n", "flickr_annotations_30k.csv, line 3, column raw: not a list of texts"),
        ("flickr_annotations_30k.csv", b"raw,filename\n['a'],a.jpg\n['b'],a.jpg\n", "the id \"a\" is there twice"),
    ];
    for (name, text, expected) in cases {
        let dir = folder(&[], &["a.png"]);
        fs::write(dir.path().join(name), text).unwrap();
        let said = error(&at(dir.path()));
        assert!(said.contains(expected) && !said.contains('\n'), "{name}: {said}");
    }
}

#[test]
fn pictures_alone_can_be_described() {
    let dir = folder(&[], &["b.png", "a.png"]);
    let set = open(&at(dir.path())).unwrap();
    assert_eq!((set.format, ids(&set), reds(&set)), ("pictures", vec!["a", "b"], vec![1, 0]));
    assert!(set.items.iter().all(|item| item.references.is_empty()));
}

#[test]
fn hidden_files_are_never_items() {
    let hidden = ["._a.png", ".x.jpg", "._results.token", ".git/a.png", ".DS_Store"];
    let dir = folder(&[], &[&["a.png", "a.jpg", "a.png.webp"][..], &hidden].concat());
    let set = open(&at(dir.path())).unwrap();
    assert_eq!((set.format, ids(&set), reds(&set)), ("pictures", vec!["a.jpg", "a.png", "a.png.webp"], vec![1, 0, 2]));
    let dir = folder(
        &[("._results.token", "\0\u{5}"), ("results.token", "a.png#0\tA dog .\n")],
        &[".thumbs/a.png", "sub/a.png"],
    );
    let set = open(&at(dir.path())).unwrap();
    assert_eq!((set.format, ids(&set), reds(&set)), ("flickr-token", vec!["a"], vec![1]));
}

#[cfg(unix)]
#[test]
fn pictures_whose_names_are_no_text_are_items() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(&[], &[]);
    for (red, name) in [&b"a\xfe.png"[..], b"a\xff.png", b"b\n.png"].into_iter().enumerate() {
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), png(red as u8)).unwrap();
    }
    let set = open(&at(dir.path())).unwrap();
    assert_eq!((ids(&set), reds(&set)), (vec!["a%FE", "a%FF", "b%0A"], vec![0, 1, 2]));
}

#[test]
fn ids_of_a_data_set_are_its_own_and_unique() {
    let dir = folder(
        &[("captions.csv", "image,caption\na.jpg,x\na.png,y\na.png.webp,z\n")],
        &["a.jpg", "a.png", "a.png.webp"],
    );
    assert_eq!(ids(&open(&at(dir.path())).unwrap()), ["a.jpg", "a.png", "a.png.webp"]);
    for (name, text, expected) in [
        (
            "captions.csv",
            "image,caption\n\"a\u{7}.png\",x\n",
            "the id \"a\\u{7}\" (of \"a\\u{7}.png\") is empty or has control",
        ),
        ("results.token", "#0\tx\n", "the id \"\" (of \"\") is empty"),
        ("results.token", "a.jpg#0\tx\na.png#0\ty\n", "the id \"a\" is there twice (a.jpg and a.png)"),
    ] {
        let dir = folder(&[(name, text)], &["a.png"]);
        let said = error(&at(dir.path()));
        assert!(said.contains(expected) && !said.contains('\n'), "{name}: {said}");
    }
}

#[test]
fn a_damaged_picture_of_an_archive_is_named() {
    let dir = folder(&[("captions.csv", "image,caption\na.png,x\n")], &[]);
    let archive = dir.path().join("all.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
    zip.start_file("a.png", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"no picture").unwrap();
    zip.finish().unwrap();
    let set = open(&Request { images: Some(archive), ..at(dir.path()) }).unwrap();
    let said = format!("{:#}", set.items[0].picture.load().unwrap_err());
    assert!(said.contains("cannot read picture a.png in ") && said.contains("all.zip: not a JPEG"), "{said}");
}

#[test]
fn what_is_no_data_set_is_wrong_usage() {
    let dir = folder(&[("readme.md", "x")], &[]);
    let format = |name: &str| Request { format: Some(name.to_string()), ..at(dir.path()) };
    let cases = [
        (at(dir.path()), "holds no data set of a known format"),
        (at("no/where/at/all"), "there is no data set no/where/at/all"),
        (at("nobody-at-all/nothing-there"), "hf download --repo-type dataset nobody-at-all/nothing-there"),
        (format("karpahty"), "did you mean \"karpathy\"?"),
        (format("karpathy"), "holds no data set of the format karpathy"),
    ];
    for (request, expected) in cases {
        let failure = open(&request).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure:#}");
        assert!(failure.is::<UsageError>(), "{failure:#}");
    }
}

#[test]
fn the_table_is_sound() {
    for (at, entry) in DATASETS.iter().enumerate() {
        assert!(!entry.about.is_empty());
        assert!(DATASETS[..at].iter().all(|other| other.name != entry.name), "{} twice", entry.name);
    }
}
