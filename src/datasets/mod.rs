//! Where photos come from: a file for each data set.

mod folder;

pub use folder::{Photo, folder};
