//! Words of the PTB tokens: how far one goes, and where it is split.

use super::{Scanner, is_digit, is_letter};

/// Abbreviations that keep their period, sorted.
const ABBREVIATIONS: &[&str] = &[
    "adj", "adm", "adv", "al", "ala", "alex", "apr", "ariz", "assn", "assoc", "asst", "atty", "aug", "ave", "bancorp",
    "bhd", "bldg", "blvd", "brig", "bros", "calif", "capt", "cf", "cie", "cmdr", "co", "col", "colo", "comdr", "conn",
    "corp", "cos", "cpl", "ct", "dak", "dec", "dept", "det", "dr", "drs", "elec", "ens", "esq", "est", "etc", "ext",
    "feb", "fla", "fri", "ft", "ga", "gen", "gov", "govs", "hon", "inc", "ind", "insp", "intl", "invt", "jan", "jos",
    "jr", "jul", "jun", "kan", "kans", "ky", "lieut", "lt", "ltd", "maj", "mar", "md", "messrs", "mfg", "mich", "minn",
    "mlle", "mme", "mo", "mon", "mont", "mr", "mrs", "ms", "msgr", "mt", "mtg", "natl", "neb", "nev", "nov", "oct",
    "okla", "penn", "pfc", "ph", "plc", "pres", "prof", "profs", "pte", "pty", "pvt", "rd", "rep", "reps", "rev", "rt",
    "sen", "sens", "sep", "sept", "seq", "sfc", "sgt", "spc", "sq", "sr", "st", "ste", "supt", "sys", "tel", "tenn",
    "thu", "thurs", "treas", "tue", "tues", "univ", "va", "vs", "vt", "wed", "wis", "wisc", "wm", "wyo",
];

/// Abbreviations only with a capital, and those only before a number.
const CAPITAL_ABBREVIATIONS: [&str; 11] = ["ark", "az", "del", "ill", "la", "mass", "miss", "ore", "pa", "tex", "wash"];
const NUMBER_ABBREVIATIONS: [&str; 8] = ["art", "ca", "fig", "no", "nos", "op", "pp", "prop"];

/// Words that begin a new sentence after an initial, if they have a capital and a space follows.
const STARTERS: &[&str] = &[
    "a",
    "about",
    "according",
    "additionally",
    "after",
    "an",
    "as",
    "at",
    "but",
    "earlier",
    "he",
    "her",
    "here",
    "however",
    "if",
    "in",
    "it",
    "last",
    "many",
    "more",
    "now",
    "once",
    "one",
    "other",
    "our",
    "she",
    "since",
    "so",
    "some",
    "such",
    "that",
    "the",
    "their",
    "then",
    "there",
    "these",
    "they",
    "this",
    "we",
    "what",
    "when",
    "while",
    "yet",
    "you",
];

/// Words with an apostrophe inside that stay whole.
const WHOLE: [&str; 8] = ["c'mon", "ma'am", "ne'er", "o'er", "e'er", "cap'n", "s'mores", "qu'il"];

/// Words that are split in two.
const CONTRACTIONS: [(&str, &str); 6] =
    [("can", "not"), ("gim", "me"), ("gon", "na"), ("got", "ta"), ("lem", "me"), ("wan", "na")];

impl Scanner<'_> {
    /// A word begins here.
    pub(super) fn word(&mut self) {
        if !is_letter(self.before()) {
            if let length @ 1.. = self.with_symbols().max(self.acronym()).max(self.with_apostrophe()) {
                return self.take(length);
            }
            if self.ahead_is(0, "y'") && is_letter(self.peek(2)) {
                return self.take(2);
            }
        }
        let mut length = self.dotted().max(self.joined());
        let letters = self.run(0, is_letter);
        if letters == length {
            if matches!(self.peek(length - 1), 'n' | 'N') && self.negation(length) {
                return self.negated(length);
            }
            let split = CONTRACTIONS
                .iter()
                .find(|(a, b)| length == a.len() + b.len() && self.ahead_is(0, a) && self.ahead_is(a.len(), b));
            if let Some((first, second)) = split {
                self.take(first.len());
                return self.take(second.len());
            }
        }
        if self.peek(length) == '.' && self.keeps_period(length, letters == length) {
            length += 1;
        }
        self.take(length);
    }

    /// Whether `'t` follows a word that ends in n.
    fn negation(&self, length: usize) -> bool {
        self.ahead_is(length, "'t") && !is_letter(self.peek(length + 2)) && !is_digit(self.peek(length + 2))
    }

    fn negated(&mut self, length: usize) {
        if length > 1 {
            self.take(length - 1);
        }
        self.take(3);
    }

    /// `AT&T`, `C++`, `US$`.
    fn with_symbols(&self) -> usize {
        let capitals = self.run(0, |c| c.is_ascii_uppercase());
        let mut end = capitals;
        while end > 0 && matches!(self.peek(end), '&' | '+') && self.peek(end + 1).is_ascii_uppercase() {
            end += 1 + self.run(end + 1, |c| c.is_ascii_uppercase());
        }
        if end > capitals {
            return end;
        }
        match self.peek(0) {
            'c' | 'C' if self.ahead_is(1, "++") => return 3,
            'c' | 'C' | 'f' | 'F' if self.peek(1) == '#' => return 2,
            _ => {}
        }
        let dollar = ["US$", "HK$", "NZ$", "A$", "C$"]
            .into_iter()
            .find(|name| capitals + 1 == name.len() && name.chars().enumerate().all(|(i, c)| self.peek(i) == c));
        dollar.map_or(0, str::len)
    }

    /// `U.S.`, `a.m.`, `Ph.D.`, perhaps with a word after a hyphen.
    fn acronym(&self) -> usize {
        let doctor = self.ahead_is(0, "ph.d.");
        let mut end = if doctor { 5 } else { 0 };
        while !doctor && self.peek(end).is_ascii_alphabetic() && self.peek(end + 1) == '.' {
            end += 2;
        }
        // One letter is an initial, not an acronym.
        if end < 4 || is_letter(self.peek(end)) && !doctor {
            return 0;
        }
        if self.peek(end) == '-' && is_letter(self.peek(end + 1)) {
            return end + 1 + self.run(end + 1, is_letter);
        }
        end
    }

    /// `o'clock`, `O'Neil`, `d'ye`, `ma'am`.
    fn with_apostrophe(&self) -> usize {
        if let Some(word) = WHOLE.iter().find(|word| self.ahead_is(0, word) && !is_letter(self.peek(word.len()))) {
            return word.len();
        }
        let tail = |from: usize| from + self.run(from, |c| c.is_ascii_alphabetic());
        if self.ahead_is(0, "o'clock") {
            let end = tail(2);
            return if self.peek(end) == '-' && is_letter(self.peek(end + 1)) { tail(end + 1) } else { end };
        }
        if self.peek(1) != '\'' || !self.peek(2).is_ascii_alphabetic() {
            return 0;
        }
        let letters = tail(2) - 2;
        match self.peek(0) {
            'd' | 'D' | 'l' | 'L' | 'j' | 'J' if letters > 1 => tail(2),
            'A'..='H' | 'J'..='X' | 'Z' | 'n' if letters > 1 && !self.is_clitic(1) => tail(2),
            _ => 0,
        }
    }

    fn is_clitic(&self, at: usize) -> bool {
        ["'ll", "'re", "'ve"].iter().any(|word| self.ahead_is(at, word) && !is_letter(self.peek(at + 3)))
    }

    /// `dog.cat`, `wait!what`: words that one mark joins.
    fn dotted(&self) -> usize {
        let part = |c: char| c.is_ascii_alphanumeric();
        let mut end = self.run(0, part);
        if !self.peek(0).is_ascii_alphabetic() {
            return 0;
        }
        let mut parts = 1;
        while matches!(self.peek(end), '.' | '?' | '!') && self.peek(end + 1).is_ascii_alphabetic() {
            end += 1 + self.run(end + 1, part);
            parts += 1;
        }
        if parts > 1 { end } else { 0 }
    }

    /// Letters and digits with single hyphens, underscores and slashes between them.
    fn joined(&self) -> usize {
        let part = |c: char| is_letter(c) || is_digit(c);
        let mut end = self.run(0, part);
        loop {
            if self.ahead_is(end, "-o'clock") {
                return end + 8;
            }
            let joint = matches!(self.peek(end), '-' | '_' | '/' | '\u{2010}' | '\u{2011}');
            if !joint || !part(self.peek(end + 1)) {
                return end;
            }
            end += 1 + self.run(end + 1, part);
        }
    }

    /// Whether one of the sentence starters follows after spaces.
    fn sentence_starts(&self, at: usize) -> bool {
        let start = at + self.run(at, char::is_whitespace);
        let length = self.run(start, char::is_alphabetic);
        let word = self.text[(self.at + start).min(self.text.len())..].iter().take(length);
        let word = word.collect::<String>().to_lowercase();
        start > at
            && self.peek(start).is_uppercase()
            && (self.peek(start + length).is_whitespace() || self.peek(start + length) == '\0')
            && STARTERS.binary_search(&word.as_str()).is_ok()
    }

    /// Whether the period after a word belongs to it.
    fn keeps_period(&self, length: usize, letters: bool) -> bool {
        let after = self.peek(length + 1);
        if matches!(after, ',' | ';' | ':') {
            return true;
        }
        if !letters {
            return false;
        }
        if length == 1 {
            return !self.sentence_starts(length + 1);
        }
        let word: String = self.text[self.at..self.at + length].iter().collect::<String>().to_lowercase();
        let word = word.as_str();
        let spaces = self.run(length + 1, char::is_whitespace);
        ABBREVIATIONS.binary_search(&word).is_ok()
            || CAPITAL_ABBREVIATIONS.contains(&word) && self.peek(0).is_uppercase()
            || NUMBER_ABBREVIATIONS.contains(&word) && is_digit(self.peek(length + 1 + spaces))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lists_are_sorted() {
        assert!(super::ABBREVIATIONS.is_sorted());
        assert!(super::STARTERS.is_sorted());
    }
}
