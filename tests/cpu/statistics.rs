//! Paired tests: against the reference libraries (tests/reference/statistics.py), and how often they err.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use tch::Tensor;
use toolkit::metrics::image::artfid::ScoreOptions;
use toolkit::metrics::image::paired::{PairedDifference, Side, differences};
use toolkit::metrics::image::{PictureMetric, PictureSet};
use toolkit::metrics::people::spearman;
use toolkit::metrics::stats::{Moving, estimates, holm};
use toolkit::metrics::{Values, find};

#[derive(Deserialize)]
struct Golden {
    paired: Vec<Paired>,
    sets: Vec<Sets>,
    holm: Corrected,
    spearman: Vec<Ranked>,
}

#[derive(Deserialize)]
struct Paired {
    first: Vec<f64>,
    second: Vec<f64>,
    difference: f64,
    interval: [f64; 2],
    p_value: f64,
    permutation_p: f64,
}

#[derive(Deserialize)]
struct Sets {
    features: i64,
    first: Vec<f64>,
    second: Vec<f64>,
    style: Vec<f64>,
    difference: f64,
    permutation_p: f64,
}

#[derive(Deserialize)]
struct Corrected {
    p_values: Vec<f64>,
    corrected: Vec<f64>,
}

#[derive(Deserialize)]
struct Ranked {
    a: Vec<f64>,
    b: Vec<f64>,
    value: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/statistics/values.json")).unwrap()
}

#[test]
fn paired_intervals_are_those_of_the_reference() {
    for case in golden().paired {
        let n = case.first.len();
        let scores = Moving::mean(case.first).less(&Moving::mean(case.second));
        let found = estimates(&[&scores], 1, 0).unwrap()[0];
        assert!((found.value - case.difference).abs() < 1e-12);
        let width = case.interval[1] - case.interval[0];
        // Ours are of 10 000 resamples: an end of theirs moves by about 1 % of the width between seeds.
        let tolerance = if n < 6 { 1e-9 } else { 0.03 };
        for (ours, theirs) in [found.interval.low, found.interval.high].into_iter().zip(case.interval) {
            assert!((ours - theirs).abs() < tolerance * width, "n = {n}: {ours} where arch has {theirs}");
        }
        let p = found.p_value;
        let tolerance = if n < 6 { 1e-9 } else { 0.01 };
        assert!((p - case.p_value).abs() < tolerance, "n = {n}: {p} where arch or SciPy has {}", case.p_value);
        // Another test of the same question; of few items it knows but few probabilities.
        let other = case.permutation_p;
        assert!(n < 6 || (p - other).abs() < 0.02 + 0.2 * other, "n = {n}: {p} beside {other}");
        assert_eq!(p < 0.05, !found.interval.contains(0.0), "n = {n}: interval and probability agree");
    }
}

#[test]
fn corrections_and_rank_correlations_are_those_of_the_reference() {
    let golden = golden();
    for (ours, theirs) in holm(&golden.holm.p_values).iter().zip(&golden.holm.corrected) {
        assert!((ours - theirs).abs() < 1e-12, "{ours} {theirs}");
    }
    for case in golden.spearman {
        let pairs: Vec<(f64, f64)> = case.a.into_iter().zip(case.b).collect();
        assert!((spearman(&pairs).unwrap().rho - case.value).abs() < 1e-12);
    }
}

fn metric(name: &str) -> &'static dyn PictureMetric {
    find(name).and_then(|metric| metric.of_pictures()).unwrap()
}

/// Two strategies of the same photos by their features, each row a photo, and LPIPS.
fn compare(
    style: &Tensor,
    features: [&Tensor; 2],
    lpips: [Vec<f64>; 2],
    metrics: &[&'static dyn PictureMetric],
) -> Vec<PairedDifference> {
    let options = ScoreOptions { resamples: 0, ..ScoreOptions::default() };
    let names: Vec<String> = (0..lpips[0].len()).map(|at| format!("p{at}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let sets: Vec<PictureSet> = features
        .into_iter()
        .zip(lpips)
        .map(|(features, lpips)| {
            let items = BTreeMap::from([("lpips", lpips)]);
            PictureSet::new(style.shallow_clone(), features.shallow_clone(), items, &options)
        })
        .collect();
    let values: Vec<Values> = sets
        .iter()
        .map(|set| metrics.iter().map(|metric| (metric.about().name, metric.of_set(set).unwrap().value)).collect())
        .collect();
    let sides: Vec<Side> =
        sets.iter().zip(&values).map(|(pictures, values)| Side { ids: &ids, pictures, values }).collect();
    differences(&sides, &[(0, 1)], metrics).unwrap()
}

#[test]
fn sets_differ_as_permutations_of_their_pictures_say() {
    for case in golden().sets {
        let matrix = |values: &[f64]| Tensor::from_slice(values).view([-1, case.features]);
        let (first, second) = (matrix(&case.first), matrix(&case.second));
        let n = first.size()[0] as usize;
        let lpips = [vec![0.5; n], vec![0.5; n]];
        let found = compare(&matrix(&case.style), [&first, &second], lpips, &[metric("fid")]).remove(0);
        assert_eq!(found.n, n);
        assert!((found.estimate.value - case.difference).abs() < 1e-6, "{found:?} {}", case.difference);
        let p = found.estimate.p_value;
        assert!((p - case.permutation_p).abs() < 0.02 + 0.3 * case.permutation_p, "{p} beside {}", case.permutation_p);
    }
}

/// Nearly normal: the sum of twelve even numbers from 0 to 1, less its mean.
fn normal(generator: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| generator.random::<f64>()).sum::<f64>() - 6.0
}

fn matrix(n: usize, d: usize, mut number: impl FnMut(usize, usize) -> f64) -> Tensor {
    let values: Vec<f64> = (0..n * d).map(|at| number(at / d, at % d)).collect();
    Tensor::from_slice(&values).view([n as i64, d as i64])
}

/// Two strategies that draw alike, but for chance, from the same photos; `apart` moves the second away.
fn simulated(n: usize, d: usize, apart: f64, seed: u64) -> Vec<PairedDifference> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let scale = |feature: usize| 1.0 - 0.9 * feature as f64 / d as f64;
    let style = matrix(20, d, |_, feature| normal(&mut generator) * scale(feature));
    let photos: Vec<f64> = (0..n * (d + 1)).map(|_| normal(&mut generator)).collect();
    let mut drawn = |by: f64| {
        matrix(n, d, |photo, feature| {
            (0.7 * photos[photo * (d + 1) + feature] + 0.7 * normal(&mut generator)) * scale(feature) + 0.4 + by
        })
    };
    let (first, second) = (drawn(0.0), drawn(apart));
    let mut lpips = |by: f64| -> Vec<f64> {
        // Skewed, as distances are.
        (0..n)
            .map(|photo| 0.5 + 0.02 * (photos[photo * (d + 1) + d] + normal(&mut generator).powi(2)) + 0.1 * by)
            .collect()
    };
    let lpips = [lpips(0.0), lpips(apart)];
    compare(&style, [&first, &second], lpips, &["artfid", "fid", "lpips", "kid"].map(metric))
}

/// How many of 400 runs of equal strategies are told apart at 5 %, by metric.
#[test]
fn equal_strategies_are_seldom_told_apart() {
    let mut rejected: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..400 {
        for found in simulated(24, 32, 0.0, seed) {
            *rejected.entry(found.metric).or_default() += usize::from(found.estimate.p_value < 0.05);
        }
    }
    assert_eq!(rejected.len(), 4);
    for (metric, count) in rejected {
        println!("{metric}: {count} of 400");
        assert!(count <= 24, "{metric}: {count} of 400 at 5 %, more than 6 %");
        assert!(count >= 4, "{metric}: {count} of 400 at 5 %: it tells nothing apart");
    }
}

#[test]
fn strategies_that_differ_are_told_apart() {
    let found: Vec<Vec<PairedDifference>> = (0..20).map(|seed| simulated(24, 16, 0.3, seed)).collect();
    for at in 0..4 {
        let told = found.iter().filter(|run| run[at].estimate.p_value < 0.05 && run[at].estimate.value < 0.0).count();
        assert!(told >= 18, "{}: {told} of 20", found[0][at].metric);
    }
}

/// What the default of a metric does (leave out one picture after the other) comes to what its own formula does.
#[test]
fn leaving_pictures_out_says_what_the_influence_does() {
    #[derive(Debug)]
    struct Plain(&'static str);
    impl toolkit::metrics::Metric for Plain {
        fn about(&self) -> &toolkit::metrics::About {
            metric(self.0).about()
        }
    }
    impl PictureMetric for Plain {
        fn of_set(&self, pictures: &PictureSet) -> anyhow::Result<toolkit::metrics::Value> {
            metric(self.0).of_set(pictures)
        }
    }
    let mut generator = ChaCha8Rng::seed_from_u64(4);
    let (style, drawn) = (matrix(30, 5, |_, _| normal(&mut generator)), matrix(200, 5, |_, _| 0.0));
    let drawn = drawn + matrix(200, 5, |_, _| 0.5 + normal(&mut generator));
    let options = ScoreOptions::default();
    let lpips = (0..200).map(|at| 0.3 + 0.001 * f64::from(at)).collect();
    let set = PictureSet::new(style, drawn, BTreeMap::from([("lpips", lpips)]), &options);
    for name in ["artfid", "fid", "kid"] {
        let centred = |values: Vec<f64>| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.into_iter().map(|value| value - mean).collect::<Vec<f64>>()
        };
        let ours = centred(metric(name).moves(&set).unwrap());
        let left_out = centred(Plain(name).moves(&set).unwrap());
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let alike = product(&ours, &left_out) / (product(&ours, &ours) * product(&left_out, &left_out)).sqrt();
        let longer = (product(&left_out, &left_out) / product(&ours, &ours)).sqrt();
        assert!(alike > 0.99 && (longer - 1.0).abs() < 0.1, "{name}: {alike} {longer}");
    }
}
