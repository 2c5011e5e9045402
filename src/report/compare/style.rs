//! Two style runs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use tch::Tensor;

use super::{Features, Found, Line, ReadFeatures, correct};
use crate::metrics::image::artfid::ScoreOptions;
use crate::metrics::image::paired::moving;
use crate::metrics::image::{PictureMetric, PictureSet};
use crate::metrics::of_pictures;
use crate::metrics::stats::{Moving, estimates};
use crate::report::style::StyleRun;
use crate::run::guard;
use crate::run::style::ItemRow;

/// Settings that say how pictures are measured: where one differs, single pictures cannot be held against each other.
const OF_MEASURING: [&str; 6] = ["comparison_size", "fit", "inception", "lpips_backbone", "lpips_linear", "mode"];
/// Pairs of strategies that are compared where the runs have none of the same name.
const MOST_PAIRS: usize = 400;
/// Of the resamples.
const SEED: u64 = 0;

/// The strategies of the same name; where there are none, each of the first with each of the second.
pub fn compare(first: &StyleRun, second: &StyleRun, features: ReadFeatures) -> Result<Found> {
    let mut found = Found::default();
    let pairs = pairs(first, second, &mut found.remarks);
    let metrics: Vec<&'static dyn PictureMetric> = of_pictures()
        .filter(|metric| {
            let known = |run: &StyleRun| run.results.iter().any(|row| row.values.value(metric.about().name).is_some());
            known(first) || known(second)
        })
        .collect();
    let shared = Shared::new(first, second, features, &mut found.remarks)?;
    let mut tests: Vec<(usize, Moving)> = Vec::new();
    for (a, b) in &pairs {
        let ids = shared.ids(a, b);
        let sets = shared.sets(a, b, &ids);
        for metric in &metrics {
            let about = metric.about();
            let value = |run: &StyleRun, name: &str| {
                run.results.iter().find(|row| row.strategy == name)?.values.value(about.name)
            };
            let name = if a == b { a.to_string() } else { format!("{a} / {b}") };
            let line = Line::of_metric(&name, about.name, [value(first, a), value(second, b)]);
            if let Some(moving) = shared.difference(*metric, (a, b), &ids, sets.as_ref()) {
                tests.push((found.lines.len(), moving));
            }
            found.lines.push(line);
        }
    }
    let all: Vec<&Moving> = tests.iter().map(|(_, moving)| moving).collect();
    for ((at, moving), estimate) in tests.iter().zip(estimates(&all, pairs.len(), SEED)?) {
        found.lines[*at].put(moving.by_item.len(), estimate);
    }
    correct(&mut found.lines);
    Ok(found)
}

fn pairs<'a>(first: &'a StyleRun, second: &'a StyleRun, remarks: &mut Vec<String>) -> Vec<(&'a str, &'a str)> {
    let names = |run: &'a StyleRun| run.results.iter().map(|row| row.strategy.as_str()).collect::<Vec<&str>>();
    let (a, b) = (names(first), names(second));
    let same: Vec<(&str, &str)> = a.iter().filter(|name| b.contains(name)).map(|name| (*name, *name)).collect();
    if !same.is_empty() {
        let alone = |of: &[&str], others: &[&str]| of.iter().filter(|name| !others.contains(name)).count();
        let left = alone(&a, &b) + alone(&b, &a);
        if left > 0 {
            remarks.push(format!("{left} strategies are in one of the runs alone and are left out."));
        }
        return same;
    }
    remarks
        .push("no strategy has the same name in both: each of the first stands beside each of the second.".to_string());
    let mut all: Vec<(&str, &str)> = a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b))).collect();
    if all.len() > MOST_PAIRS {
        remarks.push(format!("only the first {MOST_PAIRS} of {} such pairs are shown.", all.len()));
        all.truncate(MOST_PAIRS);
    }
    all
}

/// What the runs share.
struct Shared<'a> {
    runs: [&'a StyleRun; 2],
    /// Photos that are the same in both, byte for byte; none where they were measured in different ways.
    photos: BTreeSet<&'a str>,
    /// The features of both; none where those of the style pictures differ.
    features: Option<[Features; 2]>,
    options: ScoreOptions,
}

impl<'a> Shared<'a> {
    fn new(first: &'a StyleRun, second: &'a StyleRun, read: ReadFeatures, remarks: &mut Vec<String>) -> Result<Self> {
        let options = ScoreOptions { resamples: 0, ..ScoreOptions::default() };
        let runs = [first, second];
        let mut shared = Self { runs, photos: BTreeSet::new(), features: None, options };
        let shown =
            |run: &StyleRun, key: &str| run.folder.config.get(key).map_or("not set".into(), ToString::to_string);
        if let Some(key) = OF_MEASURING.iter().find(|key| shown(first, key) != shown(second, key)) {
            let (a, b) = (shown(first, key), shown(second, key));
            remarks.push(format!("{key} is {a} and {b}: single pictures are not compared."));
            return Ok(shared);
        }
        shared.photos = same_photos(first, second);
        if shared.photos.len() < 2 {
            remarks.push("they share no photos: single pictures are not compared.".to_string());
            return Ok(shared);
        }
        match (read(&first.folder.dir)?, read(&second.folder.dir)?) {
            (Some(a), Some(b)) if a.style == b.style && a.style.len() >= 2 => shared.features = Some([a, b]),
            (Some(_), Some(_)) => remarks.push(
                "their style pictures differ: FID and what is made of it are not compared on the same photos."
                    .to_string(),
            ),
            _ => remarks.push(
                "features/ is missing: FID and what is made of it are not compared on the same photos.".to_string(),
            ),
        }
        Ok(shared)
    }

    fn item(&self, run: usize, strategy: &str, id: &str) -> Option<&'a ItemRow> {
        let is = |item: &&ItemRow| item.id == id && item.strategy == strategy && item.status != "failed";
        self.runs[run].items.iter().find(is)
    }

    /// The photos of which both strategies have a picture.
    fn ids(&self, a: &str, b: &str) -> Vec<&'a str> {
        let of = |run: usize, strategy: &str| -> BTreeSet<&'a str> {
            let done = self.runs[run].items.iter().filter(|item| item.strategy == strategy && item.status != "failed");
            done.map(|item| item.id.as_str()).collect()
        };
        let (a, b) = (of(0, a), of(1, b));
        self.photos.iter().filter(|id| a.contains(*id) && b.contains(*id)).copied().collect()
    }

    /// The sets of pictures of these photos, where all of them have features.
    fn sets(&self, a: &str, b: &str, ids: &[&str]) -> Option<[PictureSet<'_>; 2]> {
        let [first, second] = self.features.as_ref()?;
        if ids.len() < 2 {
            return None;
        }
        let set = |run: usize, features: &Features, strategy: &str| {
            let row = |id: &&str| features.pictures.get(&format!("{strategy}/{id}"));
            let drawn: Vec<&Vec<f32>> = ids.iter().map(row).collect::<Option<_>>()?;
            let mut items: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
            for about in of_pictures().map(|metric| metric.about()).filter(|about| about.item.is_some()) {
                let values = ids.iter().map(|id| self.item(run, strategy, id)?.values.value(about.name));
                items.extend(values.collect::<Option<Vec<f64>>>().map(|values| (about.name, values)));
            }
            Some(PictureSet::new(matrix(features.style.iter())?, matrix(drawn.into_iter())?, items, &self.options))
        };
        Some([set(0, first, a)?, set(1, second, b)?])
    }

    /// A metric of the first run's strategy less that of the second's, on these photos.
    fn difference(
        &self,
        metric: &'static dyn PictureMetric,
        (a, b): (&str, &str),
        ids: &[&str],
        sets: Option<&[PictureSet<'_>; 2]>,
    ) -> Option<Moving> {
        if ids.len() < 2 {
            return None;
        }
        let about = metric.about();
        let one = |run: usize, strategy: &str| {
            if about.item.is_some() {
                let values = ids.iter().map(|id| self.item(run, strategy, id)?.values.value(about.name));
                return values.collect::<Option<Vec<f64>>>().map(Moving::mean);
            }
            moving(&sets?[run], &[metric], None).pop()?
        };
        Some(one(0, a)?.less(&one(1, b)?))
    }
}

/// [rows, features]; none where rows differ in length.
fn matrix<'a>(rows: impl Iterator<Item = &'a Vec<f32>>) -> Option<Tensor> {
    let rows: Vec<&Vec<f32>> = rows.collect();
    let width = rows.first()?.len();
    rows.iter().all(|row| row.len() == width).then(|| {
        let all: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
        Tensor::from_slice(&all).view([rows.len() as i64, width as i64])
    })
}

/// The photos that lie in both run folders and are the same there.
fn same_photos<'a>(first: &'a StyleRun, second: &StyleRun) -> BTreeSet<&'a str> {
    let bytes = |run: &StyleRun, photo: &str| {
        std::fs::read(guard::inside(&run.folder.dir, photo).ok()?).ok().filter(|bytes| !bytes.is_empty())
    };
    let of_second: BTreeMap<&str, &str> =
        second.items.iter().map(|item| (item.id.as_str(), item.photo.as_str())).collect();
    let of_first: BTreeMap<&str, &str> =
        first.items.iter().map(|item| (item.id.as_str(), item.photo.as_str())).collect();
    let same = |(id, photo): (&'a str, &'a str)| {
        let own = bytes(first, photo)?;
        (own == bytes(second, of_second.get(id)?)?).then_some(id)
    };
    of_first.into_iter().filter_map(same).collect()
}
