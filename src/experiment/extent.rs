//! What a run comes to, as its kind knows before it begins.

use std::path::PathBuf;

use serde::Serialize;

/// What only a kind knows of a run that is laid out.
#[derive(Debug)]
pub struct Extent {
    pub strategies: Vec<String>,
    pub data: Vec<DataSource>,
    pub metrics: Vec<&'static str>,
    /// What its files come to at most.
    pub bytes: u64,
}

/// A folder or file of pictures.
#[derive(Debug, Clone, Serialize)]
pub struct DataSource {
    pub name: String,
    pub path: PathBuf,
    /// Pictures that are used.
    pub pictures: usize,
    /// Pictures that are there.
    pub found: usize,
    /// Whether every strategy has an item of each: photos, not what they are compared with.
    #[serde(skip)]
    pub is_item: bool,
}

/// What a picture of this size takes as a file, at most: PNG never makes one much larger than its pixels.
pub fn png_bytes(width: u64, height: u64) -> u64 {
    3 * width * height + 4096
}
