//! `toolkit evaluate captions`.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use super::print::{self, say};
use crate::cli::{CaptionProfile, CaptionsArgs, Format, Global};
use crate::error::{Outcome, usage};
use crate::metrics::stats::Interval;
use crate::metrics::text::captions::{self, Caption, CaptionDifference, Profile, Scores};

pub fn run(args: &CaptionsArgs, _global: &Global) -> Result<Outcome> {
    let profile = match args.profile {
        CaptionProfile::Hf => Profile::Hf,
        CaptionProfile::Coco => Profile::Coco,
    };
    let references = read_references(&args.references)?;
    let captions = pair(args, &args.predictions, &references)?;
    let scores = captions::score(&captions, profile)?;
    let differences = match &args.against {
        Some(against) => {
            let other = captions::score(&pair(args, against, &references)?, profile)?;
            captions::paired_bootstrap(&scores, &other, args.seed.into())?
        }
        None => Vec::new(),
    };
    if let Some(file) = &args.per_item {
        write_items(file, &scores)?;
    }
    let report = Report {
        intervals: scores.intervals(args.seed.into())?,
        // Only JSON shows them.
        medians: if args.format == Format::Json { scores.rouge_medians(args.seed) } else { Vec::new() },
        differences,
        scores,
    };
    match args.format {
        Format::Text => print::text(&report.text())?,
        Format::Json => say!("{}", report.json()),
        Format::Csv => print::text(&report.csv())?,
    }
    Ok(Outcome::Done)
}

/// An object's entries in the order of the file; an id that is given twice is an error.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object {\"ID\": …}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut seen = HashSet::new();
                let mut entries = Vec::new();
                while let Some((id, value)) = map.next_entry::<String, Value>()? {
                    if !seen.insert(id.clone()) {
                        return Err(A::Error::custom(format!("the id {id:?} is given twice")));
                    }
                    entries.push((id, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

pub(super) fn read_entries(file: &Path) -> Result<Vec<(String, Value)>> {
    let name = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        anyhow!("{name} is not UTF-8 (byte {}): save it as UTF-8", error.utf8_error().valid_up_to())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let Entries(entries) =
        serde_json::from_str(text).with_context(|| format!("{name} is not a JSON object of captions"))?;
    if entries.is_empty() {
        bail!("{name} holds no captions");
    }
    Ok(entries)
}

pub(super) fn read_references(file: &Path) -> Result<HashMap<String, Vec<String>>> {
    let texts = |(id, value): (String, Value)| {
        let wrong = || anyhow!("{}: the references of {id:?} are not a list of texts", file.display());
        let Value::Array(values) = value else { return Err(wrong()) };
        if values.is_empty() {
            bail!("{}: {id:?} has an empty list of references", file.display());
        }
        let text = |value| if let Value::String(text) = value { Ok(text) } else { Err(wrong()) };
        let texts = values.into_iter().map(text).collect::<Result<Vec<String>>>()?;
        Ok((id, texts))
    };
    read_entries(file)?.into_iter().map(texts).collect()
}

/// The predictions with their references, in the order of the predictions. Both files must hold the same ids.
fn pair(args: &CaptionsArgs, predictions: &Path, references: &HashMap<String, Vec<String>>) -> Result<Vec<Caption>> {
    let entries = read_entries(predictions)?;
    let predicted: HashSet<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
    let without: Vec<&str> =
        entries.iter().map(|(id, _)| id.as_str()).filter(|id| !references.contains_key(*id)).collect();
    let mut missing: Vec<&str> = references.keys().map(String::as_str).filter(|id| !predicted.contains(id)).collect();
    missing.sort_unstable();
    let problems = [lacks(&without, &args.references, predictions), lacks(&missing, predictions, &args.references)];
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    if !problems.is_empty() {
        return Err(usage(problems.join("; ")));
    }
    let caption = |(id, value)| match value {
        Value::String(prediction) => Ok(Caption { prediction, references: references[&id].clone(), id, clip: None }),
        _ => Err(anyhow!("{}: the caption of {id:?} is not a text", predictions.display())),
    };
    entries.into_iter().map(caption).collect()
}

/// What is said of ids that one file or folder lacks; None where there are none.
pub(super) fn lacks(ids: &[&str], lacking: &Path, present: &Path) -> Option<String> {
    (!ids.is_empty()).then(|| format!("{} lacks {} of {}", lacking.display(), some_of(ids), present.display()))
}

/// `3 ids ("a", "b", "c")`, at most ten named.
fn some_of(ids: &[&str]) -> String {
    let named: Vec<String> = ids.iter().take(10).map(|id| format!("{id:?}")).collect();
    let more = if ids.len() > 10 { ", …" } else { "" };
    format!("{} {} ({}{more})", ids.len(), if ids.len() == 1 { "id" } else { "ids" }, named.join(", "))
}

/// Writes a row per item, whole or not at all.
fn write_items(file: &Path, scores: &Scores) -> Result<()> {
    let context = || format!("cannot write {}", file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut whole = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    let mut table = csv::Writer::from_writer(&mut whole);
    table
        .write_record(["id"].into_iter().chain(scores.metrics.iter().map(|metric| metric.name)))
        .with_context(context)?;
    for (item, id) in scores.ids.iter().enumerate() {
        let values = scores.metrics.iter().map(|metric| metric.per_item[item].to_string());
        table.write_record([id.clone()].into_iter().chain(values)).with_context(context)?;
    }
    table.flush().with_context(context)?;
    drop(table);
    whole.flush().with_context(context)?;
    whole.persist(file).with_context(context)?;
    Ok(())
}

struct Report {
    scores: Scores,
    intervals: Vec<Interval>,
    /// The ROUGE values as the bootstrap median, by metric.
    medians: Vec<(&'static str, f64)>,
    differences: Vec<CaptionDifference>,
}

impl Report {
    /// One line: the metrics, then what is known of them.
    fn json(&self) -> Value {
        let mut object: Map<String, Value> =
            self.scores.metrics.iter().map(|metric| (metric.name.to_owned(), json!(metric.score))).collect();
        object.insert("n".to_owned(), json!(self.scores.ids.len()));
        let medians: Map<String, Value> =
            self.medians.iter().map(|(name, median)| ((*name).to_owned(), json!(median))).collect();
        object.insert("bootstrap_median".to_owned(), medians.into());
        let interval = |interval: &Interval| json!([interval.low, interval.high]);
        let intervals: Map<String, Value> = self
            .scores
            .metrics
            .iter()
            .zip(&self.intervals)
            .map(|(metric, bounds)| (metric.name.to_owned(), interval(bounds)))
            .collect();
        object.insert("interval_95".to_owned(), intervals.into());
        if !self.differences.is_empty() {
            let difference = |all: &CaptionDifference| {
                json!({"difference": all.difference, "interval_95": interval(&all.interval),
                       "first_better": all.first_better, "p_value": all.p_value})
            };
            let differences: Map<String, Value> =
                self.differences.iter().map(|all| (all.name.to_owned(), difference(all))).collect();
            object.insert("against".to_owned(), differences.into());
        }
        object.into()
    }

    /// A header and one row.
    fn csv(&self) -> String {
        let mut columns: Vec<(String, String)> = self
            .scores
            .metrics
            .iter()
            .map(|metric| (metric.name.to_owned(), metric.score.to_string()))
            .chain([("n".to_owned(), self.scores.ids.len().to_string())])
            .collect();
        for (metric, bounds) in self.scores.metrics.iter().zip(&self.intervals) {
            columns.push((format!("{}_low", metric.name), bounds.low.to_string()));
            columns.push((format!("{}_high", metric.name), bounds.high.to_string()));
        }
        for all in &self.differences {
            columns.push((format!("{}_difference", all.name), all.difference.to_string()));
            columns.push((format!("{}_p_value", all.name), all.p_value.to_string()));
        }
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        format!("{}\n{}\n", names.join(","), values.join(","))
    }

    fn text(&self) -> String {
        let mut text = format!("{:<12} {:>8}   95 % interval\n", "metric", "score");
        for (metric, bounds) in self.scores.metrics.iter().zip(&self.intervals) {
            let row = format!("{:<12} {:>8.4}   {:.4} to {:.4}\n", metric.name, metric.score, bounds.low, bounds.high);
            text.push_str(&row);
        }
        text.push_str(&format!("{} captions\n", self.scores.ids.len()));
        if !self.differences.is_empty() {
            text.push_str(&format!("\n{:<12} {:>10}   95 % interval        p\n", "metric", "difference"));
        }
        for all in &self.differences {
            let bounds = format!("{:.4} to {:.4}", all.interval.low, all.interval.high);
            text.push_str(&format!("{:<12} {:>10.4}   {bounds:<18}   {:.3}\n", all.name, all.difference, all.p_value));
        }
        text
    }
}
