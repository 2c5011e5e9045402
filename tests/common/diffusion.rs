//! What the tests of the diffusion families share: the golden values of a folder, and how pictures are compared.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::{Checkpoint, Weights};
use toolkit::error::UsageError;
use toolkit::models::{GenerateRequest, Generator};
use toolkit::runtime::{DtypeChoice, Runtime};
use toolkit::schedulers::{SchedulerName, SolverOptions};

/// Hidden states: float32 sums in another order, over a few layers.
const STATES: f64 = 1e-4;

pub fn cpu() -> Runtime {
    Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true }
}

/// A folder of tests/golden.
pub struct Golden(pub &'static str);

impl Golden {
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(self.0).join(name)
    }

    pub fn json<T: DeserializeOwned>(&self, file: &str) -> T {
        serde_json::from_slice(&std::fs::read(self.path(file)).unwrap()).unwrap()
    }

    pub fn picture(&self, name: &str) -> RgbImage {
        image::open(self.path(name)).unwrap().to_rgb8()
    }

    pub fn reference(&self, name: &str) -> Reference {
        Reference(Tensor::read_safetensors(self.path(&format!("{name}.safetensors"))).unwrap())
    }

    pub fn checkpoint(&self, folder: &str) -> Checkpoint {
        let is_transformers = folder.contains("text") || folder.contains("safety");
        let stem = if is_transformers { "model" } else { "diffusion_pytorch_model" };
        Checkpoint::open_dir(&self.path(folder), stem).unwrap()
    }

    pub fn weights(&self, folder: &str) -> Weights {
        self.checkpoint(folder).weights(Device::Cpu, Kind::Float)
    }

    /// A part of a pipeline, built of all its tensors.
    pub fn build<C: DeserializeOwned, T>(
        &self,
        folder: &str,
        new: impl FnOnce(&Weights, &C) -> anyhow::Result<T>,
    ) -> T {
        let (place, config) = (self.weights(folder), self.json(&format!("{folder}/config.json")));
        let part = new(&place, &config).unwrap();
        place.finish().unwrap();
        part
    }

    pub fn cases(&self) -> Vec<Case> {
        self.json("cases.json")
    }

    pub fn request(&self, case: &Case) -> GenerateRequest {
        GenerateRequest {
            prompts: case.prompts.clone(),
            negative_prompt: case.negative_prompt.clone(),
            seeds: case.seeds.clone(),
            steps: case.steps,
            guidance_scale: case.guidance_scale,
            width: case.width,
            height: case.height,
            images: case.photos.iter().map(|name| self.picture(name)).collect(),
            strength: case.strength,
            scheduler: case.scheduler,
            solver_options: SolverOptions::default().with("eta", case.eta),
            ..GenerateRequest::default()
        }
    }

    /// Every case draws the pictures of the reference, one grey level apart at most.
    pub fn check_cases(&self, load: impl Fn(&str) -> Box<dyn Generator>) {
        for (number, case) in self.cases().iter().enumerate() {
            let drawn = load(&case.pipeline).generate(&self.request(case)).unwrap();
            assert_eq!(drawn.len(), case.pictures.len());
            for (ours, theirs) in drawn.iter().zip(&case.pictures) {
                let apart = apart(&ours.image, &self.picture(theirs));
                println!("case {number}, {theirs}: {apart}");
                assert!(apart <= 1, "case {number}, {theirs}: {apart} grey levels");
                assert_eq!(ours.remark, None);
            }
        }
    }

    /// The autoencoder of a pipeline encodes and decodes as the reference.
    pub fn check_autoencoder(&self, pipeline: &str) {
        use toolkit::models::diffusion::autoencoder_kl::AutoencoderKl;
        let reference = self.reference(pipeline);
        let vae = self.build(&format!("{pipeline}/vae"), AutoencoderKl::new);
        let posterior = vae.encode(reference.get("vae.picture"));
        reference.check("vae.mean", &posterior.mean);
        reference.check("vae.deviation", &posterior.deviation);
        reference.check("vae.decoded", &vae.decode(reference.get("vae.latents")));
    }

    /// The picture drawn is that of the reference but for the rounding of 16 bits: `mean` grey levels on average.
    pub fn check_half(&self, pipeline: &dyn Generator, request: &GenerateRequest, name: &str, mean: f64) {
        let (drawn, theirs) = (pipeline.generate(request).unwrap(), self.picture(name));
        assert_eq!(drawn[0].image.dimensions(), theirs.dimensions());
        let differences = drawn[0].image.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let found = differences.sum::<f64>() / theirs.as_raw().len() as f64;
        println!("{name}: mean difference {found:.2}");
        assert!(found < mean, "{name}: {found} grey levels on average");
        assert_eq!(drawn[0].remark, None);
    }
}

/// The values of the reference by name.
pub struct Reference(Vec<(String, Tensor)>);

impl Reference {
    pub fn get(&self, name: &str) -> &Tensor {
        &self.0.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("{name}")).1
    }

    pub fn flags(&self, name: &str) -> Vec<bool> {
        Vec::try_from(self.get(name).to_kind(Kind::Bool)).unwrap()
    }

    pub fn check(&self, name: &str, ours: &Tensor) {
        let theirs = self.get(name);
        assert_eq!(ours.size(), theirs.size(), "{name}");
        let difference = (ours - theirs).abs().max().double_value(&[]);
        println!("{name}: {difference:.1e}");
        assert!(difference < STATES, "{name}: {difference}");
    }
}

/// A request, and the pictures that the reference draws for it.
#[derive(Deserialize)]
pub struct Case {
    pub pipeline: String,
    pub prompts: Vec<String>,
    negative_prompt: Option<String>,
    pub seeds: Vec<u64>,
    steps: Option<usize>,
    guidance_scale: Option<f64>,
    width: Option<usize>,
    height: Option<usize>,
    strength: Option<f64>,
    #[serde(default)]
    scheduler: Option<SchedulerName>,
    #[serde(default)]
    eta: f64,
    pub photos: Vec<String>,
    pictures: Vec<String>,
}

/// The largest difference of two pictures, in grey levels.
pub fn apart(ours: &RgbImage, theirs: &RgbImage) -> u8 {
    assert_eq!(ours.dimensions(), theirs.dimensions());
    ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// Each picture of a batch is what its request alone draws.
pub fn check_alone(pipeline: &dyn Generator, request: &GenerateRequest) {
    let together = pipeline.generate(request).unwrap();
    for (i, batched) in together.iter().enumerate() {
        let alone = GenerateRequest {
            prompts: vec![request.prompts[i].clone()],
            seeds: vec![request.seeds[i]],
            images: request.images.get(i).cloned().into_iter().collect(),
            ..request.clone()
        };
        assert!(apart(&pipeline.generate(&alone).unwrap()[0].image, &batched.image) <= 1);
    }
}

/// Each request is wrong usage, and the error says these words; no request is no picture.
pub fn check_refused<'a>(pipeline: &dyn Generator, wrong: impl IntoIterator<Item = (GenerateRequest, &'a str)>) {
    for (request, words) in wrong {
        let error = pipeline.generate(&request).unwrap_err();
        assert!(error.downcast_ref::<UsageError>().is_some(), "{error:#}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(pipeline.generate(&GenerateRequest::default()).unwrap().is_empty());
}
