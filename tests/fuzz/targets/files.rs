//! Readers of one file: checkpoints, data sets, pictures.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use tch::Device;
use toolkit::checkpoints::Checkpoint;
use toolkit::datasets::{Request, open};
use toolkit::images;
use zip::write::SimpleFileOptions;

use super::{Reader, head, scratch};

/// More elements than this are not read: a view may repeat one number as often as it likes.
const MOST_ELEMENTS: i64 = 1 << 20;

fn read_checkpoint(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(&[path]) else { return };
    let _ = checkpoint.check_sums();
    let names: Vec<String> = checkpoint.names().map(str::to_string).collect();
    for name in names.iter().take(64) {
        let entry = checkpoint.entry(name).unwrap();
        if entry.len() < MOST_ELEMENTS {
            let kind = entry.kind;
            let _ = checkpoint.read(name, Device::Cpu, kind);
        }
    }
}

/// A whole checkpoint file of any format.
pub fn checkpoint() -> Reader {
    let dir = scratch();
    Box::new(move |input| {
        let path = dir.path().join("file");
        fs::write(&path, input).unwrap();
        read_checkpoint(&path);
    })
}

/// The pickle inside an archive, with sound sums around it and three storages beside it.
pub fn pickle() -> Reader {
    let dir = scratch();
    Box::new(move |input| {
        let path = dir.path().join("file");
        fs::write(&path, archive(input)).unwrap();
        read_checkpoint(&path);
    })
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let storage = [0; 256];
    let members = [("data.pkl", pickle), ("byteorder", b"little"), ("version", b"3\n")];
    let storages = ["data/0", "data/1", "data/2"].map(|name| (name, storage.as_slice()));
    for (name, bytes) in members.into_iter().chain(storages) {
        zip.start_file(format!("archive/{name}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Annotations: the head is the format; `zip` is an archive of pictures beside sound annotations.
pub fn datasets() -> Reader {
    let dir = scratch();
    fs::write(dir.path().join("a.png"), "").unwrap();
    let archived = scratch();
    let csv = "raw,split,filename\n\"['a dog']\",test,a.png\n";
    fs::write(archived.path().join("flickr_annotations_30k.csv"), csv).unwrap();
    Box::new(move |input| {
        let Some((format, rest)) = head(input) else { return };
        let (path, format) = if format == "zip" {
            fs::write(archived.path().join("flickr30k-images.zip"), rest).unwrap();
            (archived.path().to_path_buf(), "nlphuji-flickr30k")
        } else {
            let path = dir.path().join("file");
            fs::write(&path, rest).unwrap();
            (path, format)
        };
        if let Ok(set) = open(&Request { path, format: Some(format.to_string()), ..Request::default() }) {
            set.remarks();
            for item in set.items.iter().take(8) {
                let _ = item.picture.load();
            }
        }
    })
}

/// Picture files of any kind.
pub fn pictures() -> Reader {
    let dir = scratch();
    Box::new(move |input| {
        let path = dir.path().join("file.png");
        fs::write(&path, input).unwrap();
        let _ = images::probe(&path);
        let _ = images::load(&path);
    })
}
