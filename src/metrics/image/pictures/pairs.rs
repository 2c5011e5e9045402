//! Pictures and what was made of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::images::{self, Same};

/// A content picture and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub content: PathBuf,
    pub stylized: PathBuf,
    /// Unique within the folder: the one of `stylized` (see [`images::ids`]).
    pub id: String,
}

/// Pairs the pictures of two folders: by file stem when both have the same ones, else by position in
/// name order (as art-fid does). Folders of unequal counts are an error.
pub fn pairs(content: &Path, stylized: &Path) -> Result<Vec<Pair>> {
    let (contents, stylizeds) = (images::list(content)?, images::list(stylized)?);
    let by_stem = |files: &[PathBuf]| -> BTreeMap<OsString, PathBuf> {
        files.iter().map(|file| (file.file_stem().unwrap_or_default().to_os_string(), file.clone())).collect()
    };
    let (content_stems, stylized_stems) = (by_stem(&contents), by_stem(&stylizeds));
    if contents.len() != stylizeds.len() {
        bail!(
            "{} has {} and {} has {}: every content picture needs its stylized one{}{}",
            content.display(),
            several(contents.len()),
            stylized.display(),
            several(stylizeds.len()),
            lacks(stylized, &content_stems, &stylized_stems),
            lacks(content, &stylized_stems, &content_stems)
        );
    }
    let unique = content_stems.len() == contents.len() && stylized_stems.len() == stylizeds.len();
    let same = unique && content_stems.keys().eq(stylized_stems.keys());
    if !same {
        tracing::info!("content and stylized pictures have different names: paired by position in name order");
    }
    let ordered = |files: Vec<PathBuf>, stems: BTreeMap<OsString, PathBuf>| {
        if same { stems.into_values().collect() } else { files }
    };
    let contents: Vec<PathBuf> = ordered(contents, content_stems);
    let stylizeds: Vec<PathBuf> = ordered(stylizeds, stylized_stems);
    let ids = images::ids(&stylizeds, Same::Exactly)?;
    let pairs = contents.into_iter().zip(stylizeds).zip(ids);
    Ok(pairs.map(|((content, stylized), id)| Pair { content, stylized, id }).collect())
}

/// `1 picture`, `2 pictures`.
pub fn several(count: usize) -> String {
    format!("{count} picture{}", if count == 1 { "" } else { "s" })
}

/// So many are named in a message.
const MOST_NAMES: usize = 10;

/// The names that a folder has no picture of, as the end of a message.
fn lacks(folder: &Path, wanted: &BTreeMap<OsString, PathBuf>, there: &BTreeMap<OsString, PathBuf>) -> String {
    let missing: Vec<&OsString> = wanted.keys().filter(|stem| !there.contains_key(*stem)).collect();
    if missing.is_empty() {
        return String::new();
    }
    let names: Vec<String> = missing.iter().take(MOST_NAMES).map(|stem| format!("{stem:?}")).collect();
    let more =
        if missing.len() > MOST_NAMES { format!(" and {} more", missing.len() - MOST_NAMES) } else { String::new() };
    format!("; {} lacks {}{more}", folder.display(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        dir
    }

    fn names(pairs: &[Pair]) -> Vec<(String, String, &str)> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        pairs.iter().map(|pair| (name(&pair.content), name(&pair.stylized), pair.id.as_str())).collect()
    }

    #[test]
    fn pairs_are_by_stem_when_the_names_allow() {
        // In name order, "a.png" comes after "a-2.jpg", but "a.jpg" before "a1.png".
        let (content, stylized) = (folder(&["b.png", "a.png", "a-2.jpg"]), folder(&["a.jpg", "a-2.png", "b.jpg"]));
        let found = pairs(content.path(), stylized.path()).unwrap();
        let expected = [("a.png", "a.jpg", "a"), ("a-2.jpg", "a-2.png", "a-2"), ("b.png", "b.jpg", "b")];
        assert_eq!(names(&found), expected.map(|(c, s, id)| (c.to_string(), s.to_string(), id)));
    }

    #[test]
    fn other_names_pair_by_position() {
        let (content, stylized) = (folder(&["p2.png", "p1.png"]), folder(&["s.jpg", "s.png"]));
        let found = pairs(content.path(), stylized.path()).unwrap();
        let expected = [("p1.png", "s.jpg", "s.jpg"), ("p2.png", "s.png", "s.png")];
        assert_eq!(names(&found), expected.map(|(c, s, id)| (c.to_string(), s.to_string(), id)));
    }

    #[test]
    fn unequal_counts_name_both_folders() {
        let (content, stylized) = (folder(&["a.png", "b.png"]), folder(&["a.png"]));
        let error = pairs(content.path(), stylized.path()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("; {} lacks \"b\"", stylized.path().display())), "{error}");
        let other = folder(&["z.png", "a.png", "y.jpg"]);
        let both = pairs(content.path(), other.path()).unwrap_err().to_string();
        assert!(both.contains("lacks \"b\"; ") && both.ends_with("lacks \"y\", \"z\""), "{both}");
        assert!(error.contains(&format!("{} has 2 pictures", content.path().display())), "{error}");
        assert!(error.contains(&format!("{} has 1", stylized.path().display())), "{error}");
    }
}
