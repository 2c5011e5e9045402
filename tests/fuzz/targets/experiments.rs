//! Experiment files with `--set`, and the tables of a run folder.

use std::fs;

use toolkit::experiment::Config;
use toolkit::experiment::caption::CaptionConfig;
use toolkit::experiment::settings::Settings;
use toolkit::experiment::style::plan;
use toolkit::run::caption::{CaptionItem, CaptionResult, Comparison};
use toolkit::run::csv;
use toolkit::run::style::{CaptionRow, ItemRow, ResultRow};

use super::{Reader, head, scratch};

/// The head is the profile and what follows `--set`, parted by spaces.
pub fn toml() -> Reader {
    let dir = scratch();
    Box::new(move |input| {
        let Some((options, rest)) = head(input) else { return };
        let path = dir.path().join("file.toml");
        fs::write(&path, rest).unwrap();
        let mut options = options.split(' ').map(str::to_string);
        let profile = options.next().unwrap_or_default();
        let sets: Vec<String> = options.collect();
        if let Ok(config) = Config::load(&path, &profile, &sets) {
            let _ = toml::to_string(&config);
            let _ = plan::cells(&config.axes);
        }
        let _ = CaptionConfig::load(&path, &profile, &sets);
        let _ = Config::from_run(&path);
    })
}

/// The CSV files, as rows of every type.
pub fn tables() -> Reader {
    let dir = scratch();
    Box::new(move |input| {
        let path = dir.path().join("file.csv");
        fs::write(&path, input).unwrap();
        let _ = csv::read::<ItemRow>(&path, &["id", "strategy"]);
        let _ = csv::read::<ResultRow>(&path, &["strategy"]);
        let _ = csv::read::<CaptionRow>(&path, &[]);
        let _ = csv::read::<CaptionResult>(&path, &[]);
        let _ = csv::read::<Comparison>(&path, &[]);
        let _ = csv::read_growing::<ItemRow>(&path);
        let _ = csv::read_growing::<CaptionItem>(&path);
    })
}
