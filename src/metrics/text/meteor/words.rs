//! NLTK's `word_tokenize`: Punkt sentences, then the Treebank-style `NLTKWordTokenizer`.
//!
//! Source of the rules: <https://github.com/nltk/nltk/blob/develop/nltk/tokenize/destructive.py>. Each step rewrites the
//! text so that the splits become spaces; the steps' order matters.

use regex_syntax::is_word_character;

use super::punkt;
use crate::metrics::text::corpus::is_python_space;

/// Words that are split in two.
const CONTRACTIONS: [(&str, &str); 8] = [
    ("can", "not"),
    ("d", "'ye"),
    ("gim", "me"),
    ("gon", "na"),
    ("got", "ta"),
    ("lem", "me"),
    ("more", "'n"),
    ("wan", "na"),
];

/// The tokens of a text, with one space between them. Tokens hold no spaces.
pub fn word_tokenize(text: &str) -> String {
    let mut tokens = String::with_capacity(text.len() + 16);
    if !tokenize_plain(text, &mut tokens) {
        tokens.clear();
        tokenize_any(text, &mut tokens);
    }
    tokens
}

fn push(tokens: &mut String, token: &str) {
    if !tokens.is_empty() {
        tokens.push(' ');
    }
    tokens.push_str(token);
}

/// Most captions: ASCII letters, digits and spaces, with or without a period at the end. False for others.
fn tokenize_plain(text: &str, tokens: &mut String) -> bool {
    let text = text.trim_matches(' ');
    let (body, period) = match text.strip_suffix('.') {
        Some(body) => (body, true),
        None => (text, false),
    };
    if !body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ') || period && body.is_empty() {
        return false;
    }
    for word in body.split(' ').filter(|word| !word.is_empty()) {
        // Only words of five or six letters are split.
        let split = if matches!(word.len(), 5 | 6) {
            CONTRACTIONS.iter().find(|(a, b)| {
                word.len() == a.len() + b.len()
                    && word[..a.len()].eq_ignore_ascii_case(a)
                    && word[a.len()..].eq_ignore_ascii_case(b)
            })
        } else {
            None
        };
        match split {
            Some((first, _)) => {
                push(tokens, &word[..first.len()]);
                push(tokens, &word[first.len()..]);
            }
            None => push(tokens, word),
        }
    }
    if period {
        push(tokens, ".");
    }
    true
}

fn tokenize_any(text: &str, tokens: &mut String) {
    let text: Vec<char> = text.chars().collect();
    for sentence in punkt::sentences(&text) {
        let mut sentence = Rewriter { text: text[sentence].to_vec(), scratch: Vec::new() };
        starting_quotes(&mut sentence);
        punctuation(&mut sentence);
        ending_quotes(&mut sentence);
        contractions(&mut sentence);
        for token in sentence.text.split(|c| is_python_space(*c)).filter(|token| !token.is_empty()) {
            if !tokens.is_empty() {
                tokens.push(' ');
            }
            tokens.extend(token);
        }
    }
}

/// A text that is rewritten from left to right, again and again.
struct Rewriter {
    text: Vec<char>,
    scratch: Vec<char>,
}

impl Rewriter {
    /// At each place `rule` either writes a replacement and says how many characters it stands for, or says 0.
    fn rewrite(&mut self, mut rule: impl FnMut(&[char], usize, &mut Vec<char>) -> usize) {
        self.scratch.clear();
        let mut at = 0;
        while at < self.text.len() {
            match rule(&self.text, at, &mut self.scratch) {
                0 => {
                    self.scratch.push(self.text[at]);
                    at += 1;
                }
                consumed => at += consumed,
            }
        }
        std::mem::swap(&mut self.text, &mut self.scratch);
    }

    /// Puts spaces around every character that is `wanted`.
    fn pad(&mut self, wanted: impl Fn(char) -> bool) {
        if self.text.iter().any(|c| wanted(*c)) {
            self.rewrite(|text, at, out| {
                let found = wanted(text[at]);
                if found {
                    out.extend([' ', text[at], ' ']);
                }
                usize::from(found)
            });
        }
    }

    fn replace(&mut self, from: &str, to: &str) {
        self.rewrite(|text, at, out| {
            let found = starts_with(&text[at..], from);
            if found {
                out.extend(to.chars());
            }
            if found { from.chars().count() } else { 0 }
        });
    }

    /// Puts spaces around every run of at least `least` times `c`.
    fn pad_runs(&mut self, c: char, least: usize) {
        self.rewrite(|text, at, out| {
            let run = text[at..].iter().take_while(|t| **t == c).count();
            if run < least {
                // A run that is too short is copied as a whole, so that its tail is not looked at again.
                out.extend_from_slice(&text[at..at + run]);
                return run;
            }
            out.push(' ');
            out.extend_from_slice(&text[at..at + run]);
            out.push(' ');
            run
        });
    }

    /// Splits off the last period if only `closing` characters and spaces follow it.
    fn split_final_period(&mut self, closing: fn(char) -> bool, spaced: bool) {
        let Some(period) = self.text.iter().rposition(|c| *c == '.') else { return };
        if period == 0 || self.text[period - 1] == '.' {
            return;
        }
        let after = &self.text[period + 1..];
        let closers = after.iter().take_while(|c| closing(**c)).count();
        if !after[closers..].iter().all(|c| c.is_whitespace()) {
            return;
        }
        let closers = after[..closers].to_vec();
        self.text.truncate(period);
        self.text.extend([' ', '.']);
        self.text.extend(spaced.then_some(' '));
        self.text.extend(closers);
        self.text.push(' ');
    }
}

fn starts_with(text: &[char], prefix: &str) -> bool {
    let mut rest = text.iter();
    prefix.chars().all(|c| rest.next() == Some(&c))
}

fn starts_with_any_case(text: &[char], prefix: &str) -> bool {
    let mut rest = text.iter();
    prefix.chars().all(|c| rest.next().is_some_and(|t| t.eq_ignore_ascii_case(&c)))
}

/// What counts as part of a word in the contraction rules.
fn is_word(c: Option<&char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || *c == '_')
}

fn starting_quotes(sentence: &mut Rewriter) {
    sentence.pad(|c| matches!(c, '«' | '“' | '‘' | '„'));
    sentence.pad_runs('`', 1);
    if sentence.text.first() == Some(&'"') {
        sentence.text.splice(..1, ['`', '`']);
    }
    sentence.replace("``", " `` ");
    sentence.rewrite(|text, at, out| {
        if !matches!(text[at], ' ' | '(' | '[' | '{' | '<') {
            return 0;
        }
        let quote = match text.get(at + 1) {
            Some('"') => 1,
            Some('\'') if text.get(at + 2) == Some(&'\'') => 2,
            _ => return 0,
        };
        out.extend([text[at], ' ', '`', '`', ' ']);
        1 + quote
    });
    sentence.rewrite(|text, at, out| {
        let opens = text[at] == '\''
            && !(at > 0 && is_word_character(text[at - 1]))
            && text.get(at + 1).is_some_and(|c| is_word_character(*c))
            && !is_clitic(&text[at + 1..]);
        if opens {
            out.extend(['\'', ' ']);
        }
        usize::from(opens)
    });
}

fn is_clitic(text: &[char]) -> bool {
    ["re", "ve", "ll", "m", "t", "s", "d", "n"].into_iter().any(|clitic| {
        starts_with_any_case(text, clitic) && !text.get(clitic.len()).is_some_and(|c| is_word_character(*c))
    })
}

fn punctuation(sentence: &mut Rewriter) {
    sentence.split_final_period(|c| matches!(c, ']' | ')' | '}' | '>' | '"' | '\'' | '»' | '”' | '’' | ' '), true);
    sentence.rewrite(|text, at, out| {
        if !matches!(text[at], ':' | ',') {
            return 0;
        }
        match text.get(at + 1) {
            Some(after) if !is_decimal(*after) => {
                out.extend([' ', text[at], ' ', *after]);
                2
            }
            _ => 0,
        }
    });
    // A last colon or comma; a line's end after it was met above.
    if let Some(last @ (':' | ',')) = sentence.text.last().copied() {
        sentence.text.pop();
        sentence.text.extend([' ', last, ' ']);
    }
    sentence.pad_runs('.', 2);
    sentence.pad(|c| matches!(c, ';' | '@' | '#' | '$' | '%' | '&'));
    sentence.pad(|c| ('\u{2012}'..='\u{2015}').contains(&c));
    sentence.split_final_period(|c| matches!(c, ']' | ')' | '}' | '>' | '"' | '\''), false);
    sentence.pad(|c| matches!(c, '?' | '!'));
    sentence.rewrite(|text, at, out| {
        let found = text[at] != '\'' && starts_with(&text[at + 1..], "' ");
        if found {
            out.extend([text[at], ' ', '\'', ' ']);
        }
        if found { 3 } else { 0 }
    });
    sentence.pad(|c| c == '*');
    sentence.pad(|c| matches!(c, ']' | '[' | '(' | ')' | '{' | '}' | '<' | '>'));
    sentence.replace("--", " -- ");
}

fn is_decimal(c: char) -> bool {
    c.is_ascii_digit() || !c.is_ascii() && c.is_numeric() && is_word_character(c) && !c.is_alphabetic()
}

fn ending_quotes(sentence: &mut Rewriter) {
    sentence.text.insert(0, ' ');
    sentence.text.push(' ');
    sentence.pad(|c| matches!(c, '»' | '”' | '’'));
    sentence.replace("''", " '' ");
    sentence.replace("\"", " '' ");
    let mut space = false;
    sentence.text.retain_mut(|c| {
        let again = space && c.is_whitespace();
        space = c.is_whitespace();
        if space {
            *c = ' ';
        }
        !again
    });
    split_clitics(sentence, &["'s", "'S", "'m", "'M", "'d", "'D", "'"]);
    split_clitics(sentence, &["'ll", "'LL", "'re", "'RE", "'ve", "'VE", "n't", "N'T"]);
}

/// Splits a clitic from the word before it when a space follows.
fn split_clitics(sentence: &mut Rewriter, clitics: &[&str]) {
    if !sentence.text.contains(&'\'') {
        return;
    }
    sentence.rewrite(|text, at, out| {
        if matches!(text[at], '\'' | ' ') {
            return 0;
        }
        let rest = &text[at + 1..];
        let found = clitics.iter().find(|clitic| starts_with(rest, clitic) && rest.get(clitic.len()) == Some(&' '));
        let Some(clitic) = found else { return 0 };
        out.extend([text[at], ' ']);
        out.extend(clitic.chars());
        out.push(' ');
        clitic.len() + 2
    });
}

fn contractions(sentence: &mut Rewriter) {
    for (first, second) in CONTRACTIONS {
        sentence.rewrite(|text, at, out| {
            let (middle, end) = (at + first.len(), at + first.len() + second.len());
            let found = starts_with_any_case(&text[at..], first)
                && starts_with_any_case(&text[middle..], second)
                && !(at > 0 && is_word(text.get(at - 1)))
                && if first == "wan" {
                    text.get(end).is_some_and(|c| is_python_space(*c))
                } else {
                    !is_word(text.get(end))
                };
            if !found {
                return 0;
            }
            out.push(' ');
            out.extend_from_slice(&text[at..middle]);
            out.push(' ');
            out.extend_from_slice(&text[middle..end]);
            out.push(' ');
            end - at
        });
    }
    for rest in ["is", "was"] {
        sentence.rewrite(|text, at, out| {
            let end = at + 3 + rest.len();
            let found = starts_with_any_case(&text[at..], " 't")
                && starts_with_any_case(&text[at + 3..], rest)
                && !is_word(text.get(end));
            if !found {
                return 0;
            }
            out.push(' ');
            out.extend_from_slice(&text[at + 1..at + 3]);
            out.push(' ');
            out.extend_from_slice(&text[at + 3..end]);
            out.push(' ');
            end - at
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_short_way_gives_what_the_rules_give(text in "( ?(cannot|Gonna|wanna|GIMME|dog|a|X9|lemmes|gotta)){0,6} ?\\.? ?") {
            let (mut plain, mut any) = (String::new(), String::new());
            prop_assume!(tokenize_plain(&text, &mut plain));
            tokenize_any(&text, &mut any);
            prop_assert_eq!(plain, any);
        }
    }
}
