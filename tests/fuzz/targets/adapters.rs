//! Files that change or steer a generator: low-rank adapters, which are merged, and IP-Adapters, which are built.

use std::fs;

use tch::Device;
use toolkit::models::diffusion::stable_diffusion::StableDiffusion;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::{LoraChoice, PhasedGenerator, locate, verify_build};
use toolkit::runtime::{DtypeChoice, Runtime};

use super::{Reader, head, repository, scratch};

/// The head is the generator that a LoRA is for, or `ip`.
pub fn all() -> Reader {
    let dir = scratch();
    let encoder = dir.path().join("image_encoder");
    fs::create_dir(&encoder).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(repository("tests/golden/ip_adapter/models/image_encoder").join(name), encoder.join(name)).unwrap();
    }
    let rt = Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true };
    let sd15 = StableDiffusion::load(&repository("tests/golden/sd15/like_v1"), &rt).unwrap();
    let sd3 = StableDiffusion3::load(&repository("tests/golden/sd3/with_t5"), &rt).unwrap();
    Box::new(move |input| {
        let Some((kind, rest)) = head(input) else { return };
        let file = dir.path().join("adapter.safetensors");
        fs::write(&file, rest).unwrap();
        // What it is, and what it is for.
        if let Ok(located) = locate(file.to_str().unwrap(), &rt) {
            let _ = verify_build(&located);
        }
        let merge = |generator: &dyn PhasedGenerator| {
            let choice = LoraChoice { file: file.clone(), weight: 0.7 };
            let merged = generator.adapt(&[choice]);
            // Whatever came of it, the weights can be had back.
            generator.adapt(&[]).unwrap();
            drop(merged);
        };
        match kind {
            "sd15" => merge(&sd15),
            "sd3" => merge(&sd3),
            _ => {}
        }
    })
}
