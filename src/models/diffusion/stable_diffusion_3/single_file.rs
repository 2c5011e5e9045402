//! The layout of Stable Diffusion 3 in one file, and the key map of its transformer.
//!
//! Source of the layout: <https://github.com/Stability-AI/sd3-ref>.

use std::sync::Arc;

use anyhow::Result;

use crate::checkpoints::{Checkpoint, Entry};
use crate::models::diffusion::single_file::ldm::Views;
use crate::models::diffusion::single_file::{SingleFile, SingleFileLayout};

pub const LAYOUT: SingleFileLayout = SingleFileLayout {
    // The configuration files of stabilityai/stable-diffusion-3-medium-diffusers.
    published: include_str!("published.json"),
    prefixes: &[
        ("transformer", "model.diffusion_model"),
        ("vae", "first_stage_model"),
        ("text_encoder", "text_encoders.clip_l.transformer"),
        ("text_encoder_2", "text_encoders.clip_g.transformer"),
        ("text_encoder_3", "text_encoders.t5xxl.transformer"),
    ],
    convert,
    whole: "use sd3_medium_incl_clips.safetensors or one of sd3_medium_incl_clips_t5xxl*.safetensors, which hold the text \
            encoders",
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
