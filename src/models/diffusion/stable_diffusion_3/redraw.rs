//! How Stable Diffusion 3 draws again what went wrong, see [`crate::models::diffusion::rescue`].

use anyhow::Result;
use tch::{Kind, Tensor};

use super::StableDiffusion3;
use crate::models::diffusion::rescue::{Decoded, Rescue};
use crate::models::{GenerateRequest, Generated};

impl Rescue for StableDiffusion3 {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn decode(&self, latents: &Tensor) -> Result<Decoded> {
        self.decode(latents)
    }

    fn decode_in_float32(&self, latents: &Tensor) -> Result<Decoded> {
        Ok(self.load_vae(Kind::Float)?.pictures(latents, Kind::Float))
    }

    fn draw_in_float32(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        let mut whole = Self::open(self.outline.source.clone(), self.device, Kind::Float)?;
        whole.noise_kind = self.noise_kind;
        whole.draw(request)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Result;
    use tch::{Device, Kind};

    use super::*;
    use crate::models::diffusion::pipeline_source::Source;
    use crate::models::diffusion::rescue::testing::{assert_mended, damaged};
    use crate::models::{GenerateRequest, Generated, Generator};

    /// Draws in `kind`, from noise drawn in `noise`.
    fn draw(folder: &Path, kind: Kind, noise: Kind) -> Result<Vec<Generated>> {
        let mut pipeline = StableDiffusion3::open(Source::Folder(folder.to_path_buf()), Device::Cpu, kind)?;
        pipeline.noise_kind = noise;
        pipeline.generate(&GenerateRequest {
            prompts: vec!["a cat".to_string(), "a dog".to_string()],
            seeds: vec![1, 2],
            steps: Some(2),
            width: Some(16),
            height: Some(16),
            guidance_scale: Some(2.0),
            ..GenerateRequest::default()
        })
    }

    fn mended_as(folder: &Path, words: &str, tolerance: f64) {
        let mended = draw(folder, Kind::Half, Kind::Half).unwrap();
        let exact = draw(folder, Kind::Float, Kind::Half).unwrap();
        assert_mended(&mended, &exact, words, tolerance);
    }

    #[test]
    fn an_autoencoder_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd3/with_t5", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        mended_as(folder.path(), "decoded again in float32", 4.0);
    }

    #[test]
    fn a_denoiser_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd3/with_t5", "transformer", |name, tensor| match name {
            "transformer_blocks.0.attn.to_v.weight" => tensor * 5e4,
            "transformer_blocks.0.attn.to_out.0.weight" => tensor / 5e4,
            _ => tensor,
        });
        mended_as(folder.path(), "drawn again in float32", 0.0);
    }

    #[test]
    fn what_overflows_in_float32_is_an_error() {
        let folder = damaged("sd3/with_t5", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 3e38,
            _ => tensor,
        });
        let error = draw(folder.path(), Kind::Float, Kind::Float).unwrap_err();
        assert!(error.to_string().contains("in float32 too"), "{error:#}");
    }

    #[test]
    fn weights_that_are_nan_are_an_error() {
        let folder = damaged("sd3/with_t5", "vae", |name, tensor| match name {
            "decoder.conv_out.bias" => tensor * f64::NAN,
            _ => tensor,
        });
        let error = format!("{:#}", draw(folder.path(), Kind::Float, Kind::Float).unwrap_err());
        assert!(error.contains("decoder.conv_out.bias") && error.contains("vae"), "{error}");
    }

    #[test]
    fn a_black_picture_is_remarked_on() {
        let folder = damaged("sd3/with_t5", "vae", |name, tensor| match name {
            "decoder.conv_out.bias" => tensor - 100.0,
            _ => tensor,
        });
        for kind in [Kind::Float, Kind::BFloat16] {
            for picture in draw(folder.path(), kind, kind).unwrap() {
                assert!(picture.remark.as_deref().unwrap().contains("all black"), "{:?}", picture.remark);
            }
        }
    }
}
