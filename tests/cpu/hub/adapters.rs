//! LoRA, ControlNet and IP-Adapter from a hub: what is pulled, and that an experiment draws with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

use super::server::{COMMIT, Hub, Plan};
use super::{failure, mini, output, root, toolkit};

const ADAPTER: &str = "owner/shown/models/ip-adapter_sd15.safetensors";

/// The repositories of three adapters of mini-sd-v1-5, as such are published: beside the files that are read lie others.
fn repository(name: &str) -> BTreeMap<String, Vec<u8>> {
    let beside = |name: &str| (name.to_string(), b"nobody reads it".to_vec());
    match name {
        "ink" => {
            mini("mini-lora-sd-v1-5").into_iter().chain([beside("optimizer.bin"), beside("checkpoint-1.bin")]).collect()
        }
        "net" => mini("mini-controlnet-canny").into_iter().chain([beside("images/example.png")]).collect(),
        _ => {
            let inside = |(name, bytes): (String, Vec<u8>)| (format!("models/{name}"), bytes);
            let others = ["models/ip-adapter-plus_sd15.safetensors", "sdxl_models/ip-adapter_sdxl.bin"];
            mini("mini-ip-adapter").into_iter().map(inside).chain(others.map(beside)).collect()
        }
    }
}

fn hub(name: &str) -> Hub {
    Plan::new(repository(name)).id(&format!("owner/{name}")).start()
}

fn at(home: &Path, hub: &Hub, arguments: &[&str]) -> Command {
    let mut command = toolkit(home);
    command.env("HF_ENDPOINT", &hub.address).args(arguments);
    command
}

fn cached(home: &Path, name: &str) -> PathBuf {
    home.join(format!(".cache/huggingface/hub/models--owner--{name}/snapshots/{COMMIT}"))
}

/// The names of all files of a repository that are here.
fn files(home: &Path, name: &str) -> Vec<String> {
    super::files_of(&cached(home, name)).into_keys().filter(|name| !name.ends_with(".md")).collect()
}

/// Nothing but what is read is pulled, and it is found without the network.
#[test]
fn adapters_are_pulled_by_their_ids() {
    let home = tempfile::tempdir().unwrap();
    let encoder = ["models/image_encoder/config.json", "models/image_encoder/model.safetensors"];
    for (name, id, expected, pulled) in [
        ("ink", "owner/ink", "pytorch_lora_weights.safetensors", vec!["pytorch_lora_weights.safetensors"]),
        ("net", "owner/net", "", vec!["config.json", "diffusion_pytorch_model.safetensors"]),
        (
            "shown",
            ADAPTER,
            "models/ip-adapter_sd15.safetensors",
            [&encoder[..], &["models/ip-adapter_sd15.safetensors"]].concat(),
        ),
    ] {
        let hub = hub(name);
        let (out, _) = output(&mut at(home.path(), &hub, &["models", "pull", id]), 0);
        let path = cached(home.path(), name).join(expected);
        assert_eq!(Path::new(out.trim()), path.components().as_path(), "{name}");
        assert_eq!(files(home.path(), name), pulled, "{name}");
        let asked = hub.asked().len();
        let (again, _) = output(toolkit(home.path()).args(["--offline", "models", "path", id]), 0);
        assert_eq!((again, hub.asked().len()), (out, asked), "{name}");
        let (verified, _) = output(toolkit(home.path()).args(["models", "verify", id]), 0);
        assert!(verified.contains("all finite") && verified.contains("`stylize --"), "{verified}");
    }
}

/// A repository of IP-Adapters is none of one model: the file is to be named.
#[test]
fn a_repository_of_ip_adapters_asks_for_the_file() {
    let (home, hub) = (tempfile::tempdir().unwrap(), hub("shown"));
    let error = failure(&mut at(home.path(), &hub, &["models", "pull", "owner/shown"]));
    assert!(error.contains("name an IP-Adapter by its file: OWNER/NAME/models/ip-adapter"), "{error}");
    assert!(hub.asked().iter().all(|asked| !asked.path.contains("safetensors")));
}

/// An encoder that did not come is said, and fetched by the next that draws.
#[test]
fn an_encoder_that_is_missing_is_fetched() {
    let (home, hub) = (tempfile::tempdir().unwrap(), hub("shown"));
    output(&mut at(home.path(), &hub, &["models", "pull", ADAPTER]), 0);
    let encoder = cached(home.path(), "shown").join("models/image_encoder/model.safetensors");
    std::fs::remove_file(&encoder).unwrap();
    let error = failure(toolkit(home.path()).args(["models", "verify", ADAPTER]));
    assert!(error.contains("image_encoder") && error.contains("model"), "{error}");
    output(&mut at(home.path(), &hub, &["models", "pull", ADAPTER]), 0);
    assert!(encoder.is_file());
}

/// Two of the three are here, the third comes when the experiment asks for it; all three are in its manifest, and change the
/// picture as the same files do.
#[test]
fn an_experiment_draws_with_adapters_of_the_hub() {
    let home = tempfile::tempdir().unwrap();
    for (name, id) in [("net", "owner/net"), ("shown", ADAPTER)] {
        output(&mut at(home.path(), &hub(name), &["models", "pull", id]), 0);
    }
    let models = root().join("experiments/mini/models");
    let own = |name: &str| models.join(name).display().to_string();
    let run = |out: &str, [lora, net, adapter]: [&str; 3]| {
        let hub = hub("ink");
        let mut command = at(home.path(), &hub, &["--device", "cpu", "experiment", "beyond_words", "--limit", "1"]);
        for (key, value) in
            [("lora", format!("{lora}:0.5")), ("controlnet", net.into()), ("ip_adapter", adapter.into())]
        {
            command.args(["--set", &format!("{key}={value}")]);
        }
        for set in
            ["control=canny:0.5", "ip_images=mini/shown/lorelei-neutral-065.png", "steps=2", "metrics=[\"lpips\"]"]
        {
            command.args(["--set", set]);
        }
        let out = home.path().join(out);
        output(command.arg("--out").arg(&out), 0);
        let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
        let folders = super::files_of(&out.join("images"));
        assert_eq!(folders.len(), 1, "{:?}", folders.keys());
        // The files' names are in the picture's text.
        let pixels = image::load_from_memory(folders.values().next().unwrap()).unwrap().to_rgb8();
        (manifest, pixels, hub.asked().len())
    };
    let (manifest, drawn, asked) = run("hub", ["owner/ink", "owner/net", ADAPTER]);
    for name in ["owner/ink", "owner/net", ADAPTER] {
        assert!(manifest.contains(&format!("\"{name}\"")), "{name}: {manifest}");
    }
    assert!(asked > 0 && files(home.path(), "ink") == ["pytorch_lora_weights.safetensors"]);
    let file = own("mini-ip-adapter/ip-adapter_sd15.safetensors");
    let (_, expected, asked) = run("own", [&own("mini-lora-sd-v1-5"), &own("mini-controlnet-canny"), &file]);
    assert!(drawn == expected && asked == 0);
}
