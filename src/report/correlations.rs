//! Whether the metrics of a run agree: rank correlations between them, over single items and over what is compared.

use serde::Serialize;

use super::number::signed;
use crate::metrics::people::spearman;

/// Fewer things than this have hardly more than one order: that two metrics share it says nothing. Three are ordered alike
/// or in reverse by chance one time in three.
const FEWEST: usize = 5;

/// A measure, and its values in the order of the things measured.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Its column.
    pub name: String,
    pub label: String,
    pub values: Vec<Option<f64>>,
}

/// Spearman's rank correlation of each pair of measures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Correlations {
    /// What the values are of.
    pub over: String,
    pub labels: Vec<String>,
    #[serde(skip)]
    pub names: Vec<String>,
    #[serde(skip)]
    pub values: Vec<Vec<Option<f64>>>,
    /// The same to be shown.
    pub rows: Vec<(String, Vec<String>)>,
    /// Why there are none, instead of them.
    pub too_few: String,
}

/// The correlations between these measures where both are known. Of too few things there is only a word on why not; none
/// where fewer than two measures have values at all, or a single thing was measured.
pub fn correlations(over: &str, measures: &[Measure]) -> Option<Correlations> {
    let counted = |of: &&Measure| of.values.iter().flatten().count();
    let known: Vec<&Measure> = measures.iter().filter(|of| counted(of) >= FEWEST).collect();
    if known.len() < 2 {
        let mut counts: Vec<usize> = measures.iter().map(|of| counted(&of)).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // So many have values of two measures.
        let both = counts.get(1).filter(|both| **both >= 2)?;
        let too_few = format!("{both} {over} are too few to correlate metrics over: it takes {FEWEST}.");
        return Some(Correlations { over: over.to_string(), too_few, ..Correlations::default() });
    }
    let pair = |a: &Measure, b: &Measure| {
        let both: Vec<(f64, f64)> = a.values.iter().zip(&b.values).filter_map(|(a, b)| a.zip(*b)).collect();
        Some(spearman(&both).filter(|_| both.len() >= FEWEST)?.rho)
    };
    let values: Vec<Vec<Option<f64>>> = known.iter().map(|a| known.iter().map(|b| pair(a, b)).collect()).collect();
    let rows = known.iter().enumerate().map(|(at, measure)| {
        let cell = |(other, value): (usize, &Option<f64>)| match value {
            _ if other == at => String::new(),
            Some(value) => signed(*value),
            None => "–".to_string(),
        };
        (measure.label.clone(), values[at].iter().enumerate().map(cell).collect())
    });
    Some(Correlations {
        over: over.to_string(),
        labels: known.iter().map(|measure| measure.label.clone()).collect(),
        names: known.iter().map(|measure| measure.name.clone()).collect(),
        rows: rows.collect(),
        values,
        too_few: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_correlated_where_both_are_known() {
        let measure = |name: &str, values: &[Option<f64>]| Measure {
            name: name.into(),
            label: name.to_uppercase(),
            values: values.to_vec(),
        };
        let a = measure("a", &[Some(1.0), Some(2.0), Some(3.0), None, Some(9.0), Some(11.0)]);
        let b = measure("b", &[Some(30.0), Some(20.0), Some(10.0), Some(5.0), Some(1.0), Some(0.5)]);
        let few = measure("few", &[Some(1.0), Some(2.0), Some(4.0), Some(5.0), None, None]);
        let alike = measure("alike", &[Some(1.0); 6]);
        let found = correlations("pictures", &[a.clone(), few.clone(), b.clone(), alike]).unwrap();
        assert_eq!(found.names, ["a", "b", "alike"]);
        assert_eq!(found.rows[0], ("A".to_string(), ["", "−1.000", "–"].map(String::from).to_vec()));
        assert_eq!(found.values[1], [Some(-1.0), Some(1.0), None]);
        // One measure agrees with nothing.
        assert_eq!(correlations("pictures", &[a.clone(), few.clone()]).unwrap().values.len(), 0);
        assert!(correlations("pictures", std::slice::from_ref(&a)).is_none());
        let first = |count: usize, of: &Measure| Measure { values: of.values[..count].to_vec(), ..of.clone() };
        let of_three = correlations("strategies", &[first(3, &a), first(3, &b)]).unwrap();
        assert!(of_three.rows.is_empty() && of_three.names.is_empty());
        assert_eq!(of_three.too_few, "3 strategies are too few to correlate metrics over: it takes 5.");
        assert!(correlations("strategies", &[first(1, &a), first(1, &b)]).is_none());
    }
}
