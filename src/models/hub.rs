//! The Hugging Face cache that Python's `huggingface_hub` keeps, and downloads into it.
//!
//! Layout: `models--owner--name/refs/REVISION` names a commit, `snapshots/COMMIT/` holds its files.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;

use crate::checkpoints::files_of_dir;

/// A repository of models on the hub, at a revision (a branch, a reference such as `refs/pr/3`, or
/// a commit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    id: String,
    revision: String,
}

impl Repository {
    /// Takes `owner/name` or `owner/name@revision`; None when `text` does not look like one.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, name) = id.split_once('/')?;
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let safe_revision = !revision.is_empty() && revision.split('/').all(plain);
        (plain(owner) && plain(name) && safe_revision)
            .then(|| Self { id: id.to_string(), revision: revision.to_string() })
    }

    /// The snapshot's folder, complete; downloads what is missing unless `offline`.
    pub fn folder(&self, offline: bool) -> Result<PathBuf> {
        match self.cached_folder() {
            Some(folder) => Ok(folder),
            None if offline => bail!(
                "{} is not (wholly) in the Hugging Face cache {} and the network is not to be used",
                self.id,
                cache_dir().display()
            ),
            None => self.download(),
        }
    }

    /// The snapshot's folder if everything that is needed of it is there.
    pub fn cached_folder(&self) -> Option<PathBuf> {
        self.snapshot().filter(|folder| is_complete(folder))
    }

    /// One file of the snapshot, if it is there.
    pub fn cached_file(&self, file: &str) -> Option<PathBuf> {
        self.snapshot().map(|folder| folder.join(file)).filter(|path| path.is_file())
    }

    fn snapshot(&self) -> Option<PathBuf> {
        let repo = cache_dir().join(format!("models--{}", self.id.replace('/', "--")));
        let commit = std::fs::read_to_string(repo.join("refs").join(&self.revision));
        let commit = commit.map_or_else(|_| self.revision.clone(), |commit| commit.trim().to_string());
        Some(repo.join("snapshots").join(commit)).filter(|folder| folder.is_dir())
    }

    /// Downloads one file into the cache.
    pub fn download_file(&self, file: &str) -> Result<PathBuf> {
        self.get(&self.remote()?, file)
    }

    /// Downloads the files that are needed and not there yet: configs, vocabularies, and of the
    /// weights one format only.
    fn download(&self) -> Result<PathBuf> {
        let remote = self.remote()?;
        let info = remote.info().map_err(|error| self.explain(error))?;
        let files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let mut folders = vec![String::new()];
        let pipeline = files.iter().any(|file| file == "model_index.json");
        if pipeline {
            let index = read_json(&self.get(&remote, "model_index.json")?)?;
            folders.extend(parts_of(&index).map(|part| format!("{part}/")));
        } else if files.iter().any(|file| file == "config.json") {
            let config = read_json(&self.get(&remote, "config.json")?)?;
            // This layout keeps the adapter that every picture needs apart.
            if config.get("model_type").and_then(Value::as_str) == Some("phi4_multimodal") {
                folders.push("vision-lora/".to_string());
            }
        }
        let wanted = needed_files(&files, &folders, pipeline);
        if wanted.is_empty() {
            bail!("{}: no model files in this repository", self.id);
        }
        for file in &wanted {
            self.get(&remote, file)?;
        }
        self.cached_folder().with_context(|| format!("{}: the download is not complete", self.id))
    }

    fn get(&self, remote: &ApiRepo, file: &str) -> Result<PathBuf> {
        let path = remote.get(file).map_err(|error| self.explain(error));
        path.with_context(|| format!("downloading {file} of {}", self.id))
    }

    fn remote(&self) -> Result<ApiRepo> {
        let repo = Repo::with_revision(self.id.clone(), RepoType::Model, self.revision.clone());
        Ok(api()?.repo(repo))
    }

    /// What the user can do about it.
    fn explain(&self, error: ApiError) -> anyhow::Error {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or("unknown error");
        if text.contains("401") || text.contains("403") {
            return anyhow!(
                "the hub refuses {}: accept its licence on its page and set HF_TOKEN, or check the name ({line})",
                self.id
            );
        }
        if text.contains("404") {
            return anyhow!("{} is not on the hub at revision {} ({line})", self.id, self.revision);
        }
        anyhow!("the hub cannot be reached: use a local folder, or --offline with a filled cache ({line})")
    }
}

fn api() -> Result<Api> {
    let mut builder = ApiBuilder::from_cache(Cache::new(cache_dir())).with_retries(3);
    if let Ok(endpoint) = env::var("HF_ENDPOINT") {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_string());
    }
    if let Ok(token) = env::var("HF_TOKEN")
        && !token.trim().is_empty()
    {
        builder = builder.with_token(Some(token.trim().to_string()));
    }
    builder.build().map_err(|error| anyhow!("cannot start the hub client: {error}"))
}

/// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub` (`XDG_CACHE_HOME` instead
/// of `~/.cache` where it is set).
pub fn cache_dir() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HF_HUB_CACHE")
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .unwrap_or_else(|| user_cache().join("huggingface/hub"))
}

/// The user's cache folder: `XDG_CACHE_HOME`, else `~/.cache`.
pub(super) fn user_cache() -> PathBuf {
    env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_else(|| ".".into())).join(".cache"), PathBuf::from)
}

/// Parts of a pipeline that nothing here uses.
const UNUSED_PARTS: [&str; 3] = ["safety_checker", "feature_extractor", "image_encoder"];

/// The names under which a folder's weights may be, the preferred first.
const WEIGHTS: [&str; 11] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
];

/// Of all files of a repository those to fetch: in each of these folders the small text files, and
/// the weights in one format.
fn needed_files(files: &[String], folders: &[String], pipeline: bool) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    for folder in folders {
        let inside = files.iter().filter_map(|file| file.strip_prefix(folder.as_str()));
        let inside: Vec<&str> = inside.filter(|file| !file.contains('/')).collect();
        // A pipeline's root holds single-file copies of its parts.
        let weights = if pipeline && folder.is_empty() { Vec::new() } else { weight_files(&inside) };
        let texts = inside.iter().filter(|file| is_text(file)).copied();
        wanted.extend(texts.chain(weights).map(|file| format!("{folder}{file}")));
    }
    wanted
}

/// The weights of one folder, in the format that is preferred.
fn weight_files<'a>(inside: &[&'a str]) -> Vec<&'a str> {
    let Some(name) = WEIGHTS.iter().find_map(|name| inside.iter().find(|file| *file == name)) else {
        return Vec::new();
    };
    let mut files = vec![*name];
    if let Some((stem, extension)) = name.strip_suffix(".index.json").and_then(|whole| whole.rsplit_once('.')) {
        // Shards are called like `model-00001-of-00002.safetensors`.
        let is_shard = |file: &&&str| file.starts_with(&format!("{stem}-")) && file.ends_with(extension);
        files.extend(inside.iter().filter(is_shard));
    }
    files
}

fn is_text(file: &str) -> bool {
    const ENDINGS: [&str; 4] = [".json", ".txt", ".model", ".jinja"];
    ENDINGS.iter().any(|ending| file.ends_with(ending)) && !file.ends_with(".index.json")
}

/// The folders that a `model_index.json` lists: `"vae": ["diffusers", "AutoencoderKL"]`.
fn parts_of(index: &Value) -> impl Iterator<Item = &str> {
    index.as_object().into_iter().flatten().filter_map(|(name, class)| {
        let used = class.as_array().is_some_and(|class| class.iter().all(|part| part.is_string()));
        (used && !UNUSED_PARTS.contains(&name.as_str())).then_some(name.as_str())
    })
}

/// The parts of a pipeline's folder that are used here.
pub(super) fn parts_of_folder(folder: &Path) -> Result<Vec<String>> {
    let index = read_json(&folder.join("model_index.json"))?;
    Ok(parts_of(&index).map(str::to_string).collect())
}

/// Whether a snapshot holds every part, with weights where a part's class is a network.
fn is_complete(folder: &Path) -> bool {
    let pipeline = folder.join("model_index.json");
    if !pipeline.is_file() {
        return folder.join("config.json").is_file() && has_weights(folder);
    }
    let Ok(index) = read_json(&pipeline) else { return false };
    parts_of(&index).all(|part| {
        let part = folder.join(part);
        // Networks have a config.json; schedulers and tokenizers have none.
        part.is_dir() && (!part.join("config.json").is_file() || has_weights(&part))
    })
}

fn has_weights(folder: &Path) -> bool {
    files_of_dir(folder, "model").is_ok() || files_of_dir(folder, "diffusion_pytorch_model").is_ok()
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not valid JSON", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_told_from_paths() {
        let parsed = Repository::parse("owner/some-model_1.5").unwrap();
        assert_eq!((parsed.id.as_str(), parsed.revision.as_str()), ("owner/some-model_1.5", "main"));
        assert_eq!(Repository::parse("o/n@refs/pr/3").unwrap().revision, "refs/pr/3");
        for text in ["name", "./folder/x", "/abs/path", "a/b/c", "../x", "o/..", "o/n@../../x", "o/n@", "o n/x"] {
            assert_eq!(Repository::parse(text), None, "{text}");
        }
    }

    fn wanted(files: &[&str], folders: &[&str], pipeline: bool) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        needed_files(&owned(files), &owned(folders), pipeline).into_iter().collect()
    }

    #[test]
    fn one_format_of_the_weights_is_fetched() {
        let files = ["config.json", "pytorch_model.bin", "model.safetensors", "tf_model.h5", "README.md", "vocab.txt"];
        assert_eq!(wanted(&files, &[""], false), ["config.json", "model.safetensors", "vocab.txt"]);
        assert_eq!(wanted(&files[..2], &[""], false), ["config.json", "pytorch_model.bin"]);
        let sharded = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let listed =
            [&sharded[..], &["config.json", "model.safetensors.index.json", "other/model.safetensors"]].concat();
        assert_eq!(
            wanted(&listed, &[""], false),
            ["config.json", sharded[0], sharded[1], "model.safetensors.index.json"]
        );
    }

    #[test]
    fn of_a_pipeline_its_parts_are_fetched() {
        let index = serde_json::json!({
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "image_encoder": [null, null],
            "requires_safety_checker": true,
        });
        assert_eq!(parts_of(&index).collect::<Vec<_>>(), ["unet", "tokenizer"]);
        let files = [
            "model_index.json",
            "v1-5-pruned.safetensors",
            "model.safetensors",
            "unet/config.json",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "safety_checker/model.safetensors",
        ];
        assert_eq!(
            wanted(&files, &["", "unet/", "tokenizer/"], true),
            [
                "model_index.json",
                "tokenizer/merges.txt",
                "tokenizer/vocab.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model.safetensors"
            ]
        );
    }
}
