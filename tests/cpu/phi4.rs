//! Phi-4-multimodal against transformers: values made by `tests/reference/phi4.py`.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::models::captioners::phi4_multimodal::Phi4Multimodal;
use toolkit::models::captioners::phi4_multimodal::config::{Layout, VisionConfig};
use toolkit::models::captioners::phi4_multimodal::image_processor::ImageProcessor;
use toolkit::models::captioners::phi4_multimodal::stream::Question;
use toolkit::models::captioners::phi4_multimodal::vision::Valid;
use toolkit::models::{CaptionOptions, Captioner};
use toolkit::runtime::{DtypeChoice, Runtime};

/// Float32 on both sides: sums in another order, over widths of at most 64 and 4 layers.
const HIDDEN: f64 = 1e-4;
const LAYOUTS: [(&str, Layout); 2] = [("native", Layout::Native), ("original", Layout::Original)];

#[derive(Deserialize)]
struct Texts {
    question: String,
    sizes: Vec<(u32, u32)>,
    counts: Vec<i64>,
    single: Vec<Answer>,
    batch: Vec<Answer>,
    beams: Vec<Answer>,
    switch: Vec<Switch>,
    window: Window,
}

#[derive(Deserialize)]
struct Window {
    size: i64,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    ids: Vec<i64>,
    text: String,
}

#[derive(Deserialize)]
struct Switch {
    limit: i64,
    beams: usize,
    ids: Vec<i64>,
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/phi4").join(path)
}

fn values(path: &str) -> toolkit::checkpoints::Weights {
    Checkpoint::open(&[golden(path)]).unwrap().weights(Device::Cpu, Kind::Float)
}

fn value(values: &toolkit::checkpoints::Weights, name: &str) -> Tensor {
    values.get(name, &values.shape(name).unwrap_or_else(|| panic!("no {name}"))).unwrap()
}

fn runtime() -> Runtime {
    Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true }
}

/// A model folder as a user has it; the two layouts share one tokenizer here.
fn model_folder(case: &str, layout: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_all(&golden(&format!("{case}/{layout}")), folder.path());
    std::fs::copy(golden(&format!("{case}/tokenizer.json")), folder.path().join("tokenizer.json")).unwrap();
    folder
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn load(case: &str, layout: &str) -> (Phi4Multimodal, Texts) {
    let model = Phi4Multimodal::load(model_folder(case, layout).path(), &runtime()).unwrap();
    let texts = std::fs::read_to_string(golden(&format!("{case}/texts.json"))).unwrap();
    (model, serde_json::from_str(&texts).unwrap())
}

/// The picture of the same name in the script.
fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let red = x * 255 / (width - 1).max(1) + seed * 37;
        let green = y * 255 / (height - 1).max(1) + (x / 16 + y / 16) % 2 * 90 + seed * 11;
        let blue = x * y / 97 + seed * 71;
        Rgb([red as u8, green as u8, blue as u8])
    })
}

fn pictures(texts: &Texts) -> Vec<RgbImage> {
    texts.sizes.iter().zip(0..).map(|(&(width, height), seed)| picture(width, height, seed)).collect()
}

fn options(texts: &Texts, max_new_tokens: usize, num_beams: usize) -> CaptionOptions {
    CaptionOptions { prompt: Some(texts.question.clone()), max_new_tokens: Some(max_new_tokens), num_beams }
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// Every `step`-th row of axis 1 or 0.
fn every(x: &Tensor, axis: i64, step: i64) -> Tensor {
    x.slice(axis, None, None, step)
}

#[test]
fn features_tokens_and_logits_are_those_of_the_reference() {
    let _guard = tch::no_grad_guard();
    for case in ["a", "b"] {
        let golden = values(&format!("{case}/values.safetensors"));
        for (layout, kind) in LAYOUTS {
            let (model, texts) = load(case, layout);
            // The layouts resize pictures differently, which is not what is asked here: both get the
            // native crops.
            let vision = &model.network.config.vision;
            let processor = ImageProcessor::new(vision, Layout::Native);
            assert_eq!(model.network.config.layout, kind);
            for (i, picture) in pictures(&texts).iter().enumerate() {
                let crops = [processor.process(picture).unwrap()];
                let features = model.network.features(&crops);
                let used = used_patches(&crops[0].shape.valid_of_crops(), vision.grid());
                let tokens = &model.network.image_tokens(&crops)[0];
                let logits = first_logits(&model, &crops, &texts.question);
                assert_eq!(tokens.size()[0], texts.counts[i]);
                let distances = [
                    distance(
                        &every(&features, 1, 211),
                        &(value(&golden, &format!("feature.{i}")) * every(&used, 1, 211)),
                    ),
                    distance(&every(tokens, 0, 17), &value(&golden, &format!("tokens.{i}"))),
                    distance(&logits, &value(&golden, &format!("logits.{i}"))),
                ];
                println!("{case} {layout} {i}: features, tokens, logits differ by {distances:?}");
                assert!(distances.iter().all(|distance| *distance < HIDDEN), "{case} {layout} {i}: {distances:?}");
            }
            let crops: Vec<_> = pictures(&texts).iter().map(|picture| processor.process(picture).unwrap()).collect();
            let logits = first_logits(&model, &crops, &texts.question);
            assert!(distance(&logits, &value(&golden, "logits.batch")) < HIDDEN);
        }
    }
}

/// 1 where something is made of a crop's patch, which is then pooled with its neighbours, 2 × 2: [crops, patches, 1].
fn used_patches(valid: &[Valid], grid: i64) -> Tensor {
    let used = Tensor::zeros([valid.len() as i64, grid, grid], (Kind::Float, Device::Cpu));
    for (crop, valid) in (0..).zip(valid).filter(|(_, valid)| valid.rows * valid.columns > 0) {
        let [rows, columns] = [valid.rows, valid.columns].map(|count| count + count % 2);
        let _ = used.select(0, crop).narrow(0, 0, rows).narrow(1, 0, columns).fill_(1.0);
    }
    used.view([valid.len() as i64, -1, 1])
}

fn first_logits(
    model: &Phi4Multimodal,
    crops: &[toolkit::models::captioners::phi4_multimodal::image_processor::Crops],
    question: &str,
) -> Tensor {
    use toolkit::models::captioners::generation::StepModel;
    use toolkit::models::captioners::phi4_multimodal::session::Session;

    let embedded = model.embed(crops, Some(question)).unwrap();
    let padding = embedded.prompts.padding.clone();
    Session::new(&model.network.decoder, &Default::default(), embedded.tokens, padding, 1).unwrap().start(1).unwrap()
}

#[test]
fn greedy_and_beam_texts_are_those_of_the_reference() {
    for case in ["a", "b"] {
        let (model, texts) = load(case, "native");
        let images = pictures(&texts);
        for (image, expected) in images.iter().zip(&texts.single) {
            let said = model.caption(std::slice::from_ref(image), &options(&texts, 12, 1)).unwrap();
            assert_eq!((&said[0].text, said[0].tokens), (&expected.text, expected.ids.len()), "{case}");
        }
        let together = model.caption(&images, &options(&texts, 12, 1)).unwrap();
        let (said, expected): (Vec<_>, Vec<_>) =
            together.iter().zip(&texts.batch).map(|(said, expected)| (&said.text, &expected.text)).unzip();
        assert_eq!(said, expected, "{case}: a batch of different sizes");
        let beams = model.caption(&images[..texts.beams.len()], &options(&texts, 8, 3)).unwrap();
        for (said, expected) in beams.iter().zip(&texts.beams) {
            assert_eq!((&said.text, said.tokens), (&expected.text, expected.ids.len()), "{case}: beams");
        }
    }
}

#[test]
fn both_layouts_give_the_same_logits() {
    let _guard = tch::no_grad_guard();
    for case in ["a", "b"] {
        let [native, original] = LAYOUTS.map(|(layout, _)| load(case, layout));
        let processor = ImageProcessor::new(&native.0.network.config.vision, Layout::Native);
        let crops = [processor.process(&picture(300, 200, 3)).unwrap()];
        let [a, b] = [&native, &original].map(|(model, texts)| first_logits(model, &crops, &texts.question));
        assert_eq!(distance(&a, &b), 0.0, "{case}");
    }
}

/// The limit of the short factors lies before the end of the prompt, at it, and two tokens after.
#[test]
fn rotary_factors_switch_where_the_text_becomes_long() {
    for case in ["a", "b"] {
        let (_, texts) = load(case, "native");
        let images = pictures(&texts);
        for switch in &texts.switch {
            let folder = model_folder(case, "native");
            let config = folder.path().join("config.json");
            let text = std::fs::read_to_string(&config).unwrap();
            assert!(text.contains("\"original_max_position_embeddings\": 4096"));
            std::fs::write(&config, text.replace("_embeddings\": 4096", &format!("_embeddings\": {}", switch.limit)))
                .unwrap();
            let model = Phi4Multimodal::load(folder.path(), &runtime()).unwrap();
            let ids = |images: &[RgbImage]| {
                let _guard = tch::no_grad_guard();
                let embedded = model.embed(&model.process(images).unwrap(), Some(&texts.question)).unwrap();
                let options = model.generation_options(&options(&texts, 8, switch.beams));
                model.network.generate(embedded, &options).unwrap()
            };
            assert_eq!(ids(&images[..1])[0], switch.ids, "{case}: limit {}, {} beams", switch.limit, switch.beams);
            // Of two different lengths: each row switches at its own place.
            let [first, second] = [0, 4].map(|i| ids(&images[i..=i]).remove(0));
            assert_eq!(ids(&[images[0].clone(), images[4].clone()]), [first, second], "{case}: batch");
        }
    }
}

#[test]
fn a_sliding_window_hides_what_lies_before_it() {
    for case in ["a", "b"] {
        let (_, texts) = load(case, "native");
        let folder = model_folder(case, "native");
        let config = folder.path().join("config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains("\"sliding_window\": null"));
        let window = format!("\"sliding_window\": {}", texts.window.size);
        std::fs::write(&config, text.replace("\"sliding_window\": null", &window)).unwrap();
        let model = Phi4Multimodal::load(folder.path(), &runtime()).unwrap();
        let said = model.caption(&pictures(&texts)[..2], &options(&texts, 8, 1)).unwrap();
        let expected: Vec<&String> = texts.window.answers.iter().map(|answer| &answer.text).collect();
        assert_eq!(said.iter().map(|said| &said.text).collect::<Vec<_>>(), expected, "{case}");
    }
}

/// A checkpoint that was saved with the adapter merged says so in config.json.
#[test]
fn a_merged_checkpoint_needs_no_adapter() {
    let folder = model_folder("a", "native");
    std::fs::remove_dir_all(folder.path().join("vision-lora")).unwrap();
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replacen('{', "{\"vision_lora\": null,", 1)).unwrap();
    let model = Phi4Multimodal::load(folder.path(), &runtime()).unwrap();
    let (whole, texts) = load("a", "native");
    let _guard = tch::no_grad_guard();
    let crops = model.process(&pictures(&texts)[..1]).unwrap();
    let [a, b] = [&model, &whole].map(|model| first_logits(model, &crops, &texts.question));
    assert!(distance(&a, &b) > 1.0, "the adapter is no longer there");
}

/// bfloat16 keeps 8 bits: after few layers the logits, up to 30, stay near those of float32.
#[test]
fn half_the_bits_give_nearly_the_same() {
    let _guard = tch::no_grad_guard();
    for case in ["a", "b"] {
        let (wide, texts) = load(case, "native");
        let narrow = Runtime { dtype: DtypeChoice::Bfloat16, ..runtime() };
        let narrow = Phi4Multimodal::load(model_folder(case, "native").path(), &narrow).unwrap();
        let crops = wide.process(&pictures(&texts)[..2]).unwrap();
        let [a, b] = [&wide, &narrow].map(|model| first_logits(model, &crops, &texts.question).to_kind(Kind::Float));
        let cosine = Tensor::cosine_similarity(&a, &b, 1, 1e-8).min().double_value(&[]);
        println!("{case}: cosine {cosine}, apart {}", distance(&a, &b));
        assert!(cosine > 0.99, "{case}: {cosine}");
    }
}

#[test]
fn a_picture_said_alone_and_in_a_batch_is_the_same_in_the_original_layout() {
    for case in ["a", "b"] {
        let (model, texts) = load(case, "original");
        let images = pictures(&texts);
        for beams in [1, 2] {
            let options = options(&texts, 6, beams);
            let alone: Vec<_> = images
                .iter()
                .map(|image| model.caption(std::slice::from_ref(image), &options).unwrap().remove(0))
                .collect();
            assert_eq!(model.caption(&images, &options).unwrap(), alone);
        }
    }
}

#[test]
fn the_grid_of_crops_is_the_one_that_the_reference_chooses() {
    type Row = (u32, u32, Option<[i64; 4]>);
    let rows: Vec<Row> =
        serde_json::from_str(&std::fs::read_to_string(golden("processor/grids.json")).unwrap()).unwrap();
    assert!(rows.len() > 800);
    let processor = ImageProcessor::new(&VisionConfig::default(), Layout::Native);
    for (width, height, expected) in rows {
        let plan = processor.plan(width, height).ok();
        let found = plan.map(|(shape, w, h)| [shape.columns * 448, shape.rows * 448, w, h]);
        assert_eq!(found, expected, "{width}x{height}");
    }
}

#[test]
fn pixels_are_those_of_the_reference() {
    let golden = values("processor/values.safetensors");
    let sizes = [(37, 53), (178, 218), (451, 101), (500, 375), (640, 427), (448, 448), (1031, 700)];
    for (seed, (width, height)) in (0..).zip(sizes) {
        let get = |what: &str| value(&golden, &format!("{width}x{height}.{what}"));
        let picture = picture(width, height, seed);
        let native = ImageProcessor::new(&VisionConfig::default(), Layout::Native).process(&picture).unwrap();
        let valid: Vec<i64> = native.shape.valid_of_crops().iter().flat_map(|v| [v.rows, v.columns]).collect();
        assert_eq!(Tensor::from_slice(&valid).view([-1, 2]), get("valid"), "{width}x{height}");
        assert_eq!(native.shape.tokens(), get("tokens").int64_value(&[0]), "{width}x{height}");
        // Crops are the same bits; the global view is a float32 bicubic.
        assert!(distance(&native.pixels.narrow(1, 1, 1).narrow(2, 301, 1), &get("lines")) < 1e-6, "{width}x{height}");
        let levels =
            |pixels: &Tensor| (pixels.narrow(0, 1, pixels.size()[0] - 1) * 127.5 + 127.5).round().to_kind(Kind::Int64);
        let sum = levels(&native.pixels).sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Int64);
        assert_eq!(sum, get("levels"), "{width}x{height}");
        // Pillow's filter in place of libtorch's: at most one grey level.
        let original = ImageProcessor::new(&VisionConfig::default(), Layout::Original).process(&picture).unwrap();
        assert_eq!(original.shape, native.shape);
        let apart = (levels(&original.pixels) - levels(&native.pixels)).abs().max().int64_value(&[]);
        assert!(apart <= 1, "{width}x{height}: {apart} grey levels");
    }
}

#[test]
fn what_is_wrong_with_a_folder_is_said_in_one_line() {
    let error = |layout: &str, change: &dyn Fn(&Path)| {
        let folder = model_folder("a", layout);
        change(folder.path());
        format!("{:#}", Phi4Multimodal::load(folder.path(), &runtime()).err().expect("an error"))
    };
    let edit = |file: &'static str, from: &'static str, to: &'static str| {
        move |folder: &Path| {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.contains(from), "{from}");
            std::fs::write(folder.join(file), text.replace(from, to)).unwrap();
        }
    };
    let no_adapter = error("native", &|folder| std::fs::remove_dir_all(folder.join("vision-lora")).unwrap());
    assert!(no_adapter.contains("adapter_config.json") && no_adapter.contains("vision adapter"), "{no_adapter}");
    let rank = error("native", &edit("vision-lora/adapter_config.json", "\"r\": 4", "\"r\": 5"));
    assert!(
        rank.contains("vision-lora/") && rank.contains("o_proj.lora_A.weight [4, 64] instead of [5, 64]"),
        "{rank}"
    );
    let depth = error("original", &edit("config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"));
    assert!(depth.contains("hold 3 layers of the vision tower"), "{depth}");
    let section = error("original", &edit("config.json", "\"vision_lora\"", "\"other\""));
    assert!(section.contains("vision_lora"), "{section}");
    let image = error("original", &edit("tokenizer.json", "<|user|>", "<|person|>"));
    assert!(image.contains("tokenizer.json") && image.contains("<|user|>"), "{image}");
    for part in ["lora_A", "lora_B"] {
        let zero = error("original", &|folder| without_lora(&folder.join("model.safetensors"), part));
        assert!(zero.contains("model.safetensors") && zero.contains("all zeros") && zero.contains(part), "{zero}");
    }
}

/// The embedded model, in the original layout, on photos as a user has them.
#[test]
fn the_mini_model_says_what_the_reference_says() {
    #[derive(Deserialize)]
    struct Mini {
        question: String,
        photos: Vec<String>,
        greedy: Vec<Answer>,
        beams: Vec<Answer>,
    }
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/mini");
    let expected: Mini = serde_json::from_str(&std::fs::read_to_string(golden("mini.json")).unwrap()).unwrap();
    let model = Phi4Multimodal::load(&mini.join("models/mini-phi-4-multimodal"), &runtime()).unwrap();
    let photos: Vec<RgbImage> =
        expected.photos.iter().map(|name| toolkit::images::load(mini.join("photos").join(name)).unwrap()).collect();
    for (num_beams, answers) in [(1, &expected.greedy), (3, &expected.beams)] {
        let options = CaptionOptions { prompt: Some(expected.question.clone()), max_new_tokens: Some(12), num_beams };
        let said = model.caption(&photos[..answers.len()], &options).unwrap();
        for ((said, expected), name) in said.iter().zip(answers).zip(&expected.photos) {
            assert_eq!((&said.text, said.tokens), (&expected.text, expected.ids.len()), "{name}, {num_beams} beams");
        }
    }
}

/// Few slots for many texts of different lengths: places are taken by others, and all texts move back in the cache.
#[test]
fn a_text_is_the_same_whoever_runs_beside_it() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/mini");
    let model = Phi4Multimodal::load(&mini.join("models/mini-phi-4-multimodal"), &runtime()).unwrap();
    let mut photos: Vec<RgbImage> = toolkit::images::load_all(&toolkit::images::list(mini.join("photos")).unwrap())
        .into_iter()
        .map(Result::unwrap)
        .collect();
    // Some have more crops than others.
    for (at, photo) in photos.iter_mut().enumerate().filter(|(at, _)| at % 5 == 0) {
        *photo = image::imageops::resize(photo, 96 + 3 * at as u32, 96, image::imageops::FilterType::Triangle);
    }
    let longest: Vec<usize> = (0..photos.len()).map(|at| 1 + at * 7 % 24).collect();
    let prompt = model.prompt.encode("Describe the person.").unwrap();
    let options = model.generation_options(&CaptionOptions { prompt: None, max_new_tokens: Some(24), num_beams: 1 });
    let _guard = tch::no_grad_guard();
    let answers = |longest: &[usize], slots| {
        let question = Question { prompt: &prompt, image_token_id: model.prompt.image_token_id(), pad: 0, longest };
        model.network.answer(&photos[..longest.len()], question, &options, Some(slots)).unwrap().unwrap()
    };
    let alone: Vec<Vec<i64>> = photos
        .iter()
        .map(|photo| {
            let crops = model.process(std::slice::from_ref(photo)).unwrap();
            let embedded = model.network.embed(&crops, &prompt, model.prompt.image_token_id(), 0);
            model.network.generate(embedded, &options).unwrap().remove(0)
        })
        .collect();
    let expected: Vec<Vec<i64>> =
        alone.iter().zip(&longest).map(|(text, longest)| text.iter().take(*longest).copied().collect()).collect();
    for slots in [2, 20] {
        assert_eq!(answers(&longest, slots), expected, "{slots} slots");
    }
    // All end at once, and fewer come after them.
    let expected: Vec<Vec<i64>> = alone[..6].iter().map(|text| text.iter().take(7).copied().collect()).collect();
    assert_eq!(answers(&[7; 6], 4), expected);
}

/// Sets one tensor of the adapter to zero.
fn without_lora(file: &Path, part: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let (header, data) = {
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let name = format!("model.layers.1.mlp.down_proj.{part}.vision.weight");
        (header + 8, metadata.info(&name).unwrap().data_offsets)
    };
    bytes[header + data.0..header + data.1].fill(0);
    std::fs::write(file, bytes).unwrap();
}
