//! Own kernels against the same arithmetic in float32, and recorded work against work done at once.
//! On a machine without a GPU there is nothing to compare, and each test says so.

use crate::common::{apart, compare, gpu, is_affordable, random, root, wide};
use tch::{Device, IndexOp, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::models::diffusion::stable_diffusion_3::mmdit::{Conditioning, Config, Mmdit};
use toolkit::nn::fused::{self, Modulation, Sight};
use toolkit::nn::{KvCache, RotaryTable, Stretch, with_long_attention};
use toolkit::runtime::{CapturedGraph, set_eager};

fn rms(x: &Tensor, weight: &Tensor) -> Tensor {
    x * (x.square().mean_dim([-1i64].as_slice(), true, Kind::Float) + 1e-5).rsqrt() * weight
}

#[test]
fn rms_norms() {
    let Some(device) = gpu() else { return };
    for shape in [[1, 3072], [7, 64], [3, 8192], [2, 1000]] {
        compare(&format!("rms_norm {shape:?}"), device, |kind, device| {
            let (x, y) = (random(&shape, kind, device) * 3.0, random(&shape, kind, device));
            let weight = random(&shape[1..], kind, device);
            let (sum, normed) = fused::add_rms_norm(&x, &y, &weight, 1e-5).unwrap();
            assert!(sum.equal(&(&x + &y)));
            assert!(normed.equal(&fused::rms_norm(&sum, &weight, 1e-5).unwrap()));
            (normed, rms(&wide(&sum), &wide(&weight)))
        });
    }
}

#[test]
fn modulated_norms() {
    let Some(device) = gpu() else { return };
    for (tokens, batch, size) in [(37, 2, 1536), (5, 1, 96), (2, 3, 2432)] {
        compare(&format!("modulated norm {size}"), device, |kind, device| {
            let (x, y) =
                (random(&[tokens, batch, size], kind, device) + 2.0, random(&[tokens, batch, size], kind, device));
            let parts = random(&[batch, 6 * size], kind, device).chunk(6, -1);
            let modulation = Modulation { shift: &parts[3], scale: &parts[4] };
            let (sum, normed) = fused::gated_add_modulated_norm(&x, &y, &parts[2], &modulation, 1e-6).unwrap();
            let expected = wide(&x) + wide(&parts[2]) * wide(&y);
            assert!(apart(&sum, &expected) < 5e-3);
            assert!(sum.equal(&fused::gated_add(&x, &y, &parts[2]).unwrap()));
            assert!(normed.equal(&fused::modulated_norm(&sum, &modulation, 1e-6).unwrap()));
            let plain = wide(&sum).layer_norm([size], None::<&Tensor>, None::<&Tensor>, 1e-6, true);
            (normed, plain * (wide(&parts[4]) + 1.0) + wide(&parts[3]))
        });
    }
}

#[test]
fn norms_of_heads() {
    let Some(device) = gpu() else { return };
    for (rows, heads, width) in [(7, 24, 64), (3, 1, 8), (1, 5, 128), (2, 3, 256)] {
        compare(&format!("norm of heads {width} wide"), device, |kind, device| {
            let qkv = random(&[rows, 2, 3 * heads * width], kind, device) * 2.0;
            let weights = [random(&[width], kind, device), random(&[width], kind, device)];
            let parts = wide(&qkv).view([rows, 2, 3, heads, width]).unbind(2);
            let [q, k] = [0, 1].map(|i| rms(&parts[i], &wide(&weights[i])));
            let expected = Tensor::stack(&[q, k, parts[2].copy()], 2).view([rows, 2, -1]);
            fused::norm_heads(&qkv, &weights[0], &weights[1], heads, 1e-5).unwrap();
            (qkv, expected)
        });
    }
}

#[test]
fn products_of_halves() {
    let Some(device) = gpu() else { return };
    for shape in [[1, 1, 16384], [3, 7, 160]] {
        let half = shape[2] / 2;
        compare("silu product", device, |kind, device| {
            let x = random(&shape, kind, device);
            let parts = wide(&x).chunk(2, -1);
            (fused::silu_product(&x).unwrap(), parts[0].silu() * &parts[1])
        });
        compare("gelu product", device, |kind, device| {
            let x = random(&shape, kind, device);
            let parts = wide(&x).chunk(2, -1);
            (fused::gelu_product(&x).unwrap(), &parts[0] * parts[1].gelu("none"))
        });
        assert_eq!(half * 2, shape[2]);
    }
}

#[test]
fn attention_of_one_new_token() {
    let Some(device) = gpu() else { return };
    for (rows, kv_heads, groups, width, capacity, window) in [
        (1, 8, 3, 128, 1280, None),
        (3, 2, 1, 64, 130, None),
        (6, 8, 3, 128, 512, Some(100)),
        (2, 4, 8, 128, 70, None),
        (2, 1, 2, 256, 9000, None),
        (40, 8, 3, 128, 64, None),
        (9, 8, 3, 128, 1280, None),
        (64, 8, 3, 128, 1291, None),
        (130, 8, 3, 128, 203, None),
        (12, 2, 8, 64, 300, Some(100)),
        (10, 1, 1, 64, 2900, None),
        (16, 2, 4, 128, 90, Some(17)),
        (9, 1, 2, 256, 80, None),
    ] {
        if !is_affordable(rows * kv_heads * capacity * width / 2) {
            continue;
        }
        compare(&format!("attention {rows} rows, {width} wide"), device, |kind, device| {
            let heads = kv_heads * groups;
            let cache = KvCache::new(rows, kv_heads, capacity, width, kind, device);
            let (keys, values) = cache.whole();
            keys.shallow_clone().copy_(&random(&keys.size(), kind, device));
            values.shallow_clone().copy_(&random(&values.size(), kind, device));
            let joint = random(&[rows, 1, (heads + 2 * kv_heads) * width], kind, device);
            let place = capacity - 3;
            let slot = Tensor::full([1], place, (Kind::Int64, device));
            let padding = (Tensor::arange(rows, (Kind::Int64, device)) * 5).clamp_max(place - 1);
            let frequencies = Tensor::rand([1, width / 4], (Kind::Float, device));
            let table = RotaryTable::new(&frequencies, capacity, 1.0, kind, device);
            let positions = (place - &padding).unsqueeze(1);
            let rotation = table.at(&positions, &positions.zeros_like());

            let sight = Sight { slot: &slot, padding: &padding, window };
            let ours = fused::decode_attention(&joint, heads, &rotation, &cache, &sight).unwrap();
            assert!(ours.equal(&fused::decode_attention(&joint, heads, &rotation, &cache, &sight).unwrap()));

            let parts = joint.view([rows, 1, heads + 2 * kv_heads, width]).transpose(1, 2);
            let q = wide(&rotation.apply(&parts.narrow(1, 0, heads)));
            let own_key = rotation.apply(&parts.narrow(1, heads, kv_heads));
            let (keys, values) = cache.whole();
            assert!(apart(&keys.i((.., .., place)), &own_key.squeeze_dim(2)) < 5e-3);
            assert!(values.i((.., .., place)).equal(&parts.narrow(1, heads + kv_heads, kv_heads).squeeze_dim(2)));
            let places = Tensor::arange(capacity, (Kind::Int64, device)).view([1, -1]);
            let mut seen = places.ge_tensor(&padding.view([-1, 1])).logical_and(&places.le(place));
            if let Some(window) = window {
                seen = seen.logical_and(&places.gt(place - window));
            }
            let repeat = |x: &Tensor| wide(x).repeat_interleave_self_int(groups, 1, None);
            let scores = q.matmul(&repeat(keys).transpose(2, 3)) / (width as f64).sqrt();
            let scores = scores.masked_fill(&seen.logical_not().view([rows, 1, 1, -1]), f64::NEG_INFINITY);
            let theirs = scores.softmax(-1, Kind::Float).matmul(&repeat(values));
            (ours, theirs.transpose(1, 2).reshape([rows, 1, heads * width]))
        });
    }
}

#[test]
fn prompts_are_turned_and_kept() {
    let Some(device) = gpu() else { return };
    for (prompts, copies, tokens, kv_heads, groups, width) in [(1, 1, 70, 8, 3, 128), (2, 3, 33, 2, 1, 64)] {
        compare(&format!("{prompts} prompts, {width} wide"), device, |kind, device| {
            let heads = kv_heads * groups;
            let cache = KvCache::new(prompts * copies, kv_heads, tokens + 5, width, kind, device);
            let plain = KvCache::new(prompts * copies, kv_heads, tokens + 5, width, kind, device);
            let joint = random(&[prompts, tokens, (heads + 2 * kv_heads) * width], kind, device);
            let frequencies = Tensor::rand([1, width / 4], (Kind::Float, device));
            let table = RotaryTable::new(&frequencies, tokens, 1.0, kind, device);
            let positions = Tensor::arange(tokens, (Kind::Int64, device)).repeat([prompts, 1]);
            let rotation = table.at(&positions, &positions.narrow(1, 0, 1).zeros_like());
            let parts = joint.view([prompts, tokens, -1, width]).transpose(1, 2);
            let part = |first, count| parts.narrow(1, first, count);
            let turned = [part(0, heads), part(heads, kv_heads)].map(|x| rotation.apply(&x));
            plain.fill(&turned[1], &part(heads + kv_heads, kv_heads));
            let expected = Tensor::cat(&[&turned[0], &turned[1], &part(heads + kv_heads, kv_heads).copy()], 1);

            let own = random(&joint.size(), kind, device);
            own.shallow_clone().copy_(&joint);
            fused::apply_rope(&joint, heads, &rotation, &cache, None).unwrap();
            // The same prompts in rows of their own, behind what is there.
            let rows = (prompts - Tensor::arange(prompts, (Kind::Int64, device))) * copies - 1;
            let other = KvCache::new(prompts * copies, kv_heads, tokens + 5, width, kind, device);
            fused::apply_rope(&own, heads, &rotation, &other, Some(Stretch { rows: &rows, start: 4 })).unwrap();
            assert!(own.equal(&joint));
            for (first, other) in [(cache.whole().0, other.whole().0), (cache.whole().1, other.whole().1)] {
                let found = other.index_select(0, &rows).narrow(2, 4, tokens);
                let expected = first.view([prompts, copies, kv_heads, tokens + 5, width]).select(1, 0);
                assert!(found.equal(&expected.narrow(2, 0, tokens)));
                let written = |x: &Tensor| x.abs().sum(Kind::Float).double_value(&[]);
                assert!(
                    (written(other) * copies as f64 / written(first) - 1.0).abs() < 1e-3,
                    "nothing else is written"
                );
            }
            assert!(apart(cache.whole().0, plain.whole().0) < 8e-3);
            assert!(cache.whole().1.equal(plain.whole().1));
            (parts.copy(), expected)
        });
    }
}

#[test]
fn what_does_not_fit_is_left_to_the_plain_layers() {
    let cpu = Tensor::randn([2, 16], (Kind::Float, Device::Cpu));
    assert!(fused::rms_norm(&cpu, &cpu.i(0), 1e-5).is_none());
    assert!(fused::silu_product(&cpu.to_kind(Kind::BFloat16)).is_none());
    let Some(device) = gpu() else { return };
    let odd = random(&[2, 13], Kind::Half, device);
    assert!(fused::rms_norm(&odd, &odd.i(0), 1e-5).is_none());
    let precise = random(&[2, 16], Kind::Float, device);
    assert!(fused::rms_norm(&precise, &precise.i(0), 1e-5).is_none());
}

#[test]
fn recorded_work_reads_what_its_inputs_hold_now() {
    let nothing = CapturedGraph::capture(Device::Cpu, || Ok(Tensor::zeros([1], (Kind::Float, Device::Cpu)))).unwrap();
    assert!(nothing.is_none());
    let Some(device) = gpu() else { return };
    let input = random(&[64, 64], Kind::Float, device);
    let mut place = input.shallow_clone();
    let (graph, out) = CapturedGraph::capture(device, || Ok(input.matmul(&input).relu() + 1.0)).unwrap().unwrap();
    for _ in 0..3 {
        let new = random(&[64, 64], Kind::Float, device);
        place.copy_(&new);
        graph.replay().unwrap();
        assert!(out.equal(&(new.matmul(&new).relu() + 1.0)));
    }
}

#[test]
fn work_that_fails_while_it_is_recorded_leaves_the_device_in_order() {
    let Some(device) = gpu() else { return };
    let input = random(&[8, 8], Kind::Float, device);
    let mut calls = 0;
    let recorded = CapturedGraph::capture(device, || {
        calls += 1;
        let out = input.matmul(&input);
        anyhow::ensure!(calls < 2, "the second time is the recording");
        Ok(out)
    });
    assert_eq!(recorded.err().unwrap().to_string(), "the second time is the recording");
    let (graph, sum) = CapturedGraph::capture(device, || Ok(&input + 1.0)).unwrap().unwrap();
    graph.replay().unwrap();
    assert!(sum.equal(&(&input + 1.0)));
    assert_eq!(random(&[8, 8], Kind::Float, device).size(), [8, 8], "random numbers are still drawn");
}

/// The embedded denoiser on the GPU in 16 bits, with and without custom kernels, against float32 on the CPU.
#[test]
fn a_denoiser_is_the_same_in_every_way() {
    let Some(device) = gpu() else { return };
    let folder = root().join("experiments/mini/models/mini-sd3/transformer");
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let load = |device, kind| {
        let checkpoint = Checkpoint::open_dir(&folder, "diffusion_pytorch_model").unwrap();
        Mmdit::new(&checkpoint.weights(device, kind), &config).unwrap()
    };
    let precise = load(Device::Cpu, Kind::Float);
    let half = load(device, Kind::BFloat16);
    let side = config.sample_size;
    let latents = random(&[4, config.in_channels, side, side], Kind::Float, Device::Cpu);
    let prompt = random(&[4, 333, config.joint_attention_dim], Kind::Float, Device::Cpu);
    let pooled = random(&[4, config.pooled_projection_dim], Kind::Float, Device::Cpu);
    let times = [980.0, 500.0, 40.0];
    let conditioning = precise.condition(&prompt, &pooled, &times);
    let at = |network: &Mmdit, latents: &Tensor, conditioning: &Conditioning, step| {
        network.forward(latents, &conditioning.context, &conditioning.modulations.get(step))
    };
    let expected: Vec<Tensor> = (0..3).map(|step| at(&precise, &latents, &conditioning, step)).collect();
    let place = latents.to_device(device).to_kind(Kind::BFloat16);
    let draw = || {
        let conditioning = half.condition(&prompt.to_device(device), &pooled.to_device(device), &times);
        (0..3).map(|step| at(&half, &place, &conditioning, step).to_device(Device::Cpu)).collect::<Vec<_>>()
    };
    let ways: [(&str, Vec<Tensor>); 3] =
        [("custom kernels", draw()), ("and cuDNN's attention", with_long_attention(draw)), {
            set_eager(true);
            let plain = draw();
            set_eager(false);
            ("plain", plain)
        }];
    for (name, outs) in &ways {
        let differences: Vec<f64> = outs.iter().zip(&expected).map(|(ours, theirs)| apart(ours, theirs)).collect();
        println!("{name}: {differences:.4?}");
        assert!(differences.iter().all(|difference| *difference < 2e-2), "{name}: {differences:?}");
    }
}
