//! Which pictures stand for a strategy: its best and its worst.

use super::number::finite;
use super::rows::ItemRow;

/// Pictures at each end.
pub const CASES: usize = 5;

/// By what the pictures of a strategy were ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// (1 + LPIPS) · (1 + style distance): ArtFID's product for one picture.
    Product,
    /// LPIPS alone: some picture has no style distance, and unlike numbers cannot be compared.
    Lpips,
    /// Not at all: no picture has an LPIPS. The first ones are shown.
    Unranked,
}

/// The two ends of a ranking; no picture is in both.
#[derive(Debug)]
pub struct Choice<'a> {
    pub rule: Rule,
    pub best: Vec<&'a ItemRow>,
    /// The worst first.
    pub worst: Vec<&'a ItemRow>,
}

/// Chooses among the items of one strategy. Items that failed or have no picture take no part.
pub fn choose<'a>(items: impl Iterator<Item = &'a ItemRow>) -> Choice<'a> {
    let shown: Vec<&ItemRow> = items.filter(|item| item.status != "failed" && !item.image.is_empty()).collect();
    let mut ranked: Vec<&ItemRow> = shown.iter().copied().filter(|item| finite(item.lpips).is_some()).collect();
    if ranked.is_empty() {
        return Choice { rule: Rule::Unranked, best: shown.into_iter().take(CASES).collect(), worst: Vec::new() };
    }
    let everywhere = ranked.iter().all(|item| finite(item.style_distance).is_some());
    let rule = if everywhere { Rule::Product } else { Rule::Lpips };
    ranked
        .sort_by(|a, b| score(a, rule).total_cmp(&score(b, rule)).then_with(|| (&a.id, a.seed).cmp(&(&b.id, b.seed))));
    let best = ranked.len().div_ceil(2).min(CASES);
    let worst = (ranked.len() - best).min(CASES);
    let tail = ranked.iter().rev().take(worst).copied().collect();
    ranked.truncate(best);
    Choice { rule, best: ranked, worst: tail }
}

fn score(item: &ItemRow, rule: Rule) -> f64 {
    let lpips = 1.0 + item.lpips.unwrap_or(f64::INFINITY);
    match rule {
        Rule::Product => lpips * (1.0 + item.style_distance.unwrap_or(f64::INFINITY)),
        _ => lpips,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, lpips: f64, style_distance: Option<f64>) -> ItemRow {
        let image = format!("{id}.png");
        ItemRow {
            id: id.into(),
            lpips: Some(lpips),
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
    fn ranked_by_the_product_else_by_lpips() {
        // LPIPS alone says a < b < c, the product c < b < a.
        let mut items = [item("a", 0.1, Some(9.0)), item("b", 0.2, Some(5.0)), item("c", 0.3, Some(1.0))];
        let choice = choose(items.iter());
        assert_eq!((choice.rule, ids(&choice.best), ids(&choice.worst)), (Rule::Product, "cb".into(), "a".into()));
        items[2].style_distance = Some(f64::NAN);
        let choice = choose(items.iter());
        assert_eq!((choice.rule, ids(&choice.best), ids(&choice.worst)), (Rule::Lpips, "ab".into(), "c".into()));
    }

    #[test]
    fn five_at_each_end_the_worst_first_and_none_twice() {
        let items: Vec<_> =
            "abcdefghijklm".chars().rev().map(|c| item(&c.to_string(), c as u32 as f64, Some(1.0))).collect();
        let choice = choose(items.iter());
        assert_eq!((ids(&choice.best), ids(&choice.worst)), ("abcde".into(), "mlkji".into()));
        let choice = choose(items[..7].iter());
        assert_eq!((ids(&choice.best), ids(&choice.worst)), ("ghij".into(), "mlk".into()));
    }

    #[test]
    fn failed_and_unmeasured_pictures_take_no_part() {
        let mut items = [item("a", 0.1, Some(1.0)), item("b", 0.2, Some(1.0)), item("c", 0.3, Some(1.0))];
        items[0].status = "failed".into();
        items[1].lpips = None;
        assert_eq!(ids(&choose(items.iter()).best), "c");
        items[2].lpips = None;
        let choice = choose(items.iter());
        assert_eq!((choice.rule, ids(&choice.best)), (Rule::Unranked, "bc".into()));
    }
}
