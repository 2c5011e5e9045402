//! Strategies that differ in nothing but their strength: a line each, from the photo to text alone.

use crate::axes::{AXES, strength};
use crate::report::style::StyleRun;
use crate::run::style::ResultRow;

/// Positions in results.csv of strategies along one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What its strategies' names have in common.
    pub name: String,
    /// By rising strength, text-to-image last: it keeps nothing of the photo but its description.
    pub members: Vec<usize>,
}

/// The lines, in the order of results.csv; none where no picture started from a photo.
pub fn lines(run: &StyleRun) -> Vec<Line> {
    if run.results.iter().all(|row| row.strength().is_none()) {
        return Vec::new();
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, row) in run.results.iter().enumerate() {
        match groups.iter_mut().find(|group| belong_together(&run.results[group[0]], row)) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    for group in &mut groups {
        let strength = |at: &usize| run.results[*at].strength().unwrap_or(f64::INFINITY);
        group.sort_by(|a, b| strength(a).total_cmp(&strength(b)));
    }
    let differing = differing(run, &groups);
    let name = |group: &Vec<usize>| {
        let parts = parts(&run.results[group[0]]);
        let left: Vec<&str> =
            (0..).zip(&parts).filter(|(at, _)| !differing.contains(at)).map(|(_, part)| *part).collect();
        if left.is_empty() { parts.join("__") } else { left.join("__") }
    };
    groups.iter().map(|group| Line { name: name(group), members: group.clone() }).collect()
}

/// Whether two strategies are the same but for their strength.
fn belong_together(a: &ResultRow, b: &ResultRow) -> bool {
    AXES.iter().all(|axis| (**axis == strength::AXIS) != (a.axes.get(axis) == b.axes.get(axis)))
}

/// A strategy's name is made of the names of its values.
fn parts(row: &ResultRow) -> Vec<&str> {
    row.strategy.split("__").collect()
}

/// The positions in the names at which strategies of one line differ.
fn differing(run: &StyleRun, groups: &[Vec<usize>]) -> Vec<usize> {
    let mut positions = Vec::new();
    for group in groups {
        let first = parts(&run.results[group[0]]);
        for other in &group[1..] {
            let other = parts(&run.results[*other]);
            if other.len() == first.len() {
                positions.extend((0..first.len()).filter(|at| first[*at] != other[*at]));
            }
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axes::style_text;

    fn run(rows: &[(&str, &str, Option<f64>)]) -> StyleRun {
        let row = |(strategy, style, strength): &(&str, &str, Option<f64>)| {
            let mut row = ResultRow { strategy: strategy.to_string(), ..Default::default() };
            row.axes.set(&style_text::AXIS, *style);
            row.axes.set(&strength::AXIS, *strength);
            row
        };
        StyleRun { results: rows.iter().map(row).collect(), ..Default::default() }
    }

    #[test]
    fn a_line_holds_what_differs_in_strength_alone() {
        let run = run(&[
            ("ink__t2i__seed0", "ink", None),
            ("oil__t2i__seed0", "oil", None),
            ("ink__high__seed0", "ink", Some(0.8)),
            ("ink__low__seed0", "ink", Some(0.3)),
            ("dots__t2i__seed0", "dots", None),
            ("oil__low__seed0", "oil", Some(0.3)),
        ]);
        let line = |name: &str, members: &[usize]| Line { name: name.to_string(), members: members.to_vec() };
        let expected = [line("ink__seed0", &[3, 2, 0]), line("oil__seed0", &[5, 1]), line("dots__seed0", &[4])];
        assert_eq!(lines(&run), expected);
    }

    #[test]
    fn without_strengths_there_are_no_lines() {
        assert!(lines(&run(&[("ink", "ink", None), ("oil", "oil", None)])).is_empty());
        let alone = run(&[("low", "ink", Some(0.3)), ("high", "ink", Some(0.9))]);
        assert_eq!(lines(&alone)[0].name, "low", "a name is never empty");
    }
}
