//! The names of the tensors: both layouts are brought to the native names, with the vision adapter's
//! two matrices beside the weight that they belong to (`…qkv_proj.lora_A.weight`).

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::config::{Config, Layout, LoraSection, VisionConfig, VisionLora};
use crate::checkpoints::{Checkpoint, config};
use crate::nn::Lora;

/// Folder of the vision adapter in a native checkpoint.
const ADAPTER_FOLDER: &str = "vision-lora";

/// Opens a model folder with all its names brought to one form. Also says which LoRA is to be merged.
pub(super) fn open(folder: &Path, config: &Config) -> Result<(Checkpoint, Option<Lora>)> {
    let checkpoint = Checkpoint::open_dir(folder, "model")?.rename(canonical_name)?;
    let file = folder.join("config.json");
    let has_lora = checkpoint.names().any(|name| name.contains(".lora_A."));
    let original = config.layout == Layout::Original;
    let (checkpoint, lora) = match config.vision_lora {
        VisionLora::Here(lora) if has_lora => (checkpoint, Some(lora)),
        _ if original && has_lora => bail!("{}: no vision_lora section gives the adapter's scale", file.display()),
        _ if original => bail!(
            "{}: no lora_A.vision tensors: without its vision adapter this model talks fluently of other pictures",
            folder.display()
        ),
        VisionLora::Merged if !has_lora => (checkpoint, None),
        _ if has_lora => bail!("{}: vision_lora must give the scale of the tensors that are here", file.display()),
        _ => {
            let (adapter, lora) = open_adapter(&folder.join(ADAPTER_FOLDER))?;
            (checkpoint.and(adapter)?, Some(lora))
        }
    };
    check_depth(&checkpoint, config).with_context(|| folder.display().to_string())?;
    Ok((checkpoint, lora))
}

/// The adapter folder beside a native checkpoint.
fn open_adapter(folder: &Path) -> Result<(Checkpoint, Lora)> {
    let path = folder.join("adapter_config.json");
    if !path.is_file() {
        bail!(
            "cannot read {}: a native checkpoint keeps its vision adapter in {ADAPTER_FOLDER}/, and without it the \
             model talks fluently of other pictures (one saved with the adapter merged says \"vision_lora\": null \
             in config.json)",
            path.display()
        );
    }
    let section: LoraSection = config::read(&path)?;
    let lora = section.lora().with_context(|| path.display().to_string())?;
    Ok((Checkpoint::open_dir(folder, "adapter_model")?.rename(canonical_name)?, lora))
}

/// The native name of a tensor of either layout; None for what captioning has no use for: the audio
/// part and the speech adapter.
fn canonical_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    if name.contains("embed_tokens_extend.audio_embed.") || name.contains(".speech.") {
        return None;
    }
    let parts: Vec<&str> = name.split('.').filter(|part| *part != "base_layer").collect();
    let mut canonical = String::new();
    for (i, part) in parts.iter().enumerate() {
        // lora_A.<adapter's name>.weight
        if i > 0 && parts[i - 1].starts_with("lora_") && *part != "weight" {
            continue;
        }
        let part = match (*part, i.checked_sub(1).map(|before| parts[before])) {
            ("0", Some("img_projection")) => "_up",
            ("2", Some("img_projection")) => "_down",
            ("glb_GN", _) => "global_img_feature_extensor",
            ("sub_GN", _) => "sub_img_feature_extensor",
            (part, _) => part,
        };
        if i > 0 && !part.starts_with('_') {
            canonical.push('.');
        }
        canonical.push_str(part);
    }
    Some(canonical)
}

/// config.json and tensors must agree on the number of layers: layers too many would be dropped in
/// silence where the model does not run its last ones.
fn check_depth(checkpoint: &Checkpoint, config: &Config) -> Result<()> {
    let VisionConfig { num_hidden_layers, .. } = config.vision;
    let depths = [
        ("vision tower", "model.embed_tokens_extend.image_embed.img_processor.encoder.layers.", num_hidden_layers),
        ("language model", "model.layers.", config.decoder.num_hidden_layers),
    ];
    for (part, prefix, expected) in depths {
        let number = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<i64>().ok();
        let found = checkpoint.names().filter_map(number).max().map_or(0, |last| last + 1);
        if found != expected {
            bail!(
                "the tensors hold {found} layers of the {part}, the configuration asks for {expected} (num_hidden_layers)"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::canonical_name;

    #[test]
    fn names_of_both_layouts() {
        let image = "model.embed_tokens_extend.image_embed";
        for (name, canonical) in [
            ("model.norm.weight", "model.norm.weight"),
            ("model.layers.3.mlp.down_proj.base_layer.weight", "model.layers.3.mlp.down_proj.weight"),
            ("model.layers.0.self_attn.o_proj.lora_A.vision.weight", "model.layers.0.self_attn.o_proj.lora_A.weight"),
            (
                "base_model.model.model.layers.10.self_attn.qkv_proj.lora_B.weight",
                "model.layers.10.self_attn.qkv_proj.lora_B.weight",
            ),
            (&format!("{image}.img_projection.0.bias"), &format!("{image}.img_projection_up.bias")),
            (&format!("{image}.img_projection.2.weight"), &format!("{image}.img_projection_down.weight")),
            (&format!("{image}.glb_GN"), &format!("{image}.global_img_feature_extensor")),
            (&format!("{image}.sub_GN"), &format!("{image}.sub_img_feature_extensor")),
        ] {
            assert_eq!(canonical_name(name).as_deref(), Some(canonical), "{name}");
        }
        assert_eq!(canonical_name("model.layers.0.self_attn.o_proj.lora_A.speech.weight"), None);
        assert_eq!(canonical_name("model.embed_tokens_extend.audio_embed.encoder.x.weight"), None);
    }
}
