//! What a file of low-rank adapters changes, in a line: for `models verify`, which knows no generator.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use anyhow::Result;

use super::file::LoraFile;
use super::resolve::{Faults, family, rank};

/// Parts of names of layers, and what such layers are; the first kind that a name has a part of counts.
const KINDS: [(&[&str], &str); 3] = [
    (&["attn", "q_proj", "k_proj", "v_proj", "out_proj", "proj_in", "proj_out"], "of attention"),
    (&[".ff.", "_ff_", "mlp", "fc1", "fc2"], "feed-forward"),
    (&["conv", "_layers", "sampler", "skip_connection", ".op", "_op"], "convolutions"),
];

/// Looks whether the matrices of each layer belong together, and tells what they change.
///
/// # Errors
/// All that does not fit, in a line that names the file.
pub fn describe(path: &Path) -> Result<String> {
    let mut file = LoraFile::open(path)?;
    let mut faults = Faults::beside(std::mem::take(&mut file.unknown));
    let (mut ranks, mut alphas) = (Vec::new(), Vec::new());
    let mut networks: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (name, layer) in &file.layers {
        if faults.both(layer).is_none() {
            continue;
        }
        let Some(rank) = rank(&file.checkpoint, layer, &mut faults) else { continue };
        ranks.push(rank);
        alphas.extend(file.alpha(name, layer)?);
        *networks.entry(network(name)).or_default().entry(kind(name)).or_default() += 1;
    }
    let family = family(&file.checkpoint);
    faults.tell(path, None, family.unwrap_or("a generator"))?;
    let changes = networks.into_iter().map(|(network, kinds)| {
        let layers: usize = kinds.values().sum();
        let kinds = kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ");
        format!("{layers} layers of the {network} ({kinds})")
    });
    let changes = changes.collect::<Vec<_>>().join(" and ");
    let of = family.map(|family| format!(" of {family}")).unwrap_or_default();
    let stabilised = if file.is_stabilised() { ", rank-stabilised" } else { "" };
    let alpha = if alphas.is_empty() { "no alpha (as the rank)".to_string() } else { span("alpha", alphas) };
    Ok(format!(
        "it changes {changes}{of}; {}, {alpha}{stabilised}: `stylize --lora`, the axis lora",
        span("rank", ranks)
    ))
}

fn network(layer: &str) -> &'static str {
    let encodes = ["text_encoder", "lora_te"].iter().any(|start| layer.starts_with(start));
    if encodes { "text encoders" } else { "denoiser" }
}

fn kind(layer: &str) -> &'static str {
    let has = |parts: &&[&str]| parts.iter().any(|part| layer.contains(part));
    KINDS.iter().find(|(parts, _)| has(parts)).map_or("others", |(_, kind)| kind)
}

/// `rank 4`, `ranks 2, 4, 8` or `ranks 2 to 64`.
fn span<T: PartialOrd + Display>(what: &str, mut values: Vec<T>) -> String {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.dedup();
    match values.as_slice() {
        [] => String::new(),
        [one] => format!("{what} {one}"),
        [first, _, _, .., last] => format!("{what}s {first} to {last}"),
        few => format!("{what}s {}", few.iter().map(T::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_by_their_names() {
        for (layer, expected) in [
            ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", ("denoiser", "of attention")),
            ("lora_unet_mid_block_attentions_0_proj_in", ("denoiser", "of attention")),
            ("lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_ff_net_0_proj", ("denoiser", "feed-forward")),
            ("diffusion_model.joint_blocks.0.x_block.mlp.fc1", ("denoiser", "feed-forward")),
            ("diffusion_model.joint_blocks.0.x_block.adaLN_modulation.1", ("denoiser", "others")),
            ("unet.down_blocks.0.resnets.0.conv1", ("denoiser", "convolutions")),
            ("lora_te_text_model_encoder_layers_0_mlp_fc1", ("text encoders", "feed-forward")),
        ] {
            assert_eq!((network(layer), kind(layer)), expected, "{layer}");
        }
        assert_eq!(span("rank", vec![4, 4]), "rank 4");
        assert_eq!(span("alpha", vec![2.0, 1.0, 0.5]), "alphas 0.5, 1, 2");
        assert_eq!(span("rank", vec![1, 8, 2, 4]), "ranks 1 to 8");
    }
}
