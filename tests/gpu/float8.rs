//! `--precision fp8` on a GPU that has float8: its kernels and products against the CPU's imitation and float32, a whole
//! denoiser, captured steps, and adapters. On other machines each test says so.

use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::diffusion::stable_diffusion_3::mmdit::{Config, Mmdit};
use toolkit::models::{GenerateRequest, Generator, LoraChoice, load_generator};
use toolkit::nn::fused::{self, Activated, Modulation};
use toolkit::nn::{Float8Linear, Float8Rows, Linear, attention, float8_attention, with_long_attention};
use toolkit::runtime::{DtypeChoice, Runtime, check_float8, eager, multiplies_by_groups_of_warps, without_capture};

use crate::common::{apart, gpu, is_affordable, random, root, wide};

/// A GPU with float8, for this test alone.
fn gpu_with_float8() -> Option<Device> {
    let device = gpu()?;
    let Device::Cuda(index) = device else { return None };
    match check_float8(index) {
        Ok(()) => Some(device),
        Err(error) => {
            println!("not compared: {error}");
            None
        }
    }
}

/// What the CPU makes of the same rows.
fn on_the_cpu(x: &Tensor) -> Float8Rows {
    Float8Rows::of(&x.to_device(Device::Cpu))
}

fn bytes(values: &Tensor) -> Tensor {
    values.to_device(Device::Cpu).view_dtype(Kind::Uint8)
}

/// Rows of all lengths, byte for byte those of the CPU; of zeros, of large and of small numbers, and of none.
#[test]
fn rows_in_float8() {
    let Some(device) = gpu_with_float8() else { return };
    for shape in [[4099, 1536], [7, 6144], [5, 9728], [3, 16384], [2, 8], [2, 24]] {
        if !is_affordable(shape.iter().product()) {
            continue;
        }
        for kind in [Kind::BFloat16, Kind::Half] {
            let sizes = random(&[shape[0], 1], kind, device) * 30.0;
            let x = random(&shape, kind, device) * sizes;
            let _ = x.narrow(0, 0, 1).fill_(0.0);
            let (values, scales) = fused::float8_rows(&x, Activated::Itself).unwrap();
            let expected = on_the_cpu(&x);
            let (their_values, their_scales) = expected.parts();
            assert!(bytes(&values).equal(&bytes(their_values)), "{shape:?} {kind:?}");
            assert!(apart(&scales.to_device(Device::Cpu), their_scales) < 1e-7, "{shape:?} {kind:?}");
            // With the GELU, which the CPU rounds to 16 bits before.
            let ours =
                Float8Rows::from_scaled(fused::float8_rows(&x, Activated::GeluTanh).unwrap(), kind).dequantised();
            let exact = wide(&x).gelu("tanh");
            let difference = apart(&ours, &exact);
            println!("gelu {shape:?} {kind:?}: {difference:.4}");
            // A number of three bits of mantissa is some 1/38 away on average.
            assert!(difference < 0.035, "{shape:?} {kind:?}: {difference}");
        }
    }
    let hurt = random(&[2, 64], Kind::BFloat16, device);
    let _ = hurt.narrow(0, 1, 1).narrow(1, 3, 1).fill_(f64::NAN);
    let (values, scales) = fused::float8_rows(&hurt, Activated::Itself).unwrap();
    let rows = Float8Rows::from_scaled((values, scales), Kind::BFloat16).dequantised();
    let sound: Vec<bool> = Vec::try_from(rows.isfinite().all_dim(1, false)).unwrap();
    assert_eq!(sound, [true, false], "what is not a number stays so");
    assert!(fused::float8_rows(&random(&[2, 20], Kind::Half, device), Activated::Itself).is_none(), "odd rows");
}

/// The modulated norm in float8 is the plain one, quantised.
#[test]
fn modulated_norms_in_float8() {
    let Some(device) = gpu_with_float8() else { return };
    let kind = Kind::BFloat16;
    for (tokens, batch, size) in [(4096, 2, 1536), (37, 1, 96), (2, 3, 2432)] {
        if !is_affordable(tokens * batch * size) {
            continue;
        }
        let [x, y] = [2.0, 0.0].map(|mean| random(&[tokens, batch, size], kind, device) + mean);
        let parts = random(&[batch, 6 * size], kind, device).chunk(6, -1);
        let modulation = Modulation { shift: &parts[3], scale: &parts[4] };
        for added in [Some((&y, &parts[2])), None] {
            let (sum, rows) = fused::gated_add_modulated_norm_float8(&x, added, &modulation, 1e-6).unwrap();
            match added {
                Some((y, gate)) => assert!(sum.equal(&fused::gated_add(&x, y, gate).unwrap())),
                None => assert!(sum.equal(&x)),
            }
            let normed = wide(&sum).layer_norm([size], None::<&Tensor>, None::<&Tensor>, 1e-6, true);
            let expected = on_the_cpu(&(normed * (wide(&parts[4]) + 1.0) + wide(&parts[3]))).dequantised();
            let ours = Float8Rows::from_scaled(rows, kind).dequantised().to_device(Device::Cpu);
            let difference = apart(&ours, &expected);
            println!("{tokens} × {batch} × {size}: {difference:.5}");
            // Sums in another order move a few numbers to the next one of float8.
            assert!(difference < 3e-3, "{difference}");
        }
    }
}

/// Products of the tensor cores against the CPU's in float32, of any number of rows.
#[test]
fn products_in_float8() {
    let Some(device) = gpu_with_float8() else { return };
    for (rows, input, output) in [(1, 64, 48), (5, 1536, 1536), (154, 128, 512), (666, 1536, 4608), (1023, 6144, 1536)]
    {
        if !is_affordable(input * output) {
            continue;
        }
        let weight = random(&[output, input], Kind::BFloat16, device) * 0.03;
        let x = random(&[rows, input], Kind::BFloat16, device);
        let bias = random(&[output], Kind::BFloat16, device);
        for bias in [Some(bias), None] {
            let layer = |device| {
                let [weight, bias] = [Some(&weight), bias.as_ref()].map(|t| t.map(|t| t.to_device(device)));
                Float8Linear::new(Linear::from_tensors(weight.unwrap(), bias)).unwrap()
            };
            let ours = layer(device).forward(&Float8Rows::of(&x));
            let theirs = layer(Device::Cpu).forward(&on_the_cpu(&x));
            let difference = apart(&ours.to_device(Device::Cpu), &theirs);
            println!("{rows} × {input} → {output}: {difference:.1e}");
            assert!(difference < 8e-3, "{rows} × {input} → {output}: {difference}");
            let room = Tensor::zeros([rows + 2, output], (Kind::BFloat16, device));
            layer(device).forward_into(&Float8Rows::of(&x), &room.narrow(0, 1, rows));
            assert!(room.narrow(0, 1, rows).equal(&ours));
            assert_eq!(room.narrow(0, rows + 1, 1).abs().max().double_value(&[]), 0.0, "nothing beside it is written");
        }
    }
}

/// Attention in float8 against the CPU's imitation and against float32: of few tokens and many, of whole tiles and broken
/// ones, with scores that are near each other and far apart, with large values in one tile.
#[test]
fn attention_in_float8() {
    let Some(device) = gpu_with_float8() else { return };
    let Device::Cuda(index) = device else { return };
    for (tokens, batch, heads, sharp, large) in [
        (1, 1, 1, 1.0, 1.0),
        (77, 2, 3, 1.0, 1.0),
        (128, 1, 1, 1.0, 1.0),
        (333, 2, 3, 4.0, 1000.0),
        (1154, 3, 2, 1.0, 30.0),
        (4429, 1, 3, 1.0, 1.0),
        (4429, 1, 1, 20.0, 1.0),
    ] {
        if !is_affordable(tokens * tokens * batch * heads) {
            continue;
        }
        for kind in [Kind::BFloat16, Kind::Half] {
            let qkv = random(&[tokens, batch, 3, heads * 64], kind, device);
            let _ = qkv.select(2, 0).g_mul_scalar_(sharp);
            let _ = qkv.narrow(0, 0, tokens.min(100)).select(2, 2).g_mul_scalar_(large);
            let parts = qkv.view([tokens, batch, 3, heads, 64]).permute([2, 1, 3, 0, 4]);
            let [q, k, v] = [0, 1, 2].map(|part| wide(&parts.select(0, part)));
            let exact = attention(&q, &k, &v, None).permute([2, 0, 1, 3]).reshape([tokens, batch, -1]);
            let qkv = qkv.view([tokens, batch, -1]);
            let Some(ours) = float8_attention(&qkv, heads) else {
                assert!(!multiplies_by_groups_of_warps(index), "the kernel is for this GPU");
                return println!("no attention in float8 here: not compared");
            };
            let imitated = float8_attention(&qkv.to_device(Device::Cpu), heads).unwrap().to_device(device);
            let (from_imitated, from_exact) = (apart(&ours, &imitated), apart(&ours, &exact));
            let lost = apart(&imitated, &exact);
            println!(
                "{tokens} × {batch} × {heads} {kind:?}, {sharp}, {large}: {from_imitated:.4} from the CPU's, {from_exact:.4} \
                 from float32, from which the CPU's is {lost:.4}"
            );
            // Scores of float16 move a few weights to the next number. What float8 loses is much where scores are far apart,
            // and the kernel loses no more.
            assert!(from_imitated < 0.05, "{from_imitated}");
            assert!(from_exact < lost + 0.01, "{from_exact}, {lost}");
            assert!(sharp > 1.0 || from_exact < 0.1, "{from_exact}");
        }
    }
    let wider = random(&[9, 1, 3 * 2 * 72], Kind::BFloat16, device);
    assert!(float8_attention(&wider, 2).is_none(), "heads that are too wide");
    assert!(eager(|| float8_attention(&random(&[9, 1, 3 * 64], Kind::BFloat16, device), 1)).is_none());
    let hurt = random(&[200, 1, 3 * 64], Kind::BFloat16, device);
    let _ = hurt.narrow(0, 150, 1).fill_(f64::NAN);
    assert!(wide(&float8_attention(&hurt, 1).unwrap()).isnan().any().double_value(&[]) == 1.0, "it stays so");
}

/// The embedded denoiser in float8: on the GPU, by its kernels and without, as on the CPU; and near itself in bfloat16.
#[test]
fn a_denoiser_in_float8_is_the_same_in_every_way() {
    let Some(device) = gpu_with_float8() else { return };
    let _guard = tch::no_grad_guard();
    let folder = root().join("experiments/mini/models/mini-sd3/transformer");
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let load = |device, kind, float8| {
        let checkpoint = Checkpoint::open_dir(&folder, "diffusion_pytorch_model").unwrap();
        Mmdit::new(&checkpoint.weights(device, kind).in_float8(float8), &config).unwrap()
    };
    let side = config.sample_size;
    let [latents, prompt, pooled] = [
        vec![4, config.in_channels, side, side],
        vec![4, 333, config.joint_attention_dim],
        vec![4, config.pooled_projection_dim],
    ]
    .map(|shape| random(&shape, Kind::Float, Device::Cpu));
    let draw = |network: &Mmdit, device: Device| {
        let conditioning = network.condition(&prompt.to_device(device), &pooled.to_device(device), &[980.0, 40.0]);
        let latents = latents.to_device(device).to_kind(network.kind());
        let step = |at| network.forward(&latents, &conditioning.context, &conditioning.modulations.get(at));
        wide(&Tensor::stack(&[step(0), step(1)], 0).to_device(Device::Cpu))
    };
    let exact = draw(&load(Device::Cpu, Kind::Float, false), Device::Cpu);
    let imitated = draw(&load(Device::Cpu, Kind::BFloat16, true), Device::Cpu);
    let (half, float8) = (load(device, Kind::BFloat16, false), load(device, Kind::BFloat16, true));
    let of_half = apart(&draw(&half, device), &exact);
    let ways = [
        ("custom kernels", draw(&float8, device)),
        ("and cuDNN's attention", with_long_attention(|| draw(&float8, device))),
        ("without custom kernels", eager(|| draw(&float8, device))),
        ("on the CPU", imitated.shallow_clone()),
    ];
    println!("bfloat16: {of_half:.4} from float32");
    for (name, out) in &ways {
        let (from_exact, from_imitated) = (apart(out, &exact), apart(out, &imitated));
        println!("{name}: {from_exact:.4} from float32, {from_imitated:.4} from the CPU's float8");
        // Eagerly attention is not in float8.
        assert!(from_exact < 0.15 && from_imitated < 0.1, "{name}: {from_exact}, {from_imitated}");
    }
}

/// Captured steps in float8 draw what steps one by one draw, also with other texts and sizes.
#[test]
fn captured_steps_in_float8() {
    let Some(device) = gpu_with_float8() else { return };
    let _guard = tch::no_grad_guard();
    let rt = Runtime { device, dtype: DtypeChoice::Float8, offline: true };
    let sd3 = StableDiffusion3::load(&root().join("experiments/mini/models/mini-sd3"), &rt).unwrap();
    let draw = |request: &GenerateRequest| sd3.denoise(sd3.prepare(request).unwrap()).unwrap();
    for (text, seed, width, guidance) in [
        ("a red bird", 1, 96, 4.0),
        ("a cat in the snow", 2, 96, 7.5),
        ("a red bird", 1, 64, 1.0),
        ("a cat", 3, 96, 4.0),
    ] {
        let request = GenerateRequest {
            prompts: vec![text.to_string(), "a house".to_string()],
            seeds: vec![seed, 7],
            steps: Some(4),
            width: Some(width),
            height: Some(64),
            guidance_scale: Some(guidance),
            ..GenerateRequest::default()
        };
        let (captured, one_by_one) = (draw(&request), without_capture(|| draw(&request)));
        let difference = apart(&captured, &one_by_one);
        println!("{text}, {width} wide: {difference:.1e}");
        assert!(difference < 2e-2, "{text}: {difference}");
        assert!(captured.equal(&draw(&request)), "the same again");
    }
}

/// Adapters are quantised anew where captured steps find the weights, and gone again byte for byte.
#[test]
fn adapters_come_and_go_in_float8() {
    let Some(device) = gpu_with_float8() else { return };
    let golden = root().join("tests/golden");
    let lora = |file: &str| vec![LoraChoice { file: golden.join("lora").join(file), weight: 0.7 }];
    let rt = Runtime { device, dtype: DtypeChoice::Float8, offline: true };
    let load = || load_generator(&golden.join("sd3/with_t5").display().to_string(), &rt).unwrap();
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
    let one = load();
    let (a, b) = (lora("sd3_kohya.safetensors"), lora("sd3_peft.safetensors"));
    for loras in [a.clone(), Vec::new(), b, Vec::new(), a.clone()] {
        let (ours, fresh) = (draw(one.as_ref(), &loras), draw(load().as_ref(), &loras));
        let differ = ours.iter().zip(fresh.iter()).filter(|(a, b)| a != b).count();
        let again = draw(one.as_ref(), &loras) == ours;
        let freshly = draw(load().as_ref(), &loras) == fresh;
        assert!(differ == 0, "{loras:?} after others: {differ} values; again the same: {again}, afresh too: {freshly}");
    }
    assert!(draw(one.as_ref(), &a) != draw(one.as_ref(), &[]));
}
