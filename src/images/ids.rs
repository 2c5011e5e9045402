//! Names by which results know picture files. Two files never share one: a row, a picture or a value would be lost.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use unicode_normalization::UnicodeNormalization;

use crate::error::usage;

/// When two ids count as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// When they are the same text.
    Exactly,
    /// When they would name one file where file names ignore case, as on macOS and Windows.
    IgnoringCase,
}

/// The ids of the picture files of one folder, in their order: the file's stem; the whole file name where stems repeat.
/// An id is a part of a path as it is: bytes that are no text, control characters and backslashes are written `%XX`.
/// Two files that cannot be told apart so are wrong usage, with both names.
pub fn ids(files: &[PathBuf], same: Same) -> Result<Vec<String>> {
    let stems = files.iter().map(|file| id_text(file.file_stem().unwrap_or_default())).collect();
    let names: Vec<String> = files.iter().map(|file| id_text(file.file_name().unwrap_or_default())).collect();
    distinct(stems, &names, same).map_err(|(one, other)| {
        let reason = match same {
            Same::Exactly => "",
            Same::IgnoringCase => ", or of the same one where file names ignore case",
        };
        let (one, other) = (path_text(&files[one]), path_text(&files[other]));
        usage(format!("{one} and {other} would be pictures of one id{reason}: rename one of them"))
    })
}

/// Short names made distinct: where some are the same, the long ones take their place. The positions of two whose long
/// names are the same too come back as an error.
pub fn distinct(mut short: Vec<String>, long: &[String], same: Same) -> Result<Vec<String>, (usize, usize)> {
    let key = |id: &str| match same {
        Same::Exactly => id.to_string(),
        Same::IgnoringCase => folded(id),
    };
    loop {
        let mut places: HashMap<String, Vec<usize>> = HashMap::with_capacity(short.len());
        for (at, id) in short.iter().enumerate() {
            places.entry(key(id)).or_default().push(at);
        }
        let mut changed = false;
        let mut stuck = None;
        for group in places.into_values().filter(|group| group.len() > 1) {
            let mut at_their_longest = group.iter().copied().filter(|at| short[*at] == long[*at]);
            if let (Some(one), Some(other)) = (at_their_longest.next(), at_their_longest.next()) {
                stuck = stuck.min(Some((one, other))).or(Some((one, other)));
            }
            for at in group {
                if short[at] != long[at] {
                    short[at].clone_from(&long[at]);
                    changed = true;
                }
            }
        }
        match stuck {
            Some(two) => return Err(two),
            None if !changed => return Ok(short),
            None => {}
        }
    }
}

/// How a file name looks to a file system that ignores case, and how an accent is written (macOS, Windows).
pub fn folded(id: &str) -> String {
    id.nfc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// A part of a file's name as an id.
fn id_text(name: &OsStr) -> String {
    text(name, |c| c.is_control() || c == '\\')
}

/// A path as text from which no two paths become equal in practice: bytes that are no text are written `%XX`.
pub fn path_text(path: &Path) -> String {
    text(path.as_os_str(), |_| false)
}

fn text(name: &OsStr, escape: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(name.len());
    let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if escape(c) {
                text += &escaped(c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        text += &escaped(chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::UsageError;

    fn of(names: &[&str], same: Same) -> Result<Vec<String>> {
        ids(&names.iter().map(|name| Path::new("photos").join(name)).collect::<Vec<_>>(), same)
    }

    #[test]
    fn ids_are_stems_where_they_can_be() {
        let exact = |names: &[&str]| of(names, Same::Exactly).unwrap();
        assert_eq!(exact(&["a.png", "b.jpg", "b.png"]), ["a", "b.jpg", "b.png"]);
        assert_eq!(exact(&["a.jpg", "a.png", "a.png.webp"]), ["a.jpg", "a.png", "a.png.webp"]);
        assert_eq!(exact(&["a.jpg", "a.png", "a.png.webp", "a.png.webp.jpg"]).len(), 4);
        assert_eq!(exact(&["A.png", "a.png"]), ["A", "a"]);
        assert_eq!(exact(&["a\\b.png", "c\n.png", "50%.png"]), ["a%5Cb", "c%0A", "50%"]);
    }

    #[test]
    fn case_alone_does_not_tell_files_apart() {
        assert_eq!(of(&["A.jpg", "a.png"], Same::IgnoringCase).unwrap(), ["A.jpg", "a.png"]);
        assert!(of(&["\u{e9}.png", "e\u{301}.png"], Same::IgnoringCase).is_err());
        let error = of(&["b.png", "A.png", "a.png"], Same::IgnoringCase).unwrap_err();
        assert!(error.is::<UsageError>());
        assert!(error.to_string().contains("photos/A.png and photos/a.png"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let file = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name));
        let found =
            ids(&[file(b"a\xfe.png"), file(b"a\xff.png"), file("\u{e9}.png".as_bytes())], Same::Exactly).unwrap();
        assert_eq!(found, ["a%FE", "a%FF", "\u{e9}"]);
        let error = ids(&[file(b"p/a%FF.png"), file(b"p/a\xff.png")], Same::Exactly).unwrap_err().to_string();
        assert!(error.contains("p/a%FF.png and p/a%FF.png"), "{error}");
    }
}
