//! The two layouts' config.json, read into one description.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Deserializer};

use crate::checkpoints::config;
use crate::error::usage;
use crate::models::captioners::generation::TokenIds;
use crate::nn::{Activation, Lora};

/// transformers' default of `original_max_position_embeddings`.
const ORIGINAL_POSITIONS: i64 = 4096;

/// Which files these are; pictures are prepared a little differently for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The hub's main revision with its remote code, `model_type: phi4mm`.
    Original,
    /// transformers' own `save_pretrained`, `model_type: phi4_multimodal`.
    Native,
}

/// Everything config.json says that captioning needs.
#[derive(Debug, Clone)]
pub struct Config {
    pub layout: Layout,
    pub decoder: DecoderConfig,
    pub vision: VisionConfig,
    pub vision_lora: VisionLora,
    /// None where config.json is silent: then the tokenizer knows.
    pub image_token_id: Option<i64>,
    pub eos: Vec<i64>,
    pub pad: Option<i64>,
}

/// What config.json says of the vision adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VisionLora {
    /// Its tensors are among the model's own.
    Here(Lora),
    /// Nothing; in the native layout it then has a folder of its own.
    Unsaid,
    /// `"vision_lora": null`: it was merged before the model was saved.
    Merged,
}

/// The language model.
#[derive(Debug, Clone, Deserialize)]
pub struct DecoderConfig {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    pub num_key_value_heads: i64,
    pub hidden_act: Activation,
    pub rms_norm_eps: f64,
    pub head_dim: i64,
    /// A query sees this many tokens, itself included.
    pub sliding_window: Option<i64>,
    pub max_position_embeddings: i64,
    pub rope: RopeConfig,
}

/// Rotary position embedding, as `longrope` or plain.
#[derive(Debug, Clone, Deserialize)]
pub struct RopeConfig {
    pub theta: f64,
    /// How many numbers of each head are turned.
    pub rotary_dim: i64,
    /// Texts longer than this use `long_factor`.
    pub original_max_position_embeddings: i64,
    /// Divisors of the frequencies, [rotary_dim / 2] each.
    pub short_factor: Vec<f64>,
    pub long_factor: Vec<f64>,
    /// Cosines and sines are multiplied by it.
    pub attention_factor: f64,
}

/// The SigLIP tower. The defaults are the published model's: the original layout's config.json does
/// not speak of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    pub num_channels: i64,
    pub image_size: i64,
    pub patch_size: i64,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    pub crop_size: i64,
    /// Which of the hidden states (embeddings first) is the picture's feature; negative from the end.
    pub feature_layer: i64,
    pub image_token_id: Option<i64>,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 1152,
            intermediate_size: 4304,
            num_hidden_layers: 27,
            num_attention_heads: 16,
            num_channels: 3,
            image_size: 448,
            patch_size: 14,
            hidden_act: Activation::GeluPytorchTanh,
            layer_norm_eps: 1e-6,
            crop_size: 448,
            feature_layer: -2,
            image_token_id: None,
        }
    }
}

impl VisionConfig {
    /// Layers that must run to reach the feature.
    pub fn used_layers(&self) -> i64 {
        if self.feature_layer < 0 { self.num_hidden_layers + 1 + self.feature_layer } else { self.feature_layer }
    }

    /// Patches along a side of a crop.
    pub fn grid(&self) -> i64 {
        self.image_size / self.patch_size
    }

    fn check(&self) -> Result<()> {
        let grid = self.grid();
        if self.crop_size != self.image_size || grid * self.patch_size != self.image_size || grid % 2 != 0 {
            bail!(
                "a vision tower of image_size {}, crop_size {} and patch_size {} is not one of this family: the first \
                 two are equal and hold an even number of patches",
                self.image_size,
                self.crop_size,
                self.patch_size
            );
        }
        if self.num_channels != 3 {
            bail!("num_channels is {} and pictures have 3", self.num_channels);
        }
        if !(0..=self.num_hidden_layers).contains(&self.used_layers()) {
            bail!("feature_layer {} is outside of {} layers", self.feature_layer, self.num_hidden_layers);
        }
        if self.num_attention_heads < 1 || self.hidden_size % self.num_attention_heads != 0 {
            bail!("vision hidden_size {} is not a multiple of its heads", self.hidden_size);
        }
        Ok(())
    }
}

/// config.json as written; both layouts together.
#[derive(Debug, Deserialize)]
struct File {
    model_type: String,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    #[serde(default = "silu")]
    hidden_act: Activation,
    #[serde(default = "rms_norm_eps")]
    rms_norm_eps: f64,
    head_dim: Option<i64>,
    sliding_window: Option<i64>,
    max_position_embeddings: i64,
    original_max_position_embeddings: Option<i64>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    rope_scaling: Option<RopeSection>,
    rope_parameters: Option<RopeSection>,
    vision_config: Option<VisionConfig>,
    #[serde(default, deserialize_with = "said")]
    vision_lora: Option<Option<LoraSection>>,
    special_image_token_id: Option<i64>,
    image_token_id: Option<i64>,
    eos_token_id: Option<TokenIds>,
    pad_token_id: Option<i64>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    lm_head_bias: bool,
}

/// Tells a null that is written from a key that is not.
fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<LoraSection>>, D::Error> {
    Option::<LoraSection>::deserialize(value).map(Some)
}

fn silu() -> Activation {
    Activation::Silu
}

fn rms_norm_eps() -> f64 {
    1e-5
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
struct RopeSection {
    rope_type: Option<String>,
    /// What `rope_type` was called; files that transformers saved again have both, and the new one counts.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    attention_factor: Option<f64>,
    short_factor: Option<Vec<f64>>,
    long_factor: Option<Vec<f64>>,
}

/// `vision_lora` of the original config.json; an adapter_config.json has the same two keys.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct LoraSection {
    r: i64,
    lora_alpha: f64,
    /// alpha / √r instead of alpha / r.
    #[serde(default)]
    use_rslora: bool,
}

impl LoraSection {
    pub(super) fn lora(&self) -> Result<Lora> {
        if self.r < 1 {
            bail!("a LoRA of rank {} is none", self.r);
        }
        let divisor = if self.use_rslora { (self.r as f64).sqrt() } else { self.r as f64 };
        Ok(Lora { rank: self.r, scale: self.lora_alpha / divisor })
    }
}

impl Config {
    /// Reads `config.json` of a model folder.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads the text of a config.json.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = config::parse(text.as_bytes())
            .and_then(config::take)
            .context("not a configuration of this model family")?;
        let layout = match file.model_type.as_str() {
            "phi4mm" => Layout::Original,
            "phi4_multimodal" => Layout::Native,
            other => return Err(usage(format!("model_type is {other:?}, not phi4mm or phi4_multimodal"))),
        };
        if file.attention_bias || file.mlp_bias || file.lm_head_bias {
            bail!("attention_bias, mlp_bias and lm_head_bias must be false: this family has no such tensors");
        }
        let vision = file.vision_config.clone().unwrap_or_default();
        vision.check()?;
        file.check_ids(&vision)?;
        Ok(Self {
            layout,
            decoder: file.decoder()?,
            image_token_id: file.special_image_token_id.or(file.image_token_id).or(vision.image_token_id),
            vision,
            vision_lora: file.vision_lora()?,
            eos: file.eos_token_id.as_ref().map(TokenIds::to_vec).unwrap_or_default(),
            pad: file.pad_token_id,
        })
    }
}

impl File {
    /// Every token that is named must be in the vocabulary.
    fn check_ids(&self, vision: &VisionConfig) -> Result<()> {
        let eos = self.eos_token_id.iter().flat_map(TokenIds::to_vec).map(|id| ("eos_token_id", Some(id)));
        let others = [
            ("special_image_token_id", self.special_image_token_id),
            ("image_token_id", self.image_token_id),
            ("vision_config.image_token_id", vision.image_token_id),
            ("pad_token_id", self.pad_token_id),
        ];
        match eos.chain(others).find(|(_, id)| id.is_some_and(|id| id >= self.vocab_size)) {
            Some((key, Some(id))) => bail!("{key} is {id}, and vocab_size {}", self.vocab_size),
            _ => Ok(()),
        }
    }

    fn vision_lora(&self) -> Result<VisionLora> {
        Ok(match &self.vision_lora {
            Some(Some(section)) => VisionLora::Here(section.lora()?),
            Some(None) => VisionLora::Merged,
            None => VisionLora::Unsaid,
        })
    }

    fn decoder(&self) -> Result<DecoderConfig> {
        let heads = self.num_attention_heads;
        let kv_heads = self.num_key_value_heads.unwrap_or(heads);
        if heads < 1 || kv_heads < 1 || heads % kv_heads != 0 {
            bail!("{heads} attention heads cannot share {kv_heads} key and value heads");
        }
        let head_dim = self.head_dim.unwrap_or(self.hidden_size / heads);
        Ok(DecoderConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            hidden_act: self.hidden_act,
            rms_norm_eps: self.rms_norm_eps,
            head_dim,
            sliding_window: self.sliding_window,
            max_position_embeddings: self.max_position_embeddings,
            rope: self.rope(head_dim)?,
        })
    }

    fn rope(&self, head_dim: i64) -> Result<RopeConfig> {
        // An empty section is none.
        let scaling = self.rope_scaling.as_ref().filter(|section| **section != RopeSection::default());
        let section = scaling.or(self.rope_parameters.as_ref()).cloned().unwrap_or_default();
        let fraction = section.partial_rotary_factor.or(self.partial_rotary_factor).unwrap_or(1.0);
        let rotary_dim = (head_dim as f64 * fraction) as i64;
        if rotary_dim < 2 || rotary_dim > head_dim || rotary_dim % 2 != 0 {
            bail!("partial_rotary_factor {fraction} of head_dim {head_dim} is not an even number from 2 to {head_dim}");
        }
        let theta = section.rope_theta.or(self.rope_theta).unwrap_or(10_000.0);
        // The configuration's own number counts before that of the section, and has a default.
        let original = self.original_max_position_embeddings.unwrap_or(ORIGINAL_POSITIONS);
        let half = (rotary_dim / 2) as usize;
        let (short_factor, long_factor, attention_factor) =
            match section.rope_type.as_deref().or(section.r#type.as_deref()) {
                None | Some("default") => (vec![1.0; half], vec![1.0; half], 1.0),
                Some("longrope" | "su" | "yarn") => {
                    let (Some(short), Some(long)) = (section.short_factor, section.long_factor) else {
                        bail!("longrope needs short_factor and long_factor");
                    };
                    let stretch = section.factor.unwrap_or(self.max_position_embeddings as f64 / original as f64);
                    let derived =
                        if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / (original as f64).ln()).sqrt() };
                    (short, long, section.attention_factor.unwrap_or(derived))
                }
                Some(other) => bail!("rope type {other:?} is not one of this family (longrope, default)"),
            };
        if short_factor.len() != half || long_factor.len() != half {
            bail!("short_factor and long_factor must have {half} numbers each (half of the {rotary_dim} rotary ones)");
        }
        Ok(RopeConfig {
            theta,
            rotary_dim,
            original_max_position_embeddings: original,
            short_factor,
            long_factor,
            attention_factor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Layout, VisionLora};
    use crate::nn::Lora;

    const PUBLISHED: &str = include_str!("published_config.json");

    #[test]
    fn published_numbers() {
        let config = Config::parse(PUBLISHED).unwrap();
        assert_eq!(config.layout, Layout::Original);
        assert_eq!((config.decoder.head_dim, config.decoder.rope.rotary_dim), (128, 96));
        assert!((config.decoder.rope.attention_factor - 1.190_238_07).abs() < 1e-8);
        assert_eq!((config.vision.used_layers(), config.vision.grid()), (26, 32));
        assert_eq!(config.vision_lora, VisionLora::Here(Lora { rank: 256, scale: 2.0 }));
    }

    #[test]
    fn contradictions_are_named() {
        let wrong = |from: &str, to: &str| {
            assert!(PUBLISHED.contains(from), "{from}");
            format!("{:#}", Config::parse(&PUBLISHED.replace(from, to)).unwrap_err())
        };
        assert!(wrong("\"num_key_value_heads\": 8", "\"num_key_value_heads\": 7").contains("share 7"));
        assert!(wrong("\"partial_rotary_factor\": 0.75", "\"partial_rotary_factor\": 0.5").contains("32 numbers"));
        assert!(wrong("\"phi4mm\"", "\"phi5\"").contains("phi5"));
        assert!(wrong("\"type\": \"longrope\"", "\"type\": \"linear\"").contains("linear"));
        let line = wrong("\"vocab_size\": 200064", "\"vocab_size\": 199999");
        assert!(line.contains("eos_token_id is 199999, and vocab_size 199999"), "{line}");
    }

    /// As transformers 5.24 decides (`convert_rope_params_to_dict` in modeling_rope_utils.py).
    #[test]
    fn the_own_number_of_positions_counts_before_the_sections() {
        let rope = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut config: serde_json::Value = serde_json::from_str(PUBLISHED).unwrap();
            change(&mut config);
            Config::parse(&config.to_string()).unwrap().decoder.rope
        };
        let section = |config: &mut serde_json::Value| {
            config["rope_scaling"]["original_max_position_embeddings"] = 2048.into();
        };
        let both = rope(&|config| {
            section(config);
            config["original_max_position_embeddings"] = 8192.into();
        });
        assert_eq!(both.original_max_position_embeddings, 8192);
        let alone = rope(&|config| {
            section(config);
            config.as_object_mut().unwrap().remove("original_max_position_embeddings");
        });
        assert_eq!(alone.original_max_position_embeddings, 4096);
        let renamed = rope(&|config| {
            config["rope_parameters"] = config["rope_scaling"].take();
            config["rope_scaling"] = serde_json::json!({});
        });
        assert_eq!(renamed.long_factor, rope(&|_| {}).long_factor);
    }
}
