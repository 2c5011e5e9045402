//! `toolkit evaluate artfid | lpips`, and the metrics that compare two folders of pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value, json};
use tch::Device;

use super::evaluate_shared::{Devices, Look, Nets, Set};
use super::evaluate_size::Sizes;
use super::print::{self, say};
use crate::cli::{ArtfidArgs, ArtfidMode, FoldersArgs, Format, Global, LpipsArgs, LpipsNets};
use crate::error::Outcome;
use crate::images;
use crate::metrics::image::PictureMetric;
use crate::metrics::image::artfid::{self, Mode, ScoreOptions, Scores, StylePictures};
use crate::metrics::image::lpips::numbers;
use crate::metrics::image::networks::Network;
use crate::metrics::image::pictures::{Pair, pairs, several};
use crate::metrics::stats::{Drawn, Interval, bootstrap};
use crate::models::metric_nets::{alexnet, inception};
use crate::models::{LpipsFiles, locate_inception, locate_lpips};
use crate::runtime::{Runtime, log_moment, log_peak_memory};

pub fn artfid(args: &ArtfidArgs, global: &Global) -> Result<Outcome> {
    log_moment("begins");
    let (mut devices, most) = (Devices::foresee(global)?, args.measuring.at_a_time()?);
    let pairs = pairs(&args.content, &args.stylized)?;
    let style_files = images::list(&args.style)?;
    devices.expect(2 * pairs.len() + style_files.len());
    enough("ArtFID", &args.stylized, &pairs, 2)?;
    enough("ArtFID", &args.style, &style_files, 2)?;
    let mut sizes = Sizes::new(&args.size, inception::MIN_SIZE)?;
    sizes.check(&of_pairs(&pairs), Some(inception::MIN_SIZE), &[&args.content, &args.stylized])?;
    sizes.check(&style_files, Some(inception::MIN_SIZE), &[&args.style])?;
    sizes.say_if_squeezed();
    log_moment("the headers of all pictures are read");
    let options = ScoreOptions {
        mode: mode(args.mode),
        points: args.points,
        min_sample: args.min_sample,
        seed: args.seed,
        resamples: args.resamples,
    };
    let (n, resamples, seed) = (pairs.len(), options.resamples, options.seed);
    let draws = std::thread::spawn(move || Drawn::new(n, resamples, seed));
    let rt = finding(global);
    let inception = locate_inception(named(&args.nets.inception, "art-inception"), &rt)?;
    let nets = Nets::art_fid(inception, lpips_files(&args.nets.lpips, &rt)?);
    // Those of the style first: their half of the distance is reckoned while the others are looked at.
    let sets = [Set::files(&style_files), Set::pairs(&pairs)].map(|set| set.with_squares(sizes.square.as_ref()));
    let look = Look { nets, sets: sets.into(), most, tf32: devices.tf32(args.measuring.tf32), solvers: true };
    let (mut style, mut stylized) = (None, None);
    let rt = devices.look(&look, &mut |set, seen| {
        let features = seen.features.context("a set has no features")?;
        match seen.lpips {
            None => style = Some(StylePictures::new(features)?),
            Some(lpips) => stylized = Some((features, lpips)),
        }
        log_moment(["the style pictures are reckoned with", "the pairs are here"][set]);
        Ok(())
    })?;
    let (style, (stylized, lpips)) = style.zip(stylized).context("not every set was measured")?;
    let lpips = numbers(&[lpips])?;
    sizes.say_without_face();
    let draws = || draws.join().map_err(|_| anyhow!("the bootstrap's draws failed"));
    let scores = artfid::score_against(&style, (&stylized, &lpips), &options, draws)?;
    log_moment("scored");
    log_peak_memory(rt.device);
    for warning in &scores.warnings {
        tracing::warn!("{warning}");
    }
    match args.measuring.format {
        Format::Text => print_scores(&scores)?,
        Format::Json => {
            let mut json = scores_json(&scores, &pairs, &lpips, &sizes);
            look.note(&mut json);
            say!("{}", serde_json::to_string_pretty(&json)?);
        }
        Format::Csv => print_csv(&scores)?,
    }
    Ok(Outcome::Done)
}

/// A metric that compares two folders of pictures.
pub fn folders(metric: &dyn PictureMetric, args: &FoldersArgs, global: &Global) -> Result<Outcome> {
    let about = metric.about();
    let between = metric.of_features().with_context(|| format!("{} is not of two folders", about.label))?;
    let network = Network::choose(args.network.as_deref(), between.networks)?;
    let (mut devices, most) = (Devices::foresee(global)?, args.measuring.at_a_time()?);
    let (files_a, files_b) = (images::list(&args.dir_a)?, images::list(&args.dir_b)?);
    devices.expect(files_a.len() + files_b.len());
    enough(about.label, &args.dir_a, &files_a, between.least[0])?;
    enough(about.label, &args.dir_b, &files_b, between.least[1])?;
    let own_size = network.takes_own_size();
    let least = own_size.then(|| network.least());
    let mut sizes = Sizes::new(&args.size, least.unwrap_or(1))?;
    let files = [&files_a, &files_b];
    for (files, folder) in files.into_iter().zip([&args.dir_a, &args.dir_b]) {
        sizes.check(files, least, &[folder])?;
    }
    sizes.say_if_squeezed();
    network.locate(args.inception.as_deref().unwrap_or(network.model()), &finding(global))?;
    let nets = Nets::Features(network.model().to_string(), args.inception.clone());
    let sets = files.map(|files| Set::files(files).with_squares(sizes.square.as_ref())).into();
    let look = Look { nets, sets, most, tf32: devices.tf32(args.measuring.tf32), solvers: true };
    let mut features = [None, None];
    devices.look(&look, &mut |set, seen| {
        features[set] = seen.features;
        Ok(())
    })?;
    let [Some(a), Some(b)] = features else { bail!("not every set was measured") };
    let width = a.size().last().copied().unwrap_or(0);
    sizes.say_without_face();
    let network = if own_size { network.model() } else { args.inception.as_deref().unwrap_or(network.model()) };
    let score = (between.compare)(&a, &b, &ScoreOptions::default())?;
    let (value, n) =
        (score.value.with_context(|| format!("{} is no finite number", about.label))?, [files_a.len(), files_b.len()]);
    let ends = score.low.zip(score.high);
    match args.measuring.format {
        Format::Text => {
            let interval = ends.map_or(String::new(), |(low, high)| format!("   (95 %: {low:.4} to {high:.4})"));
            say!("{:<6} {value:.4}{interval}\n{} and {} pictures, in {}", about.label, n[0], n[1], network);
        }
        Format::Json => {
            let mut json = Map::from_iter([(about.name.to_string(), json!(value))]);
            if let Some((low, high)) = ends {
                json.extend([(about.low(), json!(low)), (about.high(), json!(high))]);
            }
            json.extend([("n_a", n[0]), ("n_b", n[1])].map(|(name, count)| (name.to_string(), json!(count))));
            json.insert("features".to_string(), json!(width));
            json.insert("network".to_string(), json!(network));
            sizes.note(&mut json);
            look.note(&mut json);
            say!("{}", serde_json::to_string_pretty(&json)?);
        }
        Format::Csv => {
            let (names, ends) = match ends {
                Some((low, high)) => (format!(",{},{}", about.low(), about.high()), format!(",{low},{high}")),
                None => (String::new(), String::new()),
            };
            say!("{}{names},n_a,n_b,network\n{value}{ends},{},{},{}", about.name, n[0], n[1], network);
        }
    }
    Ok(Outcome::Done)
}

/// What is enough to find the files of networks, before this process has a device.
fn finding(global: &Global) -> Runtime {
    Runtime { device: Device::Cpu, dtype: global.dtype, offline: global.offline }
}

pub fn lpips(args: &LpipsArgs, global: &Global) -> Result<Outcome> {
    let (mut devices, most) = (Devices::foresee(global)?, args.measuring.at_a_time()?);
    let pairs = pairs(&args.content, &args.stylized)?;
    devices.expect(2 * pairs.len());
    let mut sizes = Sizes::new(&args.size, alexnet::MIN_SIZE)?;
    sizes.check(&of_pairs(&pairs), Some(alexnet::MIN_SIZE), &[&args.content, &args.stylized])?;
    sizes.say_if_squeezed();
    let nets = Nets::lpips(lpips_files(&args.nets, &finding(global))?);
    let sets = vec![Set::pairs(&pairs).with_squares(sizes.square.as_ref())];
    let look = Look { nets, sets, most, tf32: devices.tf32(args.measuring.tf32), solvers: false };
    let mut values = Vec::new();
    devices.look(&look, &mut |_, seen| {
        values = numbers(&[seen.lpips.context("a set has no distances")?])?;
        Ok(())
    })?;
    sizes.say_without_face();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let [interval] = bootstrap(values.len(), ScoreOptions::default().resamples, 0, |counts| {
        [counts.iter().zip(&values).map(|(count, value)| count * value).sum::<f64>() / n]
    })?;
    match args.measuring.format {
        Format::Text => {
            say!("LPIPS  {mean:.4}   (95 %: {:.4} to {:.4})", interval.low, interval.high);
            for (pair, value) in pairs.iter().zip(&values) {
                say!("{value:.4}  {}", pair.id);
            }
        }
        Format::Json => {
            let per_image: Map<String, Value> =
                pairs.iter().zip(&values).map(|(pair, value)| (pair.id.clone(), json!(value))).collect();
            let mut value = Map::from_iter([
                ("lpips".to_string(), json!(mean)),
                ("n".to_string(), json!(values.len())),
                ("lpips_low".to_string(), json!(interval.low)),
                ("lpips_high".to_string(), json!(interval.high)),
                ("per_image".to_string(), Value::Object(per_image)),
            ]);
            sizes.note(&mut value);
            look.note(&mut value);
            say!("{}", serde_json::to_string_pretty(&value)?);
        }
        Format::Csv => {
            print::table(|csv| {
                csv.write_record(["image", "lpips"])?;
                let mut rows = pairs.iter().zip(&values);
                rows.try_for_each(|(pair, value)| csv.write_record([&pair.id, &value.to_string()]))
            })?;
        }
    }
    Ok(Outcome::Done)
}

/// That a folder has as many pictures as a metric needs.
fn enough<T>(label: &str, folder: &Path, files: &[T], least: usize) -> Result<()> {
    let found = files.len();
    ensure!(found >= least, "{} has {}: {label} needs at least {least} there", folder.display(), several(found));
    Ok(())
}

fn of_pairs(pairs: &[Pair]) -> Vec<&PathBuf> {
    pairs.iter().flat_map(|pair| [&pair.content, &pair.stylized]).collect()
}

fn named<'a>(given: &'a Option<String>, default: &'a str) -> &'a str {
    given.as_deref().unwrap_or(default)
}

fn lpips_files(nets: &LpipsNets, rt: &Runtime) -> Result<LpipsFiles> {
    let [backbone, linear] = [&nets.lpips_backbone, &nets.lpips_linear].map(|given| named(given, "lpips-alex"));
    locate_lpips(backbone, linear, rt)
}

fn mode(mode: ArtfidMode) -> Mode {
    match mode {
        ArtfidMode::ArtFid => Mode::ArtFid,
        ArtfidMode::ArtFidInf => Mode::ArtFidInf,
    }
}

/// Name, value and interval of the three scores.
fn rows(scores: &Scores) -> [(&'static str, f64, Option<Interval>); 3] {
    let intervals = scores.intervals.as_ref();
    [
        ("artfid", scores.artfid, intervals.map(|intervals| intervals.artfid)),
        ("fid", scores.fid, intervals.map(|intervals| intervals.fid)),
        ("lpips", scores.lpips, intervals.map(|intervals| intervals.lpips)),
    ]
}

fn print_scores(scores: &Scores) -> Result<()> {
    for ((_, value, interval), title) in rows(scores).into_iter().zip(["ArtFID", "FID", "LPIPS"]) {
        let interval = interval.map(|i| format!("   (95 %: {:.4} to {:.4})", i.low, i.high)).unwrap_or_default();
        say!("{title:<7}{value:.4}{interval}");
    }
    say!("{} pictures", scores.n);
    Ok(())
}

fn scores_json(scores: &Scores, pairs: &[Pair], lpips: &[f64], sizes: &Sizes) -> Map<String, Value> {
    let mut json = Map::new();
    for (name, value, _) in rows(scores) {
        json.insert(name.to_string(), json!(value));
    }
    json.insert("n".to_string(), json!(scores.n));
    json.insert("mode".to_string(), json!(scores.mode));
    for (name, _, interval) in rows(scores) {
        if let Some(interval) = interval {
            json.insert(format!("{name}_low"), json!(interval.low));
            json.insert(format!("{name}_high"), json!(interval.high));
        }
    }
    json.insert("warnings".to_string(), json!(scores.warnings));
    sizes.note(&mut json);
    let per_image: Map<String, Value> = pairs
        .iter()
        .zip(lpips.iter().zip(&scores.style_distance))
        .map(|(pair, (lpips, distance))| (pair.id.clone(), json!({"lpips": lpips, "style_distance": distance})))
        .collect();
    json.insert("per_image".to_string(), Value::Object(per_image));
    json
}

fn print_csv(scores: &Scores) -> Result<()> {
    print::table(|csv| {
        csv.write_record(["score", "value", "low", "high", "n"])?;
        for (name, value, interval) in rows(scores) {
            let [low, high] =
                interval.map(|i| [i.low.to_string(), i.high.to_string()]).unwrap_or([String::new(), String::new()]);
            csv.write_record([name, &value.to_string(), &low, &high, &scores.n.to_string()])?;
        }
        Ok(())
    })
}
