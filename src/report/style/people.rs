//! What people said of a style run (`ratings.csv`, `votes.csv`), beside its strategies and its metrics.

use std::collections::{BTreeMap, BTreeSet};

use super::StyleRun;
use super::grid::Numbers;
use super::rater_agreement::{self, Agreement};
use crate::metrics::people::{Correlation, StrengthDifference, bradley_terry, spearman, wilson};
use crate::metrics::stats::{Interval, holm};
use crate::report::number::short;
use crate::run::people::{REASONS, SUCCESS};
use crate::run::style::ItemRow;

/// All of it. A strategy is its position in the results.
#[derive(Debug, Default)]
pub struct Said {
    pub raters: usize,
    pub ratings: usize,
    pub votes: usize,
    pub strategies: Vec<OfStrategy>,
    /// Strategies against each other, each pair that was voted on.
    pub pairs: Vec<OfPair>,
    /// Whether strengths took a prior to be finite.
    pub prior: bool,
    pub agreement: Vec<Agreement>,
    pub measures: Vec<OfMeasure>,
}

impl Said {
    /// Who said how much.
    pub fn sentence(&self) -> String {
        let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
        let raters = count(self.raters, "rater");
        format!("{raters} gave {} and {}.", count(self.ratings, "rating"), count(self.votes, "blind vote"))
    }

    /// How far raters agree, and what a reader must know of the strengths.
    pub fn notes(&self) -> Vec<String> {
        let agreement = |of: &Agreement| {
            let things = if of.of == "votes" { "pairs of pictures" } else { "pictures" };
            let kappa = short(Some(of.kappa));
            format!(
                "Agreement of {}: {} = {kappa} of {} raters over {} {things}.",
                of.of, of.statistic, of.raters, of.n
            )
        };
        let mut notes: Vec<String> = self.agreement.iter().map(agreement).collect();
        if self.raters == 1 {
            notes.push("One rater alone: how far people agree cannot be said.".to_string());
        }
        if self.prior {
            let text = "Some strategy was always or never preferred, or was not compared with the others: strengths are drawn \
                        towards 0 a little (a normal prior of precision 0.1), for otherwise they would be infinite.";
            notes.push(text.to_string());
        }
        notes
    }

    /// The strategies, those that people like best first.
    pub fn order(&self) -> Vec<usize> {
        let rank = |at: usize| {
            let of = &self.strategies[at];
            let strength = of.strength.map_or(f64::NEG_INFINITY, |(value, _)| value);
            (strength, of.success.map_or(f64::NEG_INFINITY, |(share, _)| share))
        };
        let mut order: Vec<usize> = (0..self.strategies.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (rank(*a), rank(*b));
            b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
        });
        order
    }
}

/// A probability, to be read.
pub fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_string() } else { format!("{p:.3}") }
}

/// What people said of a strategy.
#[derive(Debug, Default, Clone)]
pub struct OfStrategy {
    /// Pictures that someone rated.
    pub rated: usize,
    /// The mean over these pictures of the share of raters who call it a success, with its Wilson interval.
    pub success: Option<(f64, Interval)>,
    /// Reasons of failures and how often each was given.
    pub reasons: Vec<(String, usize)>,
    pub votes: usize,
    /// Bradley-Terry strength: log-odds beside the mean of the strategies that were voted on.
    pub strength: Option<(f64, Interval)>,
}

/// Two strategies that were voted on.
#[derive(Debug, Clone)]
pub struct OfPair {
    pub first: usize,
    pub second: usize,
    pub wins: usize,
    pub losses: usize,
    pub ties: usize,
    /// Of their strengths.
    pub difference: StrengthDifference,
    /// The difference's probability by chance, after Holm's correction over all pairs.
    pub p_holm: f64,
}

impl OfPair {
    /// Whether these are its two strategies.
    pub fn is_of(&self, a: usize, b: usize) -> bool {
        (self.first, self.second) == (a, b) || (self.first, self.second) == (b, a)
    }
}

/// How far a metric goes with people.
#[derive(Debug, Clone)]
pub struct OfMeasure {
    pub label: String,
    /// Of the metric, turned so that more is better, with the share of raters who call the picture a success.
    pub correlation: Option<Correlation>,
    pub p_holm: Option<f64>,
    /// The share of votes that went to the picture with the better value, with its Wilson interval, and how many these
    /// are; ties left out.
    pub votes: Option<(f64, Interval, usize)>,
}

/// What the tables of answers say; None where there are no answers on this run's pictures.
pub fn said(run: &StyleRun) -> Option<Said> {
    let ratings: BTreeSet<(&str, &str)> = run.items.iter().map(|i| (i.id.as_str(), i.strategy.as_str())).collect();
    let known = |id: &str, strategy: &str| ratings.contains(&(id, strategy));
    let mut people = run.people.clone();
    people.ratings.retain(|row| known(&row.id, &row.strategy));
    people.votes.retain(|row| known(&row.id, &row.left) && known(&row.id, &row.right));
    if people.is_empty() {
        return None;
    }
    let run = &StyleRun { people, ..run.clone() };
    let people = &run.people;
    let raters = people.ratings.iter().map(|r| &r.rater).chain(people.votes.iter().map(|v| &v.rater));
    let mut said = Said {
        raters: raters.collect::<BTreeSet<_>>().len(),
        ratings: people.ratings.len(),
        votes: people.votes.len(),
        strategies: run.results.iter().map(|row| of_strategy(run, &row.strategy)).collect(),
        agreement: rater_agreement::of_run(run),
        measures: measures(run),
        ..Said::default()
    };
    strengths(run, &mut said);
    Some(said)
}

fn of_strategy(run: &StyleRun, strategy: &str) -> OfStrategy {
    let success = run.people.success();
    let shares: Vec<f64> = success.iter().filter(|((_, s), _)| *s == strategy).map(|(_, (share, _))| *share).collect();
    let sum: f64 = shares.iter().sum();
    let own = || run.people.ratings.iter().filter(|row| row.strategy == strategy);
    let given = |reason: &str| own().filter(|row| row.rating != SUCCESS && row.reason == reason).count();
    let reasons = REASONS.iter().map(|reason| (reason.to_string(), given(reason))).filter(|(_, count)| *count > 0);
    OfStrategy {
        rated: shares.len(),
        success: wilson(sum, shares.len()).map(|interval| (sum / shares.len() as f64, interval)),
        reasons: reasons.collect(),
        votes: run.people.votes.iter().filter(|vote| vote.left == strategy || vote.right == strategy).count(),
        strength: None,
    }
}

/// Bradley-Terry over the strategies that someone voted on.
fn strengths(run: &StyleRun, said: &mut Said) {
    let voted: Vec<usize> = (0..run.results.len()).filter(|at| said.strategies[*at].votes > 0).collect();
    let place = |name: &str| voted.iter().position(|at| run.results[*at].strategy == name);
    let mut wins = vec![vec![0.0; voted.len()]; voted.len()];
    let mut counts: BTreeMap<(usize, usize), [usize; 3]> = BTreeMap::new();
    for vote in &run.people.votes {
        let (Some(left), Some(right)) = (place(&vote.left), place(&vote.right)) else { continue };
        let won = vote.winner().map(|winner| if winner == vote.left { left } else { right });
        let pair = (left.min(right), left.max(right));
        let outcome = won.map_or(2, |won| usize::from(won != pair.0));
        counts.entry(pair).or_default()[outcome] += 1;
        let share = won.map_or(0.5, |won| f64::from(u8::from(won == left)));
        wins[left][right] += share;
        wins[right][left] += 1.0 - share;
    }
    let Some(strengths) = bradley_terry(&wins) else { return };
    said.prior = strengths.prior;
    for (k, at) in voted.iter().enumerate() {
        said.strategies[*at].strength = Some((strengths.values[k], strengths.interval(k)));
    }
    let pair = |((a, b), [wins, losses, ties]): (&(usize, usize), &[usize; 3])| OfPair {
        first: voted[*a],
        second: voted[*b],
        wins: *wins,
        losses: *losses,
        ties: *ties,
        difference: strengths.difference(*a, *b),
        p_holm: 1.0,
    };
    said.pairs = counts.iter().map(pair).collect();
    let corrected = holm(&said.pairs.iter().map(|pair| pair.difference.p_value).collect::<Vec<_>>());
    said.pairs.iter_mut().zip(corrected).for_each(|(pair, p)| pair.p_holm = p);
}

fn measures(run: &StyleRun) -> Vec<OfMeasure> {
    let numbers = Numbers::of(run);
    let success = run.people.success();
    type Measured<'a> = (&'a ItemRow, Vec<Option<f64>>);
    let items: BTreeMap<(&str, &str), Measured> = run
        .items
        .iter()
        .map(|item| ((item.id.as_str(), item.strategy.as_str()), (item, numbers.values(item))))
        .collect();
    let of = |(at, measure): (usize, crate::report::grid::Measure)| {
        let turned = |value: f64| if measure.higher { value } else { -value };
        let value = |id: &str, strategy: &str| Some(turned(items.get(&(id, strategy))?.1[at]?));
        let rated = success.iter().filter_map(|((id, strategy), (share, _))| Some((value(id, strategy)?, *share)));
        let decided = run.people.votes.iter().filter_map(|vote| {
            let (left, right) = (value(&vote.id, &vote.left)?, value(&vote.id, &vote.right)?);
            let won = vote.winner()? == vote.left;
            (left != right).then_some((left > right) == won)
        });
        let decided: Vec<bool> = decided.collect();
        let right = decided.iter().filter(|right| **right).count() as f64;
        let votes =
            wilson(right, decided.len()).map(|interval| (right / decided.len() as f64, interval, decided.len()));
        let correlation = spearman(&rated.collect::<Vec<_>>());
        OfMeasure { label: measure.label, correlation, p_holm: None, votes }
    };
    let timed = |measure: &crate::report::grid::Measure| measure.label == super::grid::SECONDS;
    let all = numbers.measures().into_iter().enumerate().filter(|(_, measure)| !timed(measure));
    let mut measures: Vec<OfMeasure> =
        all.map(of).filter(|measure| measure.correlation.is_some() || measure.votes.is_some()).collect();
    let tested: Vec<usize> = (0..measures.len())
        .filter(|at| measures[*at].correlation.is_some_and(|correlation| correlation.p_value.is_some()))
        .collect();
    let p_value = |at: &usize| measures[*at].correlation.and_then(|correlation| correlation.p_value).unwrap_or(1.0);
    let corrected = holm(&tested.iter().map(p_value).collect::<Vec<_>>());
    tested.into_iter().zip(corrected).for_each(|(at, p)| measures[at].p_holm = Some(p));
    measures
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::run::people::{People, RatingRow, VoteRow};
    use crate::run::style::ResultRow;

    const STRENGTHS: [f64; 4] = [0.9, 0.3, -0.3, -0.9];

    /// Raters who see what LPIPS sees, more or less, and like the strategies by `STRENGTHS`.
    fn study(seed: u64, votes: usize) -> StyleRun {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut run = StyleRun::default();
        for (s, strength) in STRENGTHS.iter().enumerate() {
            run.results.push(ResultRow { strategy: format!("s{s}"), ..Default::default() });
            for p in 0..30 {
                let quality = strength + random.random_range(-1.0..1.0);
                let mut item = ItemRow { id: format!("p{p}"), strategy: format!("s{s}"), ..Default::default() };
                item.values.set_value("lpips", Some(0.5 - 0.1 * quality));
                for rater in ["anna", "ben", "cleo"] {
                    let good = random.random_bool(1.0 / (1.0 + (-2.0 * quality).exp()));
                    run.people.ratings.push(RatingRow {
                        rater: rater.into(),
                        id: item.id.clone(),
                        strategy: item.strategy.clone(),
                        rating: if good { "success" } else { "failure" }.into(),
                        reason: if good { "" } else { "deformed" }.into(),
                        at: String::new(),
                    });
                }
                run.items.push(item);
            }
        }
        let mut rows = Vec::new();
        for k in 0..votes {
            let (a, b) = loop {
                let pair = (random.random_range(0..4), random.random_range(0..4));
                if pair.0 != pair.1 {
                    break pair;
                }
            };
            let left = random.random_bool(1.0 / (1.0 + (STRENGTHS[b] - STRENGTHS[a]).exp()));
            rows.push(VoteRow {
                rater: format!("r{k}"),
                id: format!("p{}", k % 30),
                left: format!("s{a}"),
                right: format!("s{b}"),
                choice: if left { "left" } else { "right" }.into(),
                at: String::new(),
            });
        }
        run.people.votes = rows;
        run
    }

    #[test]
    fn a_study_with_known_preferences_is_recovered() {
        let (mut covered, mut all) = (0, 0);
        for seed in 0..40 {
            let said = said(&study(seed, 400)).unwrap();
            for (of, truth) in said.strategies.iter().zip(STRENGTHS) {
                all += 1;
                covered += usize::from(of.strength.unwrap().1.contains(truth));
            }
            if seed == 0 {
                let strengths: Vec<f64> = said.strategies.iter().map(|of| of.strength.unwrap().0).collect();
                assert!(strengths.windows(2).all(|pair| pair[0] > pair[1]), "the order: {strengths:?}");
                let rates: Vec<f64> = said.strategies.iter().map(|of| of.success.unwrap().0).collect();
                assert!(rates.windows(2).all(|pair| pair[0] > pair[1]), "the order: {rates:?}");
                assert_eq!((said.ratings, said.votes, said.pairs.len(), said.prior), (360, 400, 6, false));
                let sentence = super::super::people_verdict::verdict(&study(0, 400), &said).unwrap();
                assert!(
                    sentence.starts_with("In 400 blind votes people prefer s0 to every other strategy (largest p ")
                );
                let ends = said.pairs.iter().find(|pair| (pair.first, pair.second) == (0, 3)).unwrap();
                assert!(ends.p_holm < 0.001 && ends.difference.interval.contains(1.8), "{ends:?}");
                let lpips = &said.measures[0];
                assert!(lpips.label == "LPIPS" && lpips.correlation.unwrap().rho > 0.4, "{lpips:?}");
                assert!(lpips.p_holm.unwrap() < 1e-6 && lpips.votes.unwrap().0 > 0.5);
                assert_eq!(said.agreement[0].statistic, "Fleiss' κ");
                assert!((0.1..0.7).contains(&said.agreement[0].kappa), "{:?}", said.agreement);
            }
        }
        // 95 % intervals: of 160 about 152.
        assert!((143..=159).contains(&covered) && all == 160, "{covered} of {all} intervals hold the truth");
    }

    #[test]
    fn answers_on_other_runs_do_not_count() {
        let mut run = study(1, 10);
        run.items.retain(|item| item.strategy == "s0");
        run.results.truncate(1);
        let said = said(&run).unwrap();
        assert_eq!((said.ratings, said.votes, said.raters), (90, 0, 3));
        assert!(said.strategies[0].strength.is_none() && said.pairs.is_empty());
        assert_eq!(said.strategies[0].reasons[0].0, "deformed");
        run.people = People::default();
        assert!(super::said(&run).is_none());
    }

    #[test]
    fn two_raters_have_cohens_kappa_and_one_has_none() {
        let mut run = study(2, 0);
        run.people.ratings.retain(|row| row.rater != "cleo");
        assert_eq!(said(&run).unwrap().agreement[0].statistic, "Cohen's κ");
        run.people.ratings.retain(|row| row.rater == "anna");
        assert!(said(&run).unwrap().agreement.is_empty());
    }
}
