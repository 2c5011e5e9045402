//! Pictures that came out as NaN or all black: found, drawn again in float32, and remarked on.

use anyhow::{Result, bail};
use image::RgbImage;
use tch::{Kind, Tensor};

use super::{StableDiffusion3, to_images};
use crate::models::{GenerateRequest, Generated};

/// What is wrong with a picture.
fn fault(image: &RgbImage, finite: bool) -> Option<&'static str> {
    match (finite, image.as_raw().iter().all(|&value| value == 0)) {
        (false, _) => Some("not a number (NaN)"),
        (true, true) => Some("all black"),
        (true, false) => None,
    }
}

impl StableDiffusion3 {
    /// Decodes, looks at every picture once, and mends those that went wrong.
    pub(super) fn finish(&self, request: &GenerateRequest, latents: &Tensor) -> Result<Vec<Generated>> {
        let mut drawn = self.look(&self.decode(latents)?)?;
        let bad: Vec<usize> = (0..drawn.len()).filter(|&i| drawn[i].1.is_some()).collect();
        if self.kind == Kind::Float {
            if !bad.is_empty() && bad.len() == drawn.len() && drawn.iter().all(|(_, fault)| *fault != Some("all black"))
            {
                bail!("every picture is NaN, in float32 too: damaged weights? (`toolkit models verify` looks at them)");
            }
        } else if !bad.is_empty() {
            return self.mend(request, latents, drawn, &bad);
        }
        Ok(drawn
            .drain(..)
            .map(|(image, fault)| Generated { image, remark: fault.map(|fault| format!("the picture is {fault}")) })
            .collect())
    }

    fn look(&self, (pictures, finite): &(Tensor, Tensor)) -> Result<Vec<(RgbImage, Option<&'static str>)>> {
        let finite = Vec::<bool>::try_from(finite)?;
        Ok(to_images(pictures)?
            .into_iter()
            .zip(finite)
            .map(|(image, finite)| {
                let fault = fault(&image, finite);
                (image, fault)
            })
            .collect())
    }

    /// The autoencoder in float32 first; if the latents themselves are NaN, everything.
    fn mend(
        &self,
        request: &GenerateRequest,
        latents: &Tensor,
        drawn: Vec<(RgbImage, Option<&'static str>)>,
        bad: &[usize],
    ) -> Result<Vec<Generated>> {
        let sound = Vec::<bool>::try_from(&latents.isfinite().flatten(1, 3).all_dim(1, false))?;
        let kind = format!("{:?}", self.kind).to_lowercase();
        let mut generated: Vec<Generated> =
            drawn.iter().map(|(image, _)| Generated { image: image.clone(), remark: None }).collect();
        let (decode_again, draw_again): (Vec<usize>, Vec<usize>) = bad.iter().partition(|&&i| sound[i]);
        if !decode_again.is_empty() {
            let rows: Vec<i64> = decode_again.iter().map(|&i| i as i64).collect();
            let rows = latents.index_select(0, &Tensor::from_slice(&rows).to_device(latents.device()));
            let again = self.look(&self.decode_with(&self.load_vae(Kind::Float)?, &rows, Kind::Float))?;
            for (&i, (image, still)) in decode_again.iter().zip(again) {
                let was = drawn[i].1.unwrap_or_default();
                let now = still.map_or(String::new(), |fault| format!(", and is {fault} still"));
                let remark = Some(format!("{was} in {kind}: decoded again in float32{now}"));
                generated[i] = Generated { image, remark };
            }
        }
        if !draw_again.is_empty() {
            let mut whole = Self::open(self.source.clone(), self.device, Kind::Float)?;
            whole.noise_kind = self.noise_kind;
            let again = whole.draw(&only(request, &draw_again))?;
            for (&i, new) in draw_again.iter().zip(again) {
                let now = new.remark.map_or(String::new(), |remark| format!(", and {remark} still"));
                let remark = Some(format!("not a number (NaN) in {kind}: drawn again in float32{now}"));
                generated[i] = Generated { image: new.image, remark };
            }
        }
        Ok(generated)
    }
}

/// The request for some of its pictures.
fn only(request: &GenerateRequest, rows: &[usize]) -> GenerateRequest {
    GenerateRequest {
        prompts: rows.iter().map(|&i| request.prompts[i].clone()).collect(),
        seeds: rows.iter().map(|&i| request.seeds[i]).collect(),
        images: rows.iter().filter_map(|&i| request.images.get(i).cloned()).collect(),
        ..request.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use tch::Device;

    use super::*;
    use crate::models::Generator;
    use crate::models::pipeline_source::Source;

    /// A copy of a tiny pipeline with tensors of a part changed.
    fn damaged(part: &str, change: impl Fn(&str, Tensor) -> Tensor) -> tempfile::TempDir {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd3/with_t5");
        let copy = tempfile::tempdir().unwrap();
        let arguments = [PathBuf::from("-r"), golden.join("."), copy.path().to_path_buf()];
        assert!(std::process::Command::new("cp").args(arguments).status().unwrap().success());
        let file = copy.path().join(part).join("diffusion_pytorch_model.safetensors");
        let tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(&file)
            .unwrap()
            .into_iter()
            .map(|(name, tensor)| (name.clone(), change(&name, tensor.to_kind(Kind::Float))))
            .collect();
        Tensor::write_safetensors(&tensors, &file).unwrap();
        copy
    }

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

    fn mean_difference(a: &RgbImage, b: &RgbImage) -> f64 {
        assert_eq!(a.dimensions(), b.dimensions());
        let sum: f64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        sum / a.as_raw().len() as f64
    }

    /// Activations that float16 cannot hold and float32 can: the mended picture is that of float32, but for the
    /// rounding of the parts that stayed in float16.
    fn mended_as(folder: &Path, words: &str, tolerance: f64) {
        let mended = draw(folder, Kind::Half, Kind::Half).unwrap();
        let exact = draw(folder, Kind::Float, Kind::Half).unwrap();
        for (mended, exact) in mended.iter().zip(&exact) {
            let remark = mended.remark.as_deref().unwrap_or_default();
            assert!(remark.contains(words) && !remark.contains("still"), "{remark:?}");
            assert_eq!(exact.remark, None);
            let difference = mean_difference(&mended.image, &exact.image);
            assert!(difference <= tolerance, "{difference}");
        }
        assert!(mean_difference(&mended[0].image, &mended[1].image) > 5.0, "each row has its own picture");
    }

    #[test]
    fn an_autoencoder_that_overflows_is_run_again_in_float32() {
        let folder = damaged("vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 5e4,
            _ => tensor,
        });
        mended_as(folder.path(), "decoded again in float32", 4.0);
    }

    #[test]
    fn a_denoiser_that_overflows_is_run_again_in_float32() {
        let folder = damaged("transformer", |name, tensor| match name {
            "transformer_blocks.0.attn.to_v.weight" => tensor * 5e4,
            "transformer_blocks.0.attn.to_out.0.weight" => tensor / 5e4,
            _ => tensor,
        });
        mended_as(folder.path(), "drawn again in float32", 0.0);
    }

    #[test]
    fn what_overflows_in_float32_is_an_error() {
        let folder = damaged("vae", |name, tensor| match name {
            "decoder.conv_in.weight" => tensor * 3e38,
            _ => tensor,
        });
        let error = draw(folder.path(), Kind::Float, Kind::Float).unwrap_err();
        assert!(error.to_string().contains("in float32 too"), "{error:#}");
    }

    #[test]
    fn weights_that_are_nan_are_an_error() {
        let folder = damaged("vae", |name, tensor| match name {
            "decoder.conv_out.bias" => tensor * f64::NAN,
            _ => tensor,
        });
        let error = format!("{:#}", draw(folder.path(), Kind::Float, Kind::Float).unwrap_err());
        assert!(error.contains("decoder.conv_out.bias") && error.contains("vae"), "{error}");
    }

    #[test]
    fn a_black_picture_is_remarked_on() {
        let folder = damaged("vae", |name, tensor| match name {
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
