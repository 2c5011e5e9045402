//! Linear layers over few rows on the GPU, with what is computed around them, against float32. On a
//! machine without a GPU there is nothing to compare, and each test says so.

use std::time::Instant;

use crate::common::{gpu, is_affordable, random};
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Weights;
use toolkit::nn::fused::{self, Epilogue, SKINNY_ROWS, skinny_gemm};
use toolkit::nn::{Linear, RmsNorm};
use toolkit::runtime::{CapturedGraph, eager};

/// Outputs are rounded once, to these parts of themselves; a normed input is rounded before as well.
const PRECISION: [(Kind, f64); 2] = [(Kind::Half, 1e-3), (Kind::BFloat16, 4e-3)];

fn wide(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Double)
}

/// ‖ours − theirs‖ / ‖theirs‖
fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let theirs = wide(theirs);
    (wide(ours) - &theirs).norm().double_value(&[]) / theirs.norm().double_value(&[])
}

/// What a layer is made of.
struct Case {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    factors: Tensor,
    added: Tensor,
}

impl Case {
    fn new(rows: i64, inputs: i64, outputs: i64, gated: bool, kind: Kind, device: Device) -> Self {
        let weight_rows = if gated { 2 * outputs } else { outputs };
        Self {
            x: random(&[rows, inputs], kind, device),
            weight: random(&[weight_rows, inputs], kind, device) / (inputs as f64).sqrt(),
            bias: random(&[weight_rows], kind, device),
            factors: random(&[inputs], kind, device),
            added: random(&[rows, outputs], kind, device),
        }
    }

    fn ours(&self, with_bias: bool, epilogue: &Epilogue) -> Tensor {
        skinny_gemm(&self.x, &self.weight, with_bias.then_some(&self.bias), epilogue).expect("this fits")
    }

    fn theirs(&self, with_bias: bool, epilogue: &Epilogue) -> Tensor {
        let mut x = wide(&self.x);
        if let Some((factors, eps)) = epilogue.norm {
            let mean_square = x.square().mean_dim([-1i64].as_slice(), true, Kind::Double);
            x = x * (mean_square + eps).rsqrt() * wide(factors);
        }
        let mut out = x.matmul(&wide(&self.weight).tr());
        if with_bias {
            out += wide(&self.bias);
        }
        if epilogue.gated {
            let halves = out.chunk(2, -1);
            out = halves[0].silu() * &halves[1];
        }
        epilogue.added.map_or(out.shallow_clone(), |added| out + wide(added))
    }
}

#[test]
fn every_number_of_rows_and_odd_sizes() {
    let Some(device) = gpu() else { return };
    let sizes =
        [(32, 17), (8, 1), (64, 100), (200, 33), (1096, 16), (3072, 3072), (3072, 5120), (8192, 100), (3080, 9000)];
    for (kind, precision) in PRECISION {
        for (inputs, outputs) in sizes {
            if !is_affordable(inputs * outputs) {
                continue;
            }
            for rows in 1..=SKINNY_ROWS {
                let case = Case::new(rows, inputs, outputs, false, kind, device);
                for (with_bias, added) in [(false, None), (true, Some(&case.added))] {
                    let epilogue = Epilogue { added, ..Epilogue::default() };
                    let ours = case.ours(with_bias, &epilogue);
                    let difference = apart(&ours, &case.theirs(with_bias, &epilogue));
                    assert!(difference < precision, "{rows} × {inputs} → {outputs}, {kind:?}: {difference:.1e}");
                    assert!(ours.equal(&case.ours(with_bias, &epilogue)), "the same again");
                }
            }
        }
    }
}

#[test]
fn the_norm_before_and_the_gate_after() {
    let Some(device) = gpu() else { return };
    for (kind, precision) in PRECISION {
        for (inputs, outputs) in [(32, 17), (200, 100), (3072, 8192), (1096, 31)] {
            if !is_affordable(inputs * outputs) {
                continue;
            }
            for rows in 1..=SKINNY_ROWS {
                for (gated, normed) in [(true, false), (true, true), (false, true)] {
                    if normed && kind == Kind::Half {
                        continue;
                    }
                    let case = Case::new(rows, inputs, outputs, gated, kind, device);
                    let epilogue = Epilogue {
                        norm: normed.then_some((&case.factors, 1e-5)),
                        added: normed.then_some(&case.added),
                        gated,
                        ..Epilogue::default()
                    };
                    let ours = case.ours(normed, &epilogue);
                    let difference = apart(&ours, &case.theirs(normed, &epilogue));
                    assert!(difference < precision, "{rows} × {inputs} → {outputs}, {kind:?}: {difference:.1e}");
                    assert!(ours.equal(&case.ours(normed, &epilogue)), "the same again");
                }
            }
        }
    }
}

/// A chain of layers in which each kernel starts while the one before it still runs gives the same
/// as one after another, also recorded, many times over.
#[test]
fn layers_that_overlap_wait_for_each_other() {
    let Some(device) = gpu() else { return };
    // Under a tool that takes a thousand times as long: few layers, small ones, and few replays.
    let [width, inner, layers, replays] =
        if is_affordable(1536 * 4096) { [1536, 4096, 6, 50] } else { [256, 512, 2, 2] };
    let rows = 3;
    let weights: Vec<_> = (0..layers)
        .map(|_| {
            let up = random(&[2 * inner, width], Kind::BFloat16, device) / (width as f64).sqrt();
            let down = random(&[width, inner], Kind::BFloat16, device) / (inner as f64).sqrt();
            (up, down)
        })
        .collect();
    let factors = random(&[width], Kind::BFloat16, device);
    let x = random(&[rows, 1, width], Kind::BFloat16, device);
    let chain = || {
        weights.iter().fold(x.shallow_clone(), |x, (up, down)| {
            let gate = Epilogue { norm: Some((&factors, 1e-5)), gated: true, ..Epilogue::default() };
            let inner = skinny_gemm(&x, up, None, &gate).unwrap();
            skinny_gemm(&inner, down, None, &Epilogue { added: Some(&x), ..Epilogue::default() }).unwrap()
        })
    };
    let expected = chain();
    tch::Cuda::synchronize(0);
    let (graph, out) = CapturedGraph::capture(device, || Ok(fused::with_dependent_launch(chain))).unwrap().unwrap();
    for _ in 0..replays {
        let _ = out.shallow_clone().zero_();
        graph.replay().unwrap();
        assert!(out.equal(&expected));
        assert!(fused::with_dependent_launch(chain).equal(&expected));
    }
}

#[test]
fn linear_layers_use_it_and_leave_what_does_not_fit() {
    let cpu = random(&[2, 16], Kind::BFloat16, Device::Cpu);
    assert!(skinny_gemm(&cpu, &cpu, None, &Epilogue::default()).is_none());
    let Some(device) = gpu() else { return };
    let weights = Weights::random(device, Kind::BFloat16);
    let norm = RmsNorm::new(&weights.at("norm"), 512, 1e-5).unwrap();
    let linear = Linear::new(&weights.at("linear"), 512, 192).unwrap();
    for rows in [1, 8, 9, 40] {
        let (x, added) =
            (random(&[rows, 1, 512], Kind::BFloat16, device), random(&[rows, 1, 192], Kind::BFloat16, device));
        let all = || {
            [
                linear.forward(&x),
                linear.forward_normed(&x, &norm),
                linear.forward_added(&x, &added),
                linear.forward_normed_gated(&x, &norm),
            ]
        };
        for (ours, plain) in all().iter().zip(eager(all)) {
            // The plain way rounds after each of its parts.
            assert!(apart(ours, &plain) < 1.5e-2, "{rows} rows: {:.1e}", apart(ours, &plain));
        }
    }
    let fits = |x: &Tensor, weight: &Tensor| skinny_gemm(x, weight, None, &Epilogue::default()).is_some();
    let (x, weight) = (random(&[2, 64], Kind::Half, device), random(&[3, 64], Kind::Half, device));
    assert!(fits(&x, &weight));
    assert!(!fits(&x.transpose(0, 1), &random(&[3, 2], Kind::Half, device)), "not contiguous");
    assert!(!fits(&x, &weight.to_kind(Kind::BFloat16)), "two types");
    assert!(!fits(&x.flatten(0, 1).narrow(0, 4, 64), &weight), "not at a multiple of 16 bytes");
    assert!(!fits(&random(&[9, 64], Kind::Half, device), &weight), "too many rows");
    assert!(!fits(&random(&[2, 12], Kind::Half, device), &random(&[3, 12], Kind::Half, device)), "not eight by eight");
    let normed = Epilogue { norm: Some((&weight.get(0), 1e-5)), ..Epilogue::default() };
    assert!(skinny_gemm(&x, &weight, None, &normed).is_none(), "a norm in float16");
}

/// `cargo test --release --test gpu skinny_gemm -- --ignored --nocapture`: what the layers of Phi-4-mini reach.
#[test]
#[ignore = "measures"]
fn speed() {
    let Some(device) = gpu() else { return };
    let kind = Kind::BFloat16;
    for (name, inputs, outputs, gated) in [
        ("qkv_proj", 3072, 5120, false),
        ("o_proj", 3072, 3072, false),
        ("gate_up_proj", 3072, 8192, true),
        ("down_proj", 8192, 3072, false),
        ("lm_head", 3072, 200_064, false),
    ] {
        for rows in [1, 6, 8] {
            // Different weights one after another, more than the cache holds.
            let bytes = inputs * outputs * if gated { 4 } else { 2 };
            let cases: Vec<_> =
                (0..(400 << 20) / bytes + 2).map(|_| Case::new(rows, inputs, outputs, gated, kind, device)).collect();
            for own in [true, false] {
                let work = |case: &Case| match own {
                    true => case.ours(false, &Epilogue { gated, ..Epilogue::default() }),
                    false => case.x.matmul(&case.weight.tr()),
                };
                let all = || Ok(fused::with_dependent_launch(|| cases.iter().map(work).collect::<Vec<_>>()));
                let (graph, _out) = CapturedGraph::capture(device, all).unwrap().unwrap();
                graph.replay().unwrap();
                tch::Cuda::synchronize(0);
                let start = Instant::now();
                (0..10).for_each(|_| graph.replay().unwrap());
                tch::Cuda::synchronize(0);
                let seconds = start.elapsed().as_secs_f64() / (10 * cases.len()) as f64;
                println!(
                    "{name:14}{rows} rows, {:6}{:7.1} µs {:5.2} TB/s",
                    if own { "own" } else { "plain" },
                    seconds * 1e6,
                    bytes as f64 / seconds / 1e12
                );
            }
        }
    }
}
