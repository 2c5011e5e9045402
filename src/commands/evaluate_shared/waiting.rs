//! The pictures of a batch on their way to a device.

use std::path::PathBuf;

use tch::Kind;

use super::networks::Networks;
use super::task::{Batch, Look, Set};
use crate::metrics::image::pictures::{Batches, Decoding, Pair, Square};
use crate::runtime::Runtime;

/// How far they are.
pub enum Waiting {
    /// Only the network knows how it wants them.
    Files(Vec<PathBuf>, Option<Square>),
    Decoding(Decoding),
    LaidOut(Batches),
    /// There are none, or they are used up.
    Nothing,
}

impl Waiting {
    /// Starts to decode them, which needs no device.
    pub fn start(look: &Look, batch: &Batch, for_gpu: bool) -> Self {
        let set = &look.sets[batch.set];
        let (square, places) = (set.square.as_ref(), batch.places.clone());
        if !set.texts.is_empty() {
            return Self::Nothing;
        }
        let files = set.files.0[places.clone()].to_vec();
        if set.is_paired() {
            let content = set.content.0[places].iter().cloned();
            let pair = |(content, stylized)| Pair { content, stylized, id: String::new() };
            let pairs: Vec<Pair> = content.zip(files).map(pair).collect();
            Self::Decoding(Decoding::pairs(&pairs, 1, square, for_gpu))
        } else if look.nets.sees().is_some() {
            Self::Files(files, square.cloned())
        } else {
            Self::Decoding(Decoding::files(files, 1, square, for_gpu))
        }
    }

    /// Starts to decode what only the network knows how.
    pub fn decode(&mut self, networks: &Networks) {
        if let (Self::Files(files, square), Networks::Features(net)) = (&mut *self, networks) {
            *self = Self::Decoding(net.decoding(std::mem::take(files), square.as_ref()));
        }
    }

    /// Where they are laid out, what is taken by the networks.
    pub fn laid_out(self) -> Option<Batches> {
        if let Self::LaidOut(batches) = self { Some(batches) } else { None }
    }

    /// Lays them out for a device, which must be ready, in batches as large as those of the whole set.
    pub fn lay_out(&mut self, (look, set): (&Look, &Set), rt: &Runtime, networks: Option<&Networks>) {
        if let Some(networks) = networks {
            self.decode(networks);
        }
        let kind = match networks {
            Some(Networks::Features(net)) => net.pixel_kind(),
            _ => rt.kind(Kind::Float),
        };
        *self = match std::mem::replace(self, Self::Nothing) {
            Self::Decoding(decoding) => Self::LaidOut(decoding.batches_of(set.len(), look.most, rt.device, kind)),
            other => other,
        };
    }
}
