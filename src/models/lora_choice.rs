//! Which low-rank adapters (LoRA) a generator draws with: `FILE` or `FILE:WEIGHT`, several joined by ` + `.

use std::fmt;
use std::path::PathBuf;

use super::weighted::{AND, file_name, join_weight, parts, show_weight, split_weight};

/// One file of low-rank adapters, and how strongly it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraChoice {
    /// As it was named: see [`super::locate_lora`]. It must be on this machine when it is drawn with.
    pub file: PathBuf,
    /// Times the strength that the file itself asks for; may be negative.
    pub weight: f64,
}

impl LoraChoice {
    /// What an experiment says of a strategy: none of them for an empty text.
    pub fn list(text: &str) -> Vec<Self> {
        parts(text).map(Self::from).collect()
    }

    /// Several as one text, which [`Self::list`] reads.
    pub fn join(choices: &[Self]) -> String {
        choices.iter().map(Self::to_string).collect::<Vec<_>>().join(AND)
    }

    /// In few words: the file's name, and the weight where it is not 1.
    pub fn name(&self) -> String {
        show_weight(&file_name(&self.file), self.weight)
    }
}

impl From<&str> for LoraChoice {
    fn from(text: &str) -> Self {
        let (file, weight) = split_weight(text);
        Self { file: PathBuf::from(file), weight }
    }
}

impl fmt::Display for LoraChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&join_weight(&self.file.display().to_string(), self.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_one_text() {
        let both = LoraChoice::list("a/ink.safetensors:0.8 + wash.pt");
        assert_eq!(both.iter().map(LoraChoice::name).collect::<Vec<_>>(), ["ink-0.8", "wash"]);
        assert_eq!(LoraChoice::list(&LoraChoice::join(&both)), both);
        assert_eq!((LoraChoice::list(""), LoraChoice::join(&[])), (Vec::new(), String::new()));
    }
}
