//! The JSON files of a checkpoint: what sizes they may name, and errors that say which key is wrong.
//!
//! A size that no network has is not left to whoever allocates by it: 2³¹ layers would end the process, and a noise
//! schedule of as many steps takes all memory. `LIMITS` is the one list of what a number may be.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::usage;

/// Bytes of a configuration at most; the longest known has 20 kB.
const MOST_BYTES: u64 = 16 << 20;

/// Numbers from the first to the last, by the key under which they stand, alone or in a list.
struct Limit {
    from: f64,
    to: f64,
    keys: &'static [&'static str],
}

/// Far beyond every published network, and far below what would exhaust a machine by itself.
const LIMITS: &[Limit] = &[
    Limit {
        from: 1.0,
        to: 1024.0,
        keys: &["num_hidden_layers", "num_layers", "layers_per_block", "transformer_layers_per_block"],
    },
    Limit {
        from: 1.0,
        to: 131_072.0,
        keys: &[
            "hidden_size",
            "intermediate_size",
            "d_model",
            "d_ff",
            "d_kv",
            "joint_attention_dim",
            "caption_projection_dim",
            "pooled_projection_dim",
            "cross_attention_dim",
            "block_out_channels",
            "time_embedding_dim",
            "attention_head_dim",
            "head_dim",
            "in_channels",
            "out_channels",
            "latent_channels",
            "num_channels",
            "norm_num_groups",
            "num_attention_heads",
            "num_key_value_heads",
            "num_heads",
            "r",
        ],
    },
    Limit { from: 0.0, to: 131_072.0, keys: &["projection_dim"] },
    Limit {
        from: 1.0,
        to: 16_384.0,
        keys: &[
            "image_size",
            "crop_size",
            "sample_size",
            "patch_size",
            "pos_embed_max_size",
            "size",
            "height",
            "width",
            "shortest_edge",
            "dynamic_hd",
        ],
    },
    Limit { from: 1.0, to: 63.0, keys: &["conv_in_kernel", "conv_out_kernel"] },
    Limit { from: 0.0, to: 63.0, keys: &["downsample_padding"] },
    Limit { from: 1.0, to: 16_777_216.0, keys: &["vocab_size", "relative_attention_max_distance"] },
    Limit { from: 2.0, to: 65_536.0, keys: &["relative_attention_num_buckets"] },
    Limit {
        from: 1.0,
        to: 16_777_216.0,
        keys: &["max_position_embeddings", "original_max_position_embeddings", "sliding_window"],
    },
    Limit {
        from: 0.0,
        to: 16_777_216.0,
        keys: &[
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "sep_token_id",
            "image_token_id",
            "special_image_token_id",
        ],
    },
    Limit { from: -1024.0, to: 1024.0, keys: &["feature_layer"] },
    Limit { from: 0.0, to: 1.0, keys: &["layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "norm_eps"] },
    Limit { from: 1.0, to: 1_000_000.0, keys: &["num_train_timesteps"] },
    // With a step that adds no noise at all, solvers divide by zero.
    Limit { from: 1e-9, to: 1.0, keys: &["beta_start", "beta_end"] },
    Limit { from: 0.0, to: 1.0, keys: &["trained_betas"] },
    Limit { from: 0.0, to: 1_000_000.0, keys: &["steps_offset", "sigma_min", "sigma_max"] },
    Limit { from: 1.0, to: 3.0, keys: &["solver_order"] },
    Limit { from: 1e-6, to: 1e6, keys: &["shift", "scaling_factor", "base_image_seq_len", "max_image_seq_len"] },
    Limit { from: -1e6, to: 1e6, keys: &["base_shift", "max_shift", "shift_factor", "freq_shift", "lora_alpha"] },
    Limit { from: 0.0, to: 1.0, keys: &["shift_terminal", "partial_rotary_factor"] },
    Limit {
        from: 1e-6,
        to: 1e6,
        keys: &["mid_block_scale_factor", "clip_sample_range", "rescale_factor", "image_std"],
    },
    Limit { from: -1e6, to: 1e6, keys: &["image_mean", "length_penalty"] },
    Limit {
        from: 1e-9,
        to: 1e12,
        keys: &["rope_theta", "factor", "attention_factor", "short_factor", "long_factor", "repetition_penalty"],
    },
    Limit { from: 1.0, to: 1024.0, keys: &["num_beams"] },
    Limit {
        from: 0.0,
        to: 16_777_216.0,
        keys: &["max_new_tokens", "max_length", "min_length", "min_new_tokens", "no_repeat_ngram_size"],
    },
];

/// Reads a file into its own type. Errors name the file and the key.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    read_value(path).and_then(take).with_context(|| path.display().to_string())
}

/// The file as it stands, with numbers that are possible; the error does not name it.
fn read_value(path: &Path) -> Result<Value> {
    let length = std::fs::metadata(path).context("cannot be read")?.len();
    if length > MOST_BYTES {
        bail!("{length} bytes are no configuration");
    }
    parse(&std::fs::read(path).context("cannot be read")?)
}

/// The value of a text, with numbers that are possible.
pub fn parse(text: &[u8]) -> Result<Value> {
    let value = serde_json::from_slice(text).context("not JSON")?;
    check(&value)?;
    Ok(value)
}

/// A value in its own type. Errors name the key.
pub fn take<T: DeserializeOwned>(value: Value) -> Result<T> {
    check(&value)?;
    serde_path_to_error::deserialize(&value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { culprit::<T>(&value).unwrap_or(path) } else { path };
        let reason = error.into_inner();
        if path == "." { anyhow!("{reason}") } else { anyhow!("{path}: {reason}") }
    })
}

/// The key without which the rest can be read, where the path of an error was lost (serde collects the keys of a
/// flattened struct before it reads them).
fn culprit<T: DeserializeOwned>(value: &Value) -> Option<String> {
    let object = value.as_object()?;
    object.keys().find_map(|key| {
        let mut rest = object.clone();
        rest.remove(key);
        T::deserialize(Value::Object(rest)).is_ok().then(|| key.clone())
    })
}

/// Checks every number under a key of `LIMITS`, wherever it stands.
pub fn check(value: &Value) -> Result<()> {
    match value {
        Value::Object(keys) => keys.iter().try_for_each(|(key, value)| {
            if let Some(limit) = LIMITS.iter().find(|limit| limit.keys.contains(&key.as_str())) {
                within(limit, key, value)?;
            }
            check(value)
        }),
        Value::Array(values) => values.iter().try_for_each(check),
        _ => Ok(()),
    }
}

fn within(limit: &Limit, key: &str, value: &Value) -> Result<()> {
    match value {
        Value::Number(number) => {
            let possible = number.as_f64().is_some_and(|number| (limit.from..=limit.to).contains(&number));
            if !possible {
                return Err(usage(format!("{key} is {number}, and can be from {} to {}", limit.from, limit.to)));
            }
            Ok(())
        }
        Value::Array(values) => values.iter().try_for_each(|value| within(limit, key, value)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    #[expect(dead_code, reason = "only read")]
    struct Sizes {
        num_layers: usize,
        #[serde(flatten)]
        more: More,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct More {
        vocab_size: i64,
    }

    fn wrong(value: Value) -> String {
        format!("{:#}", take::<Sizes>(value).unwrap_err())
    }

    #[test]
    fn a_number_that_no_network_has_is_named_with_its_key() {
        assert_eq!(wrong(json!({"num_layers": 1u64 << 31})), "num_layers is 2147483648, and can be from 1 to 1024");
        assert_eq!(
            wrong(json!({"text": {"layers_per_block": [2, 0]}})),
            "layers_per_block is 0, and can be from 1 to 1024"
        );
        assert!(wrong(json!({"beta_start": 1e308})).starts_with("beta_start is 1e+308"));
        assert!(take::<Sizes>(json!({"num_layers": 3, "beta_start": null, "size": {"height": 3}})).is_ok());
    }

    #[test]
    fn a_wrong_type_is_named_with_its_key() {
        assert!(wrong(json!({"num_layers": 3, "vocab_size": "many"})).starts_with("vocab_size: "));
        assert!(wrong(json!({"num_layers": 2.5})).starts_with("num_layers: "));
        assert!(wrong(json!([1])).contains("invalid type"));
    }

    #[test]
    fn no_key_has_two_limits() {
        let keys: Vec<&str> = LIMITS.iter().flat_map(|limit| limit.keys).copied().collect();
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{key}");
        }
    }
}
