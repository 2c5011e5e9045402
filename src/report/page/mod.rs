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

const HEAD: &str = include_str!("head.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A line of the head: what the run was made with.
#[derive(Debug, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

/// Fills a template that has the parts of this page; `extra` is style of its own.
pub fn fill(template: &str, extra: &str, page: &impl Serialize) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("head", HEAD)?;
    environment.add_template("page", template)?;
    let hash = BASE64_STANDARD.encode(Sha256::digest(SCRIPT));
    let style = format!("{STYLE}{extra}");
    let parts = minijinja::context! { page => page, style => style, script => SCRIPT, script_hash => hash };
    environment.get_template("page")?.render(parts).context("cannot fill the page's template")
}

pub fn css_color(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Seconds since 1970 as a date and time; days to the calendar as in
/// <https://howardhinnant.github.io/date_algorithms.html>.
pub fn date(seconds: u64) -> String {
    let days = seconds / 86400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153; // months from March
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
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
    fn dates_are_those_of_the_calendar() {
        let shown = [0, 951_782_400, 951_868_799, 1_767_225_599, 1_780_000_000].map(date);
        let expected = [
            "1970-01-01 00:00 UTC",
            "2000-02-29 00:00 UTC",
            "2000-02-29 23:59 UTC",
            "2025-12-31 23:59 UTC",
            "2026-05-28 20:26 UTC",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!([quoted("runs/a-1"), quoted("my run"), quoted("it's")], ["runs/a-1", "'my run'", r"'it'\''s'"]);
    }
}
