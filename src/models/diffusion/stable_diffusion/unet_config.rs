//! `unet/config.json`: what the U-Net is built of, and which options of it are not known here.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::error::usage;
use crate::nn::Activation;

/// One value for all sizes, or one for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum PerSize<T> {
    One(T),
    Each(Vec<T>),
}

impl<T: Copy> PerSize<T> {
    /// The values of `count` sizes, or none when it lists another number of them.
    fn list(&self, count: usize) -> Option<Vec<T>> {
        match self {
            Self::One(value) => Some(vec![*value; count]),
            Self::Each(values) => (values.len() == count).then(|| values.clone()),
        }
    }
}

/// `unet/config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub sample_size: Option<PerSize<i64>>,
    pub in_channels: i64,
    pub out_channels: i64,
    pub center_input_sample: bool,
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    pub down_block_types: Vec<String>,
    pub mid_block_type: Option<String>,
    pub up_block_types: Vec<String>,
    pub block_out_channels: Vec<i64>,
    pub layers_per_block: PerSize<usize>,
    pub downsample_padding: i64,
    pub mid_block_scale_factor: f64,
    pub act_fn: Activation,
    pub norm_num_groups: i64,
    pub norm_eps: f64,
    pub cross_attention_dim: PerSize<i64>,
    pub transformer_layers_per_block: PerSize<usize>,
    /// The number of *heads*, in spite of its name: configurations are read so by the library too.
    pub attention_head_dim: PerSize<i64>,
    pub use_linear_projection: bool,
    pub time_embedding_dim: Option<i64>,
    pub conv_in_kernel: i64,
    pub conv_out_kernel: i64,
    /// Every other option, see `NEUTRAL`.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Options of the library's class that are not built here, with the values (as JSON) that leave them out. None: the
/// option changes nothing that is computed here. Attention is summed in float32 by the fused kernels, so
/// `upcast_attention` is one of those.
const NEUTRAL: &[(&str, Option<&[&str]>)] = &[
    ("addition_embed_type", Some(&["null"])),
    ("addition_embed_type_num_heads", None),
    ("addition_time_embed_dim", None),
    ("attention_type", Some(&["\"default\""])),
    ("class_embed_type", Some(&["null"])),
    ("class_embeddings_concat", Some(&["false"])),
    ("cross_attention_norm", Some(&["null"])),
    ("dropout", None),
    ("dual_cross_attention", Some(&["false"])),
    ("encoder_hid_dim", Some(&["null"])),
    ("encoder_hid_dim_type", Some(&["null"])),
    ("mid_block_only_cross_attention", Some(&["null", "false"])),
    ("num_attention_heads", Some(&["null"])),
    ("num_class_embeds", Some(&["null"])),
    ("only_cross_attention", Some(&["false"])),
    ("projection_class_embeddings_input_dim", Some(&["null"])),
    ("resnet_out_scale_factor", Some(&["1", "1.0"])),
    ("resnet_skip_time_act", Some(&["false"])),
    ("resnet_time_scale_shift", Some(&["\"default\""])),
    ("reverse_transformer_layers_per_block", Some(&["null"])),
    ("time_cond_proj_dim", Some(&["null"])),
    ("time_embedding_act_fn", Some(&["null"])),
    ("time_embedding_type", Some(&["\"positional\""])),
    ("timestep_post_act", Some(&["null"])),
    ("upcast_attention", None),
];

impl Default for Config {
    fn default() -> Self {
        let names = |first: &str, other: &str, last: &str| [first, other, other, last].map(str::to_string).to_vec();
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            down_block_types: names("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".to_string()),
            up_block_types: names("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: PerSize::One(2),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            act_fn: Activation::Silu,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: PerSize::One(1280),
            transformer_layers_per_block: PerSize::One(1),
            attention_head_dim: PerSize::One(8),
            use_linear_projection: false,
            time_embedding_dim: None,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
            other: BTreeMap::new(),
        }
    }
}

/// What is in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Middle {
    Nothing,
    /// One resnet.
    Plain,
    /// A resnet, attention, a resnet.
    CrossAttention,
}

/// One size of the U-Net.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub channels: i64,
    /// Resnets on the way down; there is one more on the way up.
    pub layers: usize,
    pub heads: i64,
    /// Width of the text that attention reads.
    pub text: i64,
    /// Transformer layers of each attention.
    pub depth: usize,
    pub down_attention: bool,
    /// Whether there is attention at this size on the way up.
    pub up_attention: bool,
}

/// A configuration that was checked.
#[derive(Debug, Clone)]
pub struct Layout {
    /// From the largest picture to the smallest.
    pub sizes: Vec<Size>,
    pub middle: Middle,
}

impl Config {
    /// Side of the latents that are drawn where no size is asked for.
    pub fn sides(&self) -> Option<(i64, i64)> {
        match self.sample_size.as_ref()? {
            PerSize::One(side) => Some((*side, *side)),
            PerSize::Each(sides) => Some((*sides.first()?, *sides.get(1)?)),
        }
    }

    /// Width of the vector that says the time.
    pub fn time_width(&self) -> i64 {
        self.time_embedding_dim.unwrap_or(4 * self.block_out_channels.first().copied().unwrap_or(0))
    }

    /// Checks everything, so that building the net can only fail for the weights.
    pub fn layout(&self) -> Result<Layout> {
        self.check_options()?;
        let count = self.block_out_channels.len();
        if count == 0 || self.down_block_types.len() != count || self.up_block_types.len() != count {
            return Err(usage(format!(
                "the U-Net has {} blocks down and {} up for {count} sizes: one of each for every size",
                self.down_block_types.len(),
                self.up_block_types.len()
            )));
        }
        let middle = match self.mid_block_type.as_deref() {
            None => Middle::Nothing,
            Some("UNetMidBlock2D") => Middle::Plain,
            Some("UNetMidBlock2DCrossAttn") => Middle::CrossAttention,
            Some(other) => return Err(unknown_block(other, "UNetMidBlock2DCrossAttn, UNetMidBlock2D or null")),
        };
        let layers = each("layers_per_block", &self.layers_per_block, count)?;
        let heads = each("attention_head_dim", &self.attention_head_dim, count)?;
        let text = each("cross_attention_dim", &self.cross_attention_dim, count)?;
        let depth = each("transformer_layers_per_block", &self.transformer_layers_per_block, count)?;
        let mut sizes = Vec::new();
        for i in 0..count {
            sizes.push(Size {
                channels: self.block_out_channels[i],
                layers: layers[i],
                heads: heads[i],
                text: text[i],
                depth: depth[i],
                down_attention: has_attention(&self.down_block_types[i], "DownBlock2D")?,
                up_attention: has_attention(&self.up_block_types[count - 1 - i], "UpBlock2D")?,
            });
        }
        self.check_sizes(&sizes)?;
        Ok(Layout { sizes, middle })
    }

    fn check_options(&self) -> Result<()> {
        for (name, value) in self.other.iter().filter(|(name, _)| !name.starts_with('_')) {
            let known = NEUTRAL.iter().find(|(option, _)| option == name);
            let Some((_, neutral)) = known else {
                return Err(usage(format!("the U-Net's option {name} is not known here")));
            };
            if neutral.is_some_and(|neutral| !neutral.contains(&value.to_string().as_str())) {
                return Err(usage(format!("the U-Net's option {name} = {value} is not known here")));
            }
        }
        Ok(())
    }

    fn check_sizes(&self, sizes: &[Size]) -> Result<()> {
        for size in sizes {
            if size.layers == 0 || size.channels < 1 || self.norm_num_groups < 1 {
                return Err(usage("the U-Net has a size without layers, channels or groups"));
            }
            if size.channels % self.norm_num_groups != 0 {
                return Err(usage(format!(
                    "the U-Net's {} channels (block_out_channels) cannot be normalised in {} groups (norm_num_groups)",
                    size.channels, self.norm_num_groups
                )));
            }
            if size.heads < 1 || size.channels % size.heads != 0 {
                return Err(usage(format!(
                    "the U-Net's {} channels cannot be shared out to {} heads (attention_head_dim is their number)",
                    size.channels, size.heads
                )));
            }
        }
        let odd = |kernel: i64| kernel > 0 && kernel % 2 == 1;
        if !odd(self.conv_in_kernel) || !odd(self.conv_out_kernel) || !(0..=1).contains(&self.downsample_padding) {
            return Err(usage(format!(
                "the U-Net's kernels {} and {} must be odd, its downsample_padding {} 0 or 1",
                self.conv_in_kernel, self.conv_out_kernel, self.downsample_padding
            )));
        }
        Ok(())
    }
}

fn each<T: Copy>(name: &str, values: &PerSize<T>, count: usize) -> Result<Vec<T>> {
    values.list(count).ok_or_else(|| usage(format!("the U-Net's {name} must be one value, or {count}")))
}

/// Whether a block is the plain one or the one with `CrossAttn` before its name.
fn has_attention(name: &str, plain: &str) -> Result<bool> {
    match name.strip_suffix(plain) {
        Some("") => Ok(false),
        Some("CrossAttn") => Ok(true),
        _ => Err(unknown_block(name, &format!("{plain} or CrossAttn{plain}"))),
    }
}

fn unknown_block(name: &str, known: &str) -> anyhow::Error {
    usage(format!("the U-Net's block {name} is not known here: {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Layout> {
        serde_json::from_str::<Config>(json)?.layout()
    }

    #[test]
    fn what_is_left_out_is_that_of_the_library() {
        let layout =
            read(r#"{"_class_name": "UNet2DConditionModel", "dropout": 0.1, "upcast_attention": true}"#).unwrap();
        let channels: Vec<i64> = layout.sizes.iter().map(|size| size.channels).collect();
        assert_eq!(channels, [320, 640, 1280, 1280]);
        assert!(layout.sizes[2].down_attention && layout.sizes[2].up_attention);
        assert!(!layout.sizes[3].down_attention && !layout.sizes[3].up_attention);
        assert_eq!((layout.sizes[0].heads, layout.middle), (8, Middle::CrossAttention));
    }

    #[test]
    fn options_that_are_not_built_are_refused_by_name() {
        for (json, words) in [
            (r#"{"class_embed_type": "timestep"}"#, "class_embed_type = \"timestep\""),
            (r#"{"only_cross_attention": [true, false, false, false]}"#, "only_cross_attention"),
            (r#"{"resnet_time_scale_shift": "scale_shift"}"#, "resnet_time_scale_shift"),
            (r#"{"a_new_option": 1}"#, "a_new_option"),
            (r#"{"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}"#, "UNetMidBlock2DSimpleCrossAttn"),
            (r#"{"up_block_types": ["SkipUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"]}"#, "SkipUpBlock2D"),
            (r#"{"attention_head_dim": [5, 10]}"#, "attention_head_dim must be one value, or 4"),
            (r#"{"attention_head_dim": 7}"#, "7 heads"),
            (r#"{"norm_num_groups": 48}"#, "48 groups"),
            (r#"{"block_out_channels": [320]}"#, "1 sizes"),
            (r#"{"downsample_padding": 2}"#, "downsample_padding 2"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.downcast_ref::<crate::error::UsageError>().is_some(), "{json}: {error:#}");
            assert!(error.to_string().contains(words), "{json}: {error}");
        }
    }
}
