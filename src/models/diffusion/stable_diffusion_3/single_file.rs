//! The layout of Stable Diffusion 3 in one file, and the key map of its transformer.
//!
//! Source of the layout: <https://github.com/Stability-AI/sd3-ref>.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::checkpoints::{Checkpoint, Entry};
use crate::models::diffusion::single_file::ldm::Views;
use crate::models::diffusion::single_file::{SingleFile, SingleFileLayout};

pub const LAYOUT: SingleFileLayout = SingleFileLayout {
    // The configuration files of stabilityai/stable-diffusion-3-medium-diffusers.
    published: include_str!("published.json"),
    variants: &[
        // Where stabilityai/stable-diffusion-3.5-medium and -large differ, with their parameters (places included).
        ("sd3.5-medium", include_str!("published_3_5_medium.json")),
        ("sd3.5-large", include_str!("published_3_5_large.json")),
    ],
    sized,
    prefixes: &[
        ("transformer", "model.diffusion_model"),
        ("vae", "first_stage_model"),
        ("text_encoder", "text_encoders.clip_l.transformer"),
        ("text_encoder_2", "text_encoders.clip_g.transformer"),
        ("text_encoder_3", "text_encoders.t5xxl.transformer"),
    ],
    convert,
    whole: "use sd3_medium_incl_clips.safetensors or one of sd3_medium_incl_clips_t5xxl*.safetensors, which hold the text \
            encoders (of Stable Diffusion 3.5 there is no such file)",
    clip: &[("tokenizer", "text_encoder", "<|endoftext|>"), ("tokenizer_2", "text_encoder_2", "!")],
    t5: Some("text_encoder_3"),
};

fn convert(single: &SingleFile, part: &str, tensors: Checkpoint) -> Result<Checkpoint> {
    if part == "transformer" {
        let layers = single.number("transformer", "num_layers")?;
        return tensors.convert(|name, entry| transformer(name, entry, layers));
    }
    let whole = single.shared(part, tensors)?;
    // The projection of the smaller encoder is left out where it changes nothing.
    let projection = "text_projection.weight";
    if part != "text_encoder" || whole.entry(projection).is_some() {
        return Ok(whole);
    }
    let size = single.number("text_encoder", "projection_dim")? as i64;
    Ok(whole.with(projection, Entry::identity(size, Arc::new(single.file().to_path_buf()))))
}

/// The transformer's configuration as its tensors have it: 3.0 and both sizes of 3.5 are told apart by nothing else.
fn sized(part: &str, tensors: &Checkpoint, mut config: Value) -> Value {
    let shape = |name: &str| tensors.entry(name).map(|entry| entry.shape.clone()).unwrap_or_default();
    let block = |i: usize, name: &str| shape(&format!("joint_blocks.{i}.x_block.{name}.weight"));
    let layers = (0..).take_while(|i| !block(*i, "attn.qkv").is_empty()).count();
    let outside = [
        "x_embedder.proj.weight",
        "pos_embed",
        "context_embedder.weight",
        "y_embedder.mlp.0.weight",
        "final_layer.linear.weight",
    ]
    .map(shape);
    let ([inner, channels, patch, _], [_, places, _], [_, text], [_, pooled], [outputs, _]) =
        (&outside[0][..], &outside[1][..], &outside[2][..], &outside[3][..], &outside[4][..])
    else {
        // What is wrong is said where the transformer is built.
        return config;
    };
    if part != "transformer" || layers == 0 || *patch < 1 {
        return config;
    }
    let norm = block(0, "attn.ln_q").first().copied();
    let head = norm.or(config["attention_head_dim"].as_i64()).unwrap_or(1).max(1);
    let dual: Vec<usize> = (0..layers).filter(|i| !block(*i, "attn2.qkv").is_empty()).collect();
    for (option, value) in [
        ("num_layers", json!(layers)),
        ("patch_size", json!(patch)),
        ("in_channels", json!(channels)),
        ("out_channels", json!(outputs / (patch * patch))),
        ("attention_head_dim", json!(head)),
        ("num_attention_heads", json!(inner / head)),
        ("joint_attention_dim", json!(text)),
        ("caption_projection_dim", json!(inner)),
        ("pooled_projection_dim", json!(pooled)),
        ("pos_embed_max_size", json!((*places as f64).sqrt().round() as i64)),
        ("qk_norm", json!(norm.map(|_| "rms_norm"))),
        ("dual_attention_layers", json!(dual)),
    ] {
        config[option] = value;
    }
    config
}

/// Names outside the blocks.
const OUTSIDE: [(&str, &str); 8] = [
    ("x_embedder.proj.", "pos_embed.proj."),
    ("t_embedder.mlp.0.", "time_text_embed.timestep_embedder.linear_1."),
    ("t_embedder.mlp.2.", "time_text_embed.timestep_embedder.linear_2."),
    ("y_embedder.mlp.0.", "time_text_embed.text_embedder.linear_1."),
    ("y_embedder.mlp.2.", "time_text_embed.text_embedder.linear_2."),
    ("context_embedder.", "context_embedder."),
    ("final_layer.linear.", "proj_out."),
    ("final_layer.adaLN_modulation.1.", "norm_out.linear."),
];

/// Names in a block: there, and of the picture's side here, and of the text's side.
const INSIDE: [(&str, &str, &str); 9] = [
    ("attn.proj.", "attn.to_out.0.", "attn.to_add_out."),
    ("attn.ln_q.", "attn.norm_q.", "attn.norm_added_q."),
    ("attn.ln_k.", "attn.norm_k.", "attn.norm_added_k."),
    ("attn2.proj.", "attn2.to_out.0.", ""),
    ("attn2.ln_q.", "attn2.norm_q.", ""),
    ("attn2.ln_k.", "attn2.norm_k.", ""),
    ("adaLN_modulation.1.", "norm1.linear.", "norm1_context.linear."),
    ("mlp.fc1.", "ff.net.0.proj.", "ff_context.net.0.proj."),
    ("mlp.fc2.", "ff.net.2.", "ff_context.net.2."),
];

/// Queries, keys and values, which are one tensor there.
const QKV: [(&str, [&str; 3], [&str; 3]); 2] = [
    (
        "attn.qkv.",
        ["attn.to_q.", "attn.to_k.", "attn.to_v."],
        ["attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."],
    ),
    ("attn2.qkv.", ["attn2.to_q.", "attn2.to_k.", "attn2.to_v."], ["", "", ""]),
];

/// The layers with a weight, by their names there, of a transformer of `layers` blocks.
pub fn original_layers(layers: usize) -> Vec<String> {
    let name = |name: &&str| name.trim_end_matches('.').to_string();
    let mut names: Vec<String> = OUTSIDE.iter().map(|(from, _)| name(from)).collect();
    let inside = INSIDE.iter().map(|(from, ..)| from).chain(QKV.iter().map(|(from, ..)| from));
    for inner in inside.map(name) {
        for block in 0..layers {
            names.extend(["x_block", "context_block"].map(|side| format!("joint_blocks.{block}.{side}.{inner}")));
        }
    }
    names
}

/// A tensor of the transformer, which has `layers` blocks.
pub fn transformer(name: &str, entry: Entry, layers: usize) -> Result<Views> {
    if name == "pos_embed" {
        return Ok(vec![("pos_embed.pos_embed".to_string(), entry)]);
    }
    if let Some((to, rest)) = OUTSIDE.iter().find_map(|(from, to)| Some((to, name.strip_prefix(from)?))) {
        // Shift comes before scale there.
        let entry = if *to == "norm_out.linear." { entry.halves_swapped() } else { entry };
        return Ok(vec![(format!("{to}{rest}"), entry)]);
    }
    let unknown = |entry| Ok(vec![(name.to_string(), entry)]);
    let Some((block, rest)) = name.strip_prefix("joint_blocks.").and_then(|rest| rest.split_once('.')) else {
        return unknown(entry);
    };
    let (text, rest) = match (rest.strip_prefix("x_block."), rest.strip_prefix("context_block.")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return unknown(entry),
    };
    let here = |name: &str, kind: &str| format!("transformer_blocks.{block}.{name}{kind}");
    if let Some((image, context, kind)) = QKV.iter().find_map(|(from, a, b)| Some((a, b, rest.strip_prefix(from)?))) {
        let names = if text { context } else { image };
        return (0..3).map(|part| Ok((here(names[part], kind), entry.rows(part, 3)?))).collect();
    }
    let Some((image, context, kind)) = INSIDE.iter().find_map(|(from, a, b)| Some((a, b, rest.strip_prefix(from)?)))
    else {
        return unknown(entry);
    };
    // The last block ends the text's side with a norm that scales and shifts only.
    let last = text && block.parse() == Ok(layers.wrapping_sub(1)) && *context == "norm1_context.linear.";
    let entry = if last { entry.halves_swapped() } else { entry };
    Ok(vec![(here(if text { context } else { image }, kind), entry)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::diffusion::stable_diffusion_3::config::{Config, TRANSFORMER};

    /// Numbers in all tensors of a transformer, places included.
    fn numbers(config: &Config) -> i64 {
        let Config { patch_size: patch, in_channels, joint_attention_dim: joint, .. } = *config;
        let (d, head, layers) = (config.inner_dim(), config.attention_head_dim, config.num_layers as i64);
        let linear = |input: i64, output: i64| (input + 1) * output;
        let out = patch * patch * config.out_channels.unwrap_or(in_channels);
        let outside = config.pos_embed_max_size.pow(2) * d
            + linear(in_channels * patch * patch, d)
            + linear(256, d)
            + linear(config.pooled_projection_dim, d)
            + 2 * linear(d, d)
            + linear(joint, d)
            + linear(d, 2 * d)
            + linear(d, out);
        let norms = if config.qk_norm.is_some() { head } else { 0 };
        let (feed, dual) = (linear(d, 4 * d) + linear(4 * d, d), config.dual_attention_layers.len() as i64);
        let block = 2 * linear(d, 6 * d) + 8 * linear(d, d) + 4 * norms + 2 * feed;
        // The last one leaves the text's side where it is.
        let left_out = linear(d, 4 * d) + linear(d, d) + feed;
        outside + layers * block - left_out + dual * (linear(d, 3 * d) + 4 * linear(d, d) + 2 * norms)
    }

    /// The counts are those of diffusers' `SD3Transformer2DModel` at the published configurations.
    #[test]
    fn published_sizes_have_the_published_parameters() {
        for (name, parameters) in
            [("sd3-medium", TRANSFORMER.parameters), ("sd3.5-medium", 2_469_663_936), ("sd3.5-large", 8_146_280_768)]
        {
            let json = LAYOUT.published_as(name).config("transformer").unwrap();
            let noted = json["parameters"].as_u64().unwrap_or(TRANSFORMER.parameters);
            let config: Config = serde_json::from_value(json).unwrap();
            config.check().unwrap();
            assert_eq!((numbers(&config) as u64, noted), (parameters, parameters), "{name}");
            assert_eq!(LAYOUT.published_as(name).config("scheduler").unwrap()["shift"], 3.0);
        }
    }
}
