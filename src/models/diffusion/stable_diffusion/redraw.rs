//! How Stable Diffusion 1 draws again what went wrong, see [`crate::models::diffusion::rescue`]. In float16 this is its
//! autoencoder for some pictures: activations pass 65504, and the picture would be black.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::StableDiffusion;
use super::config::VAE;
use crate::models::diffusion::autoencoder_kl::AutoencoderKl;
use crate::models::diffusion::rescue::{Decoded, Rescue};
use crate::models::{GenerateRequest, Generated};

impl Rescue for StableDiffusion {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn decode(&self, latents: &Tensor) -> Result<Decoded> {
        Ok(self.decode(latents))
    }

    fn decode_in_float32(&self, latents: &Tensor) -> Result<Decoded> {
        let new = |weights: &_| AutoencoderKl::new(weights, &self.outline.vae);
        Ok(self.outline.source.build(VAE, self.device, Kind::Float, new)?.pictures(latents, Kind::Float))
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
    use image::RgbImage;
    use tch::{Device, Kind};

    use super::*;
    use crate::models::Generator;
    use crate::models::diffusion::pipeline_source::Source;
    use crate::models::diffusion::rescue::testing::{assert_mended, damaged};

    /// Draws two pictures in `kind`, from photos where asked for; noise is drawn in float16 always.
    fn draw(folder: &Path, kind: Kind, photos: bool) -> Result<Vec<Generated>> {
        let mut pipeline = StableDiffusion::open(Source::Folder(folder.to_path_buf()), Device::Cpu, kind)?;
        pipeline.noise_kind = Kind::Half;
        let photo = |blue| RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * 15) as u8, (y * 15) as u8, blue]));
        pipeline.generate(&GenerateRequest {
            prompts: vec!["a cat".to_string(), "a dog".to_string()],
            seeds: vec![1, 2],
            steps: Some(2),
            width: Some(16),
            height: Some(16),
            guidance_scale: Some(2.0),
            images: if photos { vec![photo(0), photo(200)] } else { Vec::new() },
            ..GenerateRequest::default()
        })
    }

    fn mended_as(folder: &Path, words: &str, photos: bool, tolerance: f64) {
        let (mended, exact) = (draw(folder, Kind::Half, photos).unwrap(), draw(folder, Kind::Float, photos).unwrap());
        assert_mended(&mended, &exact, words, tolerance);
    }

    #[test]
    fn a_decoder_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd15/like_v1", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        mended_as(folder.path(), "decoded again in float32", false, 4.0);
    }

    /// Then the latents are no numbers, and the whole drawing is done again.
    #[test]
    fn an_encoder_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd15/like_v1", "vae", |name, tensor| match name {
            "encoder.conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        mended_as(folder.path(), "drawn again in float32", true, 0.0);
    }

    #[test]
    fn a_denoiser_that_overflows_is_run_again_in_float32() {
        let folder = damaged("sd15/like_v1", "unet", |name, tensor| match name {
            "conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        mended_as(folder.path(), "drawn again in float32", false, 0.0);
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
            for picture in draw(folder.path(), Kind::Half, photos).unwrap() {
                assert_eq!(picture.remark, None);
            }
        }
    }

    #[test]
    fn what_overflows_in_float32_is_an_error() {
        let folder = damaged("sd15/like_v1", "vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 3e38,
            _ => tensor,
        });
        let error = draw(folder.path(), Kind::Float, false).unwrap_err();
        assert!(error.to_string().contains("in float32 too"), "{error:#}");
    }
}
