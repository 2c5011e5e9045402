//! Pictures that came out as NaN or all black: found, drawn again in float32, and remarked on.

use anyhow::{Result, bail};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::images;
use crate::models::{GenerateRequest, Generated};

/// Pictures as bytes, and whether each is all numbers, on the device: uint8 [batch, 3, height, width] and bool
/// [batch].
pub type Decoded = (Tensor, Tensor);

/// A pipeline whose pictures can be looked at and drawn again.
pub trait Float32Fallback {
    /// The number type that it draws in.
    fn kind(&self) -> Kind;

    fn decode(&self, latents: &Tensor) -> Decoded;

    /// The same with the autoencoder in float32.
    fn decode_in_float32(&self, latents: &Tensor) -> Result<Decoded>;

    /// Everything again in float32, from the same noise.
    fn draw_in_float32(&self, request: &GenerateRequest) -> Result<Vec<Generated>>;
}

type Look = (RgbImage, Option<&'static str>);

/// What is wrong with a picture.
fn fault(image: &RgbImage, finite: bool) -> Option<&'static str> {
    match (finite, image.as_raw().iter().all(|&value| value == 0)) {
        (false, _) => Some("not a number (NaN)"),
        (true, true) => Some("all black"),
        (true, false) => None,
    }
}

/// Decodes, looks at every picture once, and mends those that went wrong.
pub fn finish(pipeline: &dyn Float32Fallback, request: &GenerateRequest, latents: &Tensor) -> Result<Vec<Generated>> {
    let mut drawn = look(&pipeline.decode(latents))?;
    let bad: Vec<usize> = (0..drawn.len()).filter(|&i| drawn[i].1.is_some()).collect();
    if pipeline.kind() == Kind::Float {
        if !bad.is_empty() && bad.len() == drawn.len() && drawn.iter().all(|(_, fault)| *fault != Some("all black")) {
            bail!("every picture is NaN, in float32 too: damaged weights? (`toolkit models verify` looks at them)");
        }
    } else if !bad.is_empty() {
        return mend(pipeline, request, latents, drawn, &bad);
    }
    Ok(drawn
        .drain(..)
        .map(|(image, fault)| Generated { image, remark: fault.map(|fault| format!("the picture is {fault}")) })
        .collect())
}

fn look((pictures, finite): &Decoded) -> Result<Vec<Look>> {
    let (pictures, finite) = (pictures.to_device(Device::Cpu), Vec::<bool>::try_from(finite)?);
    let looked = |(picture, finite): (&Tensor, bool)| {
        let image = images::from_tensor(picture)?;
        let fault = fault(&image, finite);
        Ok((image, fault))
    };
    pictures.unbind(0).iter().zip(finite).map(looked).collect()
}

/// The autoencoder in float32 first; if the latents themselves are NaN, everything.
fn mend(
    pipeline: &dyn Float32Fallback,
    request: &GenerateRequest,
    latents: &Tensor,
    drawn: Vec<Look>,
    bad: &[usize],
) -> Result<Vec<Generated>> {
    let sound = Vec::<bool>::try_from(&latents.isfinite().flatten(1, 3).all_dim(1, false))?;
    let kind = format!("{:?}", pipeline.kind()).to_lowercase();
    let mut generated: Vec<Generated> =
        drawn.iter().map(|(image, _)| Generated { image: image.clone(), remark: None }).collect();
    let (decode_again, draw_again): (Vec<usize>, Vec<usize>) = bad.iter().partition(|&&i| sound[i]);
    if !decode_again.is_empty() {
        let rows: Vec<i64> = decode_again.iter().map(|&i| i as i64).collect();
        let rows = latents.index_select(0, &Tensor::from_slice(&rows).to_device(latents.device()));
        let again = look(&pipeline.decode_in_float32(&rows)?)?;
        for (&i, (image, still)) in decode_again.iter().zip(again) {
            let was = drawn[i].1.unwrap_or_default();
            let now = still.map_or(String::new(), |fault| format!(", and is {fault} still"));
            let remark = Some(format!("{was} in {kind}: decoded again in float32{now}"));
            generated[i] = Generated { image, remark };
        }
    }
    if !draw_again.is_empty() {
        let again = pipeline.draw_in_float32(&request.only(&draw_again))?;
        for (&i, new) in draw_again.iter().zip(again) {
            let now = new.remark.map_or(String::new(), |remark| format!(", and {remark} still"));
            let remark = Some(format!("not a number (NaN) in {kind}: drawn again in float32{now}"));
            generated[i] = Generated { image: new.image, remark };
        }
    }
    Ok(generated)
}

/// For the tests of each pipeline.
#[cfg(test)]
pub mod testing {
    use std::path::{Path, PathBuf};

    use anyhow::Result;
    use image::RgbImage;
    use tch::{Device, Kind, Tensor};

    use crate::models::diffusion::model::DiffusionModel;
    use crate::models::diffusion::pipeline::Pipeline;
    use crate::models::diffusion::pipeline_source::PipelineSource;
    use crate::models::{GenerateRequest, Generated, Generator};

    /// A copy of a tiny pipeline (a folder of tests/golden) with tensors of a part changed.
    pub fn damaged(pipeline: &str, part: &str, change: impl Fn(&str, Tensor) -> Tensor) -> tempfile::TempDir {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(pipeline);
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

    /// Draws two pictures with the pipeline in `folder` in `kind`, from noise drawn in `noise`, and from photos where asked.
    pub fn draw<M: DiffusionModel>(folder: &Path, kind: Kind, noise: Kind, photos: bool) -> Result<Vec<Generated>> {
        let mut pipeline = Pipeline::<M>::open(PipelineSource::Folder(folder.to_path_buf()), Device::Cpu, kind)?;
        pipeline.noise_kind = noise;
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

    /// Whether pictures that overflow in float16 are mended: those of float32 from the same noise, but for the rounding of
    /// what stayed in float16, up to `tolerance` grey levels on average; and say so with `words`.
    pub fn assert_mended<M: DiffusionModel>(folder: &Path, words: &str, photos: bool, tolerance: f64) {
        let [mended, exact] =
            [Kind::Half, Kind::Float].map(|kind| draw::<M>(folder, kind, Kind::Half, photos).unwrap());
        for (mended, exact) in mended.iter().zip(&exact) {
            let remark = mended.remark.as_deref().unwrap_or_default();
            assert!(remark.contains(words) && !remark.contains("still"), "{remark:?}");
            assert_eq!(exact.remark, None);
            let difference = mean_difference(&mended.image, &exact.image);
            assert!(difference <= tolerance, "{difference}");
        }
        assert!(mean_difference(&mended[0].image, &mended[1].image) > 5.0, "each row has its own picture");
    }

    /// In grey levels.
    fn mean_difference(a: &RgbImage, b: &RgbImage) -> f64 {
        assert_eq!(a.dimensions(), b.dimensions());
        let sum: f64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        sum / a.as_raw().len() as f64
    }
}
