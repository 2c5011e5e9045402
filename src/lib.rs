//! A research toolkit for captioning and style transfer with multimodal models, on libtorch.
//!
//! ```text
//! TOML ─► experiment: settings ─► plan (axes → cells) ─► stages ────────────► run folder (CSV rows) ─► report
//!                                                        │                        ▲
//! datasets ─► photo ─► pipelines: describe ─► prompt ─► generate ─► picture ─► metrics
//!                          │          │          │
//!                        models ── nn, schedulers ── checkpoints ── runtime (libtorch, device, dtype, seeds)
//! ```
//!
//! A photo enters at [`datasets`], walks to the right once, and ends as a row and a picture.
//! [`hub`] brings published files into the caches of this machine; it knows no model. [`cluster`] hands
//! runs in shards to Slurm; it knows no experiment; [`workers`] shares the
//! batches of a command among processes, a GPU each. [`commands`] starts it all.
//! Imports point down and right only: [`report`] never sees a model or an experiment (it works from the files of [`run`]
//! alone), [`models`] never see an experiment, [`prompts`] and [`schedulers`] are pure functions, and nothing but
//! [`commands`] sees [`cli`]; [`view`] serves a run to a browser, and [`mlflow`] tells an MLflow server of it. `tests/architecture` holds that; ARCHITECTURE.md has a line for each folder.

pub mod axes;
pub mod checkpoints;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod datasets;
pub mod error;
pub mod experiment;
pub mod hub;
pub mod images;
pub mod metrics;
pub mod mlflow;
pub mod models;
pub mod nn;
pub mod pipelines;
pub mod prompts;
pub mod report;
pub mod run;
pub mod runtime;
pub mod schedulers;
pub mod view;
pub mod workers;
