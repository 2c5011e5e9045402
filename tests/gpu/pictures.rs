//! What draws pictures on a GPU in 16 bits: its kernels against the same arithmetic in float32, U-Net and
//! autoencoder with and without them against float32 on the CPU, and recorded steps against plain ones. On a
//! machine without a GPU each test says so.

use std::path::PathBuf;

use crate::common::{apart, compare, gpu, is_affordable, random, root, wide};
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::{Checkpoint, Weights};
use toolkit::models::diffusion::autoencoder_kl::AutoencoderKl;
use toolkit::models::diffusion::stable_diffusion::StableDiffusion;
use toolkit::models::diffusion::stable_diffusion::unet::Unet;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::text::clip_text::ClipText;
use toolkit::models::{ControlRequest, GenerateRequest, Generator, IpAdapterChoice, LoraChoice, load_generator};
use toolkit::nn::fused::{self, Affine};
use toolkit::runtime::{CapturedFunction, Delivered, DtypeChoice, Runtime, eager, without_capture};

/// Random numbers with the channels last in memory.
fn map(size: [i64; 4], kind: Kind, device: Device) -> Tensor {
    let [batch, channels, height, width] = size;
    random(&[batch, height, width, channels], kind, device).permute([0, 3, 1, 2])
}

/// Many threads bring pictures while another computes with those that are there, and lets them go: their memory, pinned and on the
/// GPU, is had by the next ones.
#[test]
fn delivered_pictures_are_whole_beside_other_work() {
    let Some(device) = gpu() else { return };
    let picture = |at: i64| {
        let bytes = (Tensor::arange(96 * 64 * 3, (Kind::Int64, Device::Cpu)) * 7 + at * 31).remainder(251);
        bytes.to_kind(Kind::Uint8).view([1, 96, 64, 3]).permute([0, 3, 1, 2])
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel(8);
        for thread in 0..4 {
            let sender = sender.clone();
            scope.spawn(move || {
                for at in (thread..400).step_by(4) {
                    sender.send((at, Delivered::to(device, &picture(at)))).unwrap();
                }
            });
        }
        drop(sender);
        let busy = random(&[2048, 2048], Kind::Half, device);
        let mut sums = Vec::new();
        for (at, delivered) in receiver {
            // The picture is read long after it has been let go here.
            let _ = busy.matmul(&busy);
            let there = delivered.take().unwrap();
            let weights = Tensor::arange(there.numel() as i64, (Kind::Int64, device)).view(there.size().as_slice());
            sums.push((at, (there.to_kind(Kind::Int64) * weights).sum(Kind::Int64)));
        }
        assert_eq!(sums.len(), 400);
        for (at, sum) in sums {
            let expected = picture(at).to_kind(Kind::Int64);
            let weights =
                Tensor::arange(expected.numel() as i64, (Kind::Int64, Device::Cpu)).view(expected.size().as_slice());
            let expected = (expected * weights).sum(Kind::Int64).int64_value(&[]);
            assert_eq!(sum.int64_value(&[]), expected, "picture {at}");
        }
    });
}

/// Maps that stay on the multiprocessors and such as are too large for that.
#[test]
fn group_norms() {
    let Some(device) = gpu() else { return };
    for (size, groups) in [
        ([2, 320, 64, 64], 32),
        ([16, 320, 64, 64], 32),
        ([2, 640, 32, 32], 32),
        ([16, 640, 32, 32], 32),
        ([2, 1280, 16, 16], 32),
        ([2, 960, 64, 64], 32),
        ([2, 1920, 32, 32], 32),
        ([2, 2560, 8, 8], 32),
        ([16, 1280, 16, 16], 32),
        ([1, 128, 300, 200], 32),
        ([2, 512, 128, 96], 32),
        ([1, 256, 256, 256], 32),
        ([3, 64, 7, 5], 8),
        ([2, 24, 96, 96], 8),
        ([2, 8, 1, 3], 4),
        ([1, 64, 40, 48], 32),
        ([1, 32, 64, 64], 4),
    ] {
        if !is_affordable(size.iter().product()) {
            continue;
        }
        for (silu, has_deferred_bias) in [(false, false), (true, false), (true, true)] {
            compare(
                &format!("group norm {size:?}, SiLU {silu}, deferred bias {has_deferred_bias}"),
                device,
                |kind, device| {
                    // A mean far from zero loses digits where squares are summed carelessly.
                    let x = map(size, kind, device) + 8.0;
                    let [weight, bias, by] = [(); 3].map(|()| random(&size[1..2], kind, device));
                    let by = has_deferred_bias.then_some(&by);
                    let affine = Affine { weight: &weight, bias: &bias, groups, eps: 1e-5 };
                    let ours = fused::group_norm(&x, by, &affine, silu).unwrap();
                    assert!(ours.equal(&fused::group_norm(&x, by, &affine, silu).unwrap()), "the same each time");
                    let x = by.map_or_else(|| wide(&x), |by| wide(&x) + wide(by).view([1, -1, 1, 1]));
                    let theirs = x.group_norm(groups, Some(&wide(&weight)), Some(&wide(&bias)), 1e-5, false);
                    (ours, if silu { theirs.silu() } else { theirs })
                },
            );
        }
    }
    let x = random(&[1, 16, 4, 4], Kind::Half, device);
    let affine =
        Affine { weight: &x.view([-1]).narrow(0, 0, 16), bias: &x.view([-1]).narrow(0, 0, 16), groups: 4, eps: 0.0 };
    assert!(fused::group_norm(&x, None, &affine, false).is_none(), "the channels are not last");
}

#[test]
fn sums_of_maps() {
    let Some(device) = gpu() else { return };
    for size in [[2, 320, 64, 64], [3, 24, 7, 5], [1, 8, 1, 1]] {
        if !is_affordable(size.iter().product()) {
            continue;
        }
        compare(&format!("sum with a deferred bias {size:?}"), device, |kind, device| {
            let (x, y, by) = (map(size, kind, device), map(size, kind, device), random(&size[1..2], kind, device));
            (fused::add_deferred_bias(&x, &y, &by).unwrap(), wide(&x) + wide(&y) + wide(&by).view([1, -1, 1, 1]))
        });
        compare(&format!("deferred bias {size:?}"), device, |kind, device| {
            let (x, by) = (map(size, kind, device), random(&size[1..2], kind, device));
            let expected = wide(&x) + wide(&by).view([1, -1, 1, 1]);
            fused::add_channel_bias(&x, &by).unwrap();
            (x, expected)
        });
    }
}

#[test]
fn doubled_places() {
    let Some(device) = gpu() else { return };
    for size in [[2, 320, 32, 48], [3, 24, 7, 5], [1, 8, 1, 1]] {
        if !is_affordable(size.iter().product()) {
            continue;
        }
        for kind in [Kind::Half, Kind::BFloat16] {
            let x = map(size, kind, device);
            let theirs = x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None);
            assert!(fused::upsample_nearest_2x(&x).unwrap().equal(&theirs), "{size:?}");
        }
    }
    assert!(
        fused::upsample_nearest_2x(&random(&[1, 8, 4, 4], Kind::Half, device)).is_none(),
        "the channels are not last"
    );
}

fn mini(folder: &str) -> PathBuf {
    root().join("experiments/mini/models").join(folder)
}

/// A part of an embedded pipeline.
fn build<C: DeserializeOwned, T>(
    folder: &str,
    device: Device,
    kind: Kind,
    new: impl FnOnce(&Weights, &C) -> anyhow::Result<T>,
) -> T {
    let folder = mini(folder);
    let config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let checkpoint = Checkpoint::open_dir(&folder, "diffusion_pytorch_model").unwrap();
    new(&checkpoint.weights(device, kind), &config).unwrap()
}

/// In both number types: what `draw` gives on the GPU, with custom kernels and (loaded so and later switched off)
/// without, is near what it gives in float32 on the CPU, and custom kernels are not the worse ones.
fn near_in_every_way<T>(name: &str, load: impl Fn(Device, Kind) -> T, draw: impl Fn(&T, Device) -> Vec<Tensor>) {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    let expected = draw(&load(Device::Cpu, Kind::Float), Device::Cpu);
    let far = |outs: Vec<Tensor>| -> f64 {
        let pairs = outs.iter().zip(&expected);
        pairs.map(|(ours, theirs)| apart(&ours.to_device(Device::Cpu), theirs)).fold(0.0, f64::max)
    };
    for (kind, most) in [(Kind::Half, 1e-2), (Kind::BFloat16, 4e-2)] {
        let net = load(device, kind);
        let own = far(draw(&net, device));
        let switched_off = far(eager(|| draw(&net, device)));
        let plain = eager(|| far(draw(&load(device, kind), device)));
        println!("{name} {kind:?}: custom kernels {own:.1e}, switched off {switched_off:.1e}, plain {plain:.1e}");
        assert!(own < most && switched_off < most && plain < most);
        assert!(own < 1.5 * plain + 1e-3, "custom kernels lose digits");
    }
}

#[test]
fn a_unet_is_the_same_in_every_way() {
    let Some(_) = gpu() else { return };
    let inputs: Vec<[Tensor; 2]> = [[4, 4, 24, 24], [2, 4, 13, 10], [1, 4, 48, 40]]
        .map(|size| [random(&size, Kind::Float, Device::Cpu), random(&[size[0], 77, 64], Kind::Float, Device::Cpu)])
        .into();
    near_in_every_way(
        "U-Net",
        |device, kind| (build("mini-sd-v1-5/unet", device, kind, Unet::new), kind),
        |(unet, kind), device| {
            let draw = |[latents, text]: &[Tensor; 2]| {
                let conditioning = unet.condition(&text.to_device(device), &[981.0, 401.0, 1.0]);
                let latents = latents.to_device(device).to_kind(*kind);
                (0..3).map(move |step| unet.forward(&latents, &conditioning, step)).collect::<Vec<_>>()
            };
            inputs.iter().flat_map(draw).collect()
        },
    );
}

#[test]
fn autoencoders_are_the_same_in_every_way() {
    let Some(_) = gpu() else { return };
    for (folder, channels, side) in [("mini-sd3/vae", 16, 12), ("mini-sd-v1-5/vae", 4, 24)] {
        let pictures = random(&[3, 3, 96, 80], Kind::Float, Device::Cpu).clamp(-1.0, 1.0);
        let latents = random(&[2, channels, side, side - 2], Kind::Float, Device::Cpu);
        near_in_every_way(
            folder,
            |device, kind| (build(folder, device, kind, AutoencoderKl::new), kind),
            |(vae, kind), device| {
                let to = |x: &Tensor| x.to_device(device).to_kind(*kind);
                vec![vae.decode(&to(&latents)), vae.encode(&to(&pictures)).mean]
            },
        );
    }
}

/// The picture of a seed must not depend on how many texts were encoded before its own.
#[test]
fn recorded_texts_are_what_they_are_one_by_one() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    let folder = mini("mini-sd-v1-5/text_encoder");
    let config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let checkpoint = Checkpoint::open_dir(&folder, "model").unwrap();
    let clip = ClipText::new(&checkpoint.weights(device, Kind::Half), &config, false).unwrap();
    let encode = |ids: &[Tensor]| {
        let out = clip.forward(&ids[0]);
        vec![out.last, out.pooled]
    };
    let repeated = CapturedFunction::default();
    for length in [77, 77, 77, 77, 77, 12, 77] {
        let ids = [Tensor::randint(300, [1, length], (Kind::Int64, device))];
        let (ours, plain) = (repeated.call(&ids, encode).unwrap(), encode(&ids));
        assert!(ours.iter().zip(&plain).all(|(ours, plain)| ours.equal(plain)), "{length} tokens");
    }
}

/// A recording goes on with other texts, times and seeds; another size gets its own, and the first one again.
#[test]
fn recorded_steps_draw_what_steps_one_by_one_draw() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    let rt = Runtime { device, dtype: DtypeChoice::Auto, offline: true };
    let request = |text: &str, seed, steps, size, guidance| GenerateRequest {
        prompts: vec![text.to_string(), "a house".to_string()],
        seeds: vec![seed, 7],
        steps: Some(steps),
        width: Some(size),
        height: Some(64),
        guidance_scale: Some(guidance),
        ..GenerateRequest::default()
    };
    let sd1 = StableDiffusion::load(&mini("mini-sd-v1-5"), &rt).unwrap();
    let sd3 = StableDiffusion3::load(&mini("mini-sd3"), &rt).unwrap();
    let draw_1 = |request: &GenerateRequest| sd1.denoise(sd1.prepare(request).unwrap()).unwrap();
    let draw_3 = |request: &GenerateRequest| sd3.denoise(sd3.prepare(request).unwrap()).unwrap();
    type Draw<'a> = &'a dyn Fn(&GenerateRequest) -> Tensor;
    for (model, draw) in [("mini-sd-v1-5", &draw_1 as Draw), ("mini-sd3", &draw_3)] {
        for (text, seed, steps, size, guidance) in [
            ("a red bird", 1, 6, 96, 4.0),
            ("a cat in the snow, oil painting", 2, 4, 96, 7.5),
            ("a red bird", 1, 4, 64, 4.0),
            ("a red bird", 1, 4, 64, 1.0),
            ("a cat", 3, 5, 96, 4.0),
        ] {
            let request = request(text, seed, steps, size, guidance);
            let (recorded, one_by_one) = (draw(&request), without_capture(|| draw(&request)));
            let difference = apart(&recorded, &one_by_one);
            println!("{model}: {text}, {size} wide, guidance {guidance}: {difference:.1e}");
            // Libraries may choose other kernels while they are recorded, and steps make more of what differs.
            assert!(difference < 2e-2, "{model}: {text}: {difference}");
            assert!(recorded.equal(&draw(&request)), "the same again");
        }
    }
}

/// Adapters are merged where captured steps find the weights, convolutions with their channels last and filled up
/// included: with A, with none, with B and with none again one generator draws what fresh ones draw, byte for byte.
#[test]
fn adapters_come_and_go_under_recorded_steps() {
    let Some(device) = gpu() else { return };
    let golden = root().join("tests/golden");
    let lora = |file: &str| vec![LoraChoice { file: golden.join("lora").join(file), weight: 0.7 }];
    for (pipeline, a, b) in [
        ("sd15/like_v1", "sd15_kohya.safetensors", "sd15_trained.safetensors"),
        ("sd15/like_v1", "sd15_tucker.safetensors", "sd15_kohya_original.safetensors"),
        ("sd3/with_t5", "sd3_kohya.safetensors", "sd3_peft.safetensors"),
    ] {
        let path = golden.join(pipeline).display().to_string();
        for dtype in [DtypeChoice::Float32, DtypeChoice::Bfloat16] {
            let rt = Runtime { device, dtype, offline: true };
            let draw = |generator: &dyn Generator, loras: &[LoraChoice]| {
                let request = GenerateRequest {
                    prompts: vec!["a red bird".to_string()],
                    seeds: vec![1],
                    steps: Some(3),
                    guidance_scale: Some(3.0),
                    loras: loras.to_vec(),
                    ..GenerateRequest::default()
                };
                generator.generate(&request).unwrap().remove(0).image
            };
            let fresh = |loras: &[LoraChoice]| draw(load_generator(&path, &rt).unwrap().as_ref(), loras);
            let one = load_generator(&path, &rt).unwrap();
            for loras in [lora(a), Vec::new(), lora(b), Vec::new(), lora(a)] {
                let (ours, expected) = (draw(one.as_ref(), &loras), fresh(&loras));
                assert!(ours == expected, "{pipeline} in {dtype:?}: {loras:?} after others");
            }
            assert!(fresh(&lora(a)) != fresh(&[]) && fresh(&lora(b)) != fresh(&[]));
        }
    }
}

/// A request to the tiny Stable Diffusion 1.5 with what steers it beside its texts.
fn steered(control: Option<ControlRequest>, ip_adapter: Option<IpAdapterChoice>, guidance: f64) -> GenerateRequest {
    GenerateRequest {
        prompts: vec!["a red bird".to_string(), "a house".to_string()],
        seeds: vec![1, 2],
        steps: Some(4),
        // Without them a picture that steers would say the size.
        width: Some(40),
        height: Some(56),
        guidance_scale: Some(guidance),
        control,
        ip_adapter,
        ..GenerateRequest::default()
    }
}

/// ControlNets and IP-Adapters under captured steps: whatever was drawn before, one pipeline draws what a fresh one draws byte
/// for byte; captured steps are those one by one; and in float32 they are the CPU's, in 16 bits near to them.
#[test]
fn what_steers_comes_and_goes_under_recorded_steps() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    let golden = root().join("tests/golden");
    let control = |net: &str, scale| {
        let picture = |i| toolkit::images::load(golden.join(format!("controlnet/steering_1_{i}.png"))).unwrap();
        let model = golden.join("controlnet").join(net);
        Some(ControlRequest {
            model: model.display().to_string(),
            images: vec![picture(0), picture(1)],
            scale,
            ..ControlRequest::default()
        })
    };
    let after = |file: &str, pictures: usize, scale| {
        let pictures = (0..pictures).map(|i| golden.join(format!("ip_adapter/prompt_1_{i}.png"))).collect();
        Some(IpAdapterChoice { file: golden.join("ip_adapter/models").join(file), pictures, scale })
    };
    let (base, plus) = ("ip-adapter_like_v1.safetensors", "ip-adapter-plus_like_v1.safetensors");
    let requests = [
        steered(None, None, 3.0),
        steered(None, after(base, 1, 0.7), 3.0),
        steered(None, after(base, 1, 0.2), 3.0),
        steered(control("like_v1", 1.0), None, 3.0),
        steered(control("like_v1", 0.4), after(plus, 2, 1.0), 3.0),
        steered(control("bgr", 0.8), after(base, 2, 0.7), 1.0),
        steered(None, after(plus, 1, 0.7), 1.0),
        steered(None, None, 3.0),
    ];
    let path = golden.join("sd15/like_v1");
    let load = |device, dtype| StableDiffusion::load(&path, &Runtime { device, dtype, offline: true }).unwrap();
    let draw = |sd: &StableDiffusion, request: &GenerateRequest| sd.denoise(sd.prepare(request).unwrap()).unwrap();
    for (dtype, most) in [(DtypeChoice::Float32, 5e-3), (DtypeChoice::Float16, 6e-2), (DtypeChoice::Bfloat16, 4e-1)] {
        let cpu = load(Device::Cpu, dtype);
        let expected: Vec<Tensor> = requests.iter().map(|request| draw(&cpu, request)).collect();
        for (at, latents) in expected.iter().enumerate().skip(1).take(6) {
            assert!(apart(latents, &expected[0]) > 0.05, "{dtype:?}: request {at} steers");
        }
        let one = load(device, dtype);
        for (at, request) in requests.iter().enumerate() {
            let ours = draw(&one, request);
            assert!(ours.equal(&draw(&load(device, dtype), request)), "{dtype:?}: request {at} after others");
            let one_by_one = apart(&ours, &without_capture(|| draw(&one, request)));
            let of_cpu = apart(&ours.to_device(Device::Cpu), &expected[at]);
            println!("{dtype:?}: request {at}: one by one {one_by_one:.1e}, CPU {of_cpu:.1e}");
            assert!(one_by_one < 2e-2 && of_cpu < most, "{dtype:?}: request {at}: {one_by_one}, {of_cpu}");
        }
    }
}
