//! Finished runs for an [MLflow](https://mlflow.org) tracking server, through its
//! [REST API](https://mlflow.org/docs/latest/api_reference/rest-api.html).
//!
//! An MLflow run is a strategy, or a model and data set: what MLflow lists and compares side by side. Who exports a run folder
//! twice gets new runs, as of everything that is logged to MLflow; the tag [`FOLDER_TAG`] says which belong together.

mod artifacts;
mod rest;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::artifacts::Store;
use self::rest::{Refusal, Rest};
use crate::report::{TrackedEntry, TrackedRun};

/// The tag with [`TrackedRun::id`].
pub const FOLDER_TAG: &str = "toolkit.run";

/// What the server takes in one request, and how long names and texts may be
/// (`mlflow/utils/validation.py`).
const MOST_METRICS: usize = 1000;
const MOST_PARAMS: usize = 100;
const LONGEST_PARAM: usize = 6000;
const LONGEST_NAME: usize = 250;
const LONGEST_TAG: usize = 5000;

/// The server, and the experiment on it that runs go to.
#[derive(Debug)]
pub struct Experiment {
    rest: Rest,
    id: String,
    store: Store,
}

/// A run that is on the server.
#[derive(Debug)]
pub struct Exported {
    pub name: String,
    /// Its page.
    pub url: String,
}

impl Experiment {
    /// Opens the experiment of this name, and makes it where it is not there.
    ///
    /// # Errors
    /// Wrong usage where `uri` is no address of a server, or is another machine's although `offline`; no server there; one
    /// that refuses; an experiment that was deleted; artifacts in a place that only the server can write to.
    pub fn open(uri: &str, name: &str, offline: bool) -> Result<Self> {
        let rest = Rest::at(uri, offline)?;
        let by_name = || rest.ask("experiments/get-by-name", &[("experiment_name", name)]);
        let found = match by_name() {
            Err(refusal) if refusal.code() == "RESOURCE_DOES_NOT_EXIST" => {
                match rest.tell("experiments/create", &json!({ "name": name }), false) {
                    // Another process has been faster.
                    Err(refusal) if refusal.code() != "RESOURCE_ALREADY_EXISTS" => Err(refusal),
                    _ => by_name(),
                }
            }
            answer => answer,
        };
        let found = found.map_err(Refusal::into_error)?;
        let text = |key: &str| found["experiment"][key].as_str().unwrap_or_default().to_string();
        if text("lifecycle_stage") == "deleted" {
            anyhow::bail!(
                "the experiment {name:?} was deleted on {rest}: restore it there, or name another (--experiment)"
            );
        }
        let store = Store::of(&text("artifact_location"), &rest)?;
        let id = text("experiment_id");
        anyhow::ensure!(!id.is_empty(), "{rest} does not answer as an MLflow server does: it names no experiment");
        Ok(Self { rest, id, store })
    }

    /// How many runs of this run folder are there already.
    ///
    /// # Errors
    /// A server that refuses.
    pub fn earlier(&self, run: &TrackedRun) -> Result<usize> {
        let filter = format!("tags.\"{FOLDER_TAG}\" = '{}'", run.id);
        let asked = json!({ "experiment_ids": [self.id], "filter": filter, "max_results": 1000 });
        let found = self.rest.tell("runs/search", &asked, true).map_err(Refusal::into_error)?;
        Ok(found["runs"].as_array().map_or(0, Vec::len))
    }

    /// Makes a run of an entry: metrics, settings, files.
    ///
    /// # Errors
    /// A server that refuses or is gone. What was begun is marked as failed there, if it still can be.
    pub fn export(&self, run: &TrackedRun, entry: &TrackedEntry) -> Result<Exported> {
        let (started, ended) = times(run);
        let asked = json!({
            "experiment_id": self.id,
            "run_name": cut(&entry.name, LONGEST_NAME),
            "start_time": started,
            "tags": tags(run, entry),
        });
        let made = self.rest.tell("runs/create", &asked, false).map_err(Refusal::into_error);
        let info = made.with_context(|| format!("cannot make the run {}", entry.name))?["run"]["info"].clone();
        let id = info["run_id"].as_str().context("the server names no run: is it an MLflow server?")?;
        let end = |status: &str| {
            let asked = json!({ "run_id": id, "status": status, "end_time": ended });
            self.rest.tell("runs/update", &asked, true).map_err(Refusal::into_error)
        };
        let filled = self.log(id, ended, entry).and_then(|()| self.keep(&info, &run.files)).and_then(|()| {
            end("FINISHED")?;
            Ok(())
        });
        if let Err(error) = filled {
            let now = if end("FAILED").is_ok() { "is marked as failed" } else { "is left unfinished" };
            return Err(error.context(format!("the run {} ({id}) {now}", entry.name)));
        }
        let url = self.rest.page(&format!("experiments/{}/runs/{id}", self.id));
        Ok(Exported { name: entry.name.clone(), url })
    }

    /// Writes metrics and settings down, in as many requests as the server wants.
    fn log(&self, id: &str, at: u64, entry: &TrackedEntry) -> Result<()> {
        let metric =
            |(name, value): &(String, f64)| json!({ "key": key(name), "value": value, "timestamp": at, "step": 0 });
        let param = |(name, text): &(String, String)| json!({ "key": key(name), "value": cut(text, LONGEST_PARAM) });
        let metrics = entry
            .metrics
            .chunks(MOST_METRICS)
            .map(|part| json!({ "run_id": id, "metrics": part.iter().map(metric).collect::<Vec<Value>>() }));
        let params = entry
            .settings
            .chunks(MOST_PARAMS)
            .map(|part| json!({ "run_id": id, "params": part.iter().map(param).collect::<Vec<Value>>() }));
        for batch in metrics.chain(params) {
            self.rest.tell("runs/log-batch", &batch, true).map_err(Refusal::into_error)?;
        }
        Ok(())
    }

    fn keep(&self, info: &Value, files: &[impl AsRef<Path>]) -> Result<()> {
        let place = info["artifact_uri"].as_str().context("the server does not say where artifacts go")?;
        // It may differ from run to run only below the experiment's own place, which was looked at.
        files.iter().try_for_each(|file| self.store.put(&self.rest, place, file.as_ref()))
    }
}

/// When the run started and ended, in milliseconds since 1970: its table of results is written last.
fn times(run: &TrackedRun) -> (u64, u64) {
    let millis = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
    };
    let written = || run.files.first()?.metadata().ok()?.modified().ok();
    let ended = millis(written().unwrap_or_else(std::time::SystemTime::now));
    let started = run.started.map_or(ended, |seconds| seconds * 1000);
    (started, ended.max(started))
}

fn tags(run: &TrackedRun, entry: &TrackedEntry) -> Value {
    let user = std::env::var("USER").unwrap_or_default();
    let version = format!("toolkit {}", run.version);
    let note = format!("{}: {}", run.title, run.question);
    let tags = [
        (FOLDER_TAG, run.id.as_str()),
        ("toolkit.folder", run.folder.as_str()),
        ("toolkit.name", run.title.as_str()),
        ("toolkit.entry", entry.name.as_str()),
        ("mlflow.source.type", "LOCAL"),
        ("mlflow.source.name", version.trim()),
        ("mlflow.user", user.as_str()),
        ("mlflow.note.content", if run.question.is_empty() { "" } else { note.as_str() }),
    ];
    let told = tags.iter().filter(|(_, text)| !text.is_empty());
    told.map(|(name, text)| json!({ "key": name, "value": cut(text, LONGEST_TAG) })).collect()
}

/// A name as MLflow takes it: letters, digits and `_-. :` alone, and no path.
fn key(name: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || "_-. :".contains(c);
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(LONGEST_NAME).collect();
    name.replace("..", "._")
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_such_as_the_server_takes() {
        assert_eq!(key("axes.style_text"), "axes.style_text");
        assert_eq!(key("../a\n\"b\"/c"), ".__a__b__c");
        assert_eq!(key(&"x".repeat(900)).len(), LONGEST_NAME);
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
