//! Every reader of files that strangers made, as a function of bytes: run on stable by `tests/fuzz`, and under libFuzzer
//! by `fuzz/`. A reader may refuse what it is given; it may not panic, abort, hang or take all memory.

mod adapters;
mod configs;
mod experiments;
mod files;
mod folders;
mod seeds;

use std::path::{Path, PathBuf};

pub use seeds::{Seeds, corpus};

/// Reads one input.
pub type Reader = Box<dyn FnMut(&[u8])>;

/// One kind of file.
pub struct Target {
    pub name: &'static str,
    /// Makes what the reader needs around the file.
    pub reader: fn() -> Reader,
    /// Sound files.
    pub seeds: fn(&mut Seeds),
    /// Whether an input's first line says what the rest is.
    pub head: bool,
}

pub static TARGETS: &[Target] = &[
    Target { name: "safetensors", reader: files::checkpoint, seeds: seeds::safetensors, head: false },
    Target { name: "pickle", reader: files::pickle, seeds: seeds::pickles, head: false },
    Target { name: "pickle_zip", reader: files::checkpoint, seeds: seeds::archives, head: false },
    Target { name: "pickle_legacy", reader: files::checkpoint, seeds: seeds::legacy, head: false },
    Target { name: "configs", reader: configs::all, seeds: seeds::configs, head: false },
    Target { name: "models", reader: folders::models, seeds: seeds::models, head: true },
    Target { name: "adapters", reader: adapters::all, seeds: seeds::adapters, head: true },
    Target { name: "tokenizers", reader: folders::tokenizers, seeds: seeds::tokenizers, head: true },
    Target { name: "experiments", reader: experiments::toml, seeds: seeds::experiments, head: true },
    Target { name: "tables", reader: experiments::tables, seeds: seeds::tables, head: false },
    Target { name: "run_folders", reader: folders::runs, seeds: seeds::runs, head: true },
    Target { name: "datasets", reader: files::datasets, seeds: seeds::datasets, head: true },
    Target { name: "pictures", reader: files::pictures, seeds: seeds::pictures, head: false },
];

/// Where files lie in memory, where there is such a place: most inputs are read from files.
pub fn memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
}

/// A folder there.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("fuzz").tempdir_in(memory()).unwrap()
}

/// The first line as text, and the rest.
pub fn head(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&input[..end]).ok()?, &input[end + 1..]))
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if own.ends_with("fuzz") { own.parent().unwrap_or(own) } else { own };
    root.join(path)
}
