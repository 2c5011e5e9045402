//! The trained mini CLIP and mini CSD: what they say of the little world must be right, not only equal to the reference.
//!
//! The bars are conservative versions of the figures in experiments/mini/README.md.

use crate::mini;

use std::path::PathBuf;

use mini::{Person, cpu, json, mini, photo, prompt};
use tch::{Kind, Tensor};
use toolkit::metrics::image::features::FeatureNet;
use toolkit::metrics::image::networks::Network;
use toolkit::metrics::stats::{Moving, estimates};
use toolkit::metrics::text::clip_score::{Said, score};

/// Every style of the little world, by the folder of its pictures, and its short name.
const STYLES: [(&str, &str); 5] = [
    ("photos", "flat avatar style"),
    ("styles/lorelei", "ink comic style"),
    ("styles/open-peeps", "Peanuts comic style"),
    ("styles/pixel-art", "pixel art style"),
    ("styles/notionists", "line sketch style"),
];

fn open(network: Network, name: &str) -> FeatureNet {
    FeatureNet::open(network, Some(name), &cpu()).unwrap()
}

/// The first pictures of a folder of the little world.
fn pictures(folder: &str, count: usize) -> Vec<PathBuf> {
    let people: Vec<Person> = json(&format!("{folder}/attributes.json"));
    people.iter().take(count).map(|person| mini(folder).join(&person.file)).collect()
}

/// Of each row of `a` [n, features] the row of `b` [m, features] that is nearest to it.
fn nearest(a: &Tensor, b: &Tensor) -> Vec<i64> {
    let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2.0, [-1i64], true);
    Vec::try_from(unit(a).matmul(&unit(b).tr()).argmax(1, false)).unwrap()
}

fn share(found: &[i64], right: impl Iterator<Item = i64>) -> f64 {
    found.iter().zip(right).filter(|(found, right)| *found == right).count() as f64 / found.len() as f64
}

/// People that nobody learnt from, in five styles.
#[test]
fn styles_are_told_apart_by_csd_and_named_by_clip() {
    let (csd, clip) = (open(Network::Csd, "mini-csd"), open(Network::Clip, "mini-clip"));
    let count = 24;
    let right = || (0..5).flat_map(|style| std::iter::repeat_n(style, count));
    let all: Vec<PathBuf> = STYLES.iter().flat_map(|(folder, _)| pictures(folder, count + 8)).collect();
    let (known, asked): (Vec<(usize, &PathBuf)>, Vec<_>) = all.iter().enumerate().partition(|(at, _)| at % 32 < 8);
    let files = |of: Vec<(usize, &PathBuf)>| of.into_iter().map(|(_, file)| file.clone()).collect::<Vec<_>>();
    let (known, asked) = (files(known), files(asked));
    // The mean of eight others of a style stands for it.
    let means = csd.describe(&known, None).unwrap().view([5, 8, -1]).mean_dim([1i64].as_slice(), false, Kind::Float);
    let by_csd = share(&nearest(&csd.describe(&asked, None).unwrap(), &means), right());
    let names = clip.texts(&STYLES.map(|(_, name)| name.to_string())).unwrap();
    let by_clip = share(&nearest(&clip.describe(&asked, None).unwrap(), &names), right());
    println!("{by_csd:.3} of {} styles are recognized by CSD, {by_clip:.3} named by CLIP", asked.len());
    assert!(by_csd >= 0.98, "{by_csd}");
    assert!(by_clip >= 0.95, "{by_clip}");
}

/// A description and a photo of 32 belong to each other, and CLIPScore says so.
#[test]
fn photos_and_their_descriptions_find_each_other() {
    let clip = open(Network::Clip, "mini-clip");
    let people: Vec<Person> = json("photos/attributes.json");
    let photos: Vec<image::RgbImage> = people.iter().map(photo).collect();
    let described = |person: &Person| prompt(person, "").trim_end_matches(", ").to_string();
    let texts: Vec<String> = people.iter().map(described).collect();
    let seen = clip.features(&photos, 16).unwrap();
    let told = clip.texts(&texts.iter().map(|text| format!("A photo depicts {text}")).collect::<Vec<_>>()).unwrap();
    let order = || 0..people.len() as i64;
    let (by_photo, by_text) = (share(&nearest(&seen, &told), order()), share(&nearest(&told, &seen), order()));
    println!("of {}: {by_photo:.3} of the texts found by their photo, {by_text:.3} the other way", people.len());
    assert!(by_photo >= RETRIEVED && by_text >= RETRIEVED, "{by_photo} {by_text}");

    // Each photo with its own description, and with that of another.
    let scores = |shift: usize| {
        let said = |at: usize| Said { caption: &texts[(at + shift) % texts.len()], picture: at, references: &[] };
        let said: Vec<Said> = (0..texts.len()).map(said).collect();
        Moving::mean(score(&clip, &seen, &said).unwrap().into_iter().map(|scores| scores.clip_score).collect())
    };
    let (own, others) = (scores(0), scores(1));
    let apart = estimates(&[&own.less(&others)], 1, 0).unwrap()[0];
    println!("CLIPScore {:.3} of the own description, {:.3} of another's: {apart:?}", own.value, others.value);
    assert!(apart.value > 0.1 && apart.interval.low > 0.0 && apart.p_value < 0.001, "{apart:?}");
}

/// The least share of descriptions that are found among 32.
const RETRIEVED: f64 = 0.8;
