//! Key maps of the original Stable Diffusion v1 layout: U-Net, autoencoder and text encoder.
//!
//! What is called what: the modules of <https://github.com/CompVis/stable-diffusion> are built in the
//! order of their numbers, those of diffusers by size and layer.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::checkpoints::Entry;

/// A tensor under its new names.
pub type Views = Vec<(String, Entry)>;

/// A tensor of the U-Net. `layers` is `layers_per_block` of its configuration: blocks of one size
/// are counted on there, and stand in groups here.
pub fn unet(name: &str, entry: Entry, layers: usize) -> Result<Views> {
    Ok(vec![(unet_name(name, layers).unwrap_or_else(|| name.to_string()), entry)])
}

fn unet_name(name: &str, layers: usize) -> Option<String> {
    for (from, to) in [
        ("time_embed.0.", "time_embedding.linear_1."),
        ("time_embed.2.", "time_embedding.linear_2."),
        ("input_blocks.0.0.", "conv_in."),
        ("middle_block.1.", "mid_block.attentions.0."),
        ("out.0.", "conv_norm_out."),
        ("out.2.", "conv_out."),
    ] {
        if let Some(rest) = name.strip_prefix(from) {
            return Some(format!("{to}{rest}"));
        }
    }
    for (from, resnet) in [("middle_block.0.", 0), ("middle_block.2.", 1)] {
        if let Some(rest) = name.strip_prefix(from) {
            return Some(format!("mid_block.resnets.{resnet}.{}", resnet_name(rest)));
        }
    }
    if let Some((block, part, rest)) = numbered(name, "input_blocks.") {
        let block = block.checked_sub(1)?;
        let (size, layer) = (block / (layers + 1), block % (layers + 1));
        return Some(match (part, rest.strip_prefix("op.")) {
            (0, Some(rest)) => format!("down_blocks.{size}.downsamplers.0.conv.{rest}"),
            (0, None) => format!("down_blocks.{size}.resnets.{layer}.{}", resnet_name(rest)),
            _ => format!("down_blocks.{size}.attentions.{layer}.{rest}"),
        });
    }
    let (block, part, rest) = numbered(name, "output_blocks.")?;
    let (size, layer) = (block / (layers + 1), block % (layers + 1));
    Some(match (part, rest.strip_prefix("conv.")) {
        (0, _) => format!("up_blocks.{size}.resnets.{layer}.{}", resnet_name(rest)),
        // It stands behind the attention where there is one.
        (_, Some(rest)) => format!("up_blocks.{size}.upsamplers.0.conv.{rest}"),
        _ => format!("up_blocks.{size}.attentions.{layer}.{rest}"),
    })
}

/// What the original layout calls these layers of a U-Net, where it calls them otherwise.
pub fn unet_originals(layers: &BTreeSet<&str>, per_size: usize) -> Vec<String> {
    // What may stand behind the number of a part of a block.
    let inside = |name: &&str| name.split_once(".attentions.")?.1.split_once('.').map(|(_, rest)| rest.to_string());
    let mut rests: BTreeSet<String> = layers.iter().filter_map(inside).collect();
    rests.extend(RESNET_NAMES.map(|(from, _)| from.trim_end_matches('.').to_string()));
    rests.extend(["op", "conv"].map(str::to_string));
    let blocks = layers.iter().filter(|name| name.contains(".resnets.")).count() + layers.len().min(16);
    let mut names: Vec<String> =
        ["time_embed.0", "time_embed.2", "input_blocks.0.0", "out.2"].map(str::to_string).to_vec();
    for rest in &rests {
        names.extend((0..3).map(|part| format!("middle_block.{part}.{rest}")));
        for side in ["input_blocks", "output_blocks"] {
            names.extend((0..blocks).flat_map(|n| (0..3).map(move |part| format!("{side}.{n}.{part}.{rest}"))));
        }
    }
    names.retain(|name| {
        let there = unet_name(&format!("{name}.weight"), per_size);
        there.is_some_and(|there| there.strip_suffix(".weight").is_some_and(|layer| layers.contains(layer)))
    });
    names
}

/// `PREFIX3.1.rest` → 3, 1, `rest`.
fn numbered<'a>(name: &'a str, prefix: &str) -> Option<(usize, usize, &'a str)> {
    let (block, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    let (part, rest) = rest.split_once('.')?;
    Some((block.parse().ok()?, part.parse().ok()?, rest))
}

const RESNET_NAMES: [(&str, &str); 6] = [
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
];

fn resnet_name(name: &str) -> String {
    let named = RESNET_NAMES.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    named.unwrap_or_else(|| name.to_string())
}

/// A tensor of the autoencoder. `sizes` is the number of its `block_out_channels`: the decoder's
/// blocks are numbered from the picture's end here.
pub fn vae(name: &str, entry: Entry, sizes: usize) -> Result<Views> {
    let Some((side, rest)) = name.split_once('.').filter(|(side, _)| ["encoder", "decoder"].contains(side)) else {
        return Ok(vec![(name.to_string(), entry)]);
    };
    if let Some(rest) = rest.strip_prefix("mid.attn_1.") {
        // Its layers are convolutions over single places here.
        return Ok(vec![(format!("{side}.mid_block.attentions.0.{}", attention_name(rest)), entry.as_matrix())]);
    }
    let to = vae_name(rest, sizes).unwrap_or_else(|| rest.to_string());
    Ok(vec![(format!("{side}.{to}"), entry)])
}

fn vae_name(name: &str, sizes: usize) -> Option<String> {
    let shortcut = |rest: &str| rest.replace("nin_shortcut.", "conv_shortcut.");
    for (from, to) in [("mid.block_1.", "mid_block.resnets.0."), ("mid.block_2.", "mid_block.resnets.1.")] {
        if let Some(rest) = name.strip_prefix(from) {
            return Some(format!("{to}{}", shortcut(rest)));
        }
    }
    if let Some(rest) = name.strip_prefix("norm_out.") {
        return Some(format!("conv_norm_out.{rest}"));
    }
    let (blocks, samplers, rest) = match (name.strip_prefix("down."), name.strip_prefix("up.")) {
        (Some(rest), _) => ("down_blocks", "downsamplers", rest),
        (_, Some(rest)) => ("up_blocks", "upsamplers", rest),
        _ => return None,
    };
    let (size, rest) = rest.split_once('.')?;
    let size: usize = size.parse().ok()?;
    let size = if blocks == "up_blocks" { sizes.checked_sub(1)?.checked_sub(size)? } else { size };
    let sampler = rest.strip_prefix("downsample.").or_else(|| rest.strip_prefix("upsample."));
    Some(match (sampler, rest.strip_prefix("block.")) {
        (Some(rest), _) => format!("{blocks}.{size}.{samplers}.0.{rest}"),
        (_, Some(rest)) => format!("{blocks}.{size}.resnets.{}", shortcut(rest)),
        _ => return None,
    })
}

fn attention_name(name: &str) -> String {
    const NAMES: [(&str, &str); 5] =
        [("norm.", "group_norm."), ("q.", "to_q."), ("k.", "to_k."), ("v.", "to_v."), ("proj_out.", "to_out.0.")];
    let named = NAMES.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    named.unwrap_or_else(|| name.to_string())
}

/// A tensor of the CLIP text encoder; some files leave out the outer name.
pub fn clip(name: &str, entry: Entry) -> Result<Views> {
    let inner =
        name.starts_with("embeddings.") || name.starts_with("encoder.") || name.starts_with("final_layer_norm.");
    Ok(vec![(if inner { format!("text_model.{name}") } else { name.to_string() }, entry)])
}
