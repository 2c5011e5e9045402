//! All tests that need no GPU, a module a subject: one program, so that libtorch is linked once.
//! `cargo test --test cpu SUBJECT` runs some of them.

mod again;
mod artfid;
mod bench_study;
mod blip;
mod browser;
mod caption_metrics;
mod caption_run;
mod checkpoint_faults;
mod checkpoint_views;
mod checkpoints;
mod controlnet;
mod datasets;
#[path = "../common/diffusion.rs"]
mod diffusion;
mod doctor;
#[path = "../common/doubles.rs"]
mod doubles;
mod experiment_axes;
mod experiment_before;
mod experiment_cli;
mod experiment_config;
mod experiment_folder;
mod experiment_metrics;
mod experiment_mini;
mod experiment_run;
mod experiment_stop;
mod feature_metrics;
mod fit;
mod float8;
mod generation;
#[allow(dead_code, reason = "the tests of tests/gpu use more of it")]
#[path = "../common/gpu.rs"]
mod gpu;
mod hostile_configs;
mod hub;
mod images;
mod ip_adapter;
mod lora;
#[path = "../common/mini.rs"]
mod mini;
mod mini_adapters;
mod mini_metrics;
mod mini_pictures;
mod mini_world;
mod mlflow;
mod models;
#[path = "../common/notebook_python.rs"]
mod notebook_python;
mod people;
mod phi4;
mod photo;
mod picture_files;
mod prompts;
#[path = "../common/python_packages.rs"]
mod python_packages;
mod report;
mod resaved;
mod schedulers;
mod sd15;
mod sd3;
mod setup_scripts;
mod single_file;
mod staging;
mod statistics;
mod submit;
mod terminal;
mod text_tokenizers;
mod two_devices;
mod view;
mod workers;
