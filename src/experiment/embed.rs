//! The pass of the networks that only some metrics ask for: over pictures and texts, when everything else is done.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::stage::{Decoded, Pass};
use crate::metrics::image::Embedder;
use crate::metrics::image::networks::Network;
use crate::runtime::during;
use crate::workers::{Ledger, Packed, Parcel, Paths, Stage, from_le_bytes, to_le_bytes};

/// Of its bar.
pub const LABEL: &str = "measuring";

/// Pictures that a network sees at a time.
pub const BATCH: usize = 64;

/// Features, a row a picture; all rows have one width.
#[derive(Debug, PartialEq)]
pub struct Rows(pub Vec<Vec<f32>>);

impl Parcel for Rows {
    fn pack(self) -> Result<Packed> {
        Ok(Packed { blobs: self.0.iter().map(|row| to_le_bytes(row)).collect(), ..Packed::default() })
    }

    fn unpack(packed: Packed) -> Result<Self> {
        Ok(Self(packed.blobs.iter().map(|bytes| from_le_bytes(bytes)).collect()))
    }
}

/// What a network is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Shown {
    Files(Paths),
    /// A part of the plan, and items of it.
    Items(usize, Vec<usize>),
    Texts(Vec<String>),
}

impl Shown {
    fn len(&self) -> usize {
        match self {
            Self::Files(Paths(files)) => files.len(),
            Self::Items(_, items) => items.len(),
            Self::Texts(texts) => texts.len(),
        }
    }
}

/// What a network sees together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EmbedBatch {
    /// Where in the list of the ledger it belongs.
    pub group: usize,
    pub start: usize,
    /// The network by its name.
    pub network: String,
    pub shown: Shown,
}

/// How an experiment gets its networks and decodes what they see.
pub struct Embed<'a> {
    pub open: Box<dyn Fn(Network) -> Result<Box<dyn Embedder>> + 'a>,
    /// Of files and items.
    pub decode: Box<dyn Fn(&Shown) -> Decoded + 'a>,
}

impl Stage for Embed<'_> {
    const LABEL: &'static str = LABEL;
    type Batch = EmbedBatch;
    type Ready = Option<Decoded>;
    type Model = Box<dyn Embedder>;
    type Made = Rows;

    fn model(&self, batch: &EmbedBatch) -> String {
        batch.network.clone()
    }

    fn load(&self, name: &str) -> Result<Box<dyn Embedder>> {
        match Network::named(name) {
            Some(network) => (self.open)(network),
            None => bail!("no network is called {name}"),
        }
    }

    fn prepare(&self, batch: &EmbedBatch) -> Option<Decoded> {
        (!matches!(batch.shown, Shown::Texts(_))).then(|| (self.decode)(&batch.shown))
    }

    fn work(&self, batch: &EmbedBatch, pictures: Option<Decoded>, net: &Box<dyn Embedder>) -> Result<Rows> {
        match (&batch.shown, pictures) {
            (Shown::Texts(texts), _) => net.texts(texts).map(Rows),
            (_, Some(pictures)) => {
                let pictures = during("decoding", || pictures.collect::<Result<Vec<_>>>())?;
                net.pictures(&pictures).map(Rows)
            }
            (_, None) => bail!("a batch was not prepared"),
        }
    }

    fn lost(&self, batch: &EmbedBatch, reason: &str) -> Result<Rows> {
        bail!("{} pictures or texts cannot be measured in {}: {reason}", batch.shown.len(), batch.network)
    }
}

/// The pass, and who takes what comes of it.
pub struct EmbeddingPass<'a, T> {
    pub stage: Embed<'a>,
    /// Those of one network one after the other.
    pub batches: Vec<EmbedBatch>,
    pub taker: T,
}

/// Who keeps features.
pub trait Taker {
    /// The features of a batch, all of them numbers.
    fn take(&mut self, batch: &EmbedBatch, rows: Vec<Vec<f32>>) -> Result<()>;

    /// How an error calls the `at`-th of a batch.
    fn name(&self, batch: &EmbedBatch, at: usize) -> String;
}

impl<'a, T: Taker> Ledger for EmbeddingPass<'a, T> {
    type Stage = Embed<'a>;

    fn stage(&self) -> &Embed<'a> {
        &self.stage
    }

    fn record(&mut self, batch: &EmbedBatch, Rows(rows): Rows) -> Result<usize> {
        if let Some(at) = rows.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
            bail!(
                "{}: its features are not all finite numbers: are the network's weights damaged?",
                self.taker.name(batch, at)
            );
        }
        let count = rows.len();
        self.taker.take(batch, rows)?;
        Ok(count)
    }
}

impl<T: Taker> Pass for EmbeddingPass<'_, T> {
    fn batches(&self) -> Vec<EmbedBatch> {
        self.batches.clone()
    }

    fn is_pending(&self, _batch: &EmbedBatch) -> bool {
        true
    }

    fn extent(&self, pending: &[EmbedBatch]) -> (usize, usize) {
        (pending.iter().map(|batch| batch.shown.len()).sum(), 0)
    }
}
