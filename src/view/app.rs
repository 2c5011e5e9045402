//! What the server knows: the run, its page, its pictures, and the two tables of answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, can_write};
use super::pairs::{Pair, Pool, Progress};
use super::pictures::Pictures;
use crate::error::usage;
use crate::report::grid::{Grid, link};
use crate::report::page;
use crate::report::style::{StyleRun, grid};
use crate::run::layout::kind_of;
use crate::run::people::{Answer, FAILURE, People, RATINGS, REASONS, RatingRow, VOTES, VoteRow};
use crate::run::style::ItemRow;
use crate::runtime::now;

const TEMPLATE: &str = include_str!("assets/view.html");
/// A name of a rater that is longer says nothing more.
const LONGEST_NAME: usize = 80;

/// A run that is served.
#[derive(Debug)]
pub struct App {
    pub page: String,
    pub pictures: Pictures,
    pool: Pool,
    /// The photos as links from the page, in the order of the pool.
    photos: Vec<Option<String>>,
    /// The picture of each photo under each strategy, as a link from the page.
    items: BTreeMap<(String, String), String>,
    /// None: nothing can be written there, so nobody judges.
    tables: Option<Tables>,
}

/// The tables of answers.
#[derive(Debug)]
struct Tables {
    ratings: Mutex<Ledger<RatingRow>>,
    votes: Mutex<Ledger<VoteRow>>,
}

/// Everything the template shows.
#[derive(Debug, Serialize)]
struct Page {
    title: String,
    question: String,
    grid: Grid,
    rates: bool,
    reasons: [&'static str; 5],
}

/// A rating as a browser sends it.
#[derive(Debug, Deserialize)]
pub struct NewRating {
    rater: String,
    id: String,
    strategy: String,
    rating: String,
    #[serde(default)]
    reason: Option<String>,
}

/// A vote as a browser sends it.
#[derive(Debug, Deserialize)]
pub struct NewVote {
    rater: String,
    id: String,
    left: String,
    right: String,
    choice: String,
}

/// What a rater takes back.
#[derive(Debug, Deserialize)]
pub struct Undo {
    rater: String,
    /// `ratings` or `votes`.
    table: String,
}

/// What a rater said so far.
#[derive(Debug, Serialize)]
pub struct Answers {
    ratings: Vec<RatingRow>,
    votes: usize,
}

/// The next pair, as a browser shows it.
#[derive(Debug, Serialize)]
pub struct Shown {
    id: String,
    left: String,
    right: String,
    photo: Option<String>,
    left_picture: Option<String>,
    right_picture: Option<String>,
}

/// The answer to an undo: the row that is gone.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Undone {
    Rating { undone: Option<RatingRow>, now: Option<RatingRow> },
    Vote { undone: Option<VoteRow>, pair: Option<Shown> },
}

/// An answer that is refused, or that could not be written.
#[derive(Debug)]
pub enum Refused {
    /// What is wrong with it.
    Malformed(String),
    /// Why it is not on disk.
    NotWritten(anyhow::Error),
    /// Nothing can be written into the run folder.
    ReadOnly,
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::NotWritten(error)
    }
}

impl App {
    /// Reads a style run and its answers so far.
    pub fn open(dir: &Path) -> Result<Self> {
        if dir.is_dir() && kind_of(dir) == "caption" {
            return Err(usage(format!(
                "{0} is a caption run: view shows and rates generated pictures, and it has none; its captions are in {0}/report.html",
                dir.display()
            )));
        }
        let run = StyleRun::read(dir)?;
        let photos = grid::photos(&run);
        let done = || run.items.iter().filter(|item| item.status != "failed");
        let files = done().map(|item| item.image.as_str()).chain(photos.iter().map(|(_, file)| *file));
        let files: BTreeSet<String> = files.filter(|file| link(dir, file).is_some()).map(str::to_string).collect();
        let names: Vec<String> = run.results.iter().map(|row| row.strategy.clone()).collect();
        let picture = |item: &ItemRow| Some(((item.id.clone(), item.strategy.clone()), link(dir, &item.image)?));
        let items: BTreeMap<(String, String), String> = done().filter_map(picture).collect();
        let there = |id: &str| {
            let has = |at: &usize| items.contains_key(&(id.to_string(), names[*at].clone()));
            (0..names.len()).filter(has).collect()
        };
        let pool_photos = photos.iter().map(|(id, _)| (id.to_string(), there(id))).collect();
        let small = |file: &str| link(dir, file).map(|link| format!("thumbs/{link}"));
        let judges = can_write(dir, &[RATINGS, VOTES])?;
        let tables = || {
            let ratings = Mutex::new(Ledger::open(dir, RATINGS)?);
            anyhow::Ok(Tables { ratings, votes: Mutex::new(Ledger::open(dir, VOTES)?) })
        };
        let page = Page {
            title: run.folder.title().to_string(),
            question: run.folder.setting("question").to_string(),
            grid: Grid { dense: true, ..grid::grid(&run, usize::MAX, small)? },
            rates: judges,
            reasons: REASONS,
        };
        Ok(Self {
            page: page::render(TEMPLATE, minijinja::context! { page => page })?,
            pictures: Pictures::new(dir, files),
            photos: photos.iter().map(|(_, file)| link(dir, file)).collect(),
            pool: Pool { names, photos: pool_photos },
            items,
            tables: if judges { Some(tables()?) } else { None },
        })
    }

    /// Whether people can judge: the run folder can be written to.
    pub fn judges(&self) -> bool {
        self.tables.is_some()
    }

    fn tables(&self) -> Result<&Tables, Refused> {
        self.tables.as_ref().ok_or(Refused::ReadOnly)
    }

    /// How many ratings and votes there are; None where nobody can judge.
    pub fn counts(&self) -> Result<Option<(usize, usize)>> {
        let Some(tables) = &self.tables else { return Ok(None) };
        Ok(Some((held(&tables.ratings).rows()?.len(), held(&tables.votes).rows()?.len())))
    }

    /// Puts a rating on disk.
    pub fn rate(&self, new: NewRating) -> Result<RatingRow, Refused> {
        let tables = self.tables()?;
        let row = RatingRow {
            rater: name(&new.rater)?,
            id: new.id,
            strategy: new.strategy,
            rating: new.rating,
            reason: new.reason.unwrap_or_default().replace('_', " "),
            at: now(),
        };
        if !self.items.contains_key(&(row.id.clone(), row.strategy.clone())) {
            return Err(Refused::Malformed(format!("the run has no picture of {:?} under {:?}", row.id, row.strategy)));
        }
        if row.rating != FAILURE && !row.reason.is_empty() {
            return Err(Refused::Malformed("only a failure has a reason".to_string()));
        }
        store(&tables.ratings, row)
    }

    /// Puts a vote on disk.
    pub fn vote(&self, new: NewVote) -> Result<VoteRow, Refused> {
        let tables = self.tables()?;
        let NewVote { rater, id, left, right, choice } = new;
        let row = VoteRow { rater: name(&rater)?, id, left, right, choice, at: now() };
        if !self.pool.has(&row.id, &row.left, &row.right) {
            let VoteRow { id, left, right, .. } = row;
            return Err(Refused::Malformed(format!(
                "the run has no two pictures of {id:?} under {left:?} and {right:?}"
            )));
        }
        store(&tables.votes, row)
    }

    /// Takes the last answer of a rater back.
    pub fn undo(&self, undo: &Undo) -> Result<Undone, Refused> {
        let (rater, tables) = (name(&undo.rater)?, self.tables()?);
        match undo.table.as_str() {
            "ratings" => {
                let mut ledger = held(&tables.ratings);
                let undone = ledger.undo(&rater)?;
                let same = |row: &&RatingRow| {
                    let gone =
                        undone.as_ref().is_some_and(|gone| (&gone.id, &gone.strategy) == (&row.id, &row.strategy));
                    gone && row.rater == rater
                };
                let now = ledger.rows()?.iter().rev().find(same).cloned();
                Ok(Undone::Rating { undone, now })
            }
            "votes" => {
                let undone = held(&tables.votes).undo(&rater)?;
                let pair = undone.as_ref().map(|row| {
                    self.shown(Pair { id: row.id.clone(), left: row.left.clone(), right: row.right.clone() })
                });
                Ok(Undone::Vote { undone, pair })
            }
            other => Err(Refused::Malformed(format!("table {other:?} is neither ratings nor votes"))),
        }
    }

    /// What a rater said so far; the last word on each picture.
    pub fn answers(&self, rater: &str) -> Result<Answers, Refused> {
        let tables = self.tables()?;
        let own = |row: &RatingRow| row.rater == rater;
        let ratings = held(&tables.ratings).rows()?.iter().filter(|row| own(row)).cloned().collect::<Vec<_>>();
        let votes = held(&tables.votes).rows()?.iter().filter(|row| row.rater == rater).count();
        Ok(Answers { ratings: People::of(&ratings, &[]).ratings, votes })
    }

    /// The pair that a rater compares next.
    pub fn next(&self, rater: &str, all: bool) -> Result<(Option<Shown>, Progress), Refused> {
        let votes = held(&self.tables()?.votes).rows()?.to_vec();
        let (pair, progress) = self.pool.next(&votes, rater, all, &mut rand::rng());
        Ok((pair.map(|pair| self.shown(pair)), progress))
    }

    fn shown(&self, pair: Pair) -> Shown {
        let at = self.pool.photos.iter().position(|(id, _)| *id == pair.id);
        let picture = |strategy: &str| self.items.get(&(pair.id.clone(), strategy.to_string())).cloned();
        Shown {
            photo: at.and_then(|at| self.photos[at].clone()),
            left_picture: picture(&pair.left),
            right_picture: picture(&pair.right),
            id: pair.id,
            left: pair.left,
            right: pair.right,
        }
    }
}

fn held<T>(ledger: &Mutex<Ledger<T>>) -> MutexGuard<'_, Ledger<T>> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn store<T: Answer>(ledger: &Mutex<Ledger<T>>, row: T) -> Result<T, Refused> {
    if let Some(fault) = row.fault() {
        return Err(Refused::Malformed(fault));
    }
    held(ledger).append(row.clone())?;
    Ok(row)
}

/// A rater's name as it goes into the tables. Spreadsheets would compute what starts like a formula.
fn name(given: &str) -> Result<String, Refused> {
    let name = given.trim();
    let fault = match name {
        "" => "rater is empty",
        _ if name.chars().count() > LONGEST_NAME => "rater is longer than 80 letters",
        _ if name.chars().any(char::is_control) => "rater has control characters",
        _ if name.starts_with(['=', '+', '-', '@']) => "rater starts like a formula of a spreadsheet",
        _ => return Ok(name.to_string()),
    };
    Err(Refused::Malformed(fault.to_string()))
}
