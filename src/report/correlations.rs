//! Whether the metrics of a run agree: rank correlations between them, over single items and over what is compared.

use serde::Serialize;

use super::number::signed;
use crate::metrics::people::spearman;

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
}

/// The correlations between these measures where both are known; none where fewer than two have three values.
pub fn correlations(over: &str, measures: &[Measure]) -> Option<Correlations> {
    let known: Vec<&Measure> = measures.iter().filter(|of| of.values.iter().flatten().count() >= 3).collect();
    if known.len() < 2 {
        return None;
    }
    let pair = |a: &Measure, b: &Measure| {
        let both: Vec<(f64, f64)> = a.values.iter().zip(&b.values).filter_map(|(a, b)| a.zip(*b)).collect();
        // Two things have an order, but none that could be shared or not.
        Some(spearman(&both).filter(|_| both.len() >= 3)?.rho)
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
        let a = measure("a", &[Some(1.0), Some(2.0), Some(3.0), None, Some(9.0)]);
        let b = measure("b", &[Some(30.0), Some(20.0), Some(10.0), Some(5.0), Some(1.0)]);
        let few = measure("few", &[Some(1.0), Some(2.0), None, None, None]);
        let alike = measure("alike", &[Some(1.0); 5]);
        let found = correlations("pictures", &[a.clone(), few.clone(), b, alike]).unwrap();
        assert_eq!(found.names, ["a", "b", "alike"]);
        assert_eq!(found.rows[0], ("A".to_string(), ["", "−1.000", "–"].map(String::from).to_vec()));
        assert_eq!(found.values[1], [Some(-1.0), Some(1.0), None]);
        assert!(correlations("pictures", &[a, few]).is_none(), "one measure agrees with nothing");
    }
}
