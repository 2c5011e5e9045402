//! Porter's stemmer with the extensions of NLTK (`PorterStemmer`, mode `NLTK_EXTENSIONS`).
//!
//! Algorithm: M. Porter, "An algorithm for suffix stripping", 1980; the deviations are those of
//! <https://github.com/nltk/nltk/blob/develop/nltk/stem/porter.py>.

/// Words whose stem is fixed.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

const STEP_2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: [(&str, &str); 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// The stem of a lower-case word.
pub fn stem(word: &str) -> String {
    if let Some((_, fixed)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return (*fixed).to_owned();
    }
    let mut letters = Letters(word.chars().collect());
    if letters.0.len() <= 2 {
        return word.to_owned();
    }
    letters.plurals();
    letters.past_and_progressive();
    letters.final_y();
    letters.double_suffixes();
    letters.step_3();
    letters.step_4();
    letters.final_e_and_double_l();
    letters.0.into_iter().collect()
}

/// A word on its way to its stem. Every character that is not a, e, i, o, u or a vowel y is a consonant.
struct Letters(Vec<char>);

impl Letters {
    fn ends_with(&self, suffix: &str) -> bool {
        self.0.len() >= suffix.len() && suffix.chars().rev().eq(self.0.iter().rev().copied().take(suffix.len()))
    }

    fn replace(&mut self, suffix: &str, by: &str) {
        self.0.truncate(self.0.len() - suffix.len());
        self.0.extend(by.chars());
    }

    /// Step 1a.
    fn plurals(&mut self) {
        if self.ends_with("ies") {
            let by = if self.0.len() == 4 { "ie" } else { "i" };
            self.replace("ies", by);
        } else if self.ends_with("sses") {
            self.replace("sses", "ss");
        } else if self.ends_with("s") && !self.ends_with("ss") {
            self.replace("s", "");
        }
    }

    /// Step 1b.
    fn past_and_progressive(&mut self) {
        if self.ends_with("ied") {
            let by = if self.0.len() == 4 { "ie" } else { "i" };
            return self.replace("ied", by);
        }
        if self.ends_with("eed") {
            if measure(&self.0[..self.0.len() - 3]) > 0 {
                self.replace("eed", "ee");
            }
            return;
        }
        let Some(suffix) = ["ed", "ing"]
            .into_iter()
            .find(|suffix| self.ends_with(suffix) && contains_vowel(&self.0[..self.0.len() - suffix.len()]))
        else {
            return;
        };
        self.replace(suffix, "");
        let length = self.0.len();
        if self.ends_with("at") || self.ends_with("bl") || self.ends_with("iz") {
            self.0.push('e');
        } else if length >= 2 && self.0[length - 1] == self.0[length - 2] && is_consonant(&self.0, length - 1) {
            if !matches!(self.0[length - 1], 'l' | 's' | 'z') {
                self.0.pop();
            }
        } else if measure(&self.0) == 1 && ends_cvc(&self.0) {
            self.0.push('e');
        }
    }

    /// Step 1c: y becomes i after a consonant that is not the whole stem.
    fn final_y(&mut self) {
        let length = self.0.len();
        if self.ends_with("y") && length > 2 && is_consonant(&self.0, length - 2) {
            self.replace("y", "i");
        }
    }

    /// Step 2.
    fn double_suffixes(&mut self) {
        if self.ends_with("alli") && measure(&self.0[..self.0.len() - 4]) > 0 {
            self.replace("alli", "al");
            return self.double_suffixes();
        }
        if let Some((suffix, by)) = STEP_2.iter().find(|(suffix, _)| self.ends_with(suffix)) {
            if measure(&self.0[..self.0.len() - suffix.len()]) > 0 {
                self.replace(suffix, by);
            }
        } else if self.ends_with("logi") && measure(&self.0[..self.0.len() - 3]) > 0 {
            self.replace("logi", "log");
        }
    }

    fn step_3(&mut self) {
        if let Some((suffix, by)) = STEP_3.iter().find(|(suffix, _)| self.ends_with(suffix))
            && measure(&self.0[..self.0.len() - suffix.len()]) > 0
        {
            self.replace(suffix, by);
        }
    }

    fn step_4(&mut self) {
        let Some(suffix) = STEP_4.iter().find(|suffix| self.ends_with(suffix)) else { return };
        let stem = &self.0[..self.0.len() - suffix.len()];
        let ion = *suffix != "ion" || matches!(stem.last(), Some('s' | 't'));
        if measure(stem) > 1 && ion {
            self.replace(suffix, "");
        }
    }

    /// Step 5.
    fn final_e_and_double_l(&mut self) {
        if self.ends_with("e") {
            let stem = &self.0[..self.0.len() - 1];
            let measured = measure(stem);
            if measured > 1 || measured == 1 && !ends_cvc(stem) {
                self.0.pop();
            }
        }
        if self.ends_with("ll") && measure(&self.0[..self.0.len() - 1]) > 1 {
            self.0.pop();
        }
    }
}

/// Whether each letter is a consonant. A y is one unless it follows a consonant.
fn consonants(word: &[char]) -> impl Iterator<Item = bool> {
    let mut previous = false;
    word.iter().map(move |letter| {
        previous = match letter {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => !previous,
            _ => true,
        };
        previous
    })
}

fn is_consonant(word: &[char], index: usize) -> bool {
    consonants(&word[..=index]).last().unwrap_or(true)
}

fn contains_vowel(word: &[char]) -> bool {
    consonants(word).any(|consonant| !consonant)
}

/// How often a vowel is followed by a consonant.
fn measure(word: &[char]) -> usize {
    let mut vowel_before = false;
    let mut count = 0;
    for consonant in consonants(word) {
        count += usize::from(vowel_before && consonant);
        vowel_before = !consonant;
    }
    count
}

/// Consonant, vowel, consonant other than w, x, y at the end; or a whole word of vowel and consonant.
fn ends_cvc(word: &[char]) -> bool {
    let length = word.len();
    if length == 2 {
        return !is_consonant(word, 0) && is_consonant(word, 1);
    }
    length >= 3
        && is_consonant(word, length - 3)
        && !is_consonant(word, length - 2)
        && is_consonant(word, length - 1)
        && !matches!(word[length - 1], 'w' | 'x' | 'y')
}
