//! Which low-rank adapters (LoRA) a generator draws with: `FILE` or `FILE:WEIGHT`, several joined by ` + `.

use std::fmt;
use std::path::PathBuf;

/// What stands between several of them.
const AND: &str = " + ";

/// One file of low-rank adapters, and how strongly it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraChoice {
    pub file: PathBuf,
    /// Times the strength that the file itself asks for; may be negative.
    pub weight: f64,
}

impl LoraChoice {
    /// What an experiment says of a strategy: none of them for an empty text.
    pub fn list(text: &str) -> Vec<Self> {
        text.split(AND).map(str::trim).filter(|one| !one.is_empty()).map(Self::from).collect()
    }

    /// Several as one text, which [`Self::list`] reads.
    pub fn join(choices: &[Self]) -> String {
        choices.iter().map(Self::to_string).collect::<Vec<_>>().join(AND)
    }

    /// In few words: the file's name without its folder and ending, and the weight where it is not 1.
    pub fn name(&self) -> String {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        if self.weight == 1.0 { stem.into_owned() } else { format!("{stem}-{}", self.weight) }
    }
}

/// A number behind the last colon is the weight.
impl From<&str> for LoraChoice {
    fn from(text: &str) -> Self {
        let weighted = text.rsplit_once(':').filter(|(file, _)| !file.is_empty());
        match weighted.and_then(|(file, weight)| Some((file, weight.trim().parse().ok()?))) {
            Some((file, weight)) => Self { file: PathBuf::from(file), weight },
            None => Self { file: PathBuf::from(text), weight: 1.0 },
        }
    }
}

impl fmt::Display for LoraChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let file = self.file.display();
        // Without its weight, a name that ends in a number would be read as a weight.
        if self.weight == 1.0 && Self::from(file.to_string().as_str()).weight == 1.0 {
            return write!(f, "{file}");
        }
        write!(f, "{file}:{}", self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_behind_the_last_colon_is_the_weight() {
        for (text, file, weight) in [
            ("ink.safetensors", "ink.safetensors", 1.0),
            ("a/ink.safetensors:0.8", "a/ink.safetensors", 0.8),
            ("ink.pt:-1", "ink.pt", -1.0),
            ("a:b/ink.pt", "a:b/ink.pt", 1.0),
            ("ink:1.5:2", "ink:1.5", 2.0),
            (":0.5", ":0.5", 1.0),
        ] {
            let choice = LoraChoice::from(text);
            assert_eq!((choice.file.to_str(), choice.weight), (Some(file), weight), "{text}");
            assert_eq!(LoraChoice::from(choice.to_string().as_str()), choice, "{text}");
        }
        let odd = LoraChoice { file: PathBuf::from("ink:2"), weight: 1.0 };
        assert_eq!(LoraChoice::from(odd.to_string().as_str()), odd);
    }

    #[test]
    fn several_are_one_text() {
        let both = LoraChoice::list("a/ink.safetensors:0.8 + wash.pt");
        assert_eq!(both.iter().map(LoraChoice::name).collect::<Vec<_>>(), ["ink-0.8", "wash"]);
        assert_eq!(LoraChoice::list(&LoraChoice::join(&both)), both);
        assert_eq!((LoraChoice::list(""), LoraChoice::join(&[])), (Vec::new(), String::new()));
    }
}
