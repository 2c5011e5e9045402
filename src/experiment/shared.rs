//! The keys that the configurations of all kinds of experiments have.

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profiles::{check_run_name, positive};
use super::schema::{batch_size, properties, schema_of};
use crate::run::published::Published;
use crate::runtime::choose_tf32;

/// The keys that every kind has; part of its configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shared {
    /// What the experiment is called; its run folder is `runs/NAME`.
    pub name: String,
    /// What the experiment asks, in one sentence.
    #[serde(default)]
    pub question: String,
    /// The profile that was chosen; written into a run's own `config.toml`.
    #[serde(default)]
    pub profile: String,
    /// Only the first photos, or the first pictures of each data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Only part I of N: `I/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The longest description, in tokens; not given: the captioner's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<usize>,
    /// Beams of the search for descriptions; 1 is greedy.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub num_beams: usize,
    /// Pictures at a time, described or drawn; not given, or "auto": chosen for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "batch_size")]
    pub batch_size: Option<usize>,
    /// The metrics that are computed (`toolkit metrics list`); not given: the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
    /// The CLIP of `clip_score`, `ref_clip_score`, `clip_text` and `clip_image`: a name, a folder or a hub id; not given:
    /// clip-vit-b-32. It is needed only where `metrics` names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<String>,
    /// Whether networks of metrics may round what they multiply to TensorFloat-32 on a GPU, three decimal digits, as PyTorch's
    /// convolutions do unless they are told not to.
    #[serde(default, skip_serializing_if = "is_off")]
    pub tf32: bool,
    /// Results published elsewhere, shown beside the measured ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
}

/// The names of these keys.
pub(super) fn shared_keys() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| properties(&schema_of::<Shared>()).map(|(key, _)| key.clone()).collect())
}

fn is_off(choice: &bool) -> bool {
    !choice
}

fn one() -> usize {
    1
}

impl Shared {
    /// Has networks of metrics round as these keys say, where `device` can; says where it cannot.
    pub(super) fn choose_rounding(&self, device: &str) {
        let is_cpu = device.starts_with("cpu");
        if self.tf32 && is_cpu {
            tracing::warn!("tf32 has no effect here: a CPU has none");
        }
        choose_tf32(self.tf32 && !is_cpu);
    }

    /// What no type can say.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        check_run_name(&self.name)?;
        positive("limit", self.limit)?;
        positive("batch_size", self.batch_size)?;
        positive("max_new_tokens", self.max_new_tokens)?;
        positive("num_beams", Some(self.num_beams))
    }

    /// These keys (a run folder's) with everything as in `asked` that may change without changing results.
    pub(super) fn take_what_may_change(&mut self, asked: &Self) {
        self.batch_size = asked.batch_size;
        self.metrics = asked.metrics.clone();
        self.published = asked.published.clone();
        if self.limit.is_some() && asked.limit.is_none_or(|limit| self.limit <= Some(limit)) {
            self.limit = asked.limit;
        }
    }
}
