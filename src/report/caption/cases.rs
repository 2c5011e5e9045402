//! Which pictures stand for a data set: where the models differ most, and the lowest scores of all.

use std::collections::BTreeMap;

use super::{CaptionRun, DECIDING};
use crate::run::caption::CaptionItem;

/// Pictures of each kind.
pub const CASES: usize = 5;

/// A picture and what each model said, in the order of the models.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    pub id: String,
    pub said: Vec<&'a CaptionItem>,
}

/// The chosen pictures of one data set; none is in both.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// The greatest gap between the models' METEOR first; with a single model its best pictures. None
    /// without a gap, or of a METEOR of 0.
    pub differ: Vec<Case<'a>>,
    /// The lowest best METEOR first.
    pub fail: Vec<Case<'a>>,
}

/// Chooses among the pictures that every model described and that were scored.
pub fn choose<'a>(run: &'a CaptionRun, dataset: &str) -> Choice<'a> {
    let models = run.models();
    let mut pictures: BTreeMap<&str, Vec<&CaptionItem>> = BTreeMap::new();
    for item in run.items.iter().filter(|item| item.dataset == dataset && item.is_done()) {
        if item.values.value(DECIDING).is_some() {
            pictures.entry(&item.id).or_default().push(item);
        }
    }
    let expected = models.iter().filter(|model| run.result(dataset, model).is_some_and(|row| row.n > 0)).count();
    let mut cases: Vec<Case> = pictures
        .into_iter()
        .filter(|(_, said)| said.len() == expected)
        .map(|(id, mut said)| {
            said.sort_by_key(|item| models.iter().position(|model| *model == item.model));
            Case { id: id.to_string(), said }
        })
        .collect();
    let highest = |case: &Case| scores(case).fold(f64::NEG_INFINITY, f64::max);
    let gap = |case: &Case| highest(case) - scores(case).fold(f64::INFINITY, f64::min);
    let rank = |case: &Case| if expected > 1 { gap(case) } else { highest(case) };
    cases.sort_by(|a, b| rank(b).total_cmp(&rank(a)).then_with(|| a.id.cmp(&b.id)));
    let telling = cases.iter().take_while(|case| rank(case) > 0.0).count();
    let mut fail = cases.split_off(cases.len().div_ceil(2).min(CASES).min(telling));
    fail.sort_by(|a, b| highest(a).total_cmp(&highest(b)).then_with(|| a.id.cmp(&b.id)));
    fail.truncate(CASES);
    Choice { differ: cases, fail }
}

fn scores<'a>(case: &'a Case) -> impl Iterator<Item = f64> + 'a {
    case.said.iter().filter_map(|item| item.values.value(DECIDING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::caption::CaptionResult;

    #[test]
    fn the_gap_and_the_common_failure() {
        let item = |id: usize, model: &str, meteor: f64| CaptionItem {
            id: format!("{id:02}"),
            dataset: "d".into(),
            model: model.into(),
            values: [(DECIDING, Some(meteor))].into_iter().collect(),
            status: "done".into(),
            ..CaptionItem::default()
        };
        let result =
            |model: &str| CaptionResult { model: model.into(), dataset: "d".into(), n: 12, ..Default::default() };
        let mut run = CaptionRun { results: vec![result("a"), result("b")], ..Default::default() };
        for id in 0..12 {
            // The gap grows with the id; both are low where the id is 2.
            let (one, other) = if id == 2 { (0.01, 0.02) } else { (0.5, 0.5 - 0.03 * id as f64) };
            run.items.extend([item(id, "b", other), item(id, "a", one)]);
        }
        run.items.push(item(99, "a", 0.0)); // b has nothing to say of it
        let choice = choose(&run, "d");
        let ids = |cases: &[Case]| cases.iter().map(|case| case.id.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(ids(&choice.differ), "11 10 09 08 07");
        assert_eq!(ids(&choice.fail), "02 00 01 03 04");
        assert_eq!(choice.differ[0].said[0].model, "a");
        run.items.iter_mut().for_each(|item| item.values.set_value(DECIDING, Some(0.0)));
        let same = choose(&run, "d");
        assert_eq!((same.differ.len(), ids(&same.fail)), (0, "00 01 02 03 04".to_string()), "no gap is no difference");
        run.items.iter_mut().for_each(|item| item.values.set_value(DECIDING, None));
        assert!(choose(&run, "d").differ.is_empty());
    }
}
