//! How exactly the mini generators draw. The right style comes out of many a wrong sampler; the photo that was
//! described, the same picture in few steps as in many, and the right share of guidance and photo do not.
//! What fails when what is broken is listed in experiments/mini/README.md.

use crate::mini;

use std::fmt;
use std::ops::RangeInclusive;

use image::RgbImage;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::images::{self, Filter};
use toolkit::metrics::image::lpips::LpipsNet;
use toolkit::models::diffusion::autoencoder_kl::{self, AutoencoderKl};
use toolkit::models::diffusion::stable_diffusion::StableDiffusion;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::{GenerateRequest, Generator, load_generator};
use toolkit::runtime::{DtypeChoice, Runtime};
use toolkit::schedulers::SchedulerName;

use mini::{cpu, json, mini, people, photo, prompt};

const SD3: &str = "mini-sd3";
const SD15: &str = "mini-sd-v1-5";

/// The figures of a test, each with the bars it must lie between: all are printed before one fails.
#[derive(Default)]
struct Figures(Vec<String>);

impl Figures {
    fn add(&mut self, what: impl fmt::Display, figure: f64, bars: RangeInclusive<f64>) {
        let said = format!("{what}: {figure:.2}, right is {:.2} to {:.2}", bars.start(), bars.end());
        println!("{said}");
        if !bars.contains(&figure) {
            self.0.push(said);
        }
    }

    fn judge(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("; "));
    }
}

/// A generator, and people whose photos it is to draw.
struct Painter {
    generator: Box<dyn Generator>,
    photos: Vec<RgbImage>,
    /// Without guidance.
    request: GenerateRequest,
}

impl Painter {
    fn load(model: &str) -> Self {
        let (photos, request) = asked(8);
        Self { generator: load_generator(model, &cpu()).unwrap(), photos, request }
    }

    fn draw(&self, request: &GenerateRequest) -> Vec<RgbImage> {
        self.generator.generate(request).unwrap().into_iter().map(|drawn| drawn.image).collect()
    }

    fn draw_in(&self, scheduler: Option<SchedulerName>, steps: usize) -> Vec<RgbImage> {
        self.draw(&GenerateRequest { scheduler, steps: Some(steps), ..self.request.clone() })
    }
}

/// Photos, and the request for them by their descriptions.
fn asked(count: usize) -> (Vec<RgbImage>, GenerateRequest) {
    let people = people(count);
    let request = GenerateRequest {
        prompts: people.iter().map(|person| prompt(person, "flat avatar style")).collect(),
        seeds: (0..people.len() as u64).collect(),
        guidance_scale: Some(1.0),
        ..GenerateRequest::default()
    };
    (people.iter().map(photo).collect(), request)
}

/// Mean over pairs of pictures, in dB.
fn psnr(one: &[RgbImage], other: &[RgbImage]) -> f64 {
    let of_pair = |(one, other): (&RgbImage, &RgbImage)| {
        let apart = images::to_tensor(one).to_kind(Kind::Double) - images::to_tensor(other).to_kind(Kind::Double);
        10.0 * (255.0 * 255.0 / apart.square().mean(Kind::Double).double_value(&[])).log10()
    };
    one.iter().zip(other).map(of_pair).sum::<f64>() / one.len() as f64
}

/// In how many steps of which solver (None: the model's own) the photos are drawn, and how close to them at least.
/// What a description does not say (the background, a mouth) keeps the figures from being higher.
fn from_descriptions(model: &str, ways: &[(Option<SchedulerName>, usize, f64)]) {
    let (painter, mut figures) = (Painter::load(model), Figures::default());
    for &(scheduler, steps, least) in ways {
        let drawn = painter.draw_in(scheduler, steps);
        let solver = scheduler.map_or("its own", SchedulerName::name);
        let what = format!("{model}, photos drawn from their descriptions (steps: {steps}, solver: {solver}), PSNR");
        figures.add(what, psnr(&drawn, &painter.photos), least..=99.0);
    }
    figures.judge();
}

/// In one step the whole way lies in the length of the step and in what time the model is told.
#[test]
fn sd3_draws_photos_from_their_descriptions() {
    from_descriptions(SD3, &[(None, 1, 25.0), (None, 4, 25.8)]);
}

#[test]
fn sd15_draws_photos_from_their_descriptions() {
    from_descriptions(SD15, &[(Some("ddim".parse().unwrap()), 4, 22.0), (None, 10, 24.5)]);
}

/// What fewer bits leave of the pictures of float32, from the same noise: PSNR and LPIPS of bfloat16, of float8, and of
/// float8 beside bfloat16; and what another seed makes of them. `MINI_WORLD_PEOPLE=40` gives the figures of BENCHMARKS.
#[test]
fn sd3_draws_much_the_same_in_fewer_bits() {
    let (_, request) = asked(2);
    let request = GenerateRequest { steps: Some(16), guidance_scale: Some(3.0), ..request };
    let draw = |dtype, request: &GenerateRequest| {
        let mut generator = StableDiffusion3::load(&mini("models/mini-sd3"), &Runtime { dtype, ..cpu() }).unwrap();
        generator.draw_noise_in(Kind::BFloat16);
        let drawn = generator.generate(request).unwrap();
        drawn.into_iter().map(|drawn| drawn.image).collect::<Vec<RgbImage>>()
    };
    let [exact, half, float8] =
        [DtypeChoice::Float32, DtypeChoice::Bfloat16, DtypeChoice::Float8].map(|dtype| draw(dtype, &request));
    let seeds = request.seeds.iter().map(|seed| seed + 1000).collect();
    let other_seed = draw(DtypeChoice::Float32, &GenerateRequest { seeds, ..request });
    let files = ["alexnet.pth", "alex.pth"].map(|name| mini("models/mini-lpips").join(name));
    let net = LpipsNet::load(&files[0], &files[1], Device::Cpu, Kind::Float).unwrap();
    let lpips = |one: &[RgbImage], other: &[RgbImage]| {
        let [one, other] = [one, other].map(|pictures| -> Vec<RgbImage> {
            pictures.iter().map(|picture| images::resize(picture, 224, 224, Filter::Lanczos)).collect()
        });
        let distances = net.distances(&one, &other, 8).unwrap();
        distances.iter().sum::<f64>() / distances.len() as f64
    };
    let mut figures = Figures::default();
    for (what, one, other, least, most) in [
        ("bfloat16 to float32", &half, &exact, 45.0, 0.003),
        ("float8 to float32", &float8, &exact, 34.0, 0.015),
        ("float8 to bfloat16", &float8, &half, 34.0, 0.015),
        ("another seed", &other_seed, &exact, 25.0, 0.05),
    ] {
        let (db, distance) = (psnr(one, other), lpips(one, other));
        println!("{what}: LPIPS {distance:.4}");
        figures.add(format!("{what}, PSNR"), db, least..=99.0);
        figures.add(format!("{what}, LPIPS"), distance, 0.0..=most);
    }
    figures.judge();
}

/// A step of the wrong length, or a time that is not the latents', bends the way: few steps end elsewhere than many.
fn few_steps_as_many(model: &str, few: usize, many: usize, least: f64) {
    let (painter, mut figures) = (Painter::load(model), Figures::default());
    let apart = psnr(&painter.draw_in(None, few), &painter.draw_in(None, many));
    figures.add(format!("{model}, the picture of {few} steps to that of {many}, PSNR"), apart, least..=99.0);
    figures.judge();
}

#[test]
fn sd3_ends_in_few_steps_where_it_does_in_many() {
    few_steps_as_many(SD3, 4, 8, 41.0);
}

#[test]
fn sd15_ends_in_few_steps_where_it_does_in_many() {
    few_steps_as_many(SD15, 6, 30, 31.0);
}

/// How much noise a strength stands for is in the schedule alone: with a wrong shift or wrong betas too much of the
/// photo is left, or too little.
fn left_of_the_photo(model: &str, guidance: f64, bars: RangeInclusive<f64>) {
    let (painter, mut figures) = (Painter::load(model), Figures::default());
    let request = GenerateRequest {
        images: painter.photos.clone(),
        steps: Some(3),
        strength: Some(0.34),
        guidance_scale: Some(guidance),
        ..painter.request.clone()
    };
    let left = psnr(&painter.draw(&request), &painter.photos);
    figures.add(format!("{model}, strength 0.34 and guidance {guidance} to the photos, PSNR"), left, bars);
    figures.judge();
}

#[test]
fn sd3_leaves_of_the_photo_what_strength_says() {
    left_of_the_photo(SD3, 3.0, 17.5..=21.5);
}

#[test]
fn sd15_leaves_of_the_photo_what_strength_says() {
    left_of_the_photo(SD15, 1.0, 23.0..=28.5);
}

/// The latents at the end of denoising.
fn drawn_latents(model: &str, request: &GenerateRequest) -> Tensor {
    let folder = mini("models").join(model);
    let drawn = if model == SD3 {
        let pipeline = StableDiffusion3::load(&folder, &cpu()).unwrap();
        pipeline.denoise(pipeline.prepare(request).unwrap())
    } else {
        let pipeline = StableDiffusion::load(&folder, &cpu()).unwrap();
        pipeline.denoise(pipeline.prepare(request).unwrap())
    };
    drawn.unwrap().to_kind(Kind::Float)
}

/// One step with guidance of 1.5 goes half as far again from where the empty prompt leads as the prompt itself does.
fn guidance_adds_half(model: &str) {
    let (_, request) = asked(8);
    let draw = |prompts: &[String], guidance: f64| {
        let (prompts, guidance_scale) = (prompts.to_vec(), Some(guidance));
        drawn_latents(model, &GenerateRequest { prompts, guidance_scale, steps: Some(1), ..request.clone() })
    };
    let (plain, guided) = (draw(&request.prompts, 1.0), draw(&request.prompts, 1.5));
    let way = &plain - draw(&vec![String::new(); request.prompts.len()], 1.0);
    let share = ((guided - &plain) * &way).sum(Kind::Double) / way.square().sum(Kind::Double);
    let mut figures = Figures::default();
    figures.add(format!("{model}, guidance of 1.5, share of the way added"), share.double_value(&[]), 0.4..=0.6);
    figures.judge();
}

#[test]
fn sd3_is_guided_away_from_the_empty_prompt() {
    guidance_adds_half(SD3);
}

#[test]
fn sd15_is_guided_away_from_the_empty_prompt() {
    guidance_adds_half(SD15);
}

/// The latents of photos as the denoiser is to know them.
fn encoded(model: &str, photos: &[RgbImage]) -> Tensor {
    let folder = format!("models/{model}/vae");
    let weights = Checkpoint::open_dir(&mini(&folder), "diffusion_pytorch_model").unwrap();
    let config: autoencoder_kl::Config = json(&format!("{folder}/config.json"));
    let vae = AutoencoderKl::new(&weights.weights(Device::Cpu, Kind::Float), &config).unwrap();
    let pixels = images::batch_tensor(photos).unwrap().to_kind(Kind::Float) / 255.0 * 2.0 - 1.0;
    vae.scale(&vae.encode(&pixels).mean)
}

/// The denoiser draws latents of the size that it learnt; the autoencoder's must be of that size.
fn latents_as_large(model: &str) {
    let (photos, request) = asked(8);
    let drawn = drawn_latents(model, &GenerateRequest { steps: Some(10), ..request });
    let encoded = encoded(model, &photos);
    let ratio = drawn.std(false).double_value(&[]) / encoded.std(false).double_value(&[]);
    let shift = (drawn.mean(Kind::Double) - encoded.mean(Kind::Double)).double_value(&[]);
    let mut figures = Figures::default();
    figures.add(format!("{model}, deviation of the latents drawn to that of the photos'"), ratio, 0.86..=1.13);
    figures.add(format!("{model}, mean of the latents drawn less that of the photos'"), shift, -0.15..=0.15);
    figures.judge();
}

#[test]
fn sd3_draws_latents_as_large_as_those_of_photos() {
    latents_as_large(SD3);
}

#[test]
fn sd15_draws_latents_as_large_as_those_of_photos() {
    latents_as_large(SD15);
}
