//! `--precision fp8`: rows in float8 against torch's own (`tests/reference/float8.py`), a whole denoiser against itself in
//! bfloat16 and float32, and what is said and refused.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::error::UsageError;
use toolkit::images::read_text;
use toolkit::models::diffusion::stable_diffusion_3::mmdit::{Config, Mmdit};
use toolkit::models::{load_generator, load_outline};
use toolkit::nn::{AnyLinear, Float8Linear, Float8Rows, LayerInput, Linear, attention, float8_attention};
use toolkit::runtime::{DtypeChoice, Runtime};

use crate::gpu::apart;

const FLOAT8: Runtime = Runtime { device: Device::Cpu, dtype: DtypeChoice::Float8, offline: true };

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

struct Golden(Vec<(String, Tensor)>);

impl Golden {
    fn open() -> Self {
        Self(Tensor::read_safetensors(repository("tests/golden/float8/rows.safetensors")).unwrap())
    }

    fn get(&self, name: &str) -> Tensor {
        self.0.iter().find(|(key, _)| key == name).unwrap().1.shallow_clone()
    }

    /// The bytes and scales are those of torch.
    fn check(&self, name: &str, rows: &Float8Rows) {
        let (values, scales) = rows.parts();
        assert_eq!(values.kind(), Kind::Float8e4m3fn);
        assert!(values.view_dtype(Kind::Uint8).equal(&self.get(&format!("{name}values"))), "{name}");
        assert!(scales.equal(&self.get(&format!("{name}scales"))), "{name}");
    }
}

#[test]
fn rows_are_quantised_as_torch_does() {
    let golden = Golden::open();
    let x = golden.get("x");
    golden.check("", &Float8Rows::of(&x));
    golden.check("weight_", &Float8Rows::of(&golden.get("weight")));
    golden.check("gelu_", &Float8Rows::of_gelu(&x));
    // Of rows that lie apart in memory too, and in any shape.
    let apart_in_memory = Tensor::cat(&[&x, &x], 1).narrow(1, 64, 64);
    golden.check("", &Float8Rows::of(&apart_in_memory));
    let shaped = Float8Rows::of(&x.unsqueeze(1));
    assert_eq!(shaped.size(), [7, 1, 64]);
    // Half of the last of three bits of mantissa, of the row's largest number at most.
    let largest = x.to_kind(Kind::Float).abs().amax([-1i64].as_slice(), true);
    let error = (Float8Rows::of(&x).dequantised() - x.to_kind(Kind::Float)).abs();
    assert!(bool::try_from((error - largest / 28.0).le(0.0).all()).unwrap());
    let hurt = Float8Rows::of(&(x.narrow(0, 0, 1) * f64::NAN)).dequantised();
    assert!(bool::try_from(hurt.isnan().all()).unwrap(), "what is not a number stays so, and is found");
}

#[test]
fn a_layer_multiplies_as_torch_does() {
    let golden = Golden::open();
    let (x, expected) = (golden.get("x"), golden.get("product").to_kind(Kind::BFloat16));
    let layer = || Linear::from_tensors(golden.get("weight"), Some(golden.get("bias")));
    let float8 = Float8Linear::new(layer()).unwrap();
    let ours = float8.forward(&Float8Rows::of(&x));
    assert_eq!((ours.kind(), ours.size()), (Kind::BFloat16, vec![7, 48]));
    // The sums of 64 products in another order, rounded to bfloat16.
    assert!(apart(&ours, &expected) < 1e-4, "{}", apart(&ours, &expected));
    let place = Tensor::zeros([9, 48], (Kind::BFloat16, Device::Cpu));
    float8.forward_into(&Float8Rows::of(&x), &place.narrow(0, 1, 7));
    assert!(place.narrow(0, 1, 7).equal(&ours) && place.narrow(0, 8, 1).abs().max().double_value(&[]) == 0.0);
    let from_bfloat16 = apart(&ours, &golden.get("bfloat16"));
    println!("from bfloat16: {from_bfloat16:.4}");
    assert!((5e-3..5e-2).contains(&from_bfloat16), "{from_bfloat16}");
    // What is quantised already and what is not give the same.
    let any = [AnyLinear::Float8(float8), AnyLinear::Plain(layer())];
    let inputs = [LayerInput::Float8(Float8Rows::of(&x)), LayerInput::Plain(x)];
    assert!(inputs.iter().all(|input| any[0].forward(input).equal(&ours)));
    assert!(any[1].forward(&inputs[1]).equal(&golden.get("bfloat16")));
    assert!(apart(&any[1].forward(&inputs[0]), &expected) < 5e-2);
    let odd = Linear::from_tensors(Tensor::ones([48, 24], (Kind::BFloat16, Device::Cpu)), None);
    assert!(Float8Linear::new(odd).unwrap_err().to_string().contains("multiples of 16"));
}

/// Queries, keys and values [tokens, batch, 3 · heads · width] through plain attention.
fn attend_plainly(qkv: &Tensor, heads: i64) -> Tensor {
    let size = qkv.size();
    let parts = qkv.view([size[0], size[1], 3, heads, -1]).permute([2, 1, 3, 0, 4]);
    let [q, k, v] = [0, 1, 2].map(|part| parts.select(0, part).to_kind(Kind::Float));
    attention(&q, &k, &v, None).permute([2, 0, 1, 3]).reshape([size[0], size[1], -1])
}

#[test]
fn attention_in_float8_is_near_itself() {
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    for (tokens, batch, heads, width, sharp) in
        [(1, 1, 1, 64, 1.0), (77, 2, 3, 64, 1.0), (300, 2, 2, 32, 4.0), (517, 1, 2, 64, 30.0)]
    {
        let qkv = random(&[tokens, batch, 3, heads * width]);
        let _ = qkv.select(2, 0).g_mul_scalar_(sharp);
        let qkv = qkv.view([tokens, batch, -1]);
        for kind in [Kind::Float, Kind::BFloat16] {
            let ours = float8_attention(&qkv.to_kind(kind), heads).unwrap();
            assert_eq!((ours.kind(), ours.size()), (kind, vec![tokens, batch, heads * width]));
            let difference = apart(&ours, &attend_plainly(&qkv, heads));
            println!("{tokens} × {batch} × {heads} × {width}, {sharp}: {difference:.4}");
            // Scores that are far apart move by as much as a number of three bits does.
            let most = if sharp > 10.0 { 0.35 } else { 0.15 };
            assert!((0.01..most).contains(&difference), "{difference}");
        }
    }
    // Where all keys are alike, each token gets the mean of the values, also beyond a tile and where one tile's values are
    // a thousand times as large.
    let qkv = random(&[300, 1, 3, 64]);
    qkv.select(2, 1).copy_(&qkv.select(2, 1).narrow(0, 0, 1).expand([300, 1, 64], false));
    for factor in [1.0, 1000.0] {
        let _ = qkv.narrow(0, 128, 128).select(2, 2).g_mul_scalar_(factor);
        let qkv = qkv.view([300, 1, -1]);
        assert!(apart(&float8_attention(&qkv, 1).unwrap(), &attend_plainly(&qkv, 1)) < 0.05);
    }
    // Zeros have a scale; what is not a number stays so, where it is.
    let qkv = Tensor::zeros([5, 1, 3 * 64], (Kind::BFloat16, Device::Cpu));
    assert_eq!(float8_attention(&qkv, 1).unwrap().abs().max().double_value(&[]), 0.0);
    let _ = qkv.narrow(0, 2, 1).narrow(2, 0, 1).fill_(f64::NAN);
    let hurt = float8_attention(&qkv, 1).unwrap().isnan().any_dim(-1, false).view(-1);
    assert_eq!(Vec::<bool>::try_from(hurt).unwrap(), [false, false, true, false, false]);
}

/// The embedded denoiser: what float8 loses is some times what bfloat16 does.
#[test]
fn a_denoiser_in_float8_is_near_itself() {
    let _guard = tch::no_grad_guard();
    for folder in ["experiments/mini/models/mini-sd3", "tests/golden/sd3/like_sd35"] {
        let folder = repository(folder).join("transformer");
        let config: Config = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let side = config.sample_size;
        let latents = random(&[2, config.in_channels, side, side]);
        let (prompt, pooled) =
            (random(&[2, 40, config.joint_attention_dim]), random(&[2, config.pooled_projection_dim]));
        let draw = |kind: Kind, float8: bool| {
            let checkpoint = Checkpoint::open_dir(&folder, "diffusion_pytorch_model").unwrap();
            let weights = checkpoint.weights(Device::Cpu, kind).in_float8(float8);
            let network = weights.build(|weights| Mmdit::new(weights, &config)).unwrap();
            let conditioning = network.condition(&prompt, &pooled, &[900.0, 300.0]);
            let step = |at| {
                let modulations = conditioning.modulations.get(at);
                network.forward(&latents.to_kind(kind), &conditioning.context, &modulations).to_kind(Kind::Float)
            };
            Tensor::stack(&[step(0), step(1)], 0)
        };
        let (exact, half, float8) = (draw(Kind::Float, false), draw(Kind::BFloat16, false), draw(Kind::BFloat16, true));
        let [of_half, of_float8] = [&half, &float8].map(|out| apart(out, &exact));
        println!("{}: bfloat16 {of_half:.4}, float8 {of_float8:.4}", folder.display());
        assert!(of_half < 0.03 && of_float8 < 0.15, "{of_half} {of_float8}");
        assert!(of_float8 > of_half, "float8 is computed in");
    }
}

#[test]
fn what_has_no_layers_in_float8_is_refused() {
    let golden = |path: &str| repository("tests/golden").join(path).display().to_string();
    for (model, words) in [
        (golden("sd15/like_v1"), "is for sd3-medium, sd3.5-medium, sd3.5-large"),
        ("mini-sd-v1-5".to_string(), "mini-sd-v1-5 is a Stable Diffusion"),
    ] {
        let errors = [load_outline(&model, &FLOAT8).map(drop), load_generator(&model, &FLOAT8).map(drop)];
        for error in errors.map(Result::unwrap_err) {
            assert!(error.is::<UsageError>() && format!("{error:#}").contains(words), "{error:#}");
        }
    }
    let error = load_generator(&golden("sd3/without_t5"), &FLOAT8).map(drop).unwrap_err();
    assert!(error.is::<UsageError>() && format!("{error:#}").contains("this one is 24 wide"), "{error:#}");
}

/// Exit status and stderr.
fn toolkit(arguments: &[&str], folder: &Path) -> (i32, String) {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    command.args(arguments).current_dir(folder).env("HF_HOME", folder.join("nothing")).env_remove("TOOLKIT_HOME");
    let output = command.output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_picture_says_that_it_was_drawn_in_float8() {
    let dir = tempfile::tempdir().unwrap();
    let draw = |out: &str, more: &[&str]| {
        let model = ["--device", "cpu", "stylize", "--model", "mini-sd3", "--prompt", "a woman, ink", "--steps", "3"];
        toolkit(&[&model[..], &["--out", out], more].concat(), dir.path())
    };
    let said = |file: &str| -> Value {
        serde_json::from_str(&read_text(&dir.path().join(file), "toolkit").unwrap().unwrap()).unwrap()
    };
    let read = |file: &str| fs::read(dir.path().join(file)).unwrap();
    let (status, stderr) = draw("a.png", &["--precision", "fp8"]);
    assert!(status == 0 && stderr.contains("imitated on the CPU") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!((said("a.png")["dtype"].as_str(), draw("b.png", &["--dtype", "bfloat16"]).0), (Some("fp8"), 0));
    assert_eq!(said("b.png")["dtype"], "bfloat16");
    let pixels = |file: &str| toolkit::images::load(dir.path().join(file)).unwrap();
    assert_ne!(pixels("a.png"), pixels("b.png"));
    // Again as it was, unless another number type is asked for.
    let again = |out: &str, more: &[&str]| {
        let (status, stderr) =
            toolkit(&[&["--device", "cpu", "stylize", "--from", "a.png", "--out", out], more].concat(), dir.path());
        assert_eq!(status, 0, "{stderr}");
        stderr
    };
    again("c.png", &[]);
    assert_eq!(read("a.png"), read("c.png"), "byte for byte");
    assert!(again("d.png", &["--dtype", "bfloat16"]).contains("number type differs: fp8 then, bfloat16 now"));
    assert_eq!(pixels("b.png"), pixels("d.png"));
}

/// Workers draw in float8 too, and the manifest says it.
#[test]
fn a_run_says_that_it_was_drawn_in_float8() {
    let dir = tempfile::tempdir().unwrap();
    let run =
        ["experiment", "style_ablation", "--limit", "1", "--out", "run", "--device", "cpu,cpu", "--precision=fp8"];
    let sets = ["--set", "steps=1", "--set", "metrics=[\"lpips\"]"];
    let (status, stderr) = toolkit(&[&run[..], &sets[..]].concat(), dir.path());
    assert!(status == 0 && stderr.contains("on cpu,cpu in fp8"), "{stderr}");
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("run/manifest.json")).unwrap()).unwrap();
    assert_eq!((manifest["dtype"].as_str(), manifest["device"].as_str()), (Some("fp8"), Some("cpu,cpu")));
    let pictures = toolkit::runtime::files_below(&dir.path().join("run/drawn")).unwrap();
    assert!(!pictures.is_empty());
    for picture in pictures {
        let said: Value = serde_json::from_str(&read_text(&picture, "toolkit").unwrap().unwrap()).unwrap();
        assert_eq!(said["dtype"], "fp8", "{}", picture.display());
    }
}

#[test]
fn bench_says_what_it_measured_in() {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    command.args(["bench", "mini-sd3", "--steps", "1", "--repeat", "1", "--device", "cpu", "--precision", "fp8"]);
    let output = command.output().unwrap();
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["dtype"], "fp8");
}

#[test]
fn precision_goes_with_what_draws() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (
            &[
                "--precision",
                "fp8",
                "stylize",
                "--dtype",
                "float16",
                "--model",
                "mini-sd3",
                "--prompt",
                "x",
                "--out",
                "x.png",
            ][..],
            "goes without --dtype",
        ),
        (&["caption", "--precision", "fp8", "--model", "mini-blip", "x.png"], "is for what draws"),
        (&["--precision", "fp8", "evaluate", "lpips", "--content", "a", "--stylized", "b"], "is for what draws"),
        (&["bench", "mini-blip", "--precision", "fp8"], "is for sd3-medium"),
        (&["bench", "artfid", "--random-weights", "--precision", "fp8"], "is for sd3-medium"),
        (&["bench", "pictures", "--precision", "fp8"], "is for models that draw"),
        (&["experiment", "caption_benchmark", "--precision", "fp8", "--dry-run"], "draws nothing"),
        (&["experiment", "img2img_ablation", "--precision", "fp8", "--out", "run"], "is for sd3-medium"),
        (
            &["stylize", "--precision", "fp16", "--model", "mini-sd3", "--prompt", "x", "--out", "x.png"],
            "possible values: fp8",
        ),
    ] {
        let (status, stderr) = toolkit(arguments, dir.path());
        assert!(status == 2 && stderr.contains(words), "{arguments:?}: {status} {stderr}");
    }
}
