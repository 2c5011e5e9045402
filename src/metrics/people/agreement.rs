//! How far raters agree beyond what chance would give.

/// Cohen's κ of two raters who each put the same things into categories (Cohen 1960). None without things, and where
/// chance alone would have them agree everywhere.
pub fn cohen(pairs: &[(usize, usize)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let share = |fits: &dyn Fn(&(usize, usize)) -> bool| pairs.iter().filter(|pair| fits(pair)).count() as f64 / n;
    let categories = pairs.iter().map(|(a, b)| a.max(b) + 1).max()?;
    let observed = share(&|(a, b)| a == b);
    let chance = (0..categories).map(|c| share(&|pair| pair.0 == c) * share(&|pair| pair.1 == c)).sum::<f64>();
    (chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
}

/// Fleiss' κ (1971): a row for each thing says how many raters put it into each category, and all rows have the same
/// number of raters. None where that is not so, of fewer than two raters, and where all fell into one category.
pub fn fleiss(rows: &[Vec<usize>]) -> Option<f64> {
    let raters: usize = rows.first()?.iter().sum();
    if raters < 2 || rows.iter().any(|row| row.iter().sum::<usize>() != raters || row.len() != rows[0].len()) {
        return None;
    }
    let (things, raters) = (rows.len() as f64, raters as f64);
    let of_row = |row: &Vec<usize>| {
        let squares: f64 = row.iter().map(|count| (count * count) as f64).sum();
        (squares - raters) / (raters * (raters - 1.0))
    };
    let observed = rows.iter().map(of_row).sum::<f64>() / things;
    let share = |c: usize| rows.iter().map(|row| row[c] as f64).sum::<f64>() / (things * raters);
    let chance: f64 = (0..rows[0].len()).map(|c| share(c).powi(2)).sum();
    (chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
}
