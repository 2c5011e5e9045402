//! Where pictures come from: a file for each format of a data set, and the table of them.

mod archive;
mod captioned;
mod captions_csv;
mod coco_captions;
mod flickr_token;
mod folder;
mod hub;
mod karpathy;
mod nlphuji;
mod open;
mod pictures;
mod plain;
mod python_literal;
mod table;

pub use captioned::{Annotations, Item, Picture, Place, Record};
pub use folder::{Photo, folder};
pub use open::{CaptionSet, Request, open};
pub use table::{DATASETS, DatasetEntry};
