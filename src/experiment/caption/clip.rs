//! CLIPScore of a run's captions: the pictures are looked at again when all are described, each once for all models.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use tch::Tensor;

use super::Captioning;
use super::config::CaptionConfig;
use super::plan::Part;
use crate::datasets::Picture;
use crate::experiment::kind::Work;
use crate::experiment::progress::Progress;
use crate::images;
use crate::metrics::image::Embedder;
use crate::metrics::image::networks::Network;
use crate::metrics::text::clip_score::{Said, score};
use crate::metrics::text::{CaptionMetric, Profile};
use crate::metrics::{is_asked, of_captions};
use crate::run::caption::CaptionItem;

/// Of its bar.
pub const LABEL: &str = "measuring";

/// Pictures that the network sees at a time.
const BATCH: usize = 64;

/// The metrics of a run that need the pictures.
pub fn asked(config: &CaptionConfig) -> impl Iterator<Item = &'static dyn CaptionMetric> {
    let asked = of_captions().filter(|metric| is_asked(&config.shared.metrics, metric.about()));
    asked.filter(|metric| metric.profile() == Profile::Pictures)
}

/// The name of the network.
pub fn model(config: &CaptionConfig) -> &str {
    config.shared.clip.as_deref().unwrap_or(Network::Clip.model())
}

/// Fills in the values of the captions that have none yet.
pub fn fill(work: &Work<Captioning>, rows: &mut [CaptionItem]) -> Result<()> {
    let Work { plan, config, models, progress, .. } = *work;
    let names: Vec<&str> = asked(config).map(|metric| metric.about().name).collect();
    let lacks = |row: &CaptionItem| row.is_done() && names.iter().any(|name| row.values.value(name).is_none());
    if !rows.iter().any(lacks) {
        return Ok(());
    }
    let net = models.embedder(Network::Clip, model(config))?;
    for part in &plan.parts {
        let places: Vec<usize> =
            (0..rows.len()).filter(|at| rows[*at].dataset == part.name && lacks(&rows[*at])).collect();
        let wanted: Vec<&str> = places.iter().map(|at| rows[*at].id.as_str()).collect();
        let (features, pictures) = look(net.as_ref(), part, &wanted, progress)?;
        let references: BTreeMap<&str, &[String]> =
            part.set.items.iter().map(|item| (item.id.as_str(), item.references.as_slice())).collect();
        let said: Vec<Said> = places
            .iter()
            .map(|at| {
                let row = &rows[*at];
                let references = references.get(row.id.as_str()).copied().unwrap_or_default();
                Said { caption: &row.caption, picture: pictures[row.id.as_str()], references }
            })
            .collect();
        let scores = score(net.as_ref(), &features, &said)?;
        drop(said);
        for (at, scores) in places.into_iter().zip(scores) {
            rows[at].values.set_value("clip_score", Some(scores.clip_score));
            rows[at].values.set_value("ref_clip_score", scores.ref_clip_score);
        }
    }
    Ok(())
}

/// The features of the pictures of these ids, and the row of each.
fn look<'a>(
    net: &dyn Embedder,
    part: &'a Part,
    wanted: &[&str],
    progress: Progress,
) -> Result<(Tensor, BTreeMap<&'a str, usize>)> {
    let wanted: std::collections::BTreeSet<&str> = wanted.iter().copied().collect();
    let items: Vec<(&str, Picture)> = part
        .set
        .items
        .iter()
        .filter(|item| wanted.contains(item.id.as_str()))
        .map(|item| (item.id.as_str(), item.picture.clone()))
        .collect();
    let places = items.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    let bar = progress.bar(LABEL, items.len(), 0);
    let sources: Vec<Picture> = items.iter().map(|(_, picture)| picture.clone()).collect();
    let mut decoded = images::stream_with(sources, 2 * BATCH, Picture::load);
    let mut features: Vec<f32> = Vec::new();
    for batch in items.chunks(BATCH) {
        let pictures = decoded.by_ref().take(batch.len()).map(|(_, picture)| picture).collect::<Result<Vec<_>>>()?;
        for ((id, _), row) in batch.iter().zip(net.pictures(&pictures)?) {
            if row.iter().any(|value| !value.is_finite()) {
                bail!("{id} of {}: its features are not all finite numbers: are the weights damaged?", part.name);
            }
            features.extend(row);
        }
        bar.inc(batch.len() as u64);
    }
    let rows = items.len() as i64;
    let width = features.len() as i64 / rows.max(1);
    Ok((Tensor::from_slice(&features).view([rows, width]), places))
}
