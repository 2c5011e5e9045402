//! The gallery score: one number that says how well a picture keeps its photo and reaches the style.
//!
//! It is the sum of LPIPS and style distance, each standardised over all measured pictures of the run; the galleries of
//! the report are chosen by it, and say why.

use super::finite;
use super::style::ItemRow;

/// Gives every measured picture of a run its gallery score, and takes it from the others.
pub fn score(rows: &mut [ItemRow]) {
    let measured = |row: &ItemRow| {
        let done = row.status != "failed";
        Some((row.values.value("lpips").filter(|_| done)?, finite(row.style_distance)?))
    };
    let pairs: Vec<(f64, f64)> = rows.iter().filter_map(measured).collect();
    let content = Standard::of(pairs.iter().map(|pair| pair.0));
    let style = Standard::of(pairs.iter().map(|pair| pair.1));
    for row in rows {
        row.gallery_score = measured(row).map(|pair| content.of_one(pair.0) + style.of_one(pair.1));
    }
}

/// Gives the scores where a file has none: it was written before there were any.
pub fn score_where_missing(rows: &mut [ItemRow]) {
    let lacks = |row: &ItemRow| row.status != "failed" && row.gallery_score.is_none() && row.style_distance.is_some();
    if rows.iter().any(lacks) {
        score(rows);
    }
}

/// Mean and standard deviation (of these values, not of a population they were drawn from).
struct Standard {
    mean: f64,
    deviation: f64,
}

impl Standard {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let deviation = (values.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        Self { mean, deviation }
    }

    /// Values that are all alike tell no picture from another.
    fn of_one(&self, value: f64) -> f64 {
        if self.deviation > 0.0 { (value - self.mean) / self.deviation } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, lpips: f64, style_distance: Option<f64>) -> ItemRow {
        let image = format!("{id}.png");
        ItemRow {
            id: id.into(),
            values: [("lpips", Some(lpips))].into_iter().collect(),
            style_distance,
            image,
            status: "done".into(),
            ..Default::default()
        }
    }

    #[test]
    fn both_parts_count_the_same_whatever_their_units() {
        // LPIPS alone says a < b < c < d, the style distance d < c < b < a in units a thousand times larger.
        let mut rows = [
            item("a", 0.1, Some(9000.0)),
            item("b", 0.2, Some(5000.0)),
            item("c", 0.3, Some(4000.0)),
            item("d", 0.9, Some(3900.0)),
        ];
        score(&mut rows);
        let scores: Vec<f64> = rows.iter().filter_map(|row| row.gallery_score).collect();
        assert!(scores.iter().sum::<f64>().abs() < 1e-12, "standardised: {scores:?}");
        // Another unit for one part changes no score.
        rows.iter_mut().for_each(|row| row.style_distance = row.style_distance.map(|value| value / 1000.0 + 7.0));
        let before = rows.clone();
        score(&mut rows);
        for (row, before) in rows.iter().zip(&before) {
            assert!((row.gallery_score.unwrap() - before.gallery_score.unwrap()).abs() < 1e-12);
        }
    }

    #[test]
    fn alike_missing_and_failed_values_are_no_trouble() {
        let mut rows =
            [item("a", 0.5, Some(1.0)), item("b", 0.5, Some(3.0)), item("c", 0.9, None), item("d", 9.0, Some(9.0))];
        rows[3].status = "failed".into();
        rows[3].gallery_score = Some(1.0);
        score(&mut rows);
        let scores: Vec<Option<f64>> = rows.iter().map(|row| row.gallery_score).collect();
        assert_eq!(scores, [Some(-1.0), Some(1.0), None, None]);
        // Old files have no score; the rest of the row is enough.
        rows.iter_mut().for_each(|row| row.gallery_score = None);
        score_where_missing(&mut rows);
        assert_eq!(rows[1].gallery_score, Some(1.0));
        rows[1].gallery_score = Some(42.0);
        score_where_missing(&mut rows);
        assert_eq!(rows[1].gallery_score, Some(42.0), "what is recorded is taken");
    }
}
