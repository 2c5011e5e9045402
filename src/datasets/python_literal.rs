//! A list of texts as JSON writes it, or as Python prints it.

use std::iter::Peekable;
use std::str::Chars;

use anyhow::{Context, Result, bail};

/// `["a", "b"]` or `['a', "b's"]`, with the escapes of either.
pub fn strings(text: &str) -> Result<Vec<String>> {
    if let Ok(strings) = serde_json::from_str(text) {
        return Ok(strings);
    }
    let mut chars = text.trim().chars().peekable();
    if chars.next() != Some('[') {
        bail!("not a list of texts: {:?}", start(text));
    }
    let mut strings = Vec::new();
    loop {
        spaces(&mut chars);
        match chars.next() {
            Some(']') => break,
            Some(quote @ ('"' | '\'')) => strings.push(string(&mut chars, quote)?),
            Some(other) => bail!("{other:?} where a text in quotes should be, in {:?}", start(text)),
            None => bail!("the list has no end: {:?}", start(text)),
        }
        spaces(&mut chars);
        match chars.next() {
            Some(',') => {}
            Some(']') => break,
            Some(other) => bail!("{other:?} where a comma should be, in {:?}", start(text)),
            None => bail!("the list has no end: {:?}", start(text)),
        }
    }
    spaces(&mut chars);
    match chars.next() {
        None => Ok(strings),
        Some(other) => bail!("{other:?} behind the list {:?}", start(text)),
    }
}

fn spaces(chars: &mut Peekable<Chars>) {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
}

/// The rest of a text up to its quote.
/// <https://docs.python.org/3/reference/lexical_analysis.html#escape-sequences>
fn string(chars: &mut Peekable<Chars>, quote: char) -> Result<String> {
    let mut text = String::new();
    loop {
        match chars.next().context("a text has no closing quote")? {
            c if c == quote => return Ok(text),
            '\\' => match chars.next().context("a text has no closing quote")? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'x' => text.push(code(chars, 2)?),
                'u' => text.push(code(chars, 4)?),
                'U' => text.push(code(chars, 8)?),
                '\n' => {}
                c @ ('\\' | '\'' | '"' | '/') => text.push(c),
                // Python keeps what it does not know.
                c => text.extend(['\\', c]),
            },
            c => text.push(c),
        }
    }
}

fn code(chars: &mut Peekable<Chars>, digits: usize) -> Result<char> {
    let hex: String = chars.by_ref().take(digits).collect();
    let code = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits);
    code.and_then(char::from_u32).with_context(|| format!("\\u{hex} is no character"))
}

fn start(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::strings;

    #[test]
    fn json_and_python_lists() {
        let read = |text: &str| strings(text).unwrap();
        assert_eq!(read(r#"["A \"dog\".", "caf\u00e9 \ud83d\ude00"]"#), ["A \"dog\".", "café 😀"]);
        assert_eq!(
            read(r#"['A dog.', "it's a \"cat\"", 'it\'s', 'caf\xe9\n\U0001f600', ]"#)[1..],
            ["it's a \"cat\"", "it's", "café\n😀"]
        );
        assert!(read("[]").is_empty() && read(" [ 'a' ] ") == ["a"]);
        assert_eq!(read(r"['a\d']"), [r"a\d"]);
    }

    #[test]
    fn what_is_no_list_is_said() {
        for (text, part) in [
            ("a dog", "not a list"),
            ("['a'", "no end"),
            ("['a", "no closing quote"),
            ("['a' 'b']", "comma"),
            ("[a]", "quotes"),
            ("['a'] x", "behind the list"),
            (r"['\u12']", "no character"),
            ("", "not a list"),
        ] {
            let error = strings(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
