//! Which pictures stand for a strategy: its successes and its failures.
//!
//! A picture is to keep its photo and to reach the style, so it is judged by both: its LPIPS distance
//! from the photo and the Euclidean distance of its art-Inception feature from the mean feature of the
//! style pictures. These are the two parts of ArtFID (Wright and Ommer, "ArtFID: Quantitative
//! Evaluation of Neural Style Transfer", <https://arxiv.org/abs/2207.12280>) taken to one picture: the
//! squared style distance is what a picture adds to ‖μ − μ_style‖² + tr Σ, the terms of FID in which
//! the pictures stand by themselves. Divided by no covariance: that of fewer style pictures than
//! features has no inverse.
//!
//! The two have other units and other spreads, so each is standardised over all measured pictures of
//! the run (mean 0, standard deviation 1) before they are added: then neither outweighs the other.

use std::collections::BTreeMap;

use super::PHOTO;
use crate::report::number::finite;
use crate::run::style::ItemRow;

/// Pictures at each end.
pub const CASES: usize = 5;

/// The rule in words, for the page and the notebook.
pub const RULE: &str = "Gallery score = LPIPS (distance from the photo) + style distance (of the picture's art-Inception \
                        feature from the mean of the style pictures), each standardised over all measured pictures of \
                        this run, so that both count the same. The best have the smallest scores of their strategy, the \
                        worst the largest; they are so beside the others of this run only, and no one has judged them.";

/// The same where people rated.
pub const RATED: &str = "Successes and failures are what people called so in toolkit view: those that most raters agree on first. Of \
                         a strategy that no one rated the best and the worst by score are shown, and said to be so.";

/// By what the pictures of a strategy were ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// What people said.
    People,
    /// The gallery score.
    Score,
    /// LPIPS alone: some picture has no style distance, and unlike numbers cannot be compared.
    Lpips,
    /// Not at all: no picture has an LPIPS. The first ones are shown.
    Unranked,
}

/// The two ends of a ranking; no picture is in both.
#[derive(Debug)]
pub struct Choice<'a> {
    pub rule: Rule,
    /// The best first.
    pub successes: Vec<&'a ItemRow>,
    /// The worst first.
    pub failures: Vec<&'a ItemRow>,
}

impl Choice<'_> {
    /// What the two ends are called: only people make a success or a failure.
    pub fn titles(&self) -> [&'static str; 2] {
        if self.rule == Rule::People { ["Successes", "Failures"] } else { ["Best scores", "Worst scores"] }
    }

    /// What one picture of each end is called.
    pub fn cases(&self) -> [&'static str; 2] {
        if self.rule == Rule::People { ["success", "failure"] } else { ["best", "worst"] }
    }
}

/// The share of raters who call a picture a success, by photo and strategy, and how many they are.
pub type Success<'a> = BTreeMap<(&'a str, &'a str), (f64, usize)>;

/// Chooses among the items of one strategy by what people said; None where no one rated any of them. A picture that as
/// many call a success as a failure is neither.
pub fn choose_rated<'a>(items: impl Iterator<Item = &'a ItemRow>, success: &Success) -> Option<Choice<'a>> {
    let of = |item: &ItemRow| success.get(&(item.id.as_str(), item.strategy.as_str())).copied();
    let rated = items.filter(|item| item.status != "failed" && !item.image.is_empty());
    let mut rated: Vec<(&ItemRow, (f64, usize))> = rated.filter_map(|item| Some((item, of(item)?))).collect();
    if rated.is_empty() {
        return None;
    }
    // The most certain first; among equals the score, then the name.
    let score = |item: &ItemRow| finite(item.gallery_score).unwrap_or(f64::INFINITY);
    rated.sort_by(|(a, of_a), (b, of_b)| {
        let shares = of_b.0.total_cmp(&of_a.0);
        let raters = if of_a.0 > 0.5 { of_b.1.cmp(&of_a.1) } else { of_a.1.cmp(&of_b.1) };
        shares.then(raters).then(score(a).total_cmp(&score(b))).then_with(|| (&a.id, a.seed).cmp(&(&b.id, b.seed)))
    });
    let good = rated.iter().filter(|(_, of)| of.0 > 0.5).map(|(item, _)| *item);
    let bad = rated.iter().rev().filter(|(_, of)| of.0 < 0.5).map(|(item, _)| *item);
    Some(Choice { rule: Rule::People, successes: good.take(CASES).collect(), failures: bad.take(CASES).collect() })
}

/// Chooses among the items of one strategy by their scores. Items that failed or have no picture take no part.
pub fn choose<'a>(items: impl Iterator<Item = &'a ItemRow>) -> Choice<'a> {
    let shown: Vec<&ItemRow> = items.filter(|item| item.status != "failed" && !item.image.is_empty()).collect();
    let mut ranked: Vec<&ItemRow> =
        shown.iter().copied().filter(|item| item.values.value(PHOTO.name).is_some()).collect();
    if ranked.is_empty() {
        let first = shown.into_iter().take(CASES).collect();
        return Choice { rule: Rule::Unranked, successes: first, failures: Vec::new() };
    }
    let everywhere = ranked.iter().all(|item| finite(item.gallery_score).is_some());
    let rule = if everywhere { Rule::Score } else { Rule::Lpips };
    let value = |item: &ItemRow| {
        if everywhere { item.gallery_score } else { item.values.value(PHOTO.name) }.unwrap_or(f64::INFINITY)
    };
    ranked.sort_by(|a, b| value(a).total_cmp(&value(b)).then_with(|| (&a.id, a.seed).cmp(&(&b.id, b.seed))));
    let best = ranked.len().div_ceil(2).min(CASES);
    let worst = (ranked.len() - best).min(CASES);
    let failures = ranked.iter().rev().take(worst).copied().collect();
    ranked.truncate(best);
    Choice { rule, successes: ranked, failures }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::gallery_score::score;

    fn item(id: &str, lpips: f64, style_distance: Option<f64>) -> ItemRow {
        let image = format!("{id}.png");
        ItemRow {
            id: id.into(),
            values: [(PHOTO.name, Some(lpips))].into_iter().collect(),
            style_distance,
            image,
            status: "done".into(),
            ..Default::default()
        }
    }

    fn ids(items: &[&ItemRow]) -> String {
        items.iter().map(|item| item.id.as_str()).collect()
    }

    #[test]
    fn the_score_decides_and_lpips_alone_where_one_is_missing() {
        // LPIPS alone says a < b < c < d, the style distance d < c < b < a in units a thousand times larger.
        let mut rows = [
            item("a", 0.1, Some(9000.0)),
            item("b", 0.2, Some(5000.0)),
            item("c", 0.3, Some(4000.0)),
            item("d", 0.9, Some(3900.0)),
        ];
        score(&mut rows);
        let choice = choose(rows.iter());
        assert_eq!(
            (choice.rule, ids(&choice.successes), ids(&choice.failures)),
            (Rule::Score, "cb".into(), "da".into())
        );
        rows[2].gallery_score = None;
        assert_eq!(choose(rows.iter()).rule, Rule::Lpips);
    }

    #[test]
    fn people_decide_where_they_said_something() {
        let items: Vec<_> =
            "abcdef".chars().map(|c| ItemRow { strategy: "s".into(), ..item(&c.to_string(), 0.5, None) }).collect();
        let success: Success = [
            (("a", "s"), (0.0, 1)),
            (("b", "s"), (0.5, 2)),
            (("c", "s"), (1.0, 1)),
            (("d", "s"), (1.0, 3)),
            (("e", "s"), (0.0, 2)),
        ]
        .into();
        let choice = choose_rated(items.iter(), &success).unwrap();
        assert_eq!((ids(&choice.successes), ids(&choice.failures)), ("dc".into(), "ea".into()));
        assert_eq!((choice.rule, choice.titles()), (Rule::People, ["Successes", "Failures"]));
        assert!(choose_rated(items[5..].iter(), &success).is_none());
        assert_eq!(choose(items.iter()).titles(), ["Best scores", "Worst scores"]);
    }

    #[test]
    fn five_at_each_end_the_worst_first_and_none_twice() {
        let mut items: Vec<_> =
            "abcdefghijklm".chars().rev().map(|c| item(&c.to_string(), c as u32 as f64, Some(1.0))).collect();
        score(&mut items);
        let choice = choose(items.iter());
        assert_eq!((ids(&choice.successes), ids(&choice.failures)), ("abcde".into(), "mlkji".into()));
        let choice = choose(items[..7].iter());
        assert_eq!((ids(&choice.successes), ids(&choice.failures)), ("ghij".into(), "mlk".into()));
    }

    #[test]
    fn failed_and_unmeasured_pictures_take_no_part() {
        let mut items = [item("a", 0.1, Some(1.0)), item("b", 0.2, Some(1.0)), item("c", 0.3, Some(1.0))];
        items[0].status = "failed".into();
        items[1].values.set_value(PHOTO.name, None);
        assert_eq!(ids(&choose(items.iter()).successes), "c");
        items[2].values.set_value(PHOTO.name, None);
        let choice = choose(items.iter());
        assert_eq!((choice.rule, ids(&choice.successes)), (Rule::Unranked, "bc".into()));
    }
}
