//! Every configuration, as text: read into each of the types, and used as far as no weights are needed.

use std::iter;

use clap::ValueEnum;
use serde::de::DeserializeOwned;
use toolkit::checkpoints::config;
use toolkit::models::captioners::generation::GenerationConfig;
use toolkit::models::captioners::{blip, phi4_multimodal};
use toolkit::models::diffusion::stable_diffusion::{safety_checker, unet};
use toolkit::models::diffusion::{autoencoder_kl, stable_diffusion_3};
use toolkit::models::text::{clip_text, t5_encoder};
use toolkit::schedulers::{FlowMatchEuler, FlowMatchEulerConfig, Scheduler, SchedulerName};

use super::Reader;

pub fn all() -> Reader {
    Box::new(|input| {
        if let Ok(text) = std::str::from_utf8(input) {
            let _ = phi4_multimodal::config::Config::parse(text);
        }
        let Ok(value) = config::parse(input) else { return };
        take::<blip::Config>(&value);
        take::<clip_text::Config>(&value);
        take::<t5_encoder::Config>(&value);
        take::<stable_diffusion_3::mmdit::Config>(&value);
        take::<safety_checker::Config>(&value);
        if let Some(unet) = take::<unet::Config>(&value) {
            let _ = unet.layout();
        }
        if let Some(vae) = take::<autoencoder_kl::Config>(&value) {
            vae.scale_factor();
        }
        if let Some(generation) = take::<GenerationConfig>(&value) {
            let _ = generation.options(&[2], None);
        }
        if value.get("_class_name").is_none() {
            return;
        }
        if let Some(Ok(flow)) = take::<FlowMatchEulerConfig>(&value).map(FlowMatchEuler::new) {
            let _ = flow.schedule(7, 64);
        }
        for name in iter::once(None).chain(SchedulerName::value_variants().iter().copied().map(Some)) {
            if let Ok(scheduler) = Scheduler::new(&value, name) {
                let _ = scheduler.schedule(7);
            }
        }
    })
}

fn take<T: DeserializeOwned>(value: &serde_json::Value) -> Option<T> {
    config::take(value.clone()).ok()
}
