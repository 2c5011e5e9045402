//! What the pages of all kinds of runs share. Everything a run says goes through the template's
//! escaping; the page itself forbids any script but its own and any request.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use plotters::style::RGBColor;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::folder::Folder;
use crate::runtime::utc;

const HEAD: &str = include_str!("head.html");
const CORRELATIONS: &str = include_str!("correlations.html");
pub const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The grid of all pictures, which `toolkit view` shows, too.
pub const GRID: &str = include_str!("grid.html");
pub const GRID_STYLE: &str = include_str!("grid.css");
pub const GRID_SCRIPT: &str = include_str!("grid.js");
pub const LIGHTBOX_SCRIPT: &str = include_str!("lightbox.js");

/// A line of the head: what the run was made with.
#[derive(Debug, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

/// Fills a template that has the parts of this page; `extra` is style of its own.
pub fn fill(template: &str, extra: &str, page: &impl Serialize) -> Result<String> {
    let script = [SCRIPT, GRID_SCRIPT, LIGHTBOX_SCRIPT].concat();
    let hash = BASE64_STANDARD.encode(Sha256::digest(&script));
    let style = [STYLE, GRID_STYLE, extra].concat();
    render(template, minijinja::context! { page => page, style => style, script => script, script_hash => hash })
}

/// Fills a template that may include `head` and `grid`. All text is escaped.
pub fn render(template: &str, context: impl Serialize) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("head", HEAD)?;
    environment.add_template("correlations", CORRELATIONS)?;
    environment.add_template("grid", GRID)?;
    environment.add_template("page", template)?;
    environment.get_template("page")?.render(context).context("cannot fill the page's template")
}

pub fn css_color(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Seconds since 1970 as a date and time.
pub fn date(seconds: u64) -> String {
    let time = utc(seconds);
    match (time.get(..10), time.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => time,
    }
}

/// What to type to make this run, and this page, again.
pub fn commands(folder: &Folder) -> Vec<String> {
    let said = folder.manifest.get("command").and_then(|command| command.as_str()).map(str::to_string);
    let config = |key: &str| folder.config.get(key).and_then(|value| value.as_str());
    let dir = quoted(&folder.shown_dir());
    let from_config = config("name").map(|_| format!("./toolkit experiment {dir}/config.toml --out NEW_FOLDER"));
    let named = config("name").map(|name| {
        let profile = config("profile").map(|profile| format!(" --profile {}", quoted(profile))).unwrap_or_default();
        format!("./toolkit experiment {}{profile}", quoted(name))
    });
    [said.or(named), from_config, Some(format!("./toolkit report {dir}"))].into_iter().flatten().collect()
}

/// A shell word.
pub fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./=:,+@".contains(c));
    if plain { word.to_string() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::{date, quoted};

    #[test]
    fn dates_are_for_people() {
        assert_eq!(date(1_780_000_000), "2026-05-28 20:26 UTC");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!([quoted("runs/a-1"), quoted("my run"), quoted("it's")], ["runs/a-1", "'my run'", r"'it'\''s'"]);
    }
}
