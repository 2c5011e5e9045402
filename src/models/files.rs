//! Which files of a model's repository its loader reads: the one list for what is pulled, for what
//! counts as here, and for what is verified. A family's readers and its [`Family::files`](super::Family) change together.

use std::fmt::Write;

use anyhow::{Result, bail};

use super::detect::{DESCRIPTIONS, family_of_file, is_metric_file, known};
use super::needed_files::{Found, json};
use crate::checkpoints::Checkpoint;
use crate::hub::{Contents, FolderListing, Listing, Needed};

/// How diffusers calls files of low-rank adapters (LoRA), the preferred one first.
pub const LORA_FILES: [&str; 2] = ["pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"];

/// What the loaders of models read.
#[derive(Debug, Clone, Copy)]
pub struct ModelFiles;

impl Contents for ModelFiles {
    fn needed(&self, listing: &dyn Listing) -> Result<Needed> {
        let mut found = Found::of(listing);
        match DESCRIPTIONS.iter().find(|description| listing.has(description.file)) {
            Some(description) => {
                let value = json(listing, description.file)?;
                let (key, name) = description.name_in(&value).unwrap_or((description.keys[0], ""));
                let Some(family) = description.family(name) else {
                    bail!("{}: {} {name:?} is not a family known here ({})", description.file, key, known());
                };
                found.texts("");
                (family.files)(&mut found, &value)?;
            }
            None => single_files(&mut found),
        }
        Ok(found.finish())
    }

    fn is_whole(&self, folder: &FolderListing) -> bool {
        let weights =
            |file: &String| [".safetensors", ".bin", ".pth", ".pt"].iter().any(|extension| file.ends_with(extension));
        let Ok(needed) = self.needed(folder) else { return false };
        needed.files.iter().filter(|file| weights(file)).all(|file| Checkpoint::open(&[folder.0.join(file)]).is_ok())
    }
}

/// A metric net's trunk, heads, or both, or a generator in one file; a repository of more files is
/// of something else. What lies here may be the weights of a folder whose configuration is missing.
fn single_files(found: &mut Found) {
    let is_known = |file: &String| found.listing.path(file).is_none_or(|path| family_of_file(&path).is_ok());
    let files: Vec<String> = found.listing.files_in("").into_iter().filter(|file| is_metric_file(file)).collect();
    // Beside it lie what it was trained from, and steps of the training.
    if let Some(lora) = LORA_FILES.iter().find(|file| found.listing.has(file)) {
        found.weights.push(lora.to_string());
        return;
    }
    match files.len() {
        1 | 2 if files.iter().all(is_known) => found.weights.extend(files),
        _ => {
            let mut wanted = "model_index.json, config.json or weights in one file".to_string();
            let inner = found.listing.files_in("models");
            if let Some(file) = inner.iter().find(|file| file.starts_with("ip-adapter") && is_metric_file(file)) {
                let _ = write!(wanted, " (name an IP-Adapter by its file: OWNER/NAME/models/{file})");
            }
            found.needed.missing.push(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::models::needed_files::inside;

    /// A listing in memory.
    struct Memory(BTreeMap<String, String>);

    impl Memory {
        fn of(files: &[(&str, &str)]) -> Self {
            Self(files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect())
        }
    }

    impl Listing for Memory {
        fn has(&self, file: &str) -> bool {
            self.0.contains_key(file)
        }

        fn files_in(&self, folder: &str) -> Vec<String> {
            let prefix = inside(folder, "");
            let names = self.0.keys().filter_map(|name| name.strip_prefix(&prefix));
            names.filter(|name| !name.contains('/')).map(str::to_string).collect()
        }

        fn path(&self, _file: &str) -> Option<PathBuf> {
            None
        }

        fn read(&self, file: &str) -> Result<Vec<u8>> {
            Ok(self.0[file].clone().into_bytes())
        }
    }

    fn needed(files: &[(&str, &str)]) -> Needed {
        ModelFiles.needed(&Memory::of(files)).unwrap()
    }

    const BLIP: (&str, &str) = ("config.json", r#"{"model_type": "blip"}"#);

    #[test]
    fn one_form_of_the_weights_is_needed_and_every_text() {
        let small = [BLIP, ("preprocessor_config.json", ""), ("vocab.txt", "")];
        let with = |more: &[(&'static str, &'static str)]| needed(&[&small[..], more].concat());
        let all = with(&[("pytorch_model.bin", ""), ("model.safetensors", ""), ("README.md", ""), ("tf_model.h5", "")]);
        assert_eq!(all.files, ["config.json", "preprocessor_config.json", "vocab.txt", "model.safetensors"]);
        assert!(all.missing.is_empty());
        let index = r#"{"weight_map": {"a": "model.fp16-00001-of-00002.safetensors", "b": "model.fp16-00002-of-00002.safetensors"}}"#;
        let (first, second) = ("model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors");
        let sharded = with(&[("model.safetensors.index.fp16.json", index), (first, ""), (second, "")]);
        assert_eq!(sharded.files[2..], ["preprocessor_config.json", "vocab.txt", first, second]);
        assert_eq!(sharded.files[1], "model.safetensors.index.fp16.json");
        let half = with(&[("model.safetensors.index.fp16.json", index), (first, "")]);
        assert_eq!(half.missing, [second]);
        for name in ["pytorch_model.fp16.bin", "model.bf16.safetensors", "pytorch_model.bf16.bin"] {
            assert_eq!(with(&[(name, "")]).files.last().unwrap(), name);
        }
    }

    #[test]
    fn what_loading_reads_is_needed() {
        let missing = |files: &[(&str, &str)]| needed(files).missing.join("; ");
        let text = missing(&[BLIP]);
        for part in ["preprocessor_config.json or processor_config.json", "tokenizer.json or vocab.txt", "weights here"]
        {
            assert!(text.contains(part), "{text}");
        }
        let phi = |config| missing(&[("config.json", config), ("tokenizer.json", ""), ("model.safetensors", "")]);
        let text = phi(r#"{"model_type": "phi4_multimodal"}"#);
        assert!(text.contains("vision-lora/adapter_config.json; in vision-lora/: weights here"), "{text}");
        assert_eq!(phi(r#"{"model_type": "phi4_multimodal", "vision_lora": null}"#), "");
        assert_eq!(phi(r#"{"model_type": "phi4mm"}"#), "");
    }

    #[test]
    fn of_a_pipeline_its_parts_are_needed() {
        let index = r#"{
            "_class_name": "StableDiffusionPipeline",
            "scheduler": ["diffusers", "PNDMScheduler"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "image_encoder": [null, null],
            "requires_safety_checker": true
        }"#;
        let mut files = vec![
            ("model_index.json", index),
            ("v1-5-pruned.safetensors", ""),
            ("model.safetensors", ""),
            ("scheduler/scheduler_config.json", ""),
            ("unet/config.json", ""),
            ("unet/diffusion_pytorch_model.bin", ""),
            ("unet/diffusion_pytorch_model.fp16.safetensors", ""),
            ("vae/config.json", ""),
            ("vae/diffusion_pytorch_model.safetensors", ""),
            ("text_encoder/config.json", ""),
            ("text_encoder/model.safetensors", ""),
            ("tokenizer/vocab.json", ""),
            ("tokenizer/merges.txt", ""),
            ("safety_checker/model.safetensors", ""),
        ];
        let whole = needed(&files);
        assert_eq!(whole.missing, [""; 0]);
        for file in ["unet/diffusion_pytorch_model.fp16.safetensors", "tokenizer/merges.txt", "model_index.json"] {
            assert!(whole.files.iter().any(|name| name == file), "{file}");
        }
        for file in ["model.safetensors", "v1-5-pruned.safetensors", "safety_checker/model.safetensors"] {
            assert!(whole.files.iter().all(|name| name != file), "{file}");
        }
        files.retain(|(name, _)| *name != "tokenizer/merges.txt" && *name != "scheduler/scheduler_config.json");
        let text = needed(&files).missing.join("; ");
        assert!(text.contains("tokenizer/vocab.json + tokenizer/merges.txt or tokenizer/tokenizer.json"), "{text}");
        assert!(text.contains("scheduler/scheduler_config.json"), "{text}");
        // What the index leaves out is missing all the same.
        let short = r#"{"_class_name": "StableDiffusion3Pipeline", "vae": ["diffusers", "AutoencoderKL"]}"#;
        assert!(needed(&[("model_index.json", short)]).missing.join("; ").contains("transformer/config.json"));
    }

    #[test]
    fn parts_that_lead_out_are_refused() {
        for name in ["../x", "/etc", "..", "a/../../b", "a\\\\..", ".git", ""] {
            let index = format!(r#"{{"_class_name": "StableDiffusionPipeline", "{name}": ["diffusers", "X"]}}"#);
            let error = ModelFiles.needed(&Memory::of(&[("model_index.json", &index)])).unwrap_err().to_string();
            assert!(error.contains("is not the name of a folder"), "{name}: {error}");
        }
    }

    /// As today's libraries save them; what is that of another golden is not stored twice: weights, and
    /// of Phi-4 the tokenizer and the adapter.
    #[test]
    fn folders_that_were_saved_again_have_all_they_need() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/resaved");
        for entry in std::fs::read_dir(root).unwrap() {
            let folder = FolderListing(entry.unwrap().path());
            let missing = ModelFiles.needed(&folder).unwrap().missing;
            let elsewhere = |name: &String| {
                name.contains("weights here")
                    || (folder.has("preprocessor_config.json")
                        && ["tokenizer.json", "vision-lora/adapter_config.json"].contains(&name.as_str()))
            };
            assert!(missing.iter().all(elsewhere), "{folder:?}: {missing:?}");
        }
    }

    /// What a family's loader opens, of the models of this repository; each is missed when it is gone.
    #[test]
    fn each_file_that_loading_reads_is_missed() {
        // No loader's, or read beside something else that says the same.
        let spare = |name: &str, file: &str| {
            let base = file.rsplit('/').next().unwrap();
            let phi = name == "mini-phi-4-multimodal";
            ["special_tokens_map.json", "added_tokens.json", "tokenizer_config.json", "spiece.model"].contains(&base)
                || ["generation_config.json", "tokenizer_3/tokenizer.json"].contains(&file)
                || (phi && (["vocab.json", "merges.txt"].contains(&base) || base.ends_with("processor_config.json")))
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/mini/models");
        for entry in std::fs::read_dir(root).unwrap() {
            let folder = FolderListing(entry.unwrap().path());
            // Adapters that are files.
            if folder.0.join("pytorch_lora_weights.safetensors").exists() || folder.0.join("image_encoder").exists() {
                continue;
            }
            let needed = ModelFiles.needed(&folder).unwrap();
            assert!(needed.missing.is_empty() && ModelFiles.is_whole(&folder), "{folder:?}: {needed:?}");
            let name = folder.0.file_name().unwrap().to_str().unwrap();
            // Of a metric net either file is one.
            if ["mini-lpips", "mini-art-inception"].contains(&name) {
                continue;
            }
            for gone in needed.files.iter().filter(|file| !spare(name, file)) {
                let rest: Vec<&String> = needed.files.iter().filter(|file| *file != gone).collect();
                let text = |file: &str| String::from_utf8(folder.read(file).unwrap()).unwrap_or_default();
                let less = Memory(rest.iter().map(|file| (file.to_string(), text(file))).collect());
                let missing = ModelFiles.needed(&less).unwrap().missing;
                assert!(!missing.is_empty() || gone == "config.json", "{name} without {gone}");
            }
        }
    }
}
