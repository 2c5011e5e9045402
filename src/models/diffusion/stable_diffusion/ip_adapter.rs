//! IP-Adapter (Ye et al. 2023, <https://arxiv.org/abs/2308.06721>): pictures as a prompt. Each attention over the text gets a
//! second one beside it, over tokens that are made of pictures.
//!
//! Several pictures are one longer row of tokens, as in diffusers: attention weighs all of them together. Source:
//! `IPAdapterAttnProcessor2_0` of
//! <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/attention_processor.py>

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor, no_grad};

use super::controlnet::drawn_by;
use super::image_projection::{ImageProjection, ProjectionSizes};
use super::unet;
use super::unet_config::{Layout, Middle, Size};
use super::unet_encoder::UnetTexts;
use crate::checkpoints::{Checkpoint, Weights};
use crate::error::usage;
use crate::images;
use crate::models::diffusion::guidance::Ways;
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::vision::image_encoder::{self, ImageEncoder};
use crate::models::{AdapterTask, Checked, Family, IpAdapterChoice, Task, find, locate_ip_adapter};
use crate::nn::Linear;
use crate::runtime::Runtime;

/// How it is told and looked at.
pub static FAMILY: Family = Family {
    title: "file of an IP-Adapter of Stable Diffusion",
    pipeline_classes: &[],
    model_types: &[],
    tensors: &["ip_adapter.1.to_k_ip.weight"],
    is_file: |_, _| Ok(true),
    files: |_, _| Ok(()),
    task: Task::Adapt(AdapterTask { verify }),
};

/// Builds it and its encoder, its layers as it counts them itself.
fn verify(path: &Path, rt: &Runtime) -> Result<Checked> {
    let (device, kind) = (rt.device, rt.kind(Kind::Float));
    let checkpoint = Checkpoint::open(&[path])?;
    let keys = keys(&checkpoint);
    let layer =
        |key: &&str| Some((key.split('.').nth(1)?.parse::<usize>().ok()?, checkpoint.entry(key)?.shape.clone()));
    let own: Vec<(usize, Vec<i64>)> = keys.iter().filter_map(layer).collect();
    let text = own.first().and_then(|(_, shape)| shape.get(1).copied()).unwrap_or(0);
    let sizes = AdapterFiles::sizes(&checkpoint, text)?;
    let encoder = encoder_of(path, sizes)?;
    let (count, shows) = (own.len(), sizes.shows());
    checkpoint.weights(device, kind).build(|weights| {
        no_grad(|| {
            for (number, shape) in &own {
                let at = weights.at("ip_adapter").at(number);
                Linear::joined(&at, &["to_k_ip", "to_v_ip"], text, shape.first().copied().unwrap_or(0), false)?;
            }
            ImageProjection::new(&weights.at("image_proj"), sizes, text).map(drop)
        })
    })?;
    ImageEncoder::load(&encoder, None, device, kind)?;
    let about = format!(
        "it lets {} draw after pictures, which it reads as {shows}, in {count} layers: `stylize --ip-adapter`, the axis \
         ip_adapter; its image encoder {} is whole",
        drawn_by(text),
        encoder.display()
    );
    Ok(Checked { built: true, about: Some(about) })
}

/// The part of the published pipeline that is the encoder.
pub const IMAGE_ENCODER: &str = "image_encoder";

/// Where the encoder's folder is, as seen from the adapter's: beside it as published; those of the adapters that were
/// trained with the larger encoder lie with the models for SDXL.
const ENCODERS: [&str; 3] = ["image_encoder", "../models/image_encoder", "../sdxl_models/image_encoder"];

/// Names that files of adapters which read faces through another network have.
const FACE_ID: [&str; 3] = ["perceiver_resampler", "image_proj.norm.weight", "_lora."];

/// One attention over the text: its channels, and its place among the [`UnetTexts`] (of the attention, of the layer in it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    channels: i64,
    slot: usize,
}

/// All of them, in the order in which files count them: those of the middle come last.
fn places(layout: &Layout) -> Vec<Place> {
    let of = |size: &Size, attentions: usize, first: usize| -> Vec<Place> {
        let one = move |at: usize| Place { channels: size.channels, slot: first + at / size.depth };
        (0..attentions * size.depth).map(one).collect()
    };
    let (mut down, mut up, mut next) = (Vec::new(), Vec::new(), 0);
    for size in layout.sizes.iter().filter(|size| size.down_attention) {
        down.extend(of(size, size.layers, next));
        next += size.layers;
    }
    let last = &layout.sizes[layout.sizes.len() - 1];
    let middle = if layout.middle == Middle::CrossAttention { of(last, 1, next) } else { Vec::new() };
    next += usize::from(!middle.is_empty());
    for size in layout.sizes.iter().rev().filter(|size| size.up_attention) {
        up.extend(of(size, size.layers + 1, next));
        next += size.layers + 1;
    }
    [down, up, middle].concat()
}

/// An adapter's file and its encoder's folder, looked at and not yet read.
#[derive(Debug)]
pub struct AdapterFiles {
    /// None: random weights.
    checkpoint: Option<Checkpoint>,
    sizes: ProjectionSizes,
    places: Vec<Place>,
    /// Width of a token.
    text: i64,
    pub encoder: PathBuf,
}

impl AdapterFiles {
    /// One of the published files (see [`locate_ip_adapter`]), made for this U-Net. That of random weights is random too, at
    /// the published size.
    pub fn open(name: &Path, source: &PipelineSource, unet: &unet::Config) -> Result<Self> {
        if source.is_random() {
            return Self::random(&name.to_string_lossy(), &source.config(IMAGE_ENCODER)?, unet);
        }
        let path = &locate_ip_adapter(&name.to_string_lossy(), true)?;
        let checkpoint = Checkpoint::open(&[path])?;
        Self::of(checkpoint, path, unet).map_err(|error| usage(format!("{}: {error:#}", path.display())))
    }

    /// How it reads pictures, where it is one of those that are known.
    fn sizes(checkpoint: &Checkpoint, text: i64) -> Result<ProjectionSizes> {
        let is_there = |start: &str| checkpoint.names().any(|name| name.starts_with(start));
        if !is_there("image_proj.") || !is_there("ip_adapter.") {
            return Err(usage(
                "no IP-Adapter in it (tensors called image_proj.… and ip_adapter.…): a LoRA, a whole model, or a file of \
                 another kind?",
            ));
        }
        let whole = checkpoint.entry("image_proj.proj.weight").is_some();
        let is_face = |name: &str| FACE_ID.iter().any(|part| name.contains(part));
        if let Some(name) = checkpoint.names().filter(|_| !whole).find(|name| is_face(name)) {
            return Err(usage(format!(
                "a FaceID adapter ({name}), which reads what a network for faces (insightface) makes of them: not known \
                 here; take ip-adapter_sd15, -light, -plus, -plus-face or -full-face"
            )));
        }
        let shape = |name: &str| checkpoint.entry(&format!("image_proj.{name}")).map(|entry| entry.shape.clone());
        ProjectionSizes::of(shape, text).context(
            "the tensors image_proj.… are of no layout that is known here (those of ip-adapter_sd15, -plus or -full-face)",
        )
    }

    fn of(checkpoint: Checkpoint, path: &Path, unet: &unet::Config) -> Result<Self> {
        let layout = unet.layout()?;
        let (places, text) = (places(&layout), layout.sizes[0].text);
        // Of a file that is none, nothing is said about its layers.
        if !keys(&checkpoint).is_empty() {
            Self::check_layers(&checkpoint, &places, text)?;
        }
        let sizes = Self::sizes(&checkpoint, text)?;
        let encoder = encoder_of(path, sizes)?;
        Ok(Self { checkpoint: Some(checkpoint), sizes, places, text, encoder })
    }

    /// As ip-adapter_sd15, or ip-adapter-plus_sd15, over this encoder.
    fn random(name: &str, encoder: &image_encoder::Config, unet: &unet::Config) -> Result<Self> {
        find(name)?;
        let layout = unet.layout()?;
        let (places, text) = (places(&layout), layout.sizes[0].text);
        let sizes = if name.contains("plus") {
            let (hidden, width, inner) = (encoder.hidden(), text, 4 * text);
            ProjectionSizes::Resampler { hidden, width, tokens: 16, heads: 12, layers: 4, inner }
        } else {
            ProjectionSizes::Whole { picture: encoder.projection(), tokens: 4 }
        };
        Ok(Self { checkpoint: None, sizes, places, text, encoder: PathBuf::from(IMAGE_ENCODER) })
    }

    /// Whether it and its encoder are of random weights.
    pub fn is_random(&self) -> bool {
        self.checkpoint.is_none()
    }

    /// Says it in one line where an adapter belongs to another U-Net: all its layers would have other shapes.
    fn check_layers(checkpoint: &Checkpoint, places: &[Place], text: i64) -> Result<()> {
        let keys = keys(checkpoint);
        let widths = keys.iter().filter_map(|name| checkpoint.entry(name)?.shape.get(1).copied());
        match widths.into_iter().find(|width| *width != text) {
            Some(width) => Err(usage(format!(
                "this IP-Adapter belongs to another U-Net: it reads tokens of {width} numbers in {} layers, and the model's \
                 have {text} in {} (adapters for Stable Diffusion 1.5 have 768 in 16, those for SDXL 2048 in 70)",
                keys.len(),
                places.len()
            ))),
            None => Ok(()),
        }
    }

    pub fn build(self, encoder: Rc<ImageEncoder>, device: Device, kind: Kind) -> Result<IpAdapter> {
        let Self { checkpoint, sizes, places, text, .. } = self;
        let weights = checkpoint.map_or_else(|| Weights::random(device, kind), |files| files.weights(device, kind));
        weights.build(|weights| {
            no_grad(|| {
                Ok(IpAdapter {
                    encoder: encoder.clone(),
                    projection: ImageProjection::new(&weights.at("image_proj"), sizes, text)?,
                    layers: layers(&weights.at("ip_adapter"), &places, text)?,
                    seen: RefCell::default(),
                })
            })
        })
    }
}

/// One tensor of each layer, by its name.
fn keys(checkpoint: &Checkpoint) -> Vec<&str> {
    let is_layer = |name: &&str| name.starts_with("ip_adapter.") && name.ends_with(".to_k_ip.weight");
    checkpoint.names().filter(is_layer).collect()
}

/// The folder of the encoder that an adapter of these sizes reads.
fn encoder_of(path: &Path, sizes: ProjectionSizes) -> Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let (reads, key) = sizes.reads();
    let mut others = Vec::new();
    for dir in ENCODERS.map(|name| folder.join(name)).into_iter().filter(|dir| dir.is_dir()) {
        let config = image_encoder::Config::load(&dir)?;
        let gives = if key == "hidden_size" { config.hidden() } else { config.projection() };
        if gives == reads {
            return Ok(dir);
        }
        others.push(format!("{} gives {gives}", dir.display()));
    }
    if others.is_empty() {
        return Err(usage(format!(
            "the encoder of its pictures is not there: put the folder image_encoder beside the file (`hf download \
             h94/IP-Adapter --include \"models/image_encoder/*\"`; looked for in {})",
            folder.join(ENCODERS[0]).display()
        )));
    }
    Err(usage(format!(
        "it reads pictures as {reads} numbers ({key} of the encoder), and {}: put the encoder that it was trained with beside \
         it",
        others.join(", ")
    )))
}

/// The keys and values of all attentions, by their places among the [`UnetTexts`].
fn layers(weights: &Weights, places: &[Place], text: i64) -> Result<Vec<Vec<Linear>>> {
    let slots = places.iter().map(|place| place.slot + 1).max().unwrap_or(0);
    let mut layers: Vec<Vec<Linear>> = (0..slots).map(|_| Vec::new()).collect();
    for (at, place) in places.iter().enumerate() {
        // Attention of the picture over itself is counted too, and comes before each.
        let own = weights.at(2 * at + 1);
        layers[place.slot].push(Linear::joined(&own, &["to_k_ip", "to_v_ip"], text, place.channels, false)?);
    }
    Ok(layers)
}

/// The adapter.
#[derive(Debug)]
pub struct IpAdapter {
    encoder: Rc<ImageEncoder>,
    projection: ImageProjection,
    layers: Vec<Vec<Linear>>,
    /// The pictures that were looked at last, and what was made of them.
    seen: RefCell<Option<(Vec<PathBuf>, Tensor)>>,
}

impl IpAdapter {
    /// The tokens of some pictures, behind what stands against them: [2, pictures · tokens, text]. A drawing after the same
    /// pictures as the last looks at none.
    fn tokens(&self, files: Vec<PathBuf>) -> Result<Tensor> {
        if let Some((kept, tokens)) = self.seen.borrow().as_ref()
            && *kept == files
        {
            return Ok(tokens.shallow_clone());
        }
        let pictures = files.iter().map(images::load).collect::<Result<Vec<_>>>()?;
        let tokens = self.projection.tokens(&self.encoder, &self.encoder.pixels(&pictures)?);
        let size = tokens.size();
        let nothing = tokens.narrow(0, 0, 1).expand([size[0] - 1, -1, -1], false);
        let row = |x: &Tensor| x.reshape([1, -1, size[2]]);
        let tokens = Tensor::cat(&[row(&nothing), row(&tokens.narrow(0, 1, size[0] - 1))], 0);
        *self.seen.borrow_mut() = Some((files, tokens.shallow_clone()));
        Ok(tokens)
    }
}

/// Pictures as the prompt of one drawing.
#[derive(Debug)]
pub struct PicturePrompt {
    adapter: Rc<IpAdapter>,
    /// What stands against the pictures, and they: [2, tokens, text].
    tokens: Tensor,
    scale: f64,
}

impl PicturePrompt {
    pub fn new(adapter: Rc<IpAdapter>, choice: &IpAdapterChoice) -> Result<Self> {
        let tokens = adapter.tokens(choice.picture_files()?)?;
        Ok(Self { adapter, tokens, scale: choice.scale })
    }

    /// Adds the pictures to what each attention reads of the texts.
    pub fn join(&self, texts: &mut UnetTexts, ways: Ways) {
        let ways = if ways == Ways::Alone { Ways::Wanted } else { ways };
        let rows = ways.rows(&self.tokens);
        for (texts, layers) in texts.iter_mut().zip(&self.adapter.layers) {
            for (text, layer) in texts.iter_mut().zip(layers) {
                text.add_pictures(&layer.forward(&rows), self.scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files number the attentions as diffusers lists its processors: 1, 3, … on the way down, then up, the middle last.
    #[test]
    fn attentions_are_counted_as_in_the_published_files() {
        let config: unet::Config = serde_json::from_str(r#"{"cross_attention_dim": 768}"#).unwrap();
        let places = places(&config.layout().unwrap());
        let channels: Vec<i64> = places.iter().map(|place| place.channels).collect();
        let (down, up) = ([320, 320, 640, 640, 1280, 1280], [1280, 1280, 1280, 640, 640, 640, 320, 320, 320]);
        assert_eq!(channels, [&down[..], &up, &[1280]].concat());
        let slots: Vec<usize> = places.iter().map(|place| place.slot).collect();
        assert_eq!(slots, [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 6]);
    }
}
