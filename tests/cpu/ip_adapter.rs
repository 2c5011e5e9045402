//! IP-Adapters against diffusers on tiny random pipelines (`tests/reference/ip_adapter.py`), alone and with LoRA and ControlNet.

use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use tch::{Device, Tensor};
use toolkit::error::UsageError;
use toolkit::models::{
    ControlRequest, GenerateRequest, Generator, IpAdapterChoice, LoraChoice, load_generator, load_outline,
};

use crate::diffusion::{Golden, apart, cpu};

const GOLDEN: Golden = Golden("ip_adapter");
const BASE: &str = "ip-adapter_like_v1.safetensors";
const PLUS: &str = "ip-adapter-plus_like_v1.safetensors";

fn models(file: &str) -> PathBuf {
    GOLDEN.path("models").join(file)
}

fn pipeline(name: &str) -> String {
    GOLDEN.path("../sd15").join(name).display().to_string()
}

#[derive(Deserialize)]
struct Case {
    pipeline: String,
    adapter: String,
    scale: f64,
    images: Vec<String>,
    prompts: Vec<String>,
    negative_prompt: Option<String>,
    seeds: Vec<u64>,
    steps: usize,
    guidance_scale: f64,
    width: Option<usize>,
    height: Option<usize>,
    strength: Option<f64>,
    #[serde(default)]
    photos: Vec<String>,
    lora: Option<String>,
    controlnet: Option<String>,
    #[serde(default)]
    steering: Vec<String>,
    pictures: Vec<String>,
}

impl Case {
    fn request(&self) -> GenerateRequest {
        let pictures = |names: &[String]| names.iter().map(|name| GOLDEN.picture(name)).collect();
        let lora = |file: &String| LoraChoice { file: GOLDEN.path("../lora").join(file), weight: 0.7 };
        GenerateRequest {
            prompts: self.prompts.clone(),
            negative_prompt: self.negative_prompt.clone(),
            seeds: self.seeds.clone(),
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance_scale),
            width: self.width,
            height: self.height,
            images: pictures(&self.photos),
            strength: self.strength,
            loras: self.lora.iter().map(lora).collect(),
            control: self.controlnet.as_ref().map(|net| ControlRequest {
                model: GOLDEN.path("../controlnet").join(net).display().to_string(),
                images: pictures(&self.steering),
                ..ControlRequest::default()
            }),
            ip_adapter: Some(IpAdapterChoice {
                file: models(&self.adapter),
                pictures: self.images.iter().map(|name| GOLDEN.path(name)).collect(),
                scale: self.scale,
            }),
            ..GenerateRequest::default()
        }
    }
}

fn cases() -> Vec<Case> {
    GOLDEN.json("cases.json")
}

fn draw(generator: &dyn Generator, request: &GenerateRequest) -> Vec<RgbImage> {
    generator.generate(request).unwrap().into_iter().map(|drawn| drawn.image).collect()
}

/// All layouts, one picture and two, scales from 0 to 1.3, from text and from photos, with and without guidance, with LoRA and
/// ControlNet; all with one generator for each pipeline, so that nothing of one case is left in the next. Then once more with the
/// halves of guidance on two devices.
#[test]
fn pictures_are_those_of_diffusers() {
    for name in ["like_v1", "other"] {
        let mut generator = load_generator(&pipeline(name), &cpu()).unwrap();
        for devices in 1..=2 {
            if devices == 2 {
                generator.share_guidance(Device::Cpu).unwrap();
            }
            for (number, case) in cases().iter().enumerate().filter(|(_, case)| case.pipeline == name) {
                let drawn = draw(generator.as_ref(), &case.request());
                assert_eq!(drawn.len(), case.pictures.len());
                for (ours, theirs) in drawn.iter().zip(&case.pictures) {
                    let apart = apart(ours, &GOLDEN.picture(theirs));
                    println!("case {number}, {theirs}, {devices} devices: {apart}");
                    assert!(apart <= 1, "case {number}, {theirs}, {devices} devices: {apart} grey levels");
                }
            }
        }
    }
}

/// A batch draws what each picture draws alone, and without the adapter, or with one of scale 0, all is what it was.
#[test]
fn an_adapter_comes_and_goes() {
    let generator = load_generator(&pipeline("like_v1"), &cpu()).unwrap();
    let request = cases()[6].request();
    let choice = request.ip_adapter.clone().unwrap();
    let with = |choice: Option<IpAdapterChoice>| GenerateRequest { ip_adapter: choice, ..request.clone() };
    let plain = draw(generator.as_ref(), &with(None));
    let together = draw(generator.as_ref(), &request);
    for (i, drawn) in together.iter().enumerate() {
        let alone = GenerateRequest {
            prompts: vec![request.prompts[i].clone()],
            seeds: vec![request.seeds[i]],
            ..request.clone()
        };
        assert!(apart(&draw(generator.as_ref(), &alone)[0], drawn) <= 1 && apart(drawn, &plain[i]) > 10);
    }
    assert_eq!(draw(generator.as_ref(), &with(Some(IpAdapterChoice { scale: 0.0, ..choice.clone() }))), plain);
    assert_eq!(draw(generator.as_ref(), &with(None)), plain);
    // The order of the pictures is no matter to attention; other pictures are.
    let turned = choice.pictures.iter().rev().cloned().collect();
    let turned = draw(generator.as_ref(), &with(Some(IpAdapterChoice { pictures: turned, ..choice.clone() })));
    assert!(turned.iter().zip(&together).all(|(a, b)| apart(a, b) <= 1));
    let one =
        draw(generator.as_ref(), &with(Some(IpAdapterChoice { pictures: choice.pictures[..1].to_vec(), ..choice })));
    assert!(one.iter().zip(&together).all(|(a, b)| apart(a, b) > 1));
}

/// Of a folder each picture is shown.
#[test]
fn a_folder_is_its_pictures() {
    let generator = load_generator(&pipeline("like_v1"), &cpu()).unwrap();
    let case = &cases()[1];
    let folder = tempfile::tempdir().unwrap();
    for name in &case.images {
        fs::copy(GOLDEN.path(name), folder.path().join(name)).unwrap();
    }
    let mut request = case.request();
    let files = draw(generator.as_ref(), &request);
    request.ip_adapter.as_mut().unwrap().pictures = vec![folder.path().to_path_buf()];
    assert_eq!(draw(generator.as_ref(), &request), files);
}

/// What is said of a request before anything is loaded.
fn refused(name: &str, change: impl FnOnce(&mut IpAdapterChoice)) -> String {
    let outline = load_outline(&pipeline(name), &cpu()).unwrap();
    let mut request = cases()[0].request();
    change(request.ip_adapter.as_mut().unwrap());
    let error = outline.check(&request).unwrap_err();
    let text = format!("{error:#}");
    assert!(error.downcast_ref::<UsageError>().is_some() && !text.contains('\n'), "{text}");
    text
}

/// A file of the published layout with some tensors changed, and the encoder beside it.
fn changed(file: &str, folder: &Path, change: impl Fn(&str, Tensor) -> Vec<(String, Tensor)>) -> PathBuf {
    let to = folder.join("image_encoder");
    if !to.exists() {
        fs::create_dir(&to).unwrap();
        for name in ["config.json", "model.safetensors"] {
            fs::copy(models("image_encoder").join(name), to.join(name)).unwrap();
        }
    }
    let tensors = Tensor::read_safetensors(models(file)).unwrap();
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().flat_map(|(name, tensor)| change(&name, tensor)).collect();
    let path = folder.join("changed.safetensors");
    Tensor::write_safetensors(&tensors, &path).unwrap();
    path
}

fn as_it_is(name: &str, tensor: Tensor) -> Vec<(String, Tensor)> {
    vec![(name.to_string(), tensor)]
}

#[test]
fn what_cannot_be_drawn_is_said_before_anything_is_loaded() {
    let to = |file: PathBuf| move |choice: &mut IpAdapterChoice| choice.file = file;
    assert!(refused("../sd3/with_t5", |_| ()).contains("takes no IP-Adapter here: use Stable Diffusion 1.5"));
    assert!(refused("other", |_| ()).contains("belongs to another U-Net: it reads tokens of 24 numbers"));
    assert!(refused("like_v1", to(models("absent.bin"))).contains("absent.bin: no such IP-Adapter"));
    assert!(refused("like_v1", |choice| choice.scale = f64::NAN).contains("not a number to work with"));
    assert!(refused("like_v1", |choice| choice.pictures.clear()).contains("needs a picture to draw after"));
    let gone = refused("like_v1", |choice| choice.pictures.push("gone.png".into()));
    assert!(gone.contains("gone.png: no such picture to draw after (IP-Adapter)"), "{gone}");
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(refused("like_v1", |choice| choice.pictures = vec![empty]).contains("empty: no pictures here"));
    fs::write(folder.path().join("a.png"), "no picture").unwrap();
    let broken = refused("like_v1", |choice| choice.pictures = vec![folder.path().join("a.png")]);
    assert!(broken.contains("to draw after (IP-Adapter): ") && broken.contains("a.png"), "{broken}");
    for file in ["../lora/sd15_kohya.safetensors", "../sd15/like_v1/unet/diffusion_pytorch_model.safetensors"] {
        let text = refused("like_v1", to(GOLDEN.path(file)));
        assert!(text.contains("no IP-Adapter in it") && text.contains(file.rsplit('/').next().unwrap()), "{text}");
    }
}

#[test]
fn adapters_that_read_faces_otherwise_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let renamed = |from: &'static str, to: &'static str| {
        changed(BASE, folder.path(), move |name, tensor| as_it_is(&name.replace(from, to), tensor))
    };
    for file in [
        renamed("image_proj.proj.", "image_proj.proj.0."),
        renamed("image_proj.proj.", "image_proj.perceiver_resampler.proj_in."),
    ] {
        let text = refused("like_v1", |choice| choice.file = file);
        assert!(text.contains("a FaceID adapter (image_proj.") && text.contains("take ip-adapter_sd15"), "{text}");
    }
    let file = renamed("image_proj.", "image_proj.more.");
    assert!(refused("like_v1", |choice| choice.file = file).contains("of no layout that is known here"));
}

/// The encoder is looked for beside the file, and must be the one that the adapter was trained with.
#[test]
fn the_encoder_is_named_where_it_is_missing_or_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = changed(BASE, folder.path(), as_it_is);
    let encoder = folder.path().join("image_encoder");
    let config = fs::read_to_string(encoder.join("config.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{config}");
        fs::write(encoder.join("config.json"), config.replace(from, to)).unwrap();
        refused("like_v1", |choice| choice.file = file.clone())
    };
    let text = with("\"projection_dim\": 20", "\"projection_dim\": 21");
    assert!(text.contains("it reads pictures as 20 numbers (projection_dim of the encoder), and "), "{text}");
    assert!(text.contains("image_encoder gives 21: put the encoder that it was trained with beside it"), "{text}");
    assert!(with("clip_vision_model", "siglip_vision_model").contains("a model of the type siglip_vision_model"));
    fs::remove_dir_all(&encoder).unwrap();
    let text = refused("like_v1", |choice| choice.file = file.clone());
    for words in ["changed.safetensors: the encoder of its pictures is not there", "hf download h94/IP-Adapter"] {
        assert!(text.contains(words), "{text}");
    }
    // Those that were trained with the larger encoder find it with the models for SDXL.
    let (models, larger) = (folder.path().join("models"), folder.path().join("sdxl_models/image_encoder"));
    fs::create_dir(&models).unwrap();
    fs::create_dir_all(&larger).unwrap();
    fs::rename(&file, models.join("ip.safetensors")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(GOLDEN.path("models/image_encoder").join(name), larger.join(name)).unwrap();
    }
    let mut request = cases()[0].request();
    let generator = load_generator(&pipeline("like_v1"), &cpu()).unwrap();
    let expected = draw(generator.as_ref(), &request);
    request.ip_adapter.as_mut().unwrap().file = models.join("ip.safetensors");
    assert_eq!(draw(generator.as_ref(), &request), expected);
}

/// Tensors that are missing, too many or of another shape are named with their file, all at once.
#[test]
fn weights_are_all_there_and_no_others() {
    let generator = load_generator(&pipeline("like_v1"), &cpu()).unwrap();
    for (adapter, missing, misshapen) in [
        (BASE, "ip_adapter.5.to_v_ip.weight", "image_proj.norm.bias"),
        (PLUS, "image_proj.layers.2.0.norm1.weight", "image_proj.proj_out.weight"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = changed(adapter, folder.path(), |name, tensor| {
            if name == missing {
                return vec![];
            }
            let tensor = if name == misshapen { Tensor::cat(&[&tensor, &tensor], 0) } else { tensor };
            let more =
                (name == "ip_adapter.1.to_k_ip.weight").then(|| ("ip_adapter.9.to_k_ip.weight".into(), tensor.copy()));
            more.into_iter().chain([(name.to_string(), tensor)]).collect()
        });
        let mut request = cases()[0].request();
        request.ip_adapter.as_mut().unwrap().file = file;
        let text = format!("{:#}", generator.generate(&request).unwrap_err());
        for words in [
            "changed.safetensors",
            &format!("tensor {missing} is missing"),
            &format!("tensor {misshapen} has shape"),
            "ip_adapter.9.to_k_ip.weight",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
