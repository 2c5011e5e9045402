//! Texts in PNG files: chunks tEXt (Latin-1) and iTXt (UTF-8) before the pixels, which stay as they are.
//!
//! Source: PNG specification, third edition, <https://www.w3.org/TR/png-3/#11textinfo>.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail};

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Signature, and the chunk IHDR, which comes first in every PNG: length, type, 13 bytes, checksum.
const HEAD: usize = 8 + 4 + 4 + 13 + 4;
/// A longer text is none that this program writes.
const LONGEST: u64 = 1 << 20;
/// More chunks before the pixels are those of an attack.
const MOST_CHUNKS: usize = 10_000;
const LONGEST_KEYWORD: u64 = 79;

/// A keyword, and its text.
pub type Text = (&'static str, String);

/// A whole PNG with these texts behind its header.
pub(super) fn with_texts(png: &[u8], texts: &[Text]) -> Vec<u8> {
    let (head, rest) = png.split_at(HEAD.min(png.len()));
    let mut all = head.to_vec();
    for (keyword, text) in texts {
        all.extend(chunk(keyword, text));
    }
    all.extend_from_slice(rest);
    all
}

/// tEXt where Latin-1 has all of the text's characters, as readers of old expect, else iTXt.
fn chunk(keyword: &str, text: &str) -> Vec<u8> {
    let latin: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok().filter(|c| *c != 0)).collect();
    let mut body = Vec::new();
    match latin {
        Some(latin) => {
            body.extend(b"tEXt");
            body.extend(keyword.as_bytes());
            body.push(0);
            body.extend(latin);
        }
        None => {
            body.extend(b"iTXt");
            body.extend(keyword.as_bytes());
            // Not compressed, by no method, in no language, under no translated keyword.
            body.extend([0, 0, 0, 0, 0]);
            body.extend(text.replace('\0', " ").as_bytes());
        }
    }
    let length = (body.len() - 4) as u32;
    let sum = crc32fast::hash(&body);
    [&length.to_be_bytes(), body.as_slice(), &sum.to_be_bytes()].concat()
}

/// The text under a keyword; none where the file has no such text. Only what stands before the pixels is read.
///
/// # Errors
/// What is no PNG, or damaged, or has a text that is too long to be one; without the file's name.
pub fn read_text(path: &Path, keyword: &str) -> Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut signature = [0; 8];
    match file.read_exact(&mut signature) {
        Ok(()) if signature == SIGNATURE => {}
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => bail!("it is no PNG: only PNG files hold settings"),
    }
    for _ in 0..MOST_CHUNKS {
        let mut head = [0; 8];
        file.read_exact(&mut head).context("it ends in the middle")?;
        let [a, b, c, d, kind @ ..] = head;
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        match &kind {
            b"IDAT" | b"IEND" => return Ok(None),
            b"tEXt" | b"iTXt" | b"zTXt" => {
                if let Some(text) = read_chunk(&mut file, kind, length, keyword)? {
                    return Ok(Some(text));
                }
            }
            _ => drop(file.seek(SeekFrom::Current(length as i64 + 4))?),
        }
    }
    bail!("it has more than {MOST_CHUNKS} chunks before its pixels")
}

/// The text of one chunk, if it is under this keyword; leaves the file behind the chunk.
fn read_chunk(file: &mut File, kind: [u8; 4], length: u64, keyword: &str) -> Result<Option<String>> {
    let mut start = Vec::new();
    file.take(length.min(LONGEST_KEYWORD + 1)).read_to_end(&mut start)?;
    let is_own = start.split(|byte| *byte == 0).next() == Some(keyword.as_bytes()) && start.contains(&0);
    let rest = length.saturating_sub(start.len() as u64);
    if !is_own {
        file.seek(SeekFrom::Current(rest as i64 + 4))?;
        return Ok(None);
    }
    if length > LONGEST {
        bail!("its text {keyword:?} has {length} bytes, more than any that is written here");
    }
    let mut body = [&kind, start.as_slice()].concat();
    file.take(rest).read_to_end(&mut body)?;
    let mut sum = [0; 4];
    file.read_exact(&mut sum).context("it ends in the middle")?;
    if crc32fast::hash(&body) != u32::from_be_bytes(sum) {
        bail!("its text {keyword:?} is damaged: the checksum is another");
    }
    let text = &body[4 + keyword.len() + 1..];
    match &kind {
        b"tEXt" => Ok(Some(text.iter().map(|byte| char::from(*byte)).collect())),
        b"iTXt" => {
            let [0, _, rest @ ..] = text else { bail!("its text {keyword:?} is compressed: write it without") };
            // Language and translated keyword.
            let text =
                rest.splitn(3, |byte| *byte == 0).nth(2).with_context(|| format!("its text {keyword:?} is damaged"))?;
            let text = std::str::from_utf8(text).with_context(|| format!("its text {keyword:?} is not UTF-8"))?;
            Ok(Some(text.to_string()))
        }
        _ => bail!("its text {keyword:?} is compressed: write it without"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{self, save_with};
    use image::RgbImage;

    fn picture() -> RgbImage {
        RgbImage::from_fn(9, 7, |x, y| image::Rgb([(x * 20) as u8, (y * 30) as u8, 7]))
    }

    #[test]
    fn texts_of_all_characters_come_back_and_pixels_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (file, plain) = (dir.path().join("a.png"), dir.path().join("b.png"));
        let texts = vec![("parameters", "ünd\nso — 漢字".to_string()), ("toolkit", "{\"a\": 1}".to_string())];
        save_with(&picture(), &file, &texts).unwrap();
        images::save(&picture(), &plain).unwrap();
        for (keyword, text) in &texts {
            assert_eq!(read_text(&file, keyword).unwrap().as_ref(), Some(text));
        }
        assert_eq!(read_text(&file, "other").unwrap(), None);
        assert_eq!(read_text(&plain, "toolkit").unwrap(), None);
        assert_eq!(images::load(&file).unwrap(), picture());
        // Another reader agrees, and takes the file as whole.
        let decoder = png::Decoder::new(std::io::BufReader::new(File::open(&file).unwrap()));
        let reader = decoder.read_info().unwrap();
        let info = reader.info();
        assert_eq!(info.uncompressed_latin1_text[0].text, texts[1].1);
        assert_eq!(info.utf8_text[0].get_text().unwrap(), texts[0].1);
        let (bytes, bare) = (std::fs::read(&file).unwrap(), std::fs::read(&plain).unwrap());
        assert!(bytes.ends_with(&bare[HEAD..]), "the rest is byte for byte the same");
    }

    #[test]
    fn hostile_texts_are_refused_without_being_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.png");
        images::save(&picture(), &file).unwrap();
        let whole = std::fs::read(&file).unwrap();
        let with = |kind: &[u8], body: &[u8], claimed: u32| {
            let chunk = [&claimed.to_be_bytes(), kind, body, &[0; 4]].concat();
            std::fs::write(&file, [&whole[..HEAD], &chunk, &whole[HEAD..]].concat()).unwrap();
            format!("{:#}", read_text(&file, "toolkit").unwrap_err())
        };
        assert!(with(b"tEXt", b"toolkit\0{}", u32::MAX).contains("more than any that is written here"));
        assert!(with(b"tEXt", b"toolkit\0{}", 10).contains("the checksum is another"));
        assert!(with(b"tEXt", b"toolkit\0{}", 1 << 19).contains("ends in the middle"));
        assert!(with(b"zTXt", b"x", u32::MAX).contains("ends in the middle"));
        std::fs::write(&file, b"\xff\xd8 no png").unwrap();
        assert!(format!("{:#}", read_text(&file, "toolkit").unwrap_err()).contains("it is no PNG"));
    }
}
