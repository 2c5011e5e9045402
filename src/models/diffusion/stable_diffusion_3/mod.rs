//! Stable Diffusion 3: text to picture, and photo to picture.
//!
//! The pipelines are those of
//! <https://github.com/huggingface/diffusers/tree/main/src/diffusers/pipelines/stable_diffusion_3>:
//! the same seed gives the same picture.

mod adapters;
mod block;
mod config;
mod denoiser;
pub mod mmdit;
mod outline;
mod prompt_encoding;
mod rehearsal;
mod single_file;
mod steps;

use std::rc::Rc;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use self::config::VAE;
use self::denoiser::DenoiserPlace;
use self::mmdit::Mmdit;
use self::outline::Sd3Outline;
pub use self::prompt_encoding::Embeddings;
use self::prompt_encoding::PromptEncoder;
use self::steps::MmditTexts;
use super::guidance::Ways;
use super::lora::Lora;
use super::model::{DiffusionModel, PipelineOutline};
use super::pipeline::Pipeline;
use super::pipeline_part::Part;
use super::single_file::SingleFileLayout;
use super::steps::{CaptureSlot, Conditioned, DenoisingSteps};
use crate::models::{Family, GenerateRequest};
use crate::nn::with_long_attention;
use crate::prompts::TokenBudget;
use crate::runtime::{self, Precision};

/// Device memory that drawing takes besides the weights: for one picture of 1024², and for each more.
const WORKING_BYTES: u64 = 4 << 30;
const PICTURE_BYTES: u64 = 1 << 30;
/// Latent places of a picture of 1024².
const PUBLISHED_PLACES: u64 = 128 * 128;

/// How it is told, loaded and measured.
pub static FAMILY: Family = Family {
    title: "Stable Diffusion 3 generator",
    pipeline_classes: &["StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline"],
    model_types: &[],
    tensors: &["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"],
    is_file: |_, _| Ok(true),
    files: |found, index| found.pipeline(index, PARTS),
    task: StableDiffusion3::TASK,
};

/// All but T5 and its tokenizer, which may be missing.
const PARTS: &[&str] =
    &["scheduler", "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "transformer", "vae"];

/// The pipeline.
pub type StableDiffusion3 = Pipeline<Sd3Model>;

/// Three text encoders and the transformer, which take turns on the device where its memory is short.
#[derive(Debug)]
pub struct Sd3Model {
    outline: Sd3Outline,
    device: Device,
    precision: Precision,
    prompts: Rc<PromptEncoder>,
    /// Whether encoders and denoiser are on the device together; if not, each comes when needed.
    fits_in_vram: bool,
    denoiser: DenoiserPlace,
}

impl Sd3Model {
    fn unload_encoders(&self) {
        if self.prompts.is_loaded() {
            self.prompts.unload();
            runtime::shim::empty_cache();
        }
    }
}

impl DiffusionModel for Sd3Model {
    const TITLE: &'static str = "Stable Diffusion 3";
    const DTYPE: Kind = Kind::BFloat16;
    const GUIDANCE: f64 = 7.0;
    const VAE: Part = VAE;
    const SINGLE_FILE: &'static SingleFileLayout = &single_file::LAYOUT;
    /// Its paths are straight, and only its own Euler steps follow them.
    const TAKES_SCHEDULERS: bool = false;
    const TAKES_FLOAT8: bool = true;

    type Outline = Sd3Outline;
    type Texts = Embeddings;
    type Denoiser = Mmdit;
    type Control = ();

    fn open(outline: Sd3Outline, device: Device, precision: Precision) -> Result<Self> {
        let kind = precision.kind;
        if precision.float8 {
            outline.transformer.check_float8()?;
            if device == Device::Cpu {
                tracing::warn!(
                    "--precision fp8 is imitated on the CPU: slower than without, and there to see its error"
                );
            }
        }
        let mmdit::Config { joint_attention_dim, pooled_projection_dim, .. } = outline.transformer;
        let prompts = PromptEncoder::new(&outline.source, device, kind, joint_attention_dim, pooled_projection_dim)?;
        let prompts = Rc::new(prompts);
        let denoiser = DenoiserPlace::new(outline.source.clone(), outline.transformer.clone(), device, precision);
        let all = prompts.bytes()? + denoiser.missing_bytes()?;
        let fits_in_vram = runtime::free_memory(device).is_none_or(|free| free > all + WORKING_BYTES);
        let model = Self { outline, device, precision, prompts, fits_in_vram, denoiser };
        if fits_in_vram {
            model.prompts.load()?;
        } else {
            tracing::info!("device memory is short: text encoders and denoiser take turns on it");
        }
        // Random numbers are drawn one after another.
        if fits_in_vram && device.is_cuda() && !model.outline.source.is_random() {
            model.denoiser.begin();
        } else {
            // A wrong tokenizer is told before the largest network is read.
            model.budget()?;
            model.denoiser.get()?;
        }
        Ok(model)
    }

    fn on_second(&self, device: Device) -> Result<Self> {
        if let Device::Cuda(gpu) = device
            && self.precision.float8
        {
            runtime::check_float8(gpu)?;
        }
        let outline = Sd3Outline::read(self.outline.source.clone())?;
        let (precision, prompts, denoiser) = (self.precision, self.prompts.clone(), self.denoiser.on(device));
        denoiser.get()?;
        Ok(Self { outline, device, precision, prompts, fits_in_vram: true, denoiser })
    }

    fn outline(&self) -> &Sd3Outline {
        &self.outline
    }

    fn budget(&self) -> Result<TokenBudget> {
        self.prompts.budget()
    }

    fn rehearse_texts(outline: &Sd3Outline, device: Device, kind: Kind) -> Result<()> {
        rehearsal::texts(&outline.source, device, kind)
    }

    fn rehearse_pictures(outline: &Sd3Outline, device: Device, precision: Precision) -> Result<()> {
        rehearsal::pictures(outline, device, precision.kind, precision.float8)
    }

    fn settle(&self) -> Result<()> {
        self.denoiser.settle()
    }

    fn adapt(&self, loras: Vec<Lora>) -> Result<()> {
        let loras = Rc::new(loras);
        self.denoiser.adapt(loras.clone())?;
        self.prompts.adapt(loras)
    }

    /// Texts as the denoiser reads them. Where device memory is short, the denoiser makes room for
    /// the encoders, and they leave when they are done.
    fn encode(&self, texts: &[String]) -> Result<Embeddings> {
        if self.prompts.needs_encoders(texts) && !self.prompts.is_loaded() {
            let needed = self.prompts.bytes()? + WORKING_BYTES / 2;
            if runtime::free_memory(self.device).is_some_and(|free| free < needed) {
                self.denoiser.unload();
                runtime::shim::empty_cache();
            }
            self.prompts.load()?;
        }
        let embeddings = self.prompts.encode(texts)?;
        if !self.fits_in_vram {
            self.unload_encoders();
        }
        Ok(embeddings)
    }

    fn forget_texts(&self) {
        self.prompts.forget();
    }

    /// Sends the encoders away where there is room beside them for one picture, but not for so many or so large ones.
    fn make_room(&self, pictures: usize, (width, height): (i64, i64)) -> Result<()> {
        let Some(free) = runtime::free_memory(self.device) else { return Ok(()) };
        let places = pictures as u64 * (width * height) as u64;
        let working = WORKING_BYTES + (PICTURE_BYTES * places / PUBLISHED_PLACES).saturating_sub(PICTURE_BYTES);
        if free < self.denoiser.missing_bytes()? + working {
            self.unload_encoders();
        }
        Ok(())
    }

    /// Nothing does: see the outline.
    fn control(&self, _request: &GenerateRequest, _size: (i64, i64)) -> Result<()> {
        Ok(())
    }

    fn condition(&self, texts: &Embeddings, ways: Ways, times: &[f64], _control: &()) -> Result<Conditioned<Mmdit>> {
        let denoiser = self.denoiser.get()?;
        let times: Vec<f32> = times.iter().map(|&time| time as f32).collect();
        let [prompt, pooled] = [&texts.prompt, &texts.pooled].map(|rows| ways.rows(rows).to_device(self.device));
        let mmdit::Conditioning { context, modulations } = denoiser.condition(&prompt, &pooled, &times);
        Ok(Conditioned { denoiser, texts: MmditTexts { context, guidance: ways.scale() }, times: modulations })
    }

    fn capture(&self) -> &CaptureSlot<Mmdit> {
        self.denoiser.capture()
    }

    /// Guidance is part of the captured step.
    fn predict(
        steps: &mut DenoisingSteps<Mmdit>,
        latents: &Tensor,
        step: usize,
        _guidance: Option<f64>,
    ) -> Result<Tensor> {
        steps.run(latents, step)
    }

    fn while_denoising<T>(work: impl FnOnce() -> T) -> T {
        with_long_attention(work)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::config::TRANSFORMER;
    use super::*;
    use crate::models::Generator;
    use crate::models::diffusion::float32_fallback::testing::{assert_mended, damaged, draw};
    use crate::models::diffusion::pipeline_source::PipelineSource;

    fn mini_with_t5() -> StableDiffusion3 {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd3/with_t5");
        StableDiffusion3::open(PipelineSource::Folder(folder), Device::Cpu, Kind::Float).unwrap()
    }

    fn cats(count: usize) -> GenerateRequest {
        GenerateRequest {
            prompts: vec!["a cat".to_string(); count],
            seeds: (3..3 + count as u64).collect(),
            steps: Some(2),
            ..GenerateRequest::default()
        }
    }

    fn pictures(pipeline: &StableDiffusion3, request: &GenerateRequest) -> Vec<image::RgbImage> {
        pipeline.generate(request).unwrap().into_iter().map(|drawn| drawn.image).collect()
    }

    /// Short memory, acted out on the CPU: the encoders come for new texts only, leave when they are
    /// done, and the picture is the same.
    #[test]
    fn encoders_take_turns_where_memory_is_short() {
        let fits_in_vram = mini_with_t5();
        let model = &fits_in_vram.model;
        let weights = model.prompts.bytes().unwrap() + model.outline.source.bytes(TRANSFORMER, Kind::Float).unwrap();
        let request = cats(1);
        let expected = pictures(&fits_in_vram, &request);
        assert!(fits_in_vram.model.prompts.is_loaded());
        let texts = [request.prompts.as_slice(), &[String::new()]].concat();
        for free in [0, weights + WORKING_BYTES] {
            runtime::acted_free(Some(free));
            let short = mini_with_t5();
            assert!(
                !short.model.fits_in_vram
                    && !short.model.prompts.is_loaded()
                    && short.model.prompts.needs_encoders(&texts)
            );
            for _ in 0..2 {
                assert_eq!(pictures(&short, &request), expected);
                assert!(!short.model.prompts.is_loaded());
                assert!(!short.model.prompts.needs_encoders(&texts), "encoded once");
            }
        }
        runtime::acted_free(Some(weights + WORKING_BYTES + 1));
        assert!(mini_with_t5().model.fits_in_vram);
    }

    /// Room for one picture beside the encoders, but not for two of the published size: they leave for these alone.
    #[test]
    fn encoders_make_room_for_a_large_batch() {
        let (pipeline, expected) = (mini_with_t5(), pictures(&mini_with_t5(), &cats(2)));
        runtime::acted_free(Some(WORKING_BYTES + PICTURE_BYTES / 2));
        assert_eq!(pictures(&pipeline, &cats(2)), expected);
        assert!(pipeline.model.prompts.is_loaded(), "small pictures need less than one of 1024²");
        pipeline.model.make_room(1, (128, 128)).unwrap();
        assert!(pipeline.model.prompts.is_loaded());
        pipeline.model.make_room(2, (128, 128)).unwrap();
        assert!(!pipeline.model.prompts.is_loaded());
        pipeline.model.forget_texts();
        assert_eq!(pictures(&pipeline, &cats(2)), expected, "they come back for new texts");
    }

    #[test]
    fn an_autoencoder_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd3/with_t5", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        assert_mended::<Sd3Model>(folder.path(), "decoded again in float32", false, 4.0);
    }

    #[test]
    fn a_denoiser_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd3/with_t5", "transformer", |name, tensor| match name {
            "transformer_blocks.0.attn.to_v.weight" => tensor * 5e4,
            "transformer_blocks.0.attn.to_out.0.weight" => tensor / 5e4,
            _ => tensor,
        });
        assert_mended::<Sd3Model>(folder.path(), "drawn again in float32", false, 0.0);
    }

    /// As on a GPU, where the texts are encoded meanwhile.
    #[test]
    fn a_denoiser_that_is_still_read_draws_the_same() {
        let expected = pictures(&mini_with_t5(), &cats(1));
        let early = mini_with_t5();
        early.model.denoiser.unload();
        early.model.denoiser.begin();
        assert_eq!(pictures(&early, &cats(1)), expected);
        assert_eq!(early.model.denoiser.missing_bytes().unwrap(), 0);
    }

    #[test]
    fn what_is_wrong_with_a_denoiser_that_is_still_read_is_told_as_of_one_that_was_read_before() {
        let folder = damaged("sd3/with_t5", "transformer", |_, tensor| tensor);
        let rt = runtime::Runtime { device: Device::Cpu, dtype: runtime::DtypeChoice::Float32, offline: true };
        let early = StableDiffusion3::load(folder.path(), &rt).unwrap();
        std::fs::write(folder.path().join("transformer/diffusion_pytorch_model.safetensors"), "{}").unwrap();
        early.model.denoiser.unload();
        early.model.denoiser.begin();
        let found = early.generate(&cats(1)).unwrap_err();
        let expected = StableDiffusion3::load(folder.path(), &rt).unwrap_err();
        assert_eq!(runtime::one_line(&found), runtime::one_line(&expected));
        assert!(runtime::one_line(&found).contains("transformer"), "{found:#}");
    }

    #[test]
    fn what_overflows_in_float32_is_an_error() {
        let folder = damaged("sd3/with_t5", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 3e38,
            _ => tensor,
        });
        let error = draw::<Sd3Model>(folder.path(), Kind::Float, Kind::Float, false).unwrap_err();
        assert!(error.to_string().contains("in float32 too"), "{error:#}");
    }

    #[test]
    fn weights_that_are_nan_are_an_error() {
        let folder = damaged("sd3/with_t5", "vae", |name, tensor| match name {
            "decoder.conv_out.bias" => tensor * f64::NAN,
            _ => tensor,
        });
        let error = format!("{:#}", draw::<Sd3Model>(folder.path(), Kind::Float, Kind::Float, false).unwrap_err());
        assert!(error.contains("decoder.conv_out.bias") && error.contains("vae"), "{error}");
    }

    #[test]
    fn a_black_picture_is_remarked_on() {
        let folder = damaged("sd3/with_t5", "vae", |name, tensor| match name {
            "decoder.conv_out.bias" => tensor - 100.0,
            _ => tensor,
        });
        for kind in [Kind::Float, Kind::BFloat16] {
            for picture in draw::<Sd3Model>(folder.path(), kind, kind, false).unwrap() {
                assert!(picture.remark.as_deref().unwrap().contains("all black"), "{:?}", picture.remark);
            }
        }
    }
}
