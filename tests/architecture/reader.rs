//! From the text of a source file to the paths that it names.

/// Names, `::`, and every other sign by itself; no comments, strings, characters and lifetimes.
pub fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if starts(at, "//") {
            at += chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at);
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                let (step, by) = if starts(at, "/*") {
                    (1, 2)
                } else if starts(at, "*/") {
                    (-1, 2)
                } else {
                    (0, 1)
                };
                depth += step;
                at += by;
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if is_name(c) {
            let end = at + chars[at..].iter().position(|c| !is_name(*c)).unwrap_or(chars.len() - at);
            let name: String = chars[at..end].iter().collect();
            let hashes = chars[end..].iter().take_while(|c| **c == '#').count();
            if ["r", "br", "cr"].contains(&name.as_str()) && chars.get(end + hashes) == Some(&'"') {
                let close = format!("\"{}", "#".repeat(hashes));
                at = end + hashes + 1;
                while at < chars.len() && !starts(at, &close) {
                    at += 1;
                }
                at += close.len();
            } else {
                tokens.push(name);
                at = end;
            }
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            // A character ends in a quote, a lifetime does not.
            if starts(at + 1, "\\") {
                at += 3;
                at += chars[at..].iter().position(|c| *c == '\'').unwrap_or(0) + 1;
            } else if chars.get(at + 2) == Some(&'\'') {
                at += 3;
            } else {
                at += 1;
            }
        } else if starts(at, "::") {
            tokens.push("::".to_string());
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// Every path of a module's source that starts with `crate`, `self` or `super`, from the root of the library.
pub fn paths(tokens: &[String], module: &[String]) -> Vec<Vec<String>> {
    let is =
        |at: usize, what: &[&str]| what.iter().enumerate().all(|(i, w)| tokens.get(at + i).is_some_and(|t| t == w));
    let mut found = Vec::new();
    // Modules inside the file, with the depth of braces at which each ends.
    let (mut inner, mut depth): (Vec<(String, usize)>, usize) = (Vec::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        let here: Vec<String> = module.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone())).collect();
        if is(at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = item_end(tokens, at + 7);
        } else if is(at, &["use"]) {
            at = tree(tokens, at + 1, &here, &mut found);
        } else if is(at, &["mod"]) && is(at + 2, &["{"]) {
            inner.push((tokens[at + 1].clone(), depth));
            depth += 1;
            at += 3;
        } else if is(at, &["{"]) {
            depth += 1;
            at += 1;
        } else if is(at, &["}"]) {
            depth = depth.saturating_sub(1);
            if inner.last().is_some_and(|(_, end)| *end == depth) {
                inner.pop();
            }
            at += 1;
        } else if ["crate", "self", "super"].contains(&tokens[at].as_str()) && is(at + 1, &["::"]) {
            let mut path = vec![tokens[at].clone()];
            at += 1;
            while is(at, &["::"])
                && tokens.get(at + 1).is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            {
                path.push(tokens[at + 1].clone());
                at += 2;
            }
            found.extend(absolute(&path, &here));
        } else {
            at += 1;
        }
    }
    found
}

/// Where the item that starts at `at` ends: behind its braces or its semicolon.
fn item_end(tokens: &[String], mut at: usize) -> usize {
    let mut depth = 0usize;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && tokens[at] == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The paths of a `use` tree that starts at `at`; where the tree ends.
fn tree(tokens: &[String], mut at: usize, module: &[String], found: &mut Vec<Vec<String>>) -> usize {
    // What stands before each open brace, and the path that is being read.
    let (mut open, mut path): (Vec<Vec<String>>, Vec<String>) = (Vec::new(), Vec::new());
    let mut end = |path: &[String]| found.extend(absolute(path, module));
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "::" => {}
            "as" => at += 1,
            "{" => open.push(path.clone()),
            "," | "}" | ";" => {
                end(&path);
                path = if token == "," { open.last().cloned().unwrap_or_default() } else { Vec::new() };
                if token == "}" {
                    open.pop();
                    path = Vec::new();
                } else if token == ";" {
                    return at + 1;
                }
            }
            name => path.push(name.to_string()),
        }
        at += 1;
    }
    at
}

/// A path from the root of the library; None where it starts in another library or in a name of the file.
fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let mut base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        _ => return None,
    };
    for (at, name) in path.iter().enumerate() {
        match name.as_str() {
            "super" => drop(base.pop()),
            "crate" | "self" if at == 0 || at + 1 == path.len() => {}
            _ => base.push(name.clone()),
        }
    }
    Some(base)
}
