//! Stable Diffusion 1 and 2: text to picture, and photo to picture.
//!
//! The pipelines are those of
//! <https://github.com/huggingface/diffusers/tree/main/src/diffusers/pipelines/stable_diffusion>:
//! the same seed gives the same picture.

mod adapters;
mod config;
mod control;
pub mod controlnet;
mod image_projection;
pub mod ip_adapter;
mod kept;
mod outline;
mod prompt_encoder;
pub mod safety_checker;
mod single_file;
mod steering;
mod steps;
mod transformer;
pub mod unet;
mod unet_config;
mod unet_encoder;

use std::cell::OnceCell;
use std::rc::Rc;

use anyhow::Result;
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use self::config::{SAFETY_CHECKER, UNET, VAE};
use self::outline::SdOutline;
use self::prompt_encoder::PromptEncoder;
use self::safety_checker::SafetyChecker;
use self::steering::{Steered, SteeringNets};
use self::steps::SdTexts;
use self::unet::Unet;
use super::guidance::{Ways, guide};
use super::lora::{Adaptable, Lora};
use super::model::{DiffusionModel, PipelineOutline};
use super::pipeline::Pipeline;
use super::pipeline_part::Part;
use super::single_file::SingleFileLayout;
use super::steps::{CaptureSlot, Conditioned, DenoisingSteps};
use crate::error::usage;
use crate::models::{Family, GenerateRequest, Generated};
use crate::prompts::TokenBudget;
use crate::runtime::Precision;

/// How it is told, loaded and measured.
pub static FAMILY: Family = Family {
    title: "Stable Diffusion generator",
    pipeline_classes: &["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"],
    model_types: &[],
    tensors: &["model.diffusion_model.input_blocks.0.0.weight"],
    is_file: |_, _| Ok(true),
    files: |found, index| found.pipeline(index, &["scheduler", "tokenizer", "text_encoder", "unet", "vae"]),
    task: StableDiffusion::TASK,
};

/// The pipeline.
pub type StableDiffusion = Pipeline<SdModel>;

/// Text encoder, U-Net and, where it is asked for, the safety checker.
#[derive(Debug)]
pub struct SdModel {
    outline: SdOutline,
    device: Device,
    kind: Kind,
    prompts: Rc<PromptEncoder>,
    unet: Rc<Unet>,
    unet_weights: Adaptable,
    capture: CaptureSlot<Unet>,
    steering: SteeringNets,
    checker: OnceCell<SafetyChecker>,
}

impl StableDiffusion {
    /// Builds the checker where its files are there.
    pub fn build_checker(&self) -> Result<()> {
        self.model.build_rest()
    }
}

impl SdModel {
    /// Loads the U-Net beside an encoder.
    fn with_unet(outline: SdOutline, prompts: Rc<PromptEncoder>, device: Device, kind: Kind) -> Result<Self> {
        let SdOutline { source, unet: config, .. } = &outline;
        let (unet, unet_weights) = source.build_adaptable(UNET, device, kind, |weights| Unet::new(weights, config))?;
        let (unet, capture, steering) = (Rc::new(unet), CaptureSlot::default(), SteeringNets::default());
        let checker = OnceCell::new();
        Ok(Self { outline, device, kind, prompts, unet, unet_weights, capture, steering, checker })
    }

    /// The checker, which is loaded when it is first asked for.
    fn checker(&self) -> Result<&SafetyChecker> {
        if let Some(checker) = self.checker.get() {
            return Ok(checker);
        }
        let folder = self.outline.needed_checker()?;
        let config = self.outline.source.config(SAFETY_CHECKER.folder)?;
        let extractor = folder.join("feature_extractor");
        let checker = self.outline.source.build(SAFETY_CHECKER, self.device, self.kind, |weights| {
            SafetyChecker::new(weights, &config, &extractor)
        })?;
        Ok(self.checker.get_or_init(|| checker))
    }
}

impl DiffusionModel for SdModel {
    const TITLE: &'static str = "Stable Diffusion";
    const DTYPE: Kind = Kind::Half;
    const GUIDANCE: f64 = 7.5;
    const VAE: Part = VAE;
    const SINGLE_FILE: &'static SingleFileLayout = &single_file::LAYOUT;
    const TAKES_SCHEDULERS: bool = true;

    type Outline = SdOutline;
    type Texts = Tensor;
    type Denoiser = Unet;
    type Control = Steered;

    fn open(outline: SdOutline, device: Device, Precision { kind, .. }: Precision) -> Result<Self> {
        let SdOutline { source, unet: config, .. } = &outline;
        let prompts = Rc::new(PromptEncoder::load(source, device, kind)?);
        if let Some(size) = config.layout()?.sizes.iter().find(|size| size.text != prompts.width()) {
            return Err(usage(format!(
                "the text encoder gives {} values (hidden_size of text_encoder) and the U-Net reads {} (cross_attention_dim)",
                prompts.width(),
                size.text
            )));
        }
        Self::with_unet(outline, prompts, device, kind)
    }

    fn on_second(&self, device: Device) -> Result<Self> {
        let outline = SdOutline::read(self.outline.source.clone())?;
        Self::with_unet(outline, self.prompts.clone(), device, self.kind)
    }

    fn outline(&self) -> &SdOutline {
        &self.outline
    }

    /// Float32 where its configuration asks for that.
    fn vae_kind(outline: &SdOutline, kind: Kind) -> Kind {
        if outline.vae.force_upcast == Some(true) { Kind::Float } else { kind }
    }

    fn budget(&self) -> Result<TokenBudget> {
        self.prompts.budget()
    }

    fn adapt(&self, loras: Vec<Lora>) -> Result<()> {
        self.prompts.adapt(&loras)?;
        self.unet_weights.merge(&loras).map(drop)
    }

    fn encode(&self, texts: &[String]) -> Result<Tensor> {
        self.prompts.encode(texts)
    }

    fn forget_texts(&self) {
        self.prompts.forget();
    }

    fn control(&self, request: &GenerateRequest, (width, height): (i64, i64)) -> Result<Steered> {
        let scale = self.outline.vae.scale_factor();
        let size = (width * scale, height * scale);
        self.steering.steer(request, size, &self.outline, (self.device, self.kind))
    }

    fn condition(&self, texts: &Tensor, ways: Ways, times: &[f64], control: &Steered) -> Result<Conditioned<Unet>> {
        let texts = ways.rows(texts).to_device(self.device);
        let unet::Conditioning { times: own, texts: mut read } = self.unet.condition(&texts, times);
        if let Some(pictures) = &control.pictures {
            pictures.join(&mut read, ways);
        }
        let (steering, times) = match &control.net {
            Some(control) => control.steer(&texts, ways.scale().is_some(), times, own),
            None => (None, own),
        };
        Ok(Conditioned { denoiser: self.unet.clone(), texts: SdTexts { texts: read, steering }, times })
    }

    fn capture(&self) -> &CaptureSlot<Unet> {
        &self.capture
    }

    /// Guidance is no part of the captured step, which so serves every scale.
    fn predict(
        steps: &mut DenoisingSteps<Unet>,
        latents: &Tensor,
        step: usize,
        guidance: Option<f64>,
    ) -> Result<Tensor> {
        match guidance {
            // Solvers keep what they are given.
            None => steps.run_to_keep(latents, step),
            Some(guidance) => Ok(guide(&steps.run(&Tensor::cat(&[latents, latents], 0), step)?, guidance)),
        }
    }

    /// The checker, where its files are there.
    fn build_rest(&self) -> Result<()> {
        match self.outline.checker_folder()? {
            Some(folder) if folder.join(SAFETY_CHECKER.folder).is_dir() => self.checker().map(drop),
            _ => Ok(()),
        }
    }

    /// A checker that is not there is said before anything is drawn.
    fn check_review(&self, request: &GenerateRequest) -> Result<()> {
        if request.safety_checker { self.checker().map(drop) } else { Ok(()) }
    }

    /// Pictures that the checker objects to become black.
    fn review(&self, request: &GenerateRequest, drawn: Vec<Generated>) -> Result<Vec<Generated>> {
        if !request.safety_checker {
            return Ok(drawn);
        }
        let pictures: Vec<RgbImage> = drawn.iter().map(|generated| generated.image.clone()).collect();
        let flags = self.checker()?.check(&pictures)?;
        let judged = |(generated, flag): (Generated, bool)| {
            if !flag {
                return generated;
            }
            let remark = "the safety checker objects to the picture, so it is black: try another prompt or seed";
            let remark = generated.remark.map_or(remark.to_string(), |before| format!("{before}; {remark}"));
            let (width, height) = generated.image.dimensions();
            Generated { image: RgbImage::new(width, height), remark: Some(remark) }
        };
        Ok(drawn.into_iter().zip(flags).map(judged).collect())
    }
}

/// Pictures that went wrong in 16 bits (in float16 activations of the autoencoder pass 65504 for some pictures) are drawn
/// again, see [`super::float32_fallback`].
#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::diffusion::float32_fallback::testing::{assert_mended, damaged, draw};
    use crate::models::diffusion::pipeline_part::Published;
    use crate::models::diffusion::pipeline_source::PipelineSource;
    use crate::models::{ControlRequest, Generator, IpAdapterChoice, LoraChoice, PhasedGenerator};

    #[test]
    fn a_decoder_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd15/like_v1", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        assert_mended::<SdModel>(folder.path(), "decoded again in float32", false, 4.0);
    }

    /// Then the latents are no numbers, and the whole drawing is done again.
    #[test]
    fn an_encoder_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd15/like_v1", "vae", |name, tensor| match name {
            "encoder.conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        assert_mended::<SdModel>(folder.path(), "drawn again in float32", true, 0.0);
    }

    #[test]
    fn a_denoiser_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd15/like_v1", "unet", |name, tensor| match name {
            "conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        assert_mended::<SdModel>(folder.path(), "drawn again in float32", false, 0.0);
    }

    /// A configuration that asks for float32 gets it, and nothing has to be mended.
    #[test]
    fn an_autoencoder_is_in_float32_where_its_configuration_says_so() {
        let folder = damaged("sd15/like_v1", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" | "encoder.conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        let file = folder.path().join("vae/config.json");
        let config = std::fs::read_to_string(&file).unwrap().replacen('{', "{\"force_upcast\": true,", 1);
        std::fs::write(&file, config).unwrap();
        for photos in [false, true] {
            for picture in draw::<SdModel>(folder.path(), Kind::Half, Kind::Half, photos).unwrap() {
                assert_eq!(picture.remark, None);
            }
        }
    }

    /// Random weights are adapted and steered as those of files are, by adapters that are random too.
    #[test]
    fn random_weights_are_adapted_and_steered() {
        const OWN: &str = concat!(
            r#"{"unet": "#,
            include_str!("../../../../tests/golden/sd15/like_v1/unet/config.json"),
            r#", "text_encoder": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 40, "hidden_act": "quick_gelu", "max_position_embeddings": 77,
                "vocab_size": 49408, "eos_token_id": 2}"#,
            r#", "vae": "#,
            include_str!("../../../../tests/golden/sd15/like_v1/vae/config.json"),
            r#", "image_encoder": "#,
            include_str!("../../../../tests/golden/ip_adapter/models/image_encoder/config.json"),
            "}"
        );
        let published = Published { family: include_str!("published.json"), own: OWN };
        let pipeline = StableDiffusion::open(PipelineSource::random(published), Device::Cpu, Kind::Float).unwrap();
        let picture = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * 15) as u8, (y * 15) as u8, 9]));
        let shown = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
        picture.save(shown.path()).unwrap();
        let request = GenerateRequest {
            prompts: vec!["a cat".to_string()],
            seeds: vec![1],
            steps: Some(2),
            width: Some(16),
            height: Some(16),
            ..GenerateRequest::default()
        };
        // The latents: what random autoencoders make of them is grey.
        let denoise = |request: &GenerateRequest| pipeline.denoise(pipeline.prepare(request).unwrap()).unwrap();
        let draw = |request: &GenerateRequest| tch::no_grad(|| denoise(request));
        let plain = draw(&request);
        let loras = vec![LoraChoice { file: "tests/golden/lora/sd15_kohya.safetensors".into(), weight: 1.0 }];
        let control = ControlRequest {
            model: "controlnet-canny".to_string(),
            images: vec![picture],
            ..ControlRequest::default()
        };
        let shows =
            |file: &str| IpAdapterChoice { file: file.into(), pictures: vec![shown.path().to_path_buf()], scale: 1.0 };
        for steered in [
            GenerateRequest { loras: loras.clone(), ..request.clone() },
            GenerateRequest { control: Some(control.clone()), ..request.clone() },
            GenerateRequest { ip_adapter: Some(shows("ip-adapter")), ..request.clone() },
            GenerateRequest { ip_adapter: Some(shows("ip-adapter-plus")), ..request.clone() },
        ] {
            assert!(!draw(&steered).equal(&plain), "{steered:?}");
        }
        assert!(draw(&request).equal(&plain));
        pipeline.adapt(&loras).unwrap();
        let unknown = ControlRequest { model: "controlnet-cany".to_string(), ..control };
        let error = pipeline.generate(&GenerateRequest { control: Some(unknown), ..request }).unwrap_err();
        assert!(error.to_string().contains("did you mean \"controlnet-canny\"?"), "{error:#}");
    }

    #[test]
    fn what_overflows_in_float32_is_an_error() {
        let folder = damaged("sd15/like_v1", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 3e38,
            _ => tensor,
        });
        let error = draw::<SdModel>(folder.path(), Kind::Float, Kind::Half, false).unwrap_err();
        assert!(error.to_string().contains("in float32 too"), "{error:#}");
    }
}
