//! Paths of files in messages: whatever bytes their names are of.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Paths that survive a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths(pub Vec<PathBuf>);

/// A path as a text, or what is none as bytes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes(Vec<u8>),
}

impl Serialize for Paths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = |path: &PathBuf| match path.to_str() {
            Some(text) => Name::Text(text.to_string()),
            None => Name::Bytes(path.as_os_str().as_bytes().to_vec()),
        };
        serializer.collect_seq(self.0.iter().map(name))
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = |name| match name {
            Name::Text(text) => PathBuf::from(text),
            Name::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        };
        Ok(Self(Vec::<Name>::deserialize(deserializer)?.into_iter().map(path).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_arrives() {
        let names = [&b"a/b.png"[..], b"\xff\xfe.png", "é.jpg".as_bytes(), b"new\nline"];
        let paths = Paths(names.map(|name| PathBuf::from(OsString::from_vec(name.to_vec()))).to_vec());
        let text = serde_json::to_string(&paths).unwrap();
        assert_eq!(serde_json::from_str::<Paths>(&text).unwrap(), paths);
    }
}
