//! Where things are in a run folder.

use std::path::{Component, Path};

use sha2::{Digest, Sha256};

/// The place in a run folder of what was written to submit its shards to a cluster.
pub const SUBMITTED: &str = "slurm";

/// The picture's place in a run folder.
pub fn image_path(strategy: &str, id: &str) -> String {
    format!("images/{strategy}/{id}.png")
}

/// The photo's place in a run folder, at the size of the comparison.
pub fn photo_path(id: &str) -> String {
    format!("photos/{id}.png")
}

/// The thumbnail's place in a run folder. An id that cannot be a file's name, or that others are like but for their case
/// (not `alone`), becomes one with a hash that keeps it apart.
pub fn thumbnail_path(dataset: &str, id: &str, alone: bool) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if alone && id.len() <= 100 && !id.starts_with('.') && id.chars().all(fits) {
        return format!("pictures/{dataset}/{id}.jpg");
    }
    let plain: String = id.chars().map(|c| if fits(c) { c } else { '-' }).take(60).collect();
    let hash = format!("{:x}", Sha256::digest(id));
    format!("pictures/{dataset}/{}-{}.jpg", plain.trim_start_matches('.'), &hash[..16])
}

/// The kind of experiment that a run folder holds, as its `config.toml` names it; without one, as the columns of
/// `results.csv` tell.
pub fn kind_of(dir: &Path) -> String {
    let named = || {
        let keys: toml::Table = std::fs::read_to_string(dir.join("config.toml")).ok()?.parse().ok()?;
        Some(keys.get("kind")?.as_str()?.to_string())
    };
    named().unwrap_or_else(|| {
        let header = csv::Reader::from_path(dir.join("results.csv")).and_then(|mut reader| reader.headers().cloned());
        let of_captions = header.is_ok_and(|header| header.iter().any(|column| column == "dataset"));
        if of_captions { "caption" } else { "style_transfer" }.to_string()
    })
}

/// The way from a folder to a folder or file, both absolute, with `/` between the names.
pub fn way(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| "..".to_string());
    let down = to[shared..].iter().map(|part: &Component| part.as_os_str().to_string_lossy().into_owned());
    let way: Vec<String> = up.chain(down).collect();
    if way.is_empty() { ".".to_string() } else { way.join("/") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn ways_between_folders() {
        let way = |from: &str, to: &str| super::way(Path::new(from), Path::new(to));
        assert_eq!(way("/a/notebooks-export", "/a/runs/x"), "../runs/x");
        assert_eq!(way("/a", "/a/b"), "b");
        assert_eq!(way("/a/b/c", "/d"), "../../../d");
        assert_eq!(way("/a", "/a"), ".");
    }
}
