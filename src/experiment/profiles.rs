//! What the files of all experiments share: keys for all profiles and for one, `KEY=VALUE` from the command line, and
//! one line for whatever is wrong with a key.

use std::path::{Path, PathBuf};

use anyhow::Result;
use toml::{Table, Value};

use crate::error::{nearest, usage};

/// An experiment file.
pub(super) struct Profiles {
    /// The file, for messages.
    name: String,
    /// The keys outside the profiles, which hold for all.
    common: Table,
    profiles: Vec<(String, Table)>,
}

impl Profiles {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| usage(format!("cannot read {name}: {error}")))?;
        let table: Table = text.parse().map_err(|error| usage(format!("{name}: {}", syntax(&text, &error))))?;
        let (common, profiles) = split(table).map_err(|error| usage(format!("{name}: {error:#}")))?;
        Ok(Self { name, common, profiles })
    }

    /// The keys of one profile, as `merge` joins those of all profiles with its own. Every profile must pass `check`, so
    /// that a mistake in `full` shows before it is needed.
    pub(super) fn choose(
        &self,
        wanted: &str,
        merge: impl Fn(&Table, &Table) -> Result<Table>,
        check: impl Fn(&Table, &str) -> Result<()>,
    ) -> Result<Table> {
        let Self { name, common, profiles } = self;
        let mut chosen = None;
        for (each, keys) in profiles {
            let wrong = |error: anyhow::Error| usage(format!("{name}: profile {each}: {error:#}"));
            let merged = merge(common, keys).map_err(wrong)?;
            check(&merged, each).map_err(wrong)?;
            if each == wanted {
                chosen = Some(merged);
            }
        }
        chosen.ok_or_else(|| {
            let known: Vec<&str> = profiles.iter().map(|(each, _)| each.as_str()).collect();
            let near = nearest(wanted, known.iter().copied());
            usage(format!("{name}: no profile {wanted:?}{near} (it has: {})", known.join(", ")))
        })
    }
}

/// The keys outside the profiles, and each profile's.
fn split(mut table: Table) -> Result<(Table, Vec<(String, Table)>)> {
    let mut profiles = Vec::new();
    match table.remove("profiles") {
        Some(Value::Table(tables)) => {
            for (name, keys) in tables {
                let Value::Table(keys) = keys else {
                    return Err(usage(format!("profiles.{name} must be a table of keys")));
                };
                profiles.push((name, keys));
            }
        }
        Some(_) => return Err(usage("profiles must be tables: [profiles.NAME]")),
        None => {
            if let Some((key, _)) = table.iter().find(|(key, value)| value.is_table() && close(key, "profiles")) {
                return Err(usage(format!("unknown key {key:?}, did you mean \"profiles\"?")));
            }
            // A file without profiles, such as a run's own config.toml, serves them all.
            profiles = ["mini", "full"].map(|name| (name.to_string(), Table::new())).into();
        }
    }
    Ok((table, profiles))
}

/// More than any key has; each level is a call when the keys are read.
const MOST_LEVELS: usize = 8;

/// Key and value of `KEY=VALUE`: the value is TOML or else a bare string; the key may name the profile that is used.
pub(super) fn assignment<'a>(set: &'a str, profile: &str, example: &str) -> Result<(&'a str, Value)> {
    let Some((key, text)) = set.split_once('=') else {
        return Err(usage(format!("give it as KEY=VALUE, e.g. --set {example}")));
    };
    let (key, text) = (key.trim(), text.trim());
    let levels = key.split('.').count();
    if levels > MOST_LEVELS {
        return Err(usage(format!("a key of {levels} levels: no key has more than {MOST_LEVELS}")));
    }
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|parsed| parsed.len() == 1)
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    let own = format!("profiles.{profile}.");
    Ok((key.strip_prefix(&own).unwrap_or(key), value))
}

/// `--set KEY=VALUE` as a message names it: the beginning of one that is long.
pub(super) fn shown(set: &str) -> String {
    match set.char_indices().nth(80) {
        Some((end, _)) => format!("--set {}…", &set[..end]),
        None => format!("--set {set}"),
    }
}

/// The experiment's name becomes that of its folder below `runs/`, so it must be one and stay there.
pub(super) fn check_run_name(name: &str) -> Result<()> {
    let fits = |c: char| !c.is_control() && !"/\\".contains(c);
    if !name.trim().is_empty() && name.len() <= 200 && name.chars().all(fits) && !name.starts_with('.') {
        return Ok(());
    }
    let start: String = name.chars().take(80).collect();
    Err(usage(format!(
        "name = {start:?} cannot be the name of a folder: at most 200 bytes, no '/', no '\\', no '.' at its start"
    )))
}

/// What counts something cannot be 0.
pub(super) fn positive(key: &str, value: Option<usize>) -> Result<()> {
    match value {
        Some(0) => Err(usage(format!("{key} must be at least 1"))),
        _ => Ok(()),
    }
}

/// Whether a key looks like a misspelt `name`.
fn close(key: &str, name: &str) -> bool {
    key != name && !nearest(key, [name]).is_empty()
}

/// What serde calls the types of values, and what people call them.
const TYPES: [(&str, &str); 6] = [
    ("expected u64", "expected a whole number of at least 0"),
    ("expected u32", "expected a whole number of at least 0"),
    ("expected usize", "expected a whole number of at least 0"),
    ("expected f64", "expected a number"),
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected a table"),
];

/// serde's words for a wrong key or value, as one line with the nearest right name.
pub(super) fn explain(message: &str) -> anyhow::Error {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field")
        && let [wrong, known @ ..] = quoted.as_slice()
    {
        return usage(unknown_key(wrong, known, ""));
    }
    if message.starts_with("unknown variant")
        && let [wrong, known @ ..] = quoted.as_slice()
    {
        let key = quoted.last().filter(|_| message.contains("\nin `")).copied().unwrap_or("kind");
        let known: Vec<&str> = known.iter().copied().filter(|name| *name != key).collect();
        let near = nearest(wrong, known.iter().copied());
        return usage(format!("{key} = {wrong:?} is not known{near} (known: {})", known.join(", ")));
    }
    if message.starts_with("missing field")
        && let Some(key) = quoted.first()
    {
        return usage(format!("{key} is missing"));
    }
    let message = message.replace("invalid type: unit variant, expected string only", "it must be a text");
    let message = TYPES.iter().fold(message, |message, (serde, words)| message.replace(serde, words));
    usage(
        message.trim().replace("\nin `", " (key `").replace('`', "\"")
            + if message.contains("\nin `") { ")" } else { "" },
    )
}

/// A key that is not known in the table `place` ("": the whole), with the nearest of those that are.
pub(super) fn unknown_key(wrong: &str, known: &[&str], place: &str) -> String {
    let short: String = wrong.chars().take(80).collect();
    let near = nearest(&short, known.iter().copied().chain(["profiles"]));
    let place = if place.is_empty() || place == "axes" { String::new() } else { format!(" (in {place})") };
    format!("unknown key {short:?}{near}{place}")
}

/// A TOML error in one line, with the line of the file.
pub(super) fn syntax(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = explain(error.message()).to_string().replace('\n', " ");
    line.map_or(message.clone(), |line| format!("line {line}: {message}"))
}

/// The path as an absolute one: in `beside`, the working folder, the repository, or its `experiments`, where it exists first.
pub(super) fn locate(path: &Path, beside: Option<&Path>) -> PathBuf {
    let home = crate::runtime::home().ok();
    let built_in = home.as_ref().map(|home| home.join("experiments"));
    let places = [beside, Some(Path::new("")), home.as_deref(), built_in.as_deref()];
    let found = places.into_iter().flatten().map(|place| place.join(path)).find(|path| path.exists());
    let path = found.unwrap_or_else(|| path.to_path_buf());
    std::path::absolute(&path).unwrap_or(path)
}

/// The absolute path of what is there.
pub(super) fn located(name: &Path, beside: Option<&Path>) -> Option<String> {
    let found = locate(name, beside);
    found.to_str().filter(|_| found.exists()).map(str::to_string)
}
