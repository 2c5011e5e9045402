//! BLIP on a GPU: recorded steps against plain ones, half precision against float32, and its custom kernels
//! against the same arithmetic in float32. On a machine without a GPU each test says so.

use std::path::PathBuf;

use crate::common::{apart, compare, gpu, is_affordable, random, root, wide};
use image::RgbImage;
use tch::{Device, IndexOp, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::models::captioners::blip::{Blip, Config, Networks};
use toolkit::models::captioners::generation::StepModel;
use toolkit::models::{CaptionOptions, Captioner};
use toolkit::nn::KvCache;
use toolkit::nn::fused::{self, Epilogue, skinny_gemm};
use toolkit::runtime::{DtypeChoice, Runtime, eager};

#[test]
fn layer_norms_of_sums() {
    let Some(device) = gpu() else { return };
    // What is added may repeat over the batch, as positions do.
    for (shape, added) in [
        (vec![64, 1, 768], vec![64, 1, 768]),
        (vec![2, 577, 768], vec![1, 577, 768]),
        (vec![3, 1, 24], vec![1, 24]),
        (vec![1, 5, 1280], vec![5, 1280]),
        (vec![3, 341, 1024], vec![3, 341, 1024]),
        (vec![1030, 320], vec![1030, 320]),
    ] {
        let size = *shape.last().unwrap();
        compare(&format!("layer norm of a sum {shape:?}"), device, |kind, device| {
            // A mean far from zero loses digits where squares are summed carelessly.
            let (x, y) = (random(&shape, kind, device) + 2.0, random(&added, kind, device));
            let (weight, bias) = (random(&[size], kind, device), random(&[size], kind, device));
            let norm = |x: &Tensor| x.layer_norm([size], Some(&wide(&weight)), Some(&wide(&bias)), 1e-5, false);
            let (sum, normed) = fused::add_layer_norm(&x, &y, &weight, &bias, 1e-5).unwrap();
            assert!(sum.equal(&(&x + &y)));
            assert!(apart(&normed, &norm(&wide(&sum))) < 5e-3);
            assert!(apart(&fused::layer_norm(&x, &weight, &bias, 1e-5).unwrap(), &norm(&wide(&x))) < 8e-3);
            (fused::layer_norm_of_sum(&x, &y, &weight, &bias, 1e-5).unwrap(), norm(&(wide(&x) + wide(&y))))
        });
    }
    let (x, y) = (random(&[2, 16], Kind::Half, device), random(&[3, 16], Kind::Half, device));
    assert!(fused::layer_norm_of_sum(&x, &y, &x.i(0), &x.i(0), 1e-5).is_none(), "two rows and three");
    let long = random(&[2, 1288], Kind::Half, device);
    assert!(fused::layer_norm(&long, &long.i(0), &long.i(0), 1e-5).is_none(), "more than the threads take");
}

#[test]
fn linear_layers_over_few_rows_with_a_gelu() {
    let Some(device) = gpu() else { return };
    for (rows, inputs, outputs) in [(1, 768, 3072), (8, 96, 9000), (3, 24, 40)] {
        compare(&format!("{rows} rows, {inputs} to {outputs}, GELU"), device, |kind, device| {
            let x = random(&[rows, 1, inputs], kind, device);
            let weight = random(&[outputs, inputs], kind, device) / (inputs as f64).sqrt();
            let bias = random(&[outputs], kind, device);
            let epilogue = Epilogue { gelu: true, ..Epilogue::default() };
            let theirs = wide(&x).linear(&wide(&weight), Some(&wide(&bias))).gelu("none");
            (skinny_gemm(&x, &weight, Some(&bias), &epilogue).unwrap(), theirs)
        });
    }
}

/// Attention in float32, heads first.
fn plainly(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let scores = wide(q).matmul(&wide(k).transpose(2, 3)) / (q.size()[3] as f64).sqrt();
    scores.softmax(-1, Kind::Float).matmul(&wide(v))
}

#[test]
fn attention_of_one_token_to_its_text() {
    let Some(device) = gpu() else { return };
    for (rows, heads, width, capacity, place) in
        [(1, 12, 64, 64, 0), (64, 12, 64, 64, 21), (3, 4, 24, 40, 39), (2, 3, 8, 700, 650), (2, 2, 128, 70, 33)]
    {
        if !is_affordable(rows * heads * width * capacity) {
            continue;
        }
        compare(&format!("to a text, {rows} rows, {width} wide"), device, |kind, device| {
            let cache = KvCache::new(rows, heads, capacity, width, kind, device);
            let (keys, values) = cache.whole();
            keys.shallow_clone().copy_(&random(&keys.size(), kind, device));
            values.shallow_clone().copy_(&random(&values.size(), kind, device));
            let joint = random(&[rows, 1, 3 * heads * width], kind, device);
            let slot = Tensor::full([1], place, (Kind::Int64, device));
            let ours = fused::attend_to_text(&joint, &cache, &slot).unwrap();

            let parts = joint.view([rows, 1, 3 * heads, width]).transpose(1, 2);
            let part = |n: i64| parts.narrow(1, n * heads, heads);
            let (keys, values) = cache.filled(place + 1);
            assert!(keys.narrow(2, place, 1).equal(&part(1)) && values.narrow(2, place, 1).equal(&part(2)));
            let theirs = plainly(&part(0), &keys, &values);
            (ours, theirs.transpose(1, 2).reshape([rows, 1, heads * width]))
        });
    }
}

#[test]
fn attention_of_one_token_to_a_picture() {
    let Some(device) = gpu() else { return };
    for (pictures, copies, heads, width, places) in [
        (1, 1, 12, 64, 577),
        (12, 1, 12, 64, 577),
        (20, 1, 12, 64, 577),
        (64, 1, 12, 64, 577),
        (2, 3, 4, 24, 145),
        (3, 2, 3, 8, 17),
        (1, 4, 2, 128, 1),
        (5, 1, 8, 256, 300),
    ] {
        if !is_affordable(pictures * heads * width * places) {
            continue;
        }
        compare(&format!("to a picture, {pictures} · {copies} rows, {width} wide"), device, |kind, device| {
            // As one matrix product gives them: [pictures, places, 2 · heads · width].
            let joint = random(&[pictures, places, 2 * heads, width], kind, device).transpose(1, 2);
            let (keys, values) = (joint.narrow(1, 0, heads), joint.narrow(1, heads, heads));
            let rows = pictures * copies;
            let queries = random(&[rows, 1, heads * width], kind, device) * 2.0;
            let ours = fused::attend_to_all(&queries, &keys, &values).unwrap();
            let q = queries.view([pictures, copies, heads, width]).transpose(1, 2);
            (ours, plainly(&q, &keys, &values).transpose(1, 2).reshape([rows, 1, heads * width]))
        });
    }
}

/// The checkpoints: folder, its pictures.
fn checkpoints() -> Vec<(PathBuf, Vec<RgbImage>)> {
    let load = |paths: Vec<PathBuf>| paths.iter().map(|path| toolkit::images::load(path).unwrap()).collect();
    let golden = root().join("tests/golden/blip");
    let mini = root().join("experiments/mini");
    let small: Vec<RgbImage> = load((0..3).map(|n| golden.join(format!("{n}.png"))).collect());
    let photos = load((1..=5).map(|n| mini.join(format!("photos/face-00{n}.png"))).collect());
    vec![(golden.join("a"), small.clone()), (golden.join("b"), small), (mini.join("models/mini-blip"), photos)]
}

fn blip(folder: &std::path::Path, device: Device, dtype: DtypeChoice) -> Blip {
    Blip::load(folder, &Runtime { device, dtype, offline: true }).unwrap()
}

fn texts(model: &Blip, pictures: &[RgbImage], options: &CaptionOptions) -> Vec<String> {
    model.caption(pictures, options).unwrap().into_iter().map(|caption| caption.text).collect()
}

/// Prompts that are read by recorded steps and as a whole, batches of one size and others in between, greedy
/// and with beams: whatever was kept of the batch before, the texts are those of the CPU.
#[test]
fn recorded_steps_give_the_texts_of_plain_ones_and_of_the_cpu() {
    let Some(device) = gpu() else { return };
    let long = "a picture of the two men and the picture of the men and a man";
    for (folder, pictures) in checkpoints() {
        let [cpu, gpu] = [Device::Cpu, device].map(|device| blip(&folder, device, DtypeChoice::Float32));
        for (num_beams, prompt) in [(1, None), (1, Some("a picture of")), (1, Some(long)), (3, None), (3, Some(long))] {
            let prompt = prompt.map(str::to_string);
            for (count, max_new_tokens) in [(3, 12), (3, 9), (1, 12), (2, 12), (3, 12)] {
                let options =
                    CaptionOptions { prompt: prompt.clone(), max_new_tokens: Some(max_new_tokens), num_beams };
                let pictures = &pictures[pictures.len() - count..];
                let about = format!("{}: {count} pictures, {num_beams} beams, {prompt:?}", folder.display());
                let expected = texts(&cpu, pictures, &options);
                assert_eq!(texts(&gpu, pictures, &options), expected, "{about}");
                assert_eq!(eager(|| texts(&gpu, pictures, &options)), expected, "{about}, plain");
            }
        }
    }
}

/// In 16 bits a trained model says what it says in float32, recorded and plainly.
#[test]
fn a_trained_model_says_the_same_in_16_bits() {
    let Some(device) = gpu() else { return };
    let (folder, pictures) = checkpoints().remove(2);
    let options = CaptionOptions { max_new_tokens: Some(20), num_beams: 1, prompt: None };
    let expected = texts(&blip(&folder, Device::Cpu, DtypeChoice::Float32), &pictures, &options);
    let half = blip(&folder, device, DtypeChoice::Float16);
    for round in 0..3 {
        assert_eq!(texts(&half, &pictures, &options), expected, "round {round}");
    }
    assert_eq!(eager(|| texts(&half, &pictures, &options)), expected, "plain");
}

/// Scores of every step, custom kernels and recording included, against float32 on the CPU.
#[test]
fn scores_in_16_bits_are_those_of_float32() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    for (folder, pictures) in checkpoints() {
        let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let load = |device, kind| {
            Networks::new(&Checkpoint::open_dir(&folder, "model").unwrap().weights(device, kind), &config).unwrap()
        };
        let (precise, half) = (load(Device::Cpu, Kind::Float), load(device, Kind::Half));
        let pixels = blip(&folder, Device::Cpu, DtypeChoice::Float32).pixels(&pictures);
        let place = pixels.to_device(device).to_kind(Kind::Half);
        let rows = pictures.len() as i64;
        let prompt = [config.text_config.bos_token_id, 5];
        // The same tokens for all, whatever the scores say.
        let scores = |networks: &Networks, pixels: &Tensor, copies: i64| {
            let mut session = networks.session(pixels, &prompt, 12);
            let mut all = vec![session.start(copies).unwrap().to_device(Device::Cpu)];
            for step in 0..10 {
                let tokens = (Tensor::arange(rows * copies, (Kind::Int64, pixels.device())) + step) * 3;
                let tokens = tokens.remainder(40) + 4;
                all.push(session.step(&tokens).unwrap().to_device(Device::Cpu));
            }
            Tensor::stack(&all, 0)
        };
        for copies in [1, 3] {
            let expected = scores(&precise, &pixels, copies);
            let recorded = scores(&half, &place, copies);
            let again = scores(&half, &place, copies);
            assert!(again.equal(&recorded), "what was recorded gives the same each time");
            let plain = eager(|| scores(&half, &place, copies));
            for (name, scores) in [("recorded", recorded), ("plain", plain)] {
                let difference = apart(&scores, &expected);
                println!("{}, {copies} texts a picture, {name}: {difference:.1e}", folder.display());
                assert!(difference < 1e-2, "{name}: {difference:.1e}");
            }
        }
    }
}
