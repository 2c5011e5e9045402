//! `toolkit evaluate clip-score`.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value, json};
use tch::Device;

use super::evaluate_captions::{lacks, read_entries, read_references};
use super::evaluate_shared::{Devices, Look, Nets, Set};
use super::print::{self, say};
use crate::cli::{ClipScoreArgs, Format, Global};
use crate::error::{Outcome, usage};
use crate::images::{self, Same};
use crate::metrics::image::artfid::ScoreOptions;
use crate::metrics::image::features::check_finite;
use crate::metrics::image::networks::Network;
use crate::metrics::image::pictures::check_readable;
use crate::metrics::stats::{Interval, bootstrap};
use crate::metrics::text::clip_score::{self, ClipScores, Said};
use crate::runtime::{Runtime, log_peak_memory};

pub fn run(args: &ClipScoreArgs, global: &Global) -> Result<Outcome> {
    let mut devices = Devices::foresee(global)?;
    let (files, captions) = (images::list(&args.images)?, captions(&args.predictions)?);
    devices.expect(files.len());
    let ids = images::ids(&files, Same::Exactly)?;
    let references = args.references.as_deref().map(read_references).transpose()?;
    let said: Vec<&str> = captions.iter().map(|(id, _)| id.as_str()).collect();
    check_ids(args, &said, &ids, references.as_ref())?;
    check_readable(&files)?;
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let of = |(id, caption): &'_ (String, String)| -> (usize, Vec<String>, String) {
        let references = references.as_ref().and_then(|all| all.get(id)).cloned().unwrap_or_default();
        (places[id.as_str()], references, caption.clone())
    };
    let said: Vec<(usize, Vec<String>, String)> = captions.iter().map(of).collect();
    let said: Vec<Said> =
        said.iter().map(|(picture, references, caption)| Said { caption, picture: *picture, references }).collect();
    let tf32 = devices.tf32(args.measuring.tf32);
    let scores = scores(args, (&files, &said), (&mut devices, tf32), global)?;
    let ids = captions.into_iter().map(|(id, _)| id).collect();
    let network = args.model.as_deref().unwrap_or(Network::Clip.model());
    Report::new(ids, scores, (network, tf32))?.print(args.measuring.format)?;
    Ok(Outcome::Done)
}

/// The scores of all captions, once pictures and texts were looked at.
fn scores(
    args: &ClipScoreArgs,
    (files, said): (&[PathBuf], &[Said]),
    (devices, tf32): (&mut Devices, bool),
    global: &Global,
) -> Result<Vec<ClipScores>> {
    let most = args.measuring.at_a_time()?;
    let rt = Runtime { device: Device::Cpu, dtype: global.dtype, offline: global.offline };
    Network::Clip.locate(args.model.as_deref().unwrap_or(Network::Clip.model()), &rt)?;
    let texts = clip_score::texts(said);
    let look = Look {
        nets: Nets::Features(Network::Clip.model().to_string(), args.model.clone()),
        sets: vec![Set::files(files), Set::texts(texts.clone())],
        most,
        tf32,
        solvers: false,
    };
    let mut features = [None, None];
    let rt = devices.look(&look, &mut |set, seen| {
        features[set] = seen.on(Device::Cpu)?.features;
        Ok(())
    })?;
    log_peak_memory(rt.device);
    let [Some(pictures), Some(of_texts)] = features else { bail!("not every set was measured") };
    check_finite(&pictures, |at| files[at].display().to_string())?;
    check_finite(&of_texts, |at| format!("{:?}", texts[at]))?;
    clip_score::score_of(&of_texts, &pictures, said)
}

fn captions(file: &Path) -> Result<Vec<(String, String)>> {
    let caption = |(id, value)| match value {
        Value::String(caption) => Ok((id, caption)),
        _ => Err(anyhow!("{}: the caption of {id:?} is not a text", file.display())),
    };
    read_entries(file)?.into_iter().map(caption).collect()
}

/// Captions, pictures and references must be of the same ids.
fn check_ids(
    args: &ClipScoreArgs,
    said: &[&str],
    pictures: &[String],
    references: Option<&HashMap<String, Vec<String>>>,
) -> Result<()> {
    let mut sets = vec![(args.images.as_path(), pictures.iter().map(String::as_str).collect::<BTreeSet<_>>())];
    if let (Some(file), Some(references)) = (&args.references, references) {
        sets.push((file, references.keys().map(String::as_str).collect()));
    }
    let captions: BTreeSet<&str> = said.iter().copied().collect();
    let missing = |from: &BTreeSet<&str>, of: &BTreeSet<&str>, lacking: &Path, present: &Path| {
        lacks(&of.difference(from).copied().collect::<Vec<_>>(), lacking, present)
    };
    let problems: Vec<String> = sets
        .iter()
        .flat_map(|(path, ids)| {
            [missing(ids, &captions, path, &args.predictions), missing(&captions, ids, &args.predictions, path)]
        })
        .flatten()
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(usage(problems.join("; "))) }
}

/// A score over all items, with its 95 % interval over their choice.
struct Mean {
    name: &'static str,
    per_item: Vec<f64>,
    value: f64,
    interval: Interval,
}

impl Mean {
    fn new(name: &'static str, per_item: Vec<f64>) -> Result<Self> {
        let n = per_item.len() as f64;
        let [interval] = bootstrap(per_item.len(), ScoreOptions::default().resamples, 0, |counts| {
            [counts.iter().zip(&per_item).map(|(count, value)| count * value).sum::<f64>() / n]
        })?;
        Ok(Self { name, value: per_item.iter().sum::<f64>() / n, per_item, interval })
    }
}

struct Report<'a> {
    ids: Vec<String>,
    means: Vec<Mean>,
    network: &'a str,
    tf32: bool,
}

impl<'a> Report<'a> {
    fn new(ids: Vec<String>, scores: Vec<ClipScores>, (network, tf32): (&'a str, bool)) -> Result<Self> {
        let mut means = vec![Mean::new("clip_score", scores.iter().map(|scores| scores.clip_score).collect())?];
        let with_references: Option<Vec<f64>> = scores.iter().map(|scores| scores.ref_clip_score).collect();
        if let Some(values) = with_references {
            means.push(Mean::new("ref_clip_score", values)?);
        }
        Ok(Self { ids, means, network, tf32 })
    }

    fn print(&self, format: Format) -> Result<()> {
        match format {
            Format::Text => {
                for Mean { name, value, interval, .. } in &self.means {
                    say!("{name:<15}{value:.4}   (95 %: {:.4} to {:.4})", interval.low, interval.high);
                }
                say!("{} pictures, in {}", self.ids.len(), self.network);
                Ok(())
            }
            Format::Json => {
                say!("{}", serde_json::to_string_pretty(&self.json())?);
                Ok(())
            }
            Format::Csv => print::table(|csv| {
                csv.write_record(["id"].into_iter().chain(self.means.iter().map(|mean| mean.name)))?;
                self.ids.iter().enumerate().try_for_each(|(at, id)| {
                    let values = self.means.iter().map(|mean| mean.per_item[at].to_string());
                    csv.write_record([id.clone()].into_iter().chain(values))
                })
            }),
        }
    }

    fn json(&self) -> Value {
        let mut json = Map::new();
        for mean in &self.means {
            json.insert(mean.name.to_string(), json!(mean.value));
            json.insert(format!("{}_low", mean.name), json!(mean.interval.low));
            json.insert(format!("{}_high", mean.name), json!(mean.interval.high));
            let key = if mean.name == "clip_score" { "per_item" } else { "ref_per_item" };
            let items = self.ids.iter().zip(&mean.per_item).map(|(id, value)| (id.clone(), json!(value)));
            json.insert(key.to_string(), Value::Object(items.collect()));
        }
        json.insert("n".to_string(), json!(self.ids.len()));
        json.insert("network".to_string(), json!(self.network));
        if self.tf32 {
            json.insert("tf32".to_string(), json!(true));
        }
        Value::Object(json)
    }
}
