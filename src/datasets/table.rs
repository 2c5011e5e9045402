//! The table of data set formats. A new format is a file and a row here.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::captioned::Annotations;
use super::{captions_csv, coco_captions, flickr_token, karpathy, nlphuji, plain};

/// A format of pictures with reference captions.
pub struct DatasetEntry {
    pub name: &'static str,
    /// What such a folder holds, for messages.
    pub about: &'static str,
    /// The annotation file, when this folder (or file) is of the format.
    pub find: fn(&Path) -> Result<Option<PathBuf>>,
    /// Reads the annotation file.
    pub read: fn(&Path) -> Result<Annotations>,
}

/// In the order in which they are looked for: the ones that know splits come first.
pub static DATASETS: &[DatasetEntry] = &[
    DatasetEntry {
        name: "nlphuji-coco",
        about: "test_5k_mscoco_2014.csv with images_mscoco_2014_5k_test.zip",
        find: |path| Ok(named(path, nlphuji::COCO.csv)),
        read: |file| nlphuji::read(file, &nlphuji::COCO),
    },
    DatasetEntry {
        name: "nlphuji-flickr30k",
        about: "flickr_annotations_30k.csv with flickr30k-images.zip",
        find: |path| Ok(named(path, nlphuji::FLICKR30K.csv)),
        read: |file| nlphuji::read(file, &nlphuji::FLICKR30K),
    },
    DatasetEntry {
        name: "karpathy",
        about: "dataset_coco.json or dataset_flickr30k.json",
        find: |path| {
            Ok(["dataset_coco.json", "dataset_flickr30k.json", "dataset_flickr8k.json"]
                .iter()
                .find_map(|name| named(path, name)))
        },
        read: karpathy::read,
    },
    DatasetEntry {
        name: "coco-captions",
        about: "captions_*.json, in the folder or in annotations/",
        find: coco_captions::find,
        read: coco_captions::read,
    },
    DatasetEntry {
        name: "flickr-token",
        about: "a .token file such as results_20130124.token",
        find: flickr_token::find,
        read: flickr_token::read,
    },
    DatasetEntry {
        name: "captions-csv",
        about: "captions.csv with the columns image and caption",
        find: |path| Ok(named(path, "captions.csv")),
        read: captions_csv::read,
    },
    DatasetEntry {
        name: plain::NAME,
        about: "a folder of pictures without captions",
        find: plain::find,
        read: plain::read,
    },
];

/// The file of this name: `path` itself, or in the folder `path`.
fn named(path: &Path, name: &str) -> Option<PathBuf> {
    if path.is_file() {
        return path.file_name().is_some_and(|own| own == name).then(|| path.to_path_buf());
    }
    Some(path.join(name)).filter(|file| file.is_file())
}
