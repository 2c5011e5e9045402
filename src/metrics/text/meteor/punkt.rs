//! Sentence boundaries after Kiss and Strunk (2006), "Unsupervised Multilingual Sentence Boundary Detection", as NLTK's
//! `PunktTokenizer("english")` decides them, with its parameters (`assets/language/pack.py` packs them).
//!
//! Source of the details: <https://github.com/nltk/nltk/blob/develop/nltk/tokenize/punkt.py>.

use std::io::Read;
use std::ops::Range;
use std::sync::OnceLock;

use flate2::read::DeflateDecoder;
use regex_syntax::is_word_character;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::metrics::text::corpus::is_python_space;

static PACKED: &[u8] = include_bytes!("../../../../assets/language/punkt-english.bin");

/// Flags of a word's orthographic contexts: seen sentence-internally with upper case, at a sentence start with lower
/// case, anywhere with upper and with lower case.
const INTERNAL_UPPER: u32 = 1 << 2;
const INITIAL_LOWER: u32 = 1 << 4;
const UPPER: u32 = 1 << 1 | 1 << 2 | 1 << 3;
const LOWER: u32 = 1 << 4 | 1 << 5 | 1 << 6;

/// The trained parameters.
struct Parameters {
    abbreviations: FxHashSet<String>,
    starters: FxHashSet<String>,
    collocations: FxHashSet<(String, String)>,
    contexts: FxHashMap<String, u32>,
}

impl Parameters {
    fn embedded() -> &'static Parameters {
        static PARAMETERS: OnceLock<Parameters> = OnceLock::new();
        PARAMETERS.get_or_init(|| {
            let mut text = String::new();
            let read = DeflateDecoder::new(PACKED).read_to_string(&mut text);
            // The file is part of the program: a test unpacks it, so this cannot fail for a user.
            assert!(read.is_ok(), "the embedded Punkt parameters are damaged");
            let mut blocks = text.split("\n\n").map(str::lines);
            let mut block = || blocks.next().into_iter().flatten();
            Parameters {
                abbreviations: block().map(str::to_owned).collect(),
                starters: block().map(str::to_owned).collect(),
                collocations: block()
                    .filter_map(|line| line.split_once('\t'))
                    .map(|(first, second)| (first.to_owned(), second.to_owned()))
                    .collect(),
                contexts: block()
                    .filter_map(|line| line.split_once('\t'))
                    .filter_map(|(word, flags)| Some((word.to_owned(), flags.parse().ok()?)))
                    .collect(),
            }
        })
    }
}

/// Where the sentences of a text are, in characters.
pub fn sentences(text: &[char]) -> Vec<Range<usize>> {
    let end = text.len() - text.iter().rev().take_while(|c| is_python_space(**c)).count();
    let mut slices = Vec::new();
    let mut last_break = 0;
    for (candidate, word) in candidates(text) {
        let mut context = text[word].to_vec();
        context.extend_from_slice(&text[candidate.at..candidate.end]);
        if contains_break(&context) {
            slices.push(last_break..candidate.at + 1);
            last_break = candidate.next;
        }
    }
    slices.push(last_break..end.max(last_break));
    realign(text, &slices)
}

/// A `.`, `?` or `!` that may end a sentence.
#[derive(Clone, Copy)]
struct Candidate {
    at: usize,
    /// The end of the token after it.
    end: usize,
    /// Where the next sentence begins if this one ends here.
    next: usize,
}

fn candidate(text: &[char], at: usize) -> Option<Candidate> {
    if !matches!(text[at], '.' | '?' | '!') {
        return None;
    }
    let after = *text.get(at + 1)?;
    if is_non_word(after) {
        return Some(Candidate { at, end: at + 2, next: at + 1 });
    }
    let spaces = text[at + 1..].iter().take_while(|c| c.is_whitespace()).count();
    let next = at + 1 + spaces;
    let token = text[next..].iter().take_while(|c| !c.is_whitespace()).count();
    (spaces > 0 && token > 0).then_some(Candidate { at, end: next + token, next })
}

/// The candidates, each with the word before it; of several that end the same word, the last one.
fn candidates(text: &[char]) -> Vec<(Candidate, Range<usize>)> {
    let mut found: Vec<(Candidate, Range<usize>)> = Vec::new();
    let mut previous: Option<(Candidate, Range<usize>)> = None;
    for candidate in (0..text.len()).filter_map(|at| candidate(text, at)) {
        let stop = previous.as_ref().map_or(0, |(_, word)| word.end);
        let start = previous.as_ref().map_or(0, |(_, word)| word.start);
        let before = &text[stop..candidate.at];
        // A space at the very first place counts as none: so the original has it.
        let word = match before.iter().rposition(|c| matches!(c, ' ' | '\t'..='\r')) {
            Some(space) if space > 0 => stop + space + 1,
            _ => start,
        };
        found.extend(previous.take().filter(|(_, last)| last.end <= word));
        previous = Some((candidate, word..candidate.at));
    }
    found.extend(previous);
    found
}

/// Moves closing quotes and brackets from the start of a sentence to the end of the one before.
fn realign(text: &[char], slices: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut sentences = Vec::with_capacity(slices.len());
    let mut moved = 0;
    for (number, slice) in slices.iter().enumerate() {
        let start = slice.start + moved;
        moved = 0;
        if let Some(next) = slices.get(number + 1)
            && let Some((closers, end)) = closing(&text[next.clone()])
        {
            sentences.push(start..next.start + closers);
            moved = end;
        } else if start < slice.end {
            sentences.push(start..slice.end);
        }
    }
    sentences
}

/// The fewest closing marks at the start of a sentence that a space, a double dash or a line's end follows:
/// their number, and where the spaces after them end.
fn closing(sentence: &[char]) -> Option<(usize, usize)> {
    for (at, c) in sentence.iter().enumerate() {
        if !matches!(c, '"' | '\'' | ')' | ']' | '}' | '‘' | '’' | '“' | '”' | '«' | '»') {
            return None;
        }
        let rest = &sentence[at + 1..];
        let spaces = rest.iter().take_while(|c| c.is_whitespace()).count();
        if spaces > 0 || rest.is_empty() || rest.starts_with(&['-', '-']) {
            return Some((at + 1, at + 1 + spaces));
        }
    }
    None
}

/// Characters that cannot appear within words.
fn is_non_word(c: char) -> bool {
    matches!(
        c,
        ')' | '"'
            | ';'
            | '}'
            | ']'
            | '*'
            | ':'
            | '@'
            | '\''
            | '('
            | '{'
            | '['
            | '‘'
            | '’'
            | '“'
            | '”'
            | '«'
            | '»'
            | '?'
            | '!'
    )
}

/// The length of a run of dashes or dots, or of spaced dots, at the start.
fn multi_char(text: &[char]) -> usize {
    let run = |c: char| text.iter().take_while(|t| **t == c).count();
    let run = run('-').max(run('.'));
    if run >= 2 {
        return run;
    }
    let pairs = text.chunks_exact(2).take_while(|pair| pair[0] == '.' && pair[1].is_whitespace()).count();
    // The last dot follows the pairs, or is that of the last pair.
    let pairs = if text.get(2 * pairs) == Some(&'.') { pairs } else { pairs.saturating_sub(1) };
    if pairs >= 2 { 2 * pairs + 1 } else { 0 }
}

struct Token {
    text: String,
    /// The lower-case word; `##number##` for numbers.
    kind: String,
    ends_sentence: bool,
    abbreviation: bool,
    ellipsis: bool,
}

impl Token {
    /// A token with what its form alone says of it.
    fn new(chars: &[char], parameters: &Parameters) -> Token {
        let text: String = chars.iter().collect();
        let lower = text.to_lowercase();
        let mut token = Token {
            kind: if is_number(&lower) { "##number##".to_owned() } else { lower },
            ends_sentence: false,
            abbreviation: false,
            ellipsis: false,
            text,
        };
        if matches!(token.text.as_str(), "." | "?" | "!") {
            token.ends_sentence = true;
        } else if token.text.len() > 1 && token.text.bytes().all(|b| b == b'.') {
            token.ellipsis = true;
        } else if token.text.ends_with('.') && !token.text.ends_with("..") {
            let word = token.text[..token.text.len() - 1].to_lowercase();
            let last = word.rsplit('-').next().unwrap_or_default();
            token.abbreviation = parameters.abbreviations.contains(&word) || parameters.abbreviations.contains(last);
            token.ends_sentence = !token.abbreviation;
        }
        token
    }

    fn kind_without_period(&self) -> &str {
        match self.kind.strip_suffix('.') {
            Some(kind) if !kind.is_empty() => kind,
            _ => &self.kind,
        }
    }

    fn kind_without_final_period(&self) -> &str {
        if self.ends_sentence { self.kind_without_period() } else { &self.kind }
    }

    fn starts(&self, case: fn(char) -> bool) -> bool {
        self.text.chars().next().is_some_and(case)
    }

    fn is_initial(&self) -> bool {
        let mut chars = self.text.chars();
        let letter = chars.next().is_some_and(|c| is_word_character(c) && !is_digit(c));
        letter && chars.as_str() == "."
    }

    /// Whether this token starts a sentence, if its case tells.
    fn is_starter(&self, parameters: &Parameters) -> Option<bool> {
        if matches!(self.text.as_str(), ";" | ":" | "," | "." | "!" | "?") {
            return Some(false);
        }
        let seen = parameters.contexts.get(self.kind_without_final_period()).copied().unwrap_or(0);
        if self.starts(char::is_uppercase) && seen & LOWER != 0 && seen & INTERNAL_UPPER == 0 {
            return Some(true);
        }
        let internal = seen & UPPER != 0 || seen & INITIAL_LOWER == 0;
        (self.starts(char::is_lowercase) && internal).then_some(false)
    }
}

/// A decimal digit of any script.
fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || !c.is_ascii() && c.is_numeric() && is_word_character(c) && !c.is_alphabetic()
}

/// `-?[.,]?\d[\d,.-]*`
fn is_number(word: &str) -> bool {
    let word = word.strip_prefix('-').unwrap_or(word);
    let word = word.strip_prefix(['.', ',']).unwrap_or(word);
    word.starts_with(is_digit) && word.chars().all(|c| is_digit(c) || matches!(c, ',' | '.' | '-'))
}

/// Whether a token that ends a sentence is followed by another one.
fn contains_break(context: &[char]) -> bool {
    let parameters = Parameters::embedded();
    let mut tokens: Vec<Token> = Vec::new();
    for line in context.split(|c| *c == '\n') {
        let mut at = 0;
        while at < line.len() {
            let length = token_length(&line[at..]);
            if !line[at].is_whitespace() {
                tokens.push(Token::new(&line[at..at + length], parameters));
            }
            at += length;
        }
    }
    for second in 1..tokens.len() {
        let (before, after) = tokens.split_at_mut(second);
        decide(&mut before[second - 1], &after[0], parameters);
    }
    tokens.iter().rev().skip(1).any(|token| token.ends_sentence)
}

fn token_length(line: &[char]) -> usize {
    let multi = multi_char(line);
    if multi > 0 {
        return multi;
    }
    let first = line[0];
    let starts_no_word =
        matches!(first, '(' | '"' | '`' | '{' | '[' | ':' | ';' | '&' | '#' | '*' | '@' | ')' | '}' | ']' | '-' | ',');
    if first.is_whitespace() || starts_no_word {
        return 1;
    }
    let ends =
        |rest: &[char]| rest.first().is_none_or(|c| c.is_whitespace() || is_non_word(*c) || multi_char(rest) > 0);
    (1..line.len()).find(|at| ends(&line[*at..]) || line[*at] == ',' && ends(&line[at + 1..])).unwrap_or(line.len())
}

/// Looks again at a token that ends in a period, knowing the next one.
fn decide(token: &mut Token, next: &Token, parameters: &Parameters) {
    if !token.text.ends_with('.') {
        return;
    }
    let kind = token.kind_without_period().to_owned();
    let next_kind = next.kind_without_final_period();
    let initial = token.is_initial();
    if parameters.collocations.contains(&(kind.clone(), next_kind.to_owned())) {
        token.ends_sentence = false;
        token.abbreviation = true;
        return;
    }
    let starter = next.is_starter(parameters);
    let upper = next.starts(char::is_uppercase);
    let begins = starter == Some(true) || upper && parameters.starters.contains(next_kind);
    if (token.abbreviation || token.ellipsis) && !initial && begins {
        token.ends_sentence = true;
        return;
    }
    if initial || kind == "##number##" {
        let never_lower = parameters.contexts.get(next_kind).copied().unwrap_or(0) & LOWER == 0;
        if starter == Some(false) || starter.is_none() && initial && upper && never_lower {
            token.ends_sentence = false;
            token.abbreviation = true;
        }
    }
}
