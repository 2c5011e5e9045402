//! What counts as here, and what is pulled: all that loading reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::server::Plan;
use super::{failure, mini, output, pull, repository, root, snapshot, toolkit};

#[test]
fn a_part_that_is_lost_is_missed_and_fetched_again() {
    let files = mini("mini-blip");
    let hub = Plan::new(files.clone()).start();
    let home = tempfile::tempdir().unwrap();
    output(&mut pull(home.path(), &hub), 0);
    for (file, said) in [
        ("vocab.txt", "(no tokenizer.json or vocab.txt)"),
        ("preprocessor_config.json", "(no preprocessor_config.json or processor_config.json)"),
        ("pytorch_model.bin", "(no weights here: neither model.safetensors"),
        ("config.json", "(no model_index.json, config.json or weights in one file)"),
    ] {
        std::fs::remove_file(snapshot(home.path()).join(file)).unwrap();
        let error = failure(toolkit(home.path()).args(["models", "path", "owner/name"]));
        assert!(error.contains("is not (wholly) in the Hugging Face cache") && error.contains(said), "{file}: {error}");
        output(&mut pull(home.path(), &hub), 0);
        assert_eq!(&std::fs::read(snapshot(home.path()).join(file)).unwrap(), &files[file], "{file}");
    }
    // A configuration that was cut short is no JSON: mended, or named where nobody is there to mend it.
    std::fs::write(snapshot(home.path()).join("config.json"), "{\"model_type\"").unwrap();
    let error = failure(pull(home.path(), &hub).env("HF_ENDPOINT", "http://127.0.0.1:9"));
    assert!(error.contains("config.json is not valid JSON"), "{error}");
    output(&mut pull(home.path(), &hub), 0);
    assert_eq!(&std::fs::read(snapshot(home.path()).join("config.json")).unwrap(), &files["config.json"]);
    // A link to a blob that was thrown away is nothing.
    std::fs::remove_dir_all(repository(home.path()).join("blobs")).unwrap();
    failure(toolkit(home.path()).args(["models", "path", "owner/name"]));
    output(&mut pull(home.path(), &hub), 0);
    output(toolkit(home.path()).args(["models", "path", "owner/name"]), 0);
}

#[test]
fn a_repository_without_a_part_is_refused_before_the_weights() {
    for (gone, said) in [
        ("vocab.txt", "owner/name has no tokenizer.json or vocab.txt: it cannot be loaded here"),
        ("preprocessor_config.json", "has no preprocessor_config.json or processor_config.json"),
        ("pytorch_model.bin", "neither model.safetensors"),
        ("config.json", "has no model_index.json, config.json or weights in one file"),
    ] {
        let mut files = mini("mini-blip");
        files.remove(gone);
        let hub = Plan::new(files).start();
        let home = tempfile::tempdir().unwrap();
        let error = failure(&mut pull(home.path(), &hub));
        assert!(error.contains(said), "{gone}: {error}");
        assert!(hub.asked().iter().all(|asked| !asked.path.contains("pytorch_model")));
    }
    // Of a family that is not known here nothing large is fetched.
    let files = [("config.json", r#"{"model_type": "llama"}"#), ("model.safetensors", "")];
    let files = files.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
    let hub = Plan::new(BTreeMap::from(files)).start();
    let home = tempfile::tempdir().unwrap();
    let error = failure(&mut pull(home.path(), &hub));
    assert!(error.contains("model_type \"llama\" is not a family known here"), "{error}");
    assert!(hub.asked().iter().all(|asked| !asked.path.contains("model.safetensors")));
}

/// Every form of weights that loads can be pulled.
#[test]
fn all_forms_of_weights_are_pulled() {
    let golden = |folder: &str| super::files_of(&root().join("tests/golden/checkpoints").join(folder));
    let mut small = mini("mini-blip");
    small.remove("pytorch_model.bin");
    let renamed = |files: BTreeMap<String, Vec<u8>>, from: &str, to: &str| -> BTreeMap<String, Vec<u8>> {
        let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(text) => text.replace(from, to).into_bytes(),
            Err(error) => error.into_bytes(),
        };
        files.into_iter().map(|(name, bytes)| (name.replace(from, to), text(bytes))).collect()
    };
    let one = |name: &str| BTreeMap::from([(name.to_string(), mini("mini-blip")["pytorch_model.bin"].clone())]);
    for weights in [
        golden("folder_sharded"),
        golden("folder_sharded_fp16"),
        renamed(golden("folder_sharded_fp16"), "fp16", "bf16"),
        golden("folder_sharded_bin"),
        one("pytorch_model.fp16.bin"),
        one("pytorch_model.bf16.bin"),
        one("model.bin"),
        one("model.fp16.safetensors"),
        one("model.bf16.safetensors"),
    ] {
        let names: Vec<String> = weights.keys().cloned().collect();
        let mut files = small.clone();
        files.extend(weights);
        let hub = Plan::new(files).start();
        let home = tempfile::tempdir().unwrap();
        output(&mut pull(home.path(), &hub), 0);
        for name in &names {
            assert!(snapshot(home.path()).join(name).is_file(), "{name}");
        }
        std::fs::remove_file(snapshot(home.path()).join(&names[0])).unwrap();
        failure(toolkit(home.path()).args(["models", "path", "owner/name"]));
    }
}

#[test]
fn the_nets_of_metrics_are_pulled_too() {
    let hub = Plan::new(mini("mini-lpips")).start();
    let home = tempfile::tempdir().unwrap();
    let (out, _) = output(&mut pull(home.path(), &hub), 0);
    let folder = PathBuf::from(out.trim());
    assert!(folder.join("alex.pth").is_file() && folder.join("alexnet.pth").is_file());
}
