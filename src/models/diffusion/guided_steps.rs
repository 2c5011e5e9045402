//! The steps of a drawing with guidance on one device, or with a half of it on each of two.

use anyhow::Result;
use tch::{Device, Tensor};

use super::guidance::{Ways, away};
use super::model::DiffusionModel;
use super::steps::DenoisingSteps;

/// The steps of one drawing with guidance, wherever its halves are computed.
pub struct GuidedSteps<'a, M: DiffusionModel> {
    steps: DenoisingSteps<'a, M::Denoiser>,
    /// The unwanted half, where another device computes it.
    unwanted: Option<(DenoisingSteps<'a, M::Denoiser>, Device)>,
    guidance: Option<f64>,
}

impl<'a, M: DiffusionModel> GuidedSteps<'a, M> {
    /// `second`, which is on another device, takes the unwanted half, steered by its own control.
    pub fn new(
        first: &'a M,
        second: Option<(&'a M, &M::Control, Device)>,
        texts: &M::Texts,
        guidance: Option<f64>,
        times: &[f64],
        control: &M::Control,
    ) -> Result<Self> {
        let steps = |model: &'a M, ways, control| -> Result<DenoisingSteps<'a, M::Denoiser>> {
            Ok(DenoisingSteps::new(model.condition(texts, ways, times, control)?, model.capture()))
        };
        let unwanted = match second {
            Some((model, control, device)) => Some((steps(model, Ways::Unwanted, control)?, device)),
            None => None,
        };
        let ways = if unwanted.is_some() { Ways::Wanted } else { Ways::of_one(guidance) };
        Ok(Self { steps: steps(first, ways, control)?, unwanted, guidance })
    }

    /// The output with guidance: latents [batch, channels, height, width] → as large, valid until the next step. Waits
    /// for no device: copies between them are ordered by their streams.
    pub fn predict(&mut self, latents: &Tensor, step: usize) -> Result<Tensor> {
        let (Some((unwanted, device)), Some(scale)) = (&mut self.unwanted, self.guidance) else {
            return M::predict(&mut self.steps, latents, step, self.guidance);
        };
        // The other device is started first.
        let theirs = unwanted.run(&latents.f_to_device(*device)?, step)?;
        let ours = self.steps.run(latents, step)?;
        Ok(away(&theirs.f_to_device(latents.device())?, &ours, scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::diffusion::float32_fallback::testing::damaged;
    use crate::models::diffusion::pipeline::Pipeline;
    use crate::models::diffusion::stable_diffusion::SdModel;
    use crate::models::diffusion::stable_diffusion_3::Sd3Model;
    use crate::models::{GenerateRequest, Generator};
    use crate::runtime::{DtypeChoice, Runtime};

    /// The unwanted half is that of the second device, which has other weights here; without guidance it has no part.
    fn the_second_computes_its_half<M: DiffusionModel>(name: &str, denoiser: &str, weight: &str) {
        let rt = Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true };
        let whole = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let other = damaged(name, denoiser, |key, tensor| if key == weight { tensor * 0.0 } else { tensor });
        let mut pipeline = Pipeline::<M>::load(&whole, &rt).unwrap();
        let request = |guidance| GenerateRequest {
            prompts: vec!["a cat".to_string()],
            seeds: vec![1],
            steps: Some(2),
            guidance_scale: Some(guidance),
            ..GenerateRequest::default()
        };
        let draw = |pipeline: &Pipeline<M>, guidance| pipeline.generate(&request(guidance)).unwrap().remove(0).image;
        let expected = [draw(&pipeline, 1.0), draw(&pipeline, 3.0)];
        pipeline.second = Some((Pipeline::<M>::load(other.path(), &rt).unwrap().model, Device::Cpu));
        let found = [draw(&pipeline, 1.0), draw(&pipeline, 3.0)];
        assert!(found[0] == expected[0] && found[1] != expected[1], "{name}");
    }

    #[test]
    fn the_second_device_computes_the_unwanted_half() {
        the_second_computes_its_half::<SdModel>("sd15/like_v1", "unet", "conv_out.weight");
        the_second_computes_its_half::<Sd3Model>("sd3/with_t5", "transformer", "proj_out.weight");
    }
}
