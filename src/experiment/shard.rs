//! One part of a run, when several processes or machines share it.

use anyhow::Result;

use crate::error::usage;

/// Part I of N, by position in the sorted list of photos: photo k belongs to part k mod N + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub part: usize,
    pub of: usize,
}

impl Shard {
    /// Reads `I/N`.
    pub fn parse(text: &str) -> Result<Self> {
        text.split_once('/')
            .and_then(|(part, of)| Some(Self { part: part.trim().parse().ok()?, of: of.trim().parse().ok()? }))
            .filter(|shard| 1 <= shard.part && shard.part <= shard.of)
            .ok_or_else(|| usage(format!("shard {text:?} is not I/N with I from 1 to N, e.g. 1/4")))
    }

    /// Whether the thing at this position belongs to the part.
    pub fn has(self, at: usize) -> bool {
        at % self.of == self.part - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_photos_out() {
        let shards = ["1/3", "2/3", "3/3"].map(|text| Shard::parse(text).unwrap());
        for at in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(at)).count(), 1);
        }
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0", ""] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
    }
}
