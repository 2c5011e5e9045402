//! The rows of `ratings.csv` and `votes.csv`: what people said of the pictures of a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::csv::{self, Row};

/// The two tables in a run folder.
pub const RATINGS: &str = "ratings.csv";
pub const VOTES: &str = "votes.csv";

/// The values of a rating.
pub const SUCCESS: &str = "success";
pub const FAILURE: &str = "failure";

/// Why a picture is a failure.
pub const REASONS: [&str; 5] = ["identity lost", "style missed", "deformed", "text or artefact", "other"];

/// The choices of a vote.
pub const LEFT: &str = "left";
pub const RIGHT: &str = "right";
pub const TIE: &str = "tie";

/// What a rater said of one picture. The last row of a rater counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RatingRow {
    pub rater: String,
    /// The photo.
    pub id: String,
    pub strategy: String,
    /// `success` or `failure`.
    pub rating: String,
    /// One of [`REASONS`]; empty: none was given.
    pub reason: String,
    /// When, in UTC (`2026-05-28T20:26:40Z`).
    pub at: String,
}

/// Which of two pictures of one photo a rater liked better, not knowing their strategies. The last row of a rater counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VoteRow {
    pub rater: String,
    /// The photo.
    pub id: String,
    /// The strategies, as they stood.
    pub left: String,
    pub right: String,
    /// `left`, `right` or `tie`.
    pub choice: String,
    pub at: String,
}

/// A row that a rater gave.
pub trait Answer: Row + Clone {
    const COLUMNS: &'static [&'static str];

    fn rater(&self) -> &str;

    fn at(&self) -> &str;

    /// What is wrong with its values; None where nothing is.
    fn fault(&self) -> Option<String>;
}

impl Row for RatingRow {}

impl Row for VoteRow {}

impl Answer for RatingRow {
    const COLUMNS: &'static [&'static str] = &["rater", "id", "strategy", "rating", "reason", "at"];

    fn rater(&self) -> &str {
        &self.rater
    }

    fn at(&self) -> &str {
        &self.at
    }

    fn fault(&self) -> Option<String> {
        if ![SUCCESS, FAILURE].contains(&self.rating.as_str()) {
            return Some(format!("rating {:?} is neither {SUCCESS} nor {FAILURE}", self.rating));
        }
        let known = self.reason.is_empty() || REASONS.contains(&self.reason.as_str());
        (!known).then(|| format!("reason {:?} is none of {}", self.reason, REASONS.join(", ")))
    }
}

impl Answer for VoteRow {
    const COLUMNS: &'static [&'static str] = &["rater", "id", "left", "right", "choice", "at"];

    fn rater(&self) -> &str {
        &self.rater
    }

    fn at(&self) -> &str {
        &self.at
    }

    fn fault(&self) -> Option<String> {
        let known = [LEFT, RIGHT, TIE].contains(&self.choice.as_str());
        if !known {
            return Some(format!("choice {:?} is none of {LEFT}, {RIGHT}, {TIE}", self.choice));
        }
        (self.left == self.right).then(|| format!("left and right are both {:?}", self.left))
    }
}

impl VoteRow {
    /// The two strategies, whichever side they stood on.
    pub fn pair(&self) -> (&str, &str) {
        let (a, b) = (self.left.as_str(), self.right.as_str());
        if a <= b { (a, b) } else { (b, a) }
    }

    /// The strategy that was chosen; None of a tie.
    pub fn winner(&self) -> Option<&str> {
        match self.choice.as_str() {
            LEFT => Some(&self.left),
            RIGHT => Some(&self.right),
            _ => None,
        }
    }
}

/// Writes what people said of the parts of a run, all rows in the order of their time, into one folder.
///
/// # Errors
/// A damaged table of a part, with file and line or row.
pub fn join<'a>(parts: impl Iterator<Item = &'a Path> + Clone, out: &Path) -> Result<()> {
    join_table::<RatingRow>(parts.clone(), out, RATINGS)?;
    join_table::<VoteRow>(parts, out, VOTES)
}

fn join_table<'a, T: Answer>(parts: impl Iterator<Item = &'a Path>, out: &Path, name: &str) -> Result<()> {
    let mut all: Vec<T> = Vec::new();
    for part in parts {
        all.extend(rows::<T>(&part.join(name))?);
    }
    if all.is_empty() {
        return Ok(());
    }
    all.sort_by(|a, b| a.at().cmp(b.at()));
    csv::write(&out.join(name), &all, &[])
}

/// What people said of a run.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// The last word of each rater on each picture, in the order of the file.
    pub ratings: Vec<RatingRow>,
    /// The last word of each rater on each pair of pictures.
    pub votes: Vec<VoteRow>,
}

impl People {
    /// Reads both tables of a run folder; a table that is not there has no rows. A last row that is still being written
    /// is left out.
    ///
    /// # Errors
    /// A damaged table, with file and line or row.
    pub fn read(dir: &Path) -> Result<Self> {
        Ok(Self::of(&rows(&dir.join(RATINGS))?, &rows(&dir.join(VOTES))?))
    }

    /// Of all rows those that count.
    pub fn of(ratings: &[RatingRow], votes: &[VoteRow]) -> Self {
        let rating = |row: &RatingRow| (row.rater.clone(), row.id.clone(), row.strategy.clone());
        let vote = |row: &VoteRow| {
            let (a, b) = row.pair();
            (row.rater.clone(), row.id.clone(), (a.to_string(), b.to_string()))
        };
        Self { ratings: last(ratings, rating), votes: last(votes, vote) }
    }

    pub fn is_empty(&self) -> bool {
        self.ratings.is_empty() && self.votes.is_empty()
    }

    /// The share of raters who call each picture a success, by photo and strategy, and how many they are.
    pub fn success(&self) -> BTreeMap<(&str, &str), (f64, usize)> {
        let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
        for row in &self.ratings {
            let count = counts.entry((&row.id, &row.strategy)).or_default();
            count.0 += usize::from(row.rating == SUCCESS);
            count.1 += 1;
        }
        counts.into_iter().map(|(key, (good, all))| (key, (good as f64 / all as f64, all))).collect()
    }
}

fn rows<T: Answer>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let rows: Vec<T> = csv::read_growing_with(path, T::COLUMNS)?;
    check(path, &rows)?;
    Ok(rows)
}

/// Refuses rows whose values mean nothing.
pub fn check<T: Answer>(path: &Path, rows: &[T]) -> Result<()> {
    for (at, row) in rows.iter().enumerate() {
        if let Some(fault) = row.fault() {
            bail!("{}, row {}: {fault}", path.display(), at + 1);
        }
    }
    Ok(())
}

/// The last row of each key, in the order of the file.
fn last<T: Clone, K: Ord>(rows: &[T], key: impl Fn(&T) -> K) -> Vec<T> {
    let places: BTreeMap<K, usize> = rows.iter().enumerate().map(|(at, row)| (key(row), at)).collect();
    let mut places: Vec<usize> = places.into_values().collect();
    places.sort_unstable();
    places.into_iter().map(|at| rows[at].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_rater_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert!(People::read(dir.path()).unwrap().is_empty());
        let text = "rater,id,strategy,rating,reason,at\n\
                    a,p,ink,failure,deformed,1\nb,p,ink,success,,2\na,p,ink,success,,3\na,q,ink,failure,,4\nb,q,in";
        std::fs::write(dir.path().join(RATINGS), text).unwrap();
        let text = "rater,id,left,right,choice,at\na,p,ink,oil,left,1\na,p,oil,ink,left,2\n";
        std::fs::write(dir.path().join(VOTES), text).unwrap();
        let people = People::read(dir.path()).unwrap();
        assert_eq!(people.success(), [(("p", "ink"), (1.0, 2)), (("q", "ink"), (0.0, 1))].into());
        assert_eq!(people.votes.len(), 1);
        assert_eq!(people.votes[0].winner(), Some("oil"));
    }

    #[test]
    fn values_that_mean_nothing_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(RATINGS), "rater,id,strategy,rating,reason,at\na,p,ink,good,,1\n").unwrap();
        let error = People::read(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("ratings.csv, row 1: rating \"good\" is neither success nor failure"), "{error}");
        std::fs::remove_file(dir.path().join(RATINGS)).unwrap();
        std::fs::write(dir.path().join(VOTES), "rater,id,left,right,choice,at\na,p,ink,ink,left,1\n").unwrap();
        assert!(People::read(dir.path()).unwrap_err().to_string().contains("left and right are both \"ink\""));
    }
}
