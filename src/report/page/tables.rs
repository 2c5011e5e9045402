//! The tables of the page: results, facts, remarks, commands.

use plotters::style::RGBColor;
use serde::Serialize;

use crate::report::number::{finite, short};
use crate::report::rows::{ItemRow, ResultRow};
use crate::report::{Run, plots};

/// Longer lists are cut; the CSV has them whole.
const MOST_REMARKS: usize = 200;

#[derive(Debug, Serialize)]
pub struct Column {
    name: &'static str,
    /// Said when the pointer rests on it.
    help: &'static str,
    numeric: bool,
}

/// A cell: what is shown, and what it is sorted by (empty: last, whichever way).
#[derive(Debug, Default, Serialize)]
pub struct Cell {
    text: String,
    small: String,
    key: String,
    numeric: bool,
    best: bool,
    /// The strategy's colour, in its name's cell.
    color: String,
}

/// A line of the head: what the run was made with.
#[derive(Debug, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

/// A picture that failed or that the reader must know of.
#[derive(Debug, Serialize)]
pub struct Remark {
    id: String,
    strategy: String,
    text: String,
}

type Axis = (&'static str, fn(&ResultRow) -> String);

const AXES: [Axis; 9] = [
    ("Captioner", |row| row.captioner.clone()),
    ("Generator", |row| row.generator.clone()),
    ("Instruction", |row| row.instruction.clone()),
    ("Drawn from", |row| row.strength.map_or("text".to_string(), |v| format!("photo, strength {v}"))),
    ("Scheduler", |row| row.scheduler.clone()),
    ("Steps", |row| row.steps.map(|v| v.to_string()).unwrap_or_default()),
    ("Guidance", |row| row.guidance_scale.map(|v| v.to_string()).unwrap_or_default()),
    ("Negative prompt", |row| row.negative_prompt.clone()),
    ("Seed", |row| row.seed.map(|v| v.to_string()).unwrap_or_default()),
];

/// Whether the strategies differ in this axis.
fn varies(run: &Run, axis: &Axis) -> bool {
    run.results.windows(2).any(|pair| axis.1(&pair[0]) != axis.1(&pair[1]))
}

pub fn css_color(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The results table, best ArtFID first. Axes in which the strategies differ get a column.
pub fn results(run: &Run) -> (Vec<Column>, Vec<Vec<Cell>>) {
    let column = |name, help, numeric| Column { name, help, numeric };
    let axes: Vec<&Axis> = AXES.iter().filter(|axis| varies(run, axis)).collect();
    let failed = run.results.iter().any(|row| row.failed > 0);
    let mut columns = vec![column("Strategy", "", false)];
    columns.extend(axes.iter().map(|axis| column(axis.0, "", false)));
    columns.extend([
        column("n", "pictures that were made and measured", true),
        column("ArtFID", "(1 + LPIPS) · (1 + FID); lower is better. Below it the 95 % interval", true),
        column("FID", "distance from the style pictures; lower is better", true),
        column("LPIPS", "distance from the photos; lower is better", true),
        column("s / picture", "seconds for one picture", true),
    ]);
    columns.extend(failed.then(|| column("Failed", "pictures that could not be made", true)));
    let lowest = |value: fn(&ResultRow) -> Option<f64>| {
        run.results.iter().filter_map(|row| finite(value(row))).reduce(f64::min).filter(|_| run.results.len() > 1)
    };
    let best = [lowest(|r| r.artfid), lowest(|r| r.fid), lowest(|r| r.lpips)];
    let colors = plots::strategy_colors(run);
    let row = |at: usize| {
        let row = &run.results[at];
        let (color, small) = (css_color(colors[at]), row.style_text.clone());
        let mut cells = vec![Cell { color, small, ..text(&row.strategy) }];
        cells.extend(axes.iter().map(|axis| text(&axis.1(row))));
        cells.push(whole(row.n));
        cells.push(Cell { small: interval(row), ..value(row.artfid, best[0]) });
        cells.extend([value(row.fid, best[1]), value(row.lpips, best[2]), value(row.seconds_per_image, None)]);
        cells.extend(failed.then(|| whole(row.failed)));
        cells
    };
    (columns, run.ranking().into_iter().map(row).collect())
}

fn text(text: &str) -> Cell {
    Cell { text: text.to_string(), key: text.to_string(), ..Cell::default() }
}

fn whole(value: usize) -> Cell {
    Cell { text: value.to_string(), key: value.to_string(), numeric: true, ..Cell::default() }
}

fn value(value: Option<f64>, best: Option<f64>) -> Cell {
    let value = finite(value);
    let key = value.map(|v| v.to_string()).unwrap_or_default();
    Cell { text: short(value), key, numeric: true, best: value.is_some() && value == best, ..Cell::default() }
}

fn interval(row: &ResultRow) -> String {
    match (finite(row.artfid_low), finite(row.artfid_high)) {
        (Some(low), Some(high)) => format!("{} to {}", short(Some(low)), short(Some(high))),
        _ => String::new(),
    }
}

/// What the run was made with: from config.toml, from the axes that all strategies share, and the
/// plain values of manifest.json.
pub fn facts(run: &Run) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    let mut add = |name: &str, value: String| {
        let known = facts.iter().any(|fact| fact.name == name);
        if !value.is_empty() && !known {
            facts.push(Fact { name: name.to_string(), value });
        }
    };
    add("Profile", run.config.get("profile").and_then(|v| v.as_str()).unwrap_or_default().to_string());
    for axis in AXES.iter().filter(|axis| !varies(run, axis)) {
        add(axis.0, run.results.first().map(axis.1).unwrap_or_default());
    }
    add("Strategies", run.results.len().to_string());
    let photos: std::collections::BTreeSet<&str> = run.items.iter().map(|item| item.id.as_str()).collect();
    add("Photos", photos.len().to_string());
    for (key, value) in run.manifest.as_object().into_iter().flatten() {
        let plain = match value {
            serde_json::Value::Number(time) if key == "started" => time.as_u64().map(date).unwrap_or_default(),
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            _ => continue, // lists and objects are shown whole at the end of the page
        };
        if !["name", "question", "profile", "command", "finished"].contains(&key.as_str()) {
            add(&title(key), plain);
        }
    }
    facts
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

/// `started_at` → `Started at`.
fn title(key: &str) -> String {
    let words = key.replace('_', " ");
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The first remarks, and how many more there are.
pub fn remarks<'a>(
    items: impl Iterator<Item = &'a ItemRow>,
    said: impl Fn(&ItemRow) -> &String,
) -> (Vec<Remark>, usize) {
    let mut remarks: Vec<Remark> = items
        .map(|item| Remark { id: item.id.clone(), strategy: item.strategy.clone(), text: said(item).clone() })
        .collect();
    let more = remarks.len().saturating_sub(MOST_REMARKS);
    remarks.truncate(MOST_REMARKS);
    (remarks, more)
}

/// What to type to make this run, and this page, again.
pub fn commands(run: &Run) -> Vec<String> {
    let said = run.manifest.get("command").and_then(|command| command.as_str()).map(str::to_string);
    let config = |key: &str| run.config.get(key).and_then(|value| value.as_str());
    let dir = quoted(&run.shown_dir());
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
