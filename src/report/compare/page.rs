//! `compare.html`.

use anyhow::Result;
use serde::Serialize;

use super::{Found, Line};
use crate::metrics::label;
use crate::report::folder::Folder;
use crate::report::number::{equal, short, signed};
use crate::report::page::{date, fill};
use crate::run::compared::CERTAIN;

const TEMPLATE: &str = include_str!("page.html");

#[derive(Debug, Serialize)]
struct Page {
    title: String,
    question: String,
    sentence: String,
    remarks: Vec<String>,
    runs: Vec<Run>,
    pairs: Vec<Pair>,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Run {
    label: String,
    folder: String,
    name: String,
    started: String,
    device: String,
}

/// Two runs.
#[derive(Debug, Serialize)]
struct Pair {
    first: String,
    second: String,
    /// Key, and what it is in the two.
    settings: Vec<[String; 3]>,
    metrics: Vec<Metric>,
}

#[derive(Debug, Serialize)]
struct Metric {
    name: String,
    metric: String,
    first: String,
    second: String,
    n: String,
    difference: String,
    interval: String,
    p: String,
    is_certain: bool,
}

/// The page as text.
pub fn html(folders: &[&Folder], labels: &[String], found: &Found) -> Result<String> {
    let of_pair = |pair: &[Line]| Pair {
        first: pair[0].first_run.clone(),
        second: pair[0].second_run.clone(),
        settings: pair
            .iter()
            .filter(|line| line.what == "setting")
            .map(|line| [line.name.clone(), line.first.clone(), line.second.clone()])
            .collect(),
        metrics: pair.iter().filter(|line| line.what == "metric").map(metric).collect(),
    };
    let same = |a: &Line, b: &Line| (&a.first_run, &a.second_run) == (&b.first_run, &b.second_run);
    let run = |(folder, label): (&&Folder, &String)| {
        let fact = |key: &str| folder.manifest.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        Run {
            label: label.clone(),
            folder: folder.shown_dir(),
            name: folder.title().to_string(),
            started: folder.manifest.get("started").and_then(|value| value.as_u64()).map(date).unwrap_or_default(),
            device: [fact("device"), fact("dtype")].join(" ").trim().to_string(),
        }
    };
    let page = Page {
        title: labels.join(" and "),
        question: "What differs between these runs?".to_string(),
        sentence: sentence(&found.lines),
        remarks: found.remarks.clone(),
        runs: folders.iter().zip(labels).map(run).collect(),
        pairs: found.lines.chunk_by(same).map(of_pair).collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    fill(TEMPLATE, "", &page)
}

fn metric(line: &Line) -> Metric {
    let number = |text: &str| short(text.parse().ok());
    let probability = line.p_holm.or(line.p_value);
    Metric {
        name: line.name.clone(),
        metric: label(&line.metric).to_string(),
        first: number(&line.first),
        second: number(&line.second),
        n: line.n.map(|n| n.to_string()).unwrap_or_default(),
        difference: line.difference.map(signed).unwrap_or_default(),
        interval: line
            .low
            .zip(line.high)
            .map_or(String::new(), |(low, high)| format!("{} to {}", short(Some(low)), short(Some(high)))),
        p: probability.map(|p| format!("p {}", equal(p))).unwrap_or_default(),
        is_certain: probability.is_some_and(|p| p < CERTAIN),
    }
}

/// How much differs, in one sentence.
fn sentence(lines: &[Line]) -> String {
    let settings = lines.iter().filter(|line| line.what == "setting").count();
    let tests: Vec<&Line> = lines.iter().filter(|line| line.p_value.is_some()).collect();
    let certain = tests.iter().filter(|line| line.p_holm.or(line.p_value).is_some_and(|p| p < CERTAIN)).count();
    let settings = match settings {
        0 => "No setting differs".to_string(),
        1 => "One setting differs".to_string(),
        many => format!("{many} settings differ"),
    };
    let all = tests.len();
    let significant = match certain {
        0 => format!("none of {all} differences is significant"),
        1 => format!("1 of {all} differences is significant"),
        many => format!("{many} of {all} differences are significant"),
    };
    match all {
        0 => format!("{settings}; the runs share no pictures on which they could be compared one by one."),
        _ => format!("{settings}; on the same pictures {significant}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_counts_what_is_significant() {
        let line = |p: f64| Line { p_value: Some(p), p_holm: Some(p), ..Line::default() };
        let said = |ps: &[f64]| sentence(&ps.iter().map(|&p| line(p)).collect::<Vec<_>>());
        assert_eq!(said(&[0.3, 1.0]), "No setting differs; on the same pictures none of 2 differences is significant.");
        assert_eq!(said(&[0.01, 1.0]), "No setting differs; on the same pictures 1 of 2 differences is significant.");
        assert_eq!(said(&[0.01, 0.02]), "No setting differs; on the same pictures 2 of 2 differences are significant.");
        assert!(said(&[]).contains("the runs share no pictures"));
    }
}
