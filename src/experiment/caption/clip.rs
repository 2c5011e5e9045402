//! CLIPScore of a run's captions: the pictures are looked at again when all are described, each once for all models.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use tch::Tensor;

use super::Captioning;
use super::config::CaptionConfig;
use super::plan::Part;
use crate::datasets::Picture;
use crate::experiment::embed::{BATCH, Embed, EmbedBatch, EmbeddingPass, Shown, Taker};
use crate::experiment::kind::{Inputs, Work};
use crate::experiment::stage::pass;
use crate::images;
use crate::metrics::image::features::TEXTS;
use crate::metrics::image::networks::Network;
use crate::metrics::text::clip_score::{ClipScores, Said, score_of, texts};
use crate::metrics::text::{CaptionMetric, Profile};
use crate::metrics::{is_asked, of_captions};
use crate::run::caption::CaptionItem;

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
    let Work { plan, config, .. } = *work;
    let names: Vec<&str> = asked(config).map(|metric| metric.about().name).collect();
    let lacks = |row: &CaptionItem| row.is_done() && names.iter().any(|name| row.values.value(name).is_none());
    if !rows.iter().any(lacks) {
        return Ok(());
    }
    let mut wanted = Vec::new();
    for (at, part) in plan.parts.iter().enumerate() {
        let own: Vec<usize> =
            (0..rows.len()).filter(|row| rows[*row].dataset == part.name && lacks(&rows[*row])).collect();
        wanted.push(Wanted::new(part, at, &own, rows));
    }
    let batches = wanted.iter().flat_map(Wanted::batches).collect();
    let mut embedding = EmbeddingPass { stage: stage(work.inputs()), batches, taker: wanted };
    pass(&mut embedding, work.progress, &work.crew, None)?;
    for wanted in embedding.taker {
        let scores = wanted.scores(rows)?;
        for (row, scores) in wanted.rows.into_iter().zip(scores) {
            rows[row].values.set_value("clip_score", Some(scores.clip_score));
            rows[row].values.set_value("ref_clip_score", scores.ref_clip_score);
        }
    }
    Ok(())
}

/// The network, and how what it sees is decoded.
pub fn stage<'a>(inputs: Inputs<'a, Captioning>) -> Embed<'a> {
    let Inputs { plan, config, models, .. } = inputs;
    Embed {
        open: Box::new(|network| models.embedder(network, model(config))),
        decode: Box::new(|shown| {
            let (part, items) =
                if let Shown::Items(part, items) = shown { (*part, items.as_slice()) } else { (0, &[][..]) };
            let pictures: Vec<Picture> =
                items.iter().map(|item| plan.parts[part].set.items[*item].picture.clone()).collect();
            let count = pictures.len();
            Box::new(images::stream_with(pictures, count, Picture::load).map(|(_, picture)| picture))
        }),
    }
}

/// What is scored of a part, and the features for it: pictures are of the even groups, texts of the odd ones.
struct Wanted<'a> {
    part: &'a Part,
    at: usize,
    /// Rows of the run.
    rows: Vec<usize>,
    /// Items of the part, and where each id stands among them.
    items: Vec<usize>,
    places: BTreeMap<&'a str, usize>,
    references: BTreeMap<&'a str, &'a [String]>,
    texts: Vec<String>,
    pictures: Vec<Vec<f32>>,
    of_texts: Vec<Vec<f32>>,
}

impl<'a> Wanted<'a> {
    fn new(part: &'a Part, at: usize, own: &[usize], rows: &[CaptionItem]) -> Self {
        let ids: BTreeSet<&str> = own.iter().map(|row| rows[*row].id.as_str()).collect();
        let all = &part.set.items;
        let items: Vec<usize> = (0..all.len()).filter(|item| ids.contains(all[*item].id.as_str())).collect();
        let places = items.iter().enumerate().map(|(place, item)| (all[*item].id.as_str(), place)).collect();
        let references = all.iter().map(|item| (item.id.as_str(), item.references.as_slice())).collect();
        let mut wanted = Self {
            part,
            at,
            rows: own.to_vec(),
            pictures: vec![Vec::new(); items.len()],
            items,
            places,
            references,
            texts: Vec::new(),
            of_texts: Vec::new(),
        };
        wanted.texts = texts(&wanted.said(rows));
        wanted.of_texts = vec![Vec::new(); wanted.texts.len()];
        wanted
    }

    fn said<'b>(&'b self, rows: &'b [CaptionItem]) -> Vec<Said<'b>> {
        let said = |row: &usize| {
            let row = &rows[*row];
            let references = self.references.get(row.id.as_str()).copied().unwrap_or_default();
            Said { caption: &row.caption, picture: self.places[row.id.as_str()], references }
        };
        self.rows.iter().map(said).collect()
    }

    fn batches(&self) -> Vec<EmbedBatch> {
        let batch =
            |group, start, shown| EmbedBatch { group, start, network: Network::Clip.model().to_string(), shown };
        let pictures = self
            .items
            .chunks(BATCH)
            .enumerate()
            .map(|(number, items)| batch(2 * self.at, number * BATCH, Shown::Items(self.at, items.to_vec())));
        let texts = self
            .texts
            .chunks(TEXTS)
            .enumerate()
            .map(|(number, texts)| batch(2 * self.at + 1, number * TEXTS, Shown::Texts(texts.to_vec())));
        pictures.chain(texts).collect()
    }

    fn scores(&self, rows: &[CaptionItem]) -> Result<Vec<ClipScores>> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let matrix = |rows: &[Vec<f32>]| Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1]);
        score_of(&matrix(&self.of_texts), &matrix(&self.pictures), &self.said(rows))
    }
}

impl Taker for Vec<Wanted<'_>> {
    fn take(&mut self, batch: &EmbedBatch, rows: Vec<Vec<f32>>) -> Result<()> {
        let wanted = &mut self[batch.group / 2];
        let all = if batch.group.is_multiple_of(2) { &mut wanted.pictures } else { &mut wanted.of_texts };
        all.splice(batch.start..batch.start + rows.len(), rows);
        Ok(())
    }

    fn name(&self, batch: &EmbedBatch, at: usize) -> String {
        let wanted = &self[batch.group / 2];
        match &batch.shown {
            Shown::Texts(texts) => format!("{:?}", texts[at]),
            _ => format!("{} of {}", wanted.part.set.items[wanted.items[batch.start + at]].id, wanted.part.name),
        }
    }
}
