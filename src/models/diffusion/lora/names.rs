//! From what files of low-rank adapters call a layer to the layer: kohya's trainers write the path with underscores for
//! points, and use the names of the original layout or those of diffusers; older files have names of their own.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use crate::checkpoints::Entry;
use crate::models::diffusion::pipeline_part::{Part, Shapes};

/// A tensor under its names in diffusers' layout, as a family's key map gives it.
pub type KeyMap = Box<dyn Fn(&str, Entry) -> Result<Vec<(String, Entry)>>>;

/// A network that adapters may change.
pub struct Network {
    pub part: Part,
    /// What stands before the names of its layers, `""` where nothing does.
    pub dotted: &'static [&'static str],
    /// The same before names with underscores.
    pub flat: &'static [&'static str],
    /// Layers as the original layout calls them, for their names with underscores.
    pub originals: Vec<String>,
    /// From original names to those of diffusers, which it leaves as they are.
    pub key_map: KeyMap,
}

/// All layers of a pipeline that adapters may change, by all their names.
pub struct Index {
    /// The generator, for messages.
    pub title: &'static str,
    networks: Vec<Indexed>,
}

struct Indexed {
    network: Network,
    /// Shapes of the weights, by the names of their layers.
    layers: BTreeMap<String, (String, Vec<i64>)>,
    /// Names with underscores → with points.
    flat: HashMap<String, String>,
}

/// A layer that a file names.
pub struct Found<'a> {
    indexed: &'a Indexed,
    /// Its name, in the original layout or in that of diffusers.
    layer: String,
}

/// A weight that a part of an adapter's upper matrix changes.
#[derive(Debug)]
pub struct Target {
    pub part: &'static str,
    /// Its name in the checkpoint.
    pub key: String,
    pub shape: Vec<i64>,
    /// The rows of the upper matrix that belong to it.
    pub up: Entry,
}

impl Index {
    /// `networks`, and the weights of each under diffusers' names.
    pub fn new(title: &'static str, networks: Vec<(Network, Shapes)>) -> Self {
        let index = |(network, weights): (Network, Shapes)| {
            let mut layers = BTreeMap::new();
            for (key, shape) in weights {
                if let Some(layer) = key.strip_suffix(".weight").filter(|_| shape.len() > 1) {
                    layers.insert(bare(layer).to_string(), (key, shape));
                }
            }
            let names = layers.keys().chain(&network.originals);
            let flat = names.map(|name| (name.replace('.', "_"), name.clone())).collect();
            Indexed { network, layers, flat }
        };
        Self { title, networks: networks.into_iter().map(index).collect() }
    }

    /// The layer of this name in a file.
    pub fn find(&self, name: &str) -> Option<Found<'_>> {
        self.networks.iter().find_map(|indexed| Some(Found { indexed, layer: indexed.find(name)? }))
    }
}

impl Indexed {
    fn find(&self, name: &str) -> Option<String> {
        for prefix in self.network.dotted {
            let inner = match prefix {
                &"" => Some(name),
                prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')),
            };
            if let Some(layer) = inner.and_then(|inner| self.layer(inner)) {
                return Some(layer);
            }
        }
        let inner = |prefix: &&str| name.strip_prefix(*prefix)?.strip_prefix('_').map(|inner| inner.replace('.', "_"));
        let inner = self.network.flat.iter().find_map(inner)?;
        let bare = inner.strip_prefix("text_model_").unwrap_or(&inner);
        self.flat.get(bare).cloned()
    }

    /// A name with points, as it is or as old versions of diffusers have it.
    fn layer(&self, name: &str) -> Option<String> {
        let knows = |name: &str| self.layers.contains_key(name) || self.network.originals.iter().any(|own| own == name);
        let name = bare(name).replace(".processor.", ".");
        if knows(&name) {
            return Some(name);
        }
        let (inner, last) = name.rsplit_once('.')?;
        let now = match last {
            "to_q" => "q_proj",
            "to_k" => "k_proj",
            "to_v" => "v_proj",
            "to_out" => "out_proj",
            _ => return None,
        };
        [format!("{inner}.{now}"), format!("{name}.0")].into_iter().find(|name| knows(name))
    }
}

impl Found<'_> {
    /// The weights of the layer, each with its rows of the adapter's upper matrix `up`.
    pub fn targets(&self, up: Entry) -> Result<Vec<Target>> {
        let Indexed { network, layers, .. } = self.indexed;
        let mut targets = Vec::new();
        for (name, up) in (network.key_map)(&format!("{}.weight", self.layer), up)? {
            let layer = bare(name.strip_suffix(".weight").unwrap_or(&name));
            if let Some((key, shape)) = layers.get(layer) {
                targets.push(Target { part: network.part.folder, key: key.clone(), shape: shape.clone(), up });
            }
        }
        Ok(targets)
    }
}

/// Without the outermost name of text encoders, which some files leave out.
fn bare(layer: &str) -> &str {
    layer.strip_prefix("text_model.").unwrap_or(layer)
}
