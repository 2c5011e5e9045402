//! Penn-Treebank-style tokens as the COCO caption evaluation makes them: Stanford's `PTBTokenizer` (CoreNLP 3.4.1, options
//! `preserveLines` and `lowerCase`), less the punctuation that `pycocoevalcap` drops.
//!
//! The rules here were written from the observed output of that tokenizer and are compared with it on hundreds of captions.
//! They cover what captions hold: words, contractions, abbreviations, acronyms, numbers, fractions, times, prices,
//! hyphens, quotes, brackets, tags, addresses and smileys. Telephone numbers in brackets, letters spaced out, and other
//! rarities of running text may be split differently.
//!
//! The original reads all captions as one text, so that what follows an initial or "no." can be the next caption; here each
//! caption is read alone, and its tokens do not depend on its neighbours.
//!
//! Brackets stay, as `-lrb-` and so on: the list of what is dropped has them in capitals, after lower-casing.

mod words;

/// The tokens of a caption, lower-case, with one space between them, without punctuation.
pub fn tokenize_caption(text: &str) -> String {
    // The typographic apostrophe is the plain one.
    let text: Vec<char> = text.chars().map(|c| if c == '’' { '\'' } else { c }).collect();
    let mut scanner = Scanner { text: &text, at: 0, tokens: String::with_capacity(text.len() + 8) };
    while scanner.at < text.len() {
        scanner.next();
    }
    scanner.tokens
}

/// Reads a caption from left to right.
struct Scanner<'a> {
    text: &'a [char],
    at: usize,
    tokens: String,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn before(&self) -> char {
        if self.at == 0 { '\0' } else { self.text[self.at - 1] }
    }

    /// How many characters from `ahead` on are `wanted`.
    fn run(&self, ahead: usize, wanted: impl Fn(char) -> bool) -> usize {
        self.text[(self.at + ahead).min(self.text.len())..].iter().take_while(|c| wanted(**c)).count()
    }

    /// Whether the text goes on like this, whatever its case.
    fn ahead_is(&self, ahead: usize, wanted: &str) -> bool {
        wanted.chars().enumerate().all(|(i, c)| self.peek(ahead + i).eq_ignore_ascii_case(&c))
    }

    fn push(&mut self, token: &str) {
        if !self.tokens.is_empty() {
            self.tokens.push(' ');
        }
        self.tokens.push_str(token);
    }

    /// Takes the next characters as one token.
    fn take(&mut self, length: usize) {
        let token: String = self.text[self.at..self.at + length].iter().collect();
        self.push(&token.to_lowercase());
        self.at += length;
    }

    fn next(&mut self) {
        let c = self.peek(0);
        if c.is_whitespace() || c.is_control() || is_invisible(c) || c > '\u{ffff}' {
            self.at += 1;
        } else if let length @ 1.. = self.address() {
            self.take(length);
        } else if let length @ 1.. = self.smiley() {
            self.take_brackets(length);
        } else if let length @ 1.. = self.number() {
            self.take(length);
        } else if is_letter(c) || is_digit(c) {
            self.word();
        } else if c == '\'' {
            self.apostrophe();
        } else {
            self.symbol(c);
        }
    }

    /// A web or mail address, a tag, a handle.
    fn address(&self) -> usize {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        match self.peek(0) {
            '<' if matches!(self.peek(1), '/' | '!' | '?') || self.peek(1).is_ascii_alphabetic() => {
                let inside = self.run(1, |c| !matches!(c, '<' | '>'));
                if self.peek(1 + inside) == '>' { inside + 2 } else { 0 }
            }
            '@' | '#' if letter(self.peek(1)) => 1 + self.run(1, letter),
            c if c.is_ascii_alphanumeric() && !is_letter(self.before()) => self.host_address(),
            _ => 0,
        }
    }

    /// `http://x.y/z`, `www.x.y`, `x@y.z`, `x.org/y`; closing punctuation is no part of it.
    fn host_address(&self) -> usize {
        let mut end = self.run(0, |c| !c.is_whitespace() && !matches!(c, '"' | '<' | '>' | '|' | '(' | ')'));
        while end > 0 && matches!(self.peek(end - 1), '.' | ',' | '!' | '?' | ';' | ':' | '\'' | '-') {
            end -= 1;
        }
        if ["http://", "https://", "www."].iter().any(|start| self.ahead_is(0, start)) {
            return end;
        }
        let name = self.run(0, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-'));
        if self.peek(name) == '@' {
            let host = self.run(name + 1, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
            let end = end.min(name + 1 + host);
            return if (name + 1..end).any(|at| self.peek(at) == '.') { end } else { 0 };
        }
        let site = self.run(0, |c| c.is_ascii_alphanumeric() || c == '.');
        let site_is = |ending: &str| site > ending.len() && self.ahead_is(site - ending.len(), ending);
        let known = [".com", ".net", ".org", ".edu"].into_iter().any(site_is);
        if known && self.peek(site) == '/' { end } else { 0 }
    }

    /// `:)`, `;-D` and their like, if no letter follows.
    fn smiley(&self) -> usize {
        if !matches!(self.peek(0), ':' | ';' | '=') {
            return 0;
        }
        let nose = usize::from(matches!(self.peek(1), '-' | 'o' | '*' | '\''));
        let mouth = |at: usize| matches!(self.peek(at), '(' | ')' | 'D' | 'P' | 'd' | 'p' | 'O' | '\\' | '{' | '@');
        let length = if mouth(1 + nose) { nose + 2 } else { return 0 };
        if self.peek(length).is_ascii_alphabetic() { 0 } else { length }
    }

    fn take_brackets(&mut self, length: usize) {
        let token: String = self.text[self.at..self.at + length].iter().collect();
        self.push(&token.replace('(', "-lrb-").replace(')', "-rrb-").replace('{', "-lcb-").to_lowercase());
        self.at += length;
    }

    /// A number with its separators, or a fraction; 0 when it goes on as a word ("3d", "6-year-old").
    fn number(&self) -> usize {
        let sign = usize::from(matches!(self.peek(0), '-' | '+') && self.before() != '-');
        let mut end = sign + self.run(sign, is_digit);
        let whole = end - sign;
        let mut clock = false;
        while matches!(self.peek(end), '.' | ',' | ':') && is_digit(self.peek(end + 1)) {
            clock |= self.peek(end) == ':';
            end += 1 + self.run(end + 1, is_digit);
        }
        if end == sign {
            return 0;
        }
        let fraction = self.fraction(sign, whole);
        if fraction > 0 {
            return fraction;
        }
        let separated = end > sign + whole;
        if separated && !clock && self.peek(end) == '-' && is_letter(self.peek(end + 1)) {
            return end + 1 + self.run(end + 1, |c| is_letter(c) || is_digit(c));
        }
        if !separated && sign == 0 && self.goes_on(end) {
            return 0;
        }
        // "dog., cat" keeps the dot: so the original has it.
        let dot = self.peek(end) == '.' && matches!(self.peek(end + 1), ',' | ';' | ':');
        end + usize::from(dot)
    }

    /// `1/2`, `2-1/2`, `01/02/2003`, perhaps with a word after a hyphen.
    fn fraction(&self, sign: usize, whole: usize) -> usize {
        let mut slash = sign + whole;
        if self.peek(slash) == '-' && self.peek(slash + 1 + self.run(slash + 1, is_digit)) == '/' {
            slash += 1 + self.run(slash + 1, is_digit);
        }
        let lower = self.run(slash + 1, is_digit);
        if whole == 0 || self.peek(slash) != '/' || lower == 0 || is_letter(self.peek(slash + 1 + lower)) {
            return 0;
        }
        let end = slash + 1 + lower;
        let year = self.run(end + 1, is_digit);
        if self.peek(end) == '/' && matches!(year, 1..=4) && whole <= 2 && lower <= 2 {
            return end + 1 + year;
        }
        if self.peek(end) == '-' && is_letter(self.peek(end + 1)) {
            return end + 1 + self.run(end + 1, is_letter);
        }
        end
    }

    /// Whether what ends here is joined to more letters or digits.
    fn goes_on(&self, end: usize) -> bool {
        let next = self.peek(end);
        let inside = |c: char| is_letter(c) || is_digit(c);
        is_letter(next) || matches!(next, '-' | '_' | '/' | '\u{2010}' | '\u{2011}') && inside(self.peek(end + 1))
    }

    /// A quote, or the start of a clitic or of a shortened word.
    fn apostrophe(&mut self) {
        let ends = |length: usize| !is_letter(self.peek(length)) && !is_digit(self.peek(length));
        let clitic = ["'s", "'m", "'d", "'ll", "'re", "'ve"];
        let shortened = ["'em", "'n", "'cause", "'till", "'til"];
        let inside = is_letter(self.before()) || is_digit(self.before());
        let found = |word: &&&str| self.ahead_is(0, word) && ends(word.len());
        let decade = matches!(self.peek(1), '2'..='9') && self.peek(2) == '0' && self.peek(3) == 's' && ends(4);
        let year = is_digit(self.peek(1)) && is_digit(self.peek(2)) && ends(3) && self.peek(3) != '\'';
        if self.ahead_is(0, "'n'") {
            self.take(3);
        } else if let Some(word) = clitic.iter().find(found).or(shortened.iter().find(found)) {
            self.take(word.len());
        } else if (self.ahead_is(0, "'tis") && ends(4)) || (self.ahead_is(0, "'twas") && ends(5)) {
            self.take(2);
        } else if !inside && decade {
            self.take(4);
        } else if !inside && year {
            self.take(3);
        } else {
            self.at += 1;
        }
    }

    fn symbol(&mut self, c: char) {
        let token = match c {
            // Dropped: quotes, dots, commas, colons, dashes.
            '"' | '`' | '‘' | '“' | '”' | '«' | '»' | '„' | '.' | '…' | ',' | ';' | ':' | '-' | '–' | '—' | '‒'
            | '―' => {
                self.at += 1;
                return;
            }
            '?' | '!' => {
                let run = self.run(0, |c| matches!(c, '?' | '!'));
                if run > 1 {
                    return self.take(run);
                }
                self.at += 1;
                return;
            }
            '*' | '_' => return self.take(self.run(0, |other| other == c)),
            '&' => return self.ampersand(),
            '(' => "-lrb-",
            ')' => "-rrb-",
            '[' => "-lsb-",
            ']' => "-rsb-",
            '{' => "-lcb-",
            '}' => "-rcb-",
            '€' => "$",
            '£' => "#",
            '¢' => "cents",
            '½' => "1/2",
            '¼' => "1/4",
            '¾' => "3/4",
            '⅓' => "1/3",
            '⅔' => "2/3",
            _ => return self.take(1),
        };
        self.push(token);
        self.at += 1;
    }

    /// An HTML entity or the sign itself.
    fn ampersand(&mut self) {
        for (entity, meaning) in [("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", ""), ("&nbsp;", "")] {
            if self.ahead_is(0, entity) {
                if !meaning.is_empty() {
                    self.push(meaning);
                }
                self.at += entity.len();
                return;
            }
        }
        let number = self.run(2, |c| c.is_ascii_digit());
        let entity = self.peek(1) == '#' && number > 0 && self.peek(2 + number) == ';';
        self.take(if entity { number + 3 } else { 1 });
    }
}

/// Joiners and variation marks, which no token shows.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' | '\u{ad}')
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic() || regex_syntax::is_word_character(c) && !c.is_ascii() && !c.is_numeric()
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || !c.is_ascii() && c.is_numeric() && regex_syntax::is_word_character(c) && !c.is_alphabetic()
}
