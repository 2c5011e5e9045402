//! Built-in models with random weights in the place of the published ones: to measure whole runs without any file.

use anyhow::{Result, bail};
use image::RgbImage;
use sha2::{Digest, Sha256};

use super::family::{CaptionerTask, GeneratorTask, Task};
use super::registry::find;
use super::text::text_tokenizer::CLIP_TOKENS;
use super::{Caption, CaptionOptions, Captioner, Generator, MeasuredCaptioner, Outline};
use crate::error::usage;
use crate::prompts::TokenBudget;
use crate::runtime::Runtime;

/// New tokens of a caption where nobody says.
const NEW_TOKENS: usize = 64;

/// The captioner of this built-in name. Its texts have the longest length that is asked for, and tell pictures apart.
pub fn captioner(name: &str, rt: &Runtime) -> Result<Box<dyn Captioner>> {
    let network = (captioner_task(name)?.random)(name, rt)?;
    Ok(Box::new(Rambling { network }))
}

/// The generator of this built-in name.
pub fn generator(name: &str, rt: &Runtime) -> Result<Box<dyn Generator>> {
    Ok((generator_task(name)?.random)(name, rt)?)
}

/// The same without weights.
pub fn outline(name: &str) -> Result<Box<dyn Outline>> {
    (generator_task(name)?.random_outline)(name)
}

/// Its prompt budget. Without a tokenizer nothing is counted.
pub fn token_budget(name: &str) -> Result<TokenBudget> {
    generator_task(name)?;
    Ok(TokenBudget::new(Vec::new(), CLIP_TOKENS))
}

/// Whether it draws with other solvers than its own.
pub fn takes_schedulers(name: &str) -> Result<bool> {
    Ok(generator_task(name)?.takes_schedulers)
}

/// Refuses names that are of no captioner.
pub fn check_captioner(name: &str) -> Result<()> {
    captioner_task(name).map(drop)
}

fn captioner_task(name: &str) -> Result<&'static CaptionerTask> {
    match &find(name)?.family.task {
        Task::Caption(captioner) => Ok(captioner),
        _ => Err(usage(format!("{name} does not describe pictures"))),
    }
}

fn generator_task(name: &str) -> Result<&'static GeneratorTask> {
    match &find(name)?.family.task {
        Task::Generate(generator) => Ok(generator),
        _ => Err(usage(format!("{name} does not draw pictures"))),
    }
}

/// A captioner without a tokenizer: what it computes is a text's worth, what it says is made up.
struct Rambling {
    network: Box<dyn MeasuredCaptioner>,
}

impl Captioner for Rambling {
    fn caption(&self, images: &[RgbImage], options: &CaptionOptions) -> Result<Vec<Caption>> {
        if options.num_beams != 1 {
            bail!("random weights write greedily: num_beams = 1");
        }
        let tokens = options.max_new_tokens.unwrap_or(NEW_TOKENS).max(1);
        self.network.describe(images, &vec![tokens; images.len()])?;
        let said = |image: &RgbImage| {
            let hash = Sha256::digest(image.as_raw());
            Caption {
                text: format!("a person, number {}", u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])),
                tokens,
            }
        };
        Ok(images.iter().map(said).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_against_what_they_can_do() {
        assert_eq!(outline("sd3-medium").unwrap().own_size(), (1024, 1024));
        assert_eq!(outline("sd-v1-5").unwrap().own_size(), (512, 512));
        assert!(!takes_schedulers("sd3-medium").unwrap() && takes_schedulers("sd-v1-5").unwrap());
        let composed = token_budget("sd3-medium").unwrap().compose("a person, number 7", "ink").unwrap();
        assert_eq!((composed.prompt.as_str(), composed.dropped.as_str()), ("a person, number 7, ink", ""));
        for error in [check_captioner("sd3-medium"), outline("blip-base").map(drop), check_captioner("phi-5")] {
            assert!(error.unwrap_err().is::<crate::error::UsageError>());
        }
        check_captioner("phi-4-multimodal").unwrap();
    }

    struct Still;

    impl MeasuredCaptioner for Still {
        fn dtype(&self) -> tch::Kind {
            tch::Kind::Float
        }

        fn batch(&self, _pictures: usize) -> Result<super::super::MeasuredBatch<'_>> {
            bail!("not asked for")
        }

        fn describe(&self, pictures: &[RgbImage], new_tokens: &[usize]) -> Result<()> {
            anyhow::ensure!(new_tokens == vec![9; pictures.len()], "{new_tokens:?}");
            Ok(())
        }
    }

    #[test]
    fn texts_have_the_length_asked_for_and_tell_pictures_apart() {
        let captioner = Rambling { network: Box::new(Still) };
        let options = |num_beams| CaptionOptions { prompt: None, max_new_tokens: Some(9), num_beams };
        let pictures = [0, 1, 0].map(|value| RgbImage::from_pixel(4, 4, image::Rgb([value; 3])));
        let said = captioner.caption(&pictures, &options(1)).unwrap();
        assert!(said[0] == said[2] && said[0].text != said[1].text && said.iter().all(|said| said.tokens == 9));
        assert!(captioner.caption(&pictures, &options(2)).is_err());
    }
}
