//! The synonyms of WordNet 3.0, with the lookup of NLTK's `WordNetCorpusReader` (`synsets`, `_morphy`).
//!
//! The database is embedded, reduced to what a lookup needs: `assets/language/pack.py` makes it from the
//! files of Princeton's WordNet 3.0. It is a raw-deflate stream of LEB128 numbers and text:
//!
//! ```text
//! words      count, bytes, the words in byte order, one a line
//! per part   count, then for each lemma: step from the previous word number, number of synsets,
//! of speech    each synset as "how many before the next new one" (0: new)
//! synsets    count, then for each: number of its words, their word numbers
//! per part   count, then for each irregular form: step from the previous word number, number of its
//! of speech    base forms, their word numbers
//! ```
//! Multi-word names are left out of the synsets, for METEOR never matches them.

use std::io::Read;
use std::sync::OnceLock;

use flate2::read::DeflateDecoder;

static PACKED: &[u8] = include_bytes!("../../../../assets/language/wordnet-3.0.bin");

/// Suffix rules of noun, verb, adjective and adverb, each applied once.
const SUFFIXES: [&[(&str, &str)]; 4] = [
    &[
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ],
    &[("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    &[("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    &[],
];

/// WordNet's index, synsets and exception lists.
pub struct WordNet {
    /// All words, one a line, in byte order.
    text: String,
    /// Where each word begins in `text`; one more at the end.
    starts: Vec<u32>,
    /// Per part of speech: the synsets of a lemma.
    index: [Rows; 4],
    /// Per part of speech: the base forms of an irregular form.
    exceptions: [Rows; 4],
    /// The words of a synset.
    synsets: Rows,
}

/// Rows of numbers, found by a sorted key.
#[derive(Default)]
struct Rows {
    keys: Vec<u32>,
    /// Where each row ends in `values`.
    ends: Vec<u32>,
    values: Vec<u32>,
}

impl Rows {
    fn row(&self, number: usize) -> &[u32] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.values[start as usize..self.ends[number] as usize]
    }

    fn find(&self, key: u32) -> Option<&[u32]> {
        self.keys.binary_search(&key).ok().map(|number| self.row(number))
    }
}

impl WordNet {
    /// The embedded database, unpacked at the first call.
    pub fn embedded() -> &'static WordNet {
        static WORDNET: OnceLock<WordNet> = OnceLock::new();
        WORDNET.get_or_init(|| {
            let mut raw = Vec::with_capacity(3 << 20);
            let read = DeflateDecoder::new(PACKED).read_to_end(&mut raw);
            // The file is part of the program: a test unpacks it, so this cannot fail for a user.
            assert!(read.is_ok(), "the embedded WordNet is damaged");
            WordNet::decode(&raw)
        })
    }

    fn decode(raw: &[u8]) -> WordNet {
        let mut reader = Reader { raw, at: 0 };
        let count = reader.number() as usize;
        let bytes = reader.number() as usize;
        let text = String::from_utf8_lossy(&raw[reader.at..reader.at + bytes]).into_owned();
        reader.at += bytes;
        let mut starts = Vec::with_capacity(count + 1);
        starts.push(0);
        starts.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at as u32 + 1));
        starts.push(bytes as u32 + 1);
        let mut synsets_seen = 0;
        let index = std::array::from_fn(|_| {
            reader.rows(|number| {
                synsets_seen += u32::from(number == 0);
                if number == 0 { synsets_seen - 1 } else { synsets_seen - number }
            })
        });
        let synsets = reader.unkeyed_rows();
        let exceptions = std::array::from_fn(|_| reader.rows(|number| number));
        WordNet { text, starts, index, exceptions, synsets }
    }

    fn word(&self, number: u32) -> &str {
        let number = number as usize;
        &self.text[self.starts[number] as usize..self.starts[number + 1] as usize - 1]
    }

    fn number(&self, word: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.starts.len() as u32 - 1);
        while low < high {
            let middle = (low + high) / 2;
            match self.word(middle).cmp(word) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The single-word lemma names of all synsets of a lower-case word, each once, in no particular order.
    /// Names keep their case.
    pub fn synonyms(&self, word: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for part in 0..4 {
            self.base_forms(word, part, |lemma| {
                let synsets = self.index[part].find(lemma).unwrap_or_default();
                found.extend(synsets.iter().flat_map(|synset| self.synsets.row(*synset as usize)));
            });
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|number| self.word(number)).collect()
    }

    /// The word itself and its base forms: from the exception list where it is listed, else by the suffix rules.
    fn base_forms(&self, word: &str, part: usize, mut found: impl FnMut(u32)) {
        let number = self.number(word);
        if let Some(number) = number {
            found(number);
            if let Some(bases) = self.exceptions[part].find(number) {
                return bases.iter().copied().for_each(found);
            }
        }
        for (old, new) in SUFFIXES[part] {
            if let Some(stem) = word.strip_suffix(old)
                && let Some(number) = self.number(&format!("{stem}{new}"))
            {
                found(number);
            }
        }
    }
}

/// Reads LEB128 numbers.
struct Reader<'a> {
    raw: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self) -> u32 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.raw[self.at];
            self.at += 1;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn rows(&mut self, mut value: impl FnMut(u32) -> u32) -> Rows {
        let count = self.number() as usize;
        let mut rows = Rows { keys: Vec::with_capacity(count), ends: Vec::with_capacity(count), values: Vec::new() };
        let mut key = 0;
        for _ in 0..count {
            key += self.number();
            rows.keys.push(key);
            for _ in 0..self.number() {
                let number = self.number();
                rows.values.push(value(number));
            }
            rows.ends.push(rows.values.len() as u32);
        }
        rows
    }

    fn unkeyed_rows(&mut self) -> Rows {
        let mut rows = Rows::default();
        for _ in 0..self.number() {
            for _ in 0..self.number() {
                let number = self.number();
                rows.values.push(number);
            }
            rows.ends.push(rows.values.len() as u32);
        }
        rows
    }
}
