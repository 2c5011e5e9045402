//! What is to be looked at.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use crate::images;
use crate::metrics::image::features;
use crate::metrics::image::networks::Network;
use crate::metrics::image::pictures::{Pair, Square, rows};
use crate::models::LpipsFiles;
use crate::workers::Paths;

/// The part of a worker's task that this command is.
pub const TASK: &str = "pictures";

/// Pictures, and what looks at them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Look {
    pub nets: Nets,
    pub sets: Vec<Set>,
    /// Pictures at a time, where that was asked for.
    pub most: Option<usize>,
    /// Whether a GPU may round to TensorFloat-32.
    pub tf32: bool,
    /// Whether libtorch's solvers are needed on the first device, for what comes then.
    #[serde(skip)]
    pub solvers: bool,
}

/// Networks by their files or names.
#[derive(Debug, Serialize, Deserialize)]
pub enum Nets {
    /// art-Inception and LPIPS' two files.
    ArtFid(Paths),
    Lpips(Paths),
    /// A network by the name that it is chosen by, and that of its weights.
    Features(String, Option<String>),
}

impl Nets {
    pub fn art_fid(inception: PathBuf, lpips: LpipsFiles) -> Self {
        Self::ArtFid(Paths(vec![inception, lpips.backbone, lpips.linear]))
    }

    pub fn lpips(lpips: LpipsFiles) -> Self {
        Self::Lpips(Paths(vec![lpips.backbone, lpips.linear]))
    }

    /// The size of pictures as the network sees them; none: their own.
    pub fn sees(&self) -> Option<(u32, u32)> {
        let Self::Features(network, _) = self else { return None };
        Network::named(network).filter(|network| !network.takes_own_size()).map(Network::usual_size)
    }
}

/// Pictures of one folder, or of pairs; or texts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Set {
    pub files: Paths,
    /// What `files` are compared with, one each; none where they stand alone.
    pub content: Paths,
    pub texts: Vec<String>,
    /// What pictures become first.
    pub square: Option<Square>,
}

impl Set {
    pub fn files(files: &[PathBuf]) -> Self {
        Self { files: Paths(files.to_vec()), ..Self::default() }
    }

    pub fn pairs(pairs: &[Pair]) -> Self {
        let (files, content) = pairs.iter().map(|pair| (pair.stylized.clone(), pair.content.clone())).unzip();
        Self { files: Paths(files), content: Paths(content), ..Self::default() }
    }

    /// With all pictures made squares, where these are asked for.
    pub fn with_squares(self, square: Option<&Square>) -> Self {
        Self { square: square.cloned(), ..self }
    }

    pub fn texts(texts: Vec<String>) -> Self {
        Self { texts, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.files.0.len() + self.texts.len()
    }

    pub fn is_paired(&self) -> bool {
        !self.content.0.is_empty()
    }
}

/// Pictures or texts that are looked at together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    pub set: usize,
    pub places: Range<usize>,
}

/// What the networks say of a set: float32 [pictures, features] and [pictures], where they say it, on the first device.
#[derive(Debug)]
pub struct Seen {
    pub features: Option<Tensor>,
    pub lpips: Option<Tensor>,
}

impl Seen {
    /// The same on a device.
    pub fn on(self, device: Device) -> Result<Self> {
        let there = |tensor: Option<Tensor>| tensor.map(|tensor| tensor.f_to_device(device)).transpose();
        Ok(Self { features: there(self.features)?, lpips: there(self.lpips)? })
    }
}

impl Look {
    /// For the results: whether they are rounded more than others.
    pub fn note(&self, json: &mut Map<String, Value>) {
        if self.tf32 {
            json.insert("tf32".to_string(), json!(true));
        }
    }

    /// All batches, a set after the other, as they suit such devices.
    pub fn batches(&self, device: Device) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        for (set, of_set) in self.sets.iter().enumerate() {
            let (count, rows) = (of_set.len(), self.rows(of_set, device)?);
            let ranges = (0..count).step_by(rows).map(|start| start..count.min(start + rows));
            batches.extend(ranges.map(|places| Batch { set, places }));
        }
        Ok(batches)
    }

    /// Pairs of a batch and their size, where others come first: what looks at pairs alone is not loaded by these.
    pub fn later_pairs(&self, batches: &[Batch]) -> Option<(usize, (u32, u32))> {
        let first = batches.iter().find(|batch| self.sets[batch.set].is_paired())?;
        let is_later = batches.first()?.set != first.set;
        let size = self.size(&self.sets[first.set]).ok()?;
        is_later.then_some((first.places.len(), size))
    }

    /// Width and height of a set's pictures as they are looked at.
    fn size(&self, set: &Set) -> Result<(u32, u32)> {
        let square = set.square.as_ref().map(|square| (square.side, square.side));
        let first = set.files.0.first().context("a set of no pictures")?;
        self.nets.sees().or(square).map_or_else(|| images::size(first), Ok)
    }

    /// Pictures or texts of a batch. Where a device has less memory than they need, they are taken in parts.
    fn rows(&self, set: &Set, device: Device) -> Result<usize> {
        if set.files.0.is_empty() {
            return Ok(features::TEXTS);
        }
        Ok(rows(self.most, set.len(), self.size(set)?, device, None))
    }
}
