//! What a style run needs of models beside captioners.

use anyhow::Result;
use tch::Kind;

use super::config::Config;
use crate::experiment::models::{Captioners, OnThisMachine};
pub use crate::metrics::image::ImageScorer;
use crate::metrics::image::artfid::ArtFidNets;
use crate::models::{self, Generator, Outline, random};
use crate::prompts::TokenBudget;

/// Where a style run gets its models.
pub trait Models: Captioners {
    /// What a generator's text encoder can take, without its weights.
    fn token_budget(&self, generator: &str) -> Result<TokenBudget>;

    /// A generator without its weights.
    fn outline(&self, generator: &str) -> Result<Box<dyn Outline>>;

    /// Whether a generator can be told which scheduler to draw with.
    fn takes_schedulers(&self, generator: &str) -> Result<bool>;

    fn generator(&self, name: &str) -> Result<Box<dyn Generator>>;

    fn scorer(&self, config: &Config) -> Result<Box<dyn ImageScorer>>;
}

impl Models for OnThisMachine {
    fn token_budget(&self, generator: &str) -> Result<TokenBudget> {
        if self.has_random_weights() {
            return random::token_budget(generator);
        }
        models::load_token_budget(generator, self.runtime())
    }

    fn outline(&self, generator: &str) -> Result<Box<dyn Outline>> {
        if self.has_random_weights() {
            return random::outline(generator);
        }
        models::load_outline(generator, self.runtime())
    }

    fn takes_schedulers(&self, generator: &str) -> Result<bool> {
        if self.has_random_weights() {
            return random::takes_schedulers(generator);
        }
        Ok(models::locate(generator, self.runtime())?.family.takes_schedulers())
    }

    fn generator(&self, name: &str) -> Result<Box<dyn Generator>> {
        if self.has_random_weights() {
            return random::generator(name, self.runtime());
        }
        models::load_generator(name, self.runtime())
    }

    fn scorer(&self, config: &Config) -> Result<Box<dyn ImageScorer>> {
        let rt = self.runtime();
        if self.has_random_weights() {
            return Ok(Box::new(ArtFidNets::random(rt.device, Kind::Float)?));
        }
        let inception = models::locate_inception(&config.inception, rt)?;
        let lpips = models::locate_lpips(&config.lpips_backbone, &config.lpips_linear, rt)?;
        // Measures are not worth a coarser number type.
        let nets = ArtFidNets::load(&inception, &lpips.backbone, &lpips.linear, rt.device, Kind::Float)?;
        Ok(Box::new(nets))
    }
}
